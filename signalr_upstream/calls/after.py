"""Work that handlers leave for after their answer: ``ctx.after(f, *args)``.

It runs as tasks of the app, one call's in its order, and ends with the app: a shutdown waits for it.
"""

import asyncio
import inspect
import logging
from typing import Any, Final

from ..context import Context
from ..errors import HubError
from ..hubs.threads import Threads
from .cancelled import ends_this_task
from .line_limits import LineLimits

logger = logging.getLogger("signalr_upstream")

MAX_AFTER: Final = 1000
"""Calls whose work a worker does at a time. Each is a task that waits most of the time; what never ends adds up."""
PATIENCE: Final = 25.0
"""Seconds a shutdown waits for such work; then it is cancelled."""


class AfterWork:
    """What runs behind the answers of one app."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = Threads()
        self._lines = LineLimits()

    def begin(self, context: Context) -> None:
        """Start what a call has left. Its answer has been sent."""
        task = asyncio.create_task(self._run(context))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) == MAX_AFTER:
            logger.warning(
                "work behind %d answers is under way: calls that leave more are refused", MAX_AFTER
            )

    def check_room(self) -> None:
        """Check that one more call may leave work.

        Raises:
            HubError: this worker does as much as it takes.
        """
        if len(self._tasks) >= MAX_AFTER:
            raise HubError("The server has as much work behind answers as it takes; try again later.")

    async def drain(self, patience: float = PATIENCE) -> None:
        """Wait for what runs; cancel it when the patience is over."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=patience)
        for task in late:
            task.cancel()
        if late:
            logger.warning("%d pieces of work behind answers took too long and were cancelled", len(late))
            await asyncio.wait(late)

    async def done(self) -> None:
        """Wait for what runs, and for what that leaves."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, context: Context) -> None:
        for function, args in context.after_work:  # which may grow meanwhile
            try:
                await self._one(function, args)
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and ends_this_task():
                    raise  # a shutdown does not wait any longer
                kind = (getattr(function, "__qualname__", ""), type(error))
                text = "work behind the answer of %r failed"
                self._lines.log(logger, kind, logging.ERROR, text, context, error=error)

    async def _one(self, function: Any, args: tuple[Any, ...]) -> None:
        if inspect.iscoroutinefunction(function):
            await function(*args)
            return
        given = await self._threads.run(function, *args)
        if inspect.isawaitable(given):  # such as that of `lambda: ctx.clients.all.send("news")`
            await given
