"""What the service asks of a client: invocations it has to answer, and the items of its streams."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec import Raw

from signalr_upstream.errors import InvalidMessageError
from signalr_upstream.local import LocalService
from signalr_upstream.local.clients.client_connection import (
    INVOKE_TIMEOUT,
    ClientConnection,
    ConnectionGoneError,
)
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.rest.outgoing import Outgoing, OutgoingItem
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.protocol.handshake import HubProtocol
from signalr_upstream.protocol.messages import Completion, Invocation, UpstreamMessage

from ..handmade import Client, connect

pytestmark = pytest.mark.anyio

ASKED = b'{"type":1,"invocationId":"s1","target":"ask","arguments":[]}\x1e'
STREAM = b'{"type":4,"invocationId":"7","target":"counter","arguments":[]}\x1e'
MESSAGEPACK_STREAM = bytes.fromhex("0d 96 04 80 a1 37 a5 636f756e74 90 90")


class Silent(Upstream):
    """An app that answers 204 to everything, when it is told to."""

    def __init__(self) -> None:
        super().__init__(keys=["k" * 44])
        self.gate = asyncio.Event()
        self.gate.set()
        self.called: list[UpstreamMessage] = []

    async def call(self, caller: Caller, message: UpstreamMessage, *, binary: bool) -> Completion | None:
        self.called.append(message)
        await self.gate.wait()
        return None


def question(protocol: HubProtocol) -> Invocation:
    return Invocation("ask", Raw(b"\x90" if protocol.binary else b"[]"))


def only_json(protocol: HubProtocol) -> Raw | None:
    return None if protocol.binary else Raw(b"1")


def item(json: bytes, messagepack: bytes = b"\xc0") -> OutgoingItem:
    return OutgoingItem(lambda protocol: Raw(messagepack if protocol.binary else json))


async def begin(work: Callable[[], object] = lambda: None) -> None:
    """Let tasks that can run do so."""
    for _ in range(5):
        await asyncio.sleep(0)
    work()


# --- client results ---


async def test_a_client_is_invoked_and_its_answer_is_the_result() -> None:
    client = await connect(LocalService())

    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    assert client.take() == [ASKED]
    client.connection.receive(b'{"type":3,"invocationId":"s1","result":{"a":1}}\x1e')

    assert await invoking == Completion("s1", result=Raw(b'{"a":1}'))


async def test_the_result_of_a_messagepack_client_stays_bytes() -> None:
    client = await connect(LocalService(), protocol="messagepack")

    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    assert client.take() == [bytes.fromhex("0c 96 01 80 a2 7331 a3 61736b 90 90")]
    client.connection.receive(bytes.fromhex("08 95 03 80 a2 7331 03 2a"))

    assert await invoking == Completion("s1", result=Raw(b"*"))


async def test_invocations_are_told_apart_and_an_answer_nobody_waits_for_is_ignored() -> None:
    client = await connect(LocalService())

    first = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    second = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    client.connection.receive(b'{"type":3,"invocationId":"s2","error":"no"}\x1e')
    client.connection.receive(b'{"type":3,"invocationId":"s2","error":"twice"}\x1e')
    client.connection.receive(b'{"type":3,"invocationId":"s9","result":1}\x1e')
    client.connection.receive(b'{"type":3,"invocationId":"s1"}\x1e')

    assert await second == Completion("s2", error="no")
    assert await first == Completion("s1")
    client.connection.receive(b'{"type":3,"invocationId":"s1","result":"late"}\x1e')
    assert client.connection.session.open


async def test_an_answer_waits_behind_the_clients_own_message() -> None:
    # In Microsoft's service too a handler that invokes its own caller waits in vain.
    app = Silent()
    client = await connect(LocalService(), upstream=app)
    app.gate.clear()
    client.connection.receive(b'{"type":1,"invocationId":"0","target":"t","arguments":[]}\x1e')

    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    client.connection.receive(b'{"type":3,"invocationId":"s1","result":1}\x1e')
    await begin()
    assert not invoking.done()
    app.gate.set()

    assert await invoking == Completion("s1", result=Raw(b"1"))


async def test_a_client_has_ten_minutes_to_answer() -> None:
    clock = ManualClock()
    client = await connect(LocalService(clock=clock))
    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin(lambda: clock.advance(INVOKE_TIMEOUT - 1))
    await begin()
    assert not invoking.done()

    clock.advance(1)

    with pytest.raises(TimeoutError):
        await invoking


@pytest.mark.parametrize("end", [lambda c: c.disconnect(), lambda c: c.close("bye")])
async def test_who_waits_for_a_client_that_leaves_learns_of_it(
    end: Callable[[ClientConnection], None],
) -> None:
    client = await connect(LocalService())
    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    answered = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    client.connection.receive(b'{"type":3,"invocationId":"s2","result":1}\x1e')

    end(client.connection)

    with pytest.raises(ConnectionGoneError, match="ended before"):
        await invoking
    assert (await answered).result == Raw(b"1")
    with pytest.raises(ConnectionGoneError, match="not open"):
        await client.connection.invoke(Outgoing(question))


async def test_a_call_that_holds_nothing_for_the_client_is_refused() -> None:
    client = await connect(LocalService(), protocol="messagepack")

    with pytest.raises(InvalidMessageError, match="messagepack"):
        await client.connection.invoke(Outgoing(lambda _: None))

    assert client.received == []


async def test_a_client_that_is_away_is_asked_when_it_is_back() -> None:
    service = LocalService()
    client, back = await connect(service, stateful=True), Client()
    client.connection.lose()
    invoking = asyncio.create_task(client.connection.invoke(Outgoing(question)))
    await begin()
    assert client.received == []

    assert client.connection.resume(back)
    client.connection.receive(b'{"type":9,"sequenceId":1}\x1e{"type":3,"invocationId":"s1","result":1}\x1e')

    assert (await invoking).result == Raw(b"1")
    assert back.received == [b'{"type":9,"sequenceId":1}\x1e', ASKED]


# --- streams ---


async def streaming(protocol: str = "json") -> Client:
    client = await connect(LocalService(), protocol=protocol, upstream=Silent(), streams=True)
    client.connection.receive(STREAM if protocol == "json" else MESSAGEPACK_STREAM)
    await client.connection.finished()
    return client


async def test_items_of_a_stream_reach_the_client_and_the_last_one_ends_it() -> None:
    client = await streaming()

    assert client.connection.send_item("7", item(b"1"), completed=False)
    assert client.connection.send_item("7", item(b'"two"'), completed=True)
    assert not client.connection.send_item("7", item(b"3"), completed=False)

    # the bytes of REST's reference, section 2.4, with these values
    assert client.received == [
        b'{"type":2,"invocationId":"7","item":1}\x1e',
        b'{"type":2,"invocationId":"7","item":"two"}\x1e',
        b'{"type":3,"invocationId":"7"}\x1e',
    ]


async def test_items_for_messagepack_clients_are_in_messagepack() -> None:
    client = await streaming("messagepack")

    assert client.connection.send_item("7", item(b"1", b"\x01"), completed=False)
    assert client.connection.send_item("7", OutgoingItem(only_json), completed=True)

    assert client.received == [bytes.fromhex("06 94 02 80 a1 37 01"), bytes.fromhex("06 94 03 80 a1 37 02")]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (None, b'{"type":3,"invocationId":"7"}\x1e'),
        ("", b'{"type":3,"invocationId":"7"}\x1e'),
        ("broken", b'{"type":3,"invocationId":"7","error":"broken"}\x1e'),
    ],
)
async def test_a_stream_is_completed_once(error: str | None, message: bytes) -> None:
    client = await streaming()

    assert client.connection.complete_stream("7", error)
    assert not client.connection.complete_stream("7", error)

    assert client.received == [message]


async def test_nothing_is_sent_before_the_handshake() -> None:
    client = await connect(LocalService(), protocol=None)

    assert not client.connection.send_item("7", item(b"1"), completed=False)
    assert not client.connection.complete_stream("7", None)
    client.connection.send(Outgoing(question))
    assert client.received == []
    with pytest.raises(ConnectionGoneError):
        await client.connection.invoke(Outgoing(question))
