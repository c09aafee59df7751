"""One registered handler: who may call it, within which time, and what callers are told of its errors."""

from collections.abc import Callable
from typing import Any

from .binding import Binding
from .context import Context, Predicate
from .errors import Forbidden, HubError
from .protocol.upstream import MESSAGES

ErrorMap = dict[type[Exception], Callable[[Any], "str | Exception"]]
"""What callers are told of exceptions."""


class Handler:
    """One registered handler.

    Attributes:
        function: what to call; ``binding`` knows with what.
        require: the predicate that guards it, or None.
        timeout: seconds it may take; None for the app's limit.
        cancel_on_disconnect: it is cancelled when its caller hangs up.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        category: str,
        event: str,
        require: Predicate | None,
        timeout: float | None,
        cancel_on_disconnect: bool,
        errors: ErrorMap,
    ) -> None:
        self.function = function
        self.category = category
        self.event = event
        self.require = require
        self.timeout = timeout
        self.cancel_on_disconnect = cancel_on_disconnect
        self._errors = errors
        self.binding = Binding(function, takes_arguments=category == MESSAGES)

    def __repr__(self) -> str:
        return f"<Handler {self.category}/{self.event} at {self.binding.where}>"

    def admit(self, context: Context) -> None:
        """Ask ``require``.

        Raises:
            Forbidden: it refuses this call.
            TypeError: its answer is no bool. A forgotten ``await`` or ``role`` without its brackets is true, too.
        """
        if self.require is None:
            return
        allowed: object = self.require(context)
        if not isinstance(allowed, bool):
            raise TypeError(f"require= of {self!r} has to give a bool, not {type(allowed).__name__}")
        if not allowed:
            raise Forbidden

    def mapped(self, error: Exception) -> Exception | None:
        """What ``hub.errors`` makes of an error; None if it says nothing of its kind."""
        for kind in type(error).__mro__:
            if kind in self._errors:
                try:
                    return _as_hub_error(self._errors[kind](error))
                except Exception as failure:
                    return failure
        return None


def _as_hub_error(said: str | Exception) -> Exception:
    return said if isinstance(said, Exception) else HubError(said)
