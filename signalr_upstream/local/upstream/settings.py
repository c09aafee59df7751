"""Settings files: the upstream templates of Microsoft's emulator, and of Azure's resource manager.

Both shapes are read, their keys in any case: ``{"UpstreamSettings": {"Templates": [...]}}`` and
``{"properties": {"upstream": {"templates": [...]}}}``, the latter also among the resources of a whole ARM template,
which is what Bicep compiles to. Comments and commas too many are skipped, as .NET does.

Spec: https://learn.microsoft.com/azure/azure-signalr/signalr-howto-emulator,
https://learn.microsoft.com/azure/templates/microsoft.signalrservice/signalr
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from ...errors import ConfigurationError
from .templates import UpstreamTemplate

FILE_NAME = "settings.json"
"""What a settings file is called in a folder; the emulator's name."""

_KEYS = frozenset(("urltemplate", "hubpattern", "categorypattern", "eventpattern", "auth"))
_PARENTS = frozenset(("upstreamsettings", "upstream"))
_STRING = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|(//[^\n]*|/\*.*?\*/)", re.DOTALL)
_LAST_COMMA = re.compile(rf"{_STRING}|(,)(?=\s*[}}\]])")
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\],:]|[^\s{{}}\[\],:\"]+")

_log = logging.getLogger("signalr_upstream.local")

Place = tuple[str | int, ...]


class _Wrong(Exception):  # noqa: N818 - becomes a ConfigurationError that knows the line
    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.place = place


def find_settings(path: Path) -> Path:
    """The settings file that a user means with a file or a folder.

    Raises:
        ConfigurationError: there is none.
    """
    for file in (path, path / FILE_NAME):
        if file.is_file():
            return file
    raise ConfigurationError(f"there is no settings file {path} and no {path / FILE_NAME}")


def read_settings(path: Path) -> tuple[UpstreamTemplate, ...]:
    """The templates of a settings file, in order.

    Raises:
        ConfigurationError: the file cannot be read, or says what makes no sense; with line and key.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8") from None
    text = _blank(_LAST_COMMA, _blank(_COMMENT, text))
    try:
        # As floats, of which no number of digits is too much; numbers say nothing here.
        found = list(_find_lists(json.loads(text, parse_int=float), ()))
        if len(found) != 1:
            _refuse(found)
        [(place, items)] = found
        if not isinstance(items, list):
            raise _Wrong(place, "this has to be a list")
        return tuple(_template(text, path, (*place, index), item) for index, item in enumerate(items))
    except json.JSONDecodeError as error:
        where, reason = f"line {error.lineno}, column {error.colno}", error.msg
    except RecursionError:
        where, reason = "line 1", "it is nested too deeply"
    except _Wrong as error:
        where, reason = _describe(text, error.place), str(error)
    raise ConfigurationError(f"{path}, {where}: {reason}")


def _blank(skipped: re.Pattern[str], text: str) -> str:
    """Spaces instead of what ``skipped`` has in its group, so that lines and columns stay."""
    return skipped.sub(lambda found: re.sub(r"\S", " ", found[0]) if found[1] else found[0], text)


def _find_lists(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """Every list of templates, wherever it stands."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _find_lists(item, (*place, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            here = (*place, key)
            if key.lower() == "templates" and place and str(place[-1]).lower() in _PARENTS:
                yield here, item
            else:
                yield from _find_lists(item, here)


def _refuse(found: list[tuple[Place, Any]]) -> NoReturn:
    if found:
        raise _Wrong(found[1][0], "these are the templates of a second service; leave those of one")
    raise _Wrong((), "there is neither UpstreamSettings.Templates nor properties.upstream.templates")


def _template(text: str, path: Path, place: Place, item: Any) -> UpstreamTemplate:
    members = _Members(item, place)
    for key, here in members.places.items():
        if key not in _KEYS:
            _log.warning("%s, %s: the key is not known and counts for nothing", path, _describe(text, here))
    url = members.text("urltemplate")
    if url is None:
        raise _Wrong(place, "a template needs a UrlTemplate")
    try:
        return UpstreamTemplate(
            url,
            hub=members.text("hubpattern", "*"),
            category=members.text("categorypattern", "*"),
            event=members.text("eventpattern", "*"),
            resource=_resource(members),
        )
    except ConfigurationError as error:
        raise _Wrong(members.places["urltemplate"], str(error)) from None


def _resource(template: "_Members") -> str | None:
    """What a managed identity's token is wanted for, if one is."""
    auth = template.members("auth")
    kind = (auth.text("type") if auth is not None else None) or "None"
    if auth is None or kind.lower() == "none":
        return None
    if kind.lower() != "managedidentity":
        raise _Wrong(auth.places["type"], "the type is None or ManagedIdentity")
    identity = auth.members("managedidentity")
    resource = identity.text("resource") if identity is not None else None
    if not resource:
        raise _Wrong(auth.place, "a ManagedIdentity needs a Resource: the application's id or its URI")
    return resource


class _Members:
    """An object of the file: its keys in any case, and where they stand."""

    def __init__(self, value: Any, place: Place) -> None:
        if not isinstance(value, dict):
            raise _Wrong(place, "this has to be an object")
        self.place = place
        self.places: dict[str, Place] = {key.lower(): (*place, key) for key in value}
        self._values = {key.lower(): item for key, item in value.items()}

    def text(self, key: str, otherwise: str | None = None) -> str | None:
        value = self._values.get(key, otherwise)
        if value is not None and not isinstance(value, str):
            raise _Wrong(self.places[key], "this has to be a string")
        return value

    def members(self, key: str) -> "_Members | None":
        value = self._values.get(key)
        return None if value is None else _Members(value, self.places[key])


def _describe(text: str, place: Place) -> str:
    """The line and the key of a place, for people."""
    names = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in place]
    return f"line {_line(text, place)}" + (f", {''.join(names).removeprefix('.')}" if names else "")


def _line(text: str, wanted: Place) -> int:
    """Where ``wanted`` begins: the last of its name, as it is the last that counts."""
    return max(text.count("\n", 0, start) + 1 for place, start in _places(text) if place == wanted)


def _places(text: str) -> Iterator[tuple[Place, int]]:
    """Every value of valid JSON, and where it, or its key, begins."""
    place: list[str | int] = []
    last = ""
    start = 0
    for token in _TOKEN.finditer(text):
        match token[0]:
            case ":":
                place[-1] = json.loads(last)
                yield tuple(place), start
            case ",":
                if isinstance(place[-1], int):
                    place[-1] += 1
            case "]" | "}":
                place.pop()
            case other:
                last, start = other, token.start()
                yield tuple(place), start
                if other in ("[", "{"):
                    place.append(0 if other == "[" else "")
