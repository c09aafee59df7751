import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream.errors import HandshakeError
from signalr_upstream.protocol.handshake import (
    PROTOCOLS,
    HandshakeRequest,
    choose_protocol,
    encode_handshake_request,
    encode_handshake_response,
    encode_negotiation,
    encode_negotiation_error,
    encode_redirection,
    parse_handshake_request,
    parse_handshake_response,
    parse_negotiate_version,
)


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
def test_a_request_is_written_and_read_as_clients_write_it(protocol: str) -> None:
    wire = b'{"protocol":"%s","version":1}' % protocol.encode()

    assert encode_handshake_request(protocol) == wire + b"\x1e"
    assert parse_handshake_request(wire) == HandshakeRequest(protocol, 1)
    assert choose_protocol(parse_handshake_request(wire)).name == protocol


def test_a_request_may_hold_spaces_and_unknown_members() -> None:
    # pysignalr 1.3.3 and signalrcore 1.0.2 write the spaces.
    assert parse_handshake_request(b'{"protocol": "json", "version": 1, "x": [1]}') == HandshakeRequest(
        "json", 1
    )


@pytest.mark.parametrize("name", ["JSON", "MessagePack"])
def test_the_case_of_a_protocol_does_not_matter(name: str) -> None:
    assert choose_protocol(HandshakeRequest(name, 1)) is PROTOCOLS[name.lower()]


@pytest.mark.parametrize("version", [-1, 0, 1, 2])
def test_versions_up_to_two_are_spoken(version: int) -> None:
    assert choose_protocol(HandshakeRequest("json", version)).name == "json"


def test_a_newer_version_is_refused_with_microsofts_text() -> None:
    with pytest.raises(
        HandshakeError, match=r"^The server does not support version 3 of the 'json' protocol\.$"
    ):
        choose_protocol(HandshakeRequest("json", 3))


def test_a_binary_protocol_over_a_transport_of_text_is_refused_with_microsofts_text() -> None:
    assert choose_protocol(HandshakeRequest("json", 1), text_only=True).name == "json"
    with pytest.raises(HandshakeError) as refused:
        choose_protocol(HandshakeRequest("messagepack", 1), text_only=True)

    assert str(refused.value) == (
        "Cannot use the 'messagepack' protocol on the current transport. "
        "The transport does not support 'Binary' transfer format."
    )


def test_an_unknown_protocol_is_refused_with_microsofts_text() -> None:
    with pytest.raises(HandshakeError, match=r"^The protocol 'xml' is not supported\.$"):
        choose_protocol(HandshakeRequest("xml", 1))


def test_a_long_name_is_not_repeated_whole() -> None:
    with pytest.raises(HandshakeError) as caught:
        choose_protocol(HandshakeRequest("x" * 10_000, 1))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "truncated"),
        (b"hunter2", "malformed"),
        (b"[]", "array"),
        (b"{}", "`protocol`"),
        (b'{"protocol":"hunter2"}', "`version`"),
        (b'{"protocol":null,"version":1}', "protocol"),
        (b'{"protocol":"json","version":"hunter2"}', "version"),
        (b'{"protocol":"json","version":1.5}', "version"),
        (b'{"protocol":"json","version":1}hunter2', "trailing"),
        (b'{"protocol":"hunter2\xff","version":1}', "UTF-8"),
        (b'{"x":' + b"[" * 100_000, "deep"),
    ],
)
def test_a_malformed_request_is_refused_with_the_reason_and_without_its_values(
    wire: bytes, reason: str
) -> None:
    with pytest.raises(
        HandshakeError, match="An unexpected error occurred during connection handshake"
    ) as caught:
        parse_handshake_request(wire)
    assert reason in str(caught.value)
    assert "hunter2" not in str(caught.value)


@given(st.binary(max_size=60))
@settings(max_examples=100)
def test_hostile_bytes_give_a_request_or_a_handshake_error(data: bytes) -> None:
    for payload in (
        data,
        b'{"protocol":"json","version":' + data,
        b'{"protocol":"' + data + b'","version":1}',
    ):
        try:
            choose_protocol(parse_handshake_request(payload))
        except HandshakeError as error:
            text = str(error)
        else:
            continue
        assert parse_handshake_response(encode_handshake_response(text)[:-1]) == text


def test_the_answer_is_empty_or_an_error() -> None:
    assert encode_handshake_response() == b"{}\x1e"
    assert encode_handshake_response("Handshake was canceled.") == b'{"error":"Handshake was canceled."}\x1e'
    assert parse_handshake_response(b"{}") is None
    assert parse_handshake_response(b'{"error":"no"}') == "no"
    with pytest.raises(HandshakeError):
        parse_handshake_response(b'{"type":6')


@pytest.mark.parametrize(
    ("value", "version"), [(None, 0), ("0", 0), ("1", 1), ("+1", 1), (" 1 ", 1), ("2", 1), ("2147483647", 1)]
)
def test_negotiate_is_answered_in_version_zero_or_one(value: str | None, version: int) -> None:
    assert parse_negotiate_version(value) == version


@pytest.mark.parametrize("value", ["", "x", "1.0", "1_0", "\u0661", "2147483648", "9" * 5000])
def test_a_negotiate_version_that_is_no_integer_is_refused(value: str) -> None:
    with pytest.raises(HandshakeError, match=r"^The client requested a non-integer protocol version\.$"):
        parse_negotiate_version(value)


def test_a_negative_negotiate_version_is_refused() -> None:
    with pytest.raises(
        HandshakeError, match=r"^The client requested version '-1', but the server does not support"
    ):
        parse_negotiate_version("-1")


def test_only_the_transports_offered_are_named() -> None:
    body = encode_negotiation(connection_id="c", connection_token="t", version=1, transports=["WebSockets"])

    assert json.loads(body)["availableTransports"] == [
        {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}
    ]


def test_stateful_reconnect_is_named_where_it_is_offered_only() -> None:
    # The JavaScript client fails where the service offers what it has not asked for.
    offer: Any = {"connection_id": "c", "connection_token": "t", "version": 1, "transports": ["WebSockets"]}

    assert json.loads(encode_negotiation(**offer, stateful_reconnect=True))["useStatefulReconnect"] is True
    assert "useStatefulReconnect" not in json.loads(encode_negotiation(**offer))


def test_an_error_of_negotiate_is_its_only_member() -> None:
    assert encode_negotiation_error("no") == b'{"error":"no"}'


def test_a_redirection_has_exactly_the_two_members_clients_read() -> None:
    assert encode_redirection("http://x/client/?hub=chat", "t") == (
        b'{"url":"http://x/client/?hub=chat","accessToken":"t"}'
    )
