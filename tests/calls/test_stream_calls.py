"""Async generators that answer a client's ``stream()``, each with every way it can end."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from msgspec import Struct

from signalr_upstream import Context, Depends, Forbidden, Hub, HubError, UpstreamApp
from signalr_upstream.calls import stream_calls
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService
from signalr_upstream.protocol.rest import CONNECTION_NOT_FOUND, ERROR_CODE_HEADER, STREAM_GONE
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    MESSAGEPACK,
    RestService,
    call_headers,
    completion,
    disconnect,
    invoke,
    post,
    send,
    serve,
)

pytestmark = pytest.mark.anyio

OPTIONS: dict[str, Any] = {"experimental_streams": True}
LOCAL: dict[str, Any] = {"port": None, "experimental_streams": True}


class Probe:
    """A generator that gives 1 and 2 and then waits; knows what has become of it."""

    def __init__(self, *, waits: bool = True) -> None:
        self.waits = waits
        self.closed = asyncio.Event()

    async def count(self, ctx: Context) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
            if self.waits:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


async def begin_stream(app: UpstreamApp, *arguments: Any, **options: Any) -> httpx.Response:
    """Call ``go`` as a JSON client's ``stream()``: HubProtocol.md, "StreamInvocation Message Encoding"."""
    body = {"type": 4, "invocationId": "7", "target": "go", "arguments": arguments}
    return await post(app, call_headers("go", **options), json.dumps(body).encode())


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until ``condition`` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


async def ended(service: RestService) -> None:
    """Wait until the app has completed a stream."""
    await until(lambda: any(line.endswith(":complete") for line in service.lines))


def told(service: RestService) -> list[tuple[str, Any]]:
    """What the client hears: items, and how it ends."""
    start = "/api/hubs/chat/connections/c1/streams/7/:"
    heard: list[tuple[str, Any]] = []
    for request in service.requests:
        if request.url.path == start + "send":
            heard.append(("item", json.loads(request.content)))
        else:
            assert request.url.path == start + "complete"
            heard.append(("end", request.url.params.get("reason")))
    return heard


# --- through the local service ---------------------------------------------------------------------------------------


class Point(Struct):
    x: int


async def points(ctx: Context, count: int, start: int = 0) -> AsyncIterator[Point]:
    for x in range(start, start + count):
        yield Point(x)


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_a_client_gets_the_items_of_a_generator(protocol: str) -> None:
    app = serve(points, **OPTIONS)

    async with LocalService(app, **LOCAL) as service, await service.connect("chat", protocol=protocol) as ann:
        assert [item async for item in ann.stream("go", 3)] == [{"x": 0}, {"x": 1}, {"x": 2}]
        assert [item async for item in ann.stream("go", 1, 7)] == [{"x": 7}]
        assert [item async for item in ann.stream("go", 0)] == []


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_a_client_is_told_why_there_is_no_stream(protocol: str) -> None:
    hub = Hub("chat")
    hub.on("points")(points)
    hub.on("refused", require=lambda ctx: False)(points)

    @hub.on("plain")
    async def plain(ctx: Context) -> int:
        return 1

    app = UpstreamApp(hub, **OPTIONS)
    async with LocalService(app, **LOCAL) as service, await service.connect("chat", protocol=protocol) as ann:
        for call, text in [
            (ann.stream("points", "x"), "argument 1 `count`: expected int, got str"),
            (ann.stream("refused", 1), str(Forbidden())),
            (ann.stream("plain"), "plain answers with no stream: call it with invoke() or send()."),
        ]:
            with pytest.raises(HubError) as refused:
                [item async for item in call]
            assert str(refused.value) == text
        with pytest.raises(HubError, match=r"points answers with a stream: call it with stream\(\)"):
            await ann.invoke("points", 1)


async def test_a_generator_is_closed_when_its_client_wants_no_more() -> None:
    closed = asyncio.Event()

    async def endless(ctx: Context) -> AsyncIterator[int]:
        try:
            number = 0
            while True:
                yield number
                number += 1
        finally:
            closed.set()

    app = serve(endless, **OPTIONS)
    async with LocalService(app, **LOCAL) as service, await service.connect("chat") as ann:
        items = ann.stream("go")
        assert [await anext(items), await anext(items)] == [0, 1]
        await items.aclose()
        await asyncio.wait_for(closed.wait(), 5)

        assert ann.is_open


async def test_a_generator_is_closed_when_its_client_leaves() -> None:
    probe = Probe()
    app = serve(probe.count, **OPTIONS)

    async with LocalService(app, **LOCAL) as service, await service.connect("chat") as ann:
        assert await anext(ann.stream("go")) == 1
        await ann.close()
        await asyncio.wait_for(probe.closed.wait(), 5)


async def test_a_shutdown_ends_streams_with_an_error() -> None:
    probe = Probe()
    hub = Hub("chat")
    hub.on("go")(probe.count)
    service = RestService()
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client, **OPTIONS)

    async with app.router.lifespan_context(app):
        await begin_stream(app)
        await until(lambda: len(service.requests) == 2)

    assert told(service) == [("item", 1), ("item", 2), ("end", "The server is shutting down.")]
    assert probe.closed.is_set()


async def test_a_shutdown_ends_a_stream_that_has_not_begun() -> None:
    service = RestService()
    app = serve(Probe().count, http_client=service.client, **OPTIONS)

    async with app.router.lifespan_context(app):
        await begin_stream(app)

    assert told(service)[-1] == ("end", "The server is shutting down.")


async def test_a_shutdown_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn, may_end = asyncio.Event(), asyncio.Event()

    async def go(ctx: Context) -> AsyncIterator[int]:
        try:
            stubborn.set()
            await asyncio.Event().wait()
            yield 1
        finally:
            await may_end.wait()

    monkeypatch.setattr(stream_calls, "PATIENCE", 0.01)
    service = RestService()
    app = serve(go, http_client=service.client, **OPTIONS)
    async with app.router.lifespan_context(app):
        await begin_stream(app)
        await asyncio.wait_for(stubborn.wait(), 5)
    may_end.set()

    assert service.requests == []


# --- the call, and what is told through the REST API -----------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
async def test_the_call_is_answered_before_the_first_item(binary: bool) -> None:
    may_start = asyncio.Event()

    async def go(ctx: Context, word: str) -> AsyncIterator[str]:
        await may_start.wait()
        yield word

    service = RestService()
    app = serve(go, http_client=service.client, **OPTIONS)
    if binary:  # HubProtocol.md, "StreamInvocation Message Encoding" of MessagePack
        body = msgspec.msgpack.encode([4, {}, "7", "go", ["hi"], []])
        answer = await post(app, call_headers("go", content_type=MESSAGEPACK), body)
    else:
        answer = await begin_stream(app, "hi")

    assert (answer.status_code, answer.content, service.requests) == (204, b"", [])
    may_start.set()
    await ended(service)
    assert told(service) == [("item", "hi"), ("end", None)]


async def test_keys_of_the_call_may_have_any_case() -> None:
    service = RestService()
    app = serve(points, http_client=service.client, **OPTIONS)

    await post(
        app, call_headers("go"), b'{"Type":4,"InvocationId":"7","Target":"go","Arguments":[1],"streamIds":[]}'
    )
    await ended(service)

    assert told(service) == [("item", {"x": 0}), ("end", None)]


@pytest.mark.parametrize(("error", "text"), [(HubError("no more"), "no more"), (ValueError("s"), MASKED)])
async def test_an_error_of_the_generator_ends_the_stream(error: Exception, text: str) -> None:
    async def go(ctx: Context) -> AsyncIterator[int]:
        yield 1
        raise error

    service = RestService()
    await begin_stream(serve(go, http_client=service.client, **OPTIONS))
    await ended(service)

    assert told(service) == [("item", 1), ("end", text)]


async def test_what_was_cancelled_elsewhere_ends_the_stream_with_an_error() -> None:
    async def go(ctx: Context) -> AsyncIterator[int]:
        waiting: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiting.cancel()
        yield await waiting

    service = RestService()
    await begin_stream(serve(go, http_client=service.client, **OPTIONS))
    await ended(service)

    assert told(service) == [("end", MASKED)]


async def test_filters_and_dependencies_are_around_the_whole_stream() -> None:
    steps: list[str] = []

    async def source(ctx: Context) -> AsyncIterator[str]:
        steps.append("opened")
        yield ctx.connection_id
        steps.append("closed")

    async def note(ctx: Context, call_next: Callable[[], Awaitable[Any]]) -> Any:
        steps.append("before")
        assert await call_next() is None
        steps.append("after")

    async def go(ctx: Context, who: Annotated[str, Depends(source)], word: str) -> AsyncIterator[str]:
        steps.append(f"{who} {word}")
        yield word

    service = RestService()
    await begin_stream(serve(go, http_client=service.client, filters=[note], **OPTIONS), "hi")
    await ended(service)

    assert steps == ["before", "opened", "c1 hi", "after", "closed"]


async def test_only_a_time_limit_of_its_own_ends_a_stream() -> None:
    probe = Probe()
    hub = Hub("chat")
    hub.on("go", timeout=0.05)(probe.count)
    service = RestService()
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client, **OPTIONS)

    await begin_stream(app)
    await ended(service)

    assert told(service) == [("item", 1), ("item", 2), ("end", TIMED_OUT)]


@pytest.mark.parametrize("code", [STREAM_GONE, CONNECTION_NOT_FOUND])
async def test_a_stream_that_is_gone_is_fed_no_more(code: str) -> None:
    probe = Probe()
    service = RestService(lambda _: httpx.Response(404, headers={ERROR_CODE_HEADER: code}))

    await begin_stream(serve(probe.count, http_client=service.client, **OPTIONS))
    await asyncio.wait_for(probe.closed.wait(), 5)

    assert told(service) == [("item", 1)]


@pytest.mark.parametrize("handled", [True, False])
async def test_disconnected_ends_the_streams_of_that_connection(handled: bool) -> None:
    probe = Probe()
    hub = Hub("chat")
    hub.on("go")(probe.count)

    async def gone(ctx: Context) -> None: ...

    if handled:
        hub.on("disconnected")(gone)
    service = RestService()
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client, **OPTIONS)
    await begin_stream(app)
    await until(lambda: len(service.requests) == 2)

    await disconnect(app, connection_id="c2")
    assert not probe.closed.is_set()
    await disconnect(app, connection_id="c1")
    await asyncio.wait_for(probe.closed.wait(), 5)

    assert told(service) == [("item", 1), ("item", 2)]


async def test_a_completion_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    service = RestService(lambda request: httpx.Response(400 if "complete" in request.url.path else 202))

    await begin_stream(serve(Probe(waits=False).count, http_client=service.client, **OPTIONS))
    await until(lambda: "could not be ended" in caplog.text)

    assert told(service) == [("item", 1), ("item", 2), ("end", None)]


async def test_the_caller_may_be_invoked_from_a_stream_since_it_was_answered() -> None:
    async def go(ctx: Context) -> AsyncIterator[int]:
        yield await ctx.clients.caller.invoke("ask", result_type=int)

    app = serve(go, **OPTIONS)
    async with LocalService(app, **LOCAL) as service, await service.connect("chat") as ann:
        ann.on("ask", lambda: 5)

        assert [item async for item in ann.stream("go")] == [5]


async def test_one_worker_feeds_so_many_streams_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_calls, "MAX_STREAMS", 1)
    probe, service = Probe(), RestService()
    app = serve(probe.count, http_client=service.client, **OPTIONS)

    assert (await begin_stream(app)).status_code == 204
    refused = completion(await begin_stream(app))
    await until(lambda: bool(service.requests))
    await disconnect(app)
    await asyncio.wait_for(probe.closed.wait(), 5)

    assert refused["error"] == "The server feeds as many streams as it takes; try again later."


async def test_one_client_has_so_many_streams_and_others_have_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_calls, "MAX_STREAMS_OF_CLIENT", 1)
    service = RestService()
    app = serve(Probe().count, http_client=service.client, **OPTIONS)

    assert (await begin_stream(app)).status_code == 204
    refused = completion(await begin_stream(app))
    assert (await begin_stream(app, connection_id="c2")).status_code == 204
    await app.drain()

    assert refused["error"] == "You have as many streams as a client may have; end one first."


async def test_work_for_after_the_answer_begins_when_the_stream_has_ended() -> None:
    service, left = RestService(), asyncio.Event()

    async def note() -> None:
        left.set()

    async def go(ctx: Context) -> AsyncIterator[int]:
        ctx.after(note)
        yield 1
        assert not left.is_set()

    await begin_stream(serve(go, http_client=service.client, **OPTIONS))
    await asyncio.wait_for(left.wait(), 5)

    assert told(service) == [("item", 1), ("end", None)]


async def test_work_for_after_the_answer_is_done_too_when_the_client_leaves() -> None:
    probe, service, left = Probe(), RestService(), asyncio.Event()

    async def note() -> None:
        left.set()

    async def go(ctx: Context) -> AsyncIterator[int]:
        ctx.after(note)
        async for number in probe.count(ctx):
            yield number

    app = serve(go, http_client=service.client, **OPTIONS)
    await begin_stream(app)
    await until(lambda: len(service.requests) == 2)
    await disconnect(app)
    await asyncio.wait_for(left.wait(), 5)

    assert told(service) == [("item", 1), ("item", 2)]


async def test_a_send_to_a_generator_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        answer = await send(serve(points, **OPTIONS), "go", 1)

    assert answer.status_code == 204
    assert "call it with stream()" in caplog.text


# --- the switch ------------------------------------------------------------------------------------------------------


def test_without_the_switch_a_generator_is_a_configuration_error() -> None:
    line = inspect.getsourcelines(points)[1]

    with pytest.raises(ConfigurationError) as refused:
        serve(points)

    assert f"<Handler messages/go at {__file__}:{line}> is a generator" in str(refused.value)
    assert "UpstreamApp(experimental_streams=True)" in str(refused.value)


async def test_a_generator_that_is_registered_later_is_not_called() -> None:
    hub = Hub("chat")
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    hub.on("go")(points)

    assert "experimental_streams=True" in completion(await begin_stream(app, 1))["error"]
    assert "call it with stream()" in (await invoke(app, "go", 1))["error"]
