"""So many log lines of a kind a minute: what anybody can cause, at any rate, must fill no disk."""

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
    """Decides which lines are written, and counts the others, by kinds of which there are few."""

    def __init__(self) -> None:
        self._kinds: dict[str, _Kind] = {}

    def withheld(self, kind: str, now: float) -> int | None:
        """How many lines of this kind were withheld before this one; None if this one is to be, too.

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
            return None
        known.lines += 1
        withheld, known.withheld = known.withheld, 0
        return withheld
