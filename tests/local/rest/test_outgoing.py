"""Messages for clients in the form of their protocol, and values taken over from the other one."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.errors import InvalidMessageError
from signalr_upstream.local.rest.conversion import JsonValue, MessagePackValue
from signalr_upstream.local.rest.outgoing import Outgoing, OutgoingItem
from signalr_upstream.protocol.handshake import PROTOCOLS
from signalr_upstream.protocol.messages import Invocation

JSON, MESSAGEPACK = PROTOCOLS["json"], PROTOCOLS["messagepack"]


def test_a_message_is_encoded_once_a_protocol() -> None:
    message = Outgoing.json("target", b'["a",1]')

    first = message.encoded(JSON)

    # rest-and-management.md 2.3, what the Management SDK writes
    assert first == b'{"type":1,"target":"target","arguments":["a",1]}\x1e'
    assert message.encoded(JSON) is first
    assert message.encoded(MESSAGEPACK) == bytes.fromhex("10960180c0a674617267657492a1610190")


def test_a_client_that_has_to_answer_gets_an_id() -> None:
    message = Outgoing.json("t", b"[]")

    assert message.with_id(JSON, "1") == b'{"type":1,"invocationId":"1","target":"t","arguments":[]}\x1e'
    assert message.with_id(MESSAGEPACK, "1") == bytes.fromhex("09960180a131a1749090")


def test_a_body_may_hold_nothing_for_a_protocol() -> None:
    invocation = Invocation("t", Raw(b"[]"))
    message = Outgoing(lambda protocol: None if protocol.binary else invocation)
    item = OutgoingItem(lambda protocol: None if protocol.binary else Raw(b"1"))

    assert message.encoded(MESSAGEPACK) is message.with_id(MESSAGEPACK, "1") is None
    assert item.encoded(MESSAGEPACK, "s1") is None
    assert item.encoded(JSON, "s1") == b'{"type":2,"invocationId":"s1","item":1}\x1e'


def test_an_item_is_written_for_each_protocol() -> None:
    # rest-and-management.md 2.4
    item = OutgoingItem(JsonValue(b'{"a":1}').encoded)

    assert item.encoded(JSON, "s1") == b'{"type":2,"invocationId":"s1","item":{"a":1}}\x1e'
    assert item.encoded(MESSAGEPACK, "s1") == bytes.fromhex("0a940280a2733181a16101")


@pytest.mark.parametrize(
    ("json", "messagepack"),
    [
        (b'[ "2023-11-14T22:13:20.000Z" ]', "91b8" + b"2023-11-14T22:13:20.000Z".hex()),
        (b"[9007199254740993,18446744073709551615]", "92cf0020000000000001cfffffffffffffffff"),
        (b"[-9223372036854775809]", "91cbc3e0000000000000"),  # MessagePack's integers end at 64 bits
        (b'{"$type":"x","a":1.0}', "82a52474797065a178a161cb3ff0000000000000"),
    ],
)
def test_json_values_keep_their_bytes_and_their_meaning(json: bytes, messagepack: str) -> None:
    value = JsonValue(json)

    assert bytes(value.encoded(JSON)) == json
    assert bytes(value.encoded(MESSAGEPACK)).hex() == messagepack


@pytest.mark.parametrize(
    ("messagepack", "json"),
    [
        ("92d3000000000000000105", b"[1,5]"),
        ("cfffffffffffffffff", b"18446744073709551615"),
        ("ca3fc00000", b"1.5"),
        ("cb7ff8000000000000", b"null"),  # NaN
        ("c403010203", b'"AQID"'),
        ("d6ff00000001", b'"1970-01-01T00:00:01Z"'),
        ("d405ff", b'[5,"/w=="]'),
        ("820102a161c0", b'{"1":2,"a":null}'),
    ],
)
def test_messagepack_values_keep_their_bytes_and_are_written_as_json(messagepack: str, json: bytes) -> None:
    value = MessagePackValue(bytes.fromhex(messagepack))

    assert bytes(value.encoded(MESSAGEPACK)).hex() == messagepack
    assert bytes(value.encoded(JSON)) == json


@pytest.mark.parametrize(
    "json", [b"", b"[1,]", b"[nope]", b'["\xff"]', b'["\\ud800"]', b"[1e400]", b"[" * 70 + b"]" * 70]
)
def test_what_is_no_json_is_refused(json: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        JsonValue(json)


@pytest.mark.parametrize(
    "messagepack",
    [
        "",
        "c1",
        "0101",  # something follows
        "a1ff",  # not UTF-8
        "81c001",  # a key that is nil
        "819101" + "01",  # an array
        "818001",  # a map
        "c70cff" + "ff" * 12,  # a timestamp with too many nanoseconds
        "91" * 70 + "c0",
    ],
)
def test_what_is_no_messagepack_or_has_no_json_is_refused(messagepack: str) -> None:
    with pytest.raises(InvalidMessageError):
        MessagePackValue(bytes.fromhex(messagepack))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def without_large_integers(value: Any) -> Any:
    """As MessagePack clients get it: whole numbers over 64 bits are floats."""
    match value:
        case bool():
            return value
        case int() if not -(2**63) <= value < 2**64:
            return float(value)
        case list():
            return [without_large_integers(each) for each in value]
        case dict():
            return {key: without_large_integers(each) for key, each in value.items()}
        case _:
            return value


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_json_means_the_same_in_messagepack(value: Any) -> None:
    json = msgspec.json.encode(value)
    values = JsonValue(json)

    assert bytes(values.encoded(JSON)) == json
    assert msgspec.msgpack.decode(values.encoded(MESSAGEPACK)) == without_large_integers(value)


@given(VALUES.map(without_large_integers).map(msgspec.msgpack.encode) | st.binary(max_size=40))
@settings(max_examples=300, deadline=None)
def test_messagepack_is_written_as_json_or_refused(body: bytes) -> None:
    with suppress(InvalidMessageError):
        values = MessagePackValue(body)
        assert bytes(values.encoded(MESSAGEPACK)) == body
        msgspec.json.decode(values.encoded(JSON))
