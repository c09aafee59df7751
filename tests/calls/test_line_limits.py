"""Whatever befalls every call of an outage gets a few lines a minute, and what befalls others is still seen."""

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from signalr_upstream import Context, Hub, HubError, UpstreamApp
from signalr_upstream.calls.line_limits import LINES, PERIOD, LineLimits
from signalr_upstream.errors import Redeliver
from signalr_upstream.testing import HandlerFailedError, HubTester

from ..support import CONNECTION_STRING, RestService, call_headers, connect, invocation, invoke, post

pytestmark = pytest.mark.anyio

MORE = LINES + 5


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_lines_over_the_limit_are_for_debug_and_the_next_says_how_many_they_were() -> None:
    clock = Clock()
    limits = LineLimits(clock)

    levels = [limits.line("a", logging.ERROR)[0] for _ in range(LINES + 1_014)]
    assert levels == [logging.ERROR] * LINES + [logging.DEBUG] * 1_014
    assert limits.line("b") == (logging.WARNING, "")

    clock.now += PERIOD
    assert limits.line("a", logging.ERROR) == (logging.ERROR, " (1,014 more like it since the last line)")
    assert limits.line("a", logging.ERROR) == (logging.ERROR, "")


@pytest.fixture
def app() -> UpstreamApp:
    """An app in an outage: no send arrives."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    hub = Hub("chat")

    @hub.on("say")
    async def say(ctx: Context) -> None:
        await ctx.clients.all.send("news")

    @hub.on("count")
    async def count(ctx: Context, text: str) -> int:
        return int(text)

    @hub.on("wait")
    async def wait(ctx: Context) -> None:
        raise Redeliver

    @hub.on("slow")
    async def slow(ctx: Context) -> None: ...

    @hub.on("leave")
    async def leave(ctx: Context) -> None:
        ctx.after(ctx.clients.all.send, "news")

    @hub.on("connected")
    async def connected(ctx: Context) -> None:
        raise HubError("no")

    @hub.negotiate
    async def negotiate() -> Any:
        raise RuntimeError("the database is gone")

    return UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=RestService(refuse).client)


Lines = Callable[[], list[logging.LogRecord]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What has been logged at WARNING and above."""
    return lambda: [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_of_failing_calls_a_few_bring_their_traceback_and_others_are_not_hidden(
    app: UpstreamApp, lines: Lines
) -> None:
    for _ in range(MORE):
        await invoke(app, "say")

    assert [(line.levelno, bool(line.exc_info)) for line in lines()] == [(logging.ERROR, True)] * LINES
    assert "ConnectError" in str(lines()[0].exc_info)

    await invoke(app, "count", "no number")
    assert [str(line.__dict__["event"]) for line in lines()[LINES:]] == ["chat/messages/count"]


async def test_one_handlers_other_exceptions_are_another_kind(app: UpstreamApp, lines: Lines) -> None:
    for _ in range(MORE):
        await invoke(app, "count", "no number")
    assert len(lines()) == LINES

    @app.hubs[0].errors(ValueError)
    def lookup(error: ValueError) -> Exception:
        return LookupError()

    await invoke(app, "count", "no number")
    assert "LookupError" in str(lines()[-1].exc_info)


@pytest.mark.parametrize("event", ["wait", "slow"])
async def test_warnings_of_calls_are_limited(event: str, app: UpstreamApp, lines: Lines) -> None:
    app.slow_after = 0.0 if event == "slow" else 60.0

    for _ in range(MORE):
        await post(app, call_headers(event), invocation(event))

    assert [line.levelno for line in lines()] == [logging.WARNING] * LINES


async def test_work_behind_answers_that_fails_is_limited(app: UpstreamApp, lines: Lines) -> None:
    for _ in range(MORE):
        await invoke(app, "leave")
        await app.drain()

    assert [(line.levelno, bool(line.exc_info)) for line in lines()] == [(logging.ERROR, True)] * LINES


async def test_connections_that_cannot_be_closed_are_limited(app: UpstreamApp, lines: Lines) -> None:
    for _ in range(MORE):
        await connect(app)

    assert len([line for line in lines() if "is still there" in line.getMessage()]) == LINES


async def test_negotiates_that_fail_are_limited(app: UpstreamApp, lines: Lines) -> None:
    for _ in range(MORE):
        assert (await post(app, {}, path="/chat/negotiate")).status_code == 500

    assert [(line.levelno, bool(line.exc_info)) for line in lines()] == [(logging.ERROR, True)] * LINES


async def test_the_test_kit_hears_of_every_failure() -> None:
    hub = Hub("chat")

    @hub.on("fail")
    async def fail(ctx: Context) -> None:
        raise RuntimeError("broken")

    app = UpstreamApp(hub)
    async with HubTester(app) as tester:
        ann = await tester.connect("ann")
        for _ in range(MORE):
            with pytest.raises(HandlerFailedError):
                await ann.invoke("fail")
    assert LineLimits.listeners == 0
