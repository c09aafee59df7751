"""A user's value in the encoding of either hub protocol: kept as it came, written anew only for the other one.

What JSON has no word for becomes text as .NET writes it: binary is base64, a timestamp ISO 8601, an extension
``[type, base64]``. NaN and the infinities become null, as in JavaScript.
"""

import json
from typing import Any, Protocol

import msgspec
from msgspec import Raw

from ...errors import InvalidMessageError
from ...protocol.handshake import HubProtocol
from ...protocol.nesting import check_json_depth, check_msgpack_depth


class Value(Protocol):
    """A value for clients of any protocol."""

    def encoded(self, protocol: HubProtocol) -> Raw:
        """The value as a part of this protocol's messages."""
        ...


class JsonValue:
    """A value that came as JSON.

    Raises:
        InvalidMessageError: it is not valid JSON, or nested too deeply.
    """

    def __init__(self, raw: bytes) -> None:
        check_json_depth(raw)
        try:
            raw.decode()  # msgspec leaves the strings inside a Raw unchecked
            # All of it, also when no client needs the values: a Raw part was not looked into so far.
            self._value: Any = msgspec.json.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidMessageError("the values are not valid JSON") from error
        self._raw = Raw(raw)

    def encoded(self, protocol: HubProtocol) -> Raw:
        if not protocol.binary:
            return self._raw
        try:
            return Raw(msgspec.msgpack.encode(self._value))
        except OverflowError:  # MessagePack has no integers over 64 bits: JavaScript's way out, a float
            return Raw(msgspec.msgpack.encode(json.loads(bytes(self._raw), parse_int=_integer_or_float)))


class MessagePackValue:
    """A value that came as MessagePack.

    Raises:
        InvalidMessageError: it is not valid MessagePack, is nested too deeply, or cannot be written as JSON.
    """

    def __init__(self, raw: bytes) -> None:
        check_msgpack_depth(raw)
        try:
            self.json = Raw(msgspec.json.encode(msgspec.msgpack.decode(raw), enc_hook=_without_json))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise InvalidMessageError(
                "the values are not valid MessagePack, or a key in them is no text or number"
            ) from error
        self._raw = Raw(raw)

    def encoded(self, protocol: HubProtocol) -> Raw:
        return self._raw if protocol.binary else self.json


def _integer_or_float(text: str) -> int | float:
    number = int(text)
    return number if -(2**63) <= number < 2**64 else float(text)


def _without_json(value: Any) -> list[Any]:
    if isinstance(value, msgspec.msgpack.Ext):
        return [value.code, value.data]
    raise TypeError(type(value).__name__)  # an array as a key
