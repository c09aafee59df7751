"""``ctx.stream_to_caller``: what its client is sent, in every way a stream can end."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from signalr_upstream import Context, HubError
from signalr_upstream.errors import NotFoundError
from signalr_upstream.protocol.rest import ERROR_CODE_HEADER
from signalr_upstream.streams import MASKED

from .support import RestService, invoke, serve

pytestmark = pytest.mark.anyio


class Source:
    """Three items, and then what ``error`` says; knows whether it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.given = 0
        self.closed = False

    async def items(self) -> AsyncIterator[str]:
        try:
            for item in ("a", "b", "c"):
                self.given += 1
                yield item
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def sent(service: RestService) -> list[list[Any]]:
    for request in service.requests:
        assert request.url.path == "/api/hubs/chat/connections/c1/:send"
        assert json.loads(request.content)["target"] == "token"
    return [json.loads(request.content)["arguments"] for request in service.requests]


async def run(source: Source, service: RestService, **options: Any) -> dict[str, Any]:
    async def go(ctx: Context) -> bool:
        return await ctx.stream_to_caller("token", source.items(), **options)

    return await invoke(serve(go, http_client=service.client), "go")


def gone_after(sends: int, code: str) -> RestService:
    answers = iter([httpx.Response(202)] * sends)
    return RestService(
        lambda _: next(answers, httpx.Response(404, headers={ERROR_CODE_HEADER: code} if code else {}))
    )


async def test_items_are_numbered_and_end() -> None:
    source, service = Source(), RestService()

    answer = await run(source, service, stream_id="s1")

    assert sent(service) == [
        ["s1", 0, "item", "a"],
        ["s1", 1, "item", "b"],
        ["s1", 2, "item", "c"],
        ["s1", 3, "end", None],
    ]
    assert answer["result"] is True
    assert source.closed


async def test_streams_have_ids_of_their_own() -> None:
    service = RestService()

    await run(Source(), service)
    await run(Source(), service)

    ids = [arguments[0] for arguments in sent(service)]
    assert len(set(ids)) == 2
    assert ids[0] == ids[3]


@pytest.mark.parametrize(
    ("error", "told"), [(HubError("no more tokens"), "no more tokens"), (ValueError("secret"), MASKED)]
)
async def test_an_error_ends_the_stream_and_the_call(error: Exception, told: str) -> None:
    source, service = Source(error), RestService()

    answer = await run(source, service, stream_id="s1")

    assert sent(service)[3:] == [["s1", 3, "error", told]]
    assert answer["error"] == told


@pytest.mark.parametrize("item", [object(), "x" * 1024 * 1024], ids=["no JSON", "too large"])
async def test_an_item_that_cannot_be_sent_ends_the_stream_and_its_client_knows(item: object) -> None:
    service = RestService()

    async def items() -> AsyncIterator[object]:
        yield "a"
        yield item

    async def go(ctx: Context) -> bool:
        return await ctx.stream_to_caller("token", items(), stream_id="s1")

    answer = await invoke(serve(go, http_client=service.client), "go")

    assert sent(service) == [["s1", 0, "item", "a"], ["s1", 1, "error", MASKED]]
    assert answer["error"] == MASKED


async def test_it_stops_when_the_caller_is_gone() -> None:
    source, service = Source(), gone_after(1, "Warning.Connection.NotExisted")

    answer = await run(source, service)

    assert len(service.requests) == 2
    assert (source.given, source.closed) == (2, True)
    assert answer["result"] is False


async def test_a_404_that_is_not_about_the_caller_is_an_error() -> None:
    source, failures = Source(), []

    async def go(ctx: Context) -> None:
        try:
            await ctx.stream_to_caller("token", source.items())
        except NotFoundError as error:
            failures.append(error)

    await invoke(serve(go, http_client=gone_after(0, "").client), "go")

    assert len(failures) == 1
    assert source.closed


async def test_a_send_that_fails_ends_the_stream() -> None:
    source, failures = Source(), []
    service = RestService(lambda _: httpx.Response(400))

    async def go(ctx: Context) -> None:
        try:
            await ctx.stream_to_caller("token", source.items())
        except Exception as error:
            failures.append(type(error).__name__)

    await invoke(serve(go, http_client=service.client), "go")

    assert failures == ["InvalidRequestError"]
    assert len(service.requests) == 1
    assert (source.given, source.closed) == (1, True)


async def test_one_item_is_under_way_at_a_time() -> None:
    at_once, most = 0, 0

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1
        return httpx.Response(202)

    async def go(ctx: Context) -> None:
        await ctx.stream_to_caller("token", Source().items())

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    await invoke(serve(go, http_client=client), "go")

    assert most == 1


async def test_the_time_limit_closes_what_is_streamed() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def go(ctx: Context) -> None:
        await ctx.stream_to_caller("token", endless(), stream_id="s1")

    service = RestService()
    await invoke(serve(go, http_client=service.client, handler_timeout=0.05), "go")

    assert closed.is_set()
    assert sent(service) == [["s1", 0, "item", 1]]


class Countdown:
    """An async iterator without ``aclose``."""

    def __init__(self) -> None:
        self.left = 2

    def __aiter__(self) -> "Countdown":
        return self

    async def __anext__(self) -> int:
        if self.left == 0:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


async def test_any_async_iterator_can_be_streamed_also_behind_the_answer() -> None:
    service = RestService()
    ended = asyncio.Event()

    async def stream(ctx: Context) -> None:
        await ctx.stream_to_caller("token", Countdown(), stream_id="s1")
        ended.set()

    async def go(ctx: Context) -> str:
        ctx.after(stream, ctx)
        return "s1"

    assert (await invoke(serve(go, http_client=service.client), "go"))["result"] == "s1"
    await asyncio.wait_for(ended.wait(), 5)

    assert sent(service) == [["s1", 0, "item", 1], ["s1", 1, "item", 0], ["s1", 2, "end", None]]
