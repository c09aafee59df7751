"""Entra ID tokens on upstream calls: which ones prove something, and beside which signature."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from signalr_upstream import Hub, UpstreamApp
from signalr_upstream.endpoints import ASK_EVERY, Endpoints
from signalr_upstream.entra import EntraUpstream
from signalr_upstream.errors import ConfigurationError, NoKeysError, SignatureError, TokenError
from signalr_upstream.local import LocalService, UpstreamTemplate
from signalr_upstream.local.issuer import APPLICATION_ID as LOCAL_APPLICATION_ID
from signalr_upstream.local.issuer import OBJECT_ID as LOCAL_OBJECT_ID
from signalr_upstream.local.issuer import TENANT_ID as LOCAL_TENANT
from signalr_upstream.published_keys import FETCH_AT_MOST_EVERY, KEEP
from signalr_upstream.transports.transport import Answer
from signalr_upstream.upstream_tokens import (
    LEEWAY,
    MAX_CACHED,
    MAX_TOKEN_LENGTH,
    UpstreamProof,
    UpstreamTokens,
    tokens_of,
)

from .issuer import (
    APPLICATION_ID,
    AUDIENCE,
    KEYS_URL,
    OBJECT_ID,
    STRANGER,
    TENANT,
    V1,
    V2,
    Issuer,
    entra,
    make_key,
)
from .local.test_service import connect, open_session
from .service import Service
from .support import (
    CONNECTION_STRING,
    KEY,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    Recorder,
    asgi_scope,
    call_asgi,
    call_headers,
    detail,
    invocation,
    post,
    receive_nothing,
    with_header,
)

pytestmark = pytest.mark.anyio

KEYLESS = "Endpoint=https://chat.service.signalr.net;AuthType=azure;Version=1.0;"
OTHER_KEYLESS = "Endpoint=https://other.service.signalr.net;AuthType=azure;Version=1.0;"
OTHER_OBJECT_ID = "0c5a4e9c-0000-4000-8000-0000000000d4"
CHAT_URL = "https://chat.service.signalr.net"
OTHER_URL = "https://other.service.signalr.net"


class Guarded:
    """An app that asks for tokens, started, and the issuer of them."""

    def __init__(self, issuer: Issuer, **options: Any) -> None:
        self.issuer = issuer
        self.http_client = issuer.client()
        options = {"entra": entra(), "connection_string": CONNECTION_STRING, **options}
        self.recorder = Recorder(http_client=self.http_client, **options)
        self.app = self.recorder.app

    async def post(self, token: str | None = None, **changes: str | None) -> httpx.Response:
        """One signed call with a token; ``changes`` are headers, with ``_`` for ``-``."""
        bearer = None if token is None else f"Bearer {token}"
        headers = with_header(call_headers("echo"), "Authorization", bearer)
        for name, value in changes.items():
            headers = with_header(headers, name.replace("_", "-"), value)
        return await post(self.app, headers, invocation("echo", "a"))

    async def statuses(self, *tokens: str | None) -> list[int]:
        return [(await self.post(token)).status_code for token in tokens]


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(autouse=True)
def nothing_was_asked(issuer: Issuer) -> None:
    issuer.requests.clear()
    issuer.reply = None


@pytest.fixture
async def guarded(issuer: Issuer) -> AsyncIterator[Guarded]:
    async with started(issuer) as guarded:
        yield guarded


def started(issuer: Issuer, **options: Any) -> Any:
    guarded = Guarded(issuer, **options)

    class Started:
        async def __aenter__(self) -> Guarded:
            self.lifespan = guarded.app.router.lifespan_context(guarded.app)
            await self.lifespan.__aenter__()
            return guarded

        async def __aexit__(self, *exc_info: Any) -> None:
            await self.lifespan.__aexit__(*exc_info)
            await guarded.http_client.aclose()

    return Started()


# --- which tokens ---


async def test_a_call_needs_the_signature_and_the_token(guarded: Guarded) -> None:
    token = guarded.issuer.token()

    assert (await guarded.post(token)).status_code == 200
    assert (await guarded.post(token, X_ASRS_Signature=None)).status_code == 401
    assert (await guarded.post(token, X_ASRS_Signature="sha256=" + "0" * 64)).status_code == 401
    assert "is missing" in detail(await guarded.post(), 401)
    assert guarded.recorder.calls == ["a"]


async def test_the_keys_are_fetched_before_the_first_call_and_from_the_configured_address(
    guarded: Guarded,
) -> None:
    assert guarded.issuer.requests == [KEYS_URL]

    assert await guarded.statuses(*[guarded.issuer.token()] * 3) == [200] * 3
    assert guarded.issuer.requests == [KEYS_URL]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": V2, "ver": "2.0", "appid": None, "azp": APPLICATION_ID},
        {"oid": OBJECT_ID.upper()},
        {"aud": ["other", AUDIENCE]},
        {"nbf": None},
        {"exp": lambda now: now - 5},
        {"nbf": lambda now: now + LEEWAY},
    ],
)
async def test_tokens_that_are_good(guarded: Guarded, claims: dict[str, Any]) -> None:
    assert await guarded.statuses(guarded.issuer.token(**claims)) == [200]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iss": "https://sts.windows.net/0c5a4e9c-0000-4000-8000-0000000000ff/"}, "another issuer"),
        ({"iss": V1.rstrip("/")}, "another issuer"),
        ({"iss": V2 + "/"}, "another issuer"),
        ({"iss": V2.replace(".com", ".us")}, "another issuer"),
        ({"iss": None}, "not signed with RS256"),
        ({"aud": "api://other"}, "another audience"),
        ({"aud": AUDIENCE + "/"}, "another audience"),
        ({"aud": ["api://other"]}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": None}, "not signed with RS256"),
        ({"aud": {AUDIENCE: 1}}, "not signed with RS256"),
        ({"oid": STRANGER}, "may not call"),
        ({"oid": None}, "may not call"),
        ({"oid": [OBJECT_ID]}, "may not call"),
        ({"oid": STRANGER, "sub": OBJECT_ID, "tid": OBJECT_ID}, "may not call"),
        ({"scp": "user_impersonation"}, "may not call"),
        ({"exp": lambda now: now - LEEWAY - 1}, "has expired"),
        ({"exp": None}, "not signed with RS256"),
        ({"exp": "9999999999"}, "not signed with RS256"),
        ({"nbf": lambda now: now + LEEWAY + 60}, "not valid yet"),
    ],
)
async def test_tokens_that_prove_nothing(guarded: Guarded, claims: dict[str, Any], said: str) -> None:
    assert said in detail(await guarded.post(guarded.issuer.token(**claims)), 401)
    assert guarded.recorder.calls == []


@pytest.mark.parametrize("claim", ["appid", "azp"])
async def test_an_application_is_an_identity_too(issuer: Issuer, claim: str) -> None:
    async with started(issuer, entra=entra(identities=[STRANGER, APPLICATION_ID])) as guarded:
        ours: dict[str, Any] = {"appid": None, claim: APPLICATION_ID, "oid": OBJECT_ID}
        others: dict[str, Any] = {"appid": None, claim: OBJECT_ID, "oid": OBJECT_ID}

        assert await guarded.statuses(issuer.token(**ours), issuer.token(**others)) == [200, 401]


def unsigned(token: str, **header: Any) -> str:
    """``token`` with another header and without a signature."""
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


async def test_a_token_does_not_choose_how_it_is_checked(guarded: Guarded) -> None:
    issuer = guarded.issuer
    stranger = make_key()
    public = issuer.keys["k1"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = unsigned(issuer.token(), alg="HS256", typ="JWT", kid="k1").rstrip(".")
    signature = base64.urlsafe_b64encode(hmac.digest(pem, text.encode(), "sha256")).rstrip(b"=").decode()
    hmac_with_the_public_key = f"{text}.{signature}"
    document = issuer.document()["keys"][0]

    assert (
        await guarded.statuses(
            issuer.token(key=stranger),
            issuer.token(key=stranger, headers={"jku": "https://evil.example/keys"}),
            issuer.token(key=stranger, headers={"x5u": "https://evil.example/chain"}),
            issuer.token(key=stranger, headers={"jwk": document}),
            issuer.token(headers={"alg": "RS512"}),
            issuer.token(headers={"alg": "PS256"}),
            unsigned(issuer.token(), alg="none", kid="k1"),
            unsigned(issuer.token(), alg="RS256", kid="k1"),
            hmac_with_the_public_key,
            issuer.token()[:-4] + "AAAA",
            issuer.token().rpartition(".")[0],
            "x.y.z",
            "x",
            "",
        )
        == [401] * 14
    )
    # A good one may say what it likes there: nothing is fetched from it.
    good = issuer.token(headers={"jku": "https://evil.example/keys", "x5u": "https://evil.example/chain"})
    assert await guarded.statuses(good) == [200]
    assert set(issuer.requests) == {KEYS_URL}


@pytest.mark.parametrize("kid", [None, "unknown", ["k1"], ""])
async def test_a_token_has_to_name_a_published_key(guarded: Guarded, kid: Any) -> None:
    token = guarded.issuer.token()
    head = {"alg": "RS256", "typ": "JWT"} if kid is None else {"alg": "RS256", "typ": "JWT", "kid": kid}

    assert (await guarded.post(unsigned(token, **head) + "AAAA")).status_code == 401


async def test_a_token_of_absurd_length_is_not_read(guarded: Guarded) -> None:
    assert "longer than" in detail(await guarded.post("a" * (MAX_TOKEN_LENGTH + 1)), 401)


# --- where it stands ---


async def test_the_token_stands_in_either_header(guarded: Guarded) -> None:
    token = guarded.issuer.token()
    other = guarded.issuer.token(jti="other")

    async def status(*lines: tuple[str, str]) -> int:
        plain = with_header(call_headers("echo"), "Authorization", None)
        headers = [(name.encode(), value.encode()) for name, value in [*plain.items(), *lines]]
        answer = await post(guarded.app, headers, invocation("echo", "a"), path="/chat/messages/echo")
        return answer.status_code

    assert await status(("Authentication", f"Bearer {token}")) == 200
    assert await status(("authorization", f"BEARER  {token} ")) == 200
    assert await status(("Authorization", f"Bearer {token}"), ("Authentication", f"Bearer {token}")) == 200
    assert await status(("Authorization", "Basic YTpi"), ("Authentication", f"Bearer {token}")) == 200
    assert await status(("Authorization", f"Bearer {token}"), ("Authentication", f"Bearer {other}")) == 401
    assert await status(("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {other}")) == 401
    assert await status(("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")) == 401
    assert await status(("Authorization", f"Bearer {token}, Bearer {other}")) == 401
    assert await status(("Authorization", token)) == 401
    assert await status(("Authorization", f"Basic {token}")) == 401
    assert await status(("Proxy-Authorization", f"Bearer {token}")) == 401
    assert await status(("Cookie", f"Authorization=Bearer {token}")) == 401


async def test_it_is_refused_before_the_body_is_read(guarded: Guarded) -> None:
    sent = await call_asgi(guarded.app, asgi_scope(call_headers("echo")), receive_nothing)

    assert sent[0]["status"] == 401


# --- the keys ---


async def test_without_keys_a_call_is_answered_at_once_and_may_come_again(issuer: Issuer) -> None:
    guarded = Guarded(issuer)  # its lifespan is not run
    token = issuer.token()

    answer = await guarded.post(token)

    assert "keys could not be fetched yet" in detail(answer, 503)
    assert answer.headers["retry-after"] == "1"
    await guarded.app.services.start()
    assert (await guarded.post(token)).status_code == 200
    await guarded.app.aclose()


class Tokens:
    """The check of tokens with clocks that are only numbers."""

    def __init__(self, issuer: Issuer, *trusted: EntraUpstream) -> None:
        self.issuer = issuer
        self.now = time.time()
        self.error: Exception | None = None
        self.service = Service(self._reply)
        self.tokens = UpstreamTokens(
            trusted or [entra()], self.service, clock=lambda: self.now, keys_clock=lambda: self.now
        )

    def _reply(self, method: str, url: str) -> Any:
        return self.error or Answer(200, [], json.dumps(self.issuer.document()).encode())

    def refused(self, token: str) -> bool:
        try:
            self.tokens.check(token.encode())
        except TokenError:
            return True
        return False


async def test_a_flood_of_unknown_keys_with_a_dead_issuer_harms_no_good_token(issuer: Issuer) -> None:
    tokens = Tokens(issuer)
    await tokens.tokens.start()
    tokens.error = OSError("dead")
    good = issuer.token()
    tokens.now += FETCH_AT_MOST_EVERY
    text = issuer.token(headers={"kid": "KID"})

    for second in range(3):
        for number in range(1000):
            head = {"alg": "RS256", "typ": "JWT", "kid": f"random-{second}-{number}"}
            assert tokens.refused(unsigned(text, **head) + "AAAA")
            if number % 100 == 0:
                assert not tokens.refused(good)
        tokens.now += 1
        await tokens.tokens.sources[0].fetched()

    assert len(tokens.service.requests) == 2
    await tokens.tokens.aclose()


async def test_a_token_is_recognised_until_it_ends(issuer: Issuer) -> None:
    tokens = Tokens(issuer)
    await tokens.tokens.start()
    token = issuer.token(exp=int(tokens.now) + 600)

    assert not tokens.refused(token)
    assert not tokens.refused(token)
    assert repr(tokens.tokens) == "UpstreamTokens(<1 tokens redacted>)"
    tokens.now += 601 + LEEWAY
    assert tokens.refused(token)
    assert repr(tokens.tokens) == "UpstreamTokens(<0 tokens redacted>)"
    await tokens.tokens.aclose()


async def test_a_token_ends_with_its_key(issuer: Issuer) -> None:
    own = Issuer()
    own.keys["k2"] = issuer.keys["k1"]
    tokens = Tokens(own)
    await tokens.tokens.start()
    token = own.token(headers={"kid": "k1"}, key=own.keys["k1"])
    assert not tokens.refused(token)

    del own.keys["k1"]
    tokens.now += FETCH_AT_MOST_EVERY
    await tokens.tokens.start()

    assert tokens.refused(token)
    await tokens.tokens.aclose()


async def test_old_keys_prove_nothing(issuer: Issuer) -> None:
    tokens = Tokens(issuer)
    await tokens.tokens.start()
    token = issuer.token(exp=int(tokens.now + 3 * KEEP))
    assert not tokens.refused(token)
    tokens.error = OSError("dead")
    tokens.now += KEEP - 1
    assert not tokens.refused(token)

    tokens.now += 2

    with pytest.raises(Exception, match="could not be fetched"):
        tokens.tokens.check(token.encode())
    await tokens.tokens.aclose()


async def test_so_many_tokens_are_recognised_and_no_more(issuer: Issuer) -> None:
    tokens = Tokens(issuer)
    await tokens.tokens.start()

    for number in range(MAX_CACHED + 3):
        assert not tokens.refused(issuer.token(jti=str(number)))

    assert repr(tokens.tokens) == f"UpstreamTokens(<{MAX_CACHED} tokens redacted>)"
    await tokens.tokens.aclose()


async def test_a_tenants_keys_say_nothing_about_another_tenant(issuer: Issuer) -> None:
    other_tenant = STRANGER
    other = Issuer()
    other.keys = {"k1-other": other.keys["k1"]}
    ours, theirs = entra(), entra(tenant=other_tenant, identities=[OTHER_OBJECT_ID])
    tokens = Tokens(issuer, ours, theirs)
    reply = tokens.service.reply
    tokens.service.reply = lambda method, url: reply(method, url) if TENANT in url else tokens_document(other)
    await tokens.tokens.start()
    their_issuer = f"https://sts.windows.net/{other_tenant}/"

    assert tokens.tokens.check(other.token(iss=their_issuer, oid=OTHER_OBJECT_ID).encode()) is theirs
    assert tokens.tokens.check(issuer.token().encode()) is ours
    assert tokens.refused(other.token())
    assert tokens.refused(other.token(iss=their_issuer))
    assert tokens.refused(issuer.token(iss=their_issuer, oid=OTHER_OBJECT_ID))
    await tokens.tokens.aclose()


def tokens_document(issuer: Issuer) -> Any:
    return Answer(200, [], json.dumps(issuer.document()).encode())


@settings(max_examples=200, deadline=None)
@given(
    token=st.binary(max_size=200) | st.text(max_size=60).map(lambda text: f"{text}.{text}.{text}".encode())
)
def test_nothing_but_a_token_is_one(issuer: Issuer, token: bytes) -> None:
    async def check() -> None:
        tokens = Tokens(issuer)
        await tokens.tokens.start()
        with pytest.raises(TokenError):
            tokens.tokens.check(token)
        await tokens.tokens.aclose()

    asyncio.run(check())


# --- which proofs an endpoint has ---


async def test_without_keys_the_token_alone_is_the_proof(issuer: Issuer) -> None:
    async with started(issuer, connection_string=KEYLESS) as guarded:
        assert (await guarded.post(issuer.token(), X_ASRS_Signature=None)).status_code == 200
        assert (await guarded.post(None)).status_code == 401
        assert (await guarded.post(issuer.token(oid=STRANGER))).status_code == 401


@pytest.mark.parametrize(
    "options",
    [
        {"connection_string": KEYLESS, "upstream_keys": ["${NOT_EXPANDED}"]},
        {"connection_string": "Endpoint=https://chat.service.signalr.net;AccessKey=@Microsoft.KeyVault(x);"},
        {"connection_string": "Endpoint=https://chat.service.signalr.net;AccessKey=;"},
    ],
)
async def test_a_key_that_is_none_does_not_leave_the_token_alone(
    issuer: Issuer, options: dict[str, Any]
) -> None:
    guarded = Guarded(issuer, **options)

    with pytest.raises(NoKeysError):
        guarded.app.check_keys()
    assert (await guarded.post(issuer.token())).status_code == 503
    assert guarded.recorder.calls == []


async def test_upstream_keys_ask_for_a_signature_beside_the_token(issuer: Issuer) -> None:
    async with started(issuer, connection_string=KEYLESS, upstream_keys=[OTHER_KEY]) as guarded:
        signature = call_headers("echo", key=OTHER_KEY)["X-ASRS-Signature"]

        assert (await guarded.post(issuer.token(), X_ASRS_Signature=signature)).status_code == 200
        assert (await guarded.post(issuer.token())).status_code == 401
        assert (await guarded.post(None, X_ASRS_Signature=signature)).status_code == 401


class TwoEndpoints:
    """An app with two endpoints, and which of them a call is taken to come from."""

    def __init__(
        self, issuer: Issuer, strings: list[str] | Callable[[], list[str]], *trusted: EntraUpstream
    ) -> None:
        self.issuer = issuer
        self.http_client = issuer.client()
        self.tokens = tokens_of(trusted, self.http_client)
        assert self.tokens is not None
        self.now = 1000.0
        self.endpoints = Endpoints.load(strings, environ={}, clock=lambda: self.now)
        self.proof = UpstreamProof(self.endpoints, self.tokens)

    async def ask_again(self) -> None:
        """Ask the function that gives the connection strings."""
        self.now += ASK_EVERY
        self.endpoints.require_keys()
        await self.endpoints.answered()

    def caller(self, key: str | None, **claims: Any) -> str | None:
        """The URL of who called; None if nobody is proven. Without claims there is no token."""
        headers = call_headers("echo", key=key or "WrongKeyWrongKeyWrongKeyWrongKeyWrongKey")
        lines = []
        if claims:
            lines = [(b"authorization", f"Bearer {self.issuer.token(**claims)}".encode())]
        endpoint = self.proof.verify(headers["X-ASRS-Signature"].encode(), b"c1", lines)
        return endpoint.url if endpoint else None

    def refuses(self, key: str | None, **claims: Any) -> bool:
        try:
            self.caller(key, **claims)
        except (SignatureError, TokenError):
            return True
        return False

    async def __aenter__(self) -> "TwoEndpoints":
        assert self.tokens is not None
        await self.tokens.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self.tokens is not None
        await self.tokens.aclose()
        await self.http_client.aclose()


CHAT = {"oid": OBJECT_ID}
OTHER = {"oid": OTHER_OBJECT_ID}


async def test_a_token_names_the_endpoint_that_calls(issuer: Issuer) -> None:
    trusted = [entra(endpoint=CHAT_URL + "/"), entra(endpoint=OTHER_URL, identities=[OTHER_OBJECT_ID])]
    async with TwoEndpoints(issuer, [KEYLESS, OTHER_KEYLESS], *trusted) as two:
        assert two.caller(None, **CHAT) == CHAT_URL
        assert two.caller(None, **OTHER) == OTHER_URL
        assert two.refuses(None, oid=STRANGER)
    async with TwoEndpoints(issuer, [KEYLESS, OTHER_KEYLESS], entra()) as two:
        assert two.caller(None, **CHAT) is None


async def test_each_endpoint_has_its_own_proofs(issuer: Issuer) -> None:
    # chat has keys and tokens, other tokens alone.
    trusted = [entra(endpoint=CHAT_URL), entra(endpoint=OTHER_URL, identities=[OTHER_OBJECT_ID])]
    async with TwoEndpoints(issuer, [CONNECTION_STRING, OTHER_KEYLESS], *trusted) as two:
        assert two.caller(KEY, **CHAT) == CHAT_URL
        assert two.caller(None, **OTHER) == OTHER_URL
        assert two.refuses(None, **CHAT)
        assert two.refuses(KEY)
        assert two.refuses(KEY, **OTHER)  # the one's signature with the other's token


async def test_an_endpoint_that_no_token_names_is_proven_by_its_keys(issuer: Issuer) -> None:
    trusted = [entra(endpoint=OTHER_URL, identities=[OTHER_OBJECT_ID])]
    async with TwoEndpoints(issuer, [CONNECTION_STRING, OTHER_CONNECTION_STRING], *trusted) as two:
        assert two.caller(KEY) == CHAT_URL
        assert two.caller(OTHER_KEY, **OTHER) == OTHER_URL
        assert two.refuses(OTHER_KEY)
        assert two.refuses(None, **OTHER)


@pytest.mark.parametrize(
    "spelled",
    ["https://chat.service.signalr.net:443", "HTTPS://Chat.service.signalr.net/", f" {CHAT_URL}/path"],
)
async def test_an_endpoint_is_the_same_however_it_is_spelled(issuer: Issuer, spelled: str) -> None:
    async with started(issuer, entra=entra(endpoint=spelled)) as guarded:
        assert await guarded.statuses(issuer.token(), None) == [200, 401]


async def test_an_endpoint_that_the_app_does_not_have_is_served_nothing(
    issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = Guarded(issuer, entra=entra(endpoint="https://chat.service.signalr.ne"))

    with pytest.raises(
        ConfigurationError, match=r"no endpoint of this app: https://chat\.service\.signalr\.ne\."
    ):
        guarded.app.check_keys()
    assert await guarded.statuses(None, None) == [503, 503]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert guarded.recorder.calls == []


async def test_an_endpoint_may_be_that_of_another_hub(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OtherConnection", OTHER_CONNECTION_STRING)
    hubs = [Recorder().hub, Hub("other", connection="OtherConnection")]
    trusted = entra(endpoint=OTHER_URL, identities=[OTHER_OBJECT_ID])
    app = UpstreamApp(*hubs, connection_string=CONNECTION_STRING, entra=trusted)

    app.check_keys()
    assert (await post(app, call_headers("echo"), invocation("echo", "a"))).status_code == 200
    of_other = call_headers("echo", hub="other", key=OTHER_KEY)
    assert (await post(app, of_other, invocation("echo", "a"))).status_code == 401
    await app.aclose()


async def test_a_token_is_still_asked_for_when_the_endpoint_gets_another_name(issuer: Issuer) -> None:
    strings = [CONNECTION_STRING]
    async with TwoEndpoints(issuer, lambda: list(strings), entra(endpoint=CHAT_URL)) as two:
        assert two.refuses(KEY)
        strings[0] = OTHER_CONNECTION_STRING

        await two.ask_again()

        with pytest.raises(ConfigurationError, match="no endpoint of this app"):
            two.caller(OTHER_KEY)


async def test_a_token_that_names_no_endpoint_goes_with_every_signature(issuer: Issuer) -> None:
    async with TwoEndpoints(issuer, [CONNECTION_STRING, OTHER_KEYLESS], entra()) as two:
        assert two.caller(KEY, **CHAT) == CHAT_URL
        assert two.refuses(None, **CHAT)  # of the endpoint without keys, or of nobody
        assert two.refuses(KEY)


async def test_an_app_that_is_connected_elsewhere_asks_for_that_services_signature_alone(
    issuer: Issuer,
) -> None:
    guarded = Guarded(issuer)
    guarded.app.connected_to(OTHER_CONNECTION_STRING)
    signature = call_headers("echo", key=OTHER_KEY)["X-ASRS-Signature"]

    assert (await guarded.post(None, X_ASRS_Signature=signature)).status_code == 200
    assert (await guarded.post(issuer.token())).status_code == 401


async def test_insecure_looks_at_nothing(issuer: Issuer) -> None:
    async with started(issuer, insecure=True) as guarded:
        assert (await guarded.post(None, X_ASRS_Signature=None)).status_code == 200


# --- the configuration ---


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tenant": ""}, "needs tenant="),
        ({"tenant": "common"}, "needs tenant="),
        ({"tenant": "${TENANT}"}, "needs tenant="),
        ({"tenant": None}, "needs tenant="),
        ({"audience": ""}, "needs audience="),
        ({"audience": " "}, "needs audience="),
        ({"audience": None}, "needs audience="),
        ({"identities": []}, "needs identities="),
        ({"identities": None}, "needs identities="),
        ({"identities": OBJECT_ID}, "needs identities="),
        ({"identities": [OBJECT_ID, ""]}, "GUIDs"),
        ({"identities": ["*"]}, "GUIDs"),
        ({"cloud": "germany"}, "one of public, usgov, china"),
        ({"authority": "http://login.example"}, "https"),
        ({"authority": "login.example"}, "https"),
        ({"authority": "file:///etc/keys"}, "https"),
        ({"endpoint": "chat.service.signalr.net"}, "URL of a SignalR endpoint"),
        ({"endpoint": ""}, "URL of a SignalR endpoint"),
        ({"endpoint": f"{CHAT_URL}?a=b"}, "URL of a SignalR endpoint"),
    ],
)
def test_what_would_let_everybody_in_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        entra(**changes)


# https://learn.microsoft.com/answers/questions/1190472: issuers by cloud and version.
@pytest.mark.parametrize(
    ("options", "older", "newer"),
    [
        ({}, "https://sts.windows.net", "https://login.microsoftonline.com"),
        ({"cloud": "usgov"}, "https://sts.windows.net", "https://login.microsoftonline.us"),
        ({"cloud": "china"}, "https://sts.chinacloudapi.cn", "https://login.partner.microsoftonline.cn"),
        ({"authority": "http://localhost:8888/"}, "http://localhost:8888", "http://localhost:8888"),
    ],
)
def test_issuers_and_keys_are_those_of_the_cloud(options: dict[str, Any], older: str, newer: str) -> None:
    trusted = entra(tenant=TENANT.upper(), **options)

    assert trusted.issuers == (f"{older}/{TENANT}/", f"{newer}/{TENANT}/v2.0")
    assert trusted.keys_url == f"{newer}/{TENANT}/discovery/v2.0/keys"


def test_no_list_of_tokens_is_empty() -> None:
    with pytest.raises(ConfigurationError, match="entra is empty"):
        Recorder(entra=[])
    assert tokens_of(None, None) is None
    assert tokens_of(entra(), None) is not None


def test_what_has_to_be_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jwt.algorithms.has_crypto", False)

    with pytest.raises(ConfigurationError, match=r"signalr-upstream\[identity\]"):
        UpstreamApp(Recorder().hub, entra=entra())


# --- with the local service ---


@pytest.mark.parametrize("resource", [AUDIENCE, "11111111-2222-3333-4444-555555555555"])
@pytest.mark.parametrize("identity", [LOCAL_OBJECT_ID, LOCAL_APPLICATION_ID])
async def test_the_local_services_tokens_are_taken(resource: str, identity: str) -> None:
    """Over real sockets: the service signs a token, and the app fetches its keys from the service."""
    apps: list[UpstreamApp] = []

    async def front(scope: Any, receive: Any, send: Any) -> None:
        await apps[-1](scope, receive, send)

    async def echo(service: LocalService, **changes: Any) -> str:
        authority = service.entra_authority.removesuffix(f"/{LOCAL_TENANT}/v2.0")
        options = {"tenant": LOCAL_TENANT, "audience": resource, "identities": [identity], **changes}
        recorder = Recorder(
            connection_string=service.connection_string, entra=EntraUpstream(authority=authority, **options)
        )
        apps.append(recorder.app)
        async with recorder.app.router.lifespan_context(recorder.app), connect(service) as client:
            await open_session(client)
            await client.send('{"type":1,"target":"echo","arguments":["a"],"invocationId":"0"}\x1e')
            return str(await client.recv())

    templates = [UpstreamTemplate("http://app/{hub}/{category}/{event}", resource=resource)]
    async with LocalService(front, lifespan=False, upstream=templates) as service:
        assert await echo(service) == '{"type":3,"invocationId":"0","result":"a"}\x1e'
        assert "status code 401" in await echo(service, identities=[STRANGER])
        assert "status code 401" in await echo(service, audience="api://another")
        assert "status code 503" in await echo(service, tenant=TENANT)
