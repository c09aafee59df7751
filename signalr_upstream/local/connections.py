"""Who is connected to one hub: connections, users and groups.

Users and groups are compared with case, as the service does. A connection's membership ends with the connection;
a user's membership is remembered and joins the connections that come later, until its time to live is over.
Time is passed in as ``now`` (Unix seconds).
"""

import math
from collections.abc import Collection, Iterable
from typing import Generic, Protocol, TypeVar


class Member(Protocol):
    """What the directory needs to know of a connection."""

    @property
    def connection_id(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...


M = TypeVar("M", bound=Member)


class Hub(Generic[M]):
    """The connections of one hub. Unknown names are no error: nobody is there."""

    def __init__(self) -> None:
        self._connections: dict[str, M] = {}
        self._users: dict[str, dict[str, M]] = {}
        self._groups: dict[str, dict[str, M]] = {}
        self._memberships: dict[str, dict[str, float]] = {}  # user -> group -> when it ends

    # --- connections -----------------------------------------------------------------------------------------

    def add(self, member: M, *, now: float) -> None:
        """A connection has been opened; it joins the groups of its user."""
        self._connections[member.connection_id] = member
        if member.user_id is not None:
            self._users.setdefault(member.user_id, {})[member.connection_id] = member
            for group in self._current_groups(member.user_id, now):
                self._groups.setdefault(group, {})[member.connection_id] = member

    def remove(self, member: M) -> None:
        """A connection is gone."""
        self._connections.pop(member.connection_id, None)
        if member.user_id is not None:
            _discard(self._users, member.user_id, member.connection_id)
        self.leave_all(member.connection_id)

    def connection(self, connection_id: str) -> M | None:
        """The connection with this id."""
        return self._connections.get(connection_id)

    def everybody(self, *, excluding: Collection[str] = ()) -> list[M]:
        """All connections but the excluded ones."""
        return _except(self._connections, excluding)

    def user(self, user_id: str, *, excluding: Collection[str] = ()) -> list[M]:
        """The connections of one user."""
        return _except(self._users.get(user_id, {}), excluding)

    def group(self, group: str, *, excluding: Collection[str] = ()) -> list[M]:
        """The connections in a group."""
        return _except(self._groups.get(group, {}), excluding)

    # --- membership of connections ---------------------------------------------------------------------------

    def join(self, connection_id: str, group: str) -> bool:
        """Add a connection to a group. False: there is no such connection."""
        member = self._connections.get(connection_id)
        if member is None:
            return False
        self._groups.setdefault(group, {})[connection_id] = member
        return True

    def leave(self, connection_id: str, group: str) -> bool:
        """Remove a connection from a group. False: it was not in it."""
        return _discard(self._groups, group, connection_id)

    def leave_all(self, connection_id: str) -> None:
        """Remove a connection from every group."""
        for group in [name for name, members in self._groups.items() if connection_id in members]:
            _discard(self._groups, group, connection_id)

    # --- membership of users ---------------------------------------------------------------------------------

    def user_join(self, user_id: str, group: str, *, ttl: int | None, now: float) -> None:
        """Add a user's connections to a group: the present ones, and the future ones for ``ttl`` seconds.

        ``ttl=None`` means for ever, 0 the present ones only.
        """
        ends = math.inf if ttl is None else now + ttl
        self._memberships.setdefault(user_id, {})[group] = ends
        self._current_groups(user_id, now)
        for connection_id in self._users.get(user_id, {}):
            self.join(connection_id, group)

    def user_leave(self, user_id: str, group: str) -> None:
        """Take a user's connections out of a group, those that joined by themselves included."""
        self._memberships.get(user_id, {}).pop(group, None)
        for connection_id in self._users.get(user_id, {}):
            self.leave(connection_id, group)

    def user_leave_all(self, user_id: str) -> None:
        """Take a user's connections out of every group."""
        self._memberships.pop(user_id, None)
        for connection_id in self._users.get(user_id, {}):
            self.leave_all(connection_id)

    def user_in_group(self, user_id: str, group: str, *, now: float) -> bool:
        """Whether the user was added to the group, whoever of its connections is there."""
        return group in self._current_groups(user_id, now)

    def _current_groups(self, user_id: str, now: float) -> Collection[str]:
        """The groups a user was added to; those whose time is over are forgotten."""
        current = {group: ends for group, ends in self._memberships.pop(user_id, {}).items() if now < ends}
        if current:
            self._memberships[user_id] = current
        return current


def _except(members: dict[str, M], excluding: Collection[str]) -> list[M]:
    # A list: sending to a member may remove it while the caller iterates.
    everybody: Iterable[M] = members.values()
    return [m for m in everybody if m.connection_id not in excluding] if excluding else list(everybody)


def _discard(sets: dict[str, dict[str, M]], name: str, connection_id: str) -> bool:
    members = sets.get(name, {})
    found = members.pop(connection_id, None) is not None
    if not members:
        sets.pop(name, None)  # a group exists while somebody is in it
    return found
