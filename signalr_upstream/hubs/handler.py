"""One registered handler: who may call it, and within which time."""

from collections.abc import Callable
from typing import Any, NoReturn

from ..context import Context, Predicate
from ..errors import Forbidden, HubError, RegistrationError
from ..protocol.upstream import MESSAGES
from ..rest.typed_clients import kinds_of
from .binding import Binding
from .places import shown


class Handler:
    """One registered handler.

    Attributes:
        function: what to call; ``binding`` knows with what.
        require: the predicate that guards it, or None.
        timeout: seconds it may take; None for the app's limit.
        cancel_on_disconnect: it is cancelled when its caller hangs up.
        is_plain: it wants nothing but its arguments.
        kinds: what ``ctx.clients`` gives it.
        meant: the connection event that its event nearly is; None if it is one, or says ``category=``.

    Raises:
        RegistrationError: it could never be called, or not as its options say.
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
        client: type | None,
        meant: str | None = None,
    ) -> None:
        self.function = function
        self.category = category
        self.event = event
        self.require = require
        self.timeout = timeout
        self.cancel_on_disconnect = cancel_on_disconnect
        self.binding = Binding(function, takes_arguments=category == MESSAGES, client=client)
        self.kinds = kinds_of(client)
        self.meant = meant
        if cancel_on_disconnect and not self.binding.is_async:
            raise RegistrationError(
                f"{shown(function)}: cancel_on_disconnect= needs an async handler; a thread cannot be stopped"
            )
        self.is_plain = not self.binding.needs and not cancel_on_disconnect

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

    def refuse_answer(self, *, with_items: bool) -> NoReturn:
        """Say that it does not answer as its caller wants: with items (``stream()``), or with at most one result.

        Raises:
            HubError: which says so.
        """
        if with_items:
            raise HubError(f"{self.event} answers with no stream: call it with invoke() or send().")
        raise HubError(f"{self.event} answers with a stream: call it with stream().")
