"""The REST API of the service: one operation of ``protocol.rest`` carried out on the connections.

Statuses are those of the API's description; a lenient service answers as Microsoft's emulator does. What the
request says has been matched and its token checked before it comes here.

Spec: https://learn.microsoft.com/azure/azure-signalr/signalr-reference-data-plane-rest-api
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..errors import InvalidMessageError
from ..protocol import rest as api
from ..protocol.rest import Match, Operation, check_name
from .admission import Query, Refused
from .client_connection import ClientConnection
from .clock import Clock
from .connections import Hub
from .outgoing import Outgoing

VERSIONS = frozenset(("2022-06-01", "2022-11-01", "2023-07-01", api.API_VERSION))
"""Every api-version there has been."""

LENIENT_MAX_BODY = 30_000_000
"""Bytes of one request body that Microsoft's emulator takes; the service itself takes 1 MB."""

# Where Microsoft's emulator answers otherwise than the API's description says.
_EMULATOR_STATUS: Mapping[Operation, int] = {
    api.ADD_USER_TO_GROUP: 202,
    api.REMOVE_USER_FROM_GROUP: 202,
    api.REMOVE_USER_FROM_ALL_GROUPS: 200,
}
_INT32 = range(-(2**31), 2**31)


class Absent(NamedTuple):
    """The answer is 404, with this ``x-ms-error-code``."""

    error_code: str


class RestApi:
    """Carries operations out.

    Args:
        hubs: finds a hub's connections by its name in lower case.
        lenient: answer as Microsoft's emulator does.
        clock: for memberships that end.
    """

    def __init__(self, hubs: Callable[[str], Hub[ClientConnection]], *, lenient: bool, clock: Clock) -> None:
        self._hubs = hubs
        self._lenient = lenient
        self._clock = clock
        self.max_body = LENIENT_MAX_BODY if lenient else api.MAX_BODY

    def run(self, match: Match, query: Query, body: bytes) -> int | Absent:
        """Do what was asked; the status to answer.

        Raises:
            InvalidNameError, InvalidMessageError, Refused: what was asked is not legal.
        """
        operation = match.operation
        if not self._lenient and not match.version_1:
            _check_version(query, operation)
        for kind, value in match.values.items():
            check_name(kind, value)
        if operation == api.HEALTH:
            return 200
        hub = self._hub(match, query)
        absent = self._carry_out(operation, hub, match.values, query, body)
        if absent is not None:
            return Absent(absent)
        status = operation.success[0]
        return _EMULATOR_STATUS.get(operation, status) if self._lenient else status

    def _hub(self, match: Match, query: Query) -> Hub[ClientConnection]:
        application = query.last("application")
        name = match.values.get("hub", "")
        if application:
            check_name("application", application)
            name = f"{application}_{name}"
        return self._hubs(name.lower())

    def _carry_out(
        self,
        operation: Operation,
        hub: Hub[ClientConnection],
        values: Mapping[str, str],
        query: Query,
        body: bytes,
    ) -> str | None:
        """The error code of a 404, if that is the answer."""
        if operation.body is api.Body.MESSAGE and operation in _SENDS:
            message = _decode(body)
            for member in _SENDS[operation](hub, values, frozenset(query.all("excluded"))):
                member.send(message)
            return None
        if operation in _CLOSES:
            for member in _CLOSES[operation](hub, values, frozenset(query.all("excluded"))):
                member.close(query.last("reason"))
            return None
        if operation in _QUESTIONS:
            ask, code = _QUESTIONS[operation]
            return None if ask(hub, values, self._clock.time()) else code
        return self._change(operation, hub, values, query)

    def _change(
        self, operation: Operation, hub: Hub[ClientConnection], values: Mapping[str, str], query: Query
    ) -> str | None:
        match operation:
            case api.ADD_CONNECTION_TO_GROUP:
                if not hub.join(values["connection"], values["group"]):
                    return api.CONNECTION_GONE
            case api.REMOVE_CONNECTION_FROM_GROUP:
                if not hub.leave(values["connection"], values["group"]) and self._lenient:
                    return api.CONNECTION_GONE
            case api.REMOVE_CONNECTION_FROM_ALL_GROUPS:
                hub.leave_all(values["connection"])
            case api.ADD_USER_TO_GROUP:
                ttl = self._ttl(query)
                hub.user_join(values["user"], values["group"], ttl=ttl, now=self._clock.time())
            case api.REMOVE_USER_FROM_GROUP:
                hub.user_leave(values["user"], values["group"])
            case api.REMOVE_USER_FROM_ALL_GROUPS:
                hub.user_leave_all(values["user"])
            case _:
                raise Refused(501, f"The local service does not serve {operation.name} yet.")
        return None

    def _ttl(self, query: Query) -> int | None:
        text = query.last("ttl")
        if not text:
            return None
        if not re.fullmatch(r"[+-]?[0-9]{1,10}", text) or int(text) not in _INT32:
            raise Refused(400, "The ttl is not a whole number of seconds.")
        if int(text) < 0 and not self._lenient:
            raise Refused(400, "The ttl is negative.")
        return int(text)


_Members = Callable[[Hub[ClientConnection], Mapping[str, str], frozenset[str]], list[ClientConnection]]
_Question = Callable[[Hub[ClientConnection], Mapping[str, str], float], bool]


def _one(hub: Hub[ClientConnection], values: Mapping[str, str], _: frozenset[str]) -> list[ClientConnection]:
    member = hub.connection(values["connection"])
    return [] if member is None else [member]


_SENDS: Mapping[Operation, _Members] = {
    api.SEND_TO_ALL: lambda hub, _, excluded: hub.everybody(excluding=excluded),
    api.SEND_TO_GROUP: lambda hub, values, excluded: hub.group(values["group"], excluding=excluded),
    api.SEND_TO_USER: lambda hub, values, _: hub.user(values["user"]),
    api.SEND_TO_CONNECTION: _one,
}
_CLOSES: Mapping[Operation, _Members] = {
    api.CLOSE_ALL: lambda hub, _, excluded: hub.everybody(excluding=excluded),
    api.CLOSE_GROUP: lambda hub, values, excluded: hub.group(values["group"], excluding=excluded),
    api.CLOSE_USER: lambda hub, values, excluded: hub.user(values["user"], excluding=excluded),
    api.CLOSE_CONNECTION: _one,
}
_QUESTIONS: Mapping[Operation, tuple[_Question, str]] = {
    api.CONNECTION_EXISTS: (
        lambda hub, values, _: hub.connection(values["connection"]) is not None,
        api.CONNECTION_NOT_FOUND,
    ),
    api.GROUP_EXISTS: (lambda hub, values, _: bool(hub.group(values["group"])), api.GROUP_NOT_FOUND),
    api.USER_EXISTS: (lambda hub, values, _: bool(hub.user(values["user"])), api.USER_NOT_FOUND),
    api.USER_IN_GROUP: (
        lambda hub, values, now: hub.user_in_group(values["user"], values["group"], now=now),
        api.USER_NOT_IN_GROUP,
    ),
}


def check_content_type(value: str | None) -> None:
    """Refuse a body that is not JSON.

    Raises:
        Refused: 415.
    """
    kind = (value or "").partition(";")[0].strip().lower()
    if kind != api.JSON_TYPE and not re.fullmatch(r"application/[\w.-]+\+json", kind):
        raise Refused(415, "The body must be JSON: Content-Type application/json.")


def _decode(body: bytes) -> Outgoing:
    if not body or body == b"null":
        raise InvalidMessageError("Message in request body is required.")
    message = api.decode_message(body)
    return Outgoing.json(message.target, bytes(message.arguments))


def _check_version(query: Query, operation: Operation) -> None:
    version = query.last("api-version")
    if version not in VERSIONS and operation != api.HEALTH:
        raise Refused(
            400, f"The query has no known api-version; the newest is api-version={api.API_VERSION}."
        )
