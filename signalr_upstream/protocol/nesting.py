"""How deep a document is nested, before a recursive decoder sees it."""

import re

from ..errors import InvalidMessageError

MAX_DEPTH = 64
"""Arrays and maps in each other, the envelope included: what Microsoft's reader takes, and far from Python's
recursion limit."""

# A string (also one that never ends, so that hostile input is read once), or a bracket.
_JSON_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_MSGPACK_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
# Bytes behind the first byte, for types of fixed size; for the others the size of their length field.
_MSGPACK_FIXED = {
    **dict.fromkeys(range(0xCA, 0xD4), 0),
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
    **{first: first & 0x1F for first in range(0xA0, 0xC0)},
}
_MSGPACK_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_MSGPACK_COUNTED = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def check_json_depth(document: bytes) -> None:
    """Raise InvalidMessageError if ``document`` is nested deeper than ``MAX_DEPTH``."""
    if document.count(b"[") + document.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _JSON_TOKENS.finditer(document):
        first = document[token.start()]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise _too_deep()
        elif first in b"]}":
            depth -= 1


def check_msgpack_depth(document: bytes) -> None:
    """Raise InvalidMessageError if ``document`` is nested deeper than ``MAX_DEPTH``.

    A document that is cut short passes: the decoder behind this check says so better.
    """
    if len(document) - len(document.translate(None, _MSGPACK_CONTAINERS)) <= MAX_DEPTH:
        return
    to_come = [1]  # how many items each open array or map still waits for; the document itself is one
    position = 0
    while to_come and position < len(document):
        count, position = _msgpack_item(document, position)
        to_come[-1] -= 1
        if count is not None:
            if len(to_come) > MAX_DEPTH:
                raise _too_deep()
            to_come.append(count)
        while to_come and to_come[-1] == 0:
            to_come.pop()


def _msgpack_item(document: bytes, position: int) -> tuple[int | None, int]:
    """The number of items in the array or map at ``position`` (else None), and where the next item starts."""
    first = document[position]
    position += 1
    if 0x80 <= first <= 0x9F:
        return (first & 0x0F) * (2 if first < 0x90 else 1), position
    if first in _MSGPACK_COUNTED:
        end = position + _MSGPACK_COUNTED[first]
        return int.from_bytes(document[position:end]) * (2 if first >= 0xDE else 1), end
    if first in _MSGPACK_SIZED:
        end = position + _MSGPACK_SIZED[first]
        # An ext has one more byte, its type.
        return None, end + int.from_bytes(document[position:end]) + (0xC7 <= first <= 0xC9)
    return None, position + _MSGPACK_FIXED.get(first, 0)


def _too_deep() -> InvalidMessageError:
    return InvalidMessageError(f"the body is nested deeper than {MAX_DEPTH} levels")
