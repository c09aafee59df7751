"""How deep a document is nested, judged before a recursive decoder sees it."""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalr_upstream.errors import InvalidMessageError
from signalr_upstream.protocol.nesting import MAX_DEPTH, check_json_depth, check_msgpack_depth


def nested(depth: int, kind: str) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value] if kind == "arrays" else {"k": value}
    return value


@pytest.mark.parametrize("kind", ["arrays", "maps"])
def test_64_levels_pass_and_65_do_not(kind: str) -> None:
    for encode, check in (
        (msgspec.json.encode, check_json_depth),
        (msgspec.msgpack.encode, check_msgpack_depth),
    ):
        check(encode(nested(MAX_DEPTH, kind)))
        with pytest.raises(InvalidMessageError, match="deeper than 64"):
            check(encode(nested(MAX_DEPTH + 1, kind)))


def test_only_what_is_open_at_the_same_time_counts() -> None:
    wide = [[[1], {"a": [2]}] for _ in range(200)]

    check_json_depth(msgspec.json.encode(wide))
    check_msgpack_depth(msgspec.msgpack.encode(wide))


@pytest.mark.parametrize(
    "text", ["[" * 200, "{" * 200, '\\"' + "[" * 200, "\\" * 3 + "[" * 200, '"' + "{" * 200]
)
def test_brackets_inside_of_texts_do_not_count(text: str) -> None:
    check_json_depth(json.dumps([text, {text: text}]).encode())


def test_a_text_that_never_ends_is_read_once() -> None:
    check_json_depth(b'["' + b"[" * 100 + b'\\"' * 100_000)
    check_json_depth(b'"' * 100_001 + b"[" * 65)


# Every first byte of MessagePack that is no container, with content full of bytes that look like containers.
LOOKS_LIKE_ARRAYS = b"\x91" * 300
SCALARS = {
    "uint8": b"\xcc\x91",
    "uint16": b"\xcd" + b"\x91" * 2,
    "uint32": b"\xce" + b"\x91" * 4,
    "uint64": b"\xcf" + b"\x91" * 8,
    "int8": b"\xd0\x91",
    "int16": b"\xd1" + b"\x91" * 2,
    "int32": b"\xd2" + b"\x91" * 4,
    "int64": b"\xd3" + b"\x91" * 8,
    "float32": b"\xca" + b"\x91" * 4,
    "float64": b"\xcb" + b"\x91" * 8,
    "fixstr": b"\xbf" + b"\x91" * 31,
    "str8": b"\xd9\xff" + b"\x91" * 255,
    "str16": b"\xda\x01\x2c" + LOOKS_LIKE_ARRAYS,
    "str32": b"\xdb\x00\x00\x01\x2c" + LOOKS_LIKE_ARRAYS,
    "bin8": b"\xc4\xff" + b"\x91" * 255,
    "bin16": b"\xc5\x01\x2c" + LOOKS_LIKE_ARRAYS,
    "bin32": b"\xc6\x00\x00\x01\x2c" + LOOKS_LIKE_ARRAYS,
    "ext8": b"\xc7\xff\x91" + b"\x91" * 255,
    "ext16": b"\xc8\x01\x2c\x91" + LOOKS_LIKE_ARRAYS,
    "ext32": b"\xc9\x00\x00\x01\x2c\x91" + LOOKS_LIKE_ARRAYS,
    "fixext1": b"\xd4\x91" + b"\x91",
    "fixext2": b"\xd5\x91" + b"\x91" * 2,
    "fixext4": b"\xd6\x91" + b"\x91" * 4,
    "fixext8": b"\xd7\x91" + b"\x91" * 8,
    "fixext16": b"\xd8\x91" + b"\x91" * 16,
    "nil": b"\xc0",
    "true": b"\xc3",
    "fixint": b"\x7f",
    "negative fixint": b"\xe0",
}


@pytest.mark.parametrize("name", SCALARS)
def test_what_looks_like_containers_inside_of_other_values_does_not_count(name: str) -> None:
    many = 100
    check_msgpack_depth(b"\xdc\x00" + bytes([many]) + SCALARS[name] * many)
    deep = b"\x92" * 63 + SCALARS[name] + b"\x90" + SCALARS[name] * 62
    check_msgpack_depth(deep)
    with pytest.raises(InvalidMessageError):
        check_msgpack_depth(
            b"\x92" + SCALARS[name] + b"\x92" * 63 + SCALARS[name] + b"\x90" + SCALARS[name] * 62
        )


@pytest.mark.parametrize(
    "opening",
    [
        b"\x91",
        b"\xdc\x00\x01",
        b"\xdd\x00\x00\x00\x01",
        b"\x81\xc0",
        b"\xde\x00\x01\xc0",
        b"\xdf\x00\x00\x00\x01\xc0",
    ],
)
def test_every_form_of_a_container_counts(opening: bytes) -> None:
    check_msgpack_depth(opening * 64 + b"\xc0")
    with pytest.raises(InvalidMessageError):
        check_msgpack_depth(opening * 65 + b"\xc0")


def test_empty_containers_close_at_once() -> None:
    check_msgpack_depth(b"\xdc\x00\xc8" + b"\x90\x80" * 100)


@pytest.mark.parametrize(
    "cut", [b"\xdc", b"\xdd\xff", b"\xc9\xff", b"\xdb\xff\xff\xff\xff", b"\xcf", b"\xbf"]
)
def test_a_document_that_is_cut_short_is_left_to_the_decoder(cut: bytes) -> None:
    check_msgpack_depth(b"\x90" * 100)
    check_msgpack_depth(b"\xdc\x00\xff" + b"\x90" * 100 + cut)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


VALUES = st.recursive(
    st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=100,
)


@given(VALUES, st.integers(0, MAX_DEPTH + 5), st.booleans())
def test_the_check_agrees_with_the_decoded_document(value: Any, around: int, maps: bool) -> None:
    for _ in range(around):
        value = [value] if not maps else {"[{": value}
    too_deep = depth_of(value) > MAX_DEPTH
    for encode, check in (
        (msgspec.json.encode, check_json_depth),
        (msgspec.msgpack.encode, check_msgpack_depth),
    ):
        document = encode(value)
        if too_deep:
            with pytest.raises(InvalidMessageError):
                check(document)
        else:
            check(document)


@given(st.binary(), st.binary(min_size=65, max_size=65))
def test_any_bytes_can_be_checked(document: bytes, containers: bytes) -> None:
    for check in (check_json_depth, check_msgpack_depth):
        for prefix in (b"", b"\x91[" * 70, bytes(0x80 | byte & 0x1F for byte in containers)):
            with contextlib.suppress(InvalidMessageError):
                check(prefix + document)
