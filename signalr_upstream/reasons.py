"""Why a value of a client's is not what it has to be, in words that never hold the value."""

import re
from typing import Any, Final

import msgspec
from msgspec.inspect import EnumType, Field, LiteralType

from .annotations import parts_of, parts_within

MAX_ALLOWED: Final = 10
"""Allowed values that are named."""

_LAST_NAME = re.compile(r"\.([^.\[`]+)[^.]*$")  # of a place: "state" of `$.orders[0].state`
_REASONS = {
    "Number out of range": "number out of range",
    "Integer value out of range": "number out of range",
    "Timestamp is out of range ": "timestamp out of range",
    "Invalid MessagePack timestamp": "invalid timestamp",
    "Invalid MessagePack timestamp: nanoseconds out of range": "invalid timestamp",
    "Invalid UUID": "invalid UUID",
    "Invalid RFC3339 encoded datetime": "invalid RFC3339 encoded datetime",
    "Invalid base64 encoded string": "invalid base64 encoded string",
}


def safe_reason(what: str, annotation: Any, *, place: str) -> str:
    """What is wrong with a value, without the value.

    Args:
        what: msgspec's text, without its place.
        annotation: what the value had to be.
        place: msgspec's, of what is wrong within the value.
    """
    # msgspec quotes the input in some of its texts; only those that never do are passed on.
    if what.startswith("Expected"):
        return what.replace("`", "").replace("Expected", "expected", 1)
    if what.startswith("Object missing required field"):
        return what.replace("Object missing", "missing", 1)
    if what.startswith("Invalid enum value"):
        return f"not one of the allowed values{_allowed_values(annotation, place)}"
    return _REASONS.get(what, "not accepted")


def _allowed_values(annotation: Any, place: str) -> str:
    """The values of the ``Literal`` or enum at a place; nothing where there are several that could be meant."""
    parts = list(parts_of(annotation))
    name = _LAST_NAME.search(place)
    if name is not None:
        fields = [part for part in parts if isinstance(part, Field) and part.encode_name == name[1]]
        parts = [part for field in fields for part in parts_within(field.type)]
    choices = {part.values for part in parts if isinstance(part, LiteralType)}
    choices |= {tuple(one.value for one in part.cls) for part in parts if isinstance(part, EnumType)}
    if len(choices) != 1:
        return ""
    values = [msgspec.json.encode(value).decode() for value in choices.pop()]
    return f": {', '.join(values[:MAX_ALLOWED])}{', ...' if len(values) > MAX_ALLOWED else ''}"
