"""Coroutines that nobody has awaited: a send whose ``await`` was forgotten, and which has therefore sent nothing.

Python itself notices, when it throws such a coroutine away, and says so with a warning that is easily missed or
filtered. Here it is told instead, with the place of the call.
"""

import gc
import linecache
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"

DEPTH: Final = 6
"""Frames that are remembered of where a coroutine was made: the methods of typed clients are some calls deep."""

YOUNG: Final = 1
"""Generation of what a test has made, to the garbage collector: a millisecond; all that there is takes fifty."""

# CPython and PyPy call this function of the module `warnings` when a coroutine that was never awaited goes. It is there
# to be replaced by libraries that know better; it sees also what warning filters hide.
_HOOK: Final = "_warn_unawaited_coroutine"


class Unawaited:
    """Notes them from ``start`` to ``stop``. Of several at work, the latest is told.

    Attributes:
        found: a text for each.
    """

    _at_work: "list[Unawaited]" = []  # noqa: RUF012 - shared on purpose: Python has one hook

    def __init__(self) -> None:
        self.found: list[str] = []
        self._depth = 0
        self._thread = 0

    def start(self) -> None:
        """Begin, in the thread of the event loop."""
        if not self._at_work:
            setattr(warnings, _HOOK, _tell)
        self._at_work.append(self)
        self._thread = threading.get_ident()
        self._depth = sys.get_coroutine_origin_tracking_depth()
        sys.set_coroutine_origin_tracking_depth(max(self._depth, DEPTH))

    def stop(self) -> None:
        """End. What is in a circle and was not thrown away yet is found, too: a later test would be blamed for it."""
        gc.collect(YOUNG)
        sys.set_coroutine_origin_tracking_depth(self._depth)
        self._at_work.remove(self)
        if not self._at_work:
            setattr(warnings, _HOOK, _before)

    def take(self) -> str | None:
        """What was found since the last time, as one text; None for nothing."""
        found, self.found = self.found, []
        return "\n".join(found) or None

    def note(self, coroutine: Coroutine[Any, Any, Any]) -> bool:
        """Take a coroutine. False: it was made before the start."""
        frames: list[tuple[str, int, str]] = list(coroutine.cr_origin or ())  # type: ignore[attr-defined]  # no generator
        if not frames:
            if threading.get_ident() == self._thread:
                return False
            # Worker threads do not remember where; a plain handler throws it away where it was made.
            frames = [(f.filename, f.lineno or 0, f.name) for f in reversed(traceback.extract_stack())]
        name: str = coroutine.__qualname__  # type: ignore[attr-defined]  # it has
        filename, line, function = next((f for f in frames if not f[0].startswith(PACKAGE)), frames[0])
        code = linecache.getline(filename, line).strip()
        self.found.append(
            f"{name}() was called and never awaited, so it has done nothing. Put `await` before it, or in a plain "
            f"`def` handler ctx.wait(...) around it:\n  {filename}:{line} in {function}\n    {code}"
        )
        return True


def _tell(coroutine: Coroutine[Any, Any, Any]) -> None:
    if not Unawaited._at_work[-1].note(coroutine):
        _before(coroutine)


_before = getattr(warnings, _HOOK)
