"""What authors register on a hub beside handlers: filters, and what callers are told of exceptions; and how methods of
a class are marked as handlers."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from ..context import Context, Predicate, role
from ..errors import HubError, RegistrationError
from ..protocol.upstream import CONNECTED, CONNECTIONS, DISCONNECTED, MESSAGES
from .depends import hints_of, misfit
from .places import shown

F = TypeVar("F", bound=Callable[..., Any])

Filter = Callable[[Context[Any], Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Runs around handlers: ``async def f(ctx, call_next)``."""

ErrorMap = Callable[[Any], "str | Exception"]
"""Says what a caller is told of an exception."""

_MARK = "__signalr_upstream_on__"


def on(
    event: str,
    *,
    category: str | None = None,
    require: Predicate | None = None,
    timeout: float | None = None,
    cancel_on_disconnect: bool = False,
) -> Callable[[F], F]:
    """Mark a method of a class derived from ``Hub`` as a handler; the arguments are those of ``Hub.on``.

    ::

        class Chat(Hub):
            @on("sendMessage")
            async def send_message(self, ctx: Context, text: str) -> None: ...

        app = UpstreamApp(Chat("chat"))

    One instance serves all calls: keep nothing of a caller on ``self``.
    """
    if not isinstance(event, str):
        raise RegistrationError(f'{shown(event)}: say which event, @on("event")')
    options = {
        "category": category,
        "require": require,
        "timeout": timeout,
        "cancel_on_disconnect": cancel_on_disconnect,
    }

    def mark(function: F) -> F:
        setattr(function, _MARK, [*getattr(function, _MARK, ()), (event, options)])
        return function

    return mark


def marked_methods(kind: type) -> list[tuple[str, str, dict[str, Any]]]:
    """Name, event and options of the methods that ``on`` has marked, in the order they are written.

    A method that overrides a marked one takes its place, and its mark if it has none itself.
    """
    marks: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        for name, value in vars(base).items():
            mark = getattr(value, _MARK, None)
            if mark is not None:
                marks[name] = mark
    return [
        (name, event, options)
        for name, mark in marks.items()
        if callable(getattr(kind, name))
        for event, options in mark
    ]


def check_options(
    hub: str, event: Any, category: str | None, *, require: object, timeout: float | None
) -> str:
    """The category of an event; raises for options that no handler could have.

    Raises:
        RegistrationError: see there.
    """
    where = f"hub {hub!r}"
    if not isinstance(event, str):
        raise RegistrationError(f'{where}: {shown(event)}: say which event, @hub.on("event")')
    if require is role:
        raise RegistrationError(f'{where}: say which role: require=role("admin")')
    if require is not None and (not callable(require) or inspect.iscoroutinefunction(require)):
        raise RegistrationError(f"{where}: require= takes a plain function of the context")
    if timeout is not None and not timeout > 0:
        raise RegistrationError(f"{where}: timeout= is more than 0 seconds, or None")
    if not event:
        raise RegistrationError(f"{where}: an event needs a name")
    is_connection_event = event.lower() in (CONNECTED, DISCONNECTED)
    if category is None:
        return CONNECTIONS if is_connection_event else MESSAGES
    if category not in (CONNECTIONS, MESSAGES):
        raise RegistrationError(f"{where}: category {category!r} is none of connections and messages")
    if category == CONNECTIONS and not is_connection_event:
        raise RegistrationError(f"{where}: connections has connected and disconnected, not {event!r}")
    return category


def check_filter(function: Any, *, hub: str, client: type | None) -> None:
    """Let only async functions of two parameters pass, of a context that the hub has.

    Args:
        client: of the hub.

    Raises:
        RegistrationError: it is none, or annotates a ``Context[...]`` of another client class.
    """
    if not (inspect.iscoroutinefunction(function) and _takes_two(function)):
        raise RegistrationError(
            f"{shown(function)} cannot be a filter: that is an async function of (ctx, call_next)"
        )
    first = next(iter(inspect.signature(function).parameters))
    wrong = misfit(_hints(function).get(first), client)
    if wrong is not None:
        raise RegistrationError(f"{shown(function)} cannot be a filter of hub {hub!r}: `{first}` {wrong}")


def _takes_two(function: Any) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    return True


def _hints(function: Any) -> dict[str, Any]:
    try:
        return hints_of(function)
    except Exception:  # nothing but the check needs them, and names may be imported for type checkers alone
        return {}


class ErrorMaps:
    """What callers of one hub are told of exceptions."""

    def __init__(self) -> None:
        self._maps: dict[type[Exception], ErrorMap] = {}

    def add(self, kinds: tuple[type[Exception], ...], function: ErrorMap) -> None:
        """Map these exceptions.

        Raises:
            RegistrationError: one has a map already, or the function is no plain one.
        """
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise RegistrationError(
                f"{shown(function)} cannot map errors: that is a plain function of the error"
            )
        for kind in kinds:
            if kind in self._maps:
                raise RegistrationError(
                    f"{kind.__name__} is mapped twice: {shown(self._maps[kind])} and {shown(function)}"
                )
        self._maps |= dict.fromkeys(kinds, function)

    def map(self, error: Exception) -> Exception:
        """What becomes of an error: what the map of its most specific class makes of it, else itself.

        A ``HubError`` is what its author wants to say: only maps of it or of its kinds count.
        """
        kinds = type(error).__mro__
        if isinstance(error, HubError):
            kinds = kinds[: kinds.index(HubError) + 1]
        function = next((self._maps[kind] for kind in kinds if kind in self._maps), None)
        if function is None:
            return error
        try:
            said: object = function(error)
        except Exception as failure:
            return failure
        if isinstance(said, Exception):
            return said
        if isinstance(said, str):
            return HubError(said)
        return TypeError(f"{shown(function)} has to give a text or an error, not {type(said).__name__}")
