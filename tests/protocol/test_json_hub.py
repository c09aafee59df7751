import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.errors import InvalidMessageError, ProtocolError, TrailingDataError
from signalr_upstream.protocol.json_hub import JsonHubProtocol
from signalr_upstream.protocol.messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)

# HubProtocol.md, "JSON Encoding", written compactly and in the order of Microsoft's writer.
WRITTEN = [
    (b'{"type":1,"target":"Send","arguments":[42,"x"]}', Invocation("Send", Raw(b'[42,"x"]'))),
    (
        b'{"type":1,"invocationId":"123","target":"Send","arguments":[42],"streamIds":["1","2"]}',
        Invocation("Send", Raw(b"[42]"), "123", ["1", "2"]),
    ),
    (
        b'{"type":1,"headers":{"Foo":"Bar"},"invocationId":"123","target":"Send","arguments":[]}',
        Invocation("Send", Raw(b"[]"), "123", headers={"Foo": "Bar"}),
    ),
    (b'{"type":2,"invocationId":"123","item":42}', StreamItem("123", Raw(b"42"))),
    (b'{"type":3,"invocationId":"123"}', Completion("123")),
    (b'{"type":3,"invocationId":"123","result":null}', Completion("123", result=Raw(b"null"))),
    (b'{"type":3,"invocationId":"123","error":"It didn\'t work!"}', Completion("123", "It didn't work!")),
    (
        b'{"type":3,"headers":{"a":"b"},"invocationId":"123","result":42}',
        Completion("123", result=Raw(b"42"), headers={"a": "b"}),
    ),
    (
        b'{"type":4,"invocationId":"123","target":"Send","arguments":[42]}',
        StreamInvocation("123", "Send", Raw(b"[42]")),
    ),
    (
        b'{"type":4,"invocationId":"1","target":"t","arguments":[],"streamIds":["2"]}',
        StreamInvocation("1", "t", Raw(b"[]"), ["2"]),
    ),
    (b'{"type":5,"invocationId":"123"}', CancelInvocation("123")),
    (b'{"type":6}', Ping()),
    (b'{"type":7}', Close()),
    (b'{"type":7,"error":"bye","allowReconnect":true}', Close("bye", allow_reconnect=True)),
    (b'{"type":8,"sequenceId":1394}', Ack(1394)),
    (b'{"type":9,"sequenceId":1234}', Sequence(1234)),
]


@pytest.mark.parametrize(("wire", "message"), WRITTEN)
def test_messages_are_written_and_read_as_the_spec_shows_them(wire: bytes, message: HubMessage) -> None:
    assert JsonHubProtocol.encode(message) == wire + b"\x1e"
    assert JsonHubProtocol.decode(wire) == message


@pytest.mark.parametrize(
    "wire",
    [
        # @microsoft/signalr 10.0.11, pysignalr 1.3.3 and signalrcore 1.0.2, as recorded.
        b'{"target":"Echo","arguments":["alice",42],"invocationId":"0","type":1}',
        b'{"target": "Echo", "arguments": ["alice", 42], "type": 1, "invocationId": "0", "headers": {}}',
        b'{"type": 1, "headers": {"Authorization": "Bearer TOK"}, "target": "Echo", '
        b'"arguments": ["alice", 42], "invocationId": "0"}',
    ],
)
def test_an_invocation_is_read_in_any_order_of_its_members(wire: bytes) -> None:
    message = JsonHubProtocol.decode(wire)

    assert isinstance(message, Invocation)
    assert (message.target, message.invocation_id) == ("Echo", "0")
    assert bytes(message.arguments).replace(b" ", b"") == b'["alice",42]'


def test_arguments_keep_the_very_bytes_they_came_in() -> None:
    message = JsonHubProtocol.decode(b'{"type":1,"target":"t","arguments":[1.50, -0,1E+2 ,1e400]}')

    assert isinstance(message, Invocation)
    assert bytes(message.arguments) == b"[1.50, -0,1E+2 ,1e400]"


def test_unknown_members_are_ignored() -> None:
    assert JsonHubProtocol.decode(b'{"x":{"y":[1]},"type":6,"z":null}') == Ping()


def test_an_empty_invocation_id_is_none() -> None:
    # Microsoft's reader drops it: the caller waits for nothing.
    wire = b'{"type":1,"target":"t","arguments":[],"invocationId":""}'

    assert JsonHubProtocol.decode(wire) == Invocation("t", Raw(b"[]"))


@pytest.mark.parametrize(
    "wire", [b'{"type":10}', b'{"type":0}', b'{"type":-1,"target":1}', b'{"a":1,"type":99}']
)
def test_a_message_of_an_unknown_type_is_to_be_ignored(wire: bytes) -> None:
    assert JsonHubProtocol.decode(wire) is None


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "truncated"),
        (b"hello", "malformed"),
        (b"[]", "array"),
        (b"{}", "`type`"),
        (b'{"type":"1"}', "type"),
        (b'{"type":1.5}', "type"),
        (b'{"type":1,"arguments":[]}', "`target`"),
        (b'{"type":1,"target":"t"}', "`arguments`"),
        (b'{"type":1,"target":"t","arguments":{}}', "arguments"),
        (b'{"type":1,"target":"t","arguments":null}', "arguments"),
        (b'{"type":4,"invocationId":"1","target":"t","arguments":1}', "arguments"),
        (b'{"type":1,"target":5,"arguments":[]}', "target"),
        (b'{"type":1,"target":"t","arguments":[],"invocationId":5}', "invocationId"),
        (b'{"type":1,"target":"t","arguments":[],"headers":{"a":1}}', "headers"),
        (b'{"type":1,"target":"t","arguments":["\xff"]}', "UTF-8"),
        (b'{"type":1,"target":"t","arguments":["\\ud800"]}', "not a hub message"),
        (b'{"type":1,"target":"t","arguments":' + b"[" * 100_000, "deep"),
        (b'{"type":12,"x":' + b"[" * 100_000, "deep"),
        (b'{"type":3}', "`invocationId`"),
        (b'{"type":3,"invocationId":"1","result":1,"error":"e"}', "`error` and `result`"),
        (b'{"type":8}', "`sequenceId`"),
    ],
)
def test_what_is_no_hub_message_is_refused_with_the_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(InvalidMessageError, match=reason):
        JsonHubProtocol.decode(wire)


@pytest.mark.parametrize(
    "wire", [b'{"type":6}{"type":6}', b'{"type":6}x', b'{"type":6}\x1e', b'{"type":10}]']
)
def test_bytes_behind_a_message_are_refused(wire: bytes) -> None:
    with pytest.raises(TrailingDataError):
        JsonHubProtocol.decode(wire)


def test_the_text_of_an_error_never_shows_a_value() -> None:
    for wire in (
        b'{"type":"hunter2"}',
        b'{"type":1,"target":"hunter2","arguments":"hunter2"}',
        b'{"type":1,"target":["hunter2"],"arguments":[]}',
        b'{"type":1,"target":"t","arguments":[],"headers":{"hunter2":1}}',
        b'{"type":1,"target":"hunter2\xff","arguments":[]}',
        b'{"hunter2',
        b"hunter2",
    ):
        with pytest.raises(ProtocolError) as caught:
            JsonHubProtocol.decode(wire)
        assert "hunter2" not in str(caught.value)


def test_values_become_the_arguments_of_a_message() -> None:
    arguments = JsonHubProtocol.encode_values(("hi", {"a": [1, None]}))

    assert bytes(arguments) == b'["hi",{"a":[1,null]}]'


def test_a_value_that_is_no_json_goes_through_the_hook() -> None:
    assert bytes(JsonHubProtocol.encode_values([1j], enc_hook=str)) == b'["1j"]'


TOKENS = [
    b'"type"',
    b":",
    b",",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"target"',
    b'"arguments"',
    b'"t"',
    b"\x1e",
    b"\xff",
    b'"',
]


@given(st.binary(max_size=80) | st.lists(st.sampled_from([*TOKENS, b"1", b"3", b"6", b"7"])).map(b"".join))
@settings(max_examples=300)
def test_hostile_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    for payload in (
        data,
        b'{"type":1,"target":"t","arguments":[' + data,
        b'{"type":3,"invocationId":' + data,
    ):
        try:
            message = JsonHubProtocol.decode(payload)
        except ProtocolError:
            continue
        if message is not None:
            assert JsonHubProtocol.decode(JsonHubProtocol.encode(message)[:-1]) == message
