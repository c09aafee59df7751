"""Frames and bodies as people read them; the bytes are the specification's and recorded ones."""

import json

import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.local.inspector.decoded import body_texts, message_of, messages_in
from signalr_upstream.local.records.redaction import HIDDEN


def seen(data: bytes, *, binary: bool = False) -> list[tuple[str, str, str]]:
    return [(message.type, message.name, message.values) for message in messages_in(data, binary=binary)]


@pytest.mark.parametrize(
    ("data", "type_", "name", "values", "failed"),
    [
        # HubProtocol.md, the examples of the JSON encoding
        (
            b'{"type":1,"invocationId":"123","target":"Send","arguments":[42,"Test Message"]}',
            "Invocation",
            "Send",
            '[42,"Test Message"]',
            False,
        ),
        (b'{"type":2,"invocationId":"123","item":42}', "StreamItem", "", "42", False),
        (b'{"type":3,"invocationId":"123"}', "Completion", "", "", False),
        (b'{"type":3,"invocationId":"123","result":42}', "Completion", "", "42", False),
        (b'{"type":3,"invocationId":"123","result":null}', "Completion", "", "null", False),
        (
            b'{"type":3,"invocationId":"123","error":"It didn\'t work!"}',
            "Completion",
            "",
            "It didn't work!",
            True,
        ),
        (
            b'{"type":4,"invocationId":"123","target":"Send","arguments":[42]}',
            "StreamInvocation",
            "Send",
            "[42]",
            False,
        ),
        (b'{"type":5,"invocationId":"123"}', "CancelInvocation", "", "", False),
        (b'{"type":6}', "Ping", "", "", False),
        (b'{"type":7,"error":"gone","allowReconnect":true}', "Close", "", "gone", True),
        (b'{"type":8,"sequenceId":1394}', "Ack", "", "", False),
        (b'{"type":9,"sequenceId":1234}', "Sequence", "", "", False),
        (b'{"protocol":"messagepack","version":1}', "Handshake", "", "messagepack", False),
        (b"{}", "Handshake", "", "", False),
        (b'{"error":"Requested protocol is not available."}', "Handshake", "", None, True),
    ],
)
def test_json_messages_are_named_and_shown_whole(
    data: bytes, type_: str, name: str, values: str | None, failed: bool
) -> None:
    [message] = messages_in(data + b"\x1e", binary=False)

    expected = "Requested protocol is not available." if values is None else values
    assert (message.type, message.name, message.values, message.failed) == (type_, name, expected, failed)
    assert json.loads(message.text) == json.loads(data)


def test_messagepack_is_shown_as_json() -> None:
    # HubProtocol.md, MessagePack encoding: the example of an invocation, with its length in front
    invocation = bytes.fromhex("11960180a378797aa66d6574686f64912a90")
    close = bytes.fromhex("079307a3627965c3")
    assert seen(invocation + close, binary=True) == [("Invocation", "method", "[42]"), ("Close", "", "bye")]
    assert [kind for kind, _, _ in seen(invocation + close[:-1], binary=True)] == ["Invocation", "Data"]


def test_the_handshake_is_json_also_where_it_travels_as_binary() -> None:
    assert seen(b"{}\x1e", binary=True) == [("Handshake", "", "")]
    assert seen(b'{"error":"no"}\x1e', binary=True) == [("Handshake", "", "no")]


def test_values_that_json_has_no_form_for_are_shown_all_the_same() -> None:
    timestamp = "d6ff5f5e1000"  # an extension that has the form of a date
    extension = "d40501"
    key_is_a_list = "81910101"
    for value, shown in [
        (timestamp, '["2020-09-13'),
        (extension, '[{"extension":5,"data":"01"}]'),
        (key_is_a_list, '"MessagePack that JSON has no form for: 91 81'),
    ]:
        body = bytes.fromhex("960180c0a17491" + value + "90")

        message = message_of(body, binary=True)

        assert message.type == "Invocation"
        assert message.values.startswith(shown)


def test_one_transport_message_may_hold_many_and_a_piece_of_one() -> None:
    assert seen(b'{"type":6}\x1e{"type":3,"invocationId":"1","result":1}\x1e{"type":1,"tar') == [
        ("Ping", "", ""),
        ("Completion", "", "1"),
        ("Data", "", '{"type":1,"tar'),
    ]


@pytest.mark.parametrize(
    ("data", "binary", "shown"),
    [
        (b"\xff\xfe", True, "ff fe"),
        (b"\xff\xfe", False, "ff fe"),
        (b"\xff\xff\xff\xff\xff\xff", True, "ff ff ff ff ff ff"),
        (b"[1]\x1e", False, "[1]"),
        (b'{"type":99,"x":1}\x1e', False, '{"type":99,"x":1}'),
        (b'{"type":"x"}\x1e', False, '{"type":"x"}'),
        (b'{"type":1}\x1e', False, '{"type":1}'),
        (b"nonsense", False, "nonsense"),
    ],
)
def test_whatever_the_bytes_are_something_is_shown(data: bytes, binary: bool, shown: str) -> None:
    assert seen(data, binary=binary) == [("Data", "", shown)]


def test_secrets_in_headers_and_values_are_hidden() -> None:
    token = encode_token({"exp": 1}, "k" * 44)
    data = (
        b'{"type":1,"target":"t","arguments":["%s"],'
        b'"headers":{"Authorization":"Bearer s3cret","COOKIE":"s3cret","trace":"1"}}\x1e' % token.encode()
    )

    [message] = messages_in(data, binary=False)

    assert message.values == f'["{HIDDEN}"]'
    assert json.loads(message.text)["headers"] == {"Authorization": HIDDEN, "COOKIE": HIDDEN, "trace": "1"}
    assert "s3cret" not in message.text
    assert token not in message.text


@pytest.mark.parametrize(
    ("body", "type_", "values", "failed"),
    [
        (b'{"type":10}', "OpenConnection", "", False),
        (b'{"Type":11}', "CloseConnection", "", False),
        (b'{"Type":11,"Error":"why"}', "CloseConnection", "why", True),
        (b'{"type":1,"target":"t","arguments":[1]}', "Invocation", "[1]", False),
    ],
)
def test_bodies_of_calls_to_the_app_have_no_framing(
    body: bytes, type_: str, values: str, failed: bool
) -> None:
    message = message_of(body, binary=False)

    assert (message.type, message.values, message.failed) == (type_, values, failed)


def test_bodies_are_shown_by_what_they_are() -> None:
    assert body_texts(b'{"a":1}', binary=False) == ['{\n  "a": 1\n}']
    assert body_texts(b'{"type":3,"invocationId":"0"}\x1e', binary=False)[0].endswith(
        '"invocationId": "0"\n}'
    )
    assert body_texts(b"plain words", binary=False) == ["plain words"]
    assert body_texts(b"\xff", binary=False) == ["ff"]
    invocation = bytes.fromhex("960180c0a17492 01a16190".replace(" ", ""))
    completion = bytes.fromhex("0795 0380a137032a".replace(" ", ""))
    assert [json.loads(text)["type"] for text in body_texts(invocation, binary=True)] == [1]
    assert [json.loads(text)["result"] for text in body_texts(completion * 2, binary=True)] == [42, 42]
    # reference/rest-and-management: the body of a REST call with application/x-msgpack is a map
    assert json.loads(body_texts(bytes.fromhex("81a6546172676574a174"), binary=True)[0]) == {"Target": "t"}


def test_numbers_keep_all_their_digits() -> None:
    data = b'{"type":3,"invocationId":"1","result":12345678901234567890123.10}\x1e'

    [message] = messages_in(data, binary=False)

    assert message.values == "12345678901234567890123.10"
    assert "12345678901234567890123.10" in message.text
