"""Time limits of handlers, and threads, which cannot be stopped."""

import asyncio
import threading
from typing import Any

import anyio.to_thread
import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.streams import MASKED

from ..support import CONNECTION_STRING, call_headers, detail, invocation, invoke, post, send, serve

pytestmark = pytest.mark.anyio


async def until_free(app: UpstreamApp, *arguments: Any) -> None:
    """Wait until a thread that has no more to do gives its place back."""
    while (await post(app, call_headers("go"), invocation("go", *arguments))).status_code == 503:  # noqa: ASYNC110
        await asyncio.sleep(0)


# --- time ---


async def test_a_handler_over_its_time_limit_is_ended_and_its_caller_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def go(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(ctx.event)

    app = serve(go, handler_timeout=0.02)

    assert (await invoke(app, "go"))["error"] == TIMED_OUT
    assert (await send(app, "go")).status_code == 204
    assert ended == ["go", "go"]
    assert caplog.text.count("time limit") == 2


async def test_a_time_out_of_the_handlers_own_is_not_taken_for_ours() -> None:
    async def go(ctx: Context) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    assert (await invoke(serve(go), "go"))["error"] == MASKED


async def test_expire_calls_answers_what_still_runs_like_a_time_out() -> None:
    entered = asyncio.Event()
    may_end = asyncio.Event()

    async def go(ctx: Context) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()

    app = serve(go)
    call = asyncio.create_task(invoke(app, "go"))
    await entered.wait()

    app.expire_calls()
    await asyncio.sleep(0)
    app.expire_calls()  # while the handler takes its time to end
    may_end.set()

    assert (await call)["error"] == TIMED_OUT


# --- threads ---


async def test_a_thread_that_outlives_its_time_limit_counts_until_it_ends() -> None:
    release = threading.Event()

    def go(ctx: Context, wait: bool) -> None:
        if wait:
            release.wait()

    app = serve(go, handler_timeout=0.5, max_concurrent_calls=1)
    try:
        assert (await invoke(app, "go", True))["error"] == TIMED_OUT
        answer = await post(app, call_headers("go"), invocation("go", False))
        assert "as many calls" in detail(answer, 503)
    finally:
        release.set()
    await until_free(app, False)


async def test_a_thread_whose_call_is_cancelled_counts_until_it_ends() -> None:
    entered = asyncio.Event()
    release = threading.Event()
    loop = asyncio.get_running_loop()

    def go(ctx: Context) -> None:
        loop.call_soon_threadsafe(entered.set)
        release.wait()

    app = serve(go, max_concurrent_calls=1)
    call = asyncio.create_task(invoke(app, "go"))
    await entered.wait()
    call.cancel()
    try:
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await post(app, call_headers("go"), invocation("go"))).status_code == 503
    finally:
        release.set()
    await until_free(app)


async def test_a_handler_that_no_thread_came_free_for_does_not_count_for_ever() -> None:
    release = threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()
    before = limiter.total_tokens
    limiter.total_tokens = 1
    blocked = asyncio.create_task(anyio.to_thread.run_sync(release.wait))
    while not limiter.borrowed_tokens:  # noqa: ASYNC110
        await asyncio.sleep(0)

    ran: list[int] = []

    def go(ctx: Context) -> None:
        ran.append(1)

    app = serve(go, handler_timeout=0.02, max_concurrent_calls=1)
    try:
        for _ in range(3):
            assert (await invoke(app, "go"))["error"] == TIMED_OUT
    finally:
        release.set()
        await blocked
        limiter.total_tokens = before
    assert ran == []
    assert (await invoke(app, "go"))["result"] is None


def test_a_thread_that_ends_after_its_event_loop_disturbs_nobody() -> None:
    release = threading.Event()
    threads: list[threading.Thread] = []

    def go(ctx: Context) -> None:
        threads.append(threading.current_thread())
        release.wait()

    async def call() -> dict[str, Any]:
        return await invoke(serve(go, handler_timeout=0.02), "go")

    assert asyncio.run(call())["error"] == TIMED_OUT
    release.set()
    threads[0].join(timeout=10)
    assert not threads[0].is_alive()


async def test_a_hub_knows_the_app_that_serves_its_call_also_in_a_thread() -> None:
    hub = Hub("chat")
    apps = [UpstreamApp(hub, connection_string=CONNECTION_STRING) for _ in range(2)]

    @hub.on("go")
    def go(ctx: Context) -> bool:
        return hub.clients is not None

    assert [(await invoke(app, "go"))["result"] for app in apps] == [True, True]
