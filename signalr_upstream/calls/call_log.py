"""What the log says of calls: how they end, with the fields of ``telemetry.LOG_FIELDS``.

Never arguments, claims or tokens.
"""

import logging
import time
from typing import Any, Final

from ..context import Context
from ..telemetry import Outcome, log_fields

logger = logging.getLogger("signalr_upstream")

TOLD: Final = (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.REDELIVER, Outcome.CALLER_GONE)
"""What the log has heard of when the call ends."""


def note(
    context: Context, outcome: Outcome, level: int, text: str, *args: object, error: Exception | None = None
) -> None:
    """Log what became of a call, and remember it for metrics."""
    context.outcome = outcome
    logger.log(level, text, context, *args, exc_info=error, extra=_fields(context))


def log_end(context: Context, status: int, *, is_slow: bool) -> None:
    """Log that a call has been answered: a warning if it was slow."""
    level, text = (logging.WARNING, "was slow: answered") if is_slow else (logging.DEBUG, "answered")
    fields = _fields(context)
    logger.log(level, f"%r {text} %d in %.1f ms", context, status, fields["duration"] * 1000, extra=fields)


def _fields(context: Context) -> dict[str, Any]:
    return log_fields(
        f"{context.hub}/{context.category}/{context.event}",
        context.connection_id,
        seconds=time.perf_counter() - context.begun,
        outcome=context.outcome,
    )
