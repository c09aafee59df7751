"""The bodies of sends, written once however many targets they have.

JSON is what the service converts for clients of either protocol. The binary form carries a whole frame for each
protocol, so that bytes, timestamps and integers reach MessagePack clients as they are; the service converts nothing
then, and clients of a protocol that is missing get nothing.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from ..errors import InvalidNameError
from .handshake import PROTOCOLS
from .messages import HubMessage, Invocation, StreamItem
from .rest import JSON_TYPE, check_text

BINARY_TYPE: Final = "application/octet-stream"


class BodyEncoder:
    """Writes the bodies of one client.

    Args:
        protocols: ``("json",)`` for JSON, or the hub protocols of the binary form.
        enc_hook: makes something msgspec knows out of what it does not.

    Raises:
        ValueError: no protocol, or one that is none of json and messagepack.

    Attributes:
        content_type: of the bodies.
    """

    def __init__(
        self, protocols: Sequence[str] = ("json",), *, enc_hook: Callable[[Any], Any] | None = None
    ) -> None:
        unknown = [name for name in protocols if name not in PROTOCOLS]
        if unknown or not protocols or isinstance(protocols, str):
            raise ValueError("protocols is a list of one or both of 'json' and 'messagepack'")
        self._protocols = None if tuple(protocols) == ("json",) else [PROTOCOLS[name] for name in protocols]
        self._encode_json = msgspec.json.Encoder(enc_hook=enc_hook).encode
        self._enc_hook = enc_hook
        self.content_type = JSON_TYPE if self._protocols is None else BINARY_TYPE

    def message(self, target: str, arguments: Sequence[Any]) -> bytes:
        """The body that calls the client method ``target``.

        Raises:
            InvalidNameError: the target is empty or white space.
            Exception: an argument that cannot be encoded; whatever msgspec or ``enc_hook`` raises.
        """
        try:
            is_empty = not target or target.isspace()
        except AttributeError:
            is_empty = True
        if is_empty:
            check_text("target", target)
            raise InvalidNameError("target", "it is empty")
        if self._protocols is None:
            return self._encode_json({"target": target, "arguments": arguments})
        return self._frames(lambda encode: Invocation(target, encode(list(arguments))))

    def item(self, stream_id: str, item: Any) -> bytes:
        """The body that carries one item of a stream."""
        if self._protocols is None:
            return self._encode_json(item)
        return self._frames(lambda encode: StreamItem(stream_id, encode(item)))

    def commands(self, commands: Sequence[Struct]) -> bytes:
        """The body of ``:execute``, which is JSON whatever the protocols."""
        return self._encode_json([_members(command) for command in commands])

    def _frames(self, make: Callable[[Callable[[Any], Raw]], HubMessage]) -> bytes:
        """The binary body: a map of protocols and their frames."""
        frames = {}
        for protocol in self._protocols or ():
            encode = msgspec.msgpack.encode if protocol.binary else msgspec.json.encode
            frames[protocol.name] = protocol.encode(make(functools.partial(_raw, encode, self._enc_hook)))
        return msgspec.msgpack.encode(frames)


def _raw(encode: Callable[..., bytes], enc_hook: Callable[[Any], Any] | None, value: Any) -> Raw:
    return Raw(encode(value, enc_hook=enc_hook))


def _members(command: Struct) -> dict[str, Any]:
    members = msgspec.structs.asdict(command)
    body = {"message": members} if "target" in members else members
    return {
        "type": type(command).__name__,
        **{name: value for name, value in body.items() if value is not None},
    }
