"""The JSON hub protocol: messages to text frames and back.

It reads what any client writes (members in any order, unknown ones ignored) and writes what every client reads: the
members in Microsoft's order, none that is empty or unknown.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md#json-encoding
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, assert_never

import msgspec
from msgspec import Raw, Struct

from ..errors import InvalidMessageError, ProtocolError, TrailingDataError
from .framing import SplitterType, TextSplitter, frame_text
from .messages import (
    NO_RESULT,
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
)
from .messages import Sequence as SequenceMessage


class _Envelope(Struct):
    """Of a message that is none of ours: is there a type at all?"""

    type: int


_KNOWN_TYPES = range(1, 10)
_decoder: msgspec.json.Decoder[HubMessage] = msgspec.json.Decoder(HubMessage)
_envelope_decoder = msgspec.json.Decoder(_Envelope)


class JsonHubProtocol:
    """Stateless: every member belongs to the class."""

    name: ClassVar[str] = "json"
    binary: ClassVar[bool] = False
    splitter: ClassVar[SplitterType] = TextSplitter

    @staticmethod
    def encode(message: HubMessage) -> bytes:
        """One message as a frame, its separator included."""
        return frame_text(msgspec.json.encode(_members(message)))

    @staticmethod
    def decode(payload: bytes) -> HubMessage | None:
        """One frame without its separator; None is a message of an unknown type, to be ignored.

        Raises:
            InvalidMessageError: not JSON, not UTF-8, a member missing or of the wrong type.
            TrailingDataError: something follows the message.
        """
        try:
            payload.isascii() or payload.decode()  # Raw members are passed on unread: nobody else would look
            return _checked(_decode(payload))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            raise _malformed(exc) from exc

    @staticmethod
    def encode_values(values: Sequence[Any], *, enc_hook: Callable[[Any], Any] | None = None) -> Raw:
        """A user's values as the ``arguments`` of a message."""
        return Raw(msgspec.json.encode(list(values), enc_hook=enc_hook))


def _members(message: HubMessage) -> dict[str, Any]:
    match message:
        case Invocation(stream_ids=stream_ids) | StreamInvocation(stream_ids=stream_ids):
            members = _head(message) | {"target": message.target, "arguments": message.arguments}
            return members | {"streamIds": stream_ids} if stream_ids else members
        case StreamItem():
            return _head(message) | {"item": message.item}
        case Completion(error=str()):
            return _head(message) | {"error": message.error}
        case Completion():
            return _head(message) | ({} if message.result == NO_RESULT else {"result": message.result})
        case CancelInvocation():
            return _head(message)
        case Ping():
            return {"type": 6}
        case Close():
            members = {"type": 7} if message.error is None else {"type": 7, "error": message.error}
            return members | {"allowReconnect": True} if message.allow_reconnect else members
        case Ack():
            return {"type": 8, "sequenceId": message.sequence_id}
        case SequenceMessage():
            return {"type": 9, "sequenceId": message.sequence_id}
        case _:
            assert_never(message)


def _head(
    message: Invocation | StreamItem | Completion | StreamInvocation | CancelInvocation,
) -> dict[str, Any]:
    """What the messages about an invocation begin with. The Java client fails at any ``headers``."""
    members: dict[str, Any] = {"type": message.__struct_config__.tag}
    if message.headers:
        members["headers"] = message.headers
    if message.invocation_id is not None:
        members["invocationId"] = message.invocation_id
    return members


def _decode(payload: bytes) -> HubMessage | None:
    try:
        return _decoder.decode(payload)
    except msgspec.ValidationError:
        if _envelope_decoder.decode(payload).type in _KNOWN_TYPES:
            raise
        return None


def _checked(message: HubMessage | None) -> HubMessage | None:
    """What the spec asks for and the types of the members do not say."""
    match message:
        case Invocation() | StreamInvocation() if bytes(message.arguments)[:1] != b"[":
            raise InvalidMessageError("not a hub message: Expected `array` - at `$.arguments`")
        case Invocation(invocation_id=""):  # Microsoft's reader takes it for none
            return msgspec.structs.replace(message, invocation_id=None)
        case Completion(error=str()) if message.result != NO_RESULT:
            raise InvalidMessageError("not a hub message: both `error` and `result`")
    return message


def _malformed(exc: Exception) -> ProtocolError:
    """Texts of msgspec name a position or a member; those of the others would show the input."""
    match exc:
        case UnicodeDecodeError():
            return InvalidMessageError("not a hub message: not UTF-8")
        case RecursionError():
            return InvalidMessageError("not a hub message: nested too deep")
        case _ if "trailing characters" in str(exc):
            return TrailingDataError("something follows the end of a message")
        case _:
            return InvalidMessageError(f"not a hub message: {exc}")
