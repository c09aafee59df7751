"""The registry: which handler serves a (hub, category, event).

A hub holds no key, client or loop, so one hub may be in several apps. What is sent through ``chat.clients`` goes
through the app that is current in this context, else the only app the hub is in, else the environment's settings.
"""

import logging
import os
import typing
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar, overload

from ..claims import ClientAccess, Identity
from ..client import HubClient, ServiceClient
from ..connection_string import DEFAULT_SETTING
from ..context import Predicate
from ..endpoints import Endpoints
from ..errors import ConfigurationError, InvalidNameError, RegistrationError
from ..protocol.rest import check_name
from ..protocol.upstream import CONNECTIONS, MESSAGES
from ..rest.memberships import Connections, Groups, Users
from ..rest.targets import C, Clients, Target
from ..rest.typed_clients import kinds_of
from .depends import Dependency, read_negotiator
from .handler import Handler
from .near_misses import meant_by
from .places import place_of_making, shown
from .registering import ErrorMap, ErrorMaps, Filter, check_filter, check_options, marked_methods

logger = logging.getLogger("signalr_upstream")

Negotiator = Callable[..., Awaitable[Identity] | Identity]
F = TypeVar("F", bound=Callable[..., Any])
N = TypeVar("N", bound=Negotiator)
L = TypeVar("L", bound=Filter)
M = TypeVar("M", bound=ErrorMap)


class Connector(Protocol):
    """What a hub needs of an app: a way to its service."""

    def hub(self, hub: "Hub[C]", *, name: str | None = None) -> HubClient[C]: ...

    async def client_access(
        self, hub: "Hub[Any]", identity: Identity, *, name: str | None = None
    ) -> ClientAccess: ...


current_app: ContextVar[Connector] = ContextVar("signalr_upstream_current_app")
"""The app that serves the call this code runs in."""


class Hub(Generic[C]):
    """A hub and its handlers.

    Args:
        name: as clients connect to it; compared ignoring case. ``"tenant_*"`` serves every hub whose name begins so.
        connection: name of the setting that holds this hub's connection string, as in Microsoft's bindings.
        client: a ``typing.Protocol`` with the methods that clients of this hub have. What ``clients`` selects then has
            these methods, here and in handlers, which annotate ``Context[ChatClient]``.
        trust_raw_claims: ``ctx.claims``, and so ``role()``, are read from the service's own list where a token was not
            made by our negotiate. That list is ``type: value`` joined with ``", "`` and unescaped: whoever may choose
            one claim's value, or the user id, chooses all of them: a display name of ``Doe, role: admin`` makes an
            administrator. Only for tokens of an issuer that lets no user put a comma into any value.

    Raises:
        InvalidNameError: a name that the service would not take.
        RegistrationError: ``client`` is no ``Protocol`` of async methods.
    """

    @overload
    def __init__(
        self: "Hub[Target]", name: str, *, connection: str = ..., trust_raw_claims: bool = ...
    ) -> None: ...
    @overload
    def __init__(
        self, name: str, *, connection: str = ..., client: Callable[..., C], trust_raw_claims: bool = ...
    ) -> None: ...

    def __init__(
        self,
        name: str,
        *,
        connection: str = DEFAULT_SETTING,
        client: Any = None,
        trust_raw_claims: bool = False,
    ) -> None:
        kinds_of(client)
        self.is_family = isinstance(name, str) and name.endswith("*")
        try:
            check_name("hub", name[:-1] if self.is_family else name)
        except InvalidNameError as error:
            raise InvalidNameError("hub", f"{name!r} ({place_of_making(self)}): {error.reason}") from None
        self.name = name
        self.connection = connection
        self.trust_raw_claims = trust_raw_claims
        self.client: type | None = typing.get_origin(client) or client
        self.negotiator: Dependency | None = None
        self._handlers: dict[tuple[str, str], Handler] = {}
        self._catch_alls: list[tuple[str, Handler]] = []  # longest prefix first
        self.error_maps = ErrorMaps()
        self.filters: list[Filter] = []
        self._apps: weakref.WeakSet[Connector] = weakref.WeakSet()
        self._from_environment: ServiceClient | None = None
        for method, event, options in marked_methods(type(self)):
            self.on(event, **options)(getattr(self, method))

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {*dir(Hub), *vars(Hub("hub"))}
        for base in cls.__mro__[: cls.__mro__.index(Hub)]:
            for name in vars(base):
                if name in own and not name.startswith("__"):
                    raise RegistrationError(
                        f"{base.__qualname__}.{name} hides Hub.{name}: give it another name; the event is in @on"
                    )

    def __repr__(self) -> str:
        return f"<Hub {self.name!r} with {len(self.handlers)} handlers>"

    # --- registering ---

    def on(
        self,
        event: str,
        *,
        category: str | None = None,
        require: Predicate | None = None,
        timeout: float | None = None,
        cancel_on_disconnect: bool = False,
    ) -> Callable[[F], F]:
        """Register a handler.

        Args:
            event: ``"connected"``, ``"disconnected"``, the target of an invocation, or a catch-all of targets:
                ``"*"`` or ``"room.*"``; the most specific one is called.
            category: ``"messages"`` reaches a client method that happens to be called "connected".
            require: a predicate on the context, e.g. ``role("admin")``; the caller is refused if it says no.
            timeout: seconds the handler may take; None for the app's limit.
            cancel_on_disconnect: cancel an async handler whose caller hangs up; else it runs to its end.

        Raises:
            RegistrationError: (hub, category, event) has a handler already, or the signature cannot be served, or
                ``require`` is no plain function.
        """
        is_said = category is not None
        category = check_options(self.name, event, category, require=require, timeout=timeout)
        meant = None if is_said else meant_by(event)

        def register(function: F) -> F:
            handler = Handler(
                function,
                category=category,
                event=event,
                require=require,
                timeout=timeout,
                cancel_on_disconnect=cancel_on_disconnect,
                client=self.client,
                meant=meant,
            )
            self._add(handler)
            return function

        return register

    def filter(self, function: L) -> L:
        """Put an async function around every handler of this hub: ``async def f(ctx, call_next)``.

        It runs behind ``require=`` and the app's filters. ``await call_next()`` binds the arguments, asks the
        dependencies, runs the handler and gives its result; what the filter returns is the result.

        Raises:
            RegistrationError: it is no async function of two parameters, or of the context of another ``client=``.
        """
        check_filter(function, hub=self.name, client=self.client)
        self.filters.append(function)
        return function

    def errors(self, *kinds: type[Exception]) -> Callable[[M], M]:
        """Say what callers are told of these exceptions: the function gets one, and gives a text or another error.

        The map of the most specific class counts. ``HubError`` is told as it is unless it is mapped itself.

        Raises:
            RegistrationError: no exceptions, or ones that are mapped already, or no plain function.
        """
        if not kinds or not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise RegistrationError(f"hub {self.name!r}: say which exceptions: @hub.errors(SomeError)")

        def register(function: M) -> M:
            self.error_maps.add(kinds, function)
            return function

        return register

    def negotiate(self, function: N) -> N:
        """Serve ``POST /<hub>/negotiate``: ``function`` says who the client is.

        It is given the ``Request``, and dependencies: ``user: Annotated[User, Depends(current_user)]``.

        Raise ``Forbidden`` or a Starlette ``HTTPException`` to refuse.

        Raises:
            RegistrationError: the hub has one already, or a parameter of it can never be filled.
        """
        if self.negotiator is not None:
            raise RegistrationError(
                f"hub {self.name!r} has a negotiate function already: "
                f"{shown(self.negotiator.function)} and {shown(function)}"
            )
        self.negotiator = read_negotiator(function, where=f"negotiate of hub {self.name!r}")
        return function

    def _add(self, handler: Handler) -> None:
        key = (handler.category, handler.event.lower())
        if key in self._handlers:
            raise RegistrationError(
                f"hub {self.name!r}: {handler.category}/{handler.event} is registered twice: "
                f"{self._handlers[key].binding.where} and {handler.binding.where}"
            )
        self._handlers[key] = handler
        if handler.category == MESSAGES and handler.event.endswith("*"):
            self._catch_alls.append((handler.event[:-1].lower(), handler))
            self._catch_alls.sort(key=lambda item: len(item[0]), reverse=True)

    # --- looking up ---

    @property
    def handlers(self) -> list[Handler]:
        """All handlers, in the order they were registered."""
        return list(self._handlers.values())

    def serves(self, name: str) -> bool:
        """Whether this hub answers to ``name``."""
        if self.is_family:
            return name.lower().startswith(self.name[:-1].lower()) and len(name) >= len(self.name)
        return name.lower() == self.name.lower()

    def whole_name(self, name: str | None) -> str:
        """The hub that calls go to; a family such as ``Hub("tenant_*")`` has to be told.

        Raises:
            ConfigurationError: a family without a name, or a name of another hub.
            InvalidNameError: a name that the service would not take.
        """
        if name is None:
            if self.is_family:
                raise ConfigurationError(f"hub {self.name!r} is a family: say which of its hubs with name=")
            return self.name
        if not self.serves(name):
            raise ConfigurationError(f"hub {self.name!r} does not serve {name!r}")
        check_name("hub", name)
        return name

    def lookup(self, category: str, event: str) -> Handler | None:
        """The handler of an event: the exact one, else the most specific catch-all."""
        event = event.lower()
        found = None if event.endswith("*") else self._handlers.get((category.lower(), event))
        if found is None and category.lower() == MESSAGES:
            found = next((handler for prefix, handler in self._catch_alls if event.startswith(prefix)), None)
        return found

    def warn_of_near_misses(self) -> None:
        """Say in the log which handlers look as if they were meant for a connection event, which none handles."""
        for handler in self.handlers:
            if handler.meant is not None and self.lookup(CONNECTIONS, handler.meant) is None:
                logger.warning(
                    "hub %r: %s: `%s` is a message's target here; the connection events are `connected` and "
                    '`disconnected`. Where a target is meant, say category="messages".',
                    self.name,
                    shown(handler.function),
                    handler.event,
                )

    # --- sending ---

    def attach(self, app: Connector) -> None:
        """Remember an app that serves this hub."""
        self._apps.add(app)

    def _connector(self) -> Connector | None:
        app = current_app.get(None)
        if app is not None and app in self._apps:
            return app
        apps = list(self._apps)
        if len(apps) > 1:
            raise ConfigurationError(
                f"hub {self.name!r} is in {len(apps)} apps and none is current here; say which: app.hub(hub)"
            )
        return apps[0] if apps else None

    def _hub_client(self, name: str | None = None) -> HubClient[C]:
        connector = self._connector()
        if connector is not None:
            return connector.hub(self, name=name)
        if self._from_environment is None:
            endpoints = Endpoints.load(environ=os.environ, name=self.connection)
            self._from_environment = ServiceClient(endpoints=endpoints)
        return self._from_environment.hub(self.whole_name(name), client=self.client)

    @property
    def clients(self) -> Clients[C]:
        """Whom to send to."""
        return self._hub_client().clients

    @property
    def groups(self) -> Groups:
        """Groups of this hub."""
        return self._hub_client().groups

    @property
    def users(self) -> Users:
        """Users of this hub."""
        return self._hub_client().users

    @property
    def connections(self) -> Connections:
        """Connections of this hub."""
        return self._hub_client().connections

    async def client_access(self, identity: Identity, *, name: str | None = None) -> ClientAccess:
        """What a client needs to connect: the service's URL and a token, for an authenticated route of your own.

        Args:
            identity: who the client is.
            name: the hub's whole name, for a family such as ``Hub("tenant_*")``.

        Raises:
            ConfigurationError: the hub is in several apps and none is current.
            NoKeysError: it is in none, and the environment has no usable key.
        """
        return await self._hub_client(name).client_access(identity)
