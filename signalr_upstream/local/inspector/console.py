"""The inspector's console: clients that a person connects by hand, as any user."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ...errors import InvalidMessageError
from ..socketless.in_process_client import InProcessClient

MAX_CLIENTS = 20
"""Clients at a time: they live until they are disconnected, or until nobody has looked at the inspector for a while."""

PATIENCE = 300.0
"""Seconds for the app to answer: somebody may be looking at it in a debugger."""


class Connect(Protocol):
    """``LocalService.connect``."""

    async def __call__(
        self,
        hub: str,
        *,
        user_id: str | None,
        claims: Mapping[str, str | Sequence[str]],
        protocol: str,
        timeout: float,
    ) -> InProcessClient: ...


class Console:
    """The clients of one service's console, by connection id."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._clients: dict[str, InProcessClient] = {}

    @property
    def ids(self) -> frozenset[str]:
        """The connection ids of its clients."""
        return frozenset(self._clients)

    async def connect(
        self, hub: str, *, user_id: str | None, claims: Mapping[str, Sequence[str]], protocol: str
    ) -> str:
        """Connect one more client; its connection id.

        Raises:
            SignalRError, ValueError: it cannot be, and why.
        """
        if len(self._clients) >= MAX_CLIENTS:
            raise InvalidMessageError(f"There are {MAX_CLIENTS} console clients: disconnect one first.")
        client = await self._connect(
            hub, user_id=user_id, claims=dict(claims), protocol=protocol, timeout=PATIENCE
        )
        self._clients[client.connection_id] = client
        return client.connection_id

    async def call(self, connection_id: str, target: str, arguments: str, *, wait: bool) -> Any:
        """Call a hub method; its result, if it is waited for.

        Args:
            arguments: a JSON array.

        Raises:
            SignalRError: the app's error, or why it could not be called.
        """
        try:
            values = msgspec.json.decode(arguments or "[]", type=list[Any])
        except msgspec.MsgspecError as error:
            raise InvalidMessageError(f"The arguments are no JSON array: {error}") from error
        client = self._find(connection_id)
        if wait:
            return await client.invoke(target, *values, timeout=PATIENCE)
        await client.send(target, *values, timeout=PATIENCE)
        return None

    async def disconnect(self, connection_id: str) -> None:
        """Let a client leave; it is no error if it has gone already."""
        client = self._clients.pop(connection_id, None)
        if client is not None:
            await client.close(timeout=PATIENCE)

    async def aclose(self) -> None:
        """Let all clients leave."""
        for connection_id in list(self._clients):
            await self.disconnect(connection_id)

    def _find(self, connection_id: str) -> InProcessClient:
        client = self._clients.get(connection_id)
        if client is None:
            raise InvalidMessageError("The console has no such client any more: connect again.")
        return client
