"""The rows of the error table from the handler on: results, refusals, failures, time limits."""

import asyncio
import logging

import pytest

from signalr_upstream import Context, Forbidden, Hub, HubError, UpstreamApp, role
from signalr_upstream.calls.line_limits import LINES
from signalr_upstream.errors import Redeliver
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    call_headers,
    detail,
    invocation,
    invoke,
    invoke_msgpack,
    post,
    send,
    serve,
)

pytestmark = pytest.mark.anyio

SECRET = "the password is hunter2"


# --- results ---


@pytest.mark.parametrize("result", [None, "text", 0, False, [], {"a": [1.5, None]}])
async def test_a_result_resolves_the_callers_invoke(result: object) -> None:
    async def in_loop(ctx: Context) -> object:
        return result

    def in_thread(ctx: Context) -> object:
        return result

    for handler in (in_loop, in_thread):
        app = serve(handler)
        assert await invoke(app, "go") == {"type": 3, "invocationId": "1", "result": result}
        assert await invoke_msgpack(app, "go") == [3, {}, "1", 3, result]
        assert (await send(app, "go")).status_code == 204


async def test_a_result_is_framed_byte_for_byte_as_the_specification_says() -> None:
    async def add(ctx: Context, a: int, b: int) -> int:
        return a + b

    app = serve(add)

    # HubProtocol.md, "Completion Message Encoding", JSON and MessagePack.
    answer = await post(
        app, call_headers("go"), b'{"type":1,"invocationId":"123","target":"go","arguments":[40,2]}'
    )
    assert answer.content == b'{"type":3,"invocationId":"123","result":42}\x1e'
    headers = call_headers("go", content_type="application/x-msgpack")
    answer = await post(app, headers, b"\x96\x01\x80\xa3xyz\xa2go\x92\x28\x02\x90")
    assert answer.content == b"\x09\x95\x03\x80\xa3xyz\x03\x2a"


async def test_who_does_not_wait_gets_204_and_an_empty_body() -> None:
    async def go(ctx: Context) -> str:
        return "nobody reads this"

    for invocation_id in (None, ""):
        answer = await post(serve(go), call_headers("go"), invocation("go", invocation_id=invocation_id))
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("result", [object(), {1, object()}, "\ud800", {"k": object()}])
async def test_a_result_that_cannot_be_encoded_is_masked_and_logged(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def go(ctx: Context) -> object:
        return result

    app = serve(go)

    assert (await invoke(app, "go"))["error"] == MASKED
    assert (await invoke_msgpack(app, "go"))[3:] == [1, MASKED]
    assert len(caplog.records) == 2
    assert (await send(app, "go")).status_code == 204


# --- handlers that fail ---


async def test_a_hub_error_reaches_the_caller() -> None:
    async def go(ctx: Context) -> None:
        raise HubError("The room is full. é")

    app = serve(go)

    assert await invoke(app, "go") == {"type": 3, "invocationId": "1", "error": "The room is full. é"}
    assert await invoke_msgpack(app, "go") == [3, {}, "1", 1, "The room is full. é"]


async def test_a_hub_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def go(ctx: Context) -> None:
        raise HubError("The room is full.")

    assert (await send(serve(go), "go")).status_code == 204
    assert "The room is full." in caplog.text


async def test_of_hub_errors_that_nobody_waits_for_a_few_a_minute_are_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def go(ctx: Context) -> None:
        raise HubError("no")

    app = serve(go)
    with caplog.at_level(logging.DEBUG, "signalr_upstream"):
        for _ in range(LINES + 5):
            await send(app, "go")

    lines = [r for r in caplog.records if "does not wait" in r.getMessage()]
    assert [r.levelno for r in lines] == [logging.WARNING] * LINES + [logging.DEBUG] * 5


@pytest.mark.parametrize(("text", "told"), [("", MASKED), ("a\ud800b", "a?b"), ('"\x1e\n', '"\x1e\n')])
async def test_any_text_of_a_hub_error_makes_an_answer(text: str, told: str) -> None:
    async def go(ctx: Context) -> None:
        raise HubError(text)

    assert (await invoke(serve(go), "go"))["error"] == told
    assert (await invoke_msgpack(serve(go), "go"))[4] == told


class OddError(Exception):
    def __str__(self) -> str:
        return SECRET


@pytest.mark.parametrize(
    "error", [ValueError(SECRET), OddError(), ExceptionGroup(SECRET, [OSError()]), StopIteration(1)]
)
async def test_any_other_exception_is_masked_and_logged_with_its_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def in_loop(ctx: Context) -> None:
        raise error

    def in_thread(ctx: Context) -> None:
        raise error

    for handler in (in_loop, in_thread):
        caplog.clear()
        app = serve(handler)
        assert (await invoke(app, "go"))["error"] == MASKED
        assert (await invoke_msgpack(app, "go"))[4] == MASKED
        assert (await send(app, "go")).status_code == 204
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3
        assert all(record.exc_info for record in caplog.records)


async def test_debug_sends_the_text_of_any_exception() -> None:
    async def go(ctx: Context) -> None:
        raise ValueError("a\ud800b")

    assert (await invoke(serve(go, debug=True), "go"))["error"] == "ValueError: a?b"


async def test_a_handler_that_awaits_what_was_cancelled_is_masked_like_any_failure() -> None:
    async def go(ctx: Context) -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    assert (await invoke(serve(go), "go"))["error"] == MASKED


async def test_the_end_of_the_servers_patience_is_no_error_of_the_handler() -> None:
    entered = asyncio.Event()

    async def go(ctx: Context) -> None:
        entered.set()
        await asyncio.Event().wait()

    call = asyncio.create_task(invoke(serve(go), "go"))
    await entered.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize("event", ["go", "connected", "disconnected"])
async def test_redeliver_asks_the_service_for_the_call_once_more(event: str) -> None:
    hub = Hub("chat")

    @hub.on(event)
    async def handler(ctx: Context) -> None:
        raise Redeliver("the database restarts")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    bodies = {"go": invocation("go"), "connected": b'{"type":10}', "disconnected": b'{"Type":11}'}

    answer = await post(app, call_headers(event), bodies[event])

    assert "again" in detail(answer, 503)
    assert answer.headers["retry-after"] == "1"
    assert "database" not in answer.text


async def test_arguments_that_do_not_fit_are_told_by_name_and_logged_only_if_nobody_hears_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def go(ctx: Context, room: str, count: int) -> None:
        raise AssertionError("the handler ran")

    app = serve(go)

    assert (await invoke(app, "go", "lobby", SECRET))["error"] == "argument 2 `count`: expected int, got str"
    assert caplog.records == []
    assert (await send(app, "go", "lobby", SECRET)).status_code == 204
    assert "argument 2 `count`" in caplog.text
    assert SECRET not in caplog.text


# --- the call log ---


async def test_every_call_is_logged_at_debug_and_none_above(caplog: pytest.LogCaptureFixture) -> None:
    async def go(ctx: Context, text: str) -> str:
        return text

    app = serve(go)
    caplog.set_level(logging.INFO, "signalr_upstream")
    await invoke(app, "go", SECRET, user_id=SECRET)
    assert caplog.records == []

    caplog.set_level(logging.DEBUG, "signalr_upstream")
    await invoke(app, "go", SECRET, user_id=SECRET)
    await send(app, "go", SECRET)

    lines = [record.getMessage() for record in caplog.records if record.name == "signalr_upstream"]
    assert [line.partition(" in ")[0] for line in lines] == [
        "<Context 'chat/messages/go' connection='c1'> answered 200",
        "<Context 'chat/messages/go' connection='c1'> answered 204",
    ]
    assert SECRET not in caplog.text


# --- require= ---


async def test_a_refusing_require_is_told_and_the_handler_does_not_run() -> None:
    async def go(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    app = serve(go, require=lambda ctx: False)

    assert (await invoke(app, "go"))["error"] == str(Forbidden())
    assert (await invoke(app, "go", "too", "many"))["error"] == str(
        Forbidden()
    )  # before the arguments are bound
    assert (await send(app, "go")).status_code == 204


async def test_require_decides_by_the_context() -> None:
    async def go(ctx: Context) -> str:
        return "done"

    app = serve(go, require=lambda ctx: ctx.user_id == "ann" and ctx.arguments == ())

    assert (await invoke(app, "go", user_id="ann"))["result"] == "done"
    assert "error" in await invoke(app, "go", user_id="bob")


async def test_a_require_whose_answer_is_no_bool_refuses() -> None:
    ran: list[Context] = []

    async def go(ctx: Context) -> None:
        ran.append(ctx)

    # What role gives is true, and was not asked.
    app = serve(go, require=lambda ctx: role("admin"))  # type: ignore[arg-type, return-value]

    assert (await invoke(app, "go"))["error"] == MASKED
    assert ran == []


async def test_a_require_that_raises_refuses() -> None:
    async def go(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    def broken(ctx: Context) -> bool:
        raise KeyError(SECRET)

    assert (await invoke(serve(go, require=broken), "go"))["error"] == MASKED
