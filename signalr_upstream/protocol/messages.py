"""The messages of the hub protocol, and the two that only upstream calls carry.

One frozen Struct a message; its fields are named as the JSON encoding names them. Values that belong to users
(arguments, items, results) stay ``msgspec.Raw``: bytes in the encoding of the protocol that carried them,
decoded by whoever knows their types. A message therefore belongs to one protocol, JSON or MessagePack.

Spec: https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md
"""

from msgspec import Raw, Struct

NO_RESULT = Raw()
"""A completion without a result ("void"), which is not the same as a result of null."""


class Invocation(Struct, frozen=True, tag=1, tag_field="type", rename="camel"):
    """Call ``target``. With an ``invocation_id`` the caller waits for a completion."""

    target: str
    arguments: Raw  # an array
    invocation_id: str | None = None
    stream_ids: list[str] = []
    headers: dict[str, str] = {}


class StreamItem(Struct, frozen=True, tag=2, tag_field="type", rename="camel"):
    """One item of a stream."""

    invocation_id: str
    item: Raw
    headers: dict[str, str] = {}


class Completion(Struct, frozen=True, tag=3, tag_field="type", rename="camel"):
    """The end of an invocation: an ``error``, a ``result``, or neither (void)."""

    invocation_id: str
    error: str | None = None
    result: Raw = NO_RESULT
    headers: dict[str, str] = {}


class StreamInvocation(Struct, frozen=True, tag=4, tag_field="type", rename="camel"):
    """Call ``target`` and expect a stream of items."""

    invocation_id: str
    target: str
    arguments: Raw  # an array
    stream_ids: list[str] = []
    headers: dict[str, str] = {}


class CancelInvocation(Struct, frozen=True, tag=5, tag_field="type", rename="camel"):
    """The caller of a stream wants no more of it."""

    invocation_id: str
    headers: dict[str, str] = {}


class Ping(Struct, frozen=True, tag=6, tag_field="type"):
    """Says that the connection is alive."""


class Close(Struct, frozen=True, tag=7, tag_field="type", rename="camel"):
    """Last message of a connection. ``allow_reconnect`` lets clients reconnect by themselves."""

    error: str | None = None
    allow_reconnect: bool = False


class Ack(Struct, frozen=True, tag=8, tag_field="type", rename="camel"):
    """Stateful reconnect: everything up to ``sequence_id`` has arrived."""

    sequence_id: int


class Sequence(Struct, frozen=True, tag=9, tag_field="type", rename="camel"):
    """Stateful reconnect: the next message is number ``sequence_id``."""

    sequence_id: int


class OpenConnection(Struct, frozen=True, tag=10, tag_field="type"):
    """Upstream only: a client has connected."""


class CloseConnection(Struct, frozen=True, tag=11, tag_field="type"):
    """Upstream only: a client has gone; ``error`` says why if it was not by its own will."""

    error: str | None = None


HubMessage = (
    Invocation | StreamItem | Completion | StreamInvocation | CancelInvocation | Ping | Close | Ack | Sequence
)
"""What a client and the service say to each other."""

UpstreamMessage = Invocation | StreamInvocation | OpenConnection | CloseConnection
"""What the service says to an upstream app."""
