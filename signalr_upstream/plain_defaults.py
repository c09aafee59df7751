"""Fields of dataclasses that have a plain default, ``count: int = 1``, where msgspec has decoded objects without them.

Such a default is an attribute of the class. msgspec takes it for the object's own and sets none, and encodes only what
is the object's own: sent on, the field would be missing. Fields of ``slots=True`` and of Structs are not such, nor are
those with a ``default_factory``.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec.inspect import DataclassType, StructType

from .annotations import parts_of, parts_within, remembered

Fill = Callable[[Any], Any]
"""Sets what is missing in a decoded value, and gives the value."""


class _Fields(NamedTuple):
    """What is to be done with the objects of one class.

    Attributes:
        defaults: by the name of the field.
        ways: fields that lead to others.
    """

    defaults: dict[str, Any]
    ways: set[str]


@remembered
def filler_of(annotation: Any) -> Fill | None:
    """What completes the values of an annotation; None where it holds no such dataclass.

    Raises:
        TypeError: msgspec cannot decode such a type.
    """
    classes: dict[Any, _Fields] = {}
    for part in parts_of(annotation):
        if isinstance(part, DataclassType | StructType):
            defaults = _plain_defaults(part)
            ways = {field.name for field in part.fields if _is_concerned(field.type)}
            if defaults or ways:
                classes.setdefault(_class_of(part), _Fields(defaults, set())).ways.update(ways)
    return functools.partial(_fill, classes) if classes else None


def filled(value: Any, annotation: Any) -> Any:
    """A value that was just decoded, with what is missing in it set."""
    fill = filler_of(annotation)
    return value if fill is None else fill(value)


def _class_of(part: DataclassType | StructType) -> Any:
    return typing.get_origin(part.cls) or part.cls  # generic classes are one, whatever stands in the brackets


def _is_concerned(info: msgspec.Struct) -> bool:
    return any(_plain_defaults(part) for part in parts_within(info))


def _plain_defaults(part: msgspec.Struct) -> dict[str, Any]:
    if not isinstance(part, DataclassType):
        return {}
    return {
        field.name: field.default
        for field in part.fields
        if field.default is not msgspec.NODEFAULT
        and inspect.getattr_static(_class_of(part), field.name, msgspec.NODEFAULT) is field.default
    }


def _fill(classes: dict[Any, _Fields], value: Any) -> Any:
    waiting = [value]
    seen: set[int] = set()  # a `__post_init__` may have made a circle of what was a tree
    while waiting:
        current = waiting.pop()
        fields = classes.get(type(current))
        if fields is not None:
            if id(current) not in seen:
                seen.add(id(current))
                for name, default in fields.defaults.items():
                    vars(current).setdefault(name, default)
                waiting.extend(getattr(current, name, None) for name in fields.ways)
        elif isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list | tuple | set | frozenset):
            waiting.extend(current)
    return value
