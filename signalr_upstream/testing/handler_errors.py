"""What handlers and negotiate functions raise and nobody was to see: the caller is told a fixed text, and a test wants
the traceback."""

import logging
from types import TracebackType
from typing import Any

from ..calls.line_limits import LineLimits
from ..context import Context
from ..errors import SignalRError
from .unawaited import PACKAGE

_log = logging.getLogger("signalr_upstream")

NEGOTIATE = ""
"""The connection id of who has none yet."""


class HandlerFailedError(SignalRError):
    """A handler, a negotiate function, a filter or a dependency has raised what it was not to raise.

    Its own error is the ``__cause__``.

    Attributes:
        text: what the caller sees of it; None where the caller does not wait for an answer.
    """

    def __init__(self, event: str, cause: BaseException, text: str | None = None) -> None:
        super().__init__(
            f"the handler of {event!r} raised {type(cause).__name__}: {cause}"
            + (f" (the caller sees only: {text})" if text is not None else "")
        )
        self.text = text


class HandlerErrors(logging.Handler):
    """Hears what the app logs with a traceback, from ``start`` to ``stop``.

    Attributes:
        are_heard: whether it does now.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._found: list[tuple[str, str, BaseException]] = []  # connection id, event
        self._was_disabled = False
        self.are_heard = False

    def start(self) -> None:
        """Begin."""
        self._was_disabled, _log.disabled = _log.disabled, False  # logging.config does that to loggers
        _log.addHandler(self)
        LineLimits.listeners += 1
        self.are_heard = True

    def stop(self) -> None:
        """End."""
        self.are_heard = False
        _log.removeHandler(self)
        LineLimits.listeners -= 1
        _log.disabled = self._was_disabled

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        arguments: Any = record.args or ()
        context = next((argument for argument in arguments if isinstance(argument, Context)), None)
        # A line about a call has its context, one about a negotiate only the event.
        event = getattr(record, "event", None) if context is None else context.event
        if error is not None and event is not None:
            error.__traceback__ = _of_user(error.__traceback__) or error.__traceback__
            self._found.append((NEGOTIATE if context is None else context.connection_id, event, error))

    def take(self, connection_id: str | None = None, *, text: str | None = None) -> HandlerFailedError | None:
        """The first error, if there is one, of one connection or of all; errors taken with it are its notes.

        Args:
            connection_id: ``NEGOTIATE`` for what a negotiate function has raised.
            text: what the caller was told.
        """
        taken = [each for each in self._found if connection_id in (None, each[0])]
        self._found = [each for each in self._found if each not in taken]
        if not taken:
            return None
        _, event, cause = taken[0]
        error = HandlerFailedError(event, cause, text)
        error.__cause__ = cause
        for _, event, other in taken[1:]:
            error.add_note(f"and the handler of {event!r} raised {type(other).__name__}: {other}")
        return error


def _of_user(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without our own frames, which tell a hub's author nothing."""
    if traceback is None:
        return None
    rest = _of_user(traceback.tb_next)
    if traceback.tb_frame.f_code.co_filename.startswith(PACKAGE):
        return rest
    return TracebackType(rest, traceback.tb_frame, traceback.tb_lasti, traceback.tb_lineno)
