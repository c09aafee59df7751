"""One upstream call: its headers, its body and its answer, built by the service and parsed by the app.

Bodies carry no framing (no 0x1E, no length prefix); the answer to an invocation is one framed Completion, which the
service passes on to the client as it is.

Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Raw, Struct

from ..errors import InvalidMessageError, ProtocolError, TrailingDataError
from .framing import RECORD_SEPARATOR, frame_binary
from .handshake import PROTOCOLS
from .json_hub import JsonHubProtocol
from .messages import (
    Close,
    CloseConnection,
    Completion,
    Invocation,
    OpenConnection,
    StreamInvocation,
    UpstreamMessage,
)
from .msgpack_hub import MessagePackHubProtocol
from .nesting import check_json_depth, check_msgpack_depth
from .surrogates import members_with_halves, without_halves

CONNECTION_ID = b"x-asrs-connection-id"
HUB = b"x-asrs-hub"
CATEGORY = b"x-asrs-category"
EVENT = b"x-asrs-event"
USER_ID = b"x-asrs-user-id"
USER_CLAIMS = b"x-asrs-user-claims"
CLIENT_QUERY = b"x-asrs-client-query"
SIGNATURE = b"x-asrs-signature"
HEADER_PREFIX = b"x-asrs-"
CONTENT_TYPE = b"content-type"
CONTENT_ENCODING = b"content-encoding"
CONTENT_LENGTH = b"content-length"

CONNECTIONS = "connections"
MESSAGES = "messages"
CONNECTED = "connected"
DISCONNECTED = "disconnected"

JSON_TYPE = "application/json"
MESSAGEPACK_TYPE = "application/x-msgpack"

MAX_ANSWER = 16 * 1024 * 1024
"""Largest answer that is passed on to a client, in bytes; the limit of Microsoft's emulator."""


# --- headers ---


def encode_headers(
    *,
    connection_id: str,
    hub: str,
    category: str,
    event: str,
    user_id: str | None,
    claims: Sequence[tuple[str, str]],
    client_query: str,
    signature: str,
    content_type: str,
) -> list[tuple[bytes, bytes]]:
    """The headers of one upstream call in the service's order, their values in UTF-8.

    Raises:
        ValueError: a value has a character that would end the header.
    """
    values = [
        (b"X-ASRS-Connection-Id", connection_id),
        (b"X-ASRS-Hub", hub),
        (b"X-ASRS-Category", category),
        (b"X-ASRS-Event", event),
        (b"X-ASRS-User-Id", user_id or ""),
        (b"X-ASRS-User-Claims", ", ".join(f"{name}: {value}" for name, value in claims)),
        (b"X-ASRS-Client-Query", client_query),
        (b"X-ASRS-Signature", signature),
        (b"Content-Type", content_type),
    ]
    for name, value in values:
        if any(character in value for character in "\r\n\v\f\0"):
            raise ValueError(f"{name.decode()} would hold a line break or NUL")
    return [(name, value.encode("utf-8", "surrogatepass")) for name, value in values if value]


def decode_header(value: bytes) -> str:
    """A header value as text: UTF-8 as the service writes it, else byte by byte."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


# --- bodies ---


class _ExactInvocation(
    Invocation, frozen=True, tag=1, tag_field="type", rename="camel", forbid_unknown_fields=True
):
    """The spelling nearly every call has. Anything else takes the second, slower path."""


# A union, since msgspec would take a lone Struct without its tag, `type`.
_decode_exact = msgspec.json.Decoder(_ExactInvocation | OpenConnection).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_optional_text = msgspec.json.Decoder(str | None).decode
_DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def encode_connected() -> bytes:
    """The body that says a client has connected; JSON also for MessagePack clients."""
    return b'{"type":10}'


def encode_disconnected(error: str | None) -> bytes:
    """The body that says a client has gone. Microsoft writes these keys with capitals, so we do."""
    return msgspec.json.encode({"Type": 11} if error is None else {"Type": 11, "Error": error})


def encode_invocation(message: Invocation | StreamInvocation, *, binary: bool) -> bytes:
    """The body of an invocation, in the protocol its arguments are in."""
    if binary:
        return MessagePackHubProtocol.splitter().feed(MessagePackHubProtocol.encode(message))[0]
    return JsonHubProtocol.encode(message).removesuffix(RECORD_SEPARATOR)


def decode_json_invocation(body: bytes) -> Invocation | StreamInvocation:
    """Decode the JSON body of category ``messages``; its arguments stay raw.

    Raises:
        InvalidMessageError: it is neither an Invocation nor a StreamInvocation.
        TrailingDataError: bytes follow it. One 0x1E is taken, since early emulators sent it.
    """
    try:
        body.isascii() or body.decode()  # a Raw part is not decoded here, so invalid UTF-8 in it would pass
        check_json_depth(body)
        exact = _decode_exact(body)
        if isinstance(exact, Invocation):
            return exact
    except _DECODE_ERRORS:
        pass
    whole = without_halves(body)
    message = decode_json_body(whole)
    if not isinstance(message, Invocation | StreamInvocation):
        raise InvalidMessageError(f"expected an invocation (type 1), got {type(message).__name__}")
    if whole == body:
        return message
    # Binding cannot decode them either, and says which one it is to the caller, whose call is known now.
    arguments = members_with_halves(body.removesuffix(RECORD_SEPARATOR))["arguments"]
    return msgspec.structs.replace(message, arguments=Raw(arguments))


def decode_json_body(body: bytes) -> UpstreamMessage:
    """Decode any JSON body: keys in any case (``{"Type":11}`` is real), unknown ones ignored.

    Raises:
        InvalidMessageError, TrailingDataError: as ``decode_json_invocation``.
    """
    try:
        body.isascii() or body.decode()
        check_json_depth(body)
        members = {
            key.lower(): value for key, value in _decode_object(body.removesuffix(RECORD_SEPARATOR)).items()
        }
        return _message_of(members)
    except KeyError as error:
        raise InvalidMessageError(f"the message has no {error}") from None
    except _DECODE_ERRORS as error:
        raise _body_error(error, "JSON") from None


def _message_of(members: dict[str, Raw]) -> UpstreamMessage:
    match bytes(members["type"]):
        case b"1":
            return Invocation(
                target=_decode_text(members["target"]),
                arguments=members["arguments"],
                invocation_id=_decode_optional_text(members.get("invocationid", b"null")),
            )
        case b"4":
            return StreamInvocation(
                invocation_id=_decode_text(members["invocationid"]),
                target=_decode_text(members["target"]),
                arguments=members["arguments"],
            )
        case b"10":
            return OpenConnection()
        case b"11":
            return CloseConnection(_decode_optional_text(members.get("error", b"null")))
    raise InvalidMessageError("the message's type is none of 1, 4 (invocations), 10 (open) and 11 (close)")


def decode_msgpack_invocation(body: bytes) -> Invocation | StreamInvocation:
    """Decode the MessagePack body of category ``messages``; its arguments stay raw.

    Raises:
        InvalidMessageError, TrailingDataError: as ``decode_json_invocation``.
    """
    check_msgpack_depth(body)
    message = MessagePackHubProtocol.decode(body)
    if not isinstance(message, Invocation | StreamInvocation):
        raise InvalidMessageError("expected an invocation (type 1)")
    return message


def _body_error(error: Exception, encoding: str) -> ProtocolError:
    # The decoder's own text may quote the input, so only what is known to be harmless is passed on.
    if isinstance(error, msgspec.ValidationError) and str(error).startswith("Expected"):
        return InvalidMessageError(f"the body is not a hub message: {error}")
    if "trailing characters" in str(error):
        return TrailingDataError("bytes follow the end of the message")
    return InvalidMessageError(f"the body is not valid {encoding}")


# --- answers ---


class _JsonResult(Struct, tag=3, tag_field="type", rename="camel"):
    invocation_id: str
    result: Any


class _JsonError(Struct, tag=3, tag_field="type", rename="camel"):
    invocation_id: str
    error: str


_encode_json = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode


class ResultEncoder:
    """Writes the answers that resolve a client's ``invoke()``.

    Args:
        enc_hook: makes something msgspec knows out of what it does not.
    """

    def __init__(self, enc_hook: Callable[[Any], Any] | None = None) -> None:
        self._encode_json = msgspec.json.Encoder(enc_hook=enc_hook).encode
        self._encode_msgpack = msgspec.msgpack.Encoder(enc_hook=enc_hook).encode

    def encode(self, invocation_id: str, result: Any, *, binary: bool) -> bytes:
        """One framed Completion with ``result``, None included.

        Raises:
            Exception: ``result`` cannot be encoded; whatever msgspec raises.
        """
        if binary:
            return frame_binary(self._encode_msgpack((3, {}, invocation_id, 3, result)))
        return self._encode_json(_JsonResult(invocation_id, result)) + RECORD_SEPARATOR


encode_result = ResultEncoder().encode
"""As ``ResultEncoder.encode``, for what msgspec knows."""


def encode_error(invocation_id: str, error: str, *, binary: bool) -> bytes:
    """The answer that rejects the client's ``invoke()`` with the text ``error``."""
    if binary:
        return frame_binary(_encode_msgpack((3, {}, invocation_id, 1, error)))
    return _encode_json(_JsonError(invocation_id, error)) + RECORD_SEPARATOR


def decode_answer(status: int, body: bytes, *, invocation_id: str, binary: bool) -> Completion:
    """What the client is told for an upstream answer to its invocation.

    It never raises: an answer that no client could read becomes an error that says what was wrong with it.
    """
    if status == HTTPStatus.NO_CONTENT or (status == HTTPStatus.OK and not body):
        return Completion(invocation_id)
    if status != HTTPStatus.OK:
        return Completion(invocation_id, error=f"Invocation failed, status code {status}")
    if len(body) > MAX_ANSWER:
        return Completion(invocation_id, error="Invocation failed, response too large.")
    protocol = PROTOCOLS["messagepack" if binary else "json"]
    splitter = protocol.splitter(MAX_ANSWER)
    try:
        frames = splitter.feed(body)
        message = protocol.decode(frames[0]) if frames else None
    except ProtocolError as error:
        return Completion(invocation_id, error=f"Invocation failed, the app's answer cannot be read: {error}")
    if len(frames) != 1 or splitter.pending or not isinstance(message, Completion):
        return Completion(
            invocation_id, error="Invocation failed, the app's answer is not one framed Completion."
        )
    if message.invocation_id != invocation_id:
        return Completion(invocation_id, error="Invocation failed, the app answered another invocation.")
    return message


def ends_invocation(body: bytes, *, invocation_id: str, binary: bool) -> bool:
    """Whether a client that is given ``body`` as it is comes to an end with its invocation.

    It holds whole messages of the client's protocol, and with them the completion, or the close of the connection.
    """
    if len(body) > MAX_ANSWER:
        return False
    protocol = PROTOCOLS["messagepack" if binary else "json"]
    splitter = protocol.splitter(MAX_ANSWER)
    try:
        messages = [protocol.decode(frame) for frame in splitter.feed(body)]
    except ProtocolError:
        return False
    return not splitter.pending and any(
        isinstance(message, Close)
        or (isinstance(message, Completion) and message.invocation_id == invocation_id)
        for message in messages
    )
