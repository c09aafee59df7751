"""Filters: functions around handlers, of a hub and of the whole app."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest

from signalr_upstream import Context, Depends, Forbidden, Hub, HubError, UpstreamApp
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.errors import ConfigurationError, RegistrationError
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    RestService,
    connect,
    detail,
    disconnect,
    invoke,
    invoke_msgpack,
    send,
)

pytestmark = pytest.mark.anyio

Next = Callable[[], Awaitable[Any]]


def app_of(hub: Hub, **options: Any) -> UpstreamApp:
    return UpstreamApp(hub, **{"connection_string": CONNECTION_STRING, **options})


async def test_a_call_goes_through_every_step_in_the_documented_order() -> None:
    steps: list[str] = []
    hub = Hub("chat")

    def step(name: str) -> Callable[[Context, Next], Awaitable[Any]]:
        async def run(ctx: Context, call_next: Next) -> Any:
            steps.append(name)
            result = await call_next()
            steps.append(f"behind {name}")
            return result

        return run

    def require(ctx: Context) -> bool:
        steps.append("require")
        return True

    async def dependency() -> None:
        steps.append("dependency")

    hub.filter(step("hub filter 1"))
    hub.filter(step("hub filter 2"))

    @hub.on("go", require=require)
    async def go(text: str, _: Annotated[None, Depends(dependency)]) -> str:
        steps.append(f"handler with {text}")
        return "done"

    app = app_of(hub, filters=[step("app filter")])

    assert (await invoke(app, "go", "hi"))["result"] == "done"
    assert steps == [
        "require",
        "app filter",
        "hub filter 1",
        "hub filter 2",
        "dependency",
        "handler with hi",
        "behind hub filter 2",
        "behind hub filter 1",
        "behind app filter",
    ]


async def test_a_filter_of_the_app_runs_for_every_hub_and_one_of_a_hub_only_there() -> None:
    seen: list[str] = []
    one, two = Hub("one"), Hub("two")

    @one.filter
    async def of_one(ctx: Context, call_next: Next) -> Any:
        seen.append(f"one: {ctx.hub}")
        return await call_next()

    async def of_app(ctx: Context, call_next: Next) -> Any:
        seen.append(f"app: {ctx.hub}")
        return await call_next()

    for hub in (one, two):

        @hub.on("go")
        async def go(ctx: Context) -> None: ...

    app = UpstreamApp(one, two, connection_string=CONNECTION_STRING, filters=[of_app])
    await invoke(app, "go", hub="one")
    await invoke(app, "go", hub="two")

    assert seen == ["app: one", "one: one", "app: two"]


# --- what a filter can do ---


async def test_a_filter_changes_the_result() -> None:
    hub = Hub("chat")

    @hub.filter
    async def wrap(ctx: Context, call_next: Next) -> Any:
        return {"wrapped": await call_next()}

    @hub.on("go")
    def go(text: str) -> str:
        return text

    assert (await invoke(app_of(hub), "go", "hi"))["result"] == {"wrapped": "hi"}
    assert (await invoke_msgpack(app_of(hub), "go", "hi"))[4] == {"wrapped": "hi"}


async def test_a_filter_answers_without_the_handler() -> None:
    hub = Hub("chat")

    @hub.filter
    async def cached(ctx: Context, call_next: Next) -> Any:
        return "from the cache"

    @hub.on("go")
    async def go(text: str) -> str:
        raise AssertionError("the handler ran")

    assert (await invoke(app_of(hub), "go"))["result"] == "from the cache"  # no arguments are bound
    assert (await send(app_of(hub), "go")).status_code == 204


async def test_a_filter_tries_twice_with_the_same_dependencies() -> None:
    tries: list[object] = []
    hub = Hub("chat")

    async def dependency() -> object:
        return object()

    @hub.filter
    async def again(ctx: Context, call_next: Next) -> Any:
        try:
            return await call_next()
        except ConnectionError:
            return await call_next()

    @hub.on("go")
    async def go(text: str, value: Annotated[object, Depends(dependency)]) -> str:
        tries.append(value)
        if len(tries) == 1:
            raise ConnectionError
        return text

    assert (await invoke(app_of(hub), "go", "hi"))["result"] == "hi"
    assert len(tries) == 2
    assert tries[0] is tries[1]


@pytest.mark.parametrize(
    ("error", "told"), [(Forbidden("Log in first."), "Log in first."), (ValueError("hunter2"), MASKED)]
)
async def test_a_filter_refuses_by_raising(error: Exception, told: str) -> None:
    hub = Hub("chat")

    @hub.filter
    async def refuse(ctx: Context, call_next: Next) -> Any:
        raise error

    @hub.on("go")
    async def go(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    assert (await invoke(app_of(hub), "go"))["error"] == told


async def test_a_filter_sees_what_the_handler_raises_and_arguments_that_do_not_fit() -> None:
    seen: list[str] = []
    hub = Hub("chat")

    @hub.filter
    async def tell(ctx: Context, call_next: Next) -> Any:
        try:
            return await call_next()
        except HubError as error:
            seen.append(str(error))
            raise HubError("It did not work.") from error

    @hub.on("go")
    async def go(count: int) -> None:
        raise HubError("The room is full.")

    for argument in (1, "x"):
        assert (await invoke(app_of(hub), "go", argument))["error"] == "It did not work."
    assert seen == ["The room is full.", "argument 1 `count`: expected int, got str"]


async def test_a_refusing_require_keeps_the_filters_out() -> None:
    hub = Hub("chat")

    @hub.filter
    async def never(ctx: Context, call_next: Next) -> Any:
        raise AssertionError("the filter ran")

    @hub.on("go", require=lambda ctx: False)
    async def go(ctx: Context) -> None: ...

    assert (await invoke(app_of(hub), "go"))["error"] == str(Forbidden())


async def test_filters_run_for_connection_events_and_refuse_connections() -> None:
    seen: list[str] = []
    hub = Hub("chat")

    @hub.filter
    async def refuse_bob(ctx: Context, call_next: Next) -> Any:
        seen.append(ctx.event)
        if ctx.user_id == "bob":
            raise Forbidden("No bobs.")
        return await call_next()

    @hub.on("connected")
    @hub.on("disconnected")
    async def event(ctx: Context) -> None:
        seen.append(f"handler of {ctx.event}")

    service = RestService()
    app = app_of(hub, http_client=service.client)

    assert (await connect(app, user_id="ann")).status_code == 204
    assert (await disconnect(app, user_id="ann")).status_code == 204
    detail(await connect(app, user_id="bob"), 403)
    assert (await disconnect(app, user_id="bob")).status_code == 204
    assert seen == [
        "connected",
        "handler of connected",
        "disconnected",
        "handler of disconnected",
        "connected",
        "disconnected",
    ]
    assert service.lines == ["DELETE chat.service.signalr.net/api/hubs/chat/connections/c1"]
    assert service.requests[0].url.params["reason"] == "No bobs."


async def test_the_time_limit_counts_for_filters() -> None:
    hub = Hub("chat")

    @hub.filter
    async def slow(ctx: Context, call_next: Next) -> Any:
        await asyncio.Event().wait()

    @hub.on("go", timeout=0.02)
    async def go(ctx: Context) -> None: ...

    assert (await invoke(app_of(hub), "go"))["error"] == TIMED_OUT


# --- refusals at registration ---


def plain(ctx: Context, call_next: Next) -> Any: ...


async def of_one_parameter(ctx: Context) -> Any: ...


async def of_three_parameters(ctx: Context, call_next: Next, more: int) -> Any: ...


@pytest.mark.parametrize("function", [plain, of_one_parameter, of_three_parameters])
def test_what_could_never_be_a_filter_is_refused_with_its_place(function: Any) -> None:
    for register in (Hub("chat").filter, lambda function: app_of(Hub("chat"), filters=[function])):
        with pytest.raises(RegistrationError, match=r"async function of \(ctx, call_next\)") as refused:
            register(function)
        assert f"{function.__name__} ({__file__}:" in str(refused.value)
        assert isinstance(refused.value, ConfigurationError)


def test_registering_a_filter_gives_the_function_back() -> None:
    async def run(ctx: Context, call_next: Next) -> Any: ...

    assert Hub("chat").filter(run) is run
