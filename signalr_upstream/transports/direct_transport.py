"""The transport that speaks HTTP/1.1 itself: small requests to a handful of hosts, many at a time.

It sends no request twice, follows no redirect, asks for no compression and uses no proxy. Where one of these is
wanted there is ``httpx_transport``; ``default_transport`` chooses.
"""

import asyncio
import functools
import ssl
from collections.abc import Awaitable, Sequence
from typing import Final
from urllib.parse import urlsplit

from ..telemetry import PoolUse
from .connection_pool import ConnectionPool, Origin
from .loop_bound import LoopBound
from .transport import Answer

MAX_HEADS: Final = 1024
"""Heads of requests that are remembered, half a KiB each, with Entra ID's tokens some 3: most requests differ from
others in their bodies only."""

MAX_REMEMBERED: Final = 1024
"""Characters of a target whose head is remembered: clients may choose the names in it, and how long they are."""

_WITH_LENGTH: Final = ("POST", "PUT")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class DirectTransport:
    """Connections of its own for each running loop, which end with the loop.

    Args:
        tls: what ``https`` is checked with; default: what httpx takes (certifi, ``SSL_CERT_FILE``).
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._pools = LoopBound(lambda: _Pools(tls))

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
        pools = self._pools.present()
        if pools is None:
            return self._first_request(method, base, target, headers, body, timeout=timeout)
        pool, start, fixed = pools.of(base)
        head = (_remembered if len(target) <= MAX_REMEMBERED else _head)(
            method, start, target, fixed, tuple(headers)
        )
        length = b"Content-Length: %d\r\n\r\n" % len(body) if body or method in _WITH_LENGTH else b"\r\n"
        return pool.request(b"%b%b%b" % (head, length, body), is_head=method == "HEAD", timeout=timeout)

    async def _first_request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        timeout: float,
    ) -> Answer:
        await self._pools.get()
        return await self.request(method, base, target, headers, body, timeout=timeout)

    def pool_use(self) -> PoolUse:
        """What all loops together have."""
        return PoolUse.sum(pools.use() for pools in self._pools.all())

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._pools.aclose()


class _Pools:
    """The pools of one loop, by base URL, and what every request to a base has in common."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._tls = tls
        self._made: dict[str, tuple[ConnectionPool, str, str]] = {}

    def of(self, base: str) -> tuple[ConnectionPool, str, str]:
        """The pool, the start of the path, and what stands between path and headers."""
        made = self._made.get(base)
        if made is None:
            made = self._made[base] = self._make(base)
        return made

    def _make(self, base: str) -> tuple[ConnectionPool, str, str]:
        url = urlsplit(base)
        host, default = url.hostname or "", _DEFAULT_PORTS[url.scheme]
        port = url.port or default
        shown = f"[{host}]" if ":" in host else host
        name = shown if port == default else f"{shown}:{port}"
        tls = self._context if url.scheme == "https" else None
        pool = ConnectionPool(Origin(name, host, port, tls))
        fixed = f" HTTP/1.1\r\nHost: {name}\r\nUser-Agent: signalr-upstream\r\nAccept-Encoding: identity\r\n"
        return pool, url.path.rstrip("/"), fixed

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = await asyncio.to_thread(default_context)
        return self._tls

    def use(self) -> PoolUse:
        """Of every pool."""
        return PoolUse.sum(pool.use() for pool, _, _ in self._made.values())

    async def aclose(self) -> None:
        """Close every connection."""
        for pool, _, _ in self._made.values():
            await pool.aclose()


def _head(method: str, start: str, target: str, fixed: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("a header holds a line break")
    return f"{method} {start}{target}{fixed}{lines}".encode("latin-1")


_remembered = functools.lru_cache(MAX_HEADS)(_head)


@functools.cache
def default_context() -> ssl.SSLContext:
    """What ``https`` is checked with if nothing else is said."""
    import httpx  # noqa: PLC0415 - takes longer to import than all the rest, and plain http needs none of it

    return httpx.create_ssl_context()
