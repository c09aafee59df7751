"""Classes with ``model_validate`` and ``model_dump``, pydantic's, as arguments and results. It is not imported.

They are handed what msgspec has decoded, and give what it encodes: what pydantic would write as JSON, by alias, so that
what goes out can come in again.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, Final

MAX_PROBLEMS: Final = 3
"""Problems of one argument that its error names."""

# How pydantic's own texts begin that say what is expected. Others, those of validators for one, may hold the input.
_HARMLESS = re.compile(r"(\w+ ){1,2}should |Field required$|Extra inputs are not permitted$")


def is_model(kind: type) -> bool:
    """Whether a class converts its values itself."""
    return callable(getattr(kind, "model_validate", None)) and callable(getattr(kind, "model_dump", None))


def validate(kind: type, value: Any) -> Any:
    """A msgspec ``dec_hook``.

    Raises:
        ValueError: the value does not fit; the text names members and what is expected, not the value. msgspec adds
            where.
        Exception: whatever else a validator raises, ``HubError`` for one.
    """
    if not is_model(kind):
        if isinstance(value, kind):
            return value  # `object`, which everything is
        raise ValueError(f"Expected {kind.__name__}")
    try:
        return kind.model_validate(value)  # type: ignore[attr-defined]  # see is_model
    except ValueError as error:
        raise ValueError(f"Expected a valid {kind.__name__}{_problems(error)}") from None


def enc_hook_with(own: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """A msgspec ``enc_hook`` that writes models, and leaves the rest to ``own``."""

    def hook(value: Any) -> Any:
        if is_model(type(value)):
            return value.model_dump(mode="json", by_alias=True)
        if inspect.iscoroutine(value):
            value.close()  # said here; no warning besides
            raise TypeError(
                f"this is {value.__qualname__}(), which nobody has awaited: `await` it; in a plain def, ctx.wait(...)"
            )
        if own is None:
            raise TypeError(f"Encoding objects of type {type(value).__qualname__} is unsupported")
        return own(value)

    return hook


def _problems(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return ""
    found = [_problem(problem) for problem in errors()[:MAX_PROBLEMS]]
    return f" ({'; '.join(found)})"


def _problem(problem: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "value"
    text: str = problem["msg"]
    return f"{place}: {text if _HARMLESS.match(text) else 'not accepted'}"
