"""What happens, told to who wants to know: the fields of log lines, and observers that count and trace.

The app, the client and negotiate report here. Without an observer a call pays for two looks at the clock and no more.
Observers get names that the program has registered; whatever a client has chosen is ``unknown`` to them, or one client
could make any number of time series.
"""

import logging
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from msgspec import Struct

from .errors import (
    ConfigurationError,
    KeysNotFetchedError,
    OverloadedError,
    SignalRError,
    SignatureError,
    TokenError,
)
from .printable import printable

logger = logging.getLogger("signalr_upstream")

T = TypeVar("T")

UNKNOWN: Final = "unknown"

SLOW_AFTER: Final = 1.0
"""Seconds after which a call is worth a warning: its client waits, and so does what that client says next."""

LOG_FIELDS: Final = ("event", "connection", "duration", "outcome", "reason")
"""What a log line about a call says besides its text. ``duration`` is in seconds; ``reason`` is there for a call that
was not believed, and says why (see ``reason_of``), and ``connection`` is empty then."""

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The variable with which prometheus_client is told where the processes of a program share what they count."""

MAX_FIELD: Final = 256
"""Characters of a field; clients choose the length of an event."""


class Outcome(StrEnum):
    """What became of an upstream call."""

    SUCCESS = "success"
    REFUSED = "refused"
    """A ``HubError``: the handler, ``require=`` or the arguments' types said no."""
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REDELIVER = "redeliver"
    CALLER_GONE = "caller_gone"
    DUPLICATE = "duplicate"
    """Answered with what the first of its kind was answered."""
    CANCELLED = "cancelled"
    """The server ended it before there was an answer."""
    # No handler ran:
    IGNORED = "ignored"
    """A connection event that the app has no handler for, and needs none."""
    NOT_CONFIGURED = "not_configured"
    KEYS_NOT_FETCHED = "keys_not_fetched"
    """Those that tokens of Entra ID are checked with."""
    UNAUTHORIZED = "unauthorized"
    NO_HANDLER = "no_handler"
    """For a hub or a method: its client has another name for it than the app."""
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BAD_REQUEST = "bad_request"
    BODY_TIMEOUT = "body_timeout"
    BODY_TOO_LARGE = "body_too_large"
    MEDIA_TYPE = "media_type"
    OVERLOADED = "overloaded"


UNPROVEN: Final = (Outcome.NOT_CONFIGURED, Outcome.KEYS_NOT_FETCHED, Outcome.UNAUTHORIZED)
"""Nothing says that such a call comes from the service. One without the right ``code=`` is among them."""

REFUSED_BODIES: Final = (Outcome.BODY_TIMEOUT, Outcome.BODY_TOO_LARGE, Outcome.MEDIA_TYPE)

_BY_STATUS: Final = {
    401: Outcome.UNAUTHORIZED,
    404: Outcome.NO_HANDLER,
    405: Outcome.METHOD_NOT_ALLOWED,
    408: Outcome.BODY_TIMEOUT,
    413: Outcome.BODY_TOO_LARGE,
    415: Outcome.MEDIA_TYPE,
}


def outcome_of(error: SignalRError) -> Outcome:
    """The outcome of a call that was refused with ``error`` before a handler ran."""
    if isinstance(error, ConfigurationError):
        return Outcome.NOT_CONFIGURED
    if isinstance(error, KeysNotFetchedError):
        return Outcome.KEYS_NOT_FETCHED
    if isinstance(error, OverloadedError):
        return Outcome.OVERLOADED
    return _BY_STATUS.get(error.status_code, Outcome.BAD_REQUEST)


def reason_of(error: SignalRError) -> str:
    """Why a call that was refused with ``error`` was not believed; "" if something else was wrong with it.

    See ``SignatureError.reason``; ``token`` is that of Entra ID.
    """
    if isinstance(error, SignatureError):
        return error.reason
    return "token" if isinstance(error, TokenError) else ""


class Call(Struct, eq=False):
    """One upstream call. What is not known while it begins is there when it ends.

    Attributes:
        headers: as ASGI has them. The signature is among them: never to be logged.
        hub: as registered, else ``unknown``.
        handler: the event it is registered for, else ``unknown``.
        connection_id: whose call it is; "" until its signature has been checked.
        status: of the answer over HTTP; 0 for none.
        unproven: why the caller was not believed; "" if it was.
        key_index: which of our keys its signature was made with, counted from 0; None if none was looked at.
        error_type: name of the exception that a handler failed with, or that refused the call; "" for none.
    """

    headers: Sequence[tuple[bytes, bytes]]
    hub: str = UNKNOWN
    handler: str = UNKNOWN
    connection_id: str = ""
    outcome: Outcome = Outcome.CANCELLED
    status: int = 0
    unproven: str = ""
    key_index: int | None = None
    error_type: str = ""

    def __repr__(self) -> str:
        return f"<Call {self.hub}/{self.handler}: {self.outcome}>"

    @property
    def is_proven(self) -> bool:
        """Whether it comes from the service; if not, nothing that its headers say is to be believed."""
        return bool(self.connection_id) and not self.unproven

    def refused(self, error: SignalRError) -> None:
        """It ends here: no handler runs."""
        self.outcome = outcome_of(error)
        self.status = error.status_code
        self.error_type = type(error).__name__
        self.unproven = reason_of(error)


class RestRequest(Struct, eq=False):
    """One attempt of one REST call.

    Attributes:
        operation: its name, e.g. ``send_to_group``.
        template: of its path.
        server_url: of the endpoint.
        resend: how many attempts came before.
        headers: sent along; an observer may add its own, such as ``traceparent``.
        status: of the answer; None where none came.
        error_type: name of the exception that it failed with; "" for none.
    """

    operation: str
    method: str
    template: str
    server_url: str
    resend: int
    headers: list[tuple[str, str]]
    status: int | None = None
    error_type: str = "CancelledError"

    def __repr__(self) -> str:
        return f"<RestRequest {self.operation}: {self.status or self.error_type}>"


class Negotiation(Struct, frozen=True):
    """One answered negotiate.

    Attributes:
        hub: as registered, else ``unknown``.
        outcome: ``success``, ``refused``, ``not_found``, ``unavailable`` or ``failed``.
    """

    hub: str
    outcome: str
    seconds: float


class PoolUse(Struct, frozen=True):
    """Connections to the REST API: at work and unused, and requests that wait for one."""

    busy: int = 0
    idle: int = 0
    waiting: int = 0

    @classmethod
    def sum(cls, uses: Iterable[Self]) -> Self:
        """All of them together."""
        parts = [(use.busy, use.idle, use.waiting) for use in uses]
        return cls(*(sum(numbers) for numbers in zip(*parts, strict=True)))


class Pooled(Protocol):
    """What has connections."""

    def pool_use(self) -> PoolUse: ...


class Observer:
    """Is told what happens: override what you want to know. What an observer raises is logged and changes nothing.

    ``call`` and ``request`` give a context manager, in which the thing happens; give the same observer to every
    ``UpstreamApp`` and ``ServiceClient`` of a process.
    """

    def __init__(self) -> None:
        self._pools: weakref.WeakSet[Pooled] = weakref.WeakSet()

    def call(self, call: Call) -> AbstractContextManager[object]:
        """An upstream call, from where its proofs have been checked."""
        return nullcontext()

    def request(self, request: RestRequest) -> AbstractContextManager[object]:
        """An attempt of a REST call."""
        return nullcontext()

    def negotiated(self, negotiation: Negotiation) -> None:
        """A client was told where to connect to, or not."""

    def fetched(self, what: str, source: str) -> None:
        """Something that ages was fetched: the ``temporary_key`` of an endpoint, or the ``jwks`` of a tenant.

        Args:
            source: the URL of that endpoint, or of those keys.
        """

    def warning_for_workers(self) -> str:
        """What is wrong where several processes each have such an observer; "" for nothing."""
        return ""

    def watch(self, pool: Pooled) -> None:
        """Count these connections for as long as they live."""
        self._pools.add(pool)

    def pool_use(self) -> PoolUse:
        """What all pools together have."""
        return PoolUse.sum(pool.pool_use() for pool in self._pools)


class Observed(Generic[T]):
    """Something under way, for all who observe it.

    Args:
        begins: the observers' methods for such a thing.
        what: the thing.
    """

    def __init__(self, begins: Sequence[Callable[[T], AbstractContextManager[object]]], what: T) -> None:
        self.what = what
        self._begins = begins
        self._open: list[AbstractContextManager[object]] = []

    def begin(self) -> None:
        """It is known well enough to be observed; a second time changes nothing."""
        begins, self._begins = self._begins, ()
        for begin in begins:
            try:
                manager = begin(self.what)
                manager.__enter__()
            except Exception:
                _explain()
            else:
                self._open.append(manager)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """It has ended, and says itself how."""
        self.begin()
        for manager in reversed(self._open):
            try:
                manager.__exit__(None, None, None)
            except Exception:
                _explain()


def tell(observers: Sequence[Observer], news: Callable[[Observer], object]) -> None:
    """Tell every observer something."""
    for observer in observers:
        try:
            news(observer)
        except Exception:
            _explain()


def log_fields(event: str, connection_id: str, *, seconds: float, outcome: Outcome) -> dict[str, Any]:
    """What a log line about a call gets as ``extra``; see ``LOG_FIELDS``."""
    return {
        "event": escaped(event),
        "connection": escaped(connection_id),
        "duration": round(seconds, 6),
        "outcome": outcome.value,
    }


def escaped(text: str) -> str:
    """``text`` for a log: what no printer shows as a backslash and its number, and not too much of it."""
    if len(text) > MAX_FIELD:
        text = f"{text[:MAX_FIELD]}..."
    return printable(text)


def _explain() -> None:
    logger.exception("an observer failed; what it observed did not")
