"""Read what requests to the service's REST API carry: messages for clients, items of streams, commands.

JSON and MessagePack carry values, which the service converts for clients of the other protocol. The third form,
``application/octet-stream``, is a MessagePack map from the name of a hub protocol to a whole frame in it; what it does
not name gets nothing. Keys of objects are read in any case, for .NET's SDK writes ``Target``. No I/O.

Spec: https://github.com/Azure/azure-signalr/blob/dev/docs/swagger (PayloadMessage, SignalRCommand)
"""

from collections.abc import Mapping
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from ..errors import InvalidMessageError, ProtocolError
from .framing import MAX_FRAME
from .handshake import PROTOCOLS
from .messages import Invocation, StreamItem
from .nesting import check_json_depth, check_msgpack_depth
from .rest import check_name

M = TypeVar("M", Invocation, StreamItem)

_malformed = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Message(Struct, frozen=True):
    """What clients are to receive. ``arguments`` is an array in the encoding of the body."""

    target: str
    arguments: Raw


def decode_message(body: bytes) -> Message:
    """Read the JSON body of a send. The arguments are not looked into.

    Raises:
        InvalidMessageError: not a JSON object with a target, or ``arguments`` that are no array.
    """
    try:
        body.decode()  # msgspec leaves the strings inside a Raw unchecked
        members = _members(msgspec.json.decode(body, type=dict[str, Raw]))
        target = msgspec.json.decode(members.get("target", b"null"), type=str | None)
    except _malformed as exc:
        raise InvalidMessageError("the request body is not a JSON object with a text as target") from exc
    arguments = members.get("arguments", Raw(b"null"))
    return Message(_target(target), _array(arguments, null=b"null", starts=b"[", empty=b"[]"))


def decode_messagepack_message(body: bytes) -> Message:
    """Read the body of a send that is a map in MessagePack. The arguments are not looked into.

    Raises:
        InvalidMessageError: not a map with a target, or ``arguments`` that are no array.
    """
    check_msgpack_depth(body)
    try:
        members = _members(msgspec.msgpack.decode(body, type=dict[str, Raw]))
        target = msgspec.msgpack.decode(members.get("target", b"\xc0"), type=str | None)
    except _malformed as exc:
        raise InvalidMessageError("the request body is not a MessagePack map with a text as target") from exc
    arguments = members.get("arguments", Raw(b"\xc0"))
    starts = bytes([*range(0x90, 0xA0), 0xDC, 0xDD])
    return Message(_target(target), _array(arguments, null=b"\xc0", starts=starts, empty=b"\x90"))


def _members(document: dict[str, Raw]) -> dict[str, Raw]:
    return {key.lower(): value for key, value in document.items()}


def _target(target: str | None) -> str:
    if target is None or not target.strip():
        raise InvalidMessageError("The Target field is required.")
    return target


def _array(value: Raw, *, null: bytes, starts: bytes, empty: bytes) -> Raw:
    if bytes(value) == null:
        return Raw(empty)
    if bytes(value)[0] not in starts:
        raise InvalidMessageError("the Arguments field must be an array")
    return value


# ---- frames ----


def decode_invocations(body: bytes) -> dict[str, Invocation]:
    """Read the frames of a send: the call that clients of each protocol are to get, without an invocation id.

    Raises:
        InvalidMessageError: not a map of frames, or one that is not exactly one Invocation.
    """
    return {
        name: msgspec.structs.replace(invocation, invocation_id=None)
        for name, invocation in _messages(body, Invocation).items()
    }


def decode_items(body: bytes, stream_id: str) -> dict[str, Raw]:
    """Read the frames of a stream's item: the item for clients of each protocol.

    Raises:
        InvalidMessageError: not a map of frames, or one that is not exactly one StreamItem of this stream.
    """
    items = _messages(body, StreamItem)
    for name, item in items.items():
        if item.invocation_id != stream_id:
            raise InvalidMessageError(f"the frame for {name!r} is an item of another stream than the URL's")
    return {name: item.item for name, item in items.items()}


def _messages(body: bytes, kind: type[M]) -> dict[str, M]:
    try:
        frames: Mapping[str, bytes] = msgspec.msgpack.decode(body, type=dict[str, bytes])
    except _malformed as exc:
        raise InvalidMessageError(
            "the request body is not a MessagePack map from a protocol's name to a frame in binary"
        ) from exc
    # Others, like "blazorpack", are for clients that this service does not have.
    return {name: _message(name, frame, kind) for name, frame in frames.items() if name in PROTOCOLS}


def _message(name: str, frame: bytes, kind: type[M]) -> M:
    protocol = PROTOCOLS[name]
    splitter = protocol.splitter(MAX_FRAME)
    try:
        (check_msgpack_depth if protocol.binary else check_json_depth)(frame)
        payloads = splitter.feed(frame)
        message = protocol.decode(payloads[0]) if len(payloads) == 1 and not splitter.pending else None
    except ProtocolError as error:
        raise InvalidMessageError(f"the frame for {name!r} is malformed: {error}") from error
    if not isinstance(message, kind):
        raise InvalidMessageError(f"the frame for {name!r} is not exactly one {kind.__name__} message")
    return message


# ---- commands ----


class SendMessage(Struct, frozen=True):
    """Send ``message``, whose arguments are JSON."""

    message: Message


class JoinGroup(Struct, frozen=True):
    group: str


class LeaveGroup(Struct, frozen=True):
    group: str


class CloseConnection(Struct, frozen=True):
    reason: str | None


Command = SendMessage | JoinGroup | LeaveGroup | CloseConnection
"""What is done to each connection that the filter of ``:execute`` finds."""


def decode_commands(body: bytes) -> list[Command]:
    """Read the commands of ``:execute``.

    Raises:
        InvalidMessageError: not a JSON array of commands; the text says which one is wrong.
        InvalidNameError: a group's name.
    """
    check_json_depth(body)
    try:
        body.decode()
        documents = msgspec.json.decode(body, type=list[dict[str, Raw]])
    except _malformed as exc:
        raise InvalidMessageError("the request body is not a JSON array of commands") from exc
    return [_command(index, _members(document)) for index, document in enumerate(documents)]


def _command(index: int, members: Mapping[str, Raw]) -> Command:
    def text(name: str) -> str:
        try:
            return msgspec.json.decode(members.get(name, b"null"), type=str | None) or ""
        except _malformed as exc:
            raise InvalidMessageError(f"command {index}: {name!r} must be a text") from exc

    match kind := text("type"):
        case "SendMessage":
            if "message" not in members:
                raise InvalidMessageError(f"command {index}: SendMessage has no 'message'")
            return SendMessage(decode_message(bytes(members["message"])))
        case "JoinGroup" | "LeaveGroup":
            check_name("group", group := text("group"))
            return JoinGroup(group) if kind == "JoinGroup" else LeaveGroup(group)
        case "CloseConnection":
            return CloseConnection(text("reason") or None)
        case _:
            raise InvalidMessageError(
                f"command {index}: 'type' must be SendMessage, JoinGroup, LeaveGroup or CloseConnection"
            )
