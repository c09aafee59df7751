"""``:execute``: commands for all connections of a hub that a filter finds."""

from collections.abc import Callable
from typing import assert_never

from ...protocol.rest_decoding import CloseConnection, Command, JoinGroup, LeaveGroup, SendMessage
from ..clients.client_connection import ClientConnection
from ..connections import Hub
from .filter import Filter, Subject
from .outgoing import Outgoing
from .rest_call import Call
from .rest_payloads import read_commands


async def execute(call: Call) -> None:
    """Who is meant is decided before the first command; nothing is done if one of them is wrong."""
    actions = [_action(command, call.hub) for command in read_commands(call)]
    members = call.hub.everybody()
    text = call.query.last("filter")
    if text and not text.isspace():
        wanted = Filter(text)
        members = [each for each in members if wanted.matches(_subject(call.hub, each))]
    for action in actions:
        for member in members:
            action(member)


def _subject(hub: Hub[ClientConnection], member: ClientConnection) -> Subject:
    return Subject(member.connection_id, member.user_id, hub.groups_of(member.connection_id))


def _action(command: Command, hub: Hub[ClientConnection]) -> Callable[[ClientConnection], object]:
    match command:
        case SendMessage(message):
            outgoing = Outgoing.json(message.target, bytes(message.arguments))
            return lambda member: member.send(outgoing)
        case JoinGroup(group):
            return lambda member: hub.join(member.connection_id, group)
        case LeaveGroup(group):
            return lambda member: hub.leave(member.connection_id, group)
        case CloseConnection(reason):
            return lambda member: member.close(reason)
        case _:
            assert_never(command)
