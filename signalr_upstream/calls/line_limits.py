"""So many log lines a minute of a kind: what anybody can cause, and what an outage does to every call, must fill no
disk and bury nothing else.
"""

import logging
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Final

from msgspec import Struct

LINES: Final = 20
"""Log lines of one kind in ``PERIOD``: enough to see what is wrong, and too few to fill a disk."""

PERIOD: Final = 60.0
"""Seconds."""


class _Kind(Struct):
    """Lines since ``begun``, and what got none since the last line."""

    begun: float
    lines: int = 0
    withheld: int = 0


class LineLimits:
    """Decides which lines are written at their own level, and counts the others, by kinds of which there are few.

    Args:
        clock: seconds of a steady clock.

    Attributes:
        listeners: how many hear every line, as the test kit does; while there is one, none is withheld.
    """

    listeners: ClassVar[int] = 0

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}
        self._said: set[str] = set()

    def is_new(self, text: str) -> bool:
        """Whether this is said for the first time: what stays so until the program is set up otherwise is said once."""
        if text in self._said:
            return False
        self._said.add(text)
        return True

    def line(self, kind: Hashable, level: int = logging.WARNING) -> tuple[int, str]:
        """The level of one more line of this kind, and what stands at its end: how many were withheld before it."""
        now = self._clock()
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind(now)
        if now - known.begun >= PERIOD:
            known.begun, known.lines = now, 0
        if known.lines >= LINES and not self.listeners:
            known.withheld += 1
            return logging.DEBUG, ""
        known.lines += 1
        withheld, known.withheld = known.withheld, 0
        return level, f" ({withheld:,} more like it since the last line)" if withheld else ""

    def log(
        self,
        logger: logging.Logger,
        kind: Hashable,
        level: int,
        text: str,
        *args: object,
        error: BaseException | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one more line of this kind, as far as the limit lets it.

        Args:
            error: whose traceback it brings.
        """
        level, more = self.line(kind, level)
        logger.log(level, f"{text}%s", *args, more, exc_info=error, extra=extra)
