"""What arrives is what was sent, and what goes out is what was returned; and what msgspec cannot hold is said.

The values are bytes written out by hand, as https://www.rfc-editor.org/rfc/rfc8259 and
https://github.com/msgpack/msgpack/blob/master/spec.md have them.
"""

import datetime
import enum
import struct
from typing import Any

import httpx
import msgspec
import pytest
from msgspec import Raw
from msgspec.msgpack import Ext

from signalr_upstream import Context

from .support import MESSAGEPACK, call_headers, post, serve

pytestmark = pytest.mark.anyio

UTC = datetime.UTC


async def call(function: Any, *values: bytes, binary: bool) -> httpx.Response:
    """Invoke ``function`` with arguments in the bytes that they have on the wire."""
    if binary:
        # [1, {}, "1", "go", [...], []]: fixarray, fixmap, fixstr.
        body = b"\x96\x01\x80\xa11\xa2go" + bytes([0x90 + len(values)]) + b"".join(values) + b"\x90"
        return await post(serve(function), call_headers("go", content_type=MESSAGEPACK), body)
    body = b'{"type":1,"invocationId":"1","target":"go","arguments":[%s]}' % b",".join(values)
    return await post(serve(function), call_headers("go"), body)


def completed(value: bytes, *, binary: bool) -> bytes:
    """The answer that resolves to ``value``."""
    if not binary:
        return b'{"type":3,"invocationId":"1","result":%s}\x1e' % value
    message = b"\x95\x03\x80\xa11\x03" + value
    assert len(message) < 128
    return bytes([len(message)]) + message


async def anything(ctx: Context, value: Any) -> Any:
    return value


async def exactly(ctx: Context, value: Raw) -> Raw:
    return value


JSON_VALUES: list[tuple[bytes, object]] = [
    (b'"2024-02-29T12:34:56.1234567+02:00"', "2024-02-29T12:34:56.1234567+02:00"),
    (b'"2024-02-29"', "2024-02-29"),
    (b'"/Date(1709210096000)/"', "/Date(1709210096000)/"),
    (b"9007199254740993", 2**53 + 1),
    (b"9223372036854775808", 2**63),
    (b"18446744073709551615", 2**64 - 1),
    (b"-9223372036854775809", -(2**63) - 1),
    (b"123456789012345678901234567890", 123456789012345678901234567890),
    (b"0.1", 0.1),
    (b"1.0", 1.0),
    (b"-0.0", -0.0),
    ('"é😀\u2028"'.encode(), "é😀\u2028"),
    (b'"\\u0000\\u001e\\n"', "\0\x1e\n"),
    (rb'"\\ud83d"', r"\ud83d"),
    (b'{"":null,"1":[true,{"at":"2024-02-29T12:34:56Z"}]}', {"": None, "1": [True, {"at": "2024-02-29T12:34:56Z"}]}),
]  # fmt: skip

MESSAGEPACK_VALUES: list[tuple[bytes, object]] = [
    (b"\xb42024-02-29T12:34:56Z", "2024-02-29T12:34:56Z"),
    (b"\xcf\x00\x20\x00\x00\x00\x00\x00\x01", 2**53 + 1),
    (b"\xcf" + b"\xff" * 8, 2**64 - 1),
    (b"\xd3\x80" + b"\0" * 7, -(2**63)),
    (b"\xcb" + struct.pack(">d", 0.1), 0.1),
    (b"\xc4\x03\x00\xfe\xff", b"\x00\xfe\xff"),
    (b"\xd4\x05\x01", Ext(5, b"\x01")),
    (b"\xc7\x03\x80abc", Ext(-128, b"abc")),
    (b"\xd6\xff\x65\xe0\x00\x00", datetime.datetime(2024, 2, 29, 3, 54, 40, tzinfo=UTC)),
    (b"\xd7\xff" + struct.pack(">Q", 1000 << 34 | 0x65E00000), datetime.datetime(2024, 2, 29, 3, 54, 40, 1, UTC)),
    (b"\xc7\x0c\xff" + struct.pack(">Iq", 0, -1), datetime.datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    (b"\x81\x01\xa1a", {1: "a"}),
    (b"\x82\xc0\xa1a\xc2\xa1b", {None: "a", False: "b"}),
    (b"\x81\xcb" + struct.pack(">d", 1.5) + b"\xc4\x01x", {1.5: b"x"}),
    (b"\x81\xc4\x01x\xd4\x05\x01", {b"x": Ext(5, b"\x01")}),
    (b"\x81\x92\x01\x02\xa1a", {(1, 2): "a"}),
]  # fmt: skip

CASES = [(value, False) for value in JSON_VALUES] + [(value, True) for value in MESSAGEPACK_VALUES]


@pytest.mark.parametrize(("value", "binary"), CASES)
async def test_a_value_arrives_as_it_was_sent_and_comes_back_as_it_was_returned(
    value: tuple[bytes, object], *, binary: bool
) -> None:
    seen: list[object] = []

    async def go(ctx: Context, value: Any) -> Any:
        seen.extend((value, *ctx.arguments))
        return value

    wire, expected = value

    answer = await call(go, wire, binary=binary)

    assert repr(seen) == repr([expected, expected]) or seen == [expected, expected]
    assert [type(one) for one in seen] == [type(expected)] * 2
    assert answer.content == completed(wire, binary=binary)


EXACT = [
    (b'{"a" : 1.50e+0,\t"a":2}', False),
    (b"1e400", False),
    (b"9" * 100, False),
    (b"\xca\x3d\xcc\xcc\xcd", True),  # 0.1 in 32 bits
    (b"\xd3" + b"\0" * 7 + b"\x07", True),  # 7 in 64 bits
    (b"\xd9\x01a", True),  # a string with the longer of two forms
    (b"\x81\x80\xa1a", True),  # a map as key
    (b"\xd7\xff" + struct.pack(">Q", 123456789 << 34 | 1), True),  # nanoseconds
    (b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 2**60), True),  # a year that Python does not have
]


@pytest.mark.parametrize(("wire", "binary"), EXACT)
async def test_raw_is_exact(wire: bytes, *, binary: bool) -> None:
    answer = await call(exactly, wire, binary=binary)

    assert answer.content == completed(wire, binary=binary)


async def test_what_types_ask_for_is_converted_and_nothing_else() -> None:
    class Colour(enum.Enum):
        RED = "red"

    async def go(ctx: Context, text: str, when: datetime.datetime, data: bytes, colour: Colour) -> list[str]:
        return [text, when.isoformat(), data.hex(), colour.name]

    moment = b'"2024-02-29T12:34:56Z"'

    answer = await call(go, moment, moment, b'"AP7/"', b'"red"', binary=False)

    result = b'["2024-02-29T12:34:56Z","2024-02-29T12:34:56+00:00","00feff","RED"]'
    assert answer.content == completed(result, binary=False)


LIMITS = [
    (b"1e400", False, "number out of range"),
    (b"-1e400", False, "number out of range"),
    (b"1" * 5000, False, "number out of range"),
    (rb'"\ud83d"', False, "half of a surrogate pair in a text"),
    (rb'"\uDE00 \ud83d\ude00"', False, "half of a surrogate pair in a text"),
    (rb'[{"\ud83d\ud83d\ude00":1e400}]', False, "half of a surrogate pair in a text"),
    (b"\xc7\x0c\xff" + struct.pack(">Iq", 0, 253402300800), True, "timestamp out of range"),
    (b"\xc7\x0c\xff" + struct.pack(">Iq", 0, -62135596801), True, "timestamp out of range"),
    (b"\xc7\x0c\xff" + struct.pack(">Iq", 10**9, 5), True, "invalid timestamp"),
    (b"\xc7\x05\xff12345", True, "invalid timestamp"),
    (b"\x81\x80\xa1a", True, "a key of a map is itself a map or an extension value"),
    (b"\x81\x91\x80\xa1a", True, "a key of a map is itself a map or an extension value"),
    (b"\x81\xd4\x05\x01\xa1a", True, "a key of a map is itself a map or an extension value"),
]


@pytest.mark.parametrize(("wire", "binary", "reason"), LIMITS)
async def test_what_msgspec_cannot_hold_is_an_error_that_names_the_argument(
    wire: bytes, reason: str, *, binary: bool
) -> None:
    async def two(ctx: Context, first: Raw, second: Any) -> None:
        raise AssertionError("the handler ran")

    async def default(ctx: Context, first: Raw, second: Any = None) -> None:
        raise AssertionError("the handler ran")

    async def rest(ctx: Context, *values: Any) -> None:
        raise AssertionError("the handler ran")

    async def one(ctx: Context, only: Any) -> None:
        raise AssertionError("the handler ran")

    one_is = b"\x01" if binary else b"1"
    exact = one_is if b"\\u" in wire else wire  # msgspec looks at the text of a Raw, too
    for function, first, name in (
        (two, exact, " `second`"),
        (default, exact, " `second`"),
        (rest, one_is, ""),
    ):
        answer = await call(function, first, wire, binary=binary)

        assert error_of(answer, binary=binary) == f"argument 2{name}: {reason}"
    too_many = await call(one, exact, exact, binary=binary)
    assert error_of(too_many, binary=binary) == "expected 1 argument, got 2"


def error_of(answer: httpx.Response, *, binary: bool) -> str:
    """The text that the caller's ``invoke()`` is rejected with."""
    assert answer.status_code == 200, answer.text
    if not binary:
        return str(msgspec.json.decode(answer.content[:-1])["error"])
    *_, kind, text = msgspec.msgpack.decode(answer.content[1:])
    assert kind == 1
    return str(text)


async def test_a_result_that_the_protocol_cannot_hold_is_an_error_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    results = [
        (2**64, True, "can't serialize ints"),
        (Ext(5, b"a"), False, "Ext is unsupported"),
        ({None: 1}, False, "NoneType is unsupported"),
        ("\ud800", False, "surrogates not allowed"),
    ]
    for result, binary, reason in results:

        async def go(ctx: Context, _: Any, result: Any = result) -> Any:
            return result

        caplog.clear()
        answer = await call(go, b"\x01" if binary else b"1", binary=binary)

        assert error_of(answer, binary=binary) == "The call failed on the server."
        assert reason in caplog.text


async def test_less_exact_than_it_came_is_only_what_the_guide_lists() -> None:
    """Rounded to what Python has; ``Raw`` is for who needs more."""
    nanoseconds = struct.pack(">Q", 123456789 << 34 | 0x65E00000)
    microseconds = struct.pack(">Q", 123457000 << 34 | 0x65E00000)
    single, double = b"\xca\x3d\xcc\xcc\xcd", b"\xcb" + struct.pack(">d", 0.10000000149011612)
    changed = [
        (b"\xd7\xff" + nanoseconds, b"\xd7\xff" + microseconds, True),
        (single, double, True),
        (b"\xd3" + b"\0" * 7 + b"\x07", b"\x07", True),
        (b"\x82\x01\xa1a\x01\xa1b", b"\x81\x01\xa1b", True),  # a key twice
        (b"0.1000000000000000055511151231257827", b"0.1", False),
        (b'{"a":1,"a":2}', b'{"a":2}', False),
    ]
    for sent, returned, binary in changed:
        assert (await call(anything, sent, binary=binary)).content == completed(returned, binary=binary)


async def test_headers_are_utf_8() -> None:
    seen: list[object] = []

    async def go(ctx: Context, value: Any) -> None:
        seen.extend((ctx.user_id, ctx.claims_raw, ctx.query["room"], ctx.event))

    headers = call_headers("GO", user_id="Zoë 日本", claims="name: Zoë, city: Łódź 😀", query="?room=größe")

    answer = await post(serve(go), headers, b'{"type":1,"target":"GO","arguments":[1]}')

    assert answer.status_code == 204
    assert seen == ["Zoë 日本", "name: Zoë, city: Łódź 😀", "größe", "GO"]
