"""Frames and bodies made readable: which message it is, and its values as JSON text. Secrets are hidden.

Whatever the bytes are, something is shown of them: what cannot be decoded is shown as it came.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import fields, replace

from ...errors import ProtocolError
from ...protocol.framing import RECORD_SEPARATOR, TextSplitter
from ...protocol.handshake import PROTOCOLS
from ...protocol.messages import Completion, HubMessage, Invocation, StreamInvocation, StreamItem
from ..records.redaction import HIDDEN, hide_tokens, is_secret_header

MAX_SHOWN = 64 * 1024
"""Characters of one message that are shown."""


class Message(Struct, frozen=True):
    """One message as people read it.

    Attributes:
        type: its name in the protocol, ``"Handshake"``, or ``"Data"`` where it is nothing that we know.
        name: what is called, if anything is.
        values: arguments, result or error in one line.
        whole: makes ``text``: most messages are only listed.
        failed: it says that something went wrong.
    """

    type: str
    name: str
    values: str
    whole: Callable[[], str]
    failed: bool = False

    @property
    def text(self) -> str:
        """All of it, as indented JSON where it is any."""
        return self.whole()


def messages_in(data: bytes, *, binary: bool) -> list[Message]:
    """The messages of one transport message."""
    if binary and not data.startswith(
        (b'{"', b"{}")
    ):  # the handshake is JSON, also where it travels as binary
        return _framed(data, "messagepack")
    return _framed(data, "json")


def message_of(body: bytes, *, binary: bool) -> Message:
    """The message in the body of an upstream call, which has no framing."""
    return _decoded(body, "messagepack" if binary else "json")


def body_texts(body: bytes, *, binary: bool) -> list[str]:
    """What a body of a call holds, a text for each message in it."""
    if not binary:
        return [as_text(body.removesuffix(RECORD_SEPARATOR))]
    for messages in ([_decoded(body, "messagepack")], _framed(body, "messagepack")):
        if all(message.type != "Data" for message in messages):
            return [message.text for message in messages]
    return [as_text(_json(Raw(body), binary=True))]  # a REST call's


def as_text(body: bytes) -> str:
    """A body of whatever kind: JSON indented, other text as it is, the rest in hexadecimal."""
    try:
        text = msgspec.json.format(body, indent=2).decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = _plain(body)
    return hide_tokens(text[:MAX_SHOWN])


def _framed(data: bytes, protocol: str) -> list[Message]:
    splitter = TextSplitter() if protocol == "json" else PROTOCOLS[protocol].splitter()
    try:
        frames = list(splitter.feed(data))
    except ProtocolError:
        return [_unknown(data)]
    messages = [_decoded(frame, protocol) for frame in frames]
    if splitter.pending:  # a message that was cut, or is still to come
        messages.append(_unknown(data.rpartition(RECORD_SEPARATOR)[2] if protocol == "json" else data))
    return messages


def _decoded(payload: bytes, protocol: str) -> Message:
    try:
        if protocol == "json" and (special := _not_of_the_hub(payload)):
            return special
        message = PROTOCOLS[protocol].decode(payload)
    except (ProtocolError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _unknown(payload)
    if message is None:
        return _unknown(payload)
    binary = PROTOCOLS[protocol].binary
    return Message(
        type=type(message).__name__,
        name=message.target if isinstance(message, Invocation | StreamInvocation) else "",
        values=hide_tokens(_values(message, binary=binary)),
        whole=lambda: as_text(msgspec.json.encode(_members(message, binary=binary))),
        failed=bool(getattr(message, "error", None)),
    )


class _Head(Struct):
    """What tells the messages of a handshake, and those that only upstream calls carry, from those of the hub."""

    type: int | None = None
    protocol: str | None = None
    error: str | None = None


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_members = msgspec.json.Decoder(dict[str, Any]).decode


def _not_of_the_hub(payload: bytes) -> Message | None:
    head = _decode_head(payload)
    if head.type is None:  # `{"Type":11}` is real
        members = {name.lower(): value for name, value in _decode_members(payload).items()}
        head = msgspec.convert(members, _Head)
    whole = partial(as_text, payload)
    match head.type:
        case None:
            return Message("Handshake", "", head.protocol or head.error or "", whole, bool(head.error))
        case 10:
            return Message("OpenConnection", "", "", whole)
        case 11:
            return Message("CloseConnection", "", head.error or "", whole, bool(head.error))
        case _:
            return None


def _values(message: HubMessage, *, binary: bool) -> str:
    match message:
        case Invocation() | StreamInvocation():
            return _json(message.arguments, binary=binary).decode("utf-8", "replace")
        case StreamItem():
            return _json(message.item, binary=binary).decode("utf-8", "replace")
        case Completion(error=None):
            return _json(message.result, binary=binary).decode("utf-8", "replace")
        case _:
            error: str | None = getattr(message, "error", None)
            return error or ""


def _members(message: HubMessage, *, binary: bool) -> dict[str, Any]:
    """Its members by the names they have in JSON, those that say nothing left out."""
    if headers := getattr(message, "headers", None):
        shown = {name: HIDDEN if is_secret_header(name) else value for name, value in headers.items()}
        message = replace(message, headers=shown)
    members: dict[str, Any] = {"type": message.__struct_config__.tag}
    for field in fields(message):
        value = getattr(message, field.name)
        if value != field.default and value not in ([], {}, Raw()):
            members[field.encode_name] = Raw(_json(value, binary=binary)) if isinstance(value, Raw) else value
    return members


def _json(raw: Raw, *, binary: bool) -> bytes:
    """Values of a user, as JSON."""
    if not binary:
        return bytes(raw)
    try:
        return msgspec.json.encode(msgspec.msgpack.decode(raw), enc_hook=_as_json) if bytes(raw) else b""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        return msgspec.json.encode(f"MessagePack that JSON has no form for: {bytes(raw).hex(' ')}")


def _as_json(value: Any) -> Any:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"extension": value.code, "data": bytes(value.data).hex(" ")}
    raise TypeError(type(value).__name__)


def _unknown(data: bytes) -> Message:
    return Message("Data", "", hide_tokens(_plain(data)), partial(as_text, data))


def _plain(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data[:1024].hex(" ")
