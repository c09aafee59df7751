"""The one clock of a local service: of its sessions, tokens and memberships, and of every timer.

Times are Unix seconds as ``float``. They never jump: a service whose system's clock is set anew would close clients
that did nothing wrong.
"""

import asyncio
import heapq
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol


class Timer(Protocol):
    """A call that is still to come."""

    def cancel(self) -> None:
        """Call it off; once it was made that does nothing."""
        ...


class Clock(Protocol):
    """What time it is, and calls when it is later."""

    def time(self) -> float:
        """Unix seconds."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` on the event loop at ``when``, or a little earlier; soon, if that is over."""
        ...


class SystemClock:
    """The system's time when the clock was made, and what has passed since."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def time(self) -> float:
        return self._offset + time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(when - self.time(), callback)


class ManualClock:
    """A clock for tests: its time passes in ``advance``, and there alone.

    Args:
        start: Unix seconds.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._now = start
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._count = itertools.count()  # timers of one moment keep their order

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass. What comes due on the way is called at its time, and what that asks for as well.

        Tasks which the calls start run when the caller awaits something.
        """
        until = self._now + seconds
        while self._timers and self._timers[0][0] <= until:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.call()
        self._now = until


class _ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def call(self) -> None:
        if self._callback is not None:
            self._callback()


@asynccontextmanager
async def time_limit(clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Cancel what is inside when ``clock`` has gone on by ``seconds``.

    Raises:
        TimeoutError: it has.
    """
    async with asyncio.timeout(None) as timeout:
        # A time in the past ends it as soon as the event loop comes to it.
        timer = clock.call_at(clock.time() + seconds, lambda: timeout.reschedule(0.0))
        try:
            yield
        finally:
            timer.cancel()
