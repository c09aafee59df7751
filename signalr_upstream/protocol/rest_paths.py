"""The request targets of one hub: checked and escaped names between pieces that are made once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, Self

from .rest import API_VERSION, Operation, check_name, check_text, escape

MAX_RESOURCES: Final = 4096
"""Resources that are remembered, of all hubs together; the busy ones stay."""

MAX_REMEMBERED: Final = 256
"""Characters of a name that is remembered: clients may choose what is passed on as a name."""


class Resource:
    """What a request is for.

    Attributes:
        path: escaped; the token's audience repeats it.
        query: with its ``?``.
        target: both together, as they stand in the request line.
    """

    __slots__ = ("path", "query", "target")

    def __init__(self, path: str, query: str) -> None:
        self.path = path
        self.query = query
        self.target = path + query

    @classmethod
    def of_service(cls, operation: Operation, *, api_version: str = API_VERSION) -> Self:
        """What an operation is for that belongs to no hub."""
        return cls(operation.path, f"?api-version={api_version}")


class HubPaths:
    """Request targets of one hub.

    Args:
        hub: sent in lower case.
        application: prefix of all hubs of a shared service; "" for none.
        api_version: of the REST API.

    Raises:
        InvalidNameError: a hub or application that the service does not take.
    """

    def __init__(self, hub: str, *, application: str = "", api_version: str = API_VERSION) -> None:
        check_name("hub", hub)
        version = "api-version=" + escape("api-version", api_version)
        shared = version
        if application:
            check_name("application", application)
            shared = f"application={escape('application', application.lower())}&{version}"
        self._hub = escape("hub", hub.lower())
        self._queries = {True: f"?{shared}", False: f"?{version}"}
        self._split: dict[str, tuple[list[str], list[str]]] = {}  # by operation

    def resource(
        self, operation: Operation, names: tuple[str, ...] = (), parameters: Sequence[tuple[str, str]] = ()
    ) -> Resource:
        """What an operation is asked of.

        Args:
            names: raw, for the variables of the path behind ``{hub}``, in their order.
            parameters: raw, of the query, in order; ``api-version`` and ``application`` come by themselves.

        Raises:
            InvalidNameError: a name that the service does not take.
        """
        try:
            if not parameters and (not names or len(names[0]) <= MAX_REMEMBERED) and len(names) < 2:
                return _remembered(self, operation, names)
            return self.make(operation, names, parameters)
        except TypeError:  # looked for only now: that costs nothing where all is well
            kinds, _ = self._split_path(operation)
            for kind, value in (*zip(kinds, names, strict=True), *parameters):
                check_text(kind, value)
            raise

    def make(
        self, operation: Operation, names: tuple[str, ...], parameters: Sequence[tuple[str, str]] = ()
    ) -> Resource:
        """As ``resource``, without a look at what is remembered."""
        kinds, pieces = self._split.get(operation.name) or self._split_path(operation)
        path = pieces[0]
        for kind, name, piece in zip(kinds, names, pieces[1:], strict=True):
            check_name(kind, name)
            path += escape(kind, name) + piece
        query = self._queries[operation.application]
        for name, value in parameters:
            query += f"&{name}={escape(name, value)}"
        return Resource(path, query)

    def _split_path(self, operation: Operation) -> tuple[list[str], list[str]]:
        """The kinds of the variables behind ``{hub}``, and what stands around them."""
        first, *rest = operation.path.replace("{hub}", self._hub).split("{")
        kinds, pieces = [], [first]
        for part in rest:
            kind, _, piece = part.partition("}")
            kinds.append(kind)
            pieces.append(piece)
        self._split[operation.name] = kinds, pieces
        return kinds, pieces


@lru_cache(MAX_RESOURCES)
def _remembered(paths: HubPaths, operation: Operation, names: tuple[str, ...]) -> Resource:
    return paths.make(operation, names)
