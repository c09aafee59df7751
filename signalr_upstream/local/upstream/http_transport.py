"""HTTP to an app elsewhere: httpx's transport without what a client would add, and with care for idle connections."""

import time
from collections.abc import AsyncIterator, Callable

import httpx

KEEP_ALIVE = 1.0
"""Seconds without any request after which no connection is used again: less than any server keeps one, since a POST
that meets its end is not sent again."""


class HttpTransport(httpx.AsyncBaseTransport):
    """HTTP to an app elsewhere: bare, as a client would log URLs, send the signature after redirects, and use proxies.

    It is set up with the first request: certificates are read then, which takes longer than many a test. Connections
    are left behind all together, when no request runs: httpcore's own expiry may close one that it has just given to a
    request, which then fails; in a soak run one call in some thousands did.
    """

    def __init__(self) -> None:
        self._inner: httpx.AsyncHTTPTransport | None = None
        self._running = 0
        self._idle_since = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._running and time.monotonic() - self._idle_since > KEEP_ALIVE:
            await self.aclose()
        if self._inner is None:
            self._inner = httpx.AsyncHTTPTransport(
                trust_env=False, limits=httpx.Limits(keepalive_expiry=None)
            )
        self._running += 1
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            self._end()
            raise
        response.stream = _Answer(response.stream, self._end)
        return response

    def _end(self) -> None:
        self._running -= 1
        self._idle_since = time.monotonic()

    async def aclose(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.aclose()


class _Answer(httpx.AsyncByteStream):
    """An answer that says when it was closed, which httpx has done once."""

    def __init__(self, inner: object, closed: Callable[[], None]) -> None:
        assert isinstance(inner, httpx.AsyncByteStream)  # noqa: S101 - all that an asynchronous transport gives
        self._inner = inner
        self._closed = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            yield chunk

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._closed()
