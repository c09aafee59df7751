"""Calls that the service delivers twice: the handler runs once, and both get its answer, byte for byte.

A service may try a call again whose answer it has not seen. This is no security feature: who can sign a call can choose
its invocation id. A call without an id is never held to be a duplicate, since nothing tells it from the next one.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from .reply import Reply

KEEP: Final = 60.0
"""Seconds an answer is kept: the service's attempts come within 1, 3 and 5 seconds of each other."""

MAX_ENTRIES: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all answers that are kept. Over either limit the oldest goes; the newest always stays."""

ENTRY_SIZE: Final = 500
"""Bytes that an answer takes beside its body."""

Work = Callable[[], Awaitable[tuple[Reply, bool]]]
"""Gives an answer, and whether it counts: one that asks for the call to come again does not."""


class Once(Protocol):
    """What an app can be given as ``duplicates``."""

    async def answer(self, key: bytes, work: Work) -> Reply:
        """Do the work, or give what it gave for this key before; wait for it where it is under way.

        Work that fails, or whose answer does not count, leaves nothing: the next one to come, or to wait, does it.
        """
        ...


class Duplicates:
    """Knows the calls of this process.

    Args:
        keep: seconds an answer is kept.
        max_entries: answers that are kept.
        max_bytes: of all of them.
        clock: seconds of a steady clock.
    """

    def __init__(
        self,
        *,
        keep: float = KEEP,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep = keep
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._clock = clock
        self._bytes = 0
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # the oldest first
        self._running: dict[bytes, asyncio.Future[Reply | None]] = {}

    def __repr__(self) -> str:
        return f"<Duplicates with {len(self._kept)} answers>"

    async def answer(self, key: bytes, work: Work) -> Reply:
        """See ``Once.answer``."""
        while True:
            self._forget_old()
            kept = self._kept.get(key)
            if kept is not None:
                return kept.reply
            running = self._running.get(key)
            if running is None:
                return await self._first(key, work)
            reply = await asyncio.shield(running)
            if reply is not None:
                return reply

    async def _first(self, key: bytes, work: Work) -> Reply:
        running = self._running[key] = asyncio.get_running_loop().create_future()
        counts = False
        try:
            reply, counts = await work()
        finally:
            del self._running[key]
            running.set_result(reply if counts else None)
        if counts:
            self._bytes += ENTRY_SIZE + len(reply[2])
            self._kept[key] = _Kept(reply, self._clock() + self._keep)
            self._forget_old()
        return reply

    def _forget_old(self) -> None:
        now = self._clock()
        while self._kept:
            oldest = next(iter(self._kept.values()))
            is_over = len(self._kept) > self._max_entries or self._bytes > self._max_bytes
            if now < oldest.ends and not (is_over and len(self._kept) > 1):
                return
            self._kept.popitem(last=False)
            self._bytes -= ENTRY_SIZE + len(oldest.reply[2])


class _Kept(Struct, frozen=True):
    reply: Reply
    ends: float


def duplicate_key(
    endpoint_url: str, hub: str, connection_id: str, *, invocation_id: str | None, event: str
) -> bytes:
    """What a call and its duplicates have in common, hashed: clients choose how long an invocation id is.

    Args:
        event: told by where there is no invocation id: a connection connects and disconnects once.
    """
    told = ("event", event.lower()) if invocation_id is None else ("invocation", invocation_id)
    parts = (endpoint_url, hub.lower(), connection_id, *told)
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()
