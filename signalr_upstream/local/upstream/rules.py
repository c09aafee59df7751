"""The upstream templates in force: in order, of which the first that fits a call counts.

They are given once, or stand in a settings file that is read again whenever it changes, or are asked for.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec

from ...errors import ConfigurationError, MissingExtraError
from .settings import find_settings, read_settings
from .templates import UpstreamTemplate, describe

_log = logging.getLogger("signalr_upstream.local")


class Served(msgspec.Struct, frozen=True):
    """What is known of an app.

    Attributes:
        templates: where its calls go, in order.
        hubs: those that it has, in lower case and with the application's prefix; a family ends in ``*``.
    """

    templates: tuple[UpstreamTemplate, ...]
    hubs: tuple[str, ...] = ()


Upstreams = str | os.PathLike[str] | Sequence[UpstreamTemplate] | Callable[[], Served]
"""What says where calls go; see ``Rules``."""


class Rules:
    """The templates in force.

    Args:
        upstream: the URL template that takes every call, templates in order, the path of a settings file or of the
            folder that a ``settings.json`` is in, or a function that is asked for every call.

    Raises:
        ConfigurationError: a URL is none, or the settings file cannot be used.
    """

    def __init__(self, upstream: Upstreams = ()) -> None:
        self.path: Path | None = None
        self._watching: asyncio.Task[None] | None = None
        self._served: Callable[[], Served]
        if isinstance(upstream, str):
            self._use(UpstreamTemplate(upstream))
        elif isinstance(upstream, os.PathLike):
            self.path = find_settings(Path(upstream))
            self._use(*read_settings(self.path))
        elif callable(upstream):
            self._served = upstream
        else:
            self._use(*upstream)

    def _use(self, *templates: UpstreamTemplate) -> None:
        served = Served(templates)
        self._served = lambda: served

    @property
    def templates(self) -> tuple[UpstreamTemplate, ...]:
        """In order."""
        return self._served().templates

    def has_hub(self, name: str) -> bool:
        """Whether the app is known to have a hub of this name, which is in lower case."""
        return any(
            name.startswith(hub[:-1]) if hub.endswith("*") else name == hub for hub in self._served().hubs
        )

    def find(self, *, hub: str, category: str, event: str) -> UpstreamTemplate | None:
        """The template that takes a call; None if there is none."""
        for template in self.templates:
            if template.fits(hub=hub, category=category, event=event):
                return template
        return None

    def start(self) -> None:
        """Begin to watch the settings file, if there is one.

        Raises:
            ConfigurationError: what that needs is not installed.
        """
        if self.path is not None and self._watching is None:
            try:
                from watchfiles import awatch  # noqa: PLC0415 - needs the extra "local"
            except ModuleNotFoundError as error:
                raise MissingExtraError(f"to watch {self.path}", error.name, extra="local") from error

            name = self.path.name
            changes = awatch(  # of the folder: editors put a new file in the old one's place
                self.path.parent,
                watch_filter=lambda _, changed: Path(changed).name == name,
                recursive=False,
                debounce=200,
            )
            self._watching = asyncio.create_task(self._reload_after(changes, self.path))

    async def aclose(self) -> None:
        """Watch it no longer."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
            await asyncio.wait([watching])

    async def _reload_after(self, changes: AsyncIterator[object], path: Path) -> None:
        async for _ in changes:
            self._reload(path)

    def _reload(self, path: Path) -> None:
        """Read the settings file again. With one that cannot be used the old templates stay in force."""
        try:
            templates = read_settings(path)
        except ConfigurationError as error:
            _log.error("%s. The templates that were read before stay in force.", error)
            return
        self._use(*templates)
        lines = describe(templates) or ["No upstream is set."]
        _log.info("Current Upstream Settings:\n%s", "\n".join(lines))
