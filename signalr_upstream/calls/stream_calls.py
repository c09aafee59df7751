"""Handlers that answer a client's ``stream()``: tasks of the app that feed the streams of its clients.

The call itself is answered before the first item. That the service passes such calls on is a proposal of Microsoft's,
so all of this is behind ``UpstreamApp(experimental_streams=True)``.

Spec: https://github.com/Azure/azure-signalr/issues/2132
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextvars import copy_context
from typing import Any, Final

from ..context import Context
from ..errors import ConfigurationError, HubError
from ..hubs.handler import Handler
from ..rest.targets import ConnectionTarget
from ..streams import ClientStream
from .after import AfterWork
from .line_limits import LineLimits

logger = logging.getLogger("signalr_upstream")

MAX_STREAMS: Final = 1000
"""A worker. Each is a task that waits most of the time; clients choose how many they open."""
MAX_STREAMS_OF_CLIENT: Final = 50
"""A client, of these: far more than a page shows at a time, and twenty clients can fill a worker, not one."""
PATIENCE: Final = 5.0
"""Seconds a shutdown waits for streams to end, which it has cancelled."""
SHUTTING_DOWN: Final = "The server is shutting down."

Work = Callable[[ClientStream], Awaitable[Any]]
"""Runs the handler, and feeds its items to the stream."""


class StreamCalls:
    """The streams that one app feeds.

    Args:
        after: runs what a stream leaves for when it has ended.
        is_on: whether the app may have any.
    """

    def __init__(self, after: AfterWork, *, is_on: bool) -> None:
        self._after = after
        self._lines = LineLimits()
        self._is_on = is_on
        self._ends_with: str | None = None  # what cancelled streams tell their client
        self._connections: dict[asyncio.Task[None], str] = {}  # whose stream a task feeds

    def begin(self, context: Context[Any], work: Work, *, explain: Callable[[Exception], str]) -> None:
        """Start to feed the stream that a call has asked for.

        Args:
            explain: what the client is told of an error, which it logs.

        Raises:
            HubError: this worker feeds as many streams as it takes, or as many as one client may have, or none at all.
        """
        if not self._is_on:
            raise HubError("Streams are not switched on: UpstreamApp(experimental_streams=True).")
        if len(self._connections) >= MAX_STREAMS:
            raise HubError("The server feeds as many streams as it takes; try again later.")
        if [*self._connections.values()].count(context.connection_id) >= MAX_STREAMS_OF_CLIENT:
            raise HubError("You have as many streams as a client may have; end one first.")
        connection = context.clients.untyped.connection(context.connection_id)
        feeding = self._feed(connection, context, work, explain)
        task = asyncio.get_running_loop().create_task(feeding, context=copy_context())
        self._connections[task] = context.connection_id
        task.add_done_callback(self._connections.pop)

    def end_of(self, connection_id: str) -> None:
        """Stop feeding a client that has gone."""
        for task, owner in self._connections.items():
            if owner == connection_id:
                task.cancel()

    async def drain(self) -> None:
        """End all streams with an error; the app shuts down."""
        await asyncio.sleep(0)  # a task that has not begun would tell nobody of its end
        self._ends_with = SHUTTING_DOWN
        for task in self._connections:
            task.cancel()
        if self._connections:
            await asyncio.wait(list(self._connections), timeout=PATIENCE)
        self._ends_with = None

    async def _feed(
        self,
        connection: ConnectionTarget,
        context: Context[Any],
        work: Work,
        explain: Callable[[Exception], str],
    ) -> None:
        stream = ClientStream(connection, context.invocation_id or "")
        error: str | None = None
        try:
            await work(stream)
        except asyncio.CancelledError:
            stream.is_gone = self._ends_with is None  # nobody is there to be told
            error = self._ends_with
        except Exception as failure:
            error = explain(failure)
        try:
            await stream.complete(error)
        except Exception as failure:
            text = "the stream of %r could not be ended, and its client waits: %s"
            self._lines.log(logger, "not ended", logging.ERROR, text, context, failure)
        if context.after_work:
            self._after.begin(context)


def check_streams(handlers: Iterable[Handler]) -> None:
    """Check that no handler needs what is not switched on.

    Raises:
        ConfigurationError: one does.
    """
    for handler in handlers:
        if handler.binding.is_stream:
            raise ConfigurationError(
                f"{handler!r} is a generator: it answers a client's stream(), which Azure does not pass on today. "
                "To try it with the local service: UpstreamApp(experimental_streams=True)"
            )
