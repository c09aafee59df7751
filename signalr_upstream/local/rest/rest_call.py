"""One REST call that has been let in: what operations need of it, and how they read its query and say no."""

import re
from collections.abc import Mapping

from msgspec import Struct
from starlette.datastructures import Headers

from ...protocol import rest as api
from ..admission import Query, Refused
from ..clients.client_connection import ClientConnection
from ..connections import Hub

MAX_INT32 = 2**31 - 1

_INTEGER = re.compile(r"[+-]?[0-9]{1,10}", re.ASCII)


class Call(Struct, frozen=True):
    """One call.

    Attributes:
        values: the names in the path, checked.
        hub: whose connections are meant.
        hub_name: in lower case, the application's prefix included.
        base: scheme and authority by which the caller knows this service.
        audience: scheme and host that tokens for this service name.
        path: as it was sent, escaped.
        now: Unix seconds.
        lenient: whether to take what Microsoft's emulator takes.
    """

    operation: api.Operation
    values: Mapping[str, str]
    hub: Hub[ClientConnection]
    hub_name: str
    query: Query
    headers: Headers
    body: bytes
    base: str
    audience: str
    path: str
    now: float
    lenient: bool

    @property
    def excluded(self) -> frozenset[str]:
        """The ids of connections that are left out."""
        return frozenset(self.query.all("excluded"))

    def integer(self, name: str, *, least: int, most: int = MAX_INT32) -> int | None:
        """A whole number of the query; None if it is not there.

        Raises:
            Refused: 400, it is no number or out of range.
        """
        text = self.query.last(name.lower())
        if not text:
            return None
        if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise Refused(400, f"{name} must be a whole number from {least} to {most}.")
        return int(text)

    def flag(self, name: str) -> bool:
        """A yes or no of the query; no if it is not there.

        Raises:
            Refused: 400, it is neither.
        """
        text = (self.query.last(name.lower()) or "false").lower()
        if text not in ("true", "false"):
            raise Refused(400, f"{name} must be true or false.")
        return text == "true"


def absent(code: str, detail: str) -> Refused:
    """A 404 that says what is not there. On HEAD the code is all that arrives."""
    return Refused(404, detail, **{api.ERROR_CODE_HEADER: code})
