"""Where a function or a class is written, for messages to its author."""

import contextlib
import inspect
import sys
from collections.abc import Callable
from typing import Any


def place_of(thing: Callable[..., Any]) -> str:
    """``file:line``."""
    code = getattr(inspect.unwrap(thing), "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    if inspect.isclass(thing):
        with contextlib.suppress(OSError, TypeError):  # it was made without a file
            return f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}"
    return "unknown place"


def place_of_making(thing: object) -> str:
    """``file:line`` of the code that makes an object, asked within its ``__init__``."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_locals.get("self") is thing:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def shown(thing: Callable[..., Any]) -> str:
    """``name (file:line)``."""
    return f"{getattr(thing, '__qualname__', repr(thing))} ({place_of(thing)})"
