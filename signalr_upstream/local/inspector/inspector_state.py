"""Who is connected right now, as the inspector shows it: connections, users, groups, faults."""

from collections.abc import Collection, Mapping
from itertools import islice

from msgspec import Struct

from ..clients.client_connection import ClientConnection
from ..connections import Hub
from ..faults import Faults, FaultSettings
from ..records.entries import Client
from ..records.journal import Journal
from ..records.redaction import hide_claim

MAX_LISTED = 200
"""Connections, users and groups that are listed; of more, the number is told."""


class ConnectionView(Struct, frozen=True):
    """A client with an open transport. ``since`` is in Unix seconds; the protocol is unknown before the handshake."""

    id: str
    hub: str
    user: str
    transport: str
    protocol: str
    since: float
    claims: list[tuple[str, str]]
    held: bool
    console: bool


class GroupView(Struct, frozen=True):
    """A group with members, and how many connections are in it."""

    hub: str
    name: str
    connections: int


class MembershipView(Struct, frozen=True):
    """A group that a user was added to; ``until`` is in Unix seconds, None where no time to live was given."""

    group: str
    until: float | None


class UserView(Struct, frozen=True):
    """A user who is there or was added to a group."""

    hub: str
    name: str
    connections: int
    groups: list[MembershipView]


class State(Struct, frozen=True):
    """All of it, the lists cut; ``totals`` has the lengths they would have."""

    connections: list[ConnectionView]
    users: list[UserView]
    groups: list[GroupView]
    totals: dict[str, int]
    hubs: list[str]
    faults: FaultSettings


Hubs = Mapping[str, Hub[ClientConnection]]


def state_of(hubs: Hubs, journal: Journal, faults: Faults, *, console: Collection[str], now: float) -> State:
    """The state at ``now``, in Unix seconds."""
    users = [(name, hub, user) for name, hub in hubs.items() for user in hub.users]
    groups = [(name, hub, group) for name, hub in hubs.items() for group in hub.groups]
    return State(
        connections=[
            _connection(client, hubs, faults, console) for client in islice(journal.clients, MAX_LISTED)
        ],
        users=[_user(*user, now) for user in users[:MAX_LISTED]],
        groups=[GroupView(name, group, len(hub.group(group))) for name, hub, group in groups[:MAX_LISTED]],
        totals={"connections": len(journal.clients), "users": len(users), "groups": len(groups)},
        hubs=sorted(hubs)[:MAX_LISTED],
        faults=faults,
    )


def _connection(client: Client, hubs: Hubs, faults: Faults, console: Collection[str]) -> ConnectionView:
    hub = hubs.get(client.hub.lower())
    connection = hub.connection(client.connection_id) if hub is not None else None
    protocol = connection.session.protocol if connection is not None else None
    return ConnectionView(
        id=client.connection_id,
        hub=client.hub,
        user=client.user_id or "",
        transport=client.transport,
        protocol=protocol.name if protocol is not None else "",
        since=client.since,
        claims=[(name, hide_claim(name, value)) for name, value in client.claims],
        held=client.connection_id in faults.held,
        console=client.connection_id in console,
    )


def _user(name: str, hub: Hub[ClientConnection], user: str, now: float) -> UserView:
    memberships = [
        MembershipView(group, membership.ends if membership.limited else None)
        for group, membership in hub.memberships(user, now=now).items()
    ]
    return UserView(name, user, len(hub.user(user)), memberships)
