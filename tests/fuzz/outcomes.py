"""What a decoder gave, looked at by branches that atheris can see: the decoders themselves are C for the most part."""

import math
from typing import Any

import msgspec


def look_at(value: Any, depth: int = 0) -> None:
    """Walk through ``value``; every kind and number of things in it is a way of its own through this function."""
    if value is None or depth > 8:
        return
    if isinstance(value, bool):
        if value:
            return
    elif isinstance(value, int):
        if value < 0:
            return
        if value >= 2**63:
            return
    elif isinstance(value, float):
        if math.isnan(value):
            return
    elif isinstance(value, str):
        if not value:
            return
        if not value.isascii():
            return
    elif isinstance(value, msgspec.Raw | bytes):
        if bytes(value)[:1] in (b"[", b"{", b'"'):
            return
    elif isinstance(value, dict):
        for name, inner in value.items():
            look_at(name, depth + 1)
            look_at(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            look_at(inner, depth + 1)
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            look_at(getattr(value, field), depth + 1)
