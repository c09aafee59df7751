"""How deep a document is nested, before a recursive decoder sees it."""

from itertools import accumulate

from ..errors import InvalidMessageError

MAX_DEPTH = 64
"""Arrays and maps in each other, the envelope included: what Microsoft's reader takes, and far from Python's
recursion limit."""

_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))
_JSON_STEPS = [(byte in b"[{") - (byte in b"]}") for byte in range(256)]
_MSGPACK_CONTAINERS = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
# Lengths of the length fields of texts, bytes and ext; and of arrays and maps.
_MSGPACK_SIZED = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_MSGPACK_COUNTED = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
# By first byte: how many bytes the item has, if that says it; ~n for an array or map of n items; 0 for the others.
_MSGPACK_ITEMS = [
    *(1 for _ in range(0x80)),
    *(~(2 * pairs) for pairs in range(16)),
    *(~items for items in range(16)),
    *(1 + length for length in range(32)),
    *(1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 5, 9, 2, 3, 5, 9),
    *(2, 3, 5, 9, 3, 4, 6, 10, 18, 0, 0, 0, 0, 0, 0, 0),
    *(1 for _ in range(32)),
]


def check_json_depth(document: bytes) -> None:
    """Raise InvalidMessageError if ``document`` is nested deeper than ``MAX_DEPTH``."""
    if document.count(b"[") + document.count(b"{") <= MAX_DEPTH:
        return
    if b"\\" in document:  # only texts have any: what is left of one ends at the first quote
        document = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Two quotes beside each other change nothing for what follows.
    brackets = b"".join(document.translate(None, _OTHERS).replace(b'""', b"").split(b'"')[::2])
    flat = brackets
    for _ in range(MAX_DEPTH // 4):  # each takes away two levels at most
        flat = flat.replace(b"{}", b"").replace(b"[]", b"")
        if not flat:
            return
    if max(accumulate(map(_JSON_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise _too_deep()


def check_msgpack_depth(document: bytes) -> None:
    """Raise InvalidMessageError if ``document`` is nested deeper than ``MAX_DEPTH``.

    A document that is cut short passes: the decoder behind this check says so better.
    """
    if len(document) - len(document.translate(None, _MSGPACK_CONTAINERS)) <= MAX_DEPTH:
        return
    items = 1  # to come; the document itself is one
    outer: list[int] = []  # how many are to come in each array or map around
    position, end = 0, len(document)
    while position < end:
        items -= 1
        size = _MSGPACK_ITEMS[document[position]]
        if size > 0:
            position += size
        else:
            inside, position = (~size, position + 1) if size else _long_item(document, position)
            if inside is not None:
                if len(outer) >= MAX_DEPTH:
                    raise _too_deep()
                outer.append(items)
                items = inside
        while not items:
            if not outer:
                return
            items = outer.pop()


def _long_item(document: bytes, position: int) -> tuple[int | None, int]:
    """The number of items in the array or map at ``position`` (else None), and where the next item starts."""
    first = document[position]
    position += 1
    if first in _MSGPACK_COUNTED:
        end = position + _MSGPACK_COUNTED[first]
        return int.from_bytes(document[position:end]) * (2 if first >= 0xDE else 1), end
    end = position + _MSGPACK_SIZED[first]
    # An ext has one more byte, its type.
    return None, end + int.from_bytes(document[position:end]) + (0xC7 <= first <= 0xC9)


def _too_deep() -> InvalidMessageError:
    return InvalidMessageError(f"the body is nested deeper than {MAX_DEPTH} levels")
