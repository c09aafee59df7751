"""Calls that no handler runs for: what their caller and the log are told.

Anybody can send calls that are refused, at any rate: a line is written for a few of each kind, and the others are
counted. Metrics count all of them.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from starlette.types import Scope

from ..errors import (
    ConfigurationError,
    KeysNotFetchedError,
    MethodNotAllowedError,
    OverloadedError,
    SignalRError,
    SignatureError,
    UpstreamError,
)
from ..protocol.upstream import CONNECTION_ID, decode_header
from ..reply import Reply, problem
from ..telemetry import UNPROVEN, Outcome, log_fields, outcome_of, reason_of
from .line_limits import LineLimits
from .routing import Routes

logger = logging.getLogger("signalr_upstream")


class Refusals:
    """Answers the refused calls of one app.

    Args:
        with_code: whether the upstream URL has to have its ``code=``.
        clock: seconds, as ``Calls`` takes the time of calls with.
    """

    def __init__(
        self, routes: Routes, *, with_code: bool, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._routes = routes
        self._clock = clock
        code = ", and does the upstream URL have its code=" if with_code else ""
        self._unsigned = problem(
            SignatureError.status_code,
            f"the signature is missing or wrong: is this the access key of the service{code}?",
        )
        self._lines = LineLimits(clock)  # by reason, else outcome

    def answer(self, error: SignalRError, scope: Scope, begun: float) -> Reply:
        """Log a refusal, and give its answer.

        Args:
            begun: when the call began, by the clock.
        """
        self._log(error, scope, begun)
        if isinstance(error, SignatureError):
            return self._unsigned
        status = error.status_code
        if isinstance(error, OverloadedError | KeysNotFetchedError):
            return problem(status, str(error), (b"retry-after", b"1"))
        if isinstance(error, MethodNotAllowedError):
            return problem(status, str(error), (b"allow", b"POST"))
        return problem(status, str(error))

    def _log(self, error: SignalRError, scope: Scope, begun: float) -> None:
        seconds = self._clock() - begun
        outcome, reason = outcome_of(error), reason_of(error)
        if isinstance(error, ConfigurationError):
            if self._lines.is_new(text := str(error)):
                fields = self._fields(scope, outcome, reason, seconds)
                logger.error("upstream calls are answered %d: %s", error.status_code, text, extra=fields)
            return
        level, more = self._lines.line(reason or outcome)
        if not logger.isEnabledFor(level):
            return
        fields = self._fields(scope, outcome, reason, seconds)
        whose = f" of connection '{fields['connection']}'" if fields["connection"] else ""
        details = f": {error.details}" if isinstance(error, UpstreamError) and error.details else ""
        parts = (fields["event"], whose, error.status_code, error, details, more)
        logger.log(level, "upstream call %s%s answered %d: %s%s%s", *parts, extra=fields)

    def _fields(self, scope: Scope, outcome: Outcome, reason: str, seconds: float) -> dict[str, Any]:
        headers = dict(scope["headers"])
        is_proven = outcome not in UNPROVEN or reason == "code"
        fields = log_fields(
            self._routes.registered_name(headers),
            decode_header(headers.get(CONNECTION_ID, b"")) if is_proven else "",
            seconds=seconds,
            outcome=outcome,
        )
        return {**fields, "reason": reason} if reason else fields
