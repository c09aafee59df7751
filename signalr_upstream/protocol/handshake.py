"""How a connection begins: the answer to negotiate, and the handshake that chooses the hub protocol.

Both are JSON whatever protocol is chosen; the handshake and its answer are text frames.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/TransportProtocols.md
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
from msgspec import Raw, Struct

from ..errors import HandshakeError
from .framing import SplitterType, frame_text
from .json_hub import JsonHubProtocol
from .messages import HubMessage
from .msgpack_hub import MessagePackHubProtocol

MAX_PROTOCOL_VERSION = 2
"""Newest version of both hub protocols; 2 allows Ack and Sequence. Older ones (0, even -1) are taken as well."""

MAX_NEGOTIATE_VERSION = 1
"""Newest version of negotiate; clients that ask for more get this one."""

TRANSFER_FORMATS = {
    "WebSockets": ("Text", "Binary"),
    "ServerSentEvents": ("Text",),
    "LongPolling": ("Text", "Binary"),
}
"""The transports by their names in negotiate, in the order they are offered, and what they carry."""

_INT32 = range(-(2**31), 2**31)
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,10}\s*", re.ASCII)


class HubProtocol(Protocol):
    """What a hub protocol is to those who speak it; they need not know which one it is."""

    name: ClassVar[str]
    binary: ClassVar[bool]
    splitter: ClassVar[SplitterType]

    def encode(self, message: HubMessage) -> bytes:
        """One message as a frame, framing included."""
        ...

    def decode(self, payload: bytes) -> HubMessage | None:
        """One frame without its framing; None is a message of an unknown type, to be ignored."""
        ...

    def encode_values(self, values: Sequence[Any], *, enc_hook: Callable[[Any], Any] | None = None) -> Raw:
        """A user's values as the ``arguments`` of a message."""
        ...


PROTOCOLS: dict[str, HubProtocol] = {
    protocol.name: protocol for protocol in (JsonHubProtocol(), MessagePackHubProtocol())
}
"""The hub protocols by name."""


class HandshakeRequest(Struct, frozen=True):
    """The first message of a client: which protocol it speaks, and in which version."""

    protocol: str
    version: int


class _HandshakeResponse(Struct, frozen=True, omit_defaults=True):
    error: str | None = None


def encode_handshake_request(protocol: str, version: int = 1) -> bytes:
    """The client's first message, framed."""
    return frame_text(msgspec.json.encode(HandshakeRequest(protocol, version)))


def parse_handshake_request(payload: bytes) -> HandshakeRequest:
    """Read the client's first message, given without its separator.

    Raises:
        HandshakeError: it is malformed; the text is fit for the client and shows nothing of the input.
    """
    return _parse(payload, HandshakeRequest)


def choose_protocol(request: HandshakeRequest, *, text_only: bool = False) -> HubProtocol:
    """The protocol a client asked for; its name is compared ignoring case.

    Args:
        text_only: the transport cannot carry binary messages.

    Raises:
        HandshakeError: it is not spoken here, or not in that version, or not over this transport; the text is
            Microsoft's, for the client.
    """
    protocol = PROTOCOLS.get(request.protocol.lower())
    if protocol is None:
        raise HandshakeError(f"The protocol '{request.protocol:.100}' is not supported.")
    if request.version > MAX_PROTOCOL_VERSION:
        raise HandshakeError(
            f"The server does not support version {request.version} of the '{protocol.name}' protocol."
        )
    if protocol.binary and text_only:
        raise HandshakeError(
            f"Cannot use the '{protocol.name}' protocol on the current transport. "
            "The transport does not support 'Binary' transfer format."
        )
    return protocol


def encode_handshake_response(error: str | None = None) -> bytes:
    """The answer to the handshake, framed; with an ``error`` the connection is closed behind it."""
    return frame_text(msgspec.json.encode(_HandshakeResponse(error)))


def parse_handshake_response(payload: bytes) -> str | None:
    """Read the answer to the handshake, given without its separator: the error, or None.

    Raises:
        HandshakeError: it is malformed.
    """
    return _parse(payload, _HandshakeResponse).error


def parse_negotiate_version(value: str | None) -> int:
    """Read ``negotiateVersion`` of a query (None: not there); the version to answer in.

    Raises:
        HandshakeError: not an integer, or negative. It is answered with status 200, see
            ``encode_negotiation_error``; the texts are Microsoft's.
    """
    if value is None:
        return 0
    if not _INTEGER.fullmatch(value) or int(value) not in _INT32:
        raise HandshakeError("The client requested a non-integer protocol version.")
    version = int(value)
    if version < 0:
        raise HandshakeError(
            f"The client requested version '{version}', but the server does not support this version."
        )
    return min(version, MAX_NEGOTIATE_VERSION)


def encode_negotiation(
    *,
    connection_id: str,
    connection_token: str,
    version: int,
    transports: Sequence[str],
    stateful_reconnect: bool = False,
) -> bytes:
    """The answer to negotiate.

    Args:
        connection_token: what opens the transport. Version 0 has none: there the id does.
        transports: names of ``TRANSFER_FORMATS``, the preferred one first.
        stateful_reconnect: that the client may come back to its connection. Clients that have not asked fail at it.
    """
    members: dict[str, Any] = {"negotiateVersion": version, "connectionId": connection_id}
    if version > 0:
        members["connectionToken"] = connection_token
    if stateful_reconnect:
        members["useStatefulReconnect"] = True
    members["availableTransports"] = [
        {"transport": name, "transferFormats": TRANSFER_FORMATS[name]} for name in transports
    ]
    return msgspec.json.encode(members)


def encode_negotiation_error(error: str) -> bytes:
    """The answer to negotiate that makes the client give up with this text."""
    return msgspec.json.encode({"error": error})


def encode_redirection(url: str, access_token: str) -> bytes:
    """The answer to negotiate that sends the client on to the service."""
    return msgspec.json.encode({"url": url, "accessToken": access_token})


_Message = TypeVar("_Message", HandshakeRequest, _HandshakeResponse)


def _parse(payload: bytes, kind: type[_Message]) -> _Message:
    try:
        return msgspec.json.decode(payload, type=kind)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deep"
    except msgspec.MsgspecError as exc:
        reason = str(exc)  # a position or the name of a member
    raise HandshakeError(f"An unexpected error occurred during connection handshake: {reason}")
