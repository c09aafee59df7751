"""What a REST body holds for clients: a call of theirs, or an item of a stream, encoded once for each hub protocol."""

from collections.abc import Callable
from typing import Self

from msgspec import Raw, structs

from ...protocol.handshake import HubProtocol
from ...protocol.messages import Invocation, StreamItem
from .conversion import JsonValue, Value


class Outgoing:
    """A call of many clients.

    Args:
        form: the call as clients of a protocol are to get it, without an invocation id; None where the body holds
            nothing for them.
    """

    def __init__(self, form: Callable[[HubProtocol], Invocation | None]) -> None:
        self._form = form
        self._encoded: dict[str, bytes | None] = {}

    @classmethod
    def call(cls, target: str, arguments: Value) -> Self:
        """A call of ``target`` for clients of every protocol; ``arguments`` is an array."""
        return cls(lambda protocol: Invocation(target, arguments.encoded(protocol)))

    @classmethod
    def json(cls, target: str, arguments: bytes) -> Self:
        """A call with the arguments of a JSON array.

        Raises:
            InvalidMessageError: ``arguments`` is not valid JSON, or nested too deeply.
        """
        return cls.call(target, JsonValue(arguments))

    def encoded(self, protocol: HubProtocol) -> bytes | None:
        """The framed message; None: there is nothing for clients of this protocol."""
        try:
            return self._encoded[protocol.name]
        except KeyError:
            invocation = self._form(protocol)
            data = None if invocation is None else protocol.encode(invocation)
            self._encoded[protocol.name] = data
            return data

    def with_id(self, protocol: HubProtocol, invocation_id: str) -> bytes | None:
        """The framed message to a client that has to answer it."""
        invocation = self._form(protocol)
        if invocation is None:
            return None
        return protocol.encode(structs.replace(invocation, invocation_id=invocation_id))


class OutgoingItem:
    """An item of the stream that a client waits for.

    Args:
        form: the item as a client of a protocol is to get it; None where the body holds nothing for it.
    """

    def __init__(self, form: Callable[[HubProtocol], Raw | None]) -> None:
        self._form = form

    def encoded(self, protocol: HubProtocol, stream_id: str) -> bytes | None:
        """The framed message; None: there is nothing for clients of this protocol."""
        item = self._form(protocol)
        return None if item is None else protocol.encode(StreamItem(stream_id, item))
