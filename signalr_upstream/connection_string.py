"""Connection strings and environment settings -> endpoints and their access keys.

Microsoft's grammar and texts, with two deliberate differences: a key that anybody could guess counts as none
(Microsoft's parser takes ``AccessKey=``, and then everybody can sign), and an endpoint with user name and
password, query or fragment is refused.

No clock, no network, and the environment is an argument. No error text and no ``repr`` holds a key.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from .credentials import credential_of
from .errors import ConnectionStringError

#: The access key of Microsoft's emulator. It is public, so it is taken for loopback endpoints only.
EMULATOR_KEY = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH"

#: Shorter keys count as none: SHA-256's own output is 32 bytes (RFC 7518, 3.2); Azure's keys have 44 or 84.
MIN_KEY_BYTES = 32

DEFAULT_SETTING = "AzureSignalRConnectionString"
_SECONDARY_SETTING = "AzureSignalRSecondaryConnectionString"
_ASPNET_SETTING = "Azure__SignalR__ConnectionString"
_ENDPOINTS_PREFIX = "azure__signalr__endpoints__"
# The sub-settings of an identity-based connection: `<name>__serviceUri` and what stands beside it.
_IDENTITY_SETTINGS = frozenset(
    [
        "serviceuri",
        "serverendpoint",
        "clientendpoint",
        "type",
        "credential",
        "clientid",
        "clientsecret",
        "clientcert",
        "tenantid",
    ]
)

_PROPERTIES = frozenset(
    [
        "endpoint",
        "accesskey",
        "version",
        "port",
        "clientendpoint",
        "serverendpoint",
        "authtype",
        "clientid",
        "clientsecret",
        "clientcert",
        "clientcertpath",
        "tenantid",
    ]
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# ${X} $(X) {{X}} #{X}# <X> %X% @Microsoft.KeyVault(X): what stays where a tool filled in nothing.
_PLACEHOLDER = re.compile(
    r"\$\{.*\}|\$\(.*\)|\{\{.*\}\}|#\{.*\}|<.*>|^%.*%$|@Microsoft\.(KeyVault|AppConfiguration)\(",
    re.IGNORECASE | re.DOTALL,
)
# ASCII: otherwise [a-z] without case takes the Kelvin sign and the long s. The path has no ? # \ or space.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::([0-9]{1,5}))?(/[!-\"$->@-\[\]-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_VERSION = re.compile(r"1\.[0-9]+[\w.-]*", re.ASCII)


class Endpoint(msgspec.Struct, frozen=True):
    """One SignalR service: where it is and which access keys it shares with us.

    Attributes:
        url: ``https://host[:port]``, host in lower case, no default port, no path, no trailing slash.
        keys: all of them verify, the first one signs. Never one that counts as none, so possibly empty.
        client_url: base of the URLs given to clients, no trailing slash (``ClientEndpoint=``, else ``url``).
        server_url: base of REST calls, no trailing slash (``ServerEndpoint=``, else ``url``).
        name: the endpoint's name in the configuration, often empty.
        primary: clients are sent to primary endpoints as long as there is one.
        key_problem: why the first key that was left out is none; empty when no key was left out.
        credential: gives Entra ID tokens in place of keys (``get_token(scope)``), or None.
    """

    url: str
    keys: tuple[str, ...]
    client_url: str
    server_url: str
    name: str = ""
    primary: bool = True
    key_problem: str = ""
    credential: Any = None

    @property
    def audience(self) -> str:
        """What the ``aud`` of every token for this endpoint begins with: scheme and host, never the port."""
        return re.sub(r":[0-9]+\Z", "", self.url)

    def __repr__(self) -> str:
        return f"Endpoint(url={self.url!r}, name={self.name!r}, keys=<{len(self.keys)} redacted>)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", self.url), ("name", self.name), ("keys", f"<{len(self.keys)} redacted>")]


def counts_as_none(key: str) -> bool:
    """Say whether ``key`` is no access key: blank, a placeholder, not text, or under 32 bytes (UTF-8)."""
    return bool(_key_problem(key))


def bare_host(host: str) -> str:
    """A host without the brackets that URLs have around an IPv6 address."""
    return host.removeprefix("[").removesuffix("]")


def is_loopback(host: str) -> bool:
    """Say whether a host name (no port; IPv6 with or without brackets) can only mean this machine."""
    host = host.lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(bare_host(host))
    except ValueError:
        return False
    # Not `is_loopback` of an IPv4-mapped address: Python versions differ about it.
    return address.is_loopback if address.version == 4 else address == ipaddress.IPv6Address("::1")


def parse_connection_string(text: str, *, credential: Any = None) -> Endpoint:
    """Parse ``Endpoint=https://...;AccessKey=...;Version=1.0;``.

    Property names ignore case, names and values are trimmed, a value may contain ``=``, what has no ``=`` is
    ignored. A key that counts as none (and the emulator's key for an endpoint that is not loopback) is left
    out: the endpoint then has no ``keys`` and its ``key_problem`` says why.

    With ``AuthType=`` azure, azure.msi, azure.app or aad there are no keys but a credential, whatever else is said.

    Args:
        credential: what an endpoint without an access key is given.

    Raises:
        ConnectionStringError: the string cannot be used.
    """
    properties = _split_properties(text)
    named = credential_of(properties)
    version = properties.get("version")
    if version is not None and not _VERSION.fullmatch(version):
        # A forgotten semicolon puts the key into the version, so only what is short and plain is shown.
        shown = f" {version}" if re.fullmatch(r"[A-Za-z0-9_.-]{1,16}", version) else ""
        raise ConnectionStringError(f"Version{shown} is not supported.")
    location = _parse_url(properties["endpoint"], "endpoint")
    if "port" in properties:
        location = location._replace(port=_parse_port(properties["port"]))
    url = location.origin
    if named is None and credential is None and "accesskey" not in properties:
        raise ConnectionStringError(
            "accesskey is required. (Or AuthType=azure, or credential=, for an Entra identity.)"
        )
    key = "" if named is not None else properties.get("accesskey", "")
    problem = _key_problem(key)
    if not problem and key == EMULATOR_KEY and not is_loopback(location.host):
        problem = "is the emulator's well-known key, which only loopback endpoints may use"
    return Endpoint(
        url=url,
        keys=() if problem else (key,),
        client_url=_parse_base(properties, "clientEndpoint", default=url),
        server_url=_parse_base(properties, "serverEndpoint", default=url),
        key_problem="" if named is not None or "accesskey" not in properties else problem,
        credential=named if named is not None else None if not problem else credential,
    )


def parse_endpoint_url(text: str) -> str:
    """The ``url`` of an `Endpoint` that is at this address, however it is spelled.

    Raises:
        ConnectionStringError: it is no absolute URL of http or https.
    """
    return _parse_url(text.strip(), "endpoint").origin


def load_endpoints(
    setting: str | Sequence[str] | None = None,
    *,
    environ: Mapping[str, str],
    name: str = DEFAULT_SETTING,
    credential: Any = None,
) -> tuple[Endpoint, ...]:
    """Find the endpoints in a setting, or else in the environment, and merge those with one URL.

    Args:
        setting: one connection string or several; None: look into ``environ``. A blank one is left out.
        environ: environment variables; their names ignore case, and ``:`` may stand for ``__``.
        name: the variable to look for. For the default name also the ASP.NET Core names, the secondary
            connection string and ``Azure__SignalR__Endpoints__<Name>[__Primary|__Secondary]``. Instead of a
            connection string there may be ``<name>__serviceUri`` and what stands beside it for an identity.
        credential: gives Entra ID tokens for endpoints that have no access key.

    Returns:
        One endpoint a URL, keys in the order found; of what else differs, the first entry's. ``()`` when
        nothing is configured.

    Raises:
        ConnectionStringError: see `parse_connection_string`.
    """
    if setting is None:
        return _merge(_read_environment(environ, name, credential))
    settings = [setting] if isinstance(setting, str) else setting
    return _merge(parse_connection_string(text, credential=credential) for text in settings if text.strip())


def unusable_keys_reason(endpoints: Sequence[Endpoint], *, name: str = DEFAULT_SETTING) -> str:
    """Say why none of ``endpoints`` has a key, and what to do. Never shows a key.

    Args:
        name: of the setting that was looked for.
    """
    if not endpoints:
        return (
            f"No connection string is configured: set {name}. Without Azure: `signalr-upstream dev` runs an "
            "app with a service of its own, `signalr-upstream local` the service alone."
        )
    reasons = "; ".join(f"the AccessKey of {e.url} {e.key_problem or 'is missing'}" for e in endpoints)
    return f"There is no usable access key: {reasons}."


def _key_problem(key: str) -> str:
    """Complete the sentence "the AccessKey of ... " when the key counts as none, else return ``""``."""
    key = key.strip()
    if not key:
        return "is empty"
    if _PLACEHOLDER.search(key):
        return "is an unexpanded placeholder"
    try:
        length = len(key.encode())
    except UnicodeEncodeError:  # an environment variable that is not UTF-8 arrives with lone surrogates
        return "is not valid text"
    return f"is shorter than {MIN_KEY_BYTES} bytes" if length < MIN_KEY_BYTES else ""


def _advice(text: str) -> str:
    """What to do about a text that is no connection string; no piece of it, which may be one of a key."""
    text = text.strip()
    if _PLACEHOLDER.search(text):
        return "It is an unexpanded placeholder."
    if text[:1] in ("'", '"'):
        return "Leave out the quotation marks around it."
    return "Copy the whole of it from Keys in the portal: Endpoint=https://...;AccessKey=...;Version=1.0;"


def _split_properties(text: str) -> dict[str, str]:
    segments = [segment for segment in text.split(";") if segment.strip()]
    properties: dict[str, str] = {}
    for segment in segments:
        name, equals, value = segment.partition("=")
        name = name.strip().lower()
        if not equals:
            continue
        if name in properties:
            # An unknown name may be a piece of a broken key, so it is not shown.
            shown = f": {name}" if name in _PROPERTIES else ""
            raise ConnectionStringError(f"Duplicate properties found in connection string{shown}.")
        properties[name] = value.strip()
    if len(segments) < 2 or "endpoint" not in properties:
        raise ConnectionStringError(
            f"Connection string missing required properties endpoint. {_advice(text)}"
        )
    return properties


class _Location(NamedTuple):
    scheme: str
    host: str  # lower case, IPv6 in brackets
    port: int
    path: str  # no trailing slash

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.host}" + (
            "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        )


def _parse_url(value: str, name: str) -> _Location:
    """Parse an absolute http(s) URL without user info, query or fragment."""
    if found := _URL.fullmatch(value):
        scheme, host, port, path = found.groups()
        location = _Location(
            scheme.lower(),
            host.lower(),
            int(port or _DEFAULT_PORTS[scheme.lower()]),
            (path or "").rstrip("/"),
        )
        if 0 < location.port < 65536 and (host[0] != "[" or _is_ipv6(host[1:-1])):
            return location
    raise ConnectionStringError(f"Invalid value for {name} property, it must be a valid URI.")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_port(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value) or not 0 < int(value) < 65536:
        raise ConnectionStringError(
            "Invalid value for port property, it must be an positive integer between (0, 65536)"
        )
    return int(value)


def _parse_base(properties: Mapping[str, str], name: str, *, default: str) -> str:
    """Read ``ClientEndpoint=`` or ``ServerEndpoint=``: unlike Endpoint, its path is kept."""
    value = properties.get(name.lower())
    if value is None:
        return default
    location = _parse_url(value, name)
    return location.origin + location.path


def _read_environment(environ: Mapping[str, str], name: str, credential: Any) -> Iterator[Endpoint]:
    variables = {
        variable.replace(":", "__").lower(): value for variable, value in environ.items() if value.strip()
    }
    names = [name, *([_ASPNET_SETTING] if name == DEFAULT_SETTING else [])]
    # App Service hands its "connection strings" to the process with the prefix CUSTOMCONNSTR_.
    forms = [form.lower() for n in names for form in (n, f"ConnectionStrings__{n}", f"CUSTOMCONNSTR_{n}")]
    main = next((variables[form] for form in forms if form in variables), None)
    if main is not None:
        yield parse_connection_string(main, credential=credential)
    elif f"{name.lower()}__serviceuri" in variables:
        yield _of_service_uri(f"{name.lower()}__", variables, credential)
    if name == DEFAULT_SETTING:
        if secondary := variables.get(_SECONDARY_SETTING.lower()):
            yield parse_connection_string(secondary, credential=credential)
        yield from _read_named_endpoints(variables, environ, credential)


def _of_service_uri(prefix: str, variables: Mapping[str, str], credential: Any) -> Endpoint:
    """An endpoint that is configured by single settings, as Azure Functions name them."""
    own = {
        variable.removeprefix(prefix): value
        for variable, value in variables.items()
        if variable.startswith(prefix)
    }
    url = _parse_url(own["serviceuri"], f"{prefix}serviceUri").origin
    kind = "azure.app" if own.keys() & {"clientsecret", "clientcert"} else "azure"
    if own.get("credential", "").lower() in ("managedidentity", "managedidentitycredential"):
        kind = "azure.msi"
    return Endpoint(
        url=url,
        keys=(),
        client_url=_parse_base(own, "clientEndpoint", default=url),
        server_url=_parse_base(own, "serverEndpoint", default=url),
        credential=credential_of(own | {"authtype": kind}) if credential is None else credential,
    )


def _read_named_endpoints(
    variables: Mapping[str, str], environ: Mapping[str, str], credential: Any
) -> Iterable[Endpoint]:
    """Read ``Azure__SignalR__Endpoints__<Name>[__Primary|__Secondary]``: primaries first, then by name."""
    found = []
    for variable, value in environ.items():
        path = variable.replace(":", "__")
        if not path.lower().startswith(_ENDPOINTS_PREFIX) or not value.strip():
            continue
        *names, last = path[len(_ENDPOINTS_PREFIX) :].split("__")
        if names and last.lower() in _IDENTITY_SETTINGS:
            if last.lower() != "serviceuri":
                continue
            endpoint = _of_service_uri(path.lower().removesuffix("serviceuri"), variables, credential)
        else:
            endpoint = parse_connection_string(value, credential=credential)
            if last.lower() not in ("primary", "secondary"):
                names.append(last)
        primary = last.lower() != "secondary"
        found.append(msgspec.structs.replace(endpoint, name=":".join(names), primary=primary))
    return sorted(found, key=lambda endpoint: (not endpoint.primary, endpoint.name))


def _merge(entries: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    merged: dict[str, Endpoint] = {}
    for entry in entries:
        first = merged.setdefault(entry.url, entry)
        if first is not entry:
            merged[entry.url] = msgspec.structs.replace(
                first,
                keys=tuple(dict.fromkeys(first.keys + entry.keys)),
                key_problem=first.key_problem or entry.key_problem,
                credential=first.credential or entry.credential,
            )
    return tuple(merged.values())
