"""The newest of many entries, as many as a limit of number and of bytes allows."""

from collections import deque
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What a ring holds."""

    @property
    def kept(self) -> int: ...


E = TypeVar("E", bound=Entry)


class Ring(Generic[E]):
    """The newest entries: at most so many, and at most so many bytes.

    Attributes:
        lost: how many have made room for newer ones.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.entries: deque[E] = deque()
        self.lost = 0
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, entry: E, kept: int) -> None:
        """Put an entry of ``kept`` bytes at the end. A broadcast does that for every client."""
        self.entries.append(entry)
        self._bytes += kept
        if self._bytes > self._max_bytes or len(self.entries) > self._max_entries:
            self._make_room()

    def grow(self, size: int) -> None:
        """Entries have ``size`` bytes more."""
        self._bytes += size
        self._make_room()

    def _make_room(self) -> None:
        """The newest entry stays, whatever its size."""
        while len(self.entries) > self._max_entries or (
            self._bytes > self._max_bytes and len(self.entries) > 1
        ):
            self._bytes -= self.entries.popleft().kept
            self.lost += 1
