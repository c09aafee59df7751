"""The MessagePack hub protocol: messages to binary frames and back.

A message is an array: its type, then its fields by position. Elements behind those we know are ignored, and values
of users keep the bytes they came in (integer widths, extension types).

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md#messagepack-msgpack-encoding
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, assert_never

import msgspec
from msgspec import Raw

from ..errors import InvalidMessageError, ProtocolError, TrailingDataError
from .framing import BinarySplitter, SplitterType, frame_binary
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

T = TypeVar("T")

_ERROR, _VOID, _RESULT = 1, 2, 3  # what a completion is

_decoder = msgspec.msgpack.Decoder(list[Raw])
_int = msgspec.msgpack.Decoder(int)
_bool = msgspec.msgpack.Decoder(bool)
_str = msgspec.msgpack.Decoder(str)
_optional_str: msgspec.msgpack.Decoder[str | None] = msgspec.msgpack.Decoder(str | None)
_strings = msgspec.msgpack.Decoder(list[str])
_headers = msgspec.msgpack.Decoder(dict[str, str])
_array = msgspec.msgpack.Decoder(list[Raw])


class MessagePackHubProtocol:
    """Stateless: every member belongs to the class."""

    name: ClassVar[str] = "messagepack"
    binary: ClassVar[bool] = True
    splitter: ClassVar[SplitterType] = BinarySplitter

    @staticmethod
    def encode(message: HubMessage) -> bytes:
        """One message as a frame, its length prefix included."""
        return frame_binary(msgspec.msgpack.encode(_elements(message)))

    @staticmethod
    def decode(payload: bytes) -> HubMessage | None:
        """One frame without its prefix; None is a message of an unknown type, to be ignored.

        Raises:
            InvalidMessageError: not MessagePack, not UTF-8, a field missing or of the wrong type.
            TrailingDataError: something follows the message.
        """
        try:
            return _Fields(_decoder.decode(payload)).message()
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise _malformed(exc) from exc

    @staticmethod
    def encode_values(values: Sequence[Any], *, enc_hook: Callable[[Any], Any] | None = None) -> Raw:
        """A user's values as the ``arguments`` of a message."""
        return Raw(msgspec.msgpack.encode(list(values), enc_hook=enc_hook))


def _elements(message: HubMessage) -> list[Any]:
    match message:
        case Invocation():  # always six: signalrcore reads the sixth
            return [*_head(message), message.target, message.arguments, message.stream_ids]
        case StreamInvocation():
            return [*_head(message), message.target, message.arguments, message.stream_ids]
        case StreamItem():
            return [*_head(message), message.item]
        case Completion(error=str()):
            return [*_head(message), _ERROR, message.error]
        case Completion():
            return [*_head(message), *([_VOID] if message.result == NO_RESULT else [_RESULT, message.result])]
        case CancelInvocation():
            return _head(message)
        case Ping():
            return [6]
        case Close():
            return [7, message.error, message.allow_reconnect]
        case Ack():
            return [8, message.sequence_id]
        case SequenceMessage():
            return [9, message.sequence_id]
        case _:
            assert_never(message)


def _head(message: Invocation | StreamItem | Completion | StreamInvocation | CancelInvocation) -> list[Any]:
    return [message.__struct_config__.tag, message.headers, message.invocation_id]


class _Fields:
    """The elements of one message, read by position and named in errors."""

    def __init__(self, elements: list[Raw]) -> None:
        self._elements = elements

    def message(self) -> HubMessage | None:
        kind = self._take(0, "type", _int)
        match kind:
            case 1:
                return Invocation(
                    headers=self._headers(),
                    invocation_id=self._take(2, "invocationId", _optional_str) or None,  # "" is none
                    target=self._take(3, "target", _str),
                    arguments=self._arguments(),
                    stream_ids=self._stream_ids(),
                )
            case 2:
                return StreamItem(self._id(), self._raw(3, "item"), self._headers())
            case 3:
                return self._completion()
            case 4:
                return StreamInvocation(
                    headers=self._headers(),
                    invocation_id=self._id(),
                    target=self._take(3, "target", _str),
                    arguments=self._arguments(),
                    stream_ids=self._stream_ids(),
                )
            case 5:
                return CancelInvocation(self._id(), self._headers())
            case 6:
                return Ping()
            case 7:
                again = len(self._elements) > 2 and self._take(2, "allowReconnect", _bool)
                return Close(self._take(1, "error", _optional_str), again)
            case 8:
                return Ack(self._take(1, "sequenceId", _int))
            case 9:
                return SequenceMessage(self._take(1, "sequenceId", _int))
            case _:
                return None

    def _completion(self) -> Completion:
        headers, invocation_id = self._headers(), self._id()
        match self._take(3, "resultKind", _int):
            case 1:
                return Completion(invocation_id, error=self._take(4, "error", _str), headers=headers)
            case 2:
                return Completion(invocation_id, headers=headers)
            case 3:
                return Completion(invocation_id, result=self._raw(4, "result"), headers=headers)
            case _:
                raise InvalidMessageError("not a hub message: `resultKind` is none of 1, 2 and 3")

    def _headers(self) -> dict[str, str]:
        return self._take(1, "headers", _headers)

    def _id(self) -> str:
        return self._take(2, "invocationId", _str)

    def _arguments(self) -> Raw:
        self._take(4, "arguments", _array)
        return self._raw(4, "arguments")

    def _stream_ids(self) -> list[str]:
        """Five elements are legal too: the JavaScript client leaves these out."""
        return self._take(5, "streamIds", _strings) if len(self._elements) > 5 else []

    def _raw(self, position: int, name: str) -> Raw:
        if position >= len(self._elements):
            raise InvalidMessageError(f"not a hub message: missing `{name}`")
        return self._elements[position]

    def _take(self, position: int, name: str, decoder: msgspec.msgpack.Decoder[T]) -> T:
        try:
            return decoder.decode(self._raw(position, name))
        except (msgspec.ValidationError, UnicodeDecodeError) as exc:
            reason = "not UTF-8" if isinstance(exc, UnicodeDecodeError) else exc
            raise InvalidMessageError(f"not a hub message: `{name}`: {reason}") from exc


def _malformed(exc: Exception) -> ProtocolError:
    if isinstance(exc, RecursionError):
        return InvalidMessageError("not a hub message: nested too deep")
    if "trailing characters" in str(exc):
        return TrailingDataError("something follows the end of a message")
    return InvalidMessageError(f"not a hub message: {exc}")
