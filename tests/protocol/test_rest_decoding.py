"""Bodies of REST calls: JSON as the API describes it, the others byte for byte as Microsoft's SDK writes them."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.errors import InvalidMessageError, InvalidNameError
from signalr_upstream.protocol.rest_bodies import BodyEncoder
from signalr_upstream.protocol.rest_decoding import (
    CloseConnection,
    JoinGroup,
    LeaveGroup,
    SendMessage,
    decode_commands,
    decode_invocations,
    decode_items,
    decode_message,
    decode_messagepack_message,
)

encode_message = BodyEncoder().message


def test_a_message_is_written_with_the_keys_of_the_swagger() -> None:
    assert (
        encode_message("t", ["hello", 42, None, {"a": 1}])
        == b'{"target":"t","arguments":["hello",42,null,{"a":1}]}'
    )


@pytest.mark.parametrize("target", ["", " "])
def test_a_message_needs_a_target(target: str) -> None:
    with pytest.raises(InvalidNameError):
        encode_message(target, [])


@pytest.mark.parametrize(
    ("body", "target", "arguments"),
    [
        (b'{"Target":"t","Arguments":["hello",42]}', "t", b'["hello",42]'),  # the .NET SDK
        (b'{ "arguments" : [ 1 ] , "target" : "t" }', "t", b"[ 1 ]"),
        (b'{"target":"t"}', "t", b"[]"),
        (b'{"Target":"t","Arguments":null}', "t", b"[]"),
        (b'{"target":"t","arguments":[],"more":1}', "t", b"[]"),
    ],
)
def test_a_message_is_read_whatever_the_case_of_its_keys(body: bytes, target: str, arguments: bytes) -> None:
    message = decode_message(body)

    assert (message.target, bytes(message.arguments)) == (target, arguments)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b'"t"',
        b'{"target":""}',
        b'{"target":" "}',
        b'{"target":null}',
        b'{"target":1}',
        b'{"target":"t","arguments":{}}',
        b'{"target":"t","arguments":1}',
        b'{"target":"t"} x',
        b'\xef\xbb\xbf{"target":"t"}',
        b'{"target":"t","arguments":["\xff"]}',
        b'{"target":"t","arguments":' + b"[" * 5000 + b"]" * 5000 + b"}",
    ],
)
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidMessageError):
        decode_message(body)


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.strip()), st.lists(st.integers(-9, 9)))
@settings(max_examples=50)
def test_messages_survive_the_way(target: str, arguments: list[int]) -> None:
    message = decode_message(encode_message(target, arguments))

    assert message.target == target
    assert msgspec.json.decode(message.arguments) == arguments


# --- MessagePack ---


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ("82a6746172676574a174a9617267756d656e747392a16101", "92a16101"),
        ("82a6546172676574a174a9417267756d656e7473c0", "90"),
        ("81a6746172676574a174", "90"),
        ("82a6746172676574a174a9617267756d656e7473dc000101", "dc000101"),
    ],
)
def test_a_message_in_messagepack_keeps_its_arguments_bytes(body: str, arguments: str) -> None:
    message = decode_messagepack_message(bytes.fromhex(body))

    assert (message.target, bytes(message.arguments).hex()) == ("t", arguments)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "c0",
        "80",
        "90",
        "81a6746172676574c0",
        "81a674617267657401",
        "81a6746172676574a0",
        "81a6746172676574a1ff",
        "82a6746172676574a174a9617267756d656e747380",
        "82a6746172676574a174a9617267756d656e747301",
        "81a6746172676574a17400",
        "82a6746172676574a174a9617267756d656e7473" + "91" * 5000 + "c0",
    ],
)
def test_other_messagepack_bodies_are_refused(body: str) -> None:
    with pytest.raises(InvalidMessageError):
        decode_messagepack_message(bytes.fromhex(body))


# --- frames ---

# rest-and-management.md 2.3: what the Management SDK sends for target "target", arguments ["a",1].
FRAMES = bytes.fromhex(
    "82a46a736f6ec4317b2274797065223a312c22746172676574223a22746172676574222c22617267756d656e7473223a5b2261"
    "222c315d7d1eab6d6573736167657061636bc41110960180c0a674617267657492a1610190"
)
JSON_FRAME = b'{"type":1,"target":"t","arguments":[1]}\x1e'
MESSAGEPACK_FRAME = bytes.fromhex("09960180c0a1749101") + b"\x90"


def frames(**protocols: bytes) -> bytes:
    return msgspec.msgpack.encode(protocols)


def test_frames_are_calls_in_the_words_of_each_protocol() -> None:
    invocations = decode_invocations(FRAMES)

    assert {name: (call.target, bytes(call.arguments)) for name, call in invocations.items()} == {
        "json": ("target", b'["a",1]'),
        "messagepack": ("target", bytes.fromhex("92a16101")),
    }


def test_an_invocation_id_in_a_frame_is_the_services_to_give() -> None:
    body = frames(json=b'{"type":1,"invocationId":"7","target":"t","arguments":[]}\x1e')

    assert decode_invocations(body)["json"].invocation_id is None


@pytest.mark.parametrize("body", [b"\x80", frames(blazorpack=b"anything")])
def test_a_body_without_a_protocol_of_ours_is_for_nobody(body: bytes) -> None:
    # NOTES of the Management SDK: WithHubProtocols() with none sends the body 80.
    assert decode_invocations(body) == {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not a MessagePack map"),
        (b"{}", "not a MessagePack map"),
        (b"\x81\xa4json\xa1x", "not a MessagePack map"),  # a text, where binary is due
        (frames(json=b""), "not exactly one Invocation"),
        (frames(json=b"x"), "not exactly one Invocation"),
        (frames(json=b"x\x1e"), "'json' is malformed"),
        (frames(json=JSON_FRAME * 2), "not exactly one Invocation"),
        (frames(json=JSON_FRAME[:-1]), "not exactly one Invocation"),
        (frames(json=JSON_FRAME + b"x"), "not exactly one Invocation"),
        (frames(json=b'{"type":6}\x1e'), "not exactly one Invocation"),
        # NOTES of the Management SDK: a null before another argument makes it write invalid JSON.
        (frames(json=b'{"type":1,"target":"t","arguments":[1,null2]}\x1e'), "'json' is malformed"),
        (frames(json=b'{"type":1,"target":"t","arguments":' + b"[" * 99 + b"]" * 99 + b"}\x1e"), "nested"),
        (frames(messagepack=MESSAGEPACK_FRAME[:-1]), "not exactly one Invocation"),
        (frames(messagepack=b"\xff\xff\xff\xff\xff"), "'messagepack' is malformed"),
        (frames(messagepack=b"\x02\x91\x06"), "not exactly one Invocation"),
    ],
)
def test_frames_are_checked_on_arrival(body: bytes, text: str) -> None:
    with pytest.raises(InvalidMessageError, match=text):
        decode_invocations(body)


def test_the_items_of_a_stream_come_in_frames_too() -> None:
    # rest-and-management.md 2.4
    body = frames(
        json=b'{"type":2,"invocationId":"s1","item":{"a":1}}\x1e',
        messagepack=bytes.fromhex("0a940280a2733181a16101"),
    )

    items = decode_items(body, "s1")

    assert {name: bytes(item) for name, item in items.items()} == {
        "json": b'{"a":1}',
        "messagepack": bytes.fromhex("81a16101"),
    }
    with pytest.raises(InvalidMessageError, match="another stream"):
        decode_items(body, "s2")


# --- commands ---


def test_commands_are_read() -> None:
    # rest-and-management.md 1.1 #21
    commands = decode_commands(
        b'[{"type":"SendMessage","message":{"target":"t","arguments":[1]}},{"type":"JoinGroup","group":"g"},'
        b'{"Type":"LeaveGroup","Group":"g"},{"type":"CloseConnection","reason":"r"},'
        b'{"type":"CloseConnection","reason":null}]'
    )

    message = commands[0]
    assert isinstance(message, SendMessage)
    assert (message.message.target, bytes(message.message.arguments)) == ("t", b"[1]")
    assert commands[1:] == [JoinGroup("g"), LeaveGroup("g"), CloseConnection("r"), CloseConnection(None)]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not a JSON array of commands"),
        (b"{}", "not a JSON array of commands"),
        (b"[1]", "not a JSON array of commands"),
        (b'["\xff"]', "not a JSON array of commands"),
        (b"[{}]", "command 0: 'type' must be"),
        (b'[{"type":"CloseConnection"},{"type":"Dance"}]', "command 1: 'type' must be"),
        (b'[{"type":1}]', "command 0: 'type' must be a text"),
        (b'[{"type":"SendMessage"}]', "command 0: SendMessage has no 'message'"),
        (b'[{"type":"SendMessage","message":{}}]', "Target field"),
        (b'[{"type":"JoinGroup"}]', "invalid group name"),
        (b'[{"type":"LeaveGroup","group":" "}]', "invalid group name"),
        (b"[" * 99 + b"]" * 99, "nested"),
    ],
)
def test_other_commands_are_refused(body: bytes, text: str) -> None:
    with pytest.raises((InvalidMessageError, InvalidNameError), match=text):
        decode_commands(body)


@given(
    st.binary(max_size=60)
    | st.dictionaries(
        st.sampled_from(["json", "messagepack", "target", "arguments", "Target"]),
        st.binary(max_size=20) | st.text(max_size=5) | st.just(JSON_FRAME) | st.lists(st.integers(-9, 9)),
        max_size=3,
    ).map(msgspec.msgpack.encode)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "group"]), inner)
        ),
    ).map(msgspec.json.encode)
)
@settings(max_examples=300, deadline=None)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    readers: list[Any] = [
        decode_message,
        decode_messagepack_message,
        decode_invocations,
        lambda body: decode_items(body, "s"),
        decode_commands,
    ]
    for reader in readers:
        with suppress(InvalidMessageError, InvalidNameError):
            reader(body)
