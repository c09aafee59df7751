"""The bodies of REST calls, in whichever of the three forms they come, as what clients are to get."""

import re

from ...protocol.rest import JSON_TYPE
from ...protocol.rest_bodies import BINARY_TYPE
from ...protocol.rest_decoding import (
    Command,
    decode_commands,
    decode_invocations,
    decode_items,
    decode_message,
    decode_messagepack_message,
)
from ...protocol.upstream import MESSAGEPACK_TYPE
from ..admission import Refused
from .conversion import JsonValue, MessagePackValue
from .outgoing import Outgoing, OutgoingItem
from .rest_call import Call

_LIKE_JSON = re.compile(r"application/[\w.-]+\+json", re.ASCII)


def read_message(call: Call) -> Outgoing:
    """The message of a send.

    Raises:
        Refused, InvalidMessageError: there is none.
    """
    kind = _kind(call, JSON_TYPE, MESSAGEPACK_TYPE, BINARY_TYPE)
    if not call.body or call.body == b"null":
        raise Refused(400, "Message in request body is required.")
    if kind == BINARY_TYPE:
        invocations = decode_invocations(call.body)
        return Outgoing(lambda protocol: invocations.get(protocol.name))
    if kind == MESSAGEPACK_TYPE:
        message = decode_messagepack_message(call.body)
        return Outgoing.call(message.target, MessagePackValue(bytes(message.arguments)))
    message = decode_message(call.body)
    return Outgoing.json(message.target, bytes(message.arguments))


def read_item(call: Call) -> OutgoingItem:
    """The item of a stream.

    Raises:
        Refused, InvalidMessageError: there is none.
    """
    kind = _kind(call, JSON_TYPE, MESSAGEPACK_TYPE, BINARY_TYPE)
    if kind == BINARY_TYPE:
        items = decode_items(call.body, call.values["stream"])
        return OutgoingItem(lambda protocol: items.get(protocol.name))
    value = MessagePackValue(call.body) if kind == MESSAGEPACK_TYPE else JsonValue(call.body)
    return OutgoingItem(value.encoded)


def read_commands(call: Call) -> list[Command]:
    """The commands of ``:execute``.

    Raises:
        Refused, InvalidMessageError, InvalidNameError: there are none.
    """
    _kind(call, JSON_TYPE)
    return decode_commands(call.body)


def _kind(call: Call, *accepted: str) -> str:
    """The content type of the body; JSON where there is none to speak of."""
    if call.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "The body must not be compressed.")
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not call.body or _LIKE_JSON.fullmatch(kind):
        return JSON_TYPE
    if kind not in accepted:
        raise Refused(415, f"The Content-Type must be one of {', '.join(accepted)}.")
    return kind
