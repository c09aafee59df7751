"""What stands within an annotation, as msgspec understands it."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
from msgspec.inspect import type_info

MAX_KEPT: Final = 256
"""Annotations that are remembered: those of a large model take a millisecond each, for every handler that has one."""


T = TypeVar("T")


def remembered(find: Callable[[Any], T]) -> Callable[[Any], T]:
    """What a function finds in an annotation, found once for the last ``MAX_KEPT``."""
    kept = functools.lru_cache(MAX_KEPT)(find)

    @functools.wraps(find)
    def remembering(annotation: Any) -> T:
        try:
            return kept(annotation)
        except TypeError:  # what it is annotated with has no hash
            return find(annotation)

    return remembering


@remembered
def parts_of(annotation: Any) -> tuple[msgspec.Struct, ...]:
    """Every type and field in an annotation, itself included, each once, as ``msgspec.inspect`` describes them.

    Raises:
        TypeError: msgspec cannot decode such a type.
    """
    return tuple(parts_within(type_info(annotation)))


def parts_within(info: msgspec.Struct) -> Iterator[msgspec.Struct]:
    """As ``parts_of``, of what ``msgspec.inspect`` has said already."""
    seen: set[int] = set()
    waiting: list[Any] = [info]
    while waiting:
        current = waiting.pop()
        if isinstance(current, tuple | list):
            waiting.extend(current)
        elif isinstance(current, msgspec.Struct) and id(current) not in seen:
            seen.add(id(current))
            yield current
            waiting.extend(
                value
                for field, value in zip(
                    current.__struct_fields__, msgspec.structs.astuple(current), strict=True
                )
                if field not in ("default", "default_factory", "cls")
            )
