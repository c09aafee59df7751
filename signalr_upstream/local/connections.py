"""Who is connected to one hub: connections, users and groups.

Users and groups are compared with case, as the service does. A connection's membership ends with the connection;
a user's membership is remembered and joins the connections that come later, until its time to live is over.
Time is passed in as ``now`` (Unix seconds).
"""

import heapq
from collections.abc import Collection, Iterable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

LONGEST_MEMBERSHIP = 365 * 24 * 3600.0
"""Seconds for which a user stays in a group when no time to live was given; the service's year."""

MAX_LASTING_GROUPS = 100
"""Groups without a time to live that a user keeps, the most recently updated ones; the service's number."""


class Member(Protocol):
    """What the directory needs to know of a connection."""

    @property
    def connection_id(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...


M = TypeVar("M", bound=Member)
V = TypeVar("V")


class Membership(NamedTuple):
    """A user's place in a group: until when, in Unix seconds, and whether it was given a time to live."""

    ends: float
    limited: bool


class Hub(Generic[M]):
    """The connections of one hub. Unknown names are no error: nobody is there."""

    def __init__(self) -> None:
        self._connections: dict[str, M] = {}
        self._users: dict[str, dict[str, M]] = {}
        self._groups: dict[str, dict[str, M]] = {}
        self._joined: dict[str, dict[str, None]] = {}  # connection id -> its groups
        self._memberships: dict[str, dict[str, Membership]] = {}  # user -> group, the oldest update first

    # --- connections -----------------------------------------------------------------------------------------

    def add(self, member: M, *, now: float) -> None:
        """A connection has been opened; it joins the groups of its user."""
        self._connections[member.connection_id] = member
        if member.user_id is not None:
            self._users.setdefault(member.user_id, {})[member.connection_id] = member
            for group in self.memberships(member.user_id, now=now):
                self.join(member.connection_id, group)

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

    def group_page(self, group: str, *, after: str, size: int) -> tuple[list[M], bool]:
        """Up to ``size`` connections of a group whose ids come after ``after``, and whether there are more.

        They are in the order of their ids, so that nobody who stays is missed or met twice, whoever joins or leaves
        between two pages.
        """
        members = self._groups.get(group, {})
        ids = heapq.nsmallest(size + 1, (each for each in members if each > after))
        return [members[each] for each in ids[:size]], len(ids) > size

    def groups_of(self, connection_id: str) -> Collection[str]:
        """The groups a connection is in."""
        return self._joined.get(connection_id, {}).keys()

    @property
    def groups(self) -> list[str]:
        """The groups that somebody is in."""
        return list(self._groups)

    @property
    def users(self) -> list[str]:
        """The users who are there, and those who were added to a group."""
        return list(dict.fromkeys([*self._users, *self._memberships]))

    # --- membership of connections ---------------------------------------------------------------------------

    def join(self, connection_id: str, group: str) -> bool:
        """Add a connection to a group. False: there is no such connection."""
        member = self._connections.get(connection_id)
        if member is None:
            return False
        self._groups.setdefault(group, {})[connection_id] = member
        self._joined.setdefault(connection_id, {})[group] = None
        return True

    def leave(self, connection_id: str, group: str) -> bool:
        """Remove a connection from a group. False: it was not in it."""
        _discard(self._joined, connection_id, group)
        return _discard(self._groups, group, connection_id)

    def leave_all(self, connection_id: str) -> None:
        """Remove a connection from every group."""
        for group in self._joined.pop(connection_id, {}):
            _discard(self._groups, group, connection_id)

    # --- membership of users ---------------------------------------------------------------------------------

    def user_join(self, user_id: str, group: str, *, ttl: int | None, now: float) -> None:
        """Add a user's connections to a group: the present ones, and the future ones for ``ttl`` seconds.

        ``ttl=0`` means the present ones only. None means a year; of the groups so joined a user keeps the 100 that
        were updated last. Joining again counts anew. Present connections stay when the time is over.
        """
        memberships = self._memberships.setdefault(user_id, {})
        memberships.pop(group, None)
        memberships[group] = Membership(
            now + (LONGEST_MEMBERSHIP if ttl is None else ttl), limited=ttl is not None
        )
        lasting = [name for name, membership in memberships.items() if not membership.limited]
        for name in lasting[:-MAX_LASTING_GROUPS]:
            del memberships[name]
        self.memberships(user_id, now=now)
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
        return group in self.memberships(user_id, now=now)

    def memberships(self, user_id: str, *, now: float) -> Mapping[str, Membership]:
        """The groups a user was added to; those whose time is over are forgotten."""
        current = {
            group: membership
            for group, membership in self._memberships.pop(user_id, {}).items()
            if now < membership.ends
        }
        if current:
            self._memberships[user_id] = current
        return current


def _except(members: dict[str, M], excluding: Collection[str]) -> list[M]:
    # A list: sending to a member may remove it while the caller iterates.
    everybody: Iterable[M] = members.values()
    return [m for m in everybody if m.connection_id not in excluding] if excluding else list(everybody)


def _discard(sets: dict[str, dict[str, V]], name: str, key: str) -> bool:
    members = sets.get(name, {})
    found = key in members
    members.pop(key, None)
    if not members:
        sets.pop(name, None)  # a group exists while somebody is in it
    return found
