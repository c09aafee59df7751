"""Serve one app in this process: uvicorn, with health routes and an orderly end.

What a worker process needs is in ``Serving``, which can be pickled; the app itself is imported where
it is served.
"""

import asyncio
import inspect
import logging
import math
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import LOG_LEVELS, STARTUP_FAILURE
from uvicorn.importer import ImportFromStringError, import_from_string

from ..app import UpstreamApp
from ..connection_string import is_loopback
from ..errors import ConfigurationError
from .draining import LAST_ANSWERS, LINGER, DrainingServer
from .garbage import collect_less_garbage
from .gathered import gathering_protocol
from .logs import log_config

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How an app is served. Times are seconds."""

    app: str
    app_dir: str = "."
    host: str = "127.0.0.1"
    port: int = 8080
    forwarded_allow_ips: str = ""
    keep_alive: float = 130.0
    drain_delay: float = 5.0
    drain_timeout: float = 25.0
    slow_after: float | None = None
    log_format: str = "json"
    log_level: str = "info"
    server_log_level: str = "info"

    @property
    def longest_end(self) -> float:
        """Seconds from the request to end until the process is gone, at worst."""
        return self.drain_delay + LINGER + self.drain_timeout + LAST_ANSWERS


def load_app(serving: Serving) -> ASGIApp:
    """Import the app.

    Raises:
        ConfigurationError: there is no such module or name, or it is no app. What the module itself raises passes.
    """
    folder = os.path.abspath(serving.app_dir)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    target = serving.app if ":" in serving.app else f"{serving.app}:app"
    try:
        app: ASGIApp = import_from_string(target)
    except ImportFromStringError as exc:
        hint = " Leave out .py: it names a module." if ".py:" in target else ""
        raise ConfigurationError(f"cannot import {target!r} from {folder}: {exc}{hint}") from exc
    if not callable(app):
        raise ConfigurationError(f"{target!r} is no ASGI app but {app!r}: give the name of the UpstreamApp")
    if not _takes_calls(app):
        raise ConfigurationError(
            f"{target!r} is no ASGI app, as it does not take (scope, receive, send): if it makes one, name what it has "
            "made, as in app = make_app()"
        )
    return app


def _takes_calls(app: Callable[..., object]) -> bool:
    try:
        inspect.signature(app).bind(None, None, None)
    except TypeError:
        return False
    except ValueError:
        pass  # what is written in C need not say
    return True


def check_app(app: ASGIApp, host: str) -> None:
    """Refuse what must not be served, before a port is open.

    Raises:
        NoKeysError: an ``UpstreamApp`` has nothing to check signatures with.
        ConfigurationError: ``insecure=True`` on an address that others can reach.
    """
    instances = UpstreamApp.instances()
    if not instances:
        _logger.warning("there is no UpstreamApp in this process: no upstream call will be answered")
    for instance in instances:
        instance.check_keys()
        if instance.insecure and not is_loopback(host):
            raise ConfigurationError(
                f"insecure=True answers unsigned calls, so it is served on loopback only, not on {host!r}"
            )


class HealthRoutes:
    """``/healthz`` and ``/readyz`` in front of an app that has none; all else passes through."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/healthz", "/readyz"):
            await self.app(scope, receive, send)
        elif scope["path"] == "/readyz" and self.draining:
            await PlainTextResponse("draining", 503)(scope, receive, send)
        else:
            await PlainTextResponse("ok")(scope, receive, send)


def serve(serving: Serving, sockets: list[socket.socket] | None = None, *, parent: int | None = None) -> int:
    """Import the app and serve it until a signal ends the process.

    Args:
        serving: what to serve, and how.
        sockets: listening sockets; without them one is opened.
        parent: end when this process is no longer our parent.

    Returns:
        The exit status of the process: 0 after an orderly end.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # Outside the serving loop, and when uvicorn raises the signal again after an orderly end.
        signal.signal(number, _end)
    app = load_app(serving)
    entry = app if isinstance(app, UpstreamApp) else HealthRoutes(app)
    if isinstance(entry, UpstreamApp):
        entry.add_health_routes()

    if serving.slow_after is not None:
        for instance in UpstreamApp.instances():
            instance.slow_after = serving.slow_after

    def on_drain() -> None:
        for part in (entry, *UpstreamApp.instances()):
            part.draining = True

    def on_expire() -> None:
        for instance in UpstreamApp.instances():
            instance.expire_calls()

    async def finish(patience: float) -> None:
        await asyncio.gather(*(instance.drain(patience) for instance in UpstreamApp.instances()))

    collect_less_garbage()
    server = DrainingServer(
        _uvicorn_config(serving, entry),
        drain_delay=serving.drain_delay,
        drain_timeout=serving.drain_timeout,
        on_drain=on_drain,
        on_expire=on_expire,
        finish=finish,
        parent=parent,
    )
    server.run(sockets)
    return 0 if server.started else STARTUP_FAILURE


def _uvicorn_config(serving: Serving, app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=serving.host,
        port=serving.port,
        interface="asgi3",
        http=gathering_protocol(),
        log_config=log_config(serving.log_format, serving.log_level),
        log_level=max(serving.log_level, serving.server_log_level, key=LOG_LEVELS.__getitem__),
        access_log=False,
        server_header=False,
        # A layer around every request: only where a proxy is named.
        proxy_headers=bool(serving.forwarded_allow_ips),
        forwarded_allow_ips=serving.forwarded_allow_ips,
        timeout_keep_alive=math.ceil(serving.keep_alive),
    )


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
