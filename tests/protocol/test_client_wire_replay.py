"""What Microsoft's clients and emulator said to each other, read and written by our codecs.

Recorded in ``tests/vectors/client_wire*.jsonl``; ``tests/vectors/select_client_wire.py`` says how they were selected.
Every row is *equal*, *different* (on purpose, named here) or *excluded* (not a message of the service, named here).
"""

import json
from collections import Counter
from typing import Any
from urllib.parse import parse_qs

from signalr_upstream.errors import HandshakeError, ProtocolError
from signalr_upstream.protocol.handshake import (
    PROTOCOLS,
    TRANSFER_FORMATS,
    choose_protocol,
    encode_handshake_response,
    encode_negotiation,
    encode_negotiation_error,
    parse_handshake_request,
    parse_negotiate_version,
)
from signalr_upstream.protocol.messages import HubMessage

from ..recorded import load_plain, raw

EXCLUDED = {
    # What an upstream answered, passed on verbatim: the emulator does not look at it, our service does.
    "invoke_st_200": "text, not a message",
    "invoke_plain": "text, not a message",
    "invoke_plainrs": "text, not a message",
    "invoke_html": "text, not a message",
    "invoke_norecsep": "a completion without framing",
    "invoke_noid": "a completion without invocation id",
    "invoke_otherproto": "a completion of the other protocol",
    "invoke_redir302": "a completion whose invocation id is null",
    "invoke_resultanderror": "a completion with result and error, which the spec forbids",
    # No message of ours to compare with.
    "argkind_strings": "a lone surrogate in a string: the emulator closes the connection, we refuse the message",
    "close_partial_message": "half a message, then the socket is closed",
    # Judged elsewhere.
    "mp_text_frame": "MessagePack in a text frame is refused by the WebSocket layer",
    "json_target_empty": "the session refuses an empty target",
    "mp_target_empty": "the session refuses an empty target",
}
DIFFERENT = {
    "json_deep70": "the emulator closes at 64 levels; here the app says so, and the connection stays",
    "json_trailing_comma": "no JSON; the emulator takes it, other readers would not",
    "mp_args_nil": "the emulator drops the message in silence and the call hangs",
    "mp_args_map": "the emulator drops the message in silence and the call hangs",
    "mp_trailing_bytes": "the emulator does not look behind a message; whoever writes that has a bug",
    "mp_truncated": "the emulator drops the message in silence and the call hangs",
}
DIFFERENT_HANDSHAKES = {
    # The emulator's texts quote what the client sent and name .NET classes; ours names the member or the position.
    **dict.fromkeys(
        [
            "handshake_versionstr",
            "handshake_versionfloat",
            "handshake_noversion",
            "handshake_noprotocol",
            "handshake_empty",
            "handshake_protocolnull",
            "handshake_array",
            "handshake_notjson",
            "handshake_ping_first",
            "handshake_invocation_first",
            "handshake_bom",
            "handshake_casing",
            "handshake_binary_garbage",
        ],
        "another reason behind the same sentence",
    ),
    "handshake_trailing": "bytes between the request and its end are refused here",
}


def read(protocol: str, data: bytes, piece: int) -> tuple[list[HubMessage | None], str]:
    """The messages in ``data`` when it comes in pieces of this size, and what is wrong with it."""
    codec = PROTOCOLS[protocol]
    splitter = codec.splitter()
    messages: list[HubMessage | None] = []
    try:
        for start in range(0, len(data), piece):
            messages += map(codec.decode, splitter.feed(data[start : start + piece]))
    except ProtocolError as error:
        return messages, str(error)
    return messages, "cut off" if splitter.pending else ""


def agrees(row: dict[str, Any]) -> bool:
    data = raw(row["data"])
    messages, wrong = read(row["protocol"], data, 1)
    assert (messages, wrong) == read(row["protocol"], data, len(data) or 1)
    if row["kind"] == "stream":
        closed: bool = row["closed"]
        return (wrong not in ("", "cut off")) == closed
    if wrong or None in messages:
        return False
    codec = PROTOCOLS[row["protocol"]]
    written = b"".join(codec.encode(message) for message in messages if message is not None)
    # Clients order their members as they like; what the service wrote must be written the same.
    return (
        written == data if row["from"] == "service" else read(row["protocol"], written, 7) == (messages, "")
    )


def test_recorded_messages_are_read_and_written_as_by_microsoft() -> None:
    counts: Counter[str] = Counter()
    seen = set()
    for row in load_plain("client_wire.jsonl"):
        name = row["name"]
        if agrees(row):
            counts["equal"] += 1
            continue
        seen.add(name)
        if name in DIFFERENT:
            counts["different"] += 1
        else:
            assert name in EXCLUDED, (name, row["data"])
            counts["excluded"] += 1

    print("client wire:", dict(counts))
    assert counts == {"equal": 655, "different": 6, "excluded": 38}
    assert seen == DIFFERENT.keys() | EXCLUDED.keys()


def handshake_answer(row: dict[str, Any]) -> bytes:
    try:
        choose_protocol(parse_handshake_request(raw(row["request"])))
    except HandshakeError as error:
        return encode_handshake_response(str(error))
    return encode_handshake_response()


def negotiate_answer(row: dict[str, Any]) -> bytes:
    """The answer with the ids that were recorded."""
    ids = json.loads(row["answer"])
    values = parse_qs(row["query"], keep_blank_values=True).get("negotiateVersion")
    try:
        version = parse_negotiate_version(values[0] if values else None)
    except HandshakeError as error:
        return encode_negotiation_error(str(error))
    return encode_negotiation(
        connection_id=ids["connectionId"],
        connection_token=ids.get("connectionToken", "not sent"),
        version=version,
        transports=list(TRANSFER_FORMATS),
    )


def test_recorded_handshakes_and_negotiations_are_answered_as_by_microsoft() -> None:
    counts: Counter[str] = Counter()
    for row in load_plain("client_wire_handshakes.jsonl"):
        answer = negotiate_answer(row) if "query" in row else handshake_answer(row)
        if answer == raw(row["answer"]):
            counts["equal"] += 1
        else:
            assert row["name"] in DIFFERENT_HANDSHAKES, (row["name"], answer)
            assert answer.startswith(b'{"error":"An unexpected error occurred during connection handshake')
            counts["different"] += 1

    print("handshakes:", dict(counts))
    assert counts == {"equal": 23, "different": 14}
