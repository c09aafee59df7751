"""The request targets of one hub: checked and escaped names between pieces that are made once."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from .rest import API_VERSION, Operation, check_name, escape

MAX_PATHS: Final = 4096
"""Paths of one hub that are remembered; the busy ones stay."""

MAX_REMEMBERED: Final = 256
"""Characters of a name that is remembered: clients may choose what is passed on as a name."""


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
        self._remembered = lru_cache(MAX_PATHS)(self._make_path)

    def path(self, operation: Operation, names: tuple[str, ...] = ()) -> str:
        """The escaped path, which the token's audience repeats.

        Args:
            names: raw, for the variables of the path behind ``{hub}``, in their order.

        Raises:
            InvalidNameError: a name that the service does not take.
        """
        if not names or (len(names) == 1 and len(names[0]) <= MAX_REMEMBERED):
            return self._remembered(operation, names)
        return self._make_path(operation, names)

    def _make_path(self, operation: Operation, names: tuple[str, ...]) -> str:
        kinds, pieces = self._split.get(operation.name) or self._split_path(operation)
        path = pieces[0]
        for kind, name, piece in zip(kinds, names, pieces[1:], strict=True):
            check_name(kind, name)
            path += escape(kind, name) + piece
        return path

    def query(self, operation: Operation, parameters: Sequence[tuple[str, str]] = ()) -> str:
        """``?api-version=...`` and further parameters, raw, in order."""
        query = self._queries[operation.application]
        for name, value in parameters:
            query += f"&{name}={escape(name, value)}"
        return query

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
