"""The local service delivers calls twice, on purpose and because an answer was lost; the app runs them once."""

import pytest
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.duplicates import Duplicates
from signalr_upstream.local import LocalService

pytestmark = pytest.mark.anyio


class LosesAnswers:
    """A proxy that says 502 once to each kind of call, when its app has done the work."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._lost: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._lost:
            await self.app(scope, receive, send)
            return

        async def keep(_: Message) -> None: ...

        await self.app(scope, receive, keep)
        self._lost.add(scope["path"])
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Counting:
    """An app that counts what it is asked to do."""

    def __init__(self, duplicates: Duplicates | None, *middleware: Middleware) -> None:
        self.runs: list[str] = []
        hub = Hub("chat")

        @hub.on("connected")
        async def connected(ctx: Context) -> None:
            self.runs.append("connected")

        @hub.on("buy")
        async def buy(ctx: Context, what: str) -> int:
            self.runs.append(what)
            return self.runs.count(what)

        self.app = UpstreamApp(hub, duplicates=duplicates, middleware=middleware)


async def test_events_that_are_delivered_twice_run_once() -> None:
    counting = Counting(Duplicates())
    async with LocalService(counting.app, port=None) as service:
        service.faults.upstream_duplicate = True
        client = await service.connect("chat")

        assert await client.invoke("buy", "tea") == 1

    assert counting.runs == ["connected", "tea"]
    assert len([call for call in service.upstream_calls if call.event == "buy"]) == 2


async def test_without_the_option_they_run_twice() -> None:
    counting = Counting(None)
    async with LocalService(counting.app, port=None) as service:
        service.faults.upstream_duplicate = True
        client = await service.connect("chat")

        assert await client.invoke("buy", "tea") == 2

    assert counting.runs == ["connected", "connected", "tea", "tea"]


async def test_a_call_whose_answer_was_lost_is_tried_again_and_runs_once() -> None:
    counting = Counting(Duplicates(), Middleware(LosesAnswers))
    async with LocalService(counting.app, port=None, retry_upstream=True) as service:
        client = await service.connect("chat")

        assert await client.invoke("buy", "tea") == 1

    assert counting.runs == ["connected", "tea"]
    assert [call.status for call in service.upstream_calls if call.event == "buy"] == [502, 200]
