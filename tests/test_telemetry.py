"""What the log and observers are told of calls, REST calls and negotiates; and that it holds nothing secret."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from signalr_upstream import Context, Hub, HubError, Identity, ServiceClient, UpstreamApp
from signalr_upstream.errors import (
    BodyTimeoutError,
    ConnectError,
    InvalidMessageError,
    KeysNotFetchedError,
    Redeliver,
    TokenError,
)
from signalr_upstream.local import LocalService
from signalr_upstream.telemetry import (
    UNKNOWN,
    Call,
    Negotiation,
    Observed,
    Observer,
    Outcome,
    PoolUse,
    RestRequest,
    escaped,
    outcome_of,
)

from .support import (
    CONNECTION_STRING,
    KEY,
    OTHER_KEY,
    Recorder,
    RestService,
    asgi_scope,
    call_asgi,
    call_headers,
    invocation,
    invoke,
    post,
    receive_nothing,
    send,
    serve,
    with_header,
)

pytestmark = pytest.mark.anyio

SECRET = "the-canary-of-this-test"


class Watching(Observer):
    """Remembers all it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way = 0
        self.calls: list[Call] = []
        self.requests: list[RestRequest] = []
        self.negotiations: list[Negotiation] = []
        self.news: list[tuple[str, str]] = []

    @contextlib.contextmanager
    def call(self, call: Call) -> Iterator[None]:
        self.under_way += 1
        yield
        self.under_way -= 1
        self.calls.append(call)

    @contextlib.contextmanager
    def request(self, request: RestRequest) -> Iterator[None]:
        request.headers.append(("traceparent", "00-1-2-01"))
        yield
        self.requests.append(request)

    def negotiated(self, negotiation: Negotiation) -> None:
        self.negotiations.append(negotiation)

    def fetched(self, what: str, source: str) -> None:
        self.news.append((what, source))


class Broken(Observer):
    """Fails in everything it does."""

    def call(self, call: Call) -> AbstractContextManager[object]:
        raise RuntimeError("broken at the start")

    @contextlib.contextmanager
    def request(self, request: RestRequest) -> Iterator[None]:
        yield
        raise RuntimeError("broken at the end")

    def negotiated(self, negotiation: Negotiation) -> None:
        raise RuntimeError("broken in between")


def hub_of_everything() -> Hub[Any]:
    hub = Hub("chat")

    @hub.on("ok")
    async def ok(ctx: Context) -> str:
        return "ok"

    @hub.on("room.*")
    async def room(ctx: Context) -> None: ...

    @hub.on("refuse")
    async def refuse(ctx: Context) -> None:
        raise HubError(SECRET)

    @hub.on("guarded", require=lambda ctx: False)
    async def guarded(ctx: Context) -> None: ...

    @hub.on("fail")
    async def fail(ctx: Context) -> None:
        raise RuntimeError("broken")

    @hub.on("late", timeout=0.01)
    async def late(ctx: Context) -> None:
        await asyncio.Event().wait()

    @hub.on("again")
    async def again(ctx: Context) -> None:
        raise Redeliver

    @hub.on("connected")
    async def connected(ctx: Context) -> None:
        raise HubError("not you")

    @hub.negotiate
    async def who(request: Any) -> Identity:
        name = request.query_params.get("name")
        if name == "nobody":
            raise HubError("who are you?")
        if name == "broken":
            raise RuntimeError("broken")
        return Identity(user_id=name)

    return hub


@pytest.fixture
def watching() -> Watching:
    return Watching()


def app_of_everything(*observers: Observer) -> UpstreamApp:
    return UpstreamApp(
        hub_of_everything(),
        connection_string=CONNECTION_STRING,
        http_client=RestService().client,
        telemetry=observers,
    )


@pytest.fixture
def app(watching: Watching) -> UpstreamApp:
    return app_of_everything(watching)


# --- calls ---


@pytest.mark.parametrize(
    ("event", "handler", "outcome", "answered"),
    [
        ("ok", "ok", Outcome.SUCCESS, (200, "")),
        ("room.7", "room.*", Outcome.SUCCESS, (200, "")),
        ("refuse", "refuse", Outcome.REFUSED, (200, "HubError")),
        ("guarded", "guarded", Outcome.REFUSED, (200, "Forbidden")),
        ("fail", "fail", Outcome.FAILED, (200, "RuntimeError")),
        ("late", "late", Outcome.TIMED_OUT, (200, "")),
        ("again", "again", Outcome.REDELIVER, (503, "Redeliver")),
        ("connected", "connected", Outcome.REFUSED, (403, "HubError")),
        ("disconnected", UNKNOWN, Outcome.IGNORED, (204, "")),
        ("nobodyHandlesThis", UNKNOWN, Outcome.NO_HANDLER, (404, "NoHandlerError")),
    ],
)
async def test_what_becomes_of_a_call_is_told_with_registered_names(
    watching: Watching,
    event: str,
    handler: str,
    outcome: Outcome,
    answered: tuple[int, str],
) -> None:
    status, error_type = answered
    app = app_of_everything(watching)
    bodies = {"connected": b'{"type":10}', "disconnected": b'{"type":11}'}

    answer = await post(app, call_headers(event), bodies.get(event, invocation(event)))

    (call,) = watching.calls
    assert (call.hub, call.handler, call.outcome, call.status) == ("chat", handler, outcome, status)
    assert (call.connection_id, call.key_index, call.error_type) == ("c1", 0, error_type)
    assert answer.status_code == status
    assert watching.under_way == 0


async def test_a_hub_that_is_not_registered_is_unknown(app: UpstreamApp, watching: Watching) -> None:
    await post(app, call_headers("ok", hub="made-up"), invocation("ok"))

    assert (watching.calls[0].hub, watching.calls[0].handler) == (UNKNOWN, UNKNOWN)


async def test_a_hub_of_a_family_is_told_by_the_familys_name(watching: Watching) -> None:
    hub = Hub("tenant_*")

    @hub.on("ok")
    async def ok(ctx: Context) -> None: ...

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, telemetry=[watching])
    await post(app, call_headers("ok", hub="tenant_7"), invocation("ok"))

    assert watching.calls[0].hub == "tenant_*"


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("X-ASRS-Signature", "sha256=00", "signature_wrong"),
        ("X-ASRS-Signature", None, "signature_missing"),
    ],
)
async def test_who_is_not_believed_is_told_by_reason_and_nothing_else(
    app: UpstreamApp, watching: Watching, header: str, value: str | None, reason: str
) -> None:
    await post(app, with_header(call_headers("ok"), header, value), path="/chat/messages/ok")

    (call,) = watching.calls
    assert (call.outcome, call.unproven, call.status) == (Outcome.UNAUTHORIZED, reason, 401)
    assert (call.hub, call.handler, call.connection_id, call.key_index) == (UNKNOWN, UNKNOWN, "", None)


async def test_a_missing_connection_id_and_a_wrong_code_are_reasons(watching: Watching) -> None:
    recorder = Recorder(code="the code", telemetry=[watching], insecure=True)
    headers = call_headers("echo")

    await post(recorder.app, headers)
    await post(recorder.app, with_header(headers, "X-ASRS-Connection-Id", None), path="/")

    assert [call.unproven for call in watching.calls] == ["code", "no_connection_id"]


async def test_the_key_that_signed_is_told_so_that_a_rotation_can_be_seen_to_end(watching: Watching) -> None:
    recorder = Recorder(upstream_keys=[OTHER_KEY], telemetry=[watching])

    for key in (OTHER_KEY, KEY):
        await post(recorder.app, call_headers("echo", key=key), invocation("echo", "a"))

    assert [call.key_index for call in watching.calls] == [1, 0]


async def test_a_call_that_is_not_checked_has_no_key(watching: Watching) -> None:
    recorder = Recorder(insecure=True, telemetry=[watching])
    headers = with_header(call_headers("echo"), "X-ASRS-Signature", None)

    await post(recorder.app, headers, invocation("echo", "a"))

    assert (watching.calls[0].outcome, watching.calls[0].key_index) == (Outcome.SUCCESS, None)


async def test_a_caller_that_hangs_up_and_a_server_that_ends_leave_a_cancelled_call(
    app: UpstreamApp, watching: Watching
) -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    assert await call_asgi(app, asgi_scope(call_headers("ok")), gone) == []
    running = asyncio.create_task(call_asgi(app, asgi_scope(call_headers("ok")), never))
    await asyncio.sleep(0)
    assert watching.under_way == 1
    running.cancel()
    await asyncio.wait([running])

    assert [call.outcome for call in watching.calls] == [Outcome.CANCELLED] * 2
    assert watching.under_way == 0


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({"method": "PUT"}, Outcome.METHOD_NOT_ALLOWED),
        ({"path": "/other/messages/echo"}, Outcome.BAD_REQUEST),
        ({"body": b"x" * 200}, Outcome.BODY_TOO_LARGE),
        ({"content_type": "text/plain"}, Outcome.MEDIA_TYPE),
        ({"body": b"x"}, Outcome.BAD_REQUEST),
    ],
)
async def test_what_is_refused_before_a_handler_runs_is_told_apart(
    watching: Watching, change: dict[str, Any], outcome: Outcome
) -> None:
    recorder = Recorder(max_body_size=100, telemetry=[watching])
    headers = call_headers("echo", content_type=change.pop("content_type", "application/json"))

    await post(recorder.app, headers, change.pop("body", invocation("echo", "a")), **change)

    assert [call.outcome for call in watching.calls] == [outcome]


async def test_a_worker_with_too_many_calls_tells_of_those_it_refuses(watching: Watching) -> None:
    recorder = Recorder(max_concurrent_calls=0, telemetry=[watching])

    sent = await call_asgi(recorder.app, asgi_scope(call_headers("echo")), receive_nothing)

    assert (sent[0]["status"], watching.calls[0].outcome) == (503, Outcome.OVERLOADED)


async def test_no_keys_is_an_outcome_of_its_own(watching: Watching) -> None:
    recorder = Recorder(
        connection_string="Endpoint=https://x.test;AccessKey=;Version=1.0;", telemetry=[watching]
    )

    await post(recorder.app, call_headers("echo"))

    assert watching.calls[0].outcome == Outcome.NOT_CONFIGURED


def test_other_refusals_have_outcomes_too() -> None:
    assert outcome_of(BodyTimeoutError()) == Outcome.BODY_TIMEOUT
    assert outcome_of(KeysNotFetchedError()) == Outcome.KEYS_NOT_FETCHED
    assert outcome_of(InvalidMessageError()) == Outcome.BAD_REQUEST
    call = Call(())
    call.refused(TokenError("expired"))
    assert (call.outcome, call.unproven) == (Outcome.UNAUTHORIZED, "token")


async def test_reprs_show_no_header() -> None:
    call = Call([(b"x-asrs-signature", SECRET.encode())])
    request = RestRequest("send_to_all", "POST", "/api", "https://x", 0, [("a", SECRET)], status=202)

    assert SECRET not in repr(call) + repr(request)
    assert repr(request) == "<RestRequest send_to_all: 202>"


# --- observers that fail, or do nothing ---


async def test_an_observer_that_fails_is_logged_and_changes_nothing(
    watching: Watching, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_of_everything(Broken(), watching)

    assert (await invoke(app, "ok"))["result"] == "ok"
    await app.hub(app.hubs[0]).clients.all.send("news")
    answer = await post(app, {}, path="/chat/negotiate?name=ann")

    assert answer.status_code == 200
    assert len(watching.calls) == len(watching.requests) == len(watching.negotiations) == 1
    assert [str(r.exc_info[1]) for r in caplog.records if r.exc_info] == [
        "broken at the start",
        "broken at the end",
        "broken in between",
    ]


async def test_an_observer_needs_to_know_nothing() -> None:
    observer = Observer()

    with (
        Observed([observer.call], Call(())),
        Observed([observer.request], RestRequest("", "", "", "", 0, [])),
    ):
        observer.negotiated(Negotiation("chat", "success", 0.1))
        observer.fetched("jwks", "https://issuer")

    assert observer.pool_use() == PoolUse(0, 0, 0)


# --- REST ---


async def test_every_attempt_of_a_rest_call_is_told_and_may_be_given_headers(watching: Watching) -> None:
    answers = iter([httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(202)])
    rest = RestService(lambda _: next(answers))
    client = ServiceClient(CONNECTION_STRING, http_client=rest.client, telemetry=[watching])

    await client.hub("chat").clients.group("lobby").send("news")

    assert [(r.operation, r.status, r.error_type, r.resend) for r in watching.requests] == [
        ("send_to_group", 503, "UnavailableError", 0),
        ("send_to_group", 202, "", 1),
    ]
    assert watching.requests[0].template == "/api/hubs/{hub}/groups/{group}/:send"
    assert watching.requests[0].server_url == "https://chat.service.signalr.net"
    assert [request.headers["traceparent"] for request in rest.requests] == ["00-1-2-01"] * 2


async def test_a_new_token_after_a_refusal_is_another_attempt(watching: Watching) -> None:
    strings = iter([CONNECTION_STRING, CONNECTION_STRING.replace(KEY, OTHER_KEY)])
    answers = iter([httpx.Response(401), httpx.Response(202)])
    rest = RestService(lambda _: next(answers))
    client = ServiceClient(lambda: next(strings), http_client=rest.client, telemetry=[watching])
    client.endpoints._asked -= 10

    await client.hub("chat").clients.all.send("news")

    assert [(r.status, r.resend) for r in watching.requests] == [(401, 0), (202, 1)]


async def test_an_attempt_without_an_answer_is_told_by_its_error(watching: Watching) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("nobody there")

    rest = RestService(refuse)
    client = ServiceClient(
        CONNECTION_STRING, http_client=rest.client, telemetry=[watching], total_timeout=0.1
    )

    with pytest.raises(ConnectError):
        await client.hub("chat").clients.all.send("news")

    assert (watching.requests[0].status, watching.requests[0].error_type) == (None, "ConnectError")


async def test_connections_are_counted_while_they_live(watching: Watching) -> None:
    async with LocalService() as service:
        client = ServiceClient(service.connection_string, telemetry=[watching])
        assert watching.pool_use() == PoolUse(0, 0, 0)
        await client.hub("chat").clients.all.send("news")
        assert watching.pool_use() == PoolUse(busy=0, idle=1, waiting=0)
        await client.aclose()
        assert watching.pool_use() == PoolUse(0, 0, 0)
    del client
    gc.collect()
    assert watching.pool_use() == PoolUse(0, 0, 0)


async def test_a_temporary_key_that_is_fetched_is_told(watching: Watching) -> None:
    async with LocalService() as service:
        client = ServiceClient(
            f"Endpoint={service.url};Version=1.0;",
            credential=service.credential,
            seal_key="s" * 32,
            telemetry=[watching],
        )
        await client.client_access("chat", Identity(user_id="ann"))
        await client.aclose()
        assert watching.news == [("temporary_key", service.url)]

    assert [request.operation for request in watching.requests] == ["access_key"]


# --- negotiate ---


@pytest.mark.parametrize(
    ("path", "hub", "outcome"),
    [
        ("/chat/negotiate?name=ann", "chat", "success"),
        ("/chat/negotiate?name=nobody", "chat", "refused"),
        ("/chat/negotiate?name=broken", "chat", "failed"),
        ("/made-up/negotiate", UNKNOWN, "not_found"),
    ],
)
async def test_negotiates_are_told(
    app: UpstreamApp, watching: Watching, path: str, hub: str, outcome: str
) -> None:
    await post(app, {}, path=path)

    (told,) = watching.negotiations
    assert (told.hub, told.outcome) == (hub, outcome)
    assert 0 < told.seconds < 60


# --- the log ---


async def test_log_lines_of_calls_have_fields(app: UpstreamApp, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "signalr_upstream")

    await invoke(app, "ok")
    await invoke(app, "fail")
    await invoke(app, "late")
    await send(app, "refuse")
    await post(app, with_header(call_headers("ok"), "X-ASRS-Signature", None))

    said = [vars(record) for record in caplog.records if record.name == "signalr_upstream"]
    assert [(line["levelname"], line.get("event"), line["outcome"]) for line in said] == [
        ("DEBUG", "chat/messages/ok", "success"),
        ("ERROR", "chat/messages/fail", "failed"),
        ("DEBUG", "chat/messages/fail", "failed"),
        ("WARNING", "chat/messages/late", "timed_out"),
        ("DEBUG", "chat/messages/late", "timed_out"),
        ("WARNING", "chat/messages/refuse", "refused"),
        ("DEBUG", "chat/messages/refuse", "refused"),
        ("WARNING", "chat/messages/ok", "unauthorized"),
    ]
    assert {line["connection"] for line in said[:7]} == {"c1"}
    assert all(0 < line["duration"] < 60 for line in said[:7])


async def test_a_slow_call_is_a_warning_however_it_ends_but_is_not_said_twice(
    app: UpstreamApp, caplog: pytest.LogCaptureFixture
) -> None:
    assert app.slow_after == 1.0
    app.slow_after = 0.0

    await invoke(app, "ok")
    await invoke(app, "refuse")
    await invoke(app, "fail")

    lines = [(record.levelname, record.getMessage().partition(" in ")[0]) for record in caplog.records]
    assert lines == [
        ("WARNING", "<Context 'chat/messages/ok' connection='c1'> was slow: answered 200"),
        ("WARNING", "<Context 'chat/messages/refuse' connection='c1'> was slow: answered 200"),
        ("ERROR", "<Context 'chat/messages/fail' connection='c1'> failed"),
    ]
    assert SECRET not in caplog.text


async def test_a_call_faster_than_slow_after_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def go(ctx: Context) -> None: ...

    await invoke(serve(go, slow_after=60), "go")

    assert caplog.records == []


async def test_what_clients_choose_is_escaped_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub("chat")

    @hub.on("*")
    async def anything(ctx: Context) -> None: ...

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, path_check="off", slow_after=0)
    target = "a\x1b[31m\u2028b" + "x" * 1000
    headers = {**call_headers("x"), "X-ASRS-Event": target}
    lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    await post(app, lines, invocation(target), path="/")

    (record,) = caplog.records
    event = vars(record)["event"]
    assert event.startswith("chat/messages/a\\x1b[31m\\u2028bxxx")
    assert event.isprintable()
    assert len(event) < 300
    assert record.getMessage().isprintable()


def test_escaped_leaves_what_can_be_read() -> None:
    assert escaped("Zoë/room 7") == "Zoë/room 7"
    assert escaped("a\nb\x7f\x85") == "a\\nb\\x7f\\x85"
