"""Long polling: what a client's polls, posts and its leaving are answered with, and when."""

import asyncio
import logging
import math

import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clients import client_endpoint
from signalr_upstream.local.clients.long_polling import LongPollingTransport
from signalr_upstream.local.clock import ManualClock

from ..echo_app import EchoApp
from ..http_client import HANDSHAKE, HANDSHAKEN, HttpClient, broadcast, settle

pytestmark = pytest.mark.anyio

NO_CACHE = {
    "cache-control": "no-cache, no-store",
    "expires": "Thu, 01 Jan 1970 00:00:00 GMT",
    "pragma": "no-cache",
}
INVOKED = b'{"type":1,"invocationId":"0","target":"echo","arguments":[1]}\x1e'
ANSWERED = b'{"type":3,"invocationId":"0","result":[1]}\x1e'
SENT = b'{"type":1,"target":"echo","arguments":[%d]}\x1e'
NEWS = b'{"target":"news","arguments":[1]}'
NEWS_RECEIVED = b'{"type":1,"target":"news","arguments":[1]}\x1e'


async def test_the_first_poll_is_answered_at_once_and_the_next_with_the_handshake(client: HttpClient) -> None:
    # recorded: js 10.0.11 json longpolling, conn_user, statuses, headers and bodies
    connection = await client.negotiate()

    first = await client.poll(connection).done()
    second = client.poll(connection)
    await settle()
    assert second.sent == []
    posted = await client.post(connection, HANDSHAKE)
    await second.done()

    assert (first.status, first.body) == (200, b"")
    assert first.headers == {"content-type": "application/octet-stream", "content-length": "0"} | NO_CACHE
    assert (posted.status, posted.body) == (200, b"")
    assert posted.headers == {"content-type": "text/plain", "content-length": "0"}
    assert (second.status, second.body) == (200, HANDSHAKEN)
    assert second.headers == {"content-type": "application/octet-stream", "content-length": "3"} | NO_CACHE


async def test_an_invocation_is_answered_to_a_poll(client: HttpClient, app: EchoApp) -> None:
    connection = await client.open_polls()
    poll = client.poll(connection)
    await client.post(connection, INVOKED)

    assert (await poll.done()).body == ANSWERED
    assert app.events == [("connected", "ann"), ("echo", [1])]
    assert app.queries == [f"?hub=chat&id={connection}"]


async def test_messagepack_goes_over_polls_as_it_is(client: HttpClient) -> None:
    connection = await client.negotiate()
    await client.poll(connection).done()
    await client.post(connection, b'{"protocol":"messagepack","version":1}\x1e')
    assert (await client.poll(connection).done()).body == HANDSHAKEN

    # spec bytes: HubProtocol.md, MessagePack, Invocation; the target and its arguments are ours
    await client.post(connection, bytes.fromhex("0c950180a130a46563686f9101"))

    assert (await client.poll(connection).done()).body == bytes.fromhex("08950380a130039101")


async def test_what_comes_between_two_polls_is_fetched_by_the_next(
    client: HttpClient, service: LocalService
) -> None:
    connection = await client.open_polls()
    await broadcast(service, NEWS)
    await broadcast(service, NEWS)

    assert (await client.poll(connection).done()).body == NEWS_RECEIVED * 2


async def test_a_message_may_be_cut_into_posts_and_a_post_may_hold_several(
    client: HttpClient, app: EchoApp
) -> None:
    connection = await client.open_polls()

    await client.post(connection, INVOKED[:20])
    await client.post(connection, INVOKED[20:] + SENT % 2 + SENT % 3)
    await settle()

    assert app.events[1:] == [("echo", [1]), ("echo", [2]), ("echo", [3])]


async def test_a_poll_with_nothing_to_say_ends_after_90_seconds(
    client: HttpClient, clock: ManualClock
) -> None:
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()

    clock.advance(89.9)
    await settle()
    assert poll.sent == []
    clock.advance(0.2)
    await poll.done()

    assert (poll.status, poll.body, poll.headers["content-type"]) == (200, b"", "text/plain")
    assert poll.headers["content-length"] == "0"


async def test_polls_show_that_the_service_is_there_so_it_sends_no_pings(
    client: HttpClient, clock: ManualClock
) -> None:
    connection = await client.open_polls()
    for _ in range(3):
        poll = client.poll(connection)
        await settle()
        clock.advance(90)
        assert (await poll.done()).body == b""


async def test_a_new_poll_sends_the_old_one_away(client: HttpClient, service: LocalService) -> None:
    connection = await client.open_polls()
    old = client.poll(connection)
    await settle()
    new = client.poll(connection)
    await old.done()
    assert new.sent == []
    await broadcast(service, NEWS)

    assert (old.status, old.body, old.headers["content-type"]) == (204, b"", "text/plain")
    assert (await new.done()).body == NEWS_RECEIVED


async def test_of_two_polls_at_the_moment_of_a_message_one_gets_it(
    client: HttpClient, service: LocalService
) -> None:
    connection = await client.open_polls()
    old = client.poll(connection)
    await settle()
    service.hub("chat").everybody()[0].close("bye")
    new = client.poll(connection)

    answers = [(await old.done()).body, (await new.done()).body]

    assert sorted(answers) == [b"", b'{"type":7,"error":"bye","allowReconnect":true}\x1e']


async def test_a_client_without_a_poll_for_15_seconds_has_gone(
    client: HttpClient, clock: ManualClock, app: EchoApp
) -> None:
    connection = await client.open_polls()
    clock.advance(14.9)
    poll = client.poll(connection)
    await settle()
    clock.advance(90)
    await poll.done()
    assert [name for name, _ in app.events] == ["connected"]

    clock.advance(15)
    await settle()

    assert app.events[1:] == [("disconnected", None)]
    assert (await client.poll(connection).done()).status == 404


async def test_a_poll_whose_client_vanishes_loses_nothing_for_the_next(
    client: HttpClient, service: LocalService, clock: ManualClock
) -> None:
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()
    poll.leave()
    await poll.done()
    await broadcast(service, NEWS)
    clock.advance(14)

    assert poll.sent == []
    assert (await client.poll(connection).done()).body == NEWS_RECEIVED


async def test_a_message_and_the_end_of_the_poll_at_one_moment_lose_nothing(
    client: HttpClient, service: LocalService
) -> None:
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()
    poll.leave()
    await broadcast(service, NEWS)
    await poll.done()

    assert poll.sent == []
    assert (await client.poll(connection).done()).body == NEWS_RECEIVED


async def test_a_client_that_leaves_is_gone_at_once(client: HttpClient, app: EchoApp) -> None:
    # recorded: js 10.0.11 json longpolling, close_stop; DELETE first, then the late POST of the Close message
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()

    deleted = await client.delete(connection)
    late = await client.post(connection, b'{"type":7}\x1e')
    await poll.done()
    await settle()

    assert (deleted.status, deleted.body) == (202, b"")
    assert deleted.headers == {"content-type": "text/plain", "content-length": "0"}
    assert (late.status, late.body) == (404, b"No Connection with that ID")
    assert late.headers["content-type"] == "text/plain"
    assert (poll.status, poll.body) == (204, b"")
    assert app.events[1:] == [("disconnected", None)]
    assert (await client.delete(connection)).status == 404
    assert (await client.poll(connection).done()).status == 404


async def test_nothing_more_is_said_to_a_client_that_has_left(clock: ManualClock) -> None:
    transport = LongPollingTransport(clock=clock)
    transport.end()

    transport.send(NEWS_RECEIVED, binary=False)
    await transport.poll(asyncio.Event().wait, until=math.inf)  # type: ignore[arg-type] # says nothing, ever
    answer = await transport.poll(asyncio.Event().wait, until=math.inf)  # type: ignore[arg-type]

    assert (answer.status_code, answer.body) == (204, b"")


async def test_what_a_client_sent_before_it_left_is_still_handled(client: HttpClient, app: EchoApp) -> None:
    app.gate.clear()
    connection = await client.open_polls()
    await client.post(connection, SENT % 1 + SENT % 2)

    await client.delete(connection)
    app.gate.set()
    await settle()

    assert app.events[1:] == [("echo", [1]), ("echo", [2]), ("disconnected", None)]


async def test_a_closed_connection_is_told_why_and_then_that_there_is_no_more(
    client: HttpClient, service: LocalService, app: EchoApp
) -> None:
    # recorded: js 10.0.11 json longpolling, rest_close_reason
    connection = await client.open_polls()
    service.hub("chat").everybody()[0].close("bye")

    last = await client.poll(connection).done()
    end = await client.poll(connection).done()
    await settle()

    assert last.body == b'{"type":7,"error":"bye","allowReconnect":true}\x1e'
    assert (end.status, end.body, end.headers["content-type"]) == (204, b"", "text/plain")
    assert (await client.poll(connection).done()).status == 404
    assert app.events[1:] == [("disconnected", None)]


async def test_a_client_that_does_not_poll_is_cut_off_when_too_much_waits(
    client: HttpClient, service: LocalService, app: EchoApp, caplog: pytest.LogCaptureFixture
) -> None:
    slow, other = await client.open_polls(), await client.open_polls()
    text = b"x" * 1_000_000
    for _ in range(5):  # over MAX_UNSENT
        await broadcast(service, b'{"target":"t","arguments":["%s"]}' % text)
        assert text in (await client.poll(other).done()).body
    await settle()

    assert (await client.poll(slow).done()).status == 404
    assert ("disconnected", "The client does not read what is sent to it.") in app.events
    assert "does not read" in caplog.text


async def test_posts_wait_while_much_waits_for_the_app(client: HttpClient, app: EchoApp) -> None:
    app.gate.clear()
    connection = await client.open_polls()
    much = client.start("POST", client.url(connection), SENT % 1 + b" " * 70_000 + SENT % 2)
    next_one = client.start("POST", client.url(connection), SENT % 3)
    await settle()
    assert (much.sent, next_one.sent) == ([], [])

    app.gate.set()
    await next_one.done()
    await settle()

    assert (much.status, next_one.status) == (200, 200)
    assert app.events[1:] == [("echo", [1]), ("echo", [2]), ("echo", [3])]


async def test_a_post_does_not_wait_for_an_app_that_is_given_up(
    client: HttpClient, service: LocalService, app: EchoApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_endpoint, "LAST_CALLS", 0.01)
    app.gate.clear()
    connection = await client.open_polls()
    much = client.start("POST", client.url(connection), SENT % 1 + b" " * 70_000 + SENT % 2)
    await settle()
    await client.delete(connection)

    await service.aclose()

    assert (await much.done()).status == 200


async def test_the_end_of_the_service_tells_who_polls(
    client: HttpClient, service: LocalService, app: EchoApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    polling, absent = await client.open_polls(), await client.open_polls()
    poll = client.poll(polling)
    await settle()

    await service.aclose()

    assert (await poll.done()).body == b'{"type":7,"allowReconnect":true}\x1e'
    assert app.events[2:] == [("disconnected", None)] * 2
    assert (await client.poll(absent).done()).status == 503
    assert caplog.records == []


async def test_polls_can_be_broken_and_held_on_purpose(client: HttpClient, service: LocalService) -> None:
    held, broken = await client.open_polls(), await client.open_polls()
    first, second = (connection.connection_id for connection in service.hub("chat").everybody())

    service.faults.hold(first)
    service.faults.drop(second)
    poll = client.poll(held)
    await broadcast(service, NEWS)
    await settle()
    assert poll.sent == []
    service.faults.release(first)

    assert (await poll.done()).body == NEWS_RECEIVED
    assert (await client.poll(broken).done()).status == 404


# --- tokens ---


async def test_a_poll_ends_when_its_token_expires_and_a_new_token_goes_on(
    service: LocalService, clock: ManualClock, app: EchoApp
) -> None:
    client = HttpClient(service, lifetime=30)
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()
    clock.advance(30)
    await poll.done()
    posted = await client.post(connection, INVOKED)
    deleted = await client.delete(connection)
    client.renew(60)
    await broadcast(service, NEWS)
    fetched = await client.poll(connection).done()

    assert [poll.status, posted.status, deleted.status] == [401, 401, 401]
    assert b"expired" in poll.body
    assert poll.headers["www-authenticate"].startswith('Bearer error="invalid_token"')
    assert fetched.body == NEWS_RECEIVED
    assert app.events == [("connected", "ann")]


async def test_a_lenient_service_does_not_look_at_when_tokens_expire(clock: ManualClock) -> None:
    service = LocalService(EchoApp(), clock=clock, lenient=True)
    client = HttpClient(service, lifetime=-1)
    connection = await client.open_polls()
    poll = client.poll(connection)
    await settle()
    clock.advance(89)
    await client.post(connection, INVOKED)

    assert (await poll.done()).body == ANSWERED
    await service.aclose()


async def test_the_user_stays_who_opened_the_connection(
    client: HttpClient, service: LocalService, app: EchoApp
) -> None:
    connection = await client.open_polls()
    other = HttpClient(service, user="bob")

    assert (await other.post(connection, INVOKED)).status == 200
    assert (await other.poll(connection).done()).body == ANSWERED
    assert [connection.user_id for connection in service.hub("chat").everybody()] == ["ann"]
