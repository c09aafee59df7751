"""What is written in one round of an event loop goes to the sockets at its end, one write right after the other.

A write wakes the reader of a socket that sleeps, and that costs more than all the rest of a short request. Written
so, all but the first find it awake.
"""

import asyncio
from typing import Protocol


class Unsent(Protocol):
    """What has something to write."""

    def flush(self) -> None:
        """Write it. It never raises: others come after it."""
        ...


class Round:
    """Flushes what was added in the running round of the loop, at its end."""

    def __init__(self) -> None:
        self._unsent: list[Unsent] = []

    def add(self, unsent: Unsent) -> None:
        """Flush ``unsent`` when this round is over."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._end)
        self._unsent.append(unsent)

    def _end(self) -> None:
        ended, self._unsent = self._unsent, []
        for unsent in ended:
            unsent.flush()
