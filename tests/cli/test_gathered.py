"""Answers are written whole, at the end of a round of the event loop."""

import asyncio

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from signalr_upstream.cli.gathered import MAX_GATHERED, GatheredTransport, gathering_protocol
from signalr_upstream.rounds import Round

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


async def test_it_is_the_socket_s_transport_in_all_else() -> None:
    assert gathered([]).get_extra_info("peername") == ("127.0.0.1", 1)


async def test_a_websocket_is_left_alone() -> None:
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    app = Starlette(routes=[WebSocketRoute("/", echo)])
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, http=gathering_protocol(), lifespan="off", log_config=None)
    )
    server.config.load()
    server.lifespan = server.config.lifespan_class(server.config)
    await server.startup()
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}/") as client:
            await client.send("hello")
            assert await client.recv() == "hello"
    finally:
        await server.shutdown()
