"""Time limits of single handlers, and handlers that end with their caller."""

import asyncio
import threading
from typing import Annotated

import pytest

from signalr_upstream import Context, Depends, Hub, UpstreamApp
from signalr_upstream.calls import running
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    Message,
    asgi_scope,
    call_asgi,
    call_headers,
    detail,
    invocation,
    invoke,
    post,
)

pytestmark = pytest.mark.anyio


# --- limits ---


async def test_a_handler_has_a_time_limit_of_its_own() -> None:
    hub = Hub("chat")

    @hub.on("short", timeout=0.02)
    async def short(ctx: Context) -> None:
        await asyncio.Event().wait()

    @hub.on("long", timeout=60)
    async def long(ctx: Context) -> str:
        await asyncio.sleep(0.05)
        return "done"

    @hub.on("other")
    async def other(ctx: Context) -> None:
        await asyncio.Event().wait()

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, handler_timeout=0.03)

    assert (await invoke(app, "short"))["error"] == TIMED_OUT
    assert (await invoke(app, "long"))["result"] == "done"
    assert (await invoke(app, "other"))["error"] == TIMED_OUT


async def test_a_dependency_in_a_thread_that_outlives_its_call_counts_until_it_ends() -> None:
    release = threading.Event()
    hub = Hub("chat")

    def slow(ctx: Context) -> None:
        if ctx.arguments[0]:
            release.wait()

    @hub.on("go", timeout=0.05)
    async def go(wait: bool, _: Annotated[None, Depends(slow)]) -> None: ...

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, max_concurrent_calls=1)
    try:
        assert (await invoke(app, "go", True))["error"] == TIMED_OUT
        assert "as many calls" in detail(await post(app, call_headers("go"), invocation("go", False)), 503)
    finally:
        release.set()
    while (await post(app, call_headers("go"), invocation("go", False))).status_code == 503:  # noqa: ASYNC110
        await asyncio.sleep(0)


# --- cancel_on_disconnect ---


class Caller:
    """One that posts a call, and hangs up when the test says so."""

    def __init__(self, body: bytes = b"") -> None:
        self.hung_up = asyncio.Event()
        self.asked = 0  # how often the app has asked for news behind the body
        self._body: list[Message] = [
            {"type": "http.request", "body": body or invocation("go"), "more_body": False},
        ]

    async def receive(self) -> Message:
        if self._body:
            return self._body.pop()
        self.asked += 1
        if self.asked == 1:
            return {"type": "http.request", "body": b"", "more_body": False}  # no news
        await self.hung_up.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(autouse=True)
def watched_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "WATCH_AFTER", 0.01)


class Work:
    """A handler that waits, and whether it came to its end."""

    def __init__(self, *, cancel: bool = True, event: str = "go", timeout: float = 30) -> None:
        self.entered = asyncio.Event()
        self.may_end = asyncio.Event()
        self.ended = ""
        self.after = asyncio.Event()
        hub = Hub("chat")

        @hub.on(event, cancel_on_disconnect=cancel, timeout=timeout)
        async def go(ctx: Context) -> str:
            ctx.after(self.after.set)
            self.entered.set()
            try:
                await self.may_end.wait()
                self.ended = "finished"
            except asyncio.CancelledError:
                self.ended = "cancelled"
                raise
            return self.ended

        self.app = UpstreamApp(hub, connection_string=CONNECTION_STRING)


@pytest.mark.parametrize(("event", "body"), [("go", b""), ("connected", b'{"type":10}')])
async def test_a_handler_that_asked_for_it_is_cancelled_when_its_caller_hangs_up(
    event: str, body: bytes
) -> None:
    work = Work(event=event)
    caller = Caller(body)
    call = asyncio.create_task(call_asgi(work.app, asgi_scope(call_headers(event)), caller.receive))
    await work.entered.wait()
    assert not call.done()

    caller.hung_up.set()
    sent = await call

    assert work.ended == "cancelled"
    assert sent[0]["status"] == 204  # which nobody reads
    await work.app.drain()
    assert not work.after.is_set()  # nothing was answered


async def test_other_handlers_finish_although_their_caller_hangs_up() -> None:
    work = Work(cancel=False)
    caller = Caller()
    caller.hung_up.set()
    call = asyncio.create_task(call_asgi(work.app, asgi_scope(call_headers("go")), caller.receive))
    await work.entered.wait()
    work.may_end.set()
    sent = await call

    assert work.ended == "finished"
    assert caller.asked == 0
    assert b'"result":"finished"' in sent[1]["body"]


async def test_a_caller_is_watched_only_when_the_handler_takes_long() -> None:
    work = Work()
    work.may_end.set()
    caller = Caller()

    sent = await call_asgi(work.app, asgi_scope(call_headers("go")), caller.receive)

    assert b'"result":"finished"' in sent[1]["body"]
    assert caller.asked == 0


async def test_a_handler_that_is_watched_answers() -> None:
    work = Work()
    caller = Caller()
    call = asyncio.create_task(call_asgi(work.app, asgi_scope(call_headers("go")), caller.receive))
    while caller.asked < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    work.may_end.set()
    sent = await call

    assert b'"result":"finished"' in sent[1]["body"]
    await work.app.drain()
    assert work.after.is_set()


async def test_what_a_watched_handler_raises_is_its_answer() -> None:
    hub = Hub("chat")

    @hub.on("go", cancel_on_disconnect=True)
    async def go(ctx: Context) -> None:
        raise ValueError("hunter2")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert (await invoke(app, "go"))["error"] == MASKED


async def test_a_watched_handler_has_its_time_limit() -> None:
    work = Work(timeout=0.05)
    caller = Caller()

    sent = await call_asgi(work.app, asgi_scope(call_headers("go")), caller.receive)

    assert work.ended == "cancelled"
    assert TIMED_OUT.encode() in sent[1]["body"]


async def test_a_handler_that_fails_as_it_is_cancelled_disturbs_nobody() -> None:
    entered = asyncio.Event()
    hub = Hub("chat")

    @hub.on("go", cancel_on_disconnect=True)
    async def go(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("hunter2")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    caller = Caller()
    call = asyncio.create_task(call_asgi(app, asgi_scope(call_headers("go")), caller.receive))
    await entered.wait()
    caller.hung_up.set()

    assert (await call)[0]["status"] == 204
