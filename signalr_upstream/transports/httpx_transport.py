"""The transport over httpx: through the user's client, or through one of its own for each running loop.

A module of its own, imported when it is needed: httpx takes longer to import than all the rest of this package.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import anyio
import httpx

from ..errors import ConnectError, DeliveryUnknown
from .connection_pool import CONNECT_SHARE, IDLE_EXPIRY, MAX_CONNECTIONS
from .loop_bound import LoopBound
from .transport import MAX_ANSWER, Answer

MAX_AT_ONCE: Final = MAX_CONNECTIONS
"""Requests that httpx is given at a time, in each loop. Whenever one begins or ends, its pool looks at every connection
for every request that has none: with 1,000 at once on 100 connections it does little else, and all of them time out."""
MAX_IDLE: Final = 20
"""Connections that httpx keeps while nobody uses them, in a client of ours: its own default. It looks at every one
for every idle one, too; with 100 of them, that takes longer than to open new ones, TLS included."""


class HttpxTransport:
    """Speaks through httpx: through the user's client, or through one of its own for each running loop.

    Args:
        client: an ``httpx.AsyncClient``, with whatever proxy, certificates or mock transport it has. It stays
            the caller's to close. Its ``auth`` is not used, and redirects are not followed: the service sends
            none, and following one would give the token away or drop the body.
    """

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._clients = LoopBound(_own_client if client is None else lambda: _Client(client))

    async def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Answer:
        """See ``Transport.request``."""
        client = await self._clients.get()
        begun = asyncio.get_running_loop().time()
        try:
            with anyio.fail_after(timeout * CONNECT_SHARE):
                await client.free.acquire()
        except TimeoutError:
            raise ConnectError(
                f"no connection to {httpx.URL(base).host}: {MAX_AT_ONCE} requests are under way, and none ended in time"
            ) from None
        try:
            left = timeout - (asyncio.get_running_loop().time() - begun)
            request = client.http.build_request(
                method,
                base + target,
                headers=[*headers, ("Accept-Encoding", "identity")],
                content=body,
                timeout=httpx.Timeout(left, connect=left * CONNECT_SHARE, pool=left * CONNECT_SHARE),
            )
            return await _send(client.http, request, timeout=left)
        finally:
            client.free.release()

    async def aclose(self) -> None:
        """Close the client of the running loop. Those of other loops close when their loops shut down."""
        await self._clients.aclose()


class _Client:
    """A client of httpx in one loop.

    Attributes:
        free: how many more requests it is given.
    """

    def __init__(self, http: httpx.AsyncClient, *, is_own: bool = False) -> None:
        self.http = http
        self.free = asyncio.Semaphore(MAX_AT_ONCE)
        self._is_own = is_own

    async def aclose(self) -> None:
        if self._is_own:
            await self.http.aclose()


def _own_client() -> _Client:
    limits = httpx.Limits(
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=MAX_IDLE,
        keepalive_expiry=IDLE_EXPIRY,
    )
    return _Client(httpx.AsyncClient(limits=limits), is_own=True)


async def _send(client: httpx.AsyncClient, request: httpx.Request, *, timeout: float) -> Answer:
    try:
        with anyio.fail_after(timeout):
            response = await client.send(request, stream=True, auth=None, follow_redirects=False)
            try:
                answer = await _read(response)
            finally:
                await response.aclose()
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as exc:
        raise ConnectError(f"no connection to {request.url.host}: {_reason(exc)}") from exc
    except (httpx.HTTPError, TimeoutError) as exc:
        raise DeliveryUnknown(f"no answer from {request.url.host}: {_reason(exc)}") from exc
    return answer


async def _read(response: httpx.Response) -> Answer:
    headers = [(name.lower(), value) for name, value in response.headers.raw]
    body = bytearray()
    # A compressed answer may inflate a thousandfold: its status is enough.
    if response.headers.get("content-encoding", "identity") == "identity":
        async for part in response.aiter_bytes():
            body += part
            if len(body) >= MAX_ANSWER:
                break
    return Answer(response.status_code, headers, bytes(body[:MAX_ANSWER]))


def _reason(exc: Exception) -> str:
    return type(exc).__name__ if not str(exc) else f"{type(exc).__name__}: {ascii(str(exc)[:200])[1:-1]}"
