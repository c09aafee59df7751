"""Classes with ``model_validate`` and ``model_dump``, pydantic's for one, as arguments and results. It is not imported.

They are handed what msgspec has decoded, and give what it encodes.
"""

from collections.abc import Callable
from typing import Any

import msgspec

MAX_PROBLEMS = 3
"""Problems of one argument that its error names."""


def is_model(kind: type) -> bool:
    """Whether a class converts its values itself."""
    return callable(getattr(kind, "model_validate", None)) and callable(getattr(kind, "model_dump", None))


def validate(kind: type, value: Any) -> Any:
    """A msgspec ``dec_hook``.

    Raises:
        msgspec.ValidationError: the value does not fit; the text names members and what is expected, not the value.
    """
    if kind is object:
        return value
    try:
        return kind.model_validate(value)  # type: ignore[attr-defined]  # see is_model
    except ValueError as error:
        raise msgspec.ValidationError(f"Expected a valid {kind.__name__}{_problems(error)}") from None


def enc_hook_with(own: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """``dump``, and for what is no model the user's hook."""
    if own is None:
        return dump

    def hook(value: Any) -> Any:
        return value.model_dump() if is_model(type(value)) else own(value)

    return hook


def dump(value: Any) -> Any:
    """A msgspec ``enc_hook``.

    Raises:
        NotImplementedError: it is no such object.
    """
    if is_model(type(value)):
        return value.model_dump()
    raise NotImplementedError(f"{type(value).__qualname__} cannot be encoded")


def _problems(error: ValueError) -> str:
    # pydantic's own messages hold no input; its rendering of the whole error does.
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    found = [
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']}"
        for problem in errors()[:MAX_PROBLEMS]
    ]
    return f" ({'; '.join(found)})"
