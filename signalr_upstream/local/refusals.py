"""Requests that are refused before anything comes of them: the journal has all, the log a few lines a minute.

A browser tells its page nothing of a WebSocket or a preflight that was refused, so the log is where the reason is seen.
"""

import logging
from http import HTTPStatus

from starlette.types import Scope

from ..calls.line_limits import LineLimits
from ..errors import SignalRError
from .records.journal import Journal
from .records.recording import target

MAX_SHOWN = 300
"""Characters of a reason that are shown: a client's hub may be in it."""

_USUAL = (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)
"""No mistake: what comes late for a connection that has gone, and what comes while the service ends."""

_TOKEN = " Clients connect with url and accessToken of one fresh answer of the app's negotiate."  # noqa: S105

_log = logging.getLogger("signalr_upstream.local")


class Refusals:
    """Those of one service."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lines = LineLimits(journal.clock.time)  # by status

    def note(self, error: SignalRError, scope: Scope) -> None:
        """A request, of a client or of a stranger, is answered with this error."""
        status = error.status_code
        self._journal.refused(status, scope.get("method", "GET"), target(scope), str(error))
        if status in _USUAL:
            return
        advice = _TOKEN if status == HTTPStatus.UNAUTHORIZED else ""
        text = "".join(c if c.isprintable() else "?" for c in str(error))[:MAX_SHOWN]
        said = "a client of the local service was answered %d: %s%s"
        self._lines.log(_log, status, logging.WARNING, said, status, text, advice)
