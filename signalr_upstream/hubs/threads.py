"""Plain functions in worker threads, which may outlive the call that started them."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread

T = TypeVar("T")


class Threads:
    """Runs plain functions so that the event loop goes on. A thread cannot be stopped: one whose call was given up
    runs on, and counts as a running call until it ends.

    Args:
        left_behind: called when a call gives up on its thread.
        ended_late: called when such a thread has ended.
    """

    def __init__(
        self,
        *,
        left_behind: Callable[[], None] = lambda: None,
        ended_late: Callable[[], None] = lambda: None,
    ) -> None:
        self._left_behind = left_behind
        self._ended_late = ended_late

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What ``function`` gives. It sees the caller's context variables."""
        run = _Run(functools.partial(function, *args, **kwargs), self._ended_late)
        try:
            return await anyio.to_thread.run_sync(run.in_thread, abandon_on_cancel=True)
        except asyncio.CancelledError:
            if run.leave_behind():
                self._left_behind()
            raise


class _Run:
    def __init__(self, work: Callable[[], Any], ended_late: Callable[[], None]) -> None:
        self._work = work
        self._ended_late = ended_late
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._ended = False
        self._left_behind = False

    def leave_behind(self) -> bool:
        """Stop waiting for it; True if it still runs. It never will if no thread had come free for it."""
        self._left_behind = self._started and not self._ended
        return self._left_behind

    def in_thread(self) -> Any:
        self._started = True
        try:
            return self._work()
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ended = True
        if self._left_behind:
            self._ended_late()
