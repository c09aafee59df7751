"""A time limit that costs nothing for what does not wait.

Most calls read a body that is there already and run a handler that never suspends; for those a timer would be set
only to be taken back. So the coroutine is stepped once, and the timer is set only if that did not end it.
"""

import asyncio
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


class TimeLimitPassed(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The limit passed; the coroutine was cancelled."""


TICK = 0.1
"""Seconds between looks at the clock: how late a limit may be noticed. One timer serves all that is running."""


class TimeLimits:
    """The running time limits of one app, so that a shutdown can end them all."""

    def __init__(self) -> None:
        self._running: set[_Limit] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # of the timer

    @property
    def running(self) -> int:
        """How many limits are running."""
        return len(self._running)

    def within(self, seconds: float, awaitable: Awaitable[T]) -> Awaitable[T]:
        """Await ``awaitable`` for at most ``seconds``, or up to a tenth of a second more.

        Raises:
            TimeLimitPassed: it took longer, or ``expire_all`` was called.
        """
        if not isinstance(awaitable, types.CoroutineType):
            awaitable = _awaited(awaitable)
        return self._drive(seconds, awaitable)

    def expire_all(self) -> None:
        """Let every limit that is running pass now."""
        for limit in self._running:
            limit.pass_now()

    @types.coroutine
    def _drive(self, seconds: float, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """What awaiting the coroutine does, but for the limit that begins where it first waits."""
        limit = None
        try:
            awaited = coroutine.send(None)
            limit = self._begin(seconds)
            while True:
                try:
                    value = yield awaited
                except BaseException as error:  # a cancellation, say, belongs into the coroutine
                    thrown = error
                else:
                    awaited = coroutine.send(value)
                    continue
                try:
                    # Not amid the except: it would be the context of all that is raised from here on.
                    awaited = coroutine.throw(thrown)
                finally:
                    del thrown  # its traceback holds this frame
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # a coroutine's StopIteration holds its result
        except asyncio.CancelledError as error:
            # Ours alone: who cancels the task besides wants it to end.
            if limit is not None and limit.take_back() and limit.task.cancelling() <= limit.cancelling:
                raise TimeLimitPassed from error
            raise
        finally:
            if limit is not None:
                if limit.cancels:
                    limit.take_back()
                self._running.discard(limit)

    def _begin(self, seconds: float) -> "_Limit":
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 - a coroutine that waits runs in a task
        limit = _Limit(task, loop.time() + seconds)
        self._running.add(limit)
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._timer = loop.call_later(min(seconds, TICK), self._tick, loop)
        return limit

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for limit in self._running:
            if now >= limit.deadline:
                limit.pass_now()
        self._timer = loop.call_later(TICK, self._tick, loop) if self._running else None


class _Limit:
    """One running limit of one task."""

    __slots__ = ("cancelling", "cancels", "deadline", "passed", "task")

    def __init__(self, task: "asyncio.Task[Any]", deadline: float) -> None:
        self.task = task
        self.deadline = deadline
        self.cancelling = task.cancelling()
        self.passed = self.cancels = False

    def pass_now(self) -> None:
        if not self.passed:  # its coroutine may take a while to end
            self.passed = self.cancels = True
            self.task.cancel()

    def take_back(self) -> bool:
        """The cancellation has done its work, or came too late: whether there was one."""
        if self.cancels:
            self.cancels = False
            self.task.uncancel()
            return True
        return False


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable
