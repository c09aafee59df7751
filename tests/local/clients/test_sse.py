"""Server-Sent Events: what a client's stream and posts are answered with, and when they end."""

import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

from ..echo_app import EchoApp
from ..http_client import HANDSHAKE, HttpClient, broadcast, event, settle

pytestmark = pytest.mark.anyio

INVOKED = b'{"type":1,"invocationId":"0","target":"echo","arguments":[1]}\x1e'
ANSWERED = b'{"type":3,"invocationId":"0","result":[1]}\x1e'
NEWS = b'{"target":"news","arguments":[1]}'
NEWS_RECEIVED = b'{"type":1,"target":"news","arguments":[1]}\x1e'


async def test_the_stream_is_open_at_once_and_messages_are_its_events(
    client: HttpClient, app: EchoApp
) -> None:
    # recorded: js 10.0.11 json sse, conn_user, statuses, headers and bodies
    connection = await client.negotiate()
    events = client.events(connection)
    await events.hears(b":\r\n")
    posted = await client.post(connection, HANDSHAKE)
    await events.hears(b"data: {}\x1e\r\n\r\n")
    await client.post(connection, b'{"type":6}\x1e' + INVOKED)
    await events.hears(b'data: {"type":3,"invocationId":"0","result":[1]}\x1e\r\n\r\n')

    assert events.status == 200
    assert events.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache,no-store",
        "content-encoding": "identity",
        "pragma": "no-cache",
    }
    assert (posted.status, posted.body) == (200, b"")
    assert posted.headers == {"content-type": "text/plain", "content-length": "0"}
    assert app.events == [("connected", "ann"), ("echo", [1])]


async def test_a_line_break_in_a_message_begins_a_line_of_its_event(
    client: HttpClient, service: LocalService
) -> None:
    _, events = await client.open_events()

    # a client's or an app's bytes are passed on, white space included
    await broadcast(service, b'{"target":"t","arguments":[1,\r\n2,\n3,\r4]}')

    await events.hears(
        b'data: {"type":1,"target":"t","arguments":[1,\r\ndata: 2,\r\ndata: 3,\r\ndata: 4]}\x1e\r\n\r\n'
    )


async def test_messagepack_is_refused_with_microsofts_text(client: HttpClient, app: EchoApp) -> None:
    connection = await client.negotiate()
    events = client.events(connection)
    await events.hears(b":\r\n")

    await client.post(connection, b'{"protocol":"messagepack","version":1}\x1e')
    await events.done()

    # TransportProtocols.md has no text; this is ASP.NET's
    assert events.body == event(
        b'{"error":"Cannot use the \'messagepack\' protocol on the current transport. '
        b"The transport does not support 'Binary' transfer format.\"}\x1e"
    )
    assert app.events == []


async def test_a_client_that_goes_is_gone_at_once(client: HttpClient, app: EchoApp) -> None:
    connection, events = await client.open_events()

    events.leave()
    await events.done()

    assert app.events == [("connected", "ann"), ("disconnected", None)]
    assert (await client.post(connection, INVOKED)).status == 404


async def test_while_the_app_learns_of_the_end_the_connection_is_unknown_already(
    client: HttpClient, app: EchoApp
) -> None:
    connection, events = await client.open_events()
    app.gate.clear()
    await client.post(connection, INVOKED)

    events.leave()
    await settle()
    posted = await client.post(connection, INVOKED)
    app.gate.set()
    await events.done()

    assert (posted.status, posted.body) == (404, b"No Connection with that ID")
    assert app.events[1:] == [("echo", [1]), ("disconnected", None)]


async def test_a_closed_stream_ends_behind_the_reason(client: HttpClient, service: LocalService) -> None:
    # recorded: js 10.0.11 json sse, rest_close_reason
    _, events = await client.open_events()

    service.hub("chat").everybody()[0].close("bye")
    await events.done()

    assert events.body == event(b'{"type":7,"error":"bye","allowReconnect":true}\x1e')
    assert events.sent[-1] == {"type": "http.response.body"}


async def test_a_silent_stream_is_pinged(client: HttpClient, clock: ManualClock) -> None:
    _, events = await client.open_events()

    clock.advance(15)

    await events.hears(event(b'{"type":6}\x1e'))


async def test_a_client_that_says_nothing_is_let_go_after_15_seconds(
    client: HttpClient, clock: ManualClock, app: EchoApp
) -> None:
    events = client.events(await client.negotiate())
    await events.hears(b":\r\n")

    clock.advance(15)
    await events.done()

    assert events.body == event(b'{"error":"Handshake was canceled."}\x1e')
    assert app.events == []


async def test_the_end_of_the_service_ends_the_stream(
    client: HttpClient, service: LocalService, app: EchoApp
) -> None:
    _, events = await client.open_events()

    await service.aclose()
    await events.done()

    assert events.body == event(b'{"type":7,"allowReconnect":true}\x1e')
    assert app.events[1:] == [("disconnected", None)]


# --- clients that do not read ---


async def test_a_client_that_does_not_read_is_cut_off_and_the_others_do_not_notice(
    client: HttpClient, service: LocalService, app: EchoApp, caplog: pytest.LogCaptureFixture
) -> None:
    connection, slow = await client.open_events()
    _, other = await client.open_events()
    slow.gate.clear()
    text = b"x" * 1_000_000
    for _ in range(6):  # over MAX_UNSENT
        await broadcast(service, b'{"target":"t","arguments":["%s"]}' % text)
        await other.hears(event(b'{"type":1,"target":"t","arguments":["%s"]}\x1e' % text))
    await slow.done()

    assert (await client.post(connection, INVOKED)).status == 404
    assert app.events[2:] == [("disconnected", "The client does not read what is sent to it.")]
    assert "does not read" in caplog.text
    assert slow.body == b""


async def test_a_stream_can_be_broken_and_held_on_purpose(
    client: HttpClient, service: LocalService, app: EchoApp
) -> None:
    _, held = await client.open_events()
    _, broken = await client.open_events()
    first, second = (connection.connection_id for connection in service.hub("chat").everybody())

    service.faults.hold(first)
    service.faults.drop(second)
    await broadcast(service, NEWS)
    await broken.done()
    assert (held.body, broken.body) == (b"", b"")
    service.faults.release(first)

    await held.hears(event(NEWS_RECEIVED))
    assert broken.sent[1:] == []  # not even the end of the answer
    assert app.events[2:] == [("disconnected", None)]


# --- tokens ---


async def test_a_stream_ends_when_its_token_expires(
    service: LocalService, clock: ManualClock, app: EchoApp
) -> None:
    client = HttpClient(service, lifetime=10)
    connection, events = await client.open_events()
    clock.advance(9.9)
    await client.post(connection, INVOKED)
    await events.hears(event(ANSWERED))

    clock.advance(0.1)
    await events.done()
    posted = await client.post(connection, INVOKED)

    assert events.sent[1:] == [{"type": "http.response.body"}]
    assert (posted.status, b"expired" in posted.body) == (401, True)
    assert app.events[-1] == ("disconnected", None)


async def test_a_stream_of_a_lenient_service_does_not_end_with_its_token(clock: ManualClock) -> None:
    service = LocalService(EchoApp(), clock=clock, lenient=True)
    client = HttpClient(service, lifetime=10)
    connection, events = await client.open_events()
    clock.advance(11)

    await client.post(connection, INVOKED)

    await events.hears(event(ANSWERED))
    await service.aclose()
