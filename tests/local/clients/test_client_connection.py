"""A session carried out: its timers, its calls to the app, and messages for it."""

import asyncio
import logging

import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clients.actions import Action
from signalr_upstream.local.clients.client_connection import ClientConnection
from signalr_upstream.local.clients.session import Session
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.rest.outgoing import Outgoing
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.protocol.messages import Completion, Invocation, UpstreamMessage

from ..handmade import Client, connect
from .session_driver import JSON_HANDSHAKE

pytestmark = pytest.mark.anyio

INVOKED = b'{"type":1,"invocationId":"0","target":"t","arguments":[]}\x1e'
SENT = b'{"type":1,"target":"t","arguments":[]}\x1e'


class Scripted(Upstream):
    """An app that answers when it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__(keys=["k" * 44])
        self.error = error
        self.called = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def call(self, caller: Caller, message: UpstreamMessage, *, binary: bool) -> Completion | None:
        self.called.set()
        await self.gate.wait()
        if self.error is not None and isinstance(message, Invocation):
            raise self.error
        return None


async def test_timers_run_on_the_clock() -> None:
    client = Client()
    clock = ManualClock()
    service = LocalService()
    connection = ClientConnection(
        caller=Caller("c", "chat", None, (), ""),
        session=Session(now=clock.time()),
        transport=client,
        hub=service.hub("chat"),
        upstream=Scripted(),
        clock=clock,
    )
    connection.receive(JSON_HANDSHAKE)
    await connection.finished()

    clock.advance(15.0)
    connection.disconnect()
    await connection.finished()

    assert client.received[:2] == [b"{}\x1e", b'{"type":6}\x1e']
    assert repr(connection) == "<ClientConnection c CLOSED>"


async def test_a_bug_in_the_service_still_answers_who_waits(caplog: pytest.LogCaptureFixture) -> None:
    upstream = Scripted(ValueError("a bug"))
    client = await connect(LocalService(), upstream=upstream)

    client.connection.receive(INVOKED + SENT + INVOKED)
    await client.connection.finished()

    assert [b"The local service has a bug" in data for data in client.received] == [True, True]
    assert "a bug" in caplog.text


async def test_a_call_that_is_given_up_ends_the_waiting() -> None:
    upstream = Scripted()
    client = await connect(LocalService(), upstream=upstream)
    client.connection.cancel()
    upstream.called.clear()
    upstream.gate.clear()
    client.connection.receive(INVOKED)
    end = asyncio.create_task(client.connection.finished())
    await upstream.called.wait()

    client.connection.cancel()
    await end

    assert client.received == []


async def test_the_transport_is_told_when_to_read() -> None:
    upstream = Scripted()
    client = await connect(LocalService(), upstream=upstream)
    upstream.gate.clear()
    client.connection.receive(SENT * 3000)
    blocked = not client.connection.readable.is_set()

    upstream.gate.set()
    await client.connection.finished()

    assert blocked
    assert client.connection.readable.is_set()


async def test_messages_reach_only_who_is_there() -> None:
    service = LocalService()
    client = await connect(service, protocol="messagepack")
    message = Outgoing.json("t", b'[1,"a"]')

    client.connection.send(message)
    client.connection.send(Outgoing(lambda _: None))  # a body that holds nothing for this protocol
    client.connection.close("bye")
    client.connection.send(message)
    await client.connection.finished()

    assert client.received == [b"\x0b\x96\x01\x80\xc0\xa1t\x92\x01\xa1a\x90", b"\x07\x93\x07\xa3bye\xc3"]
    assert client.gone
    assert service.hub("chat").everybody() == []


class Broken(Session):
    """A session with a bug."""

    def receive(self, data: bytes, now: float) -> list[Action]:
        if data == b"boom":
            raise ZeroDivisionError("a bug in the session")
        return super().receive(data, now)

    def answered(self, completion: Completion | bytes | None, now: float) -> list[Action]:
        if completion is not None:
            raise ZeroDivisionError("a bug in the session")
        return super().answered(completion, now)


async def broken() -> Client:
    client = Client()
    clock = ManualClock()
    client.connection = ClientConnection(
        caller=Caller("c", "chat", None, (), ""),
        session=Broken(now=clock.time()),
        transport=client,
        hub=LocalService().hub("chat"),
        upstream=Upstream(keys=["k" * 44]),
        clock=clock,
    )
    client.connection.receive(JSON_HANDSHAKE)
    await client.connection.finished()
    client.take()
    return client


@pytest.mark.parametrize("cause", [b"boom", INVOKED])
async def test_a_bug_in_the_session_closes_the_connection_so_that_nobody_waits(
    cause: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    client = await broken()

    client.connection.receive(cause)
    await client.connection.finished()

    [closed] = client.received
    assert closed.startswith(b'{"type":7,"error":"The local service has a bug; see its log."')
    assert client.gone
    assert client.connection.gone.is_set()
    assert "a bug in the session" in caplog.text


async def test_the_reason_of_an_end_is_logged_and_a_normal_end_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    service = LocalService()
    client = await connect(service, upstream=Scripted())
    other = await connect(service, upstream=Scripted(), connection_id="c2")

    client.connection.disconnect("it did not read")
    other.connection.disconnect()
    await client.connection.finished()
    await other.connection.finished()

    assert len(caplog.records) == 1
    assert "<ClientConnection c1 LEAVING>: it did not read" in caplog.text


async def test_a_client_goes_on_over_another_transport() -> None:
    service = LocalService()
    first, second = await connect(service, stateful=True), Client()
    connection = first.connection
    connection.send(Outgoing.json("t", b"[]"))
    connection.lose()
    away = service.hub("chat").connection("c1")
    connection.send(Outgoing.json("t", b"[]"))

    connection.resume(second)
    connection.send(Outgoing.json("t", b"[]"))

    message = b'{"type":1,"target":"t","arguments":[]}\x1e'
    assert away is connection
    assert first.received == [message]
    assert first.gone
    assert second.received == [b'{"type":9,"sequenceId":1}\x1e', message, message, message]
    assert not connection.gone.is_set()


async def test_a_client_that_stays_away_is_gone_in_the_end() -> None:
    clock = ManualClock()
    service = LocalService(clock=clock)
    client = await connect(service, stateful=True)

    client.connection.lose()
    clock.advance(30)

    assert client.connection.gone.is_set()
    assert service.hub("chat").everybody() == []
    late = Client()
    assert not client.connection.resume(late)
    assert (late.gone, late.received) == (True, [])
