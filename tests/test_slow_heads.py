"""A socket without a complete request head is closed; over both HTTP protocols of uvicorn, on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from signalr_upstream.slow_heads import HEAD_TIMEOUT, SlowHeads

pytestmark = pytest.mark.anyio

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Site:
    """A served app that answers when it is told to."""

    def __init__(self, server: uvicorn.Server) -> None:
        self.server = server
        self.may_answer = asyncio.Event()
        self.called = asyncio.Event()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = self.server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        return reader, writer

    def sweep(self, heads: SlowHeads, *, now: float) -> None:
        heads.close_slow(self.server.server_state.connections, now=now)


@asynccontextmanager
async def site(http: str) -> AsyncIterator[Site]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        served.called.set()
        await served.may_answer.wait()
        await PlainTextResponse("ok")(scope, receive, send)

    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=http, lifespan="off", log_config=None, interface="asgi3")
    )
    served = Site(server)
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield served
    finally:
        await server.shutdown()


async def until(condition: Callable[[], object]) -> None:
    """Let the server's side of the loop run until ``condition()``."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - it is uvicorn's state, without an event
            await asyncio.sleep(0)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection; a reset is one, where the server had not read all."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("beginning", [b"", b"GET / HTTP/1.1\r\nhost:"])
async def test_a_socket_that_sends_no_complete_head_is_closed(http: str, beginning: bytes) -> None:
    async with site(http) as served:
        reader, writer = await served.connect()
        writer.write(beginning)
        await until(lambda: served.server.server_state.connections)
        heads = SlowHeads()
        served.sweep(heads, now=100.0)
        served.sweep(heads, now=100.0 + HEAD_TIMEOUT - 0.1)
        assert not reader.at_eof()

        served.sweep(heads, now=100.0 + HEAD_TIMEOUT)

        assert await is_closed(reader)
        writer.close()


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_running_requests_and_idle_connections_are_left_alone(http: str) -> None:
    async with site(http) as served:
        reader, writer = await served.connect()
        heads = SlowHeads()
        writer.write(REQUEST)
        await served.called.wait()
        for now in (0.0, HEAD_TIMEOUT * 2):
            served.sweep(heads, now=now)
        served.may_answer.set()
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")

        # Idle: uvicorn's keep-alive timer runs.
        for now in (HEAD_TIMEOUT * 3, HEAD_TIMEOUT * 5):
            served.sweep(heads, now=now)

        writer.write(REQUEST)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_the_time_starts_anew_with_every_head(http: str) -> None:
    async with site(http) as served:
        served.may_answer.set()
        reader, writer = await served.connect()
        await until(lambda: served.server.server_state.connections)
        heads = SlowHeads()
        served.sweep(heads, now=0.0)
        writer.write(REQUEST)
        await reader.readuntil(b"ok")
        (connection,) = served.server.server_state.connections
        writer.write(b"GET ")
        await until(lambda: connection.timeout_keep_alive_task is None)  # type: ignore[union-attr]

        served.sweep(heads, now=HEAD_TIMEOUT)  # the second head is first seen here
        served.sweep(heads, now=HEAD_TIMEOUT * 2 - 0.1)
        assert not reader.at_eof()
        served.sweep(heads, now=HEAD_TIMEOUT * 2)

        assert await is_closed(reader)
        writer.close()


def test_what_is_no_http_connection_is_left_alone() -> None:
    websocket = object()
    heads = SlowHeads()

    for now in (0.0, HEAD_TIMEOUT * 2):
        heads.close_slow([websocket], now=now)
