"""An app in this process, as a server hosts it: its lifespan is run, and what it sends comes to the local service."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...app import UpstreamApp
from ...errors import ConfigurationError
from ...protocol.path import DEFAULT_PATTERN
from ...services import Connection
from ...transports.transport import Transport
from ..upstream.rules import Rules, Served, Upstreams
from ..upstream.templates import IN_PROCESS, UpstreamTemplate

PATIENCE = 30.0
"""Seconds for an app to start, and to end: enough to open a database, and a test that hangs ends with a reason."""


class HostedApp:
    """An ASGI app, and every ``UpstreamApp`` that it is or has mounted.

    Args:
        app: whatever it is; one that knows no lifespan is served all the same.
        lifespan: False where somebody else runs it.
        patience: seconds for start-up, and for shutdown.
    """

    def __init__(self, app: ASGIApp, *, lifespan: bool = True, patience: float = PATIENCE) -> None:
        self._app = app
        self._lifespan = lifespan
        self._patience = patience
        self._state: dict[str, Any] = {}
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._answer: asyncio.Future[Message]
        self._task: asyncio.Task[None] | None = None
        self._connected: list[tuple[UpstreamApp, Connection, Connection]] = []  # before, and ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "state": self._state.copy()}, receive, send)

    # --- the service behind it -------------------------------------------------------------------------------

    def connect(self, connection_string: str, transport: Transport | None) -> None:
        """Let what it sends come here."""
        for app in upstream_apps(self._app):
            before = app.connection
            app.connected_to(connection_string, transport)
            self._connected.append((app, before, app.connection))

    def restore(self) -> None:
        """Give back the service it had before, unless it has got another one meanwhile."""
        for app, before, ours in self._connected:
            if app.connection is ours:
                app.connection = before
        self._connected.clear()

    # --- lifespan --------------------------------------------------------------------------------------------

    async def startup(self) -> None:
        """Run the start of its lifespan.

        Raises:
            ConfigurationError: it failed, or is not over in time. What the app itself raises passes.
        """
        if not self._lifespan:
            return
        task = asyncio.create_task(self._live())
        try:
            if await self._reach("startup", task):
                self._task = task
            else:
                task.exception()  # an app that knows no lifespan says so by failing
        finally:
            if self._task is None:
                task.cancel()

    async def shutdown(self) -> None:
        """Run the end of its lifespan, if that has begun; raises as ``startup``."""
        task, self._task = self._task, None
        if task is not None:
            try:
                if not await self._reach("shutdown", task):
                    task.result()  # raises what has ended it
            finally:
                task.cancel()

    async def _live(self) -> None:
        asgi = {"version": "3.0", "spec_version": "2.0"}
        scope = {"type": "lifespan", "asgi": asgi, "state": self._state}
        await self._app(scope, self._requests.get, self._take)

    async def _take(self, message: Message) -> None:
        if not message["type"].startswith("lifespan."):
            raise RuntimeError(f"{message['type']} is no answer to a lifespan")
        if not self._answer.done():
            self._answer.set_result(message)

    async def _reach(self, phase: Literal["startup", "shutdown"], task: asyncio.Task[None]) -> bool:
        """Bring it there. False: it has ended without a word."""
        self._answer = asyncio.get_running_loop().create_future()
        self._requests.put_nowait({"type": f"lifespan.{phase}"})
        either: list[asyncio.Future[Any]] = [self._answer, task]
        await asyncio.wait(either, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        if not self._answer.done():
            if task.done():
                return False
            raise ConfigurationError(
                f"the app's lifespan has not answered {phase!r} within {self._patience:g} seconds: "
                "let it answer, or leave it alone with lifespan=False"
            )
        if self._answer.result()["type"] == f"lifespan.{phase}.failed":
            await asyncio.wait([task], timeout=self._patience)
            if task.done():
                task.result()  # raises what made it fail: Starlette does
            raise ConfigurationError(f"the app's lifespan says that its {phase} has failed")
        return True


def upstream_apps(app: object) -> dict[UpstreamApp, str]:
    """Every ``UpstreamApp`` that an app is or has mounted, and the prefix in front of its paths."""
    apps: dict[UpstreamApp, str] = {}
    for one, prefix in _found(app, ""):
        apps.setdefault(one, prefix)
    return apps


def _found(app: object, prefix: str) -> Iterator[tuple[UpstreamApp, str]]:
    if isinstance(app, UpstreamApp):
        yield app, prefix
    for route in getattr(app, "routes", ()):
        yield from _found(getattr(route, "app", None), prefix + getattr(route, "path", ""))


def hubs_of(apps: Iterable[UpstreamApp]) -> tuple[str, ...]:
    """The hubs of apps, as ``Served`` has them."""
    return tuple(one.services.name_of(hub.name).lower() for one in apps for hub in one.hubs)


def templates_for(app: object, *, base: str = IN_PROCESS) -> list[UpstreamTemplate]:
    """Where calls to an app go: each hub's to the ``UpstreamApp`` that has it.

    Args:
        base: begins the URLs: scheme and host.
    """
    apps = upstream_apps(app)
    urls = {one: f"{base}{prefix}{one.upstream_path}" for one, prefix in apps.items()}
    if len(apps) < 2:
        return [UpstreamTemplate(url) for url in urls.values()] or [UpstreamTemplate(base + DEFAULT_PATTERN)]
    exact = [
        UpstreamTemplate(urls[one], hub=one.services.name_of(hub.name))
        for one in apps
        for hub in one.hubs
        if not hub.is_family
    ]
    families = [urls[one] for one in apps if any(hub.is_family for hub in one.hubs)]
    return [*exact, UpstreamTemplate(next(iter([*families, *urls.values()])))]


def rules_for(app: object | None, upstream: Upstreams | None) -> Rules:
    """Where calls go: as is said, else to an app in this process."""
    if upstream is not None or app is None:
        return Rules(upstream or ())
    served = Served(tuple(templates_for(app)), hubs_of(upstream_apps(app)))
    return Rules(lambda: served)
