"""What recorded frames and calls hold, as Python's builtins: for assertions and for the files made of them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from ...errors import InvalidMessageError
from ...protocol import upstream as wire
from ...protocol.handshake import PROTOCOLS
from ...protocol.messages import NO_RESULT, Completion, HubMessage, Invocation, StreamInvocation

Headers = Sequence[tuple[bytes, bytes]]


def header(headers: Headers, name: bytes) -> str | None:
    """The value of a header, named in lower case."""
    return next((wire.decode_header(value) for key, value in headers if key.lower() == name), None)


def value_of(raw: Raw, *, binary: bool) -> Any:
    """A user's value.

    Raises:
        InvalidMessageError: it cannot be decoded.
    """
    try:
        return msgspec.msgpack.decode(raw) if binary else msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidMessageError(
            "the values cannot be decoded; of long bodies only the start is kept"
        ) from None


def body_value(headers: Headers, body: bytes) -> Any:
    """A JSON or MessagePack body; None where there is none. Raises as ``value_of``."""
    kind = header(headers, wire.CONTENT_TYPE) or wire.JSON_TYPE
    return value_of(Raw(body), binary="json" not in kind.lower()) if body else None


def is_binary(headers: Headers) -> bool:
    """Whether an upstream call is in MessagePack."""
    return header(headers, wire.CONTENT_TYPE) == wire.MESSAGEPACK_TYPE


def upstream_message(headers: Headers, body: bytes) -> HubMessage | None:
    """The message of an upstream call of category ``messages``.

    Raises:
        ProtocolError: it cannot be decoded.
    """
    return PROTOCOLS["messagepack" if is_binary(headers) else "json"].decode(body)


def completion_of(headers: Headers, body: bytes, status: int, answer: bytes) -> Completion | None:
    """What the client was told; None where it waited for nothing. Raises as ``upstream_message``."""
    match upstream_message(headers, body):
        case Invocation(invocation_id=str(invocation_id)) | StreamInvocation(invocation_id=invocation_id):
            return wire.decode_answer(status, answer, invocation_id=invocation_id, binary=is_binary(headers))
        case _:
            return None


def result_of(completion: Completion, *, binary: bool) -> Any:
    """The result of a completion; None where it has none."""
    return None if completion.result == NO_RESULT else value_of(completion.result, binary=binary)
