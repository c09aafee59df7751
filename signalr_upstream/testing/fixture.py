"""The type of the fixture that the plugin for pytest has."""

from typing import Any, Protocol

from starlette.types import ASGIApp

from ..hubs.hub import Hub
from ..local.clock import Clock
from .hub_tester import HubTester
from .overrides import Overrides


class StartHubTester(Protocol):
    """The type of pytest's fixture ``hub_tester``: ``hub = await hub_tester(app)``."""

    async def __call__(
        self,
        app: ASGIApp,
        *,
        hub: str | Hub[Any] | None = ...,
        overrides: Overrides | None = ...,
        clock: Clock | None = ...,
        timeout: float = ...,
        lifespan: bool = ...,
    ) -> HubTester:
        """See ``HubTester``."""
        ...
