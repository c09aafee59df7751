"""Every decoder of bytes that others send: how it is called, what it may raise, and bytes to begin with.

Whatever else is raised is a bug. ``tests/fuzz/__main__.py`` runs one under atheris; ``tests/test_decoders.py`` runs all
under hypothesis.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from signalr_upstream.auth import decode_token, read_key_id, verify_signature
from signalr_upstream.claims import Unsealer, seal
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import (
    ConnectionStringError,
    InvalidNameError,
    ProtocolError,
    SignalRError,
    SignatureError,
    TokenError,
)
from signalr_upstream.local.rest.filter import Filter
from signalr_upstream.protocol.handshake import (
    PROTOCOLS,
    parse_handshake_request,
    parse_handshake_response,
    parse_negotiate_version,
)
from signalr_upstream.protocol.path import PathPattern
from signalr_upstream.protocol.rest_decoding import (
    decode_commands,
    decode_invocations,
    decode_items,
    decode_message,
    decode_messagepack_message,
)
from signalr_upstream.protocol.upstream import (
    decode_answer,
    decode_header,
    decode_json_body,
    decode_json_invocation,
    decode_msgpack_invocation,
)

KEY: Final = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
LIMIT: Final = 4096
_PATTERN = PathPattern("/{hub}/{category}/{event}")


class Target(NamedTuple):
    """One decoder."""

    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def _frames(protocol: str) -> Callable[[bytes], object]:
    def decode(data: bytes) -> object:
        splitter = PROTOCOLS[protocol].splitter(LIMIT)
        middle = len(data) // 2
        frames = [*splitter.feed(data[:middle]), *splitter.feed(data[middle:])]
        messages = [PROTOCOLS[protocol].decode(frame) for frame in frames]
        repr(messages)
        assert PROTOCOLS[protocol].splitter(LIMIT).feed(data) == frames
        assert splitter.pending <= LIMIT + 5
        return messages

    return decode


def _answer(binary: bool) -> Callable[[bytes], object]:
    return lambda data: decode_answer(200, data, invocation_id="1", binary=binary)


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


_UNSEALER = Unsealer([KEY], trust_raw_claims=True)
_JSON = b'{"type":1,"invocationId":"1","target":"echo","arguments":["a",1,null,{"b":[]}],"streamIds":["2"]}'
_PACKED = bytes.fromhex("9601 80 a131 a46563686f 93 a161 01 c0 90".replace(" ", ""))
_FRAME, _ITEM = _JSON + b"\x1e", b'{"type":2,"invocationId":"1","item":1}\x1e'
_IN_FRAMES = b"\x81\xa4json\xc4" + bytes([len(_FRAME)]) + _FRAME
_ITEM_IN_FRAMES = b"\x81\xa4json\xc4" + bytes([len(_ITEM)]) + _ITEM
_REST = b'{"target":"t","arguments":[1,"a"]}'

TARGETS: Final = {
    "json_invocation": Target(decode_json_invocation, (ProtocolError,), (_JSON, b'{"Type":1}')),
    "json_body": Target(
        decode_json_body, (ProtocolError,), (b'{"type":10}', b'{"Type":11,"Error":null}', _JSON)
    ),
    "msgpack_invocation": Target(decode_msgpack_invocation, (ProtocolError,), (_PACKED,)),
    "json_frames": Target(
        _frames("json"), (ProtocolError,), (_JSON + b"\x1e", b'{"type":6}\x1e{"type":7}\x1e')
    ),
    "msgpack_frames": Target(
        _frames("messagepack"), (ProtocolError,), (bytes([len(_PACKED)]) + _PACKED, bytes.fromhex("029106"))
    ),
    "json_answer": Target(_answer(binary=False), (), (b'{"type":3,"invocationId":"1","result":1}\x1e',)),
    "msgpack_answer": Target(_answer(binary=True), (), (bytes.fromhex("07950380a131032a"),)),
    "handshake_request": Target(
        parse_handshake_request, (ProtocolError,), (b'{"protocol":"json","version":1}',)
    ),
    "handshake_response": Target(parse_handshake_response, (ProtocolError,), (b"{}", b'{"error":"x"}')),
    "negotiate_version": Target(_text(parse_negotiate_version), (SignalRError,), (b"1",)),
    "rest_message": Target(decode_message, (ProtocolError,), (_REST,)),
    "rest_msgpack_message": Target(
        decode_messagepack_message, (ProtocolError,), (b"\x82\xa6target\xa1t\xa9arguments\x91\x01",)
    ),
    "rest_invocations": Target(decode_invocations, (ProtocolError,), (_IN_FRAMES,)),
    "rest_items": Target(lambda data: decode_items(data, "1"), (ProtocolError,), (_ITEM_IN_FRAMES,)),
    "rest_commands": Target(
        decode_commands,
        (ProtocolError, InvalidNameError),
        (b'[{"type":"JoinGroup","group":"g"},{"type":"SendMessage","message":{"target":"t"}}]',),
    ),
    "rest_filter": Target(
        _text(Filter), (SignalRError,), (b"userId eq 'a' and (not ('b' in groups)) or length(groups) gt 1",)
    ),
    "header": Target(decode_header, (), (b"abc", "é".encode(), b"\xff")),
    "path": Target(
        lambda data: _PATTERN.agrees(data, hub="chat", category="messages", event="echo"),
        (),
        (b"/chat/messages/echo", b"//x/chat/%6dessages/echo/"),
    ),
    "signature": Target(
        lambda data: verify_signature(data.decode("latin-1"), "c1", [KEY]),
        (SignatureError,),
        (b"sha256=00, sha256=",),
    ),
    "token": Target(
        lambda data: decode_token(data.decode("latin-1"), [KEY], now=0, audiences=("a",)),
        (TokenError,),
        (b"eyJhbGciOiJIUzI1NiJ9.e30.AAAA",),
    ),
    "key_id": Target(lambda data: read_key_id(data.decode("latin-1")), (), (b"eyJraWQiOiJhIn0.e30.AAAA",)),
    "claims": Target(
        _text(lambda text: _UNSEALER.unseal(text, "ann")),
        (),
        (f"su: {seal('ann', {'role': 'admin'}, KEY)}".encode(), b"name: Doe, role: admin"),
    ),
    "connection_string": Target(
        _text(parse_connection_string),
        (ConnectionStringError,),
        (
            f"Endpoint=https://a;AccessKey={KEY};Version=1.0;Port=1;".encode(),
            b"Endpoint=x;AuthType=azure.app",
        ),
    ),
}
