"""How the bytes a decoder reads are made of values, so that a fuzzer can change a value and write it again.

Random bytes are hardly ever JSON, and never a signed token: without this nothing behind the first check is reached.
Written with the standard library's JSON and with msgspec, not with our encoders.
"""

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jwt
import msgspec

from signalr_upstream.claims import SEAL_LABEL

KEY: Final = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
_SEPARATOR = b"\x1e"


class Form(NamedTuple):
    """Both raise something where it cannot be done."""

    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]


def _write_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _read_json_frames(data: bytes) -> list[Any]:
    return [json.loads(frame) for frame in data.split(_SEPARATOR) if frame]


def _write_json_frames(values: list[Any]) -> bytes:
    return b"".join(_write_json(value) + _SEPARATOR for value in values)


def _read_packed_frames(data: bytes) -> list[Any]:
    """Each has its length before it, seven bits a byte and the lowest first."""
    values, at = [], 0
    while at < len(data):
        size = shift = 0
        while True:
            size |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                break
        values.append(msgspec.msgpack.decode(data[at : at + size]))
        at += size
    return values


def _write_packed_frames(values: list[Any]) -> bytes:
    written = b""
    for packed in map(msgspec.msgpack.encode, values):
        size = len(packed)
        while size > 127:
            written += bytes([size & 127 | 128])
            size >>= 7
        written += bytes([size]) + packed
    return written


JSON: Final = Form(json.loads, _write_json)
PACKED: Final = Form(msgspec.msgpack.decode, msgspec.msgpack.encode)
JSON_FRAMES: Final = Form(_read_json_frames, _write_json_frames)
PACKED_FRAMES: Final = Form(_read_packed_frames, _write_packed_frames)

_BY_PROTOCOL = {"json": JSON_FRAMES, "messagepack": PACKED_FRAMES}


def _read_both(data: bytes) -> dict[str, Any]:
    return {name: _BY_PROTOCOL[name].read(frames) for name, frames in PACKED.read(data).items()}


def _write_both(value: Any) -> bytes:
    return PACKED.write(
        {name: _BY_PROTOCOL.get(name, JSON_FRAMES).write(values) for name, values in value.items()}
    )


BOTH_PROTOCOLS: Final = Form(_read_both, _write_both)
"""A MessagePack map of protocols to frames, as the REST API takes it."""


def _unpadded(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _part(text: bytes) -> Any:
    return json.loads(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))


def _read_token(data: bytes) -> list[Any]:
    return [_part(part) for part in data.split(b".")[:2]]


def signed_token(sign: Callable[[bytes], bytes]) -> Form:
    """Header and claims, with a signature that is always right."""

    def write(value: Any) -> bytes:
        header, claims = value
        signed = _unpadded(_write_json(header)) + b"." + _unpadded(_write_json(claims))
        return signed + b"." + _unpadded(sign(signed))

    return Form(_read_token, write)


def _sign(data: bytes) -> bytes:
    return hmac.digest(KEY.encode(), data, "sha256")


TOKEN: Final = signed_token(_sign)


def _write_seal(value: Any) -> bytes:
    packed = _unpadded(_write_json(value))
    key = hmac.digest(KEY.encode(), SEAL_LABEL, "sha256")
    return b"su: " + packed + b"." + _unpadded(hmac.digest(key, packed, "sha256"))


def _read_seal(data: bytes) -> Any:
    found = re.match(rb"su: ([\w-]+)\.", data)
    return _part(found[1]) if found else ["ann", {"role": ["admin"]}]


SEAL: Final = Form(_read_seal, _write_seal)


def rsa_signed_token(key: Any) -> Form:
    """As Entra ID signs it."""
    algorithm = jwt.get_algorithm_by_name("RS256")
    return signed_token(lambda data: algorithm.sign(data, key))
