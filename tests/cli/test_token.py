"""``signalr-upstream token``: tokens that the service takes, and what is wrong with those it does not."""

import base64
import json
import time
from typing import Any

import jwt
import pytest

from signalr_upstream.claims import Identity, client_access
from signalr_upstream.connection_string import parse_connection_string

from .conftest import CONNECTION_STRING, KEY, Programs

OTHER_KEY = "o" * 44
SECOND_KEY = "s" * 44
ORIGIN = "https://example.service.signalr.net"
CLIENT = f"{ORIGIN}/client/?hub=chat"
BOTH = {
    "AzureSignalRConnectionString": CONNECTION_STRING,
    "AzureSignalRSecondaryConnectionString": f"Endpoint={ORIGIN};AccessKey={SECOND_KEY};",
}


def signed(key: str = KEY, *, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token made by PyJWT itself; claims given as None are left out."""
    now = int(time.time())
    whole = {"aud": CLIENT, "iat": now, "exp": now + 3600} | claims
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, key, "HS256", headers)


def signed_by_nobody(algorithm: str, **claims: Any) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': algorithm})}.{part({'exp': int(time.time()) + 60} | claims)}.c2lnbmVk"


def explain(
    programs: Programs, token: str, *arguments: str, **environment: str
) -> tuple[int, dict[str, Any]]:
    result = programs.run("token", "--explain", token, "--json", *arguments, **(environment or BOTH))
    assert KEY not in result.output
    assert token.rpartition(".")[2] not in result.output
    return result.exit_code, json.loads(result.output)


def problems(programs: Programs, token: str, **environment: str) -> str:
    status, found = explain(programs, token, **environment)
    assert status == 1
    assert len(found["problems"]) == 1, found
    text: str = found["problems"][0]
    return text


# --- making -----------------------------------------------------------------------------------------------


def test_a_client_token_says_who_the_client_is(programs: Programs) -> None:
    arguments = [
        "--hub",
        "Chat",
        "--user",
        "ann",
        "--claim",
        "role=a=b",
        "--claim",
        "role=c",
        "--lifetime",
        "60",
    ]
    result = programs.run("token", *arguments, **BOTH)

    url, token = result.output.splitlines()
    assert url == CLIENT
    claims = jwt.decode(token, KEY, ["HS256"], audience=CLIENT)
    assert (claims["asrs.s.uid"], claims["role"]) == ("ann", ["a=b", "c"])
    assert claims["exp"] - claims["iat"] == 60


def test_a_client_without_a_user_is_anonymous(programs: Programs) -> None:
    result = programs.run("token", "--hub", "chat", "--application", "shop", "--json", **BOTH)

    made = json.loads(result.output)
    assert made["url"] == f"{ORIGIN}/client/?hub=shop_chat"
    assert "asrs.s.uid" not in jwt.decode(made["accessToken"], KEY, ["HS256"], audience=made["url"])


def test_a_rest_token_is_for_the_path_without_its_query(programs: Programs) -> None:
    path = "/api/hubs/chat/:send?api-version=2024-12-01"
    result = programs.run("token", "--rest", path, **BOTH)

    url, token = result.output.splitlines()
    assert url == ORIGIN + path
    jwt.decode(token, KEY, ["HS256"], audience=f"{ORIGIN}/api/hubs/chat/:send")


def test_another_setting_can_be_named(programs: Programs) -> None:
    result = programs.run("token", "--hub", "chat", "--connection", "Other", Other=CONNECTION_STRING)

    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say one of --hub"),
        (["--hub", "chat", "--rest", "/api"], "say one of --hub"),
        (["--rest", "api/hubs/chat/:send"], "without the host: /api/"),
        (["--rest", f"{ORIGIN}/api/hubs/chat/:send"], "without the host: /api/"),
        (["--hub", "chat", "--claim", "admin"], "--claim is NAME=VALUE"),
        (["--hub", "chat", "--lifetime", "inf"], "inf is no time that ends"),
        (["--hub", "chat", "--user", ""], "the user id is empty"),
        (["--hub", "no hub"], "invalid hub name"),
    ],
)
def test_what_no_token_can_be_made_of_is_refused(programs: Programs, arguments: list[str], says: str) -> None:
    result = programs.run("token", *arguments, **BOTH)

    assert result.exit_code != 0
    assert says in result.output


def test_without_a_connection_string_there_is_no_token(programs: Programs) -> None:
    result = programs.run("token", "--hub", "chat")

    assert result.exit_code == 1
    assert "set AzureSignalRConnectionString" in result.output
    assert "set Other" in programs.run("token", "--hub", "chat", "--connection", "Other").output


# --- explaining -------------------------------------------------------------------------------------------


def test_a_good_client_token_is_explained_for_people(programs: Programs) -> None:
    identity = Identity("ann", claims={"role": ["admin", "host"]})
    endpoint = parse_connection_string(CONNECTION_STRING)
    token = client_access(identity, endpoint=endpoint, hub="chat", now=time.time()).access_token

    result = programs.run("token", "--explain", "-", stdin=f"Bearer {token}\n", **BOTH)

    assert result.exit_code == 0, result.output
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert lines["kind"] == "client token"
    assert lines["audience"] == CLIENT
    assert lines["sealed"] == "claims role"
    assert "key 1 of https://example.service.signalr.net" in result.output
    assert "'asrs.s.uid' 'ann'" in result.output
    assert "PROBLEM" not in result.output
    assert token not in result.output


def test_the_second_key_is_found(programs: Programs) -> None:
    status, found = explain(programs, signed(SECOND_KEY, aud=f"{ORIGIN}/api/hubs/chat/:send"))

    assert (status, found["kind"], found["signedBy"]) == (0, "REST token", f"key 2 of {ORIGIN}")


def test_the_token_can_come_from_the_environment(programs: Programs) -> None:
    result = programs.run("token", "--json", SIGNALR_UPSTREAM_TOKEN_EXPLAIN=signed(), **BOTH)

    assert json.loads(result.output)["kind"] == "client token"


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": int(time.time()) - 300}, "seconds ago: negotiate again"),
        ({"exp": None}, "no usable expiration"),
        ({"exp": "soon"}, "no usable expiration"),
        ({"nbf": int(time.time()) + 900}, "It begins in"),
        ({"aud": "https://other.example/client/?hub=chat"}, "The audience is at https://other.example"),
        ({"aud": f"{ORIGIN}:443/client/?hub=chat"}, "The audience has a port"),
        ({"aud": f"{ORIGIN}/api/hubs/chat/:send?api-version=1"}, "without its query"),
        ({"aud": "chat"}, "The audience is neither"),
        ({"aud": None}, "The audience is neither"),
        ({"aud": [1, "chat"]}, "The audience is neither"),
        ({"long": "x" * 4000}, "the service takes 4096"),
    ],
)
def test_what_is_wrong_with_a_token_is_said(programs: Programs, claims: dict[str, Any], says: str) -> None:
    assert says in problems(programs, signed(**claims))


def test_a_strange_key_is_told_from_a_temporary_one(programs: Programs) -> None:
    assert "signed with none of the configured keys: the service says" in problems(
        programs, signed(OTHER_KEY)
    )
    assert "a temporary key" in problems(programs, signed(OTHER_KEY, headers={"kid": "k1"}))


def test_without_keys_the_signature_stays_open(programs: Programs) -> None:
    assert "The signature cannot be checked" in problems(programs, signed(), AzureSignalRConnectionString="")


def test_another_algorithm_is_no_service_token(programs: Programs) -> None:
    token = jwt.encode({"aud": CLIENT, "exp": int(time.time()) + 60}, KEY * 2, "HS384")

    assert "The algorithm is 'HS384'" in problems(programs, token)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a token",
        "e30.e30",
        "e30.!!!.x",
        "e30.W10.x",
        "e30." + base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".x",
    ],
)
def test_what_is_no_token_is_said(programs: Programs, text: str) -> None:
    result = programs.run("token", "--explain", "-", "--json", stdin=text, **BOTH)

    assert result.exit_code == 1
    assert json.loads(result.output)["problems"]


def test_what_is_no_token_is_said_to_people_too(programs: Programs) -> None:
    result = programs.run("token", "--explain", "no-token", **BOTH)

    kind, problem = result.output.splitlines()
    assert kind == "kind         no JWT"
    assert problem.startswith("PROBLEM      This is no JSON Web Token")


@pytest.mark.parametrize(
    ("audience", "kind"),
    [
        ("https://signalr.azure.com", "Entra ID token for the REST API"),
        ("api://my-app", "Entra ID token, for an upstream call"),
    ],
)
def test_entra_tokens_are_known_by_their_audience(programs: Programs, audience: str, kind: str) -> None:
    claims = {"aud": audience, "exp": int(time.time()) + 60, "iss": "https://sts.windows.net/t/"}
    status, found = explain(programs, signed_by_nobody("RS256", **claims))

    assert status == 0
    assert found["kind"].startswith(kind)
    assert found["claims"] == {"iss": "https://sts.windows.net/t/"}


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "PS256", "none"])
@pytest.mark.parametrize("audience", [CLIENT, f"{ORIGIN}/api/hubs/chat/:send"])
def test_a_token_for_a_url_of_the_service_is_signed_with_an_access_key_only(
    programs: Programs, algorithm: str, audience: str
) -> None:
    assert f"The algorithm is '{algorithm}'" in problems(programs, signed_by_nobody(algorithm, aud=audience))


def test_entra_signs_with_one_algorithm_only(programs: Programs) -> None:
    status, found = explain(programs, signed(aud="https://signalr.azure.com"))

    assert (status, found["kind"]) == (1, "unknown")
    assert "The audience is neither" in found["problems"][0]


def test_a_terminal_obeys_nothing_in_a_token(programs: Programs) -> None:
    token = signed_by_nobody(
        "RS\x1b[2J\n", aud="https://a\x9b\nkind  client token/client/?hub=chat", **{"a\nb": "c\u202e"}
    )

    result = programs.run("token", "--explain", token, **BOTH)

    assert all(line.isprintable() for line in result.output.splitlines())
    assert [line.split()[0] for line in result.output.splitlines()].count("kind") == 1
    assert r"https://a\x9b\nkind  client token/client/?hub=chat" in result.output


def test_a_token_of_other_code_has_no_seal(programs: Programs) -> None:
    _, found = explain(programs, signed())

    assert found["sealed"].startswith("no: made by other code")


def test_a_seal_of_another_user_is_none(programs: Programs) -> None:
    endpoint = parse_connection_string(CONNECTION_STRING)
    token = client_access(Identity("ann", claims={"a": "b"}), endpoint=endpoint, hub="chat", now=time.time())
    claims = jwt.decode(token.access_token, options={"verify_signature": False})

    _, found = explain(programs, signed(**claims | {"asrs.s.uid": "bob"}))

    assert found["sealed"] == "no claims, or a seal of another key or user"
    assert found["claims"] == {"asrs.s.uid": "bob", "a": "b"}


def test_a_time_beyond_all_calendars_is_shown_as_a_number(programs: Programs) -> None:
    result = programs.run("token", "--explain", signed(exp=10**30), **BOTH)

    assert f"expires      {10**30}" in result.output
