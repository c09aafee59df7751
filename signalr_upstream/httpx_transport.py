"""The transport over httpx: through the user's client, or through one of its own for each running loop.

A module of its own, imported when it is needed: httpx takes longer to import than all the rest of this package.
"""

from collections.abc import Sequence

import anyio
import httpx

from .connection_pool import CONNECT_SHARE, IDLE_EXPIRY, MAX_CONNECTIONS
from .errors import ConnectError, DeliveryUnknown
from .loop_bound import LoopBound
from .transport import MAX_ANSWER, Answer


class HttpxTransport:
    """Speaks through httpx: through the user's client, or through one of its own for each running loop.

    Args:
        client: an ``httpx.AsyncClient``, with whatever proxy, certificates or mock transport it has. It stays
            the caller's to close. Its ``auth`` is not used, and redirects are not followed: the service sends
            none, and following one would give the token away or drop the body.
    """

    def __init__(self, client: httpx.AsyncClient | None = None) -> None:
        self._given = client
        self._own = LoopBound(_make_client)

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
        client = self._given if self._given is not None else (await self._own.get()).client
        waits = httpx.Timeout(timeout, connect=timeout * CONNECT_SHARE, pool=timeout * CONNECT_SHARE)
        request = client.build_request(
            method,
            base + target,
            headers=[*headers, ("Accept-Encoding", "identity")],
            content=body,
            timeout=waits,
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
        await self._own.aclose()


class _OwnClient:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def aclose(self) -> None:
        await self.client.aclose()


def _make_client() -> _OwnClient:
    limits = httpx.Limits(
        max_connections=MAX_CONNECTIONS,
        max_keepalive_connections=MAX_CONNECTIONS,
        keepalive_expiry=IDLE_EXPIRY,
    )
    return _OwnClient(httpx.AsyncClient(limits=limits))


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
