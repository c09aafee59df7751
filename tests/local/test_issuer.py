"""Tokens of managed identities, checked as an app checks Entra's: by the issuer's published key."""

import sys
from typing import Any

import httpx
import jwt
import pytest
from msgspec import Raw

from signalr_upstream.local import LocalService, UpstreamTemplate
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.issuer import (
    APPLICATION_ID,
    LIFETIME,
    MARGIN,
    OBJECT_ID,
    TENANT_ID,
    TokenIssuer,
)
from signalr_upstream.local.records.journal import Journal
from signalr_upstream.local.upstream.delivery import Caller, Upstream
from signalr_upstream.local.upstream.rules import Rules
from signalr_upstream.protocol.messages import Completion, Invocation

from .test_service import connect, open_session

pytestmark = pytest.mark.anyio

BASE = "http://localhost:8888"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
START = 1_700_000_000


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer(lambda: BASE, ManualClock(START))


def check(issuer: TokenIssuer, token: str, audience: str) -> dict[str, Any]:
    """The claims, if the token was signed by the key that is published under its id."""
    published = issuer.document(f"/{TENANT_ID}/discovery/v2.0/keys")
    assert published is not None
    keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(published).keys}
    claims: dict[str, Any] = jwt.decode(
        token,
        keys[jwt.get_unverified_header(token)["kid"]],
        algorithms=["RS256"],
        audience=audience,
        options={"verify_exp": False},
    )
    return claims


def test_a_token_for_a_uri_is_entras_of_version_1(issuer: TokenIssuer) -> None:
    assert check(issuer, issuer.token("api://my-app").token, "api://my-app") == {
        "aud": "api://my-app",
        "iss": f"{BASE}/{TENANT_ID}/",
        "iat": START,
        "nbf": START,
        "exp": START + LIFETIME,
        "idtyp": "app",
        "oid": OBJECT_ID,
        "sub": OBJECT_ID,
        "tid": TENANT_ID,
        "ver": "1.0",
        "appid": APPLICATION_ID,
        "appidacr": "2",
        "idp": f"{BASE}/{TENANT_ID}/",
    }


def test_a_token_for_an_application_id_is_entras_of_version_2(issuer: TokenIssuer) -> None:
    claims = check(issuer, issuer.token(CLIENT_ID).token, CLIENT_ID)

    assert (claims["ver"], claims["iss"]) == ("2.0", f"{BASE}/{TENANT_ID}/v2.0")
    assert (claims["azp"], claims["azpacr"]) == (APPLICATION_ID, "2")
    assert "appid" not in claims


def test_a_token_is_used_until_shortly_before_its_end() -> None:
    clock = ManualClock(START)
    issuer = TokenIssuer(lambda: BASE, clock)
    first = issuer.token("api://my-app").token

    clock.advance(LIFETIME - MARGIN - 1)
    assert issuer.token("api://my-app").token == first
    clock.advance(1)
    second = issuer.token("api://my-app").token

    assert check(issuer, second, "api://my-app")["exp"] == START + LIFETIME - MARGIN + LIFETIME
    assert first not in repr(issuer)


@pytest.mark.parametrize("folder", ["", f"/{TENANT_ID}"])
@pytest.mark.parametrize(("version", "keys"), [("", "/discovery/keys"), ("/v2.0", "/discovery/v2.0/keys")])
def test_the_issuer_publishes_where_its_key_is(
    issuer: TokenIssuer, folder: str, version: str, keys: str
) -> None:
    configuration = issuer.document(f"{folder}{version}/.well-known/openid-configuration")

    assert configuration is not None
    assert configuration["issuer"] == f"{BASE}/{TENANT_ID}/{version.removeprefix('/')}"
    assert configuration["jwks_uri"] == f"{BASE}/{TENANT_ID}{keys}"
    published = issuer.document(f"{folder}{keys}")
    assert published is not None
    assert published["keys"][0].keys() == {"kty", "use", "alg", "kid", "n", "e"}  # and no private part


@pytest.mark.parametrize(
    "path", ["/discovery", "/other/discovery/keys", "/v3.0/.well-known/openid-configuration"]
)
def test_nothing_is_published_elsewhere(issuer: TokenIssuer, path: str) -> None:
    assert issuer.document(path) is None


async def test_calls_bring_a_token_where_the_template_asks_for_one_and_the_app_can_check_it() -> None:
    requests: list[dict[bytes, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            requests.append(dict(scope["headers"]))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    templates = [
        UpstreamTemplate("http://app/{event}", event="connected", resource="api://my-app"),
        UpstreamTemplate("http://app/{event}"),
    ]
    async with LocalService(app, upstream=templates) as service, httpx.AsyncClient() as http:
        async with connect(service) as client:
            await open_session(client)
            await client.send('{"type":1,"target":"t","arguments":[],"invocationId":"0"}\x1e')
            await client.recv()
        issuer = f"{service.entra_authority.removesuffix('/v2.0')}/"
        configuration = await http.get(f"{issuer}.well-known/openid-configuration")
        published = await http.get(configuration.json()["jwks_uri"])
        posted = await http.post(configuration.json()["jwks_uri"])

    connected, invoked = requests[:2]
    assert b"authorization" not in invoked
    scheme, token = connected[b"authorization"].decode().split()
    keys = jwt.PyJWKSet.from_dict(published.json()).keys
    claims = jwt.decode(token, keys[0], algorithms=["RS256"], audience="api://my-app", issuer=issuer)
    assert (scheme, claims["tid"]) == ("Bearer", TENANT_ID)
    assert posted.status_code == 404


async def test_a_call_that_is_made_again_brings_a_token_that_is_good_then() -> None:
    brought: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        brought.append(dict(scope["headers"]).get(b"authorization", b"").decode())
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    clock = ManualClock(START)
    journal = Journal(clock)
    issuer = TokenIssuer(lambda: BASE, clock)
    rules = Rules(
        [
            UpstreamTemplate("http://app/", event="asked", resource="api://my-app"),
            UpstreamTemplate("http://app/"),
        ]
    )
    upstream = Upstream(app=app, rules=rules, keys=["k" * 44], tokens=issuer, journal=journal)
    for target in ("asked", "other"):
        await upstream.call(Caller("c", "chat", None, (), ""), Invocation(target, Raw(b"[]")), binary=False)

    clock.advance(LIFETIME)
    for call in journal.upstream_calls:
        await upstream.replay(call)

    first, none, again, none_again = brought
    assert (none, none_again) == ("", "")
    assert [
        check(issuer, value.removeprefix("Bearer "), "api://my-app")["exp"] for value in (first, again)
    ] == [
        START + LIFETIME,
        START + 2 * LIFETIME,
    ]


async def test_without_the_extra_the_way_to_install_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    rules = Rules([UpstreamTemplate("http://localhost/", resource="api://my-app")])

    completion = await Upstream(rules=rules, keys=["k" * 44]).call(
        Caller("c", "chat", None, (), ""), Invocation("t", Raw(b"[]"), "0"), binary=False
    )

    assert isinstance(completion, Completion)
    assert "python -m pip install 'signalr-upstream[local]'" in (completion.error or "")
