"""``POST /<hub>/negotiate``: who is this client, and where does it connect to.

SignalR clients ask the app first; the answer sends them on to the service with a token. A refusal is an HTTP error,
also for browsers of other origins, which get to see only answers with CORS headers.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .calls.line_limits import LineLimits
from .calls.time_limit import TimeLimitPassed
from .claims import Identity
from .errors import ConfigurationError, HubError, InvalidNameError, ServiceError
from .hubs.depends import Dependency, Injection, Overrides
from .hubs.hub import Connector, Hub, current_app
from .hubs.threads import Threads
from .reply import problem
from .streams import text_for_client
from .telemetry import UNKNOWN, Negotiation, Observer, tell

logger = logging.getLogger("signalr_upstream")

Limited = Callable[[Awaitable[Identity]], Awaitable[Identity]]
"""Awaits within a time limit, or raises ``TimeLimitPassed``."""

MAX_SHOWN = 100
"""Characters of an origin or a hub's name that are logged: anybody chooses them."""

_NAME_IT = "to let it in, name it in UpstreamApp(..., cors_origins=[...])"
_DOUBLED = "/negotiate/negotiate"
_OUTCOMES = {200: "success", 404: "not_found", 500: "failed", 503: "unavailable"}


class Negotiate:
    """The ASGI endpoint behind ``/{hub}/negotiate``.

    Attributes:
        lines: limits what is logged, since anybody can ask.
    """

    def __init__(
        self,
        app: Connector,
        find_hub: Callable[[str], Hub | None],
        limited: Limited,
        overrides: Overrides,
        observers: Sequence[Observer],
    ) -> None:
        self._app = app
        self._find_hub = find_hub
        self._limited = limited
        self._overrides = overrides
        self._observers = observers
        self._threads = Threads()
        self.lines = LineLimits()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        begun = time.perf_counter()
        current = current_app.set(self._app)
        try:
            response = await self._answer(request)
        finally:
            current_app.reset(current)
        if self._observers:
            hub = self._find_hub(request.path_params["hub"])
            outcome = _OUTCOMES.get(response.status_code, "refused")
            news = Negotiation(hub.name if hub else UNKNOWN, outcome, time.perf_counter() - begun)
            tell(self._observers, lambda observer: observer.negotiated(news))
        # A token is in it: no cache may keep it.
        response.headers["cache-control"] = "no-store"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        name: str = request.path_params["hub"]
        hub = self._find_hub(name)
        if request.scope["path"].endswith(f"/{name}{_DOUBLED}"):
            return self._not_found(
                name,
                "the client adds /negotiate itself",
                f': build it with withUrl(".../{name}"), without /negotiate',
            )
        if request.method != "POST":
            return _problem(405, "negotiate is POST", allow="POST, OPTIONS")
        if hub is None:
            return self._not_found(
                name,
                'there is no such hub in this app: withUrl(".../<name>") ends with the name in Hub("<name>")',
            )
        if hub.negotiator is None:
            return self._not_found(
                name, f"hub {hub.name!r} has no negotiate function: register one with @hub.negotiate"
            )
        try:
            identity = await self._limited(self._identity(hub.negotiator, request))
            access = await self._app.client_access(hub, identity, name=name)
        except HubError as error:
            return _problem(403, text_for_client(error))
        except HTTPException as error:
            return _problem(error.status_code, error.detail, **dict(error.headers or {}))
        except InvalidNameError as error:
            return self._not_found(name, str(error))
        except ConfigurationError as error:
            if self.lines.is_new(str(error)):
                self._log(hub, 503, error, logging.ERROR, "negotiate is answered 503: %s", error)
            return _problem(503, str(error))
        except ServiceError as error:
            self._log(hub, 503, error, logging.ERROR, "negotiate answered 503: %s", error)
            return _problem(503, "no token can be made at the moment; try again")
        except TimeLimitPassed as error:
            text = "negotiate answered 503: the function of hub %r passed its time limit"
            self._log(hub, 503, error, logging.WARNING, text, hub.name)
            return _problem(503, "negotiate took too long on the server; try again")
        except Exception as error:
            self._log(hub, 500, error, logging.ERROR, "the negotiate function of hub %r failed", hub.name)
            return _problem(500, "the negotiate function failed; its log says why")
        return Response(access.encode(), media_type="application/json")

    def _log(self, hub: Hub, status: int, error: Exception, level: int, text: str, *args: object) -> None:
        """Say why there is no token: a few times a minute, since anybody can ask for one. A crash has its traceback."""
        crash = error if status == 500 else None
        fields = {"event": f"{hub.name}/negotiate", "outcome": _OUTCOMES[status]}  # see LOG_FIELDS
        self.lines.log(logger, (hub.name, type(error)), level, text, *args, error=crash, extra=fields)

    def _not_found(self, name: str, detail: str, more: str = "") -> Response:
        """``more`` is not for the log."""
        text = "negotiate of hub %r answered 404: %s"
        self.lines.log(logger, 404, logging.WARNING, text, name[:MAX_SHOWN], detail)
        return _problem(404, detail + more)

    async def _identity(self, negotiator: Dependency, request: Request) -> Identity:
        injection = Injection(
            context=None, request=lambda: request, threads=self._threads, overrides=self._overrides
        )
        try:
            identity = await injection.ask(negotiator)
        except BaseException as error:
            await injection.close(error)
            raise
        await injection.close(None)
        if not isinstance(identity, Identity):
            raise TypeError(f"a negotiate function returns an Identity, not {type(identity).__name__}")
        return identity


class _Cors(CORSMiddleware):
    """CORS that says how an origin is let in: a browser tells its page nothing of a refused preflight."""

    def __init__(self, app: Negotiate, allow_origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=allow_origins,
            allow_methods=["POST"],
            allow_headers=["*"],
            allow_credentials=True,
            max_age=3600,
        )
        self._lines = app.lines

    def preflight_response(self, request_headers: Headers) -> Response:
        origin = request_headers["origin"]
        if self.is_allowed_origin(origin):
            return super().preflight_response(request_headers)
        text = "a page of %r may not negotiate: %s"
        self._lines.log(logger, 400, logging.WARNING, text, origin[:MAX_SHOWN], _NAME_IT)
        return _problem(400, f"pages of this origin may not negotiate: {_NAME_IT}", vary="Origin")


def negotiate_routes(
    app: Connector,
    find_hub: Callable[[str], Hub | None],
    *,
    cors_origins: Sequence[str],
    limited: Limited,
    overrides: Overrides,
    observers: Sequence[Observer],
) -> list[Route]:
    """The routes of negotiate, with CORS for these origins.

    Args:
        limited: limits the time of the negotiate function.

    Raises:
        ConfigurationError: ``*`` among the origins. SignalR clients send credentials, for which browsers refuse ``*``.
    """
    if "*" in cors_origins:
        raise ConfigurationError(
            "cors_origins: name the origins; browsers refuse '*' for requests with credentials"
        )
    endpoint = _Cors(Negotiate(app, find_hub, limited, overrides, observers), cors_origins)
    # With a slash at the end, too: Litestar adds one to the paths of apps that it mounts.
    paths = ("/{hub}/negotiate", "/{hub}/negotiate/", "/{hub}" + _DOUBLED)
    return [Route(path, endpoint) for path in paths]


def _problem(status: int, detail: str, **headers: str) -> Response:
    _, own, body = problem(status, detail)
    return Response(body, status, {**headers, "content-type": own[0][1].decode()})
