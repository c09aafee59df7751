"""``ctx.clients.caller.invoke``: refused where it could never end, and the ways out."""

import asyncio
from typing import Any, Protocol

import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.local import LocalService

from .support import CONNECTION_STRING, RestService, connect, disconnect, invoke

pytestmark = pytest.mark.anyio


class Client(Protocol):
    async def ask(self) -> int: ...


async def invokes_caller(ctx: Context) -> int:
    return await ctx.clients.caller.invoke("ask", result_type=int)


async def invokes_caller_by_id(ctx: Context) -> int:
    return await ctx.clients.connection(ctx.connection_id).invoke("ask", result_type=int)


async def invokes_caller_untyped(ctx: Context[Client]) -> int:
    return await ctx.clients.untyped.caller.invoke("ask", result_type=int)


async def invokes_caller_typed(ctx: Context[Client]) -> int:
    return await ctx.clients.caller.ask()


async def invokes_another(ctx: Context) -> int:
    return await ctx.clients.connection("c2").invoke("ask", result_type=int)


HANDLERS = [invokes_caller, invokes_caller_by_id, invokes_caller_untyped, invokes_caller_typed]


def app_of(handler: Any, *, event: str = "go", **options: Any) -> tuple[UpstreamApp, RestService]:
    hub: Hub[Any] = Hub("chat", client=Client)
    hub.on(event)(handler)
    service = RestService()
    settings: dict[str, Any] = {"connection_string": CONNECTION_STRING, "http_client": service.client}
    return UpstreamApp(hub, debug=True, **settings, **options), service


@pytest.mark.parametrize("handler", HANDLERS)
async def test_a_handler_that_invokes_its_own_caller_is_stopped_at_once(handler: Any) -> None:
    app, service = app_of(handler)

    answer = await invoke(app, "go")

    assert "a handler cannot invoke its own caller" in answer["error"]
    assert "ctx.after" in answer["error"]
    assert "parallel_invocations=True" in answer["error"]
    assert service.requests == []


async def test_connected_is_a_call_that_the_service_waits_for_too() -> None:
    app, service = app_of(invokes_caller, event="connected")

    assert (await connect(app)).status_code == 403
    assert [line.partition(" ")[0] for line in service.lines] == ["DELETE"]  # the refused connection


async def test_a_caller_that_has_gone_is_invoked_and_not_found() -> None:
    app, service = app_of(invokes_caller, event="disconnected")

    await disconnect(app)

    assert service.lines == ["POST chat.service.signalr.net/api/hubs/chat/connections/c1/:invoke"]


@pytest.mark.parametrize(
    ("handler", "options"), [(invokes_caller, {"parallel_invocations": True}), (invokes_another, {})]
)
async def test_what_can_end_is_sent(handler: Any, options: dict[str, Any]) -> None:
    app, service = app_of(handler, **options)

    await invoke(app, "go")

    assert [line.rpartition("/")[2] for line in service.lines] == [":invoke"]


@pytest.mark.parametrize("handler", HANDLERS)
async def test_it_works_behind_the_answer(handler: Any) -> None:
    answers: asyncio.Queue[int] = asyncio.Queue()

    async def later(ctx: Context) -> None:
        answers.put_nowait(await handler(ctx))

    async def go(ctx: Context) -> None:
        ctx.after(later, ctx)

    app, _ = app_of(go)
    async with LocalService(app, port=None) as service, await service.connect("chat") as ann:
        ann.on("ask", lambda: 5)
        await ann.invoke("go")

        assert await asyncio.wait_for(answers.get(), 5) == 5
