"""The rows of the error table about what a body says: hub messages, and what only looks like one."""

from typing import Any

import msgspec
import pytest

from signalr_upstream import Context, Hub, UpstreamApp

from ..support import (
    CONNECTION_STRING,
    MESSAGEPACK,
    Recorder,
    call_headers,
    completion,
    connect,
    detail,
    disconnect,
    invocation,
    invoke,
    invoke_msgpack,
    msgpack_invocation,
    post,
    serve,
)

pytestmark = pytest.mark.anyio

BAD_JSON = {
    "empty": b"",
    "not JSON": b"hello",
    "cut short": b'{"type":1,"target":"echo","arguments":["a"',
    "an array": b'[1,"echo"]',
    "null": b"null",
    "no type": b'{"target":"echo","arguments":["a"]}',
    "no target": b'{"type":1,"arguments":["a"]}',
    "no arguments": b'{"type":1,"target":"echo"}',
    "open": b'{"type":10}',
    "close": b'{"Type":11}',
    "completion": b'{"type":3,"invocationId":"1"}',
    "stream invocation without an id": b'{"type":4,"target":"echo","arguments":["a"]}',
    "type as text": b'{"type":"1","target":"echo","arguments":["a"]}',
    "another target": b'{"type":1,"target":"other","arguments":["a"]}',
    "target is no text": b'{"type":1,"target":1,"arguments":["a"]}',
    "id is no text": b'{"type":1,"invocationId":1,"target":"echo","arguments":["a"]}',
    "arguments are null": b'{"type":1,"invocationId":"1","target":"echo","arguments":null}',
    "arguments are an object": b'{"type":1,"invocationId":"1","target":"echo","arguments":{"value":"a"}}',
    "two messages": b'{"type":1,"target":"echo","arguments":["a"]}\x1e{"type":6}\x1e',
    "trailing bytes": b'{"type":1,"target":"echo","arguments":["a"]}x',
    "invalid UTF-8": b'{"type":1,"invocationId":"1","target":"echo","arguments":["\xff"]}',
    "invalid UTF-8 in an unknown key": b'{"type":1,"target":"echo","arguments":["a"],"\xff":1}',
    "half a surrogate pair in the id": b'{"type":1,"invocationId":"\\udc00","target":"go","arguments":["a"]}',
    "half a surrogate pair in the target": b'{"type":1,"invocationId":"1","target":"echo\\udc00","arguments":["a"]}',
    "half a surrogate pair in an object": b'{"type":1,"target":"echo","arguments":{"a":"\\udc00"}}',
    "half a surrogate pair and no end": b'{"type":1,"target":"echo","arguments":["\\udc00"]',
    "nested too deep": b'{"type":1,"invocationId":"1","target":"echo","arguments":'
    + b"[" * 64
    + b"]" * 64
    + b"}",
    "nested for ever": b'{"type":1,"target":"echo","arguments":' + b"[" * 100_000,
    "a comment": b'{"type":1,"target":"echo",/**/"arguments":["a"]}',
    "single quotes": b"{'type':1,'target':'echo','arguments':['a']}",
    "a comma too many": b'{"type":1,"target":"echo","arguments":["a",]}',
    "a hexadecimal number": b'{"type":1,"target":"echo","arguments":[0x2a]}',
    "an octal number": b'{"type":1,"target":"echo","arguments":[010]}',
    "no number": b'{"type":1,"target":"echo","arguments":[NaN]}',
    "a control character in a text": b'{"type":1,"target":"echo","arguments":["\x01"]}',
    "byte order mark": b'\xef\xbb\xbf{"type":1,"target":"echo","arguments":["a"]}',
    "UTF-16": '{"type":1,"target":"echo","arguments":["a"]}'.encode("utf-16"),
}


@pytest.mark.parametrize("name", BAD_JSON)
async def test_a_json_body_that_is_no_invocation_of_the_event_is_a_400(name: str) -> None:
    recorder = Recorder()

    answer = await post(recorder.app, call_headers("echo"), BAD_JSON[name])

    assert detail(answer, 400)
    assert recorder.calls == []


def pack(*items: Any) -> bytes:
    return msgspec.msgpack.encode(list(items))


BAD_MSGPACK = {
    "empty": b"",
    "JSON": invocation("echo", "a"),
    "cut short": msgpack_invocation("echo", "a")[:-1],
    "framed": bytes([len(msgpack_invocation("echo", "a"))]) + msgpack_invocation("echo", "a"),
    "trailing bytes": msgpack_invocation("echo", "a") + b"\x00",
    "a map": msgspec.msgpack.encode({"type": 1}),
    "no arguments": pack(1, {}, "1", "echo"),
    "completion": pack(3, {}, "1", 2),
    "another target": pack(1, {}, "1", "other", ["a"], []),
    "target is no text": pack(1, {}, "1", 7, ["a"], []),
    "arguments are a map": pack(1, {}, "1", "echo", {"value": "a"}, []),
    "invalid UTF-8": pack(1, {}, "1", "echo", ["a"], []).replace(b"\xa1a", b"\xa1\xff"),
    "nested too deep": pack(1, {}, "1", "echo", None, []).replace(b"\xc0", b"\x91" * 64 + b"\xc0"),
    "nested for ever": b"\x96\x01\x80\xa11\xa4echo" + b"\x91" * 100_000,
    "a byte that means nothing": b"\x96\x01\x80\xa11\xa4echo\x91\xc1\x90",
    "more elements than follow": b"\x97\x01\x80\xa11\xa4echo\x91\xa1a\x90",
    "fewer elements than follow": b"\x95\x01\x80\xa11\xa4echo\x91\xa1a\x90",
    "more arguments than follow": b"\x96\x01\x80\xa11\xa4echo\x95\xa1a\x90",
    "four billion arguments": b"\x96\x01\x80\xa11\xa4echo\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", BAD_MSGPACK)
async def test_a_messagepack_body_that_is_no_invocation_of_the_event_is_a_400(name: str) -> None:
    recorder = Recorder()

    answer = await post(recorder.app, call_headers("echo", content_type=MESSAGEPACK), BAD_MSGPACK[name])

    assert detail(answer, 400)
    assert recorder.calls == []


async def test_invalid_utf_8_is_a_400_also_where_nobody_decodes_it() -> None:
    async def go(ctx: Context, value: msgspec.Raw) -> None:
        raise AssertionError("the handler ran")

    body = b'{"type":1,"invocationId":"1","target":"go","arguments":["\xff"]}'

    detail(await post(serve(go), call_headers("go"), body), 400)


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":1,"target":"echo","arguments":["a"]}\x1e',
        b'{"TYPE":1,"Target":"echo","ARGUMENTS":["a"]}',
        b'{"arguments":["a"],"target":"echo","type":1}',
        b' {\n"type" : 1 , "target":"ECHO","arguments":[ "a" ]}\r\n',
        b'{"type":1,"headers":{"a":"b"},"target":"echo","arguments":["a"],"streamIds":[]}',
        b'{"type":1,"target":"echo","arguments":["a"],"streamIds":null,"newInAnyVersion":{"type":2}}',
        b'{"type":1,"invocationId":null,"target":"echo","arguments":["\\u0061"]}',
    ],
)
async def test_every_legal_spelling_of_an_invocation_is_taken(body: bytes) -> None:
    recorder = Recorder()

    answer = await post(recorder.app, call_headers("echo"), body)

    assert (answer.status_code, answer.content) == (204, b"")
    assert recorder.calls == ["a"]


async def test_the_deepest_nesting_that_is_allowed_reaches_the_handler() -> None:
    hub = Hub("chat")

    @hub.on("depth")
    async def depth(ctx: Context, value: Any) -> int:
        levels = 0
        while value:
            levels, value = levels + 1, value[0]
        return levels

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    value: list[Any] = []
    for _ in range(61):  # with the envelope and the arguments 64 arrays and maps
        value = [value]

    assert (await invoke(app, "depth", value))["result"] == 61
    assert (await invoke_msgpack(app, "depth", value))[4] == 61
    detail(await post(app, call_headers("depth"), invocation("depth", [value])), 400)


@pytest.mark.parametrize("body", [b"", b'{"type":10}', b'{"Type":10}', b'{"type":10,"new":1}\x1e'])
async def test_connected_takes_the_bodies_that_are_sent_for_it(body: bytes) -> None:
    recorder = Recorder()

    assert (await post(recorder.app, call_headers("connected"), body)).status_code == 204
    assert recorder.calls == ["connected"]


@pytest.mark.parametrize("body", [b"{}", b"x", b'{"type":11}', b'{"type":6}', invocation("connected")])
async def test_connected_with_the_body_of_something_else_is_a_400(body: bytes) -> None:
    recorder = Recorder()

    assert detail(await post(recorder.app, call_headers("connected"), body), 400)
    assert recorder.calls == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"Type":11}', None),
        (b'{"type":11,"error":null}', None),
        (b'{"Type":11,"Error":"the network is gone"}', "the network is gone"),
        (b'{"Error":"the network is gone","Type":11}\x1e', "the network is gone"),
    ],
)
async def test_disconnected_knows_why(body: bytes, error: str | None) -> None:
    hub = Hub("chat")
    seen: list[str | None] = []

    @hub.on("disconnected")
    def left(ctx: Context) -> None:
        seen.append(ctx.error)

    answer = await disconnect(UpstreamApp(hub, connection_string=CONNECTION_STRING), body)

    assert answer.status_code == 204
    assert seen == [error]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"type":10}', b'{"type":11,"error":5}', invocation("disconnected")]
)
async def test_disconnected_with_the_body_of_something_else_is_a_400(body: bytes) -> None:
    recorder = Recorder()

    assert detail(await disconnect(recorder.app, body), 400)
    assert recorder.calls == []


async def test_problems_name_what_is_wrong_and_never_show_the_body(caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"type":1,"invocationId":"1","target":"S3CRET","arguments":["S3CRET"],"S3CRET":"S3CRET"}'

    for bad in (body, body[:-1], body.replace(b"1,", b'"S3CRET",', 1), b"S3CRET"):
        answer = await post(Recorder().app, call_headers("echo"), bad)
        assert "S3CRET" not in detail(answer, 400) + caplog.text


async def test_after_bad_input_the_app_goes_on_serving() -> None:
    recorder = Recorder()
    for body in BAD_JSON.values():
        await post(recorder.app, call_headers("echo"), body)
        await post(recorder.app, call_headers("echo", content_type=MESSAGEPACK), body)

    assert (await connect(recorder.app)).status_code == 204
    assert (
        completion(await post(recorder.app, call_headers("echo"), invocation("echo", "a")))["result"] == "a"
    )
