"""One upstream call on the wire: headers, bodies, answers.

Bytes are those of the service and of Microsoft's emulator (recorded 2026-11-23) or of HubProtocol.md.
"""

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from signalr_upstream.errors import InvalidMessageError, ProtocolError, TrailingDataError
from signalr_upstream.protocol.messages import (
    NO_RESULT,
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
)
from signalr_upstream.protocol.upstream import (
    MAX_ANSWER,
    decode_answer,
    decode_header,
    decode_json_body,
    decode_json_invocation,
    decode_msgpack_invocation,
    encode_connected,
    encode_disconnected,
    encode_error,
    encode_headers,
    encode_invocation,
    encode_result,
)

HEADERS: dict[str, Any] = {
    "connection_id": "cGdOlnVFkQj0YnHR3HRTkw",
    "hub": "chat",
    "category": "messages",
    "event": "res_string",
    "user_id": "user1",
    "claims": [("nbf", "1700000000"), ("asrs.s.uid", "user1")],
    "client_query": "?hub=chat&id=q-LABTXQaeXtEU75RFYHsA",
    "signature": "sha256=b007",
    "content_type": "application/json",
}


# --- headers ---


def test_headers_are_those_of_the_emulator_in_its_order() -> None:
    # emulator/upstream-exchanges.jsonl, conn_user, exchange 1.
    assert encode_headers(**HEADERS) == [
        (b"X-ASRS-Connection-Id", b"cGdOlnVFkQj0YnHR3HRTkw"),
        (b"X-ASRS-Hub", b"chat"),
        (b"X-ASRS-Category", b"messages"),
        (b"X-ASRS-Event", b"res_string"),
        (b"X-ASRS-User-Id", b"user1"),
        (b"X-ASRS-User-Claims", b"nbf: 1700000000, asrs.s.uid: user1"),
        (b"X-ASRS-Client-Query", b"?hub=chat&id=q-LABTXQaeXtEU75RFYHsA"),
        (b"X-ASRS-Signature", b"sha256=b007"),
        (b"Content-Type", b"application/json"),
    ]


def test_headers_without_a_value_are_left_out_and_others_are_utf_8() -> None:
    given_values = {**HEADERS, "user_id": None, "claims": [], "client_query": "", "event": "é\U0001f600"}

    headers = dict(encode_headers(**given_values))

    assert {b"X-ASRS-User-Id", b"X-ASRS-User-Claims", b"X-ASRS-Client-Query"}.isdisjoint(headers)
    assert headers[b"X-ASRS-Event"] == b"\xc3\xa9\xf0\x9f\x98\x80"


@pytest.mark.parametrize("name", ["connection_id", "hub", "category", "event", "user_id", "client_query"])
@pytest.mark.parametrize("character", ["\r", "\n", "\0"])
def test_a_value_that_would_end_its_header_is_refused(name: str, character: str) -> None:
    with pytest.raises(ValueError, match="line break or NUL"):
        encode_headers(**{**HEADERS, name: f"a{character}X-ASRS-User-Id: admin"})
    with pytest.raises(ValueError, match="X-ASRS-User-Claims"):
        encode_headers(**{**HEADERS, "claims": [("a", character)]})


@given(st.binary())
def test_any_header_value_can_be_read(value: bytes) -> None:
    text = decode_header(value)

    assert text.encode() == value or text.encode("latin-1") == value


# --- bodies ---


def test_bodies_of_connection_events_are_the_services() -> None:
    assert encode_connected() == b'{"type":10}'
    assert encode_disconnected(None) == b'{"Type":11}'
    assert encode_disconnected("gone") == b'{"Type":11,"Error":"gone"}'
    assert decode_json_body(encode_connected()) == OpenConnection()
    assert decode_json_body(encode_disconnected(None)) == CloseConnection()
    assert decode_json_body(encode_disconnected("gone")) == CloseConnection("gone")


def test_an_invocation_is_encoded_without_framing() -> None:
    message = Invocation("res_string", Raw(b'["x"]'), "1")
    assert encode_invocation(message, binary=False) == (
        b'{"type":1,"invocationId":"1","target":"res_string","arguments":["x"]}'
    )
    # HubProtocol.md, "Invocation Message Encoding" of MessagePack, its first example without the length prefix.
    message = Invocation("method", Raw(b"\x91\x2a"), "xyz")
    assert encode_invocation(message, binary=True) == b"\x96\x01\x80\xa3xyz\xa6method\x91\x2a\x90"


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":1,"invocationId":"1","target":"go","arguments":["x"]}',
        b'{"type":1,"invocationId":"1","target":"go","arguments":["x"]}\x1e',
        b'{"Type":1,"InvocationId":"1","Target":"go","Arguments":["x"]}',
        b'{"arguments":["x"],"headers":null,"target":"go","invocationId":"1","type":1,"more":{"a":[1]}}',
        b' { "type" : 1 , "invocationId" : "1" , "target" : "go" , "arguments" : ["x"] } ',
    ],
)
def test_every_spelling_of_a_json_invocation_gives_the_same_message(body: bytes) -> None:
    message = decode_json_invocation(body)

    assert (message.target, bytes(message.arguments), message.invocation_id) == ("go", b'["x"]', "1")


@pytest.mark.parametrize(
    ("body", "error", "told"),
    [
        (b"", InvalidMessageError, "not valid JSON"),
        (b"{}", InvalidMessageError, "no 'type'"),
        (b'{"type":1,"arguments":[]}', InvalidMessageError, "no 'target'"),
        (b'{"type":1,"target":"go"}', InvalidMessageError, "no 'arguments'"),
        (b'{"type":10}', InvalidMessageError, "got OpenConnection"),
        (b'{"type":2}', InvalidMessageError, "none of 1"),
        (b'{"type":1.0,"target":"go","arguments":[]}', InvalidMessageError, "none of 1"),
        (b'{"target":"go","arguments":[]}', InvalidMessageError, "no 'type'"),
        (b'{"type":1,"target":5,"arguments":[]}', InvalidMessageError, "`str`"),
        (b'{"type":1,"target":"go","arguments":[]}{}', TrailingDataError, "bytes follow"),
        (b'{"type":1,"target":"go","arguments":[]}\x1e\x1e', TrailingDataError, "bytes follow"),
        (b'{"type":1,"target":"go","arguments":["\xff"]}', InvalidMessageError, "not valid JSON"),
        (
            b'{"type":1,"target":"go","arguments":' + b"[" * 65 + b"]" * 65 + b"}",
            InvalidMessageError,
            "deeper than 64",
        ),
    ],
)
def test_what_is_no_json_invocation_has_an_error_that_says_why(
    body: bytes, error: type[ProtocolError], told: str
) -> None:
    with pytest.raises(error, match=told) as caught:
        decode_json_invocation(body)
    assert type(caught.value) is error


def test_messagepack_invocations_take_five_or_six_elements_and_raw_arguments() -> None:
    for body in (b"\x96\x01\x80\xa3xyz\xa6method\x91\x2a\x90", b"\x95\x01\x80\xa3xyz\xa6method\x91\x2a"):
        message = decode_msgpack_invocation(body)
        assert (message.target, bytes(message.arguments), message.invocation_id) == (
            "method",
            b"\x91\x2a",
            "xyz",
        )
    with pytest.raises(InvalidMessageError, match="expected an invocation"):
        decode_msgpack_invocation(b"\x91\x06")
    with pytest.raises(InvalidMessageError, match="expected an invocation"):
        decode_msgpack_invocation(b"\x91\x63")  # a type of a later version of the protocol


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_message_or_a_protocol_error(body: bytes) -> None:
    for decode in (decode_json_body, decode_json_invocation, decode_msgpack_invocation):
        with contextlib.suppress(ProtocolError):
            decode(body)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["type", "Type", "target", "arguments", "invocationId", "streamIds", "error", "x"]),
        JSON_VALUES,
    )
)
def test_any_json_object_is_a_message_or_a_protocol_error(members: dict[str, Any]) -> None:
    body = json.dumps(members).encode()
    for decode in (decode_json_body, decode_json_invocation):
        with contextlib.suppress(ProtocolError):
            decode(body)


@given(st.text(min_size=1), st.lists(JSON_VALUES, max_size=3), st.none() | st.text(min_size=1), st.booleans())
def test_what_the_service_encodes_the_app_decodes(
    target: str, arguments: list[Any], invocation_id: str | None, binary: bool
) -> None:
    codec = msgspec.msgpack if binary else msgspec.json
    message = Invocation(target, Raw(codec.encode(arguments)), invocation_id)

    decode = decode_msgpack_invocation if binary else decode_json_invocation
    decoded = decode(encode_invocation(message, binary=binary))

    assert (decoded.target, bytes(decoded.arguments)) == (target, bytes(message.arguments))
    assert decoded.invocation_id == invocation_id


# --- answers ---


def test_answers_are_framed_completions() -> None:
    # HubProtocol.md, "Completion Message Encoding": result and error, JSON and MessagePack.
    assert encode_result("123", 42, binary=False) == b'{"type":3,"invocationId":"123","result":42}\x1e'
    assert encode_result("123", None, binary=False) == b'{"type":3,"invocationId":"123","result":null}\x1e'
    assert encode_error("123", "no", binary=False) == b'{"type":3,"invocationId":"123","error":"no"}\x1e'
    assert encode_result("xyz", 42, binary=True) == b"\x09\x95\x03\x80\xa3xyz\x03\x2a"
    assert encode_result("xyz", None, binary=True) == b"\x09\x95\x03\x80\xa3xyz\x03\xc0"
    assert encode_error("xyz", "Error", binary=True) == b"\x0e\x95\x03\x80\xa3xyz\x01\xa5Error"


@pytest.mark.parametrize("binary", [False, True])
def test_a_good_answer_is_passed_on(binary: bool) -> None:
    result = decode_answer(200, encode_result("1", [1], binary=binary), invocation_id="1", binary=binary)
    assert bytes(result.result) == (b"\x91\x01" if binary else b"[1]")
    error = decode_answer(200, encode_error("1", "no", binary=binary), invocation_id="1", binary=binary)
    assert error == Completion("1", error="no")


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, b""), (204, b"ignored")])
def test_an_empty_answer_is_a_completion_without_a_result(status: int, body: bytes) -> None:
    completion = decode_answer(status, body, invocation_id="1", binary=False)

    assert (completion.error, completion.result) == (None, NO_RESULT)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (500, b"", "status code 500"),
        (404, b'{"type":3,"invocationId":"1"}\x1e', "status code 404"),
        (202, b"", "status code 202"),
        (200, b" " * (MAX_ANSWER + 1), "too large"),
        (200, b"hello", "not one framed Completion"),
        (200, b'{"type":3,"invocationId":"1"}', "not one framed Completion"),
        (200, b'{"type":3,"invocationId":"1"}\x1e{"type":6}\x1e', "not one framed Completion"),
        (200, b'{"type":3,"invocationId":"1"}\x1ex', "not one framed Completion"),
        (200, b'{"type":6}\x1e', "not one framed Completion"),
        (200, b'{"type":99}\x1e', "not one framed Completion"),
        (200, b"<html>\x1e", "cannot be read"),
        (200, b'{"type":3,"invocationId":"2"}\x1e', "another invocation"),
    ],
)
def test_an_answer_no_client_could_read_becomes_an_error_that_explains(
    status: int, body: bytes, told: str
) -> None:
    completion = decode_answer(status, body, invocation_id="1", binary=False)

    assert completion.invocation_id == "1"
    assert told in (completion.error or "")


@given(st.integers(100, 599), st.binary(max_size=40), st.booleans())
def test_no_answer_raises(status: int, body: bytes, binary: bool) -> None:
    assert decode_answer(status, body, invocation_id="1", binary=binary).invocation_id == "1"
