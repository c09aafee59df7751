"""A handler is run: filters around it, its arguments bound, its dependencies asked, its time limited.

What most handlers have none of costs nothing: a plain one is called with its arguments and no more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Raw, Struct
from starlette.types import Receive

from .context import Context
from .depends import Injection, Overrides
from .handler import Handler
from .hub import Filter
from .threads import Threads
from .time_limit import TimeLimits

WATCH_AFTER: Final = 0.25
"""Seconds a handler runs before its caller is watched: most have ended by then."""

Encode = Callable[[Any], bytes]


class CallerGone(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The caller hung up, and its handler was cancelled for it."""


class Task(Struct, frozen=True):
    """One call, ready for its handler.

    Attributes:
        arguments: None for connected and disconnected.
        encode: makes the answer of the result; the dependencies end after it. None: nobody waits for one.
        receive: tells when the caller hangs up.
    """

    handler: Handler
    filters: Sequence[Filter]
    context: Context
    arguments: Raw | None
    binary: bool
    encode: Encode | None
    receive: Receive


class Runner:
    """Runs the handlers of one app.

    Args:
        timeout: seconds for a handler that has no limit of its own.
        threads: where plain functions run.
        overrides: dependencies that are replaced.
    """

    def __init__(self, *, timeout: float, threads: Threads, overrides: Overrides) -> None:
        self.time_limits = TimeLimits()
        self._timeout = timeout
        self._threads = threads
        self._overrides = overrides

    async def run(self, task: Task) -> bytes:
        """The encoded answer.

        Raises:
            TimeLimitPassed: it took too long.
            CallerGone: the handler wanted to be cancelled with its caller.
            Exception: whatever the handler, a filter, a dependency or the encoder raises.
        """
        handler = task.handler
        limit = handler.timeout or self._timeout
        try:
            if task.filters or handler.binding.needs or handler.cancel_on_disconnect:
                work: Awaitable[bytes] = self._whole(task)
                if handler.cancel_on_disconnect:
                    work = _watched(work, task.receive)
                return await self.time_limits.within(limit, work)
            args, kwargs = self._bind(task)
            if handler.binding.is_async:
                running: Awaitable[Any] = handler.function(*args, **kwargs)
            else:
                running = self._threads.run(handler.function, *args, **kwargs)
            result = await self.time_limits.within(limit, running)
            return b"" if task.encode is None else task.encode(result)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is None or current.cancelling():
                raise  # the server ends this call
            raise RuntimeError("the handler awaited what was cancelled") from error

    def _bind(self, task: Task) -> tuple[tuple[Any, ...], dict[str, Any]]:
        binding = task.handler.binding
        if task.arguments is None:
            return binding.call_without_arguments(task.context)
        return binding.bind(task.context, task.arguments, binary=task.binary)

    async def _whole(self, task: Task) -> bytes:
        context = task.context
        async with Injection(
            context=context,
            request=lambda: context.request,
            threads=self._threads,
            overrides=self._overrides,
        ) as injection:
            result = await self._filtered(task, injection, 0)
            return b"" if task.encode is None else task.encode(result)

    async def _filtered(self, task: Task, injection: Injection, passed: int) -> Any:
        """The result behind the filters from number ``passed`` on."""
        if passed < len(task.filters):
            call_next = partial(self._filtered, task, injection, passed + 1)
            return await task.filters[passed](task.context, call_next)
        handler = task.handler
        args, kwargs = self._bind(task)
        if handler.binding.needs:
            injected = await injection.fill(handler.binding.needs)
            args, kwargs = handler.binding.place_injected(args, kwargs, injected)
        if handler.binding.is_async:
            return await handler.function(*args, **kwargs)
        return await self._threads.run(handler.function, *args, **kwargs)


async def _watched(work: Awaitable[bytes], receive: Receive) -> bytes:
    """``work``, cancelled when the caller hangs up."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([task], timeout=WATCH_AFTER)
        if done:
            return task.result()
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
        if not task.done():
            raise CallerGone
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
