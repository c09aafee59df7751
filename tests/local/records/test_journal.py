"""What the service remembers of what happened, and how little of it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
import websockets
from msgspec import Raw
from starlette.types import Message, Scope

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.auth import encode_token, sign_connection
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.records.entries import Answer, Client, RestCall, UpstreamCall
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.protocol.messages import Invocation

from ..handmade import connect

pytestmark = pytest.mark.anyio

KEY = "k" * 44
ANN = Caller("c1", "chat", "ann", (), "?hub=chat&access_token=s3cret")
INVOKE = b'{"type":1,"invocationId":"0","target":"double","arguments":[21]}\x1e'


def client(connection_id: str) -> Client:
    return Client(
        connection_id=connection_id,
        hub="chat",
        user_id="ann",
        transport="WebSockets",
        claims=(("su", "s3cret"),),
    )


def upstream_call(journal: Journal, body: bytes = b"") -> UpstreamCall:
    call = UpstreamCall(
        connection_id="c1",
        hub="chat",
        category="messages",
        event="echo",
        request=journal.request("POST", "http://localhost/chat?code=s3cret", [(b"a", b"bc")], body),
        start=journal.clock.time(),
    )
    journal.upstream_called(call)
    return call


# --- the rings ---


def test_frames_are_kept_in_order_with_time_and_direction() -> None:
    clock = ManualClock(1000.0)
    journal = Journal(clock)

    journal.opened(client("c1"))
    clock.advance(0.5)
    journal.received("c1", b"in", binary=False)
    journal.sent("c1", b"out", binary=True)
    journal.closed("c1", "bye")

    assert [(f.number, f.time, f.kind, f.data, f.binary, f.size) for f in journal.frames] == [
        (1, 1000.0, "opened", b"WebSockets", False, 10),
        (2, 1000.5, "received", b"in", False, 2),
        (3, 1000.5, "sent", b"out", True, 3),
        (4, 1000.5, "closed", b"bye", False, 3),
    ]
    assert {frame.connection_id for frame in journal.frames} == {"c1"}


def test_the_oldest_frames_go_when_there_are_too_many() -> None:
    journal = Journal(ManualClock(1000.0), max_frames=3)

    for number in range(10):
        journal.sent("c", b"%d" % number, binary=False)

    assert [frame.data for frame in journal.frames] == [b"7", b"8", b"9"]


def test_the_oldest_frames_go_when_they_are_too_large_together() -> None:
    journal = Journal(ManualClock(1000.0), max_bytes=100)

    for _ in range(5):
        journal.sent("c", b"x" * 40, binary=False)
    two = len(journal.frames)
    journal.sent("c", b"y" * 100, binary=False)

    assert two == 2
    assert [frame.data for frame in journal.frames] == [b"y" * 100]


def test_the_newest_frame_stays_whatever_its_size() -> None:
    journal = Journal(ManualClock(1000.0), max_bytes=10)

    journal.sent("c", b"x" * 50, binary=False)

    assert [frame.size for frame in journal.frames] == [50]


def test_of_long_data_the_start_is_kept() -> None:
    journal = Journal(ManualClock(1000.0), max_kept=4)

    journal.received("c", b"abcdefgh", binary=False)
    request = journal.request("POST", "/", [], b"abcdef")
    answer = journal.answer(200, [], b"abcdefg")

    assert (journal.frames[0].data, journal.frames[0].size) == (b"abcd", 8)
    assert (request.body, request.size) == (b"abcd", 6)
    assert (answer.body, answer.size) == (b"abcd", 7)


def test_an_answer_counts_against_the_limit_too() -> None:
    journal = Journal(ManualClock(1000.0), max_bytes=100)
    first = upstream_call(journal, b"x" * 37)
    second = upstream_call(journal, b"x" * 37)

    journal.upstream_answered(second, journal.answer(200, [(b"a", b"b")], b"y" * 37))

    assert journal.upstream_calls == [second]
    # The first has left the ring: its answer takes no room in it.
    journal.upstream_answered(first, journal.answer(200, [], b"y" * 60))
    assert journal.upstream_calls == [second]
    upstream_call(journal, b"x" * 10)
    assert len(journal.upstream_calls) == 2


def test_each_kind_has_a_ring_of_its_own() -> None:
    journal = Journal(ManualClock(1000.0), max_frames=1, max_calls=2)
    request, answer = journal.request("GET", "/", [], b""), journal.answer(200, [], b"")
    for _ in range(3):
        upstream_call(journal)
        journal.rest_called(
            RestCall(request=request, answer=answer, start=0.0, seconds=0.0, number=journal.next_number())
        )
        journal.sent("c", b"", binary=False)

    assert [frame.number for frame in journal.frames] == [12]
    assert [call.number for call in journal.upstream_calls] == [5, 9]
    assert [call.number for call in journal.rest_calls] == [6, 10]


@pytest.mark.parametrize(
    "note",
    [
        lambda journal: journal.opened(client("c")),
        lambda journal: journal.received("c", b"", binary=False),
        upstream_call,
        lambda journal: journal.rest_called(
            RestCall(
                request=journal.request("GET", "/", [], b""), answer=None, start=0.0, seconds=0.0, number=1
            )
        ),
    ],
)
def test_who_watches_is_woken(note: Callable[[Journal], object]) -> None:
    journal = Journal(ManualClock(1000.0))
    with journal.watch() as changed:
        before = changed.is_set()
        note(journal)
        assert (before, changed.is_set()) == (False, True)
        changed.clear()
    note(journal)
    assert not changed.is_set()


def test_no_secret_is_in_a_repr() -> None:
    journal = Journal(ManualClock(1000.0))
    call = upstream_call(journal, b"s3cret")
    journal.upstream_answered(call, journal.answer(200, [(b"set-cookie", b"s3cret")], b"s3cret"))

    assert "s3cret" not in repr(call)
    assert "<POST http://localhost/chat with 6 bytes>" in repr(call)
    assert "<200 with 6 bytes>" in repr(call)


def test_clients_are_remembered_for_a_while_when_they_have_gone() -> None:
    clock = ManualClock(1000.0)
    journal = Journal(clock, max_gone=2)
    for name in "abcd":
        journal.opened(client(name))
        clock.advance(1.0)

    for name in "abc":
        journal.closed(name)
    journal.closed("unknown")

    assert [(each.connection_id, each.since, each.live) for each in journal.clients] == [("d", 1003.0, True)]
    remembered = [journal.client(name) for name in "abcd"]
    assert [each and (each.connection_id, each.live) for each in remembered] == [
        None,
        ("b", False),
        ("c", False),
        ("d", True),
    ]
    assert "s3cret" not in repr(remembered)


# --- what is noted ---


async def test_the_frames_of_a_client_are_noted() -> None:
    service = LocalService()
    client = await connect(service, journal=service.journal)

    client.connection.receive(INVOKE)
    await client.connection.finished()

    *_, invoked, answered = service.journal.frames
    assert [frame.kind for frame in service.journal.frames] == ["received", "sent", "received", "sent"]
    assert (invoked.connection_id, invoked.data) == ("c1", INVOKE)
    assert (answered.connection_id, [answered.data]) == ("c1", client.received)


async def test_a_transport_is_noted_from_its_opening_to_its_end() -> None:
    async with LocalService(keys=[KEY]) as service:
        claims = {"aud": f"{service.url}/client/?hub=chat", "exp": time.time() + 60}
        authorization = {"Authorization": f"Bearer {encode_token(claims, KEY)}"}
        url = f"ws://127.0.0.1:{service.port}/client/?hub=chat"
        async with websockets.connect(url, additional_headers=authorization, proxy=None) as client:
            await client.send('{"protocol":"json","version":1}\x1e')
            await client.recv()

    assert [(frame.kind, frame.data) for frame in service.journal.frames] == [
        ("opened", b"WebSockets"),
        ("received", b'{"protocol":"json","version":1}\x1e'),
        ("sent", b"{}\x1e"),
        ("closed", b""),
    ]


async def test_calls_to_the_app_and_its_rest_calls_are_noted() -> None:
    hub = Hub("chat")

    @hub.on("double")
    async def double(ctx: Context, number: int) -> int:
        await ctx.clients.all.send("doubled", number)
        return 2 * number

    async with LocalService(UpstreamApp(hub)) as service:
        client = await connect(service, upstream=service._upstream)
        client.connection.receive(INVOKE)
        await client.connection.finished()

    connected, call = service.upstream_calls
    assert (connected.category, connected.event) == ("connections", "connected")
    assert (call.connection_id, call.hub, call.category, call.event) == ("c1", "chat", "messages", "double")
    assert call.request.body == INVOKE.rstrip(b"\x1e")
    assert dict(call.request.headers)[b"X-ASRS-Event"] == b"double"
    assert call.answer is not None
    assert (call.answer.status, call.answer.body) == (200, b'{"type":3,"invocationId":"0","result":42}\x1e')
    assert call.error is None
    assert call.seconds is not None
    assert call.start + call.seconds <= service.journal.clock.time()
    [sent] = service.rest_calls
    assert sent.request.method == "POST"
    assert sent.request.url.partition("?")[0] == "/api/hubs/chat/:send"
    assert sent.request.body == b'{"target":"doubled","arguments":[21]}'
    assert sent.answer is not None
    assert sent.answer.status == 202


class App(httpx.AsyncBaseTransport):
    """An app that fails, or never answers."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.called = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.called.set()
        if self.error is not None:
            raise self.error
        await asyncio.Event().wait()
        raise AssertionError


def failing(journal: Journal, error: Exception | None = None) -> tuple[App, Upstream]:
    app = App(error)
    return app, Upstream(rules=Rules("http://localhost/{event}"), keys=[KEY], transport=app, journal=journal)


async def test_a_call_without_an_answer_says_why() -> None:
    journal = Journal(ManualClock(1000.0))
    _, upstream = failing(journal, httpx.ConnectError("refused"))

    await upstream.call(ANN, Invocation("echo", Raw(b"[]"), "0"), binary=False)

    [call] = journal.upstream_calls
    assert (call.answer, call.error) == (
        None,
        "the app at http://localhost failed: nothing listens there",
    )


async def test_a_call_is_there_while_it_runs_and_when_it_was_given_up() -> None:
    journal = Journal(ManualClock(1000.0))
    app, upstream = failing(journal)
    calling = asyncio.create_task(upstream.call(ANN, Invocation("echo", Raw(b"[]"), "0"), binary=False))
    await app.called.wait()
    [running] = journal.upstream_calls
    assert (running.event, running.seconds, running.error) == ("echo", None, None)

    calling.cancel()
    with suppress(asyncio.CancelledError):
        await calling

    assert (running.seconds, running.error) == (0.0, "the service gave it up")


async def test_a_refused_rest_call_is_noted_with_its_answer() -> None:
    service = LocalService()
    transport = httpx.ASGITransport(service.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        refused = await http.post("/api/hubs/chat/:send?api-version=1", json={"target": "t"})
        await http.post("/client/negotiate?hub=chat")

    [call] = service.rest_calls  # what clients do is no REST call
    assert call.request.url == "/api/hubs/chat/:send?api-version=1"
    assert call.answer == Answer(401, call.answer.headers, refused.content, len(refused.content))  # type: ignore[union-attr]


async def test_a_rest_call_whose_caller_left_has_no_answer() -> None:
    service = LocalService(keys=[KEY])
    token = encode_token({"aud": "http://localhost/api/hubs/chat/:send", "exp": time.time() + 60}, KEY)
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/hubs/chat/:send",
        "raw_path": b"/api/hubs/chat/:send",
        "query_string": b"api-version=2024-12-01",
        "headers": [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())],
    }
    coming: list[Message] = [
        {"type": "http.request", "body": b'{"tar', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await service.asgi(scope, receive, send)

    [call] = service.rest_calls
    assert (call.request.url, call.request.body) == ("/api/hubs/chat/:send?api-version=2024-12-01", b'{"tar')
    assert (call.answer, sent) == (None, [])


async def test_a_replay_is_the_same_call_signed_anew() -> None:
    journal = Journal(ManualClock(1000.0))
    requests: list[httpx.Request] = []

    class Recorder(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            requests.append(request)
            return httpx.Response(204)

    def make(key: str) -> Upstream:
        return Upstream(
            rules=Rules("http://localhost/{event}"), keys=[key], transport=Recorder(), journal=journal
        )

    await make(KEY).call(ANN, Invocation("echo", Raw(b"[1]"), "0"), binary=False)
    again = await make("n" * 44).replay(journal.upstream_calls[0])

    first, second = requests
    assert (first.url, first.content) == (second.url, second.content)
    changed = {name for name, value in first.headers.raw if (name, value) not in second.headers.raw}
    assert changed == {b"X-ASRS-Signature"}
    assert second.headers["X-ASRS-Signature"] == sign_connection("c1", ["n" * 44])
    assert journal.upstream_calls[1:] == [again]
    assert again.answer is not None
    assert again.answer.status == 204


async def test_a_replay_that_fails_says_why_in_the_journal() -> None:
    journal = Journal(ManualClock(1000.0))
    _, upstream = failing(journal, httpx.ConnectError("refused"))
    await upstream.call(ANN, Invocation("echo", Raw(b"[]")), binary=False)

    again = await upstream.replay(journal.upstream_calls[0])

    assert again.error == "the app at http://localhost failed: nothing listens there"
