"""One rule of which calls go to which URL: patterns of hub, category and event, and a URL template.

Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream
"""

from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import msgspec

from ...errors import ConfigurationError
from ...protocol.path import expand_template

IN_PROCESS = "http://app.localhost"
"""Begins the URLs of an app in this process; nobody looks up its name."""

_PARAMETERS = ("{hub}", "{category}", "{event}")


class UpstreamTemplate(msgspec.Struct, frozen=True):
    """One rule: calls that fit the three patterns go to ``url``.

    Attributes:
        url: http or https URL, in which ``{hub}``, ``{category}`` and ``{event}`` are filled in, each escaped as one
            segment of a path; in its query too.
        hub, category, event: ``"*"``, or names with commas between, of which one has to be the call's, in the same
            case. None fits no call.
        resource: the application that the calls bring a managed identity's token for: its id, or its URI
            (``"api://..."``). None: they bring none.

    Raises:
        ConfigurationError: ``url`` is no URL that can be called.
    """

    url: str
    hub: str | None = "*"
    category: str | None = "*"
    event: str | None = "*"
    resource: str | None = None

    def __post_init__(self) -> None:
        reason = _reason_against(self.url)
        if reason is not None:
            raise ConfigurationError(f"the URL template of an upstream {reason}")

    def __repr__(self) -> str:
        return f"UpstreamTemplate({self.shown!r})"

    @property
    def shown(self) -> str:
        """For people: the URL without what may be secret in it, and the patterns, as the emulator lists them."""
        return f"{hide_secrets(self.url)}(event:'{self.event}',hub:'{self.hub}',category:'{self.category}')"

    def fits(self, *, hub: str, category: str, event: str) -> bool:
        """Whether the call goes here, if no template before this one took it."""
        return _fits(self.hub, hub) and _fits(self.category, category) and _fits(self.event, event)

    def expand(self, *, hub: str, category: str, event: str) -> str:
        """The URL of one call."""
        return expand_template(self.url, hub=hub, category=category, event=event)


def _fits(pattern: str | None, value: str) -> bool:
    items = [] if pattern is None else [item.strip() for item in pattern.split(",")]
    return "*" in items or value in items


def _reason_against(url: str) -> str | None:
    if "@Microsoft.KeyVault(" in url:
        return "has a Key Vault reference, which only the real service can look up: write its value there"
    if url.startswith("[") and url.endswith("]"):
        return "is an expression of an ARM template, which only Azure evaluates: write its value there"
    try:
        expanded = expand_template(url, hub="h", category="c", event="e")
        usable = httpx.URL(expanded).scheme in ("http", "https") and bool(urlsplit(expanded).hostname)
    except (httpx.InvalidURL, ValueError):
        usable = False
    return None if usable else "is no http or https URL"


def hide_secrets(url: str) -> str:
    """A URL template without its user and the values in its query, but for its parameters."""
    parts = urlsplit(url)
    items = [
        (name, value if value in _PARAMETERS else "...")
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    query = f"?{urlencode(items, safe='{}.')}" if items else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def origin(url: str) -> str:
    """Scheme, host and port of a URL: the rest may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def describe(templates: Iterable[UpstreamTemplate]) -> list[str]:
    """The templates in order, one line each, as Microsoft's emulator prints them."""
    return [f"[{index}]{template.shown}" for index, template in enumerate(templates)]
