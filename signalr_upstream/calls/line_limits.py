"""So many log lines a minute of a kind of refusal: what anybody can cause, at any rate, must fill no disk."""

import logging
from typing import Final

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
    """Decides which lines are warnings, and counts the others, by kinds of which there are few."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def line(self, kind: str, now: float) -> tuple[int, str]:
        """The level of one more line of this kind, and what stands at its end: how many were withheld before it.

        Args:
            now: seconds of a steady clock.
        """
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind(now)
        if now - known.begun >= PERIOD:
            known.begun, known.lines = now, 0
        if known.lines >= LINES:
            known.withheld += 1
            return logging.DEBUG, ""
        known.lines += 1
        withheld, known.withheld = known.withheld, 0
        more = f" ({withheld:,} more were refused so since the last line)" if withheld else ""
        return logging.WARNING, more
