"""The REST API of the service: a request is matched, let in and read, then its operation is carried out.

Statuses are those of the API's description; a lenient service answers as Microsoft's emulator does. Whatever is
refused below ``/api/`` is answered with the API's ``ErrorDetail``; other paths of this service answer with problem
details.

Spec: https://learn.microsoft.com/azure/azure-signalr/signalr-reference-data-plane-rest-api
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from ...errors import SignalRError
from ...protocol import rest as api
from ...protocol.rest import Match, Operation, check_name
from ..admission import Admission, Query, Refused
from ..answers import error_detail
from ..clients.client_connection import ClientConnection
from ..clock import Clock
from ..connections import Hub
from ..request_body import read_body
from . import rest_clients as clients
from . import rest_members as members
from .execute import execute
from .rest_call import Call
from .rest_tokens import key_maker, token_maker
from .signing_keys import SigningKeys

LENIENT_MAX_BODY = 30_000_000
"""Bytes of one request body that Microsoft's emulator takes; the service itself takes 1 MB."""

MAX_TOLD = 100
"""Names of unknown hubs that are told, each once."""

_SENDS = (api.SEND_TO_ALL, api.SEND_TO_GROUP, api.SEND_TO_USER, api.SEND_TO_CONNECTION)

_log = logging.getLogger("signalr_upstream.local")

Handler = Callable[[Call], Awaitable[Response | None]]

# What an older API than the description answers to the same calls.
_VERSION_1_STATUS: Mapping[Operation, int] = {
    api.ADD_USER_TO_GROUP: 202,
    api.REMOVE_USER_FROM_GROUP: 202,
    api.REMOVE_USER_FROM_ALL_GROUPS: 200,
    api.CLOSE_CONNECTION: 202,
}
# Where Microsoft's emulator answers otherwise, whatever the version.
_EMULATOR_STATUS: Mapping[Operation, int] = {
    api.ADD_USER_TO_GROUP: 202,
    api.REMOVE_USER_FROM_GROUP: 202,
    api.REMOVE_USER_FROM_ALL_GROUPS: 200,
}


class Hubs(Protocol):
    """``LocalService.hub``."""

    def __call__(self, name: str, *, new: bool) -> Hub[ClientConnection]: ...


class RestEndpoint:
    """Everything below ``/api/``.

    Args:
        hubs: finds a hub's connections by its name.
        is_known: whether a hub, by its name in lower case, has had a client or is one of the app's.
        lenient: answer as Microsoft's emulator does.
        clock: the service's.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        keys: SigningKeys,
        hubs: Hubs,
        is_known: Callable[[str], bool],
        lenient: bool,
        clock: Clock,
    ) -> None:
        self._admission = admission
        self._hubs = hubs
        self._is_known = is_known
        self._told: set[str] = set()
        self._lenient = lenient
        self._clock = clock
        self._max_body = LENIENT_MAX_BODY if lenient else api.MAX_BODY
        self._handlers = _handlers(keys)

    async def http(self, request: Request, query: Query) -> Response:
        """Answer one request."""
        try:
            return await self._answer(request, query)
        except SignalRError as error:
            return error_detail(error)

    async def _answer(self, request: Request, query: Query) -> Response:
        match = _matched(request)
        if match.operation == api.HEALTH:
            return Response()
        raw_path: bytes = request.scope["raw_path"]
        self._admission.check_rest(request.headers, raw_path, query)
        if not self._lenient:
            _check_version(match, query)
        for kind, value in match.values.items():
            check_name(kind, value)
        hub_name = _hub_name(match, query)
        if match.operation in _SENDS and hub_name not in self._told:
            self._tell_of_unknown(hub_name)
        body = await read_body(request, self._max_body)
        host = request.headers.get("host", "")
        call = Call(
            operation=match.operation,
            values=match.values,
            # Only this puts something into a hub; whatever else is asked of an unknown one leaves nothing behind.
            hub=self._hubs(hub_name, new=match.operation == api.ADD_USER_TO_GROUP),
            hub_name=hub_name,
            query=query,
            headers=request.headers,
            body=body,
            base=f"{request.scope['scheme']}://{host}",
            audience=self._admission.audience(request.headers),
            path=raw_path.decode("latin-1"),
            now=self._clock.time(),
            lenient=self._lenient,
        )
        answer = await self._handlers[match.operation](call)
        return Response(status_code=self._status(match)) if answer is None else answer

    def _tell_of_unknown(self, hub_name: str) -> None:
        """What is sent to a wrong name arrives nowhere and is no error."""
        if len(self._told) < MAX_TOLD and not self._is_known(hub_name):
            self._told.add(hub_name)
            _log.info(
                "a send to hub %r reaches nobody: it has never had a client. Is that its name?", hub_name
            )

    def _status(self, match: Match) -> int:
        status = match.operation.success[0]
        if self._lenient:
            return _EMULATOR_STATUS.get(match.operation, status)
        return _VERSION_1_STATUS.get(match.operation, status) if match.version_1 else status


def _handlers(keys: SigningKeys) -> Mapping[Operation, Handler]:
    return {
        **dict.fromkeys(_SENDS, members.send),
        **dict.fromkeys(
            (api.CLOSE_ALL, api.CLOSE_GROUP, api.CLOSE_USER, api.CLOSE_CONNECTION), members.close
        ),
        **dict.fromkeys(
            (api.CONNECTION_EXISTS, api.GROUP_EXISTS, api.USER_EXISTS, api.USER_IN_GROUP), members.ask
        ),
        **dict.fromkeys(
            (
                api.ADD_CONNECTION_TO_GROUP,
                api.REMOVE_CONNECTION_FROM_GROUP,
                api.REMOVE_CONNECTION_FROM_ALL_GROUPS,
                api.ADD_USER_TO_GROUP,
                api.REMOVE_USER_FROM_GROUP,
                api.REMOVE_USER_FROM_ALL_GROUPS,
            ),
            members.change_groups,
        ),
        api.GROUP_CONNECTIONS: members.list_group,
        api.INVOKE_CONNECTION: clients.invoke,
        api.SEND_STREAM_ITEM: clients.send_item,
        api.COMPLETE_STREAM: clients.complete_stream,
        api.EXECUTE: execute,
        api.GENERATE_TOKEN: token_maker(keys),
        api.ACCESS_KEY: key_maker(keys),
    }


def _matched(request: Request) -> Match:
    match api.match(request.method, request.scope["raw_path"]):
        case Match() as found:
            return found
        case api.WrongMethod(allow):
            raise Refused(405, f"The method must be {' or '.join(allow)} here.", Allow=", ".join(allow))
        case _:
            raise Refused(404, "The REST API has nothing at this path.")


def _check_version(match: Match, query: Query) -> None:
    operation = match.operation
    version = "1.0" if match.version_1 else query.last("api-version")
    known = api.VERSIONS if match.version_1 else api.VERSIONS[1:]
    if version not in known:
        raise Refused(400, f"The query needs an api-version; known ones are {', '.join(known)}.")
    if api.VERSIONS.index(version) < api.VERSIONS.index(operation.since):
        raise Refused(
            400,
            f"{operation.name} came with api-version={operation.since} ({operation.method} {operation.path}); "
            f"this request is of {version}.",
        )


def _hub_name(match: Match, query: Query) -> str:
    application = query.last("application")
    name = match.values.get("hub", "")
    if application:
        check_name("application", application)
        name = f"{application}_{name}"
    return name.lower()
