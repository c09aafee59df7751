"""What stands within an annotation, as msgspec understands it."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec.inspect import type_info


def parts_of(annotation: Any) -> Iterator[msgspec.Struct]:
    """Every type and field in an annotation, itself included, each once, as ``msgspec.inspect`` describes them.

    Raises:
        TypeError: msgspec cannot decode such a type.
    """
    yield from parts_within(type_info(annotation))


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
