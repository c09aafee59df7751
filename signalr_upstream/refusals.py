"""Calls that no handler runs for: what their caller and the log are told."""

import logging

from .errors import (
    ConfigurationError,
    KeysNotFetchedError,
    MethodNotAllowedError,
    NoHandlerError,
    OverloadedError,
    SignalRError,
    SignatureError,
)
from .reply import Reply, problem
from .telemetry import outcome_of

logger = logging.getLogger("signalr_upstream")


class Refusals:
    """Answers the refused calls of one app.

    Args:
        with_code: whether the upstream URL has to have its ``code=``.
    """

    def __init__(self, *, with_code: bool) -> None:
        self._code = ", and does the upstream URL have its code=" if with_code else ""
        self._said: set[str] = set()

    def answer(self, error: SignalRError) -> Reply:
        """Log a refusal, and give its answer."""
        status, said = error.status_code, {"outcome": outcome_of(error).value}
        if isinstance(error, ConfigurationError):
            if str(error) not in self._said:
                logger.error("upstream calls are answered %d: %s", status, error, extra=said)
            self._said.add(str(error))
        elif not isinstance(error, NoHandlerError):
            logger.warning("upstream call answered %d: %s", status, error, extra=said)
        if isinstance(error, OverloadedError | KeysNotFetchedError):
            return problem(status, str(error), (b"retry-after", b"1"))
        if isinstance(error, MethodNotAllowedError):
            return problem(status, str(error), (b"allow", b"POST"))
        if isinstance(error, SignatureError):
            return problem(
                status,
                f"the signature is missing or wrong: is this the access key of the service{self._code}?",
            )
        return problem(status, str(error))
