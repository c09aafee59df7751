"""What has happened at a local service, as lines of JSON: a file to keep, to compare, and to play to an app again.

A line is what a client has sent or received, a call to the app with its answer, or a REST call. Times are left out
and clients are numbered, so that two recordings of the same session are the same file. Tokens, signatures and cookies
are in none of it; user ids, claims and what was said are.
"""

import re
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Raw, structs

from ...claims import SEAL_CLAIM
from ...errors import ConfigurationError, ProtocolError
from ...protocol import upstream as wire
from ...protocol.framing import RECORD_SEPARATOR, BinarySplitter, TextSplitter
from ...protocol.handshake import HubProtocol, choose_protocol, parse_handshake_request
from ...protocol.json_hub import JsonHubProtocol
from ...protocol.messages import Ack, HubMessage, Ping, Sequence
from .call_values import header
from .entries import Frame, RestCall, UpstreamCall
from .journal import Journal
from .redaction import HIDDEN, hide_query, hide_tokens, is_secret_header

Line = dict[str, Any]

HEAD: Line = {"signalr_upstream": "session", "version": 1}
"""What the first line says."""

_VALUES = ("arguments", "item", "result")
_IN_MESSAGEPACK = "messagepack"  # the only key of a value that JSON has no form for
# Of a client's query: what is said elsewhere, or belongs to one connection only.
_NOT_KEPT = frozenset(("hub", "id", "access_token", "_", "negotiateversion"))
_SEAL = re.compile(rf"(?:^|, ){SEAL_CLAIM}: ([A-Za-z0-9_-]+)\.")


def write_lines(path: str | Path, lines: Iterable[Line]) -> None:
    """Write a file of lines."""
    Path(path).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def read_lines(path: str | Path) -> list[Line]:
    """Read a file that ``write_lines`` has written, without its first line.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        head, *lines = [msgspec.json.decode(text, type=Line) for text in Path(path).read_bytes().splitlines()]
    except (ValueError, msgspec.MsgspecError):
        raise ConfigurationError(
            f"{path} is no recorded session: it is not JSON, one object a line"
        ) from None
    if not head.items() >= HEAD.items():
        raise ConfigurationError(f"{path} is no recorded session of version {HEAD['version']}")
    return lines


def lines_of(journal: Journal) -> list[Line]:
    """The session that a journal holds. Of a long one only the end is in it; the first line says how much is not."""
    entries: list[Frame | UpstreamCall | RestCall] = [
        *journal.frames,
        *journal.upstream_calls,
        *journal.rest_calls,
    ]
    entries.sort(key=lambda entry: entry.number)
    session = _Session(journal)
    lines = [line for entry in entries for line in session.lines_of(entry)]
    head = HEAD | ({"missing": journal.lost} if journal.lost else {})
    return [head, *map(session.without_secrets, lines)]


# --- messages ----------------------------------------------------------------------------------------------------


def document_of(message: HubMessage, *, binary: bool) -> Line:
    """A message as the JSON protocol writes it, also where it came in MessagePack."""
    if binary:
        values = {name: _in_json(getattr(message, name)) for name in _VALUES if getattr(message, name, None)}
        message = structs.replace(message, **values)
    document: Line = msgspec.json.decode(JsonHubProtocol.encode(message).removesuffix(RECORD_SEPARATOR))
    if "headers" in document:
        document["headers"] = {
            name: HIDDEN if is_secret_header(name) else value for name, value in document["headers"].items()
        }
    return document


def frame_of(document: Line, protocol: HubProtocol) -> bytes:
    """The message that ``document_of`` has made a document of, framed."""
    if "cut" in document:
        raise ConfigurationError(
            f"a client has sent {document['cut']} bytes at once, which were not all kept"
        )
    if "text" in document:  # it was no message
        return str(document["text"]).encode("latin-1")
    if not protocol.binary:
        return msgspec.json.encode(document) + RECORD_SEPARATOR
    values = {name: _in_messagepack(document[name]) for name in _VALUES if name in document}
    message = JsonHubProtocol.decode(
        msgspec.json.encode(document | ({"arguments": []} if "arguments" in document else {}))
    )
    assert message is not None  # noqa: S101 - document_of knows only messages
    return protocol.encode(structs.replace(message, **values))


def value_document(value: Any) -> Any:
    """A value as JSON can hold it: itself, or an object that holds its MessagePack."""
    try:
        if msgspec.json.decode(msgspec.json.encode(value)) == value:
            return value
    except (TypeError, msgspec.MsgspecError):
        pass
    return {_IN_MESSAGEPACK: b64encode(msgspec.msgpack.encode(value)).decode()}


def value_from(document: Any) -> Any:
    """The value that ``value_document`` has made a document of."""
    if isinstance(document, dict) and document.keys() == {_IN_MESSAGEPACK}:
        return msgspec.msgpack.decode(b64decode(document[_IN_MESSAGEPACK]))
    return document


def _in_json(raw: Raw) -> Raw:
    return Raw(msgspec.json.encode(value_document(msgspec.msgpack.decode(raw)))) if bytes(raw) else raw


def _in_messagepack(value: Any) -> Raw:
    return Raw(msgspec.msgpack.encode(value_from(value)))


# --- lines -------------------------------------------------------------------------------------------------------


class _Direction:
    """What one end of a connection says: the handshake, then messages."""

    def __init__(self) -> None:
        self._head: bytes | None = b""  # None: it is over
        self._splitter: TextSplitter | BinarySplitter

    def greeting(self, data: bytes) -> tuple[bytes | None, bytes]:
        """The handshake, once and when all of it is there, and what follows it."""
        if self._head is None:
            return None, data
        greeting, end, rest = (self._head + data).partition(RECORD_SEPARATOR)
        self._head = None if end else greeting
        return (greeting, rest) if end else (None, b"")

    def messages(self, data: bytes, protocol: HubProtocol) -> Iterator[Line]:
        """What is to be noted of the messages in it."""
        if not hasattr(self, "_splitter"):
            self._splitter = protocol.splitter()
        try:
            for frame in self._splitter.feed(data):
                message = protocol.decode(frame)
                if not isinstance(message, Ping | Ack | Sequence | None):
                    yield document_of(message, binary=protocol.binary)
        except ProtocolError:
            yield {"text": data.decode("latin-1")}


class _Client:
    """One client while its frames are read."""

    def __init__(self, number: int, call: UpstreamCall) -> None:
        self.name = {"client": number}
        self._call = call  # any of it says who the client is
        self._protocol: HubProtocol | None = None
        self._received = _Direction()
        self._sent = _Direction()

    def lines_of(self, frame: Frame) -> Iterator[Line]:
        """What is to be noted of one frame."""
        match frame.kind:
            case "received" | "sent" if frame.size > len(frame.data):
                yield self.name | {_VERBS[frame.kind]: {"cut": frame.size}}
            case "received":
                greeting, data = self._received.greeting(frame.data)
                if greeting is not None:
                    yield from self._opens(greeting)
                yield from self._say("sends", self._received, data)
            case "sent":
                yield from self._say("receives", self._sent, self._sent.greeting(frame.data)[1])
            case "closed":
                yield self.name | {"closes": frame.data.decode() or None}

    def _say(self, verb: str, direction: _Direction, data: bytes) -> Iterator[Line]:
        if self._protocol is not None and data:
            for document in direction.messages(data, self._protocol):
                yield self.name | {verb: document}

    def _opens(self, greeting: bytes) -> Iterator[Line]:
        # A client whose handshake is refused never gets as far as the app.
        self._protocol = choose_protocol(parse_handshake_request(greeting))
        headers = self._call.request.headers
        query = hide_query((header(headers, wire.CLIENT_QUERY) or "").removeprefix("?"))
        yield self.name | {
            "opens": {
                "hub": self._call.hub,
                "user_id": self._call.user_id,
                "claims": _sealed_claims(header(headers, wire.USER_CLAIMS) or ""),
                "query": {
                    key: value
                    for key, value in parse_qsl(query, keep_blank_values=True)
                    if key.lower() not in _NOT_KEPT
                },
                "protocol": self._protocol.name,
            }
        }


class _Session:
    """The clients of a journal, numbered as they come."""

    def __init__(self, journal: Journal) -> None:
        self._callers: dict[str, UpstreamCall] = {}
        for call in journal.upstream_calls:
            self._callers.setdefault(call.connection_id, call)
        self._clients: dict[str, _Client] = {}

    def lines_of(self, entry: Frame | UpstreamCall | RestCall) -> Iterable[Line]:
        """What is to be noted of an entry; nothing of clients that the app has not heard of."""
        match entry:
            case RestCall():
                return [_rest_line(entry)]
            case UpstreamCall():
                return [self._client(entry.connection_id, entry).name | _upstream_line(entry)]
            case _ if entry.connection_id in self._callers:
                client = self._client(entry.connection_id, self._callers[entry.connection_id])
                return client.lines_of(entry)
            case _:
                return ()

    def _client(self, connection_id: str, call: UpstreamCall) -> _Client:
        return self._clients.setdefault(connection_id, _Client(len(self._clients) + 1, call))

    def without_secrets(self, line: Line) -> Line:
        """A line in which clients are numbers, also in URLs and arguments, and tokens are hidden."""
        text = hide_tokens(msgspec.json.encode(line).decode())
        for connection_id, client in self._clients.items():
            text = text.replace(connection_id, placeholder(client.name["client"]))
        return msgspec.json.decode(text, type=Line)


_VERBS = {"received": "sends", "sent": "receives"}


def placeholder(number: int) -> str:
    """What stands for the id of a client's connection."""
    return f"{{client {number}}}"


def _sealed_claims(claims: str) -> dict[str, list[str]]:
    """The claims in a sealed identity; those of other tokens cannot be told apart."""
    seal = _SEAL.search(claims)
    if seal is None:
        return {}
    _, sealed = msgspec.json.decode(
        urlsafe_b64decode(seal[1] + "=" * (-len(seal[1]) % 4)), type=tuple[str | None, dict[str, list[str]]]
    )
    return sealed


def _upstream_line(call: UpstreamCall) -> Line:
    line: Line = {"upstream": f"{call.category}/{call.event}"}
    try:
        line |= {"arguments": value_document(call.arguments)} if call.category == wire.MESSAGES else {}
        line |= {"status": call.status}
        if call.failure is not None:
            line |= {"failure": call.failure}
        elif call.result is not None:
            line |= {"result": value_document(call.result)}
    except ProtocolError:
        line |= {"cut": call.request.size}
    return line


def _rest_line(call: RestCall) -> Line:
    line: Line = {"rest": f"{call.method} {hide_query(call.request.url)}"}
    try:
        line |= {} if call.body is None else {"body": value_document(call.body)}
    except ProtocolError:
        line |= {"cut": call.request.size}
    line |= {"status": call.status}
    if call.answer is not None and call.answer.status == 200 and call.answer.body:
        line |= {"answer": call.answer.body.decode("utf-8", "replace")}
    return line
