"""Answers are written whole, at the end of a round of the event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from signalr_upstream.cli.gathered import MAX_GATHERED, GatheredTransport, gathering_protocol
from signalr_upstream.transports.rounds import Round

pytestmark = pytest.mark.anyio


class Recorded(asyncio.Transport):
    """Remembers what was done to it, in order."""

    def __init__(self, done: list[object]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.done = done

    def write(self, data: bytes) -> None:  # type: ignore[override]  # our writer gives bytes
        self.done.append(data)

    def close(self) -> None:
        self.done.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.done


def gathered(done: list[object], round_: Round | None = None) -> GatheredTransport:
    return GatheredTransport(Recorded(done), round_ or Round())


async def test_head_and_body_are_one_write_when_the_round_is_over() -> None:
    done: list[object] = []
    transport = gathered(done)
    transport.write(b"head ")
    transport.write(b"body")
    assert not done
    await asyncio.sleep(0)
    assert done == [b"head body"]
    transport.write(b"next")
    await asyncio.sleep(0)
    assert done == [b"head body", b"next"]


async def test_all_connections_of_a_round_are_written_to_one_after_the_other() -> None:
    done: list[object] = []
    round_ = Round()
    first, second = gathered(done, round_), gathered(done, round_)
    first.write(b"1")
    second.write(b"2")
    first.write(b"1")
    await asyncio.sleep(0)
    assert done == [b"11", b"2"]


async def test_what_is_large_does_not_wait() -> None:
    done: list[object] = []
    transport = gathered(done)
    transport.write(b"head")
    transport.write(bytes(MAX_GATHERED))
    assert done == [b"head" + bytes(MAX_GATHERED)]
    await asyncio.sleep(0)
    assert len(done) == 1


async def test_what_waits_is_written_before_the_end() -> None:
    done: list[object] = []
    transport = gathered(done)
    transport.write(b"last words")
    transport.close()
    await asyncio.sleep(0)
    assert done == [b"last words", "closed"]


async def test_what_waits_is_dropped_where_the_peer_has_gone() -> None:
    done: list[object] = ["closed"]
    transport = gathered(done)
    transport.write(b"to nobody")
    await asyncio.sleep(0)
    assert done == ["closed"]


async def test_what_waits_is_what_was_written_and_not_what_became_of_it() -> None:
    done: list[object] = []
    transport = gathered(done)
    buffer = bytearray(b"first ")
    for part in (b"first ", b"second"):
        buffer[:] = part
        transport.write(buffer)
    await asyncio.sleep(0)
    assert done == [b"first second"]


async def test_who_writes_what_is_no_bytes_is_told_and_does_no_harm_to_others() -> None:
    done: list[object] = []
    round_ = Round()
    wrong, other = gathered(done, round_), gathered(done, round_)
    with pytest.raises(TypeError):
        wrong.write("text")  # type: ignore[arg-type]  # an app may send anything
    other.write(b"answer")
    await asyncio.sleep(0)
    assert done == [b"answer"]


async def test_it_is_the_socket_s_transport_in_all_else() -> None:
    assert gathered([]).get_extra_info("peername") == ("127.0.0.1", 1)


@asynccontextmanager
async def served(*routes: BaseRoute) -> AsyncIterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes), port=0, http=gathering_protocol(), lifespan="off", log_config=None
        )
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        await server.shutdown()


async def test_who_says_with_the_request_that_no_other_follows_is_answered() -> None:
    async def ok(request: Request) -> Response:
        return PlainTextResponse("ok")

    async with served(Route("/", ok)) as port:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        client.shutdown(socket.SHUT_WR)  # before the server has looked at it
        reader, writer = await asyncio.open_connection(sock=client)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_websocket_is_left_alone() -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    async with (
        served(WebSocketRoute("/", echo)) as port,
        connect(f"ws://127.0.0.1:{port}/") as client,
    ):
        await client.send("hello")
        assert await client.recv() == "hello"
