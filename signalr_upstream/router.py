"""Which of several endpoints a client is sent to, and which of them a call goes to."""

import random
from collections.abc import Sequence
from typing import Protocol

from .claims import Identity
from .connection_string import Endpoint


class Router(Protocol):
    """Chooses among endpoints. It is given those that are well, or all of them if none is; never an empty list."""

    def negotiate(self, endpoints: Sequence[Endpoint], *, hub: str, identity: Identity) -> Endpoint:
        """Where a client connects."""
        ...

    def send(
        self, endpoints: Sequence[Endpoint], *, hub: str, operation: str, names: Sequence[str]
    ) -> Sequence[Endpoint]:
        """Where a call goes.

        Args:
            operation: name of the REST operation, e.g. ``"send_to_group"``.
            names: of the group, user or connection, in the order of the URL; empty for what concerns all of the hub.
        """
        ...


class DefaultRouter:
    """Clients go to any of the primary endpoints, and to secondary ones if no primary is well. Calls go to all."""

    def negotiate(self, endpoints: Sequence[Endpoint], *, hub: str, identity: Identity) -> Endpoint:
        """See ``Router``."""
        return random.choice([e for e in endpoints if e.primary] or endpoints)  # noqa: S311 - no secret

    def send(
        self, endpoints: Sequence[Endpoint], *, hub: str, operation: str, names: Sequence[str]
    ) -> Sequence[Endpoint]:
        """See ``Router``."""
        return endpoints
