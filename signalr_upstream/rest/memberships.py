"""Groups, users and connections of a hub: who belongs to which, who is there, and who has to go."""

import math
from collections.abc import AsyncIterator, Iterable
from typing import Final

from ..protocol import rest
from .hub_calls import HubCalls
from .paging import GroupConnection, group_connections
from .targets import closing

MAX_TTL: Final = 2**31 - 1
"""Seconds; the service reads an int32."""


class Groups:
    """Groups of connections. A group exists as long as a connection is in it."""

    def __init__(self, calls: HubCalls) -> None:
        self._calls = calls

    async def add(self, group: str, *, connection_id: str) -> bool:
        """Put a connection into a group; False if the connection is gone."""
        return await self._calls.ask(rest.ADD_CONNECTION_TO_GROUP, group, connection_id)

    async def remove(self, group: str, *, connection_id: str) -> None:
        """Take a connection out of a group. It is no error if the connection is gone."""
        await self._calls.ask(rest.REMOVE_CONNECTION_FROM_GROUP, group, connection_id)

    async def remove_from_all(self, *, connection_id: str) -> None:
        """Take a connection out of all its groups. It is no error if the connection is gone."""
        await self._calls.ask(rest.REMOVE_CONNECTION_FROM_ALL_GROUPS, connection_id)

    async def exists(self, group: str) -> bool:
        """Whether a connection is in the group."""
        return await self._calls.ask(rest.GROUP_EXISTS, group)

    def connections(
        self, group: str, *, top: int | None = None, page_size: int = 200
    ) -> AsyncIterator[GroupConnection]:
        """The connections in a group, fetched a page at a time as they are asked for.

        Args:
            top: how many at most.
            page_size: how many the service sends at a time, 1 to 200.

        Raises:
            ValueError: ``top`` or ``page_size`` out of range.
            ServiceError: a page could not be fetched.
        """
        return group_connections(self._calls, group, top=top, page_size=page_size)

    async def close_all(
        self, group: str, *, excluding: Iterable[str] = (), reason: str | None = None
    ) -> None:
        """Close every connection of a group but those ``excluding``; the clients are told the reason."""
        await self._calls.ask(rest.CLOSE_GROUP, group, query=closing(excluding, reason))


class Users:
    """Users and the groups that all their connections, also later ones, belong to."""

    def __init__(self, calls: HubCalls) -> None:
        self._calls = calls

    async def add_to_group(self, user_id: str, *, group: str, ttl: float | None = None) -> None:
        """Put a user into a group.

        Args:
            ttl: seconds that this lasts, rounded up. 0: only the connections of this moment join. None: the
                service keeps it for up to a year.

        Raises:
            ValueError: ``ttl`` is negative or over 2**31 - 1.
        """
        query = []
        if ttl is not None:
            if not 0 <= ttl <= MAX_TTL:
                raise ValueError(f"ttl must be 0 to {MAX_TTL} seconds, not {ttl}")
            query.append(("ttl", str(math.ceil(ttl))))
        await self._calls.ask(rest.ADD_USER_TO_GROUP, user_id, group, query=query)

    async def remove_from_group(self, user_id: str, *, group: str) -> None:
        """Take a user out of a group."""
        await self._calls.ask(rest.REMOVE_USER_FROM_GROUP, user_id, group)

    async def remove_from_all_groups(self, user_id: str) -> None:
        """Take a user out of all groups."""
        await self._calls.ask(rest.REMOVE_USER_FROM_ALL_GROUPS, user_id)

    async def in_group(self, user_id: str, *, group: str) -> bool:
        """Whether the user is in the group."""
        return await self._calls.ask(rest.USER_IN_GROUP, user_id, group)

    async def exists(self, user_id: str) -> bool:
        """Whether the user has a connection."""
        return await self._calls.ask(rest.USER_EXISTS, user_id)

    async def close_all(
        self, user_id: str, *, excluding: Iterable[str] = (), reason: str | None = None
    ) -> None:
        """Close every connection of a user but those ``excluding``; the clients are told the reason."""
        await self._calls.ask(rest.CLOSE_USER, user_id, query=closing(excluding, reason))


class Connections:
    """Single connections."""

    def __init__(self, calls: HubCalls) -> None:
        self._calls = calls

    async def exists(self, connection_id: str) -> bool:
        """Whether the connection is open."""
        return await self._calls.ask(rest.CONNECTION_EXISTS, connection_id)

    async def close(self, connection_id: str, *, reason: str | None = None) -> bool:
        """Close a connection, telling the client the reason; False if it was gone already."""
        return await self._calls.ask(rest.CLOSE_CONNECTION, connection_id, query=closing((), reason))
