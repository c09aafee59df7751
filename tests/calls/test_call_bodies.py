"""The rows of the error table about the body: its type, size, time and content, and the load of a worker."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from signalr_upstream import Context, Hub, UpstreamApp

from ..support import (
    CONNECTION_STRING,
    MESSAGEPACK,
    Message,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    completion,
    detail,
    invocation,
    invoke,
    post,
    receive_nothing,
    with_header,
)

pytestmark = pytest.mark.anyio


# --- content type and encoding ---


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "application/jsonp", "multipart/form-data", "\xe4"]
)
async def test_other_content_types_are_refused_before_the_body_is_read(content_type: str) -> None:
    recorder = Recorder()
    scope = asgi_scope(with_header(call_headers("echo"), "Content-Type", content_type or None))

    assert (await call_asgi(recorder.app, scope, receive_nothing))[0]["status"] == 415


async def test_messagepack_is_for_messages_only() -> None:
    detail(await post(Recorder().app, call_headers("connected", content_type=MESSAGEPACK), b"\x90"), 415)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", " application/json"]
)
async def test_parameters_and_case_of_the_content_type_do_not_matter(content_type: str) -> None:
    assert (await invoke(Recorder().app, "echo", "a", content_type=content_type))["result"] == "a"


async def test_a_compressed_body_is_refused() -> None:
    recorder = Recorder()
    headers = call_headers("echo")

    for encoding in ("gzip", "br", "identity, gzip"):
        answer = await post(recorder.app, {**headers, "Content-Encoding": encoding}, invocation("echo", "a"))
        assert "compressed" in detail(answer, 415)
    answer = await post(recorder.app, {**headers, "Content-Encoding": "Identity"}, invocation("echo", "a"))
    assert completion(answer)["result"] == "a"


# --- size ---


@pytest.mark.parametrize("length", ["1025", "001025", "9" * 30, "-9999", "many bytes"])
async def test_a_body_that_announces_too_much_is_refused_before_it_is_read(length: str) -> None:
    recorder = Recorder(max_body_size=1024)
    scope = asgi_scope({**call_headers("echo"), "Content-Length": length})

    assert (await call_asgi(recorder.app, scope, receive_nothing))[0]["status"] == 413


async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    body = invocation("echo", "a")
    app = Recorder(max_body_size=len(body)).app

    assert completion(await post(app, call_headers("echo"), body))["result"] == "a"
    detail(await post(app, call_headers("echo"), body + b" "), 413)


async def test_reading_stops_where_the_limit_is_passed() -> None:
    given: list[int] = []

    async def receive() -> Message:
        given.append(1)
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    sent = await call_asgi(Recorder(max_body_size=1000).app, asgi_scope(call_headers("echo")), receive)

    assert sent[0]["status"] == 413
    assert len(given) == 11


async def test_a_single_message_over_the_limit_is_refused_without_content_length() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b" " * 100}

    sent = await call_asgi(Recorder(max_body_size=99).app, asgi_scope(call_headers("echo")), receive)

    assert sent[0]["status"] == 413


async def test_a_body_in_pieces_is_put_together() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for byte in invocation("echo", "aé"):
            yield bytes([byte])

    assert completion(await post(Recorder().app, call_headers("echo"), pieces()))["result"] == "aé"


# --- time ---


async def test_a_body_that_does_not_arrive_in_time_is_a_408() -> None:
    recorder = Recorder(body_timeout=0.02)
    never = asyncio.Event()

    async def receive_never() -> Message:
        await never.wait()
        raise AssertionError("the wait was not ended")

    sent = await call_asgi(recorder.app, asgi_scope(call_headers("echo")), receive_never)

    assert sent[0]["status"] == 408
    assert recorder.calls == []


async def test_a_body_that_stops_half_way_is_a_408() -> None:
    recorder = Recorder(body_timeout=0.02)
    messages: list[Message] = [{"type": "http.request", "body": b'{"type":1', "more_body": True}]
    never = asyncio.Event()

    async def receive_half() -> Message:
        if not messages:
            await never.wait()
        return messages.pop()

    sent = await call_asgi(recorder.app, asgi_scope(call_headers("echo")), receive_half)

    assert sent[0]["status"] == 408
    assert recorder.calls == []


async def test_a_body_that_comes_byte_by_byte_has_one_time_limit_for_all_of_it() -> None:
    recorder = Recorder(body_timeout=0.02)

    async def receive_drop() -> Message:  # it would take a month
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b" ", "more_body": True}

    sent = await call_asgi(recorder.app, asgi_scope(call_headers("echo")), receive_drop)

    assert sent[0]["status"] == 408
    assert recorder.calls == []


@pytest.mark.parametrize("pieces", [0, 1])
async def test_a_caller_who_hangs_up_before_the_body_is_complete_gets_no_answer(pieces: int) -> None:
    recorder = Recorder()
    piece: Message = {"type": "http.request", "body": b'{"type":1', "more_body": True}
    messages: list[Message] = [piece] * pieces + [{"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    assert await call_asgi(recorder.app, asgi_scope(call_headers("echo")), receive) == []
    assert recorder.calls == []
    assert (await invoke(recorder.app, "echo", "a"))["result"] == "a"


# --- load ---


async def test_more_calls_than_a_worker_takes_are_a_503_with_retry_after() -> None:
    hub = Hub("chat")
    release = asyncio.Event()
    entered = asyncio.Event()

    @hub.on("wait")
    async def wait(ctx: Context) -> None:
        entered.set()
        await release.wait()

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, max_concurrent_calls=1)
    first = asyncio.create_task(invoke(app, "wait"))
    await entered.wait()

    sent = await call_asgi(app, asgi_scope(call_headers("wait")), receive_nothing)
    release.set()

    assert sent[0]["status"] == 503
    assert (b"retry-after", b"1") in sent[0]["headers"]
    assert (await first)["result"] is None
    assert (await invoke(app, "wait"))["result"] is None


async def test_refused_and_failed_calls_give_their_place_back() -> None:
    recorder = Recorder(max_concurrent_calls=1, max_body_size=1000, body_timeout=0.02)

    for _ in range(3):
        detail(await post(recorder.app, call_headers("echo"), b"x"), 400)
        detail(await post(recorder.app, call_headers("echo"), b"x" * 1001), 413)
        assert "error" in await invoke(recorder.app, "echo", 1)

    assert (await invoke(recorder.app, "echo", "a"))["result"] == "a"
