"""Change a value somewhere, at random: what no encoder would write and every decoder may get."""

import contextlib
import copy
from random import Random
from typing import Any

from .forms import Form

_NAMES = (
    *("type", "Type", "TYPE", "invocationId", "target", "Target", "arguments", "streamIds", "headers", "result"),
    *("error", "Error", "item", "allowReconnect", "sequenceId", "protocol", "version", "message", "group"),
    *("excluded", "value", "nextLink", "connectionId", "keys", "kid", "kty", "n", "e", "alg", "use", "crit", "b64"),
    *("aud", "exp", "nbf", "iss", "oid", "appid", "azp", "tid", "code", "errors", "detail", "title", "", "é"),
)  # fmt: skip
_VALUES = (
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *(2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**400),
    *("", "1", "a", "null", "JSON", "HS256", "none", "a" * 300, "\0", "\x1e", "\r\n", "\ud83d", "\udc00", "\U0001f600"),
    *([], {}, [[]], [{}], {"": {}}, b"", b"\xff\x00", *range(2, 13)),
)  # fmt: skip
_DEPTHS = (1, 2, 31, 63, 64, 65, 127, 128, 129, 255, 300)


def mutated(data: bytes, form: Form | None, random: Random) -> bytes | None:
    """``data`` with its value changed; None where it is not of that form, or has become what cannot be written."""
    if form is not None:
        with contextlib.suppress(Exception):
            return form.write(edited(form.read(data), random))
    return None


def edited(value: Any, random: Random) -> Any:
    """A copy of ``value`` with one to four changes."""
    root = [copy.deepcopy(value)]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(root))
        container, key = random.choice(places)
        change = random.choice((_replace, _replace, _copy, _wrap, _remove, _add, _rename, _adjust, _adjust))
        change(container, key, places, random)
    return root[0]


def _places(container: Any) -> Any:
    for key in range(len(container)) if isinstance(container, list) else list(container):
        yield container, key
        if isinstance(container[key], list | dict):
            yield from _places(container[key])


def _replace(container: Any, key: Any, _: Any, random: Random) -> None:
    container[key] = copy.deepcopy(random.choice(_VALUES))


def _copy(container: Any, key: Any, places: Any, random: Random) -> None:
    other, name = random.choice(places)
    container[key] = copy.deepcopy(other[name])


def _wrap(container: Any, key: Any, _: Any, random: Random) -> None:
    in_list = random.random() < 0.5
    for _ in range(random.choice(_DEPTHS)):
        container[key] = [container[key]] if in_list else {random.choice("ab"): container[key]}


def _remove(container: Any, key: Any, places: Any, _: Random) -> None:
    if container is not places[0][0]:  # the root stays
        del container[key]


def _add(container: Any, key: Any, places: Any, random: Random) -> None:
    inner = container[key]
    value = copy.deepcopy(random.choice((*_VALUES, places[-1][0])))
    if isinstance(inner, list):
        inner.insert(random.randint(0, len(inner)), value)
    elif isinstance(inner, dict):
        inner[random.choice(_NAMES)] = value


def _rename(container: Any, key: Any, _: Any, random: Random) -> None:
    if isinstance(container, dict):
        name = random.choice((str(key).swapcase(), str(key).title(), f"{key} ", random.choice(_NAMES)))
        container[name] = container.pop(key)


def _adjust(container: Any, key: Any, _: Any, random: Random) -> None:
    """Something that is nearly the same."""
    match container[key]:
        case bool() | None:
            _replace(container, key, None, random)
        case int() | float() as number:
            container[key] = random.choice((number + 1, number - 1, -number, float(number), str(number)))
        case str() as text:
            at = random.randint(0, len(text))
            character = chr(random.choice((0, 9, 10, 34, 44, 58, 92, 127, 0xE9, 0xD800, 0x1F600)))
            container[key] = random.choice(
                (text[:at], text[at:], text[:at] + character + text[at:], text * 2)
            )
        case list() as items:
            random.shuffle(items)
        case dict() as members:
            container[key] = dict(reversed(members.items()))
