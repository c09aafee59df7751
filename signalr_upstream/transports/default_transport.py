"""Which transport carries a request: the direct one, or httpx where a proxy applies to the host."""

import logging
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..telemetry import PoolUse
from .direct_transport import DirectTransport
from .transport import Answer, Transport

if TYPE_CHECKING:
    import httpx

_log = logging.getLogger("signalr_upstream.client")


class DefaultTransport:
    """Direct, except to hosts for which the environment names a proxy (``HTTPS_PROXY`` and its relatives)."""

    def __init__(self) -> None:
        self._direct = DirectTransport()
        self._proxied: Transport | None = None
        self._choices: dict[str, Transport] = {}  # by base

    def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Awaitable[Answer]:
        """See ``Transport.request``."""
        chosen = self._choices.get(base) or self._choose(base)
        return chosen.request(method, base, target, headers, body, timeout=timeout)

    def pool_use(self) -> PoolUse:
        """The direct connections, and who waits for one; httpx does not tell."""
        return self._direct.pool_use()

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._direct.aclose()
        if self._proxied is not None:
            await self._proxied.aclose()

    def _choose(self, base: str) -> Transport:
        chosen: Transport = self._direct
        if _has_proxy(base):
            if self._proxied is None:
                from .httpx_transport import HttpxTransport  # noqa: PLC0415 - see there

                self._proxied = HttpxTransport()
            chosen = self._proxied
            _log.info(
                "the environment names a proxy for %s: it is called over httpx", urlsplit(base).hostname
            )
        self._choices[base] = chosen
        return chosen


def transport_over(client: "httpx.AsyncClient | None") -> Transport:
    """The transport that uses an httpx client, or where there is none, the default one."""
    if client is None:
        return DefaultTransport()
    from .httpx_transport import HttpxTransport  # noqa: PLC0415 - see there

    return HttpxTransport(client)


def _has_proxy(base: str) -> bool:
    url = urlsplit(base)
    proxies = getproxies()
    return bool(proxies.get(url.scheme) or proxies.get("all")) and not proxy_bypass(url.netloc)
