"""What the log is told of refused calls: enough to see why, and no more however many there are."""

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.auth import sign_connection
from signalr_upstream.calls.line_limits import LINES, PERIOD
from signalr_upstream.calls.refusals import Refusals
from signalr_upstream.calls.routing import Routes
from signalr_upstream.errors import (
    ConnectionStringError,
    MediaTypeError,
    SignalRError,
    SignatureError,
    TokenError,
)

from ..canaries import secret_in
from ..support import (
    CONNECTION_STRING,
    OTHER_KEY,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    invocation,
    post,
    receive_nothing,
    with_header,
)

pytestmark = pytest.mark.anyio

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What has been logged at WARNING and above."""

    def read() -> list[dict[str, Any]]:
        return [{**vars(r), "text": r.getMessage()} for r in caplog.records if r.levelno >= logging.WARNING]

    return read


# --- what a line says ---


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"method": "PUT"}, 405, ("chat/messages/echo", "c1", "method_not_allowed")),
        ({"path": "/other/messages/echo"}, 400, ("chat/messages/echo", "c1", "bad_request")),
        ({"body": b"x" * 200}, 413, ("chat/messages/echo", "c1", "body_too_large")),
        ({"body": b"x"}, 400, ("chat/messages/echo", "c1", "bad_request")),
        ({"headers": {"content_type": "text/plain"}}, 415, ("chat/messages/echo", "c1", "media_type")),
        ({"headers": {"event": "made up"}}, 404, ("chat/unknown/unknown", "c1", "no_handler")),
        ({"headers": {"hub": "made-up"}}, 404, ("unknown/unknown/unknown", "c1", "no_handler")),
        ({"headers": {"category": "made-up"}}, 404, ("chat/unknown/unknown", "c1", "no_handler")),
    ],
)
async def test_a_refused_call_is_logged_with_registered_names_and_its_connection(
    lines: Lines, change: dict[str, Any], status: int, said: tuple[str, str, str]
) -> None:
    recorder = Recorder(max_body_size=100)
    headers = call_headers(**{"event": "echo", **change.pop("headers", {})})

    answer = await post(recorder.app, headers, change.pop("body", invocation("echo", "a")), **change)

    assert answer.status_code == status
    line = lines()[-1]
    assert (line["event"], line["connection"], line["outcome"]) == said
    assert line["levelname"] == "WARNING"
    assert 0 < line["duration"] < 60
    assert "reason" not in line
    assert f"upstream call {said[0]} of connection 'c1' answered {status}: " in line["text"]


async def test_a_call_that_is_handled_by_a_family_and_a_catch_all_is_logged_with_their_names(
    lines: Lines,
) -> None:
    hub = Hub("tenant_*")

    @hub.on("room.*")
    async def room(ctx: Context) -> None: ...

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, max_concurrent_calls=0)
    await call_asgi(app, asgi_scope(call_headers("room.7", hub="tenant_7")), receive_nothing)

    (line,) = lines()
    assert (line["event"], line["outcome"]) == ("tenant_*/messages/room.*", "overloaded")


@pytest.mark.parametrize(
    ("header", "value", "reason"),
    [
        ("X-ASRS-Signature", None, "signature_missing"),
        ("X-ASRS-Signature", sign_connection("c1", [OTHER_KEY]), "signature_wrong"),
        ("X-ASRS-Connection-Id", None, "no_connection_id"),
    ],
)
async def test_a_call_that_is_not_believed_is_logged_with_the_reason_and_no_connection(
    lines: Lines, header: str, value: str | None, reason: str
) -> None:
    headers = with_header(call_headers("echo"), header, value)
    recorder = Recorder(insecure=reason == "no_connection_id")

    await post(recorder.app, headers, path="/chat/messages/echo")

    (line,) = lines()
    assert (line["outcome"], line["reason"]) == ("unauthorized", reason)
    assert (line["event"], line["connection"]) == ("chat/messages/echo", "")
    assert line["text"].startswith("upstream call chat/messages/echo answered 401: ")
    assert secret_in(str(line)) is None


async def test_a_signed_call_without_the_code_is_logged_with_its_connection(lines: Lines) -> None:
    recorder = Recorder(code="the code")

    await post(recorder.app, call_headers("echo"), path="/chat/messages/echo?code=wrong")

    (line,) = lines()
    assert (line["reason"], line["connection"]) == ("code", "c1")


async def test_a_connection_id_is_escaped_and_cut(lines: Lines) -> None:
    hostile = "c\u2028" + "x" * 1000

    await post(Recorder().app, call_headers("echo", connection_id=hostile), b"{")

    (line,) = lines()
    assert line["connection"] == "c\\u2028" + "x" * 254 + "..."
    assert "\u2028" not in line["text"]


# --- how many lines there are ---


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def refusals(clock: Clock) -> Refusals:
    routes = Routes(
        [Hub("chat")], service_of=lambda _: pytest.fail("asked"), path=None, application="", filters=()
    )
    return Refusals(routes, with_code=False, clock=clock)


def refuse(refusals: Refusals, error: SignalRError, clock: Clock, times: int = 1) -> None:
    for _ in range(times):
        refusals.answer(error, asgi_scope(call_headers("echo")), clock.now)


def test_a_flood_of_refused_calls_writes_few_lines_and_then_how_many_there_were(
    refusals: Refusals, clock: Clock, lines: Lines
) -> None:
    refuse(refusals, SignatureError("no valid signature"), clock, 1000)
    clock.now += PERIOD - 1
    refuse(refusals, SignatureError("no valid signature"), clock, 34)

    assert len(lines()) == LINES == 20

    clock.now += 1
    refuse(refusals, SignatureError("no valid signature"), clock, 2)

    assert len(lines()) == LINES + 2
    assert lines()[-2]["text"].endswith("no valid signature (1,014 more like it since the last line)")
    assert lines()[-1]["text"].endswith("no valid signature")


def test_a_flood_of_one_kind_hides_no_other(refusals: Refusals, clock: Clock, lines: Lines) -> None:
    refuse(refusals, SignatureError("forged", reason="signature_wrong"), clock, 1000)

    refuse(refusals, SignatureError("none", reason="signature_missing"), clock)
    refuse(refusals, TokenError("expired"), clock)
    refuse(refusals, MediaTypeError("compressed"), clock)

    assert [line["text"].rpartition(": ")[2] for line in lines()[LINES:]] == ["none", "expired", "compressed"]


def test_what_is_wrong_with_the_configuration_is_logged_once(
    refusals: Refusals, clock: Clock, lines: Lines
) -> None:
    for text in ("no key", "no key", "no endpoint"):
        refuse(refusals, ConnectionStringError(text), clock)

    assert [(line["levelname"], line["text"]) for line in lines()] == [
        ("ERROR", "upstream calls are answered 503: no key"),
        ("ERROR", "upstream calls are answered 503: no endpoint"),
    ]
    assert lines()[0]["outcome"] == "not_configured"


def test_at_debug_there_is_a_line_for_each(
    refusals: Refusals, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "signalr_upstream")

    refuse(refusals, SignatureError("no valid signature"), clock, LINES + 5)

    assert [r.levelno for r in caplog.records] == [logging.WARNING] * LINES + [logging.DEBUG] * 5


# --- what is left of a refused call ---


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"signature": None}, 401),
        ({"method": "PUT"}, 405),
        ({"path": "/other/messages/echo"}, 400),
        ({"event": "nobody"}, 404),
    ],
)
async def test_refused_calls_leave_nothing_to_the_garbage_collector(
    change: dict[str, Any], status: int
) -> None:
    # Whoever floods an app with them would make it stop for the collector, and others wait.
    async def echo(text: str) -> str:
        return text

    chat = Hub("chat")
    chat.on("echo")(echo)
    app = UpstreamApp(chat, connection_string=CONNECTION_STRING)
    headers = call_headers(change.pop("event", "echo"))
    if "signature" in change:
        headers = with_header(headers, "X-ASRS-Signature", change.pop("signature"))

    async def refused() -> None:
        sent = await call_asgi(app, asgi_scope(headers, **change), receive_nothing)
        assert sent[0]["status"] == status

    for _ in range(LINES + 1):  # the first ones are logged, and the log's records are kept here
        await refused()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            await refused()
        assert gc.collect() < 50
    finally:
        gc.enable()
