"""Where a function is written, for messages to its author."""

import inspect
from collections.abc import Callable
from typing import Any


def place_of(function: Callable[..., Any]) -> str:
    """``file:line``."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else "unknown place"


def shown(function: Callable[..., Any]) -> str:
    """``name (file:line)``."""
    return f"{getattr(function, '__qualname__', repr(function))} ({place_of(function)})"
