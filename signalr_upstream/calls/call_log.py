"""What the log says of calls: how they end, with the fields of ``telemetry.LOG_FIELDS``.

Never arguments, claims or tokens. In an outage every call ends alike: a few of them tell all, and metrics count.
"""

import logging
import time
from typing import Any, Final

from ..context import Context
from ..hubs.handler import Handler
from ..telemetry import Outcome, log_fields
from .line_limits import LineLimits

logger = logging.getLogger("signalr_upstream")

TOLD: Final = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REDELIVER, Outcome.CALLER_GONE)
"""What the log has heard of when the call ends."""


class CallLog:
    """Writes the lines about the calls of one app: so many a minute that end alike, by handler and exception."""

    def __init__(self) -> None:
        self._lines = LineLimits()

    def note(
        self,
        context: Context,
        handler: Handler | None,
        outcome: Outcome,
        level: int,
        text: str,
        *args: object,
        error: Exception | None = None,
    ) -> None:
        """Log what became of a call, and remember it for metrics."""
        context.outcome = outcome
        kind = (handler, outcome, type(error))
        self._lines.log(logger, kind, level, text, context, *args, error=error, extra=_fields(context))

    def end(self, context: Context, handler: Handler, status: int, *, is_slow: bool) -> None:
        """Log that a call has been answered: a warning if it was slow."""
        level, more = self._lines.line((handler, "slow")) if is_slow else (logging.DEBUG, "")
        fields = _fields(context)
        text = f"%r {'was slow: ' if is_slow else ''}answered %d in %.1f ms%s"
        logger.log(level, text, context, status, fields["duration"] * 1000, more, extra=fields)

    def not_closed(self, error: Exception) -> None:
        """Log that a connection that was to be closed is still there."""
        text = "a refused connection could not be closed and is still there: %s"
        self._lines.log(logger, "not closed", logging.ERROR, text, error)


def _fields(context: Context) -> dict[str, Any]:
    return log_fields(
        f"{context.hub}/{context.category}/{context.event}",
        context.connection_id,
        seconds=time.perf_counter() - context.begun,
        outcome=context.outcome,
    )
