import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.errors import InvalidMessageError, ProtocolError, TrailingDataError
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
from signalr_upstream.protocol.msgpack_hub import MessagePackHubProtocol

ARGUMENTS = Raw(bytes.fromhex("912a"))  # [42]

# HubProtocol.md, "MessagePack (MsgPack) encoding", the bodies of its examples.
SPEC = [
    ("960180a378797aa66d6574686f64912a90", Invocation("method", ARGUMENTS, "xyz")),
    ("960180c0a66d6574686f64912a90", Invocation("method", ARGUMENTS)),
    (
        "960182a178a179a17aa17aa378797aa66d6574686f64912a90",
        Invocation("method", ARGUMENTS, "xyz", headers={"x": "y", "z": "z"}),
    ),
    ("960480a378797aa66d6574686f64912a90", StreamInvocation("xyz", "method", ARGUMENTS)),
    ("940280a378797a2a", StreamItem("xyz", Raw(b"\x2a"))),
    ("950380a378797a01a54572726f72", Completion("xyz", error="Error")),
    ("940380a378797a02", Completion("xyz")),
    ("950380a378797a032a", Completion("xyz", result=Raw(b"\x2a"))),
    ("930580a378797a", CancelInvocation("xyz")),
    ("9106", Ping()),
    ("9307a378797ac3", Close("xyz", allow_reconnect=True)),
    ("9307c0c2", Close()),  # as .NET writes it
    ("92080a", Ack(10)),
    ("920913", Sequence(19)),
]
# Legal, but not what is written here: @microsoft/signalr-protocol-msgpack 10.0.11 unless another source is named.
ACCEPTED = [
    ("950180a130a473656e6492a5616c6963652a", Invocation("send", Raw(b"\x92\xa5alice\x2a"), "0")),
    ("950180c0a473656e6492a5616c6963652a", Invocation("send", Raw(b"\x92\xa5alice\x2a"))),
    ("960180a131a275709091a130", Invocation("up", Raw(b"\x90"), "1", ["0"])),
    ("950480a132a7636f756e746572920acd01f4", StreamInvocation("2", "counter", Raw(b"\x92\x0a\xcd\x01\xf4"))),
    ("9207c0", Close()),
    ("9207a378797a", Close("xyz")),  # HubProtocol.md, an older Close
    ("9208cc24", Ack(36)),  # HubProtocol.md, an uint8
    ("9209cc13", Sequence(19)),
]


def framed(body: bytes) -> bytes:
    assert len(body) < 128
    return bytes([len(body)]) + body


@pytest.mark.parametrize(("wire", "message"), SPEC)
def test_messages_are_written_and_read_as_the_spec_shows_them(wire: str, message: HubMessage) -> None:
    assert MessagePackHubProtocol.encode(message) == framed(bytes.fromhex(wire))
    assert MessagePackHubProtocol.decode(bytes.fromhex(wire)) == message


@pytest.mark.parametrize(("wire", "message"), ACCEPTED)
def test_other_legal_forms_are_read(wire: str, message: HubMessage) -> None:
    assert MessagePackHubProtocol.decode(bytes.fromhex(wire)) == message


def test_an_empty_invocation_id_is_none() -> None:
    # Microsoft's reader drops it: the caller waits for nothing.
    assert MessagePackHubProtocol.decode(bytes.fromhex("960180a0a1749090")) == Invocation("t", Raw(b"\x90"))


def test_elements_behind_the_known_ones_are_ignored() -> None:
    assert MessagePackHubProtocol.decode(bytes.fromhex("9206c0")) == Ping()
    assert MessagePackHubProtocol.decode(bytes.fromhex("970180c0a174909001")) == Invocation("t", Raw(b"\x90"))


def test_arguments_keep_the_very_bytes_they_came_in() -> None:
    # An integer wider than needed, a float32, a timestamp: whoever relays them must not change them.
    arguments = bytes.fromhex("93cc01ca3fc00000d6ff00000001")

    message = MessagePackHubProtocol.decode(bytes.fromhex("960180c0a174") + arguments + b"\x90")

    assert isinstance(message, Invocation)
    assert bytes(message.arguments) == arguments


@pytest.mark.parametrize("wire", ["910a", "9100", "91ff", "92cf00ffffffffffffffc0"])
def test_a_message_of_an_unknown_type_is_to_be_ignored(wire: str) -> None:
    assert MessagePackHubProtocol.decode(bytes.fromhex(wire)) is None


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("", "truncated"),
        ("c1", "not a hub message"),
        ("06", "array"),
        ("90", "missing `type`"),
        ("91a131", "`type`"),
        ("91c3", "`type`"),
        ("9101", "missing `headers`"),
        ("9201c0", "`headers`"),
        ("960181a16101c0a1749090", "`headers`"),
        ("96018001a1749090", "`invocationId`"),
        ("960180c0c09090", "`target`"),
        ("960180c0a174c090", "`arguments`"),
        ("960180c0a1748090", "`arguments`"),
        ("960180c0a1749001", "`streamIds`"),
        ("960180c0a1ff9090", "`target`: not UTF-8"),
        ("940180c0a174", "missing `arguments`"),
        ("940380a13004", "`resultKind`"),
        ("930380a130", "missing `resultKind`"),
        ("940380a13001", "missing `error`"),
        ("950380a130012a", "`error`"),
        ("940380a13003", "missing `result`"),
        ("930280a130", "missing `item`"),
        ("940280c001", "`invocationId`"),
        ("9107", "missing `error`"),
        ("9307c001", "`allowReconnect`"),
        ("9108", "missing `sequenceId`"),
        ("9109", "missing `sequenceId`"),
        ("960180c0a174" + "91" * 100_000, "deep"),
    ],
)
def test_what_is_no_hub_message_is_refused_with_the_reason(wire: str, reason: str) -> None:
    with pytest.raises(InvalidMessageError, match=reason):
        MessagePackHubProtocol.decode(bytes.fromhex(wire))


def test_bytes_behind_a_message_are_refused() -> None:
    with pytest.raises(TrailingDataError):
        MessagePackHubProtocol.decode(bytes.fromhex("9106c0"))


def test_the_text_of_an_error_never_shows_a_value() -> None:
    for message in (
        ["hunter2"],
        [1, "hunter2", None, "t", []],
        [1, {"hunter2": 1}, None, "t", []],
        [1, {}, ["hunter2"], "t", []],
        [1, {}, None, "t", "hunter2"],
        [3, {}, "hunter2", "hunter2"],
    ):
        with pytest.raises(ProtocolError) as caught:
            MessagePackHubProtocol.decode(msgspec.msgpack.encode(message))
        assert "hunter2" not in str(caught.value)


def test_values_become_the_arguments_of_a_message() -> None:
    arguments = MessagePackHubProtocol.encode_values(("hi", 42))

    assert bytes(arguments) == bytes.fromhex("92a26869") + b"\x2a"


def test_a_value_that_is_no_msgpack_goes_through_the_hook() -> None:
    assert bytes(MessagePackHubProtocol.encode_values([1j], enc_hook=str)) == b"\x91\xa21j"


ELEMENTS = st.sampled_from(
    [0, 1, 2, 3, 7, None, True, "", "t", {}, {"a": "b"}, [], ["1"], [None], b"\xff", 1.5]
)


@given(
    st.binary(max_size=60)
    | st.tuples(st.integers(0, 10), st.lists(ELEMENTS, max_size=7)).map(
        lambda parts: msgspec.msgpack.encode([parts[0], *parts[1]])
    )
)
@settings(max_examples=400)
def test_hostile_bytes_give_a_message_or_a_protocol_error(data: bytes) -> None:
    for payload in (data, b"\x96\x01\x80\xc0\xa1t" + data, b"\x95\x03\x80\xa10\x03" + data):
        try:
            message = MessagePackHubProtocol.decode(payload)
        except ProtocolError:
            continue
        if message is not None:
            (body,) = MessagePackHubProtocol.splitter().feed(MessagePackHubProtocol.encode(message))
            assert MessagePackHubProtocol.decode(body) == message
