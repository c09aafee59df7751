"""Where upstream calls are posted: one pattern, expanded by the service and matched by the app.

The ``X-ASRS-*`` headers say what a call is; its path is a cross-check. Proxies decode, merge and rewrite paths, so
matching looks only at the last segments, decodes them once, merges slashes and ignores case.
"""

import re
from urllib.parse import quote, unquote

DEFAULT_PATTERN = "/{hub}/{category}/{event}"

_PARAMETER = re.compile(r"\{(hub|category|event)\}")
_SLASHES = re.compile("/{2,}")


def expand_template(template: str, *, hub: str, category: str, event: str) -> str:
    """Fill ``{hub}``, ``{category}`` and ``{event}`` in, each percent-encoded as one path segment.

    Raises:
        UnicodeError: a value has a lone surrogate.

    Spec: https://learn.microsoft.com/azure/azure-signalr/concept-upstream#upstream-url-template
    """
    values = {"hub": hub, "category": category, "event": event}
    return _PARAMETER.sub(lambda found: _segment(values[found[1]]), template)


def _segment(value: str) -> str:
    if value.strip(".") == "":
        # `..` would lead to another path than the one that was meant.
        return value.replace(".", "%2E")
    return quote(value, safe="-._~")


class PathPattern:
    """The path of upstream calls behind whatever prefix the app is mounted at.

    Args:
        template: segments that are text or one whole parameter, e.g. ``"/{hub}/api/{category}/{event}"``. Without
            parameters every call comes to one path, and the headers alone tell them apart.

    Raises:
        ValueError: the template does not begin with ``/`` or has an unknown, doubled or partial parameter.
    """

    def __init__(self, template: str) -> None:
        segments = template.removesuffix("/").split("/")
        parameters = [segment for segment in segments if "{" in segment or "}" in segment]
        if segments[0] or "" in segments[1:] or "?" in template or "#" in template:
            raise ValueError(f"path {template!r}: write it as '/segment/{{hub}}/...', with no query")
        if len(set(parameters)) < len(parameters) or not all(_PARAMETER.fullmatch(p) for p in parameters):
            raise ValueError(
                f"path {template!r}: a segment is text or one of {{hub}}, {{category}}, {{event}}, each at most once"
            )
        self.template = "/".join(segments)
        self._fits = re.compile(
            ".*" + "/".join("[^/]+" if s in parameters else re.escape(s) for s in segments),
            re.IGNORECASE | re.DOTALL,
        )

    def agrees(self, raw_path: bytes, *, hub: str, category: str, event: str) -> bool:
        """Whether a raw path may be the one of this call."""
        values = {"hub": hub, "category": category, "event": event}
        expected = _PARAMETER.sub(lambda found: values[found[1]], self.template)
        return _normal(unquote(raw_path)).endswith(_normal(expected))

    def fits(self, path: str) -> bool:
        """Whether some upstream call could come to this path."""
        return self._fits.fullmatch(_SLASHES.sub("/", path).removesuffix("/")) is not None


def _normal(path: str) -> str:
    return _SLASHES.sub("/", path).removesuffix("/").casefold()
