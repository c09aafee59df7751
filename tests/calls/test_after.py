"""``ctx.after``: work for when the answer has been sent. ``ctx.wait``: awaiting in a plain function."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest

from signalr_upstream import Context, Depends, Hub, HubError, UpstreamApp
from signalr_upstream.calls import after
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.errors import Redeliver
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    Message,
    RestService,
    asgi_scope,
    call_asgi,
    call_headers,
    connect,
    invocation,
    invoke,
    post,
    send,
    serve,
)

pytestmark = pytest.mark.anyio


class Notes:
    """What happened, in order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def later(self, text: str) -> None:
        self.lines.append(text)

    def in_thread(self, text: str) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.lines.append(text)


# --- when ---


async def test_work_begins_when_the_whole_answer_has_been_sent() -> None:
    notes = Notes()

    async def go(ctx: Context) -> str:
        ctx.after(notes.later, "work")
        notes.lines.append("handler")
        return "done"

    app = serve(go)
    body = invocation("go")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def slow_send(message: Message) -> None:
        await asyncio.sleep(0)  # as a middleware may: others come to run
        notes.lines.append(message["type"])

    await app(asgi_scope(call_headers("go")), receive, slow_send)
    await app.drain()

    assert notes.lines == ["handler", "http.response.start", "http.response.body", "work"]


async def test_the_work_of_a_call_is_done_in_its_order() -> None:
    notes = Notes()

    async def adds_more(ctx: Context) -> None:
        notes.lines.append("3")
        ctx.after(notes.later, "4")

    def go(ctx: Context) -> None:
        ctx.after(notes.in_thread, "1")
        ctx.after(functools.partial(notes.later, "2"))
        ctx.after(adds_more, ctx)

    app = serve(go)
    await invoke(app, "go")
    await app.drain()

    assert notes.lines == ["1", "2", "3", "4"]


async def test_what_a_plain_function_gives_is_awaited() -> None:
    service = RestService()

    async def go(ctx: Context) -> None:
        ctx.after(lambda: ctx.clients.all.send("news"))

    app = serve(go, http_client=service.client)
    await invoke(app, "go")
    await app.drain()

    assert service.lines == ["POST chat.service.signalr.net/api/hubs/chat/:send"]


async def test_work_knows_the_app_of_its_call() -> None:
    hub = Hub("chat")
    service = RestService()

    async def news() -> None:
        await hub.clients.all.send("news")

    @hub.on("go")
    async def go(ctx: Context) -> None:
        ctx.after(news)

    apps = [
        UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client) for _ in range(2)
    ]
    await invoke(apps[0], "go")
    await apps[0].drain()

    assert len(service.requests) == 1


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_function_that_was_called_already_is_refused_at_once(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    notes = Notes()

    async def go(ctx: Context) -> None:
        given: Any = notes.later("x") if is_async else None
        ctx.after(given)  # what is to be found

    assert (await invoke(serve(go), "go"))["error"] == MASKED

    name = "later" if is_async else "function"
    told = f"give the function and its arguments, without calling it: ctx.after({name}, ...)"
    assert told in caplog.text
    assert "ctx.after(given)  # what is to be found" in caplog.text


async def test_one_worker_works_behind_so_many_answers_and_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(after, "MAX_AFTER", 2)
    notes, released = Notes(), asyncio.Event()

    async def more(ctx: Context) -> None:
        ctx.after(notes.later, "of work that had begun")

    async def go(ctx: Context) -> str:
        ctx.after(released.wait)
        ctx.after(more, ctx)
        return "done"

    app = serve(go)
    answers = [await invoke(app, "go") for _ in range(3)]
    released.set()
    await app.drain()

    assert [answer.get("result") for answer in answers] == ["done", "done", None]
    assert answers[2]["error"] == "The server has as much work behind answers as it takes; try again later."
    assert caplog.messages == ["work behind 2 answers is under way: calls that leave more are refused"]
    assert notes.lines == ["of work that had begun"] * 2
    assert (await invoke(app, "go"))["result"] == "done"
    await app.drain()


async def test_connection_events_leave_work_too() -> None:
    notes = Notes()
    hub = Hub("chat")

    @hub.on("connected")
    async def connected(ctx: Context) -> None:
        ctx.after(notes.later, "work")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    await connect(app)
    await app.drain()

    assert notes.lines == ["work"]


async def test_work_that_fails_is_logged_and_the_rest_is_done(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()

    async def fails() -> None:
        raise ValueError("hunter2")

    async def go(ctx: Context) -> str:
        ctx.after(fails)
        ctx.after(notes.later, "the rest")
        return "done"

    app = serve(go)
    assert (await invoke(app, "go"))["result"] == "done"
    await app.drain()

    assert notes.lines == ["the rest"]
    assert "work behind the answer of <Context 'chat/messages/go'" in caplog.text
    assert "hunter2" in caplog.text


async def test_work_that_awaits_what_was_cancelled_is_logged_and_the_rest_is_done(
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes = Notes()

    async def awaits_what_was_cancelled() -> None:
        task = asyncio.create_task(notes.later("never"))
        task.cancel()
        await task

    async def go(ctx: Context) -> None:
        ctx.after(awaits_what_was_cancelled)
        ctx.after(notes.later, "the rest")

    app = serve(go)
    await invoke(app, "go")
    await app.drain()

    assert notes.lines == ["the rest"]
    assert "work behind the answer of <Context 'chat/messages/go'" in caplog.text


# --- with which answers ---


@pytest.mark.parametrize(
    ("error", "runs"), [(HubError("no"), True), (ValueError(), True), (Redeliver(), False)]
)
async def test_work_is_done_behind_an_error_but_not_for_a_call_that_comes_again(
    error: Exception, runs: bool
) -> None:
    notes = Notes()

    async def go(ctx: Context) -> None:
        ctx.after(notes.later, "work")
        raise error

    app = serve(go)
    await post(app, call_headers("go"), invocation("go"))
    await app.drain()

    assert notes.lines == ["work"] * runs


@pytest.mark.parametrize("order", ["tea", "what cannot be saved"])
async def test_what_a_dependency_leaves_behind_its_commit_is_done_only_if_that_worked(order: str) -> None:
    notes = Notes()

    async def saved(ctx: Context) -> AsyncIterator[list[str]]:
        orders: list[str] = []
        yield orders
        if orders != ["tea"]:
            raise HubError("not saved")
        ctx.after(notes.later, "mail")

    async def go(ctx: Context, orders: Annotated[list[str], Depends(saved)], order: str) -> None:
        orders.append(order)
        ctx.after(notes.later, "handler")

    app = serve(go)
    answer = await invoke(app, "go", order)
    await app.drain()

    assert notes.lines == (["handler", "mail"] if order == "tea" else ["handler"])
    assert answer.get("error") == (None if order == "tea" else "not saved")


async def test_work_is_done_when_the_time_limit_has_passed_and_when_nobody_waits() -> None:
    notes = Notes()

    async def go(ctx: Context, seconds: float) -> None:
        ctx.after(notes.later, "work")
        await asyncio.sleep(seconds)

    app = serve(go, handler_timeout=0.02)
    assert (await invoke(app, "go", 60))["error"] == TIMED_OUT
    assert (await send(app, "go", 0)).status_code == 204
    await app.drain()

    assert notes.lines == ["work", "work"]


async def test_work_is_done_although_the_answer_cannot_be_delivered() -> None:
    notes = Notes()

    async def go(ctx: Context) -> None:
        ctx.after(notes.later, "work")

    async def receive() -> Message:
        return {"type": "http.request", "body": invocation("go"), "more_body": False}

    async def broken(message: Message) -> None:
        raise OSError("the socket is closed")

    app = serve(go)
    with pytest.raises(OSError, match="closed"):
        await app(asgi_scope(call_headers("go")), receive, broken)
    await app.drain()

    assert notes.lines == ["work"]


async def test_who_hung_up_before_the_body_was_there_leaves_nothing() -> None:
    async def go(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    assert await call_asgi(serve(go), asgi_scope(call_headers("go")), receive) == []


# --- the end of the app ---


async def run_lifespan(app: UpstreamApp, during: Callable[[], Awaitable[Any]]) -> None:
    """Run the app's lifespan as a server does."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    started = asyncio.Event()

    async def send_(message: Message) -> None:
        assert "failed" not in message["type"], message
        started.set()

    serving = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, incoming.get, send_))
    await incoming.put({"type": "lifespan.startup"})
    await started.wait()
    await during()
    await incoming.put({"type": "lifespan.shutdown"})
    await serving


async def test_a_shutdown_waits_for_work_while_what_it_needs_is_still_there() -> None:
    notes = Notes()
    hub = Hub("chat")

    @asynccontextmanager
    async def lifespan(_: UpstreamApp) -> AsyncIterator[None]:
        yield
        notes.lines.append("the database is closed")

    async def slow() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        notes.lines.append("work is done")

    @hub.on("go")
    async def go(ctx: Context) -> None:
        ctx.after(slow)

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, lifespan=lifespan)
    await run_lifespan(app, lambda: invoke(app, "go"))

    assert notes.lines == ["work is done", "the database is closed"]


async def test_work_that_takes_too_long_is_cancelled_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            notes.lines.append("cancelled")

    async def go(ctx: Context) -> None:
        ctx.after(endless)

    app = serve(go)
    await invoke(app, "go")
    await app.drain(patience=0.02)

    assert notes.lines == ["cancelled"]
    assert "1 pieces of work behind answers took too long" in caplog.text


# --- ctx.wait ---


async def test_a_plain_handler_awaits_on_the_event_loop() -> None:
    service = RestService()
    loop = asyncio.get_running_loop()

    async def here() -> bool:
        return asyncio.get_running_loop() is loop

    def go(ctx: Context) -> bool:
        ctx.wait(ctx.clients.all.send("news"))
        return ctx.wait(here())

    app = serve(go, http_client=service.client)

    assert (await invoke(app, "go"))["result"] is True
    assert len(service.requests) == 1


async def test_what_is_awaited_raises_in_the_plain_handler() -> None:
    async def refuse() -> None:
        raise HubError("The room is full.")

    def go(ctx: Context) -> None:
        ctx.wait(refuse())

    assert (await invoke(serve(go), "go"))["error"] == "The room is full."


async def test_an_async_handler_is_told_to_await_instead(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing() -> None: ...

    async def go(ctx: Context) -> None:
        ctx.wait(nothing())

    async def go_with_future(ctx: Context) -> None:
        ctx.wait(asyncio.get_running_loop().create_future())

    for handler in (go, go_with_future):
        assert (await invoke(serve(handler), "go"))["error"] == MASKED
    assert caplog.text.count("use await here") >= 2
