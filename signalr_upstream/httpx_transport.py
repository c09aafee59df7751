"""The transport over httpx: through the user's client, or through one of its own for each running loop.

A module of its own, imported when a client is made: httpx takes longer to import than all the rest of this package.
"""

import asyncio
import weakref
from collections.abc import AsyncGenerator, Sequence
from typing import Final

import anyio
import httpx
from msgspec import Struct

from .errors import ConnectError, DeliveryUnknown
from .transport import MAX_ANSWER, Answer

MAX_CONNECTIONS: Final = 100
"""Connections to the service for each event loop; more calls than that wait for one to come free."""

IDLE_EXPIRY: Final = 15.0
"""Seconds an unused connection is kept: shorter than any proxy's patience, so that it is not found dead."""

CONNECT_SHARE: Final = 0.5
"""Part of a call's time-out that making a connection may use up; less than all of it, so that a service that
cannot be reached is told from one that does not answer."""


class HttpxTransport:
    """Speaks through httpx: through the user's client, or through one of its own for each running loop.

    Args:
        client: an ``httpx.AsyncClient``, with whatever proxy, certificates or mock transport it has. It stays
            the caller's to close. Its ``auth`` is not used, and redirects are not followed: the service sends
            none, and following one would give the token away or drop the body.
    """

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._given = client
        self._own: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopClient] = (
            weakref.WeakKeyDictionary()
        )

    async def request(
        self,
        method: str,
        url: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        timeout: float,  # noqa: ASYNC109 - a transport without anyio can keep it too
    ) -> Answer:
        """See ``Transport.request``."""
        client = self._given if self._given is not None else await self._client_of_loop()
        waits = httpx.Timeout(timeout, connect=timeout * CONNECT_SHARE, pool=timeout * CONNECT_SHARE)
        request = client.build_request(
            method, url, headers=[*headers, ("Accept-Encoding", "identity")], content=body, timeout=waits
        )
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

    async def aclose(self) -> None:
        """Close the client of the running loop. Those of other loops close when their loops shut down."""
        own = self._own.pop(asyncio.get_running_loop(), None)
        if own is not None:
            await own.guard.aclose()

    async def _client_of_loop(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        own = self._own.get(loop)
        if own is None:
            for other in [other for other in self._own if other.is_closed()]:
                del self._own[other]
            client = httpx.AsyncClient(
                limits=httpx.Limits(
                    max_connections=MAX_CONNECTIONS,
                    max_keepalive_connections=MAX_CONNECTIONS,
                    keepalive_expiry=IDLE_EXPIRY,
                )
            )
            own = self._own[loop] = _LoopClient(client, _close_with_loop(client))
            await anext(own.guard)
        return own.client


class _LoopClient(Struct, frozen=True):
    client: httpx.AsyncClient
    guard: AsyncGenerator[None, None]


async def _close_with_loop(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Wait for the end of the loop: ``asyncio.run`` shuts its async generators down, and so this client."""
    try:
        yield
    finally:
        await client.aclose()


async def _read(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    body = bytearray()
    # A compressed answer may inflate a thousandfold: its status is enough.
    if headers.get("content-encoding", "identity") == "identity":
        async for part in response.aiter_bytes():
            body += part
            if len(body) >= MAX_ANSWER:
                break
    return Answer(response.status_code, headers, bytes(body[:MAX_ANSWER]))


def _reason(exc: Exception) -> str:
    return type(exc).__name__ if not str(exc) else f"{type(exc).__name__}: {ascii(str(exc)[:200])[1:-1]}"
