"""What ``HubClient.execute`` can do with the connections that fit its filter.

Spec: https://github.com/Azure/azure-signalr/blob/dev/docs/swagger (api-version 2024-12-01, ``:execute``)
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct


class SendMessage(Struct, frozen=True):
    """Call the client method ``target``."""

    target: str
    arguments: Sequence[Any] = ()


class JoinGroup(Struct, frozen=True):
    """Put the connection into a group."""

    group: str


class LeaveGroup(Struct, frozen=True):
    """Take the connection out of a group."""

    group: str


class CloseConnection(Struct, frozen=True):
    """Close the connection, telling the client the reason."""

    reason: str | None = None


Command = SendMessage | JoinGroup | LeaveGroup | CloseConnection
