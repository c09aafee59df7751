"""Connections to an app over HTTP: used again while there is something to do, and not when they may have ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from signalr_upstream.local.upstream import http_transport
from signalr_upstream.local.upstream.http_transport import HttpTransport

pytestmark = pytest.mark.anyio

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Site:
    """A server that counts its connections, and answers when it is let."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self.gate.wait()
                writer.write(ANSWER)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    served = Site()
    async with await asyncio.start_server(served.serve, "127.0.0.1", 0) as server:
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield served


async def ask(transport: HttpTransport, url: str) -> bytes:
    response = await transport.handle_async_request(httpx.Request("GET", url))
    body = await response.aread()
    await response.aclose()
    return body


async def test_connections_are_used_again() -> None:
    async with site() as served, HttpTransport() as transport:
        assert [await ask(transport, served.url) for _ in range(3)] == [b"ok"] * 3

    assert served.connections == 1


async def test_what_may_have_ended_meanwhile_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "KEEP_ALIVE", -1.0)
    async with site() as served, HttpTransport() as transport:
        for _ in range(3):
            await ask(transport, served.url)

    assert served.connections == 3


async def test_a_request_that_runs_is_not_disturbed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "KEEP_ALIVE", -1.0)
    async with site() as served, HttpTransport() as transport:
        served.gate.clear()
        requests = [asyncio.create_task(ask(transport, served.url)) for _ in range(3)]
        while served.connections < 3:  # noqa: ASYNC110 - the server's side tells nobody
            await asyncio.sleep(0)
        served.gate.set()

        assert await asyncio.gather(*requests) == [b"ok"] * 3


async def test_a_request_that_failed_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_transport, "KEEP_ALIVE", -1.0)
    async with site() as served, HttpTransport() as transport:
        with pytest.raises(httpx.ConnectError):
            await ask(transport, "http://127.0.0.1:1/")
        for _ in range(2):
            await ask(transport, served.url)

    assert served.connections == 2
