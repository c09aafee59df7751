"""The service's REST API as one table: the client builds requests from it, the local service matches them.

The names that the service takes are here too; what requests carry is in ``rest_bodies`` and ``rest_decoding``. No I/O.

Spec: https://github.com/Azure/azure-signalr/blob/dev/docs/swagger (api-version 2024-12-01)
"""

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

from msgspec import Struct

from ..errors import InvalidNameError

VERSIONS: Final = ("1.0", "2022-06-01", "2022-11-01", "2023-07-01", "2024-12-01")
"""Every version there has been. The paths of the first begin with ``/api/v1/``, and take no ``api-version``."""

API_VERSION: Final = VERSIONS[-1]

JSON_TYPE: Final = "application/json"

ERROR_CODE_HEADER: Final = "x-ms-error-code"
"""Names the cause of a refusal. A HEAD has no body, so this alone tells "absent" from "wrong URL"."""

CONNECTION_GONE: Final = "Error.Connection.NotExisted"
CONNECTION_NOT_FOUND: Final = "Warning.Connection.NotExisted"
USER_NOT_FOUND: Final = "Warning.User.NotExisted"
GROUP_NOT_FOUND: Final = "Warning.Group.NotExisted"
USER_NOT_IN_GROUP: Final = "Info.User.NotInGroup"
STREAM_GONE: Final = "Error.Request.NotExisted"
"""Ours, of the service's own words: what it says of a stream is not published."""

MAX_BODY: Final = 1024 * 1024
"""Bytes of a request body; the service answers 413 above it."""

MAX_TARGET: Final = 12 * 1024
"""Bytes of path and query: what the service takes in a request line over HTTP/1.1."""


class Body(Enum):
    """What a request carries."""

    NONE = "none"
    MESSAGE = "message"
    """``{"target": ..., "arguments": [...]}``"""
    ITEM = "item"
    """One JSON value: an item of a stream."""
    COMMANDS = "commands"
    """A JSON array of commands."""


class Operation(Struct, frozen=True, eq=False):
    """One REST operation. There is one object of each.

    Attributes:
        path: template; its variables are ``hub``, ``group``, ``user``, ``connection`` and ``stream``.
        query: parameters it takes besides ``api-version`` and ``application``.
        success: statuses that the API documents. Services have changed 200, 202 and 204 into each other
            between versions, so that a client takes every 2xx.
        absent: error codes of a 404 that mean "no" or "already gone" instead of a failure.
        application: whether it takes ``application``.
        since: the version in which it appeared.
        idempotent: made twice it does no more than once; clients would notice a second send.
    """

    name: str
    method: str
    path: str
    query: tuple[str, ...] = ()
    body: Body = Body.NONE
    success: tuple[int, ...] = (200,)
    absent: tuple[str, ...] = ()
    application: bool = True
    since: str = VERSIONS[0]
    idempotent: bool = True


_HUB = "/api/hubs/{hub}"
_CONNECTION = _HUB + "/connections/{connection}"
_GROUP = _HUB + "/groups/{group}"
_USER = _HUB + "/users/{user}"
_NO_CONNECTION = (CONNECTION_GONE, CONNECTION_NOT_FOUND)
_CLOSE = ("excluded", "reason")

HEALTH = Operation("health", "HEAD", "/api/health", application=False)
ACCESS_KEY = Operation("access_key", "GET", "/api/auth/accessKey", application=False)
SEND_TO_ALL = Operation(
    "send_to_all", "POST", f"{_HUB}/:send", ("excluded",), Body.MESSAGE, (202,), idempotent=False
)
CLOSE_ALL = Operation(
    "close_all", "POST", f"{_HUB}/:closeConnections", _CLOSE, success=(204,), since="2022-06-01"
)
EXECUTE = Operation(
    "execute",
    "POST",
    f"{_HUB}/:execute",
    ("filter",),
    Body.COMMANDS,
    (202,),
    application=False,
    idempotent=False,
    since="2023-07-01",
)
GENERATE_TOKEN = Operation(
    "generate_token",
    "POST",
    f"{_HUB}/:generateToken",
    ("userId", "minutesToExpire"),
    application=False,
    since="2022-11-01",
)
SEND_TO_CONNECTION = Operation(
    "send_to_connection",
    "POST",
    f"{_CONNECTION}/:send",
    (),
    Body.MESSAGE,
    (202,),
    _NO_CONNECTION,
    idempotent=False,
)
INVOKE_CONNECTION = Operation(
    "invoke_connection",
    "POST",
    f"{_CONNECTION}/:invoke",
    (),
    Body.MESSAGE,
    absent=_NO_CONNECTION,
    idempotent=False,
    since="2024-12-01",
)
CONNECTION_EXISTS = Operation("connection_exists", "HEAD", _CONNECTION, absent=_NO_CONNECTION)
CLOSE_CONNECTION = Operation("close_connection", "DELETE", _CONNECTION, ("reason",), absent=_NO_CONNECTION)
REMOVE_CONNECTION_FROM_ALL_GROUPS = Operation(
    "remove_connection_from_all_groups",
    "DELETE",
    f"{_CONNECTION}/groups",
    absent=_NO_CONNECTION,
    since="2022-06-01",
)
SEND_STREAM_ITEM = Operation(
    "send_stream_item",
    "POST",
    _CONNECTION + "/streams/{stream}/:send",
    ("completed",),
    Body.ITEM,
    (202,),
    (*_NO_CONNECTION, STREAM_GONE),
    idempotent=False,
    since="2024-12-01",
)
COMPLETE_STREAM = Operation(
    "complete_stream",
    "POST",
    _CONNECTION + "/streams/{stream}/:complete",
    ("reason", "error"),  # the description's name, and that of Microsoft's SDK
    success=(202,),
    absent=(*_NO_CONNECTION, STREAM_GONE),
    idempotent=False,
    since="2024-12-01",
)
SEND_TO_GROUP = Operation(
    "send_to_group", "POST", f"{_GROUP}/:send", ("excluded",), Body.MESSAGE, (202,), idempotent=False
)
CLOSE_GROUP = Operation(
    "close_group", "POST", f"{_GROUP}/:closeConnections", _CLOSE, success=(204,), since="2022-06-01"
)
GROUP_EXISTS = Operation("group_exists", "HEAD", _GROUP, absent=(GROUP_NOT_FOUND,))
GROUP_CONNECTIONS = Operation(
    "group_connections",
    "GET",
    f"{_GROUP}/connections",
    ("maxpagesize", "top", "continuationToken"),
    since="2024-12-01",
)
ADD_CONNECTION_TO_GROUP = Operation(
    "add_connection_to_group", "PUT", _GROUP + "/connections/{connection}", absent=_NO_CONNECTION
)
REMOVE_CONNECTION_FROM_GROUP = Operation(
    "remove_connection_from_group", "DELETE", _GROUP + "/connections/{connection}", absent=_NO_CONNECTION
)
SEND_TO_USER = Operation("send_to_user", "POST", f"{_USER}/:send", (), Body.MESSAGE, (202,), idempotent=False)
CLOSE_USER = Operation(
    "close_user", "POST", f"{_USER}/:closeConnections", _CLOSE, success=(204,), since="2022-06-01"
)
USER_EXISTS = Operation("user_exists", "HEAD", _USER, absent=(USER_NOT_FOUND,))
USER_IN_GROUP = Operation(
    "user_in_group", "HEAD", _USER + "/groups/{group}", absent=(USER_NOT_IN_GROUP, USER_NOT_FOUND)
)
ADD_USER_TO_GROUP = Operation("add_user_to_group", "PUT", _USER + "/groups/{group}", ("ttl",))
REMOVE_USER_FROM_GROUP = Operation(
    "remove_user_from_group", "DELETE", _USER + "/groups/{group}", success=(204,)
)
REMOVE_USER_FROM_ALL_GROUPS = Operation(
    "remove_user_from_all_groups", "DELETE", f"{_USER}/groups", success=(204,)
)

OPERATIONS: Final[Mapping[str, Operation]] = {
    value.name: value for value in tuple(globals().values()) if isinstance(value, Operation)
}
"""Every operation by its name."""


# ---- names ----

_HUB_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_`,.\[\]]{0,127}")
_HUB_RULE = "1 to 128 characters, a letter first, then letters, digits or any of _ ` , . [ ]"
_MAX_LENGTH: Final = {"group": 1024, "user": 1024, "stream": 100}
"""Characters. The API gives a connection id no upper limit."""


def check_name(kind: str, value: str) -> None:
    """Refuse what the service does not take, or what would turn a URL into another one.

    Args:
        kind: "hub", "application", "group", "user", "connection" or "stream".

    Raises:
        InvalidNameError: the text says what is allowed.
    """
    if kind in {"hub", "application"}:
        check_text(kind, value)
        if not _HUB_NAME.fullmatch(value):
            raise InvalidNameError(kind, f"it must have {_HUB_RULE}")
        return
    if not value:
        check_text(kind, value)
        raise InvalidNameError(kind, "it is empty")
    if value in {".", ".."}:
        # As a path segment it is removed on the way: "/users/../:send" arrives as a send to everybody.
        raise InvalidNameError(kind, 'it must not be "." or ".."')
    limit = _MAX_LENGTH.get(kind)
    if limit is not None and len(value) > limit:
        raise InvalidNameError(kind, f"it is longer than {limit} characters")
    if kind in {"group", "stream"} and value.isspace():
        raise InvalidNameError(kind, "it is only white space")
    if kind == "group" and "\n" in value:
        raise InvalidNameError(kind, "it holds a line break")


def check_text(kind: str, value: object) -> None:
    """Refuse what is no text, such as the number of a user.

    Raises:
        InvalidNameError: the text says what it is, and never shows it.
    """
    if not isinstance(value, str):
        raise InvalidNameError(kind, f"it {no_text(value)}")


def no_text(value: object) -> str:
    """What is wrong with a name that is no text, and what to do."""
    cure = ": write str(...)" if isinstance(value, int | UUID) else ""
    return f"has to be text, not {'None' if value is None else type(value).__name__}{cure}"


def escape(kind: str, value: str) -> str:
    """``value`` as a part of a URL: all but letters, digits and ``-._~`` in UTF-8, escaped once.

    Raises:
        InvalidNameError: half of a surrogate pair.
    """
    try:
        return quote(value, safe="")
    except UnicodeEncodeError as exc:
        raise InvalidNameError(kind, "it holds half of a surrogate pair, which no URL can carry") from exc


# ---- requests: match ----


class Match(Struct, frozen=True):
    """A request that fits the table.

    Attributes:
        values: the variables of the path, unescaped once and not yet checked; ``hub`` in lower case.
        version_1: the path is one of the older ``/api/v1/`` API, which takes no ``api-version``.
    """

    operation: Operation
    values: dict[str, str]
    version_1: bool = False


class WrongMethod(Struct, frozen=True):
    """The path is known, the method is not: 405 with ``allow`` in the ``Allow`` header."""

    allow: tuple[str, ...]


_Shape = tuple[str | None, ...]
_V1_VERB = "/:send"


def _shape(segments: Sequence[str]) -> _Shape:
    """The words of a path, with None for each variable. Below ``hubs`` words and variables take turns."""
    if segments[0].lower() != "hubs":
        return tuple(segment.lower() for segment in segments)
    return tuple(None if index % 2 else segment.lower() for index, segment in enumerate(segments))


def _routes() -> dict[_Shape, tuple[tuple[str, ...], dict[str, Operation]]]:
    """Shape -> names of the variables, and the operation of each method."""
    routes: dict[_Shape, tuple[tuple[str, ...], dict[str, Operation]]] = {}

    def add(path: str, operation: Operation) -> None:
        segments = path.removeprefix("/api/").split("/")
        variables = tuple(segment[1:-1] for segment in segments if segment.startswith("{"))
        methods = routes.setdefault(_shape(segments), (variables, {}))[1]
        methods[operation.method] = operation
        if operation.method == "HEAD":
            methods["GET"] = operation  # Microsoft's routes answer both, and its SDK sends GET

    for operation in OPERATIONS.values():
        add(operation.path, operation)
        if operation.body is Body.MESSAGE and operation.path.endswith(_V1_VERB):
            add(operation.path.removesuffix(_V1_VERB), operation)
    for operation in (ADD_CONNECTION_TO_GROUP, REMOVE_CONNECTION_FROM_GROUP):
        add(_CONNECTION + "/groups/{group}", operation)
    for operation in (USER_IN_GROUP, ADD_USER_TO_GROUP, REMOVE_USER_FROM_GROUP):
        add(_GROUP + "/users/{user}", operation)
    return routes


_ROUTES: Final = _routes()


def match(method: str, raw_path: bytes) -> Match | WrongMethod | None:
    """Find the operation of a request; None if there is no such path.

    The path is taken raw and split before it is unescaped: the ``%2F`` of a name stays inside its segment.
    Words are compared ignoring case, and one slash at the end is dropped, as Microsoft's routes do.
    """
    try:
        path = raw_path.decode("ascii")
        segments = [unquote_to_bytes(part).decode() for part in path.removesuffix("/").split("/")]
    except UnicodeDecodeError:
        return None
    if len(segments) < 3 or segments[0] or segments[1].lower() != "api" or "" in segments[2:]:
        return None
    version_1 = segments[2].lower() == "v1"
    segments = segments[3 if version_1 else 2 :]
    route = _ROUTES.get(_shape(segments)) if segments else None
    if route is None:
        return None
    variables, methods = route
    operation = methods.get(method)
    if operation is None:
        return WrongMethod(tuple(sorted(methods)))
    values = dict(zip(variables, segments[1::2], strict=False))
    if "hub" in values:
        values["hub"] = values["hub"].lower()
    return Match(operation, values, version_1)
