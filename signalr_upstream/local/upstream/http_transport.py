"""HTTP to an app elsewhere: the bytes of a request, over connections that are used again.

A client of httpx would log URLs, send the signature after redirects, and use proxies; its pool looks at every waiting
request for each one that ends, and closes connections that it has just given away.
"""

import asyncio
import math
import ssl

import httpx

from ...errors import ConnectError, DeliveryUnknown
from ...protocol.upstream import MAX_ANSWER
from ...transports.connection_pool import ConnectionPool, Origin
from ...transports.direct_transport import default_context

MAX_CONNECTIONS = 1_000
"""To one origin; more calls at a time than that wait. Servers let some 2,000 wait to be accepted, and who comes on top
of them is not answered for a second or more."""

KEEP_ALIVE = 1.0
"""Seconds since its last request after which a connection is not used again: less than any server keeps one, since a
POST that meets its end is not sent again."""

_Address = tuple[str, str, int]


class HttpTransport(httpx.AsyncBaseTransport):
    """Connections to every app; a call waits for as long as its caller does.

    Of an answer's body it reads one byte more than is taken, which is enough to be told so.
    """

    def __init__(self) -> None:
        self._pools: dict[_Address, ConnectionPool] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer.

        Raises:
            httpx.ConnectError: nothing was sent.
            httpx.ReadError: something was sent, and no answer came.
        """
        url = request.url
        start = b"%b %b HTTP/1.1" % (request.method.encode(), url.raw_path)
        lines = [b"%b: %b" % header for header in request.headers.raw]
        data = b"\r\n".join([start, *lines, b"", request.content])
        try:
            answer = await self._pool(url).request(data, is_head=False, timeout=math.inf)
        except ConnectError as error:
            raise httpx.ConnectError(str(error)) from error
        except DeliveryUnknown as error:
            raise httpx.ReadError(str(error)) from error
        return httpx.Response(
            answer.status, headers=list(answer.raw_headers), stream=httpx.ByteStream(answer.body)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

    def _pool(self, url: httpx.URL) -> ConnectionPool:
        port = url.port or (443 if url.scheme == "https" else 80)
        address = (url.scheme, url.raw_host.decode(), port)
        pool = self._pools.get(address)
        if pool is None:
            # A hub's name, which clients choose, may be part of the host.
            self._pools = {known: pool for known, pool in self._pools.items() if pool.in_use}
            pool = self._pools[address] = ConnectionPool(
                Origin(url.netloc.decode(), address[1], port, _tls if url.scheme == "https" else None),
                max_connections=MAX_CONNECTIONS,
                idle_expiry=KEEP_ALIVE,
                max_answer=MAX_ANSWER + 1,
                takes_encoded=True,
            )
        return pool


async def _tls() -> ssl.SSLContext:
    return await asyncio.to_thread(default_context)
