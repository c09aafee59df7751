"""REST operations on who is connected: sends, closes, questions, groups.

An operation raises what it refuses, and returns an answer only if that is more than a status.
"""

from collections.abc import Callable, Mapping
from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from ...protocol import rest as api
from ...protocol.rest import Operation
from ..clients.client_connection import ClientConnection
from .rest_call import MAX_INT32, Call, absent
from .rest_payloads import read_message

MAX_PAGE = 200
"""Connections in one page of a group's; the service's number."""

Members = Callable[[Call], list[ClientConnection]]


def _one(call: Call) -> list[ClientConnection]:
    member = call.hub.connection(call.values["connection"])
    return [] if member is None else [member]


_SENDS: Mapping[Operation, Members] = {
    api.SEND_TO_ALL: lambda call: call.hub.everybody(excluding=call.excluded),
    api.SEND_TO_GROUP: lambda call: call.hub.group(call.values["group"], excluding=call.excluded),
    api.SEND_TO_USER: lambda call: call.hub.user(call.values["user"]),
    api.SEND_TO_CONNECTION: _one,
}
_CLOSES: Mapping[Operation, Members] = {
    api.CLOSE_ALL: lambda call: call.hub.everybody(excluding=call.excluded),
    api.CLOSE_GROUP: lambda call: call.hub.group(call.values["group"], excluding=call.excluded),
    api.CLOSE_USER: lambda call: call.hub.user(call.values["user"], excluding=call.excluded),
    api.CLOSE_CONNECTION: _one,
}


async def send(call: Call) -> None:
    """202 says that it was accepted: also when nobody is there."""
    message = read_message(call)
    for member in _SENDS[call.operation](call):
        member.send(message)


async def close(call: Call) -> None:
    reason = call.query.last("reason")
    for member in _CLOSES[call.operation](call):
        member.close(reason)


async def ask(call: Call) -> None:
    """Is it there?"""
    hub, values = call.hub, call.values
    match call.operation:
        case api.CONNECTION_EXISTS:
            found, code = hub.connection(values["connection"]) is not None, api.CONNECTION_NOT_FOUND
        case api.GROUP_EXISTS:
            found, code = bool(hub.group(values["group"])), api.GROUP_NOT_FOUND
        case api.USER_EXISTS:
            found, code = bool(hub.user(values["user"])), api.USER_NOT_FOUND
        case _:
            found = hub.user_in_group(values["user"], values["group"], now=call.now)
            code = api.USER_NOT_IN_GROUP
    if not found:
        raise absent(code, "It does not exist.")


async def change_groups(call: Call) -> None:
    hub, values = call.hub, call.values
    match call.operation:
        case api.ADD_CONNECTION_TO_GROUP:
            if not hub.join(values["connection"], values["group"]):
                raise absent(api.CONNECTION_GONE, "There is no such connection.")
        case api.REMOVE_CONNECTION_FROM_GROUP:
            if not hub.leave(values["connection"], values["group"]) and call.lenient:
                raise absent(api.CONNECTION_GONE, "The connection is not in the group.")
        case api.REMOVE_CONNECTION_FROM_ALL_GROUPS:
            hub.leave_all(values["connection"])
        case api.ADD_USER_TO_GROUP:
            ttl = call.integer("ttl", least=-MAX_INT32 - 1 if call.lenient else 0)
            hub.user_join(values["user"], values["group"], ttl=ttl, now=call.now)
        case api.REMOVE_USER_FROM_GROUP:
            hub.user_leave(values["user"], values["group"])
        case _:
            hub.user_leave_all(values["user"])


async def list_group(call: Call) -> Response:
    """One page of a group's connections; its token is the last id of the page."""
    size = call.integer("maxpagesize", least=1, most=MAX_PAGE) or MAX_PAGE
    top = call.integer("top", least=1)
    after = call.query.last("continuationtoken") or ""
    wanted = size if top is None else min(size, top)
    members, more = call.hub.group_page(call.values["group"], after=after, size=wanted)
    page: dict[str, object] = {
        "value": [{"connectionId": each.connection_id, "userId": each.user_id} for each in members]
    }
    if more and (top is None or top > wanted):
        parameters = {"maxpagesize": str(size), "continuationToken": members[-1].connection_id}
        if top is not None:
            parameters["top"] = str(top - wanted)
        for name in ("application", "api-version"):
            if value := call.query.last(name):
                parameters[name] = value
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        page["nextLink"] = f"{call.base}{call.path}?{query}"
    return JSONResponse(page)
