"""From the headers of a call to its route: all that is known about one spelling of (hub, category, event).

A route that was found once is one dictionary lookup away. What nobody handles is explained in the log, with a handler
ready to be pasted.
"""

import itertools
import logging
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from starlette.types import Scope

from ..context import Service
from ..errors import MediaTypeError, NoHandlerError, UpstreamError
from ..hubs.handler import Handler
from ..hubs.hub import Hub
from ..hubs.registering import ErrorMaps, Filter, check_filter
from ..protocol.path import PathPattern
from ..protocol.upstream import (
    CATEGORY,
    CONNECTED,
    CONNECTIONS,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    DISCONNECTED,
    EVENT,
    HUB,
    JSON_TYPE,
    MESSAGEPACK_TYPE,
    MESSAGES,
    decode_header,
)
from ..telemetry import UNKNOWN

logger = logging.getLogger("signalr_upstream")

MAX_ROUTES = 4096  # spellings of registered names that are remembered; clients choose the spelling
MAX_SPELLING = 1024  # bytes of one that is remembered; behind a catch-all clients choose its length, too
MAX_HINTS = 20  # unknown events a process explains; clients choose the events
CHECK_EVENTS = ("signalrUpstreamCheck", "a/b c")
"""What ``signalr-upstream check`` calls: nobody is shown a handler for it. Proxies like to decode and merge the second.
Calls of them are refused, logged and counted as any other: clients may use the names, too."""

Headers = Mapping[bytes, bytes]
_Spelling = tuple[bytes | str | None, ...]


class Route(Struct, frozen=True):
    """All that is known about one spelling of (hub, category, event).

    Attributes:
        registered_hub: the hub's name as the program has it, else ``unknown``.
        handler: None for what nobody handles.
        binary: whether the body is MessagePack.
        filters: what runs around the handler, the outermost first.
        errors: what its caller is told of exceptions.
    """

    hub: str
    category: str
    event: str
    service: Service
    registered_hub: str
    handler: Handler | None
    is_known_hub: bool
    binary: bool
    filters: tuple[Filter, ...]
    errors: ErrorMaps

    @property
    def is_connection_event(self) -> bool:
        """Whether this is connected or disconnected."""
        return self.category == CONNECTIONS and self.event.lower() in (CONNECTED, DISCONNECTED)


class Routes:
    """The routes of one app.

    Args:
        service_of: the service of a hub; None stands for a hub the app does not have.
        path: the pattern to compare paths with; None compares nothing.
        application: the service's application name, which is a prefix of every hub on the wire.
        filters: those of the app, which run around those of the hubs.
    """

    def __init__(
        self,
        hubs: Sequence[Hub[Any]],
        *,
        service_of: Callable[[Hub[Any] | None], Service],
        path: PathPattern | None,
        application: str,
        filters: Sequence[Filter],
    ) -> None:
        for function, hub in itertools.product(filters, hubs):
            check_filter(function, hub=hub.name, client=hub.client)
        # The most specific comes first: a plain name, then families by the length of their prefix.
        self._hubs = sorted(hubs, key=lambda hub: (hub.is_family, -len(hub.name)))
        self._service_of = service_of
        self._filters = tuple(filters)
        self._path = path
        self._prefix = f"{application.lower()}_" if application else ""
        self._known: dict[_Spelling, Route] = {}
        self._explained: set[str] = set()

    def forget(self) -> None:
        """Look everything up again: the app was connected to another service."""
        self._known.clear()

    def seen(self, scope: Scope, headers: Headers) -> Route | None:
        """The route of a call that passed ``find`` before, spelled exactly like this."""
        return self._known.get(_spelling(scope, headers))

    def service(self, headers: Headers) -> Service:
        """The service whose keys check a call that has no route yet."""
        return self._service_of(self.find_hub(self._plain_name(decode_header(headers.get(HUB, b"")))))

    def find_hub(self, name: str) -> Hub[Any] | None:
        """The hub that answers to ``name``: the one called so, else the most specific family."""
        return next((hub for hub in self._hubs if hub.serves(name)), None)

    def registered_name(self, headers: Headers) -> str:
        """``hub/category/event`` of a call as they are registered; ``unknown`` stands for what is not."""
        hub, category, event = (decode_header(headers.get(name, b"")) for name in (HUB, CATEGORY, EVENT))
        found = self.find_hub(self._plain_name(hub))
        handler = found.lookup(category, event) if found else None
        names = (handler.category, handler.event) if handler else (UNKNOWN, UNKNOWN)
        return "/".join((found.name if found else UNKNOWN, *names))

    def find(self, scope: Scope, headers: Headers) -> Route:
        """The route of a call, after every check that its path and headers allow.

        Raises:
            UpstreamError: a header is missing, or the path disagrees with the headers.
            MediaTypeError: there is a handler, but the body is neither JSON nor MessagePack, or compressed.
        """
        for name in (HUB, CATEGORY, EVENT):
            if not headers.get(name):
                raise UpstreamError(f"the header {name.decode()} is missing or empty")
        hub, category, event = (decode_header(headers[name]) for name in (HUB, CATEGORY, EVENT))
        self._check_path(scope, hub, category, event)
        found = self.find_hub(self._plain_name(hub))
        handler = found.lookup(category, event) if found else None
        route = Route(
            hub=self._plain_name(hub),
            category=category.lower(),
            event=event,
            service=self._service_of(found),
            registered_hub=found.name if found else UNKNOWN,
            handler=handler,
            is_known_hub=found is not None,
            binary=handler is not None and _is_msgpack(headers, category.lower()),
            filters=(*self._filters, *found.filters) if found else (),
            errors=found.error_maps if found else ErrorMaps(),
        )
        if handler is not None:
            spelling = _spelling(scope, headers)
            if sum(len(part or "") for part in spelling) <= MAX_SPELLING:
                if len(self._known) >= MAX_ROUTES:
                    self._known.clear()  # or else those that came first would be fast for ever, and no others
                self._known[spelling] = route
        return route

    def _check_path(self, scope: Scope, hub: str, category: str, event: str) -> None:
        """Compare the path with the headers, as tolerantly as proxies make it necessary."""
        if self._path is None:
            return
        raw_path = scope.get("raw_path") or urllib.parse.quote(scope["path"]).encode()
        if not self._path.agrees(raw_path, hub=hub, category=category, event=event):
            raise UpstreamError(
                f"the path and the X-ASRS headers disagree; the path is {self._path.template} behind any prefix",
                details=f"it is {raw_path.decode('latin-1')!r}, and the headers say hub {hub!r}, "
                f"category {category!r}, event {event!r}",
            )

    def explain_missing(self, route: Route) -> None:
        """Say once in the log what could be registered for a route without a handler.

        Raises:
            NoHandlerError: unless it is connected or disconnected of a known hub, which need no handler.
        """
        name = f"{route.hub}/{route.category}/{route.event}"
        is_new = (
            name not in self._explained
            and route.event not in CHECK_EVENTS
            and len(self._explained) < MAX_HINTS
        )
        if is_new:
            self._explained.add(name)
        if route.is_known_hub and route.is_connection_event:
            if is_new:
                logger.info("nothing is registered for %r: answered 204", name)
            return
        if is_new:
            # `on` would take these two names for connection events.
            is_message_called_as_one = route.category == MESSAGES and route.event.lower() in (
                CONNECTED,
                DISCONNECTED,
            )
            logger.warning(
                "no handler for hub %r, category %r, event %r. To handle it:\n\n"
                "    @hub.on(%r%s)  # hub = Hub(%r)\n    async def handler(ctx: Context%s) -> None: ...\n",
                route.hub,
                route.category,
                route.event,
                route.event,
                ", category='messages'" if is_message_called_as_one else "",
                route.hub,
                "" if route.is_connection_event else ", *arguments: object",
            )
        raise NoHandlerError("no handler is registered for this hub, category and event")

    def _plain_name(self, hub: str) -> str:
        """The hub's name without the application's prefix; "" if it belongs to another application."""
        return hub[len(self._prefix) :] if hub.lower().startswith(self._prefix) else ""


def _spelling(scope: Scope, headers: Headers) -> _Spelling:
    """All that ``Routes.find`` looks at, byte for byte."""
    get = headers.get
    return (
        scope.get("raw_path") or scope["path"],
        get(HUB),
        get(CATEGORY),
        get(EVENT),
        get(CONTENT_TYPE),
        get(CONTENT_ENCODING),
    )


def _is_msgpack(headers: Headers, category: str) -> bool:
    if headers.get(CONTENT_ENCODING, b"identity").lower() != b"identity":
        raise MediaTypeError("the body is compressed; the service never does that")
    media_type = headers.get(CONTENT_TYPE, b"").decode("latin-1").partition(";")[0].strip().lower()
    if media_type == JSON_TYPE:
        return False
    if media_type == MESSAGEPACK_TYPE and category == MESSAGES:
        return True
    raise MediaTypeError(f"the body has to be {JSON_TYPE} or, for messages, {MESSAGEPACK_TYPE}")
