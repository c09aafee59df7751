"""The WebSocket transport against an ASGI server whose socket can be blocked."""

import asyncio
from typing import Any

import pytest

from signalr_upstream.local.clients.client_connection import ClientConnection
from signalr_upstream.local.clients.session import Session
from signalr_upstream.local.clients.states import State
from signalr_upstream.local.clients.websocket import WebSocketTransport
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.connections import Hub
from signalr_upstream.local.upstream.delivery import Caller, Upstream

from .session_driver import JSON_HANDSHAKE

pytestmark = pytest.mark.anyio


class Socket:
    """A server end: what was written, a gate in front of it, and an error it may raise."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def send(self, message: Any) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    async def settle(self) -> None:
        """Let tasks that can run do so."""
        for _ in range(20):
            await asyncio.sleep(0)


async def test_a_socket_that_takes_it_is_written_to_at_once() -> None:
    socket = Socket()
    transport = WebSocketTransport(socket.send)

    transport.send(b'{"a":1}\x1e', binary=False)
    transport.send(b"\x02\x91\x06", binary=True)
    transport.hang_up()
    transport.send(b"late", binary=True)
    transport.hang_up()

    assert socket.sent == [
        {"type": "websocket.send", "text": '{"a":1}\x1e'},
        {"type": "websocket.send", "bytes": b"\x02\x91\x06"},
        {"type": "websocket.close", "code": 1000},
    ]


class Wire:
    """What is below a WebSocket of our own server: frames that were written, and how it stands."""

    def __init__(self, *, unsent: int = 0, closing: bool = False) -> None:
        self.frames: list[bytes] = []
        self.unsent = unsent
        self._closing = closing

    def write(self, data: bytes) -> None:
        self.frames.append(data)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return self.unsent


def on(wire: Wire, socket: Socket) -> WebSocketTransport:
    return WebSocketTransport(socket.send, socket=wire)  # type: ignore[arg-type]  # it is a transport where it matters


@pytest.mark.parametrize(
    ("data", "binary", "frame"),
    [
        # RFC 6455, section 5.7
        (b"Hello", False, b"\x81\x05Hello"),
        (b"x" * 256, True, b"\x82\x7e\x01\x00" + b"x" * 256),
        (b"x" * 65536, True, b"\x82\x7f\0\0\0\0\0\x01\0\0" + b"x" * 65536),
        # NOTES, upstream request: Microsoft replaces invalid UTF-8 by U+FFFD
        (b"\xff", False, b"\x81\x03\xef\xbf\xbd"),
        (b"\xff", True, b"\x82\x01\xff"),
    ],
)
async def test_a_free_socket_of_our_own_server_gets_frames(data: bytes, binary: bool, frame: bytes) -> None:
    wire, socket = Wire(), Socket()

    on(wire, socket).send(data, binary=binary)

    assert wire.frames == [frame]
    assert socket.sent == []


async def test_what_many_clients_get_is_framed_once() -> None:
    wires = [Wire(), Wire(), Wire()]
    message = b'{"type":6}\x1e'

    for wire in wires:
        on(wire, Socket()).send(message, binary=False)

    assert wires[0].frames == [b"\x81\x0b" + message]
    assert len({id(wire.frames[0]) for wire in wires}) == 1


@pytest.mark.parametrize("wire", [Wire(unsent=1), Wire(closing=True)])
async def test_a_socket_that_is_not_free_is_written_to_by_the_server(wire: Wire) -> None:
    socket = Socket()

    on(wire, socket).send(b"1", binary=True)

    assert wire.frames == []
    assert socket.sent == [{"type": "websocket.send", "bytes": b"1"}]


async def test_frames_do_not_overtake_what_waits() -> None:
    wire, socket = Wire(unsent=1), Socket()
    transport = on(wire, socket)
    socket.gate.clear()
    transport.send(b"1", binary=True)
    wire.unsent = 0

    transport.send(b"2", binary=True)
    socket.gate.set()
    await socket.settle()
    transport.send(b"3", binary=True)
    transport.hang_up()
    transport.send(b"late", binary=True)

    assert [message.get("bytes") for message in socket.sent] == [b"1", b"2", None]
    assert wire.frames == [b"\x82\x013"]


async def test_bytes_that_are_no_utf8_do_not_stop_a_text_message() -> None:
    # NOTES, upstream request: Microsoft replaces invalid UTF-8 by U+FFFD
    socket = Socket()

    WebSocketTransport(socket.send).send(b'"\xff"\x1e', binary=False)

    assert socket.sent[0]["text"] == '"�"\x1e'


class Below(asyncio.Transport):
    """The connection below a WebSocket: what was written, and how much of it the network has not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.unsent = 0
        self.closing = False

    def write(self, data: Any) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closing


async def test_messages_go_straight_to_the_connection_below_as_frames() -> None:
    # RFC 6455, section 5.7: a single-frame unmasked text message has 0x81, a binary one 0x82
    below, socket = Below(), Socket()
    transport = WebSocketTransport(socket.send, socket=below)

    transport.send(b"Hello", binary=False)
    transport.send(b"Hello", binary=True)
    transport.send(b'"\xff"', binary=False)

    assert below.written == [b"\x81\x05Hello", b"\x82\x05Hello", b'\x81\x05"\xef\xbf\xbd"']
    assert socket.sent == []


async def test_a_broadcast_is_framed_once() -> None:
    everybody = [Below(), Below()]
    message = b"a broadcast"

    for below in everybody:
        WebSocketTransport(Socket().send, socket=below).send(message, binary=False)

    assert everybody[0].written == [b"\x81\x0ba broadcast"]
    assert everybody[0].written[0] is everybody[1].written[0]


async def test_a_connection_that_is_full_or_closing_is_written_to_by_the_server() -> None:
    below, socket = Below(), Socket()
    transport = WebSocketTransport(socket.send, socket=below)

    below.unsent = 1
    transport.send(b"1", binary=True)
    below.unsent, below.closing = 0, True
    transport.send(b"2", binary=True)
    below.closing = False
    socket.gate.clear()
    below.unsent = 1
    transport.send(b"3", binary=True)
    below.unsent = 0
    transport.send(b"4", binary=True)  # behind the one that waits
    socket.gate.set()
    await socket.settle()
    transport.hang_up()
    transport.send(b"5", binary=True)

    assert below.written == []
    assert [message.get("bytes") for message in socket.sent] == [b"1", b"2", b"3", b"4", None]


async def test_what_a_blocked_socket_does_not_take_waits_in_order() -> None:
    socket = Socket()
    transport = WebSocketTransport(socket.send)
    reading, connection = await serving(transport)
    socket.sent.clear()
    socket.gate.clear()

    for number in range(5):
        transport.send(bytes([number]), binary=True)
    connection.close()
    await socket.settle()
    assert socket.sent == []
    socket.gate.set()
    await socket.settle()
    reading.cancel()

    assert [message.get("bytes") for message in socket.sent[:5]] == [b"\0", b"\1", b"\2", b"\3", b"\4"]
    assert [message["type"] for message in socket.sent[5:]] == ["websocket.send", "websocket.close"]


async def test_a_socket_that_was_blocked_is_written_to_directly_again() -> None:
    socket = Socket()
    transport = WebSocketTransport(socket.send, max_unsent=10)
    for _ in range(3):
        socket.gate.clear()
        transport.send(b"12345", binary=True)
        transport.send(b"1234567890", binary=True)
        socket.gate.set()
        await socket.settle()

    transport.send(b"now", binary=True)

    assert socket.sent[-1]["bytes"] == b"now"
    assert len(socket.sent) == 7


async def serving(
    transport: WebSocketTransport,
    *messages: Any,
    stateful: bool = False,
) -> tuple[asyncio.Task[None], ClientConnection]:
    """The transport of a client whose handshake is over, and the task that reads it: ``messages``, then nothing."""
    clock = ManualClock()
    connection = ClientConnection(
        caller=Caller("c1", "chat", None, (), "?hub=chat"),
        session=Session(now=clock.time(), stateful=stateful),
        transport=transport,
        hub=Hub(),
        upstream=Upstream(keys=["k" * 44]),
        clock=clock,
    )
    connection.receive(b'{"protocol":"json","version":2}\x1e' if stateful else JSON_HANDSHAKE)
    await connection.finished()
    inbox: asyncio.Queue[Any] = asyncio.Queue()
    for message in messages:
        inbox.put_nowait(message)
    reading = asyncio.create_task(transport.serve(inbox.get, connection))
    await asyncio.sleep(0)
    return reading, connection


@pytest.mark.parametrize(
    ("end", "state"),
    [
        ({"type": "websocket.disconnect", "code": 1005}, State.IDLE),
        ({"type": "websocket.disconnect", "code": 1005, "reason": ""}, State.CLOSED),
        ({"type": "websocket.disconnect", "code": 1001, "reason": "going"}, State.CLOSED),
    ],
)
async def test_a_client_may_come_back_when_the_network_broke_and_not_when_it_closed(
    end: Any, state: State
) -> None:
    # uvicorn gives a reason, an empty one perhaps, for a close frame only
    reading, connection = await serving(WebSocketTransport(Socket().send), end, stateful=True)

    await reading
    await connection.finished()

    assert connection.session.state is state
    assert connection.session.resumable == (state is State.IDLE)


async def test_a_socket_that_was_replaced_says_nothing_more_and_ends_nothing() -> None:
    old, new = Socket(), Socket()
    late = {"type": "websocket.receive", "text": '{"type":3,"invocationId":"late","result":1}\x1egarbage\x1e'}
    transport = WebSocketTransport(old.send)
    gate: asyncio.Queue[Any] = asyncio.Queue()
    _, connection = await serving(transport, stateful=True)
    reading = asyncio.create_task(transport.serve(gate.get, connection))
    await old.settle()

    connection.resume(WebSocketTransport(new.send))
    gate.put_nowait(late)
    await reading

    assert connection.session.resumable
    assert old.sent[-1] == {"type": "websocket.close", "code": 1000}
    assert new.sent == [{"type": "websocket.send", "text": '{"type":9,"sequenceId":1}\x1e'}]


async def test_a_client_that_does_not_read_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    socket = Socket()
    transport = WebSocketTransport(socket.send, max_unsent=100)
    tasks = asyncio.all_tasks()
    reading, connection = await serving(transport)
    written = len(socket.sent)
    socket.gate.clear()

    for _ in range(50):
        transport.send(b"x" * 40, binary=True)
    await reading
    await connection.finished()
    socket.gate.set()
    await socket.settle()

    assert connection.session.state is State.CLOSED
    assert "does not read" in caplog.text
    assert len(socket.sent) == written
    assert asyncio.all_tasks() == tasks


async def test_a_client_that_does_not_read_its_close_is_cut_off_too() -> None:
    socket = Socket()
    transport = WebSocketTransport(socket.send, close_patience=0.001)
    reading, connection = await serving(transport)
    socket.gate.clear()
    transport.send(b"never read", binary=True)

    connection.close("bye")
    await reading

    assert connection.session.state in (State.LEAVING, State.CLOSED)
    await connection.finished()


async def test_a_close_that_is_blocked_before_anybody_reads_waits_its_turn() -> None:
    socket = Socket()
    socket.gate.clear()
    transport = WebSocketTransport(socket.send)
    transport.send(b"1", binary=True)
    transport.hang_up()

    socket.gate.set()
    await socket.settle()

    assert [message["type"] for message in socket.sent] == ["websocket.send", "websocket.close"]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("after close")])
@pytest.mark.parametrize("blocked", [False, True])
async def test_a_socket_that_is_gone_takes_nothing_more(error: Exception, blocked: bool) -> None:
    socket = Socket()
    socket.error = error
    transport = WebSocketTransport(socket.send)
    if blocked:
        socket.gate.clear()

    transport.send(b"1", binary=True)
    transport.send(b"2", binary=True)
    socket.gate.set()
    await socket.settle()
    socket.error = None
    transport.send(b"3", binary=True)

    assert socket.sent == []


async def test_a_cancelled_writer_cancels_the_send_it_is_in() -> None:
    cancelled = asyncio.Event()

    async def send(_: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    others = asyncio.all_tasks()
    WebSocketTransport(send).send(b"1", binary=True)
    [writer] = asyncio.all_tasks() - others
    await asyncio.sleep(0)
    writer.cancel()

    await asyncio.wait([writer])

    assert cancelled.is_set()
