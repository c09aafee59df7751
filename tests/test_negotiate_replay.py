"""What Microsoft's Management SDK answered to ``NegotiateAsync``, against ours.

``vectors/negotiate.jsonl`` is recorded from Azure/azure-signalr 31686ed (1.25.1-preview1); see
``vectors/select_negotiate.py``. Equal means: the same URL and the same claims in the same order, once our
``su`` is taken out, or both refuse.
"""

import json
from pathlib import Path
from typing import Any

from signalr_upstream.auth import decode_token
from signalr_upstream.claims import SEAL_CLAIM, ClientAccess, Identity, client_access
from signalr_upstream.connection_string import EMULATOR_KEY, parse_connection_string
from signalr_upstream.errors import ConfigurationError, IdentityError, InvalidNameError

OTHER_KEY = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGH"
PLAIN = "Endpoint=http://localhost:18888;AccessKey=<key>;Version=1.0;"
_CASES = Path(__file__).with_name("vectors") / "negotiate.jsonl"

# Where we do something else on purpose: name or prefix of the case -> reason.
DIFFERENT = {
    "conn/path": "a path of Endpoint= is dropped, as newer SDKs do; Microsoft glues it: /preclient",
    "conn/query in endpoint": "refused: Microsoft builds the URL ?x=1client/",
    "conn/endpoint with userinfo": "refused: the password would be sent to every client",
    "conn/key ": "a key under 32 bytes counts as none, so nothing is signed with it",
    "conn/idn": "refused: write the host in its xn-- form, the one that goes over the wire",
    "conn/err server endpoint": "refused with the text of the other endpoints, without the value",
    "UserId/\0": "refused: no header can carry a control character",
    "Claims/unicode": "refused: it holds control characters",
    "Claims/empty names": "refused: a claim without a name is a mistake",
    "Claims/sub twice": "refused: without a user id the service would take sub as the user id",
    "Claims/asrs.s.uid + UserId": "refused: it would be a second user id",
    "Claims/length 27": "the seal packs the claims a second time, so the limit is reached earlier",
    "Claims/length 28": "as Claims/length 27",
    "hub/chat-hub": "InvalidNameError: the service's own pattern for hub names",
    "hub/a": "InvalidNameError: not a hub name; & and # would change the URL and the audience",
    "hub/\u00c9": "InvalidNameError: not a hub name",
    "hub/\u65e5\u672c": "InvalidNameError: not a hub name",
    "hub/.": "InvalidNameError: not a hub name; it would change the path of REST calls",
    "hub/~": "InvalidNameError: not a hub name",
    "hub/\u0130": "InvalidNameError: not a hub name",
    "hub/1hub": "InvalidNameError: not a hub name",
    "hub/\u03a9": "InvalidNameError: not a hub name",
    'hub/"': "InvalidNameError: not a hub name",
}
# Cases of the two tables that differ although their prefix is the name of another one.
DIFFERENT_EXACT = {
    "UserId/": "refused: an empty user id is a mistake; anonymous is said explicitly",
    "Claims/sub": "as Claims/sub twice",
}
EXCLUDED = {
    "conn/err null": "the option itself is missing: load_endpoints gives () then",
    "conn/err blank": "load_endpoints leaves a blank setting out",
    "HttpContext/": "claims of ASP.NET Core's HttpContext: here the handler gives them",
    "legacy/": "the older API, whose user id is the claim nameid",
    "persistent/": "server connections: not serverless mode",
    "cancelled": "no cancellation token here",
}


def _negotiate(case: dict[str, Any], *, now: int) -> tuple[ClientAccess, tuple[str, ...]]:
    arguments: dict[str, Any] = case["with"]
    text = arguments.get("connection_string", PLAIN)
    loopback = "localhost" in text or "127.0.0.1" in text
    key = EMULATOR_KEY if loopback and "service.example.com" not in text else OTHER_KEY
    endpoint = parse_connection_string(text.replace("<key>", key))
    claims: dict[str, list[str]] = {}
    for name, value in arguments.get("claims", ()):
        claims.setdefault(name, []).append(value)
    options: dict[str, Any] = {
        "claims": claims,
        "lifetime": arguments.get("lifetime", 3600),
        "diagnostic": "IsDiagnosticClient=true" in case["call"],
        "detailed_errors": "EnableDetailedErrors=true" in case["call"],
    }
    user_id = [arguments["user_id"]] if "user_id" in arguments else []
    identity = Identity(*user_id, **options) if user_id else Identity.anonymous(**options)
    application = arguments.get("application", "")
    access = client_access(
        identity, endpoint=endpoint, hub=arguments["hub"], application=application, now=now
    )
    return access, endpoint.keys


def _is_equal(case: dict[str, Any]) -> bool:
    recorded = json.loads(case["claims"] or "{}")
    now = recorded.get("nbf", 1_800_000_000)
    try:
        access, keys = _negotiate(case, now=now)
    except (ConfigurationError, IdentityError, InvalidNameError) as error:
        # Ours for a connection string begin with Microsoft's, without .NET's parameter name, and may say what to do.
        recorded_text = _text(case["error"])
        if recorded_text is None:
            return False
        return not case["name"].startswith("conn/") or str(error).startswith(recorded_text)
    ours = decode_token(access.access_token, keys, now=now, audiences=None)
    ours.pop(SEAL_CLAIM)
    return access.url == case["url"] and list(ours.items()) == list(recorded.items())


def _text(message: str | None) -> str | None:
    return message and message.split(" (Parameter")[0]


def _listed(name: str, table: dict[str, str]) -> bool:
    return any(name.startswith(prefix) for prefix in table)


def test_negotiate_answers_what_the_management_sdk_answers() -> None:
    equal: list[str] = []
    different: list[str] = []
    excluded: list[str] = []
    for line in _CASES.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        case = json.loads(line)
        name = case["name"]
        if _listed(name, EXCLUDED):
            excluded.append(name)
            continue
        is_listed = _listed(name, DIFFERENT) or name in DIFFERENT_EXACT
        assert _is_equal(case) is not is_listed, name
        (different if is_listed else equal).append(name)
    print(f"negotiate: {len(equal)} equal, {len(different)} different, {len(excluded)} excluded")
    assert (len(equal), len(different), len(excluded)) == (65, 34, 22)
