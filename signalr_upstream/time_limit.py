"""A time limit that costs nothing for what does not wait.

Most calls read a body that is there already and run a handler that never suspends; for those a timer would be set
only to be taken back. So the coroutine is stepped once, and the timer is set only if that did not end it.
"""

import asyncio
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

from .stepped import Stepped

T = TypeVar("T")


class TimeLimitPassed(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The limit passed; the coroutine was cancelled."""


class TimeLimits:
    """The running time limits of one app, so that a shutdown can end them all."""

    def __init__(self) -> None:
        self._timers: set[asyncio.Timeout] = set()

    def within(self, seconds: float, awaitable: Awaitable[T]) -> Awaitable[T]:
        """Await ``awaitable`` for at most ``seconds``.

        Raises:
            TimeLimitPassed: it took longer, or ``expire_all`` was called.
        """
        if isinstance(awaitable, types.CoroutineType):
            return self._step(seconds, awaitable)
        return self._limited(seconds, awaitable)

    def expire_all(self) -> None:
        """Let every limit that is running pass now."""
        for timer in list(self._timers):
            if not timer.expired():  # its coroutine may take a while to end
                timer.reschedule(asyncio.get_running_loop().time())

    @types.coroutine
    def _step(self, seconds: float, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        try:
            awaited = coroutine.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # a coroutine's StopIteration holds its result
        return (yield from self._limited(seconds, Stepped(coroutine, awaited)).__await__())

    async def _limited(self, seconds: float, awaitable: Awaitable[T]) -> T:
        timer = asyncio.timeout(seconds)
        try:
            async with timer:
                self._timers.add(timer)
                return await awaitable
        except TimeoutError as error:
            if timer.expired():
                raise TimeLimitPassed from error
            raise
        finally:
            self._timers.discard(timer)
