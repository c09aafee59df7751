r"""Halves of surrogate pairs, as in ``"\ud83d"``: what JavaScript writes of an emoji that was cut in two.

JSON's grammar allows them, Unicode has no such characters, and msgspec refuses the whole message. Here is found out
where they are, so that the caller can be told. None of it runs for messages without one.
"""

import json
import re
from typing import Any

# An escaped pair, else half of one, else any other escape, such as that of a backslash in front of `ud83d`.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def without_halves(text: bytes) -> bytes:
    """JSON with U+FFFD in place of each half."""
    if not _SURROGATE.search(text):
        return text
    return _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text)


def members_with_halves(text: bytes) -> dict[str, bytes]:
    """The members of an object, their keys in lower case, their values as JSON with the halves in place.

    Its numbers become text: nothing but the halves is to be looked for in it.
    """
    members: dict[str, Any] = json.loads(text, parse_int=str, parse_float=str)
    return {key.lower(): json.dumps(value).encode() for key, value in members.items()}


def item_with_half(text: bytes) -> int | None:
    """The index of the first item of an array, in valid JSON but for halves, that holds one; None if none does."""
    items = json.loads(text, parse_int=str, parse_float=str)
    return next((index for index, item in enumerate(items) if _has_half(item)), None)


def _has_half(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
