"""Every decoder of bytes that others send: how it is called, what it may raise, and bytes to begin with.

Whatever else is raised is a bug. ``tests/fuzz/__main__.py`` runs one under atheris; ``tests/test_decoders.py`` runs all
under hypothesis. Bytes to begin with are, where there are recordings, also Microsoft's own.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from signalr_upstream.auth import decode_token, read_key_id, sign_connection, verify_signature
from signalr_upstream.claims import Unsealer, seal
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import (
    ClientInvocationError,
    ConnectionStringError,
    InvalidNameError,
    ProtocolError,
    ResultError,
    ServiceError,
    SignalRError,
    SignatureError,
    TokenError,
)
from signalr_upstream.local.admission import Query, closing_time, read_claims
from signalr_upstream.local.rest.filter import Filter
from signalr_upstream.protocol import rest, rest_errors
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
from signalr_upstream.rest.results import result_of
from signalr_upstream.transports.transport import Answer

from . import forms, seeds
from .forms import KEY, Form
from .looped import (
    Order,
    call,
    http_answer,
    issuer_document,
    issuer_form,
    issuer_token,
    page,
    published_keys,
    service_token,
    upstream_token,
)

LIMIT: Final = 4096
_PATTERN = PathPattern("/{hub}/{category}/{event}")


class Target(NamedTuple):
    """One decoder; ``form`` is what its bytes are made of, if that can be read and written."""

    decode: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]
    form: Form | None = None


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
_ORDER = [{"item": "tea", "count": 2, "notes": {"n": [1.5]}}, None, "a", "b"]
_FRAME, _ITEM = _JSON + b"\x1e", b'{"type":2,"invocationId":"1","item":1}\x1e'
_IN_FRAMES = b"\x81\xa4json\xc4" + bytes([len(_FRAME)]) + _FRAME
_ITEM_IN_FRAMES = b"\x81\xa4json\xc4" + bytes([len(_ITEM)]) + _ITEM
_REST = b'{"target":"t","arguments":[1,"a"]}'
_TOKEN = forms.TOKEN.write(
    [{"alg": "HS256", "kid": "k"}, {"aud": "a", "exp": 4102444800, "nbf": 0, "role": ["x"]}]
)
_PACKED_RESULT = bytes.fromhex("07950380a131032a")
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
_PAGE = (
    b'{"value":[{"connectionId":"c1","userId":"ann"}],'
    b'"nextLink":"https://east.example/api/hubs/chat/groups/g/connections?token=x"}'
)


def _refusal(data: bytes) -> object:
    """Any words of the service, in its body and its headers."""
    words = data.decode("latin-1")
    headers = dict.fromkeys((rest.ERROR_CODE_HEADER, "retry-after", "www-authenticate"), words)
    error = rest_errors.refusal(rest.GROUP_EXISTS, 300 + len(data) % 300, headers, data)
    assert str(error).isprintable()
    return [str(error), error.retry_after]


def _result(data: bytes) -> object:
    """A client's result, as anything and as a class."""
    answer = Answer(200, [], data)
    anything = result_of(answer, Any)
    return [anything, result_of(answer, Order)]


def _token(data: bytes) -> object:
    """A client's token, and what the local service takes from it."""
    claims = decode_token(data.decode("latin-1"), [KEY], now=0, audiences=None)
    read = [claims, read_claims(claims), closing_time(claims)]
    decode_token(data.decode("latin-1"), [KEY], now=0, audiences=("a",))
    return read


def _query(data: bytes) -> object:
    query = Query(data)
    assert query.has_all_of(query)
    return [query.all("hub"), query.last("id"), query.last("access_token")]


TARGETS: Final = {
    "json_invocation": Target(
        decode_json_invocation,
        (ProtocolError,),
        (_JSON, b'{"Type":1}', *seeds.upstream(binary=False)),
        forms.JSON,
    ),
    "json_body": Target(
        decode_json_body,
        (ProtocolError,),
        (b'{"type":10}', b'{"Type":11,"Error":null}', _JSON, *seeds.upstream(binary=False)),
        forms.JSON,
    ),
    "msgpack_invocation": Target(
        decode_msgpack_invocation, (ProtocolError,), (_PACKED, *seeds.upstream(binary=True)), forms.PACKED
    ),
    "json_call": Target(
        call(binary=False),
        (),
        (_JSON, forms.JSON.write({"type": 1, "invocationId": "1", "target": "order", "arguments": _ORDER})),
        forms.JSON,
    ),
    "msgpack_call": Target(
        call(binary=True), (), (_PACKED, forms.PACKED.write([1, {}, "1", "order", _ORDER, []])), forms.PACKED
    ),
    "json_frames": Target(
        _frames("json"),
        (ProtocolError,),
        (_JSON + b"\x1e", b'{"type":6}\x1e{"type":7}\x1e', *seeds.frames("json")),
        forms.JSON_FRAMES,
    ),
    "msgpack_frames": Target(
        _frames("messagepack"),
        (ProtocolError,),
        (bytes([len(_PACKED)]) + _PACKED, bytes.fromhex("029106"), *seeds.frames("messagepack")),
        forms.PACKED_FRAMES,
    ),
    "json_answer": Target(
        _answer(binary=False),
        (),
        (b'{"type":3,"invocationId":"1","result":1}\x1e', *seeds.upstream(binary=False, answers=True)),
        forms.JSON_FRAMES,
    ),
    "msgpack_answer": Target(
        _answer(binary=True),
        (),
        (_PACKED_RESULT, *seeds.upstream(binary=True, answers=True)),
        forms.PACKED_FRAMES,
    ),
    "handshake_request": Target(
        parse_handshake_request,
        (ProtocolError,),
        (b'{"protocol":"json","version":1}', *seeds.handshakes()),
        forms.JSON,
    ),
    "handshake_response": Target(
        parse_handshake_response, (ProtocolError,), (b"{}", b'{"error":"x"}'), forms.JSON
    ),
    "negotiate_version": Target(_text(parse_negotiate_version), (SignalRError,), (b"1", b"0", b"-1", b" 12")),
    "rest_message": Target(decode_message, (ProtocolError,), (_REST, *seeds.rest_bodies()), forms.JSON),
    "rest_msgpack_message": Target(
        decode_messagepack_message,
        (ProtocolError,),
        (b"\x82\xa6target\xa1t\xa9arguments\x91\x01",),
        forms.PACKED,
    ),
    "rest_invocations": Target(
        decode_invocations,
        (ProtocolError,),
        (_IN_FRAMES, *seeds.packed_rest_bodies()),
        forms.BOTH_PROTOCOLS,
    ),
    "rest_items": Target(
        lambda data: decode_items(data, "1"), (ProtocolError,), (_ITEM_IN_FRAMES,), forms.BOTH_PROTOCOLS
    ),
    "rest_commands": Target(
        decode_commands,
        (ProtocolError, InvalidNameError),
        (b'[{"type":"JoinGroup","group":"g"},{"type":"SendMessage","message":{"target":"t"}}]',),
        forms.JSON,
    ),
    "rest_filter": Target(
        _text(Filter),
        (SignalRError,),
        (
            b"userId eq 'a' and (not ('b' in groups)) or length(groups) gt 1",
            b"substring(connectionId, 1, 2) ne 'it''s' and userId ne null",
        ),
    ),
    "rest_path": Target(
        lambda data: rest.match("POST", data), (), (b"/api/hubs/chat/groups/g%2F1/:send", b"/api/v1/hubs/a")
    ),
    "rest_refusal": Target(
        _refusal,
        (),
        (
            b'{"error":{"code":"x","message":"no"},"errors":{"a":["b"]}}',
            b'Bearer error_description="expired"',
            b"<html>",
            *seeds.rest_answers(),
        ),
        forms.JSON,
    ),
    "rest_page": Target(page, (ServiceError,), (_PAGE,), forms.JSON),
    "rest_token": Target(service_token, (ServiceError,), (b'{"token":"a.b.c"}',), forms.JSON),
    "invoke_result": Target(
        _result,
        (ResultError, ClientInvocationError),
        (b'{"result":{"item":"tea"}}', b'{"type":3,"invocationId":"1","result":1}\x1e', b"", _PACKED_RESULT),
        forms.JSON,
    ),
    "http_answer": Target(
        http_answer,
        (),
        (
            b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok",
            _CHUNKED,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Encoding: gzip\r\n\r\n",
        ),
    ),
    "query": Target(
        _query, (), (b"hub=chat&id=a%20b&access_token[0]=x", *seeds.headers("X-ASRS-Client-Query"))
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
        (f"sha256=00, {sign_connection('c1', [KEY])}".encode(), b"sha256=00, sha256="),
    ),
    "token": Target(_token, (TokenError,), (_TOKEN,), forms.TOKEN),
    "upstream_token": Target(upstream_token, (TokenError,), (issuer_token(),), issuer_form()),
    "published_keys": Target(published_keys, (), (issuer_document(),), forms.JSON),
    "key_id": Target(
        lambda data: read_key_id(data.decode("latin-1")),
        (),
        (b"eyJraWQiOiJhIn0.e30.AAAA", _TOKEN),
        forms.TOKEN,
    ),
    "claims": Target(
        _text(lambda text: _UNSEALER.unseal(text, "ann")),
        (),
        (
            f"su: {seal('ann', {'role': 'admin'}, KEY)}".encode(),
            b"name: Doe, role: admin",
            *seeds.headers("X-ASRS-User-Claims"),
        ),
        forms.SEAL,
    ),
    "connection_string": Target(
        _text(parse_connection_string),
        (ConnectionStringError,),
        (
            f"Endpoint=https://a;AccessKey={KEY};Version=1.0;Port=1;".encode(),
            b"Endpoint=https://a.example;AuthType=azure.app;ClientId=i;ClientSecret=s;TenantId=t",
            b"Endpoint=x;AuthType=azure.app",
        ),
    ),
}
