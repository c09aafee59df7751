"""A handler is run: filters around it, its arguments bound, its dependencies asked, its result encoded, its time
limited.

What most handlers have none of costs nothing: a plain one is called with its arguments and no more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from msgspec import Raw
from starlette.types import Receive

from ..context import Context
from ..hubs.depends import Injection, Overrides
from ..hubs.handler import Handler
from ..hubs.threads import Threads
from ..protocol.upstream import ResultEncoder
from ..streams import ClientStream
from .cancelled import ends_this_task
from .routing import Route
from .time_limit import TimeLimits

WATCH_AFTER: Final = 0.25
"""Seconds a handler runs before its caller is watched: most have ended by then."""


class CallerGone(Exception):  # noqa: N818 - what happened, not whose fault it is
    """The caller hung up, and its handler was cancelled for it."""


class Runner:
    """Runs the handlers of one app.

    Args:
        timeout: seconds for a handler that has no limit of its own.
        threads: where plain functions run.
        overrides: dependencies that are replaced.
        enc_hook: makes something msgspec can encode out of what it cannot.
    """

    def __init__(
        self,
        *,
        timeout: float,
        threads: Threads,
        overrides: Overrides,
        enc_hook: Callable[[Any], Any] | None,
    ) -> None:
        self.time_limits = TimeLimits()
        self._timeout = timeout
        self._threads = threads
        self._overrides = overrides
        self._encode_result = ResultEncoder(enc_hook).encode

    async def run(
        self, handler: Handler, route: Route, context: Context, arguments: Raw | None, receive: Receive
    ) -> bytes:
        """The encoded answer; empty if nobody waits for one.

        Args:
            arguments: None for connected and disconnected.
            receive: tells when the caller hangs up.

        Raises:
            TimeLimitPassed: it took too long.
            CallerGone: the handler wanted to be cancelled with its caller.
            Exception: whatever the handler, a filter, a dependency or the encoder raises.
        """
        limit = handler.timeout or self._timeout
        try:
            if handler.is_plain and not route.filters:
                args, kwargs = _bind(handler, route, context, arguments)
                running: Awaitable[Any] = (
                    handler.function(*args, **kwargs)
                    if handler.binding.is_async
                    else self._threads.run(handler.function, *args, **kwargs)
                )
                return self._encode(context, route, await self.time_limits.within(limit, running))
            work: Awaitable[bytes] = self._whole(handler, route, context, arguments)
            if handler.cancel_on_disconnect:
                work = _watched(work, receive)
            return await self.time_limits.within(limit, work)
        except asyncio.CancelledError as error:
            raise _cause_of(error) from error

    async def run_stream(
        self,
        handler: Handler,
        route: Route,
        context: Context,
        arguments: Raw,
        stream: ClientStream,
    ) -> None:
        """Run a handler that is an async generator, and feed its items to ``stream``.

        Its time is limited only where it has a limit of its own: the call it came by has been answered.

        Raises:
            TimeLimitPassed, Exception: as ``run``.
        """
        work = self._whole(handler, route, context, arguments, stream)
        limit = handler.timeout
        try:
            await (work if limit is None else self.time_limits.within(limit, work))
        except asyncio.CancelledError as error:
            raise _cause_of(error) from error

    def _encode(self, context: Context, route: Route, result: Any) -> bytes:
        if context.invocation_id is None:
            return b""
        return self._encode_result(context.invocation_id, result, binary=route.binary)

    async def _whole(
        self,
        handler: Handler,
        route: Route,
        context: Context,
        arguments: Raw | None,
        stream: ClientStream | None = None,
    ) -> bytes:
        injection = Injection(
            context=context,
            request=lambda: context.request,
            threads=self._threads,
            overrides=self._overrides,
        )

        async def call() -> Any:
            args, kwargs = _bind(handler, route, context, arguments)
            needs = handler.binding.needs
            if needs:
                args, kwargs = handler.binding.place_injected(args, kwargs, await injection.fill(needs))
            if stream is not None:
                return await stream.feed(handler.function(*args, **kwargs))
            if handler.binding.is_async:
                return await handler.function(*args, **kwargs)
            return await self._threads.run(handler.function, *args, **kwargs)

        call_next: Callable[[], Awaitable[Any]] = call
        for one in reversed(route.filters):
            call_next = partial(one, context, call_next)
        try:
            result = await call_next()
            # The dependencies end behind the encoding, so that what they end is still there for it.
            answer = b"" if stream is not None else self._encode(context, route, result)
        except BaseException as error:
            if injection.is_open:
                await injection.close(error)
            raise
        if injection.is_open:
            await injection.close(None)
        return answer


def _bind(
    handler: Handler, route: Route, context: Context, arguments: Raw | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if arguments is None:
        return handler.binding.call_without_arguments(context)
    return handler.binding.bind(context, arguments, binary=route.binary)


def _cause_of(error: asyncio.CancelledError) -> BaseException:
    if ends_this_task():
        return error  # the server ends this call
    return RuntimeError("the handler awaited what was cancelled")


async def _watched(work: Awaitable[bytes], receive: Receive) -> bytes:
    """``work``, cancelled when the caller hangs up."""
    running = [asyncio.ensure_future(work)]
    try:
        done, _ = await asyncio.wait(running, timeout=WATCH_AFTER)
        if not done:
            gone = asyncio.ensure_future(_disconnected(receive))
            await asyncio.wait([*running, gone], return_when=asyncio.FIRST_COMPLETED)
            running.append(gone)
        if not running[0].done():
            raise CallerGone
        return running[0].result()
    finally:
        for task in running:
            task.cancel()
        # Waits for their ends, and takes what they end with.
        await asyncio.gather(*running, return_exceptions=True)


async def _disconnected(receive: Receive) -> bytes:
    while (await receive())["type"] != "http.disconnect":
        pass
    return b""
