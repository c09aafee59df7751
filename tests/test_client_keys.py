"""The client and keys that change, endpoints that fail, and Entra ID in place of a key."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import jwt
import pytest

from signalr_upstream import Context, Hub, Identity, ServiceClient, UpstreamApp
from signalr_upstream.errors import (
    ConfigurationError,
    CredentialError,
    DeliveryUnknown,
    PartialDelivery,
    ServiceError,
    UnauthorizedError,
)
from signalr_upstream.rest.access_keys import SigningKey

from .support import CONNECTION_STRING, KEY, OTHER_CONNECTION_STRING, OTHER_KEY, RestService, invoke

pytestmark = pytest.mark.anyio

TEMPORARY_KEY = "TemporaryKeyOfTheServiceForTests_0123456789AB"
KEYLESS = "Endpoint=https://chat.service.signalr.net;Version=1.0;"


def bearer(request: httpx.Request) -> str:
    return request.headers["authorization"].removeprefix("Bearer ")


def signed_with(key: str, token: str) -> bool:
    try:
        jwt.decode(token, key, algorithms=["HS256"], options={"verify_aud": False})
    except jwt.InvalidSignatureError:
        return False
    return True


# --- keys that change ---


class Rotated:
    """The service after its key was regenerated, and a vault that has the new key, or not yet."""

    def __init__(self) -> None:
        self.key = OTHER_KEY
        self.in_vault = KEY
        self.busy: list[int] = []  # the numbers of requests that are answered 503
        self.service = RestService(self._answer)
        self.client = ServiceClient(
            lambda: CONNECTION_STRING.replace(KEY, self.in_vault), http_client=self.service.client
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if len(self.service.requests) in self.busy:
            return httpx.Response(503)
        return httpx.Response(202 if signed_with(self.key, bearer(request)) else 401)


async def test_a_token_that_is_refused_is_made_with_the_new_key_and_the_call_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_AT_MOST_EVERY", 0.0)
    rotated = Rotated()
    rotated.in_vault = OTHER_KEY

    await rotated.client.hub("chat").clients.all.send("hello")

    assert len(rotated.service.requests) == 2
    await rotated.client.hub("chat").clients.all.send("hello")
    assert len(rotated.service.requests) == 3


@pytest.mark.parametrize(("busy", "requests"), [([1], 3), ([2], 4), ([1, 2, 4], 6)])
async def test_a_key_may_change_while_a_call_is_repeated(
    busy: list[int], requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_AT_MOST_EVERY", 0.0)
    rotated = Rotated()
    rotated.in_vault = OTHER_KEY
    rotated.busy = busy

    await rotated.client.hub("chat").clients.all.send("hello")

    assert len(rotated.service.requests) == requests


async def test_a_token_that_is_refused_is_an_error_where_there_is_no_other_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_AT_MOST_EVERY", 0.0)
    rotated = Rotated()

    with pytest.raises(UnauthorizedError):
        await rotated.client.hub("chat").clients.all.send("hello")

    assert len(rotated.service.requests) == 1


async def test_a_vault_that_does_not_answer_holds_no_call_longer_than_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_AT_MOST_EVERY", 0.0)
    vault_answers = threading.Event()
    asked = iter([True])

    def ask() -> str:
        if not next(asked, False):
            vault_answers.wait()
        return CONNECTION_STRING

    service = RestService(lambda _: httpx.Response(401))
    client = ServiceClient(ask, http_client=service.client, timeout=0.05)

    async with asyncio.timeout(5):
        with pytest.raises(UnauthorizedError):
            await client.hub("chat").clients.all.send("hello")

    vault_answers.set()
    await client.endpoints.answered()


async def test_seals_of_a_new_key_open_as_soon_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [KEY]
    hub = Hub("chat")

    @hub.on("whoAmI")
    async def who_am_i(ctx: Context) -> list[str]:
        return list(ctx.claims.get("role", ()))

    app = UpstreamApp(hub, connection_string=lambda: [CONNECTION_STRING.replace(KEY, key) for key in keys])
    await app.aclose()

    async def roles() -> Any:
        access = await hub.client_access(Identity("ann", claims={"role": ["admin"]}))
        token = jwt.decode(access.access_token, options={"verify_signature": False})
        answer = await invoke(app, "whoAmI", key=keys[0], user_id="ann", claims=f"su: {token['su']}")
        return answer["result"]

    assert await roles() == ["admin"]
    keys[:] = [OTHER_KEY, KEY]
    endpoints = app.hub(hub)._service.endpoints
    monkeypatch.setattr("signalr_upstream.endpoints.ASK_AT_MOST_EVERY", 0.0)
    await endpoints.after_refusal(endpoints.all[0])
    assert await roles() == ["admin"]


# --- endpoints that fail ---


class Two:
    """Two endpoints, each with what it answers; looks at their health included."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[], httpx.Response]] = {}
        self.requests: list[str] = []
        transport = httpx.MockTransport(self._answer)
        self.client = ServiceClient(
            [CONNECTION_STRING, OTHER_CONNECTION_STRING], http_client=httpx.AsyncClient(transport=transport)
        )
        self.hub = self.client.hub("chat")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.host.partition(".")[0]
        self.requests.append(f"{name} {request.method}")
        return self.answers.get(name, lambda: httpx.Response(202))()

    def take(self) -> list[str]:
        taken, self.requests = sorted(self.requests), []
        return taken


def refuse() -> httpx.Response:
    raise httpx.ConnectError("refused")


async def test_an_endpoint_that_dies_is_left_out_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalr_upstream.rest.health.LOOK_AGAIN_EVERY", 0.0)
    monkeypatch.setattr("signalr_upstream.rest.repeating.ATTEMPTS", 1)
    two = Two()
    two.answers["other"] = refuse
    with pytest.raises(PartialDelivery):
        await two.hub.clients.all.send("hello")

    while "other POST" in two.take():  # until it has failed twice, or a look has found it dead
        with contextlib.suppress(PartialDelivery):
            await two.hub.clients.all.send("hello")
    await two.hub.clients.all.send("hello")
    assert "other POST" not in two.take()
    urls = {(await two.hub.client_access(Identity("ann"))).url for _ in range(20)}
    assert urls == {"https://chat.service.signalr.net/client/?hub=chat"}

    two.answers.clear()
    while "other POST" not in two.take():  # a look finds it well, and the next call goes there again
        await two.hub.clients.all.send("hello")
        await asyncio.sleep(0)


async def test_clients_that_do_not_answer_are_no_reason_to_leave_an_endpoint_out() -> None:
    two = Two()
    quiet = False

    def answer() -> httpx.Response:
        if quiet:
            raise httpx.ReadTimeout("the client does not answer")
        return httpx.Response(202)

    two.answers["other"] = answer
    one_of_other = two.client.hub("chat", origin="https://other.service.signalr.net").clients.connection("c1")
    await two.hub.clients.all.send("hello")
    quiet = True
    for _ in range(3):
        with pytest.raises(DeliveryUnknown):
            await one_of_other.invoke("ask")
    quiet = False
    two.take()

    await two.hub.clients.all.send("hello")

    assert [line for line in two.take() if "POST" in line] == ["chat POST", "other POST"]


async def test_health_is_that_of_every_endpoint() -> None:
    two = Two()

    assert await two.client.health()
    two.answers["other"] = lambda: httpx.Response(500)
    assert not await two.client.health()


# --- Entra ID ---


class AccessToken(NamedTuple):
    token: str
    expires_on: float


class Credential:
    def __init__(self) -> None:
        self.asked = 0

    async def get_token(self, *scopes: str) -> AccessToken:
        self.asked += 1
        return AccessToken(f"entra{self.asked}", time.time() + 3600)


class Entra:
    """A service that takes Entra ID tokens, and gives a temporary key for client tokens."""

    def __init__(self) -> None:
        self.credential = Credential()
        self.keys = [{"AccessKey": TEMPORARY_KEY, "KeyId": "t-1"}]
        self.refused: list[httpx.Response] = []
        self.service = RestService(self._answer)
        self.client = ServiceClient(
            KEYLESS, credential=self.credential, seal_key="s" * 44, http_client=self.service.client
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        if self.refused:
            return self.refused.pop()
        if request.url.path == "/api/auth/accessKey":
            return httpx.Response(200, json=self.keys[-1])
        return httpx.Response(202)


async def test_calls_carry_the_credentials_token() -> None:
    entra = Entra()

    await entra.client.hub("chat").clients.all.send("hello")
    await entra.client.hub("chat").clients.user("ann").send("hello")

    assert [bearer(request) for request in entra.service.requests] == ["entra1", "entra1"]


async def test_a_client_token_is_signed_with_the_temporary_key_that_is_fetched_once() -> None:
    entra = Entra()
    hub = entra.client.hub("chat")

    first, _ = [await hub.client_access(Identity("ann")) for _ in range(2)]

    assert jwt.get_unverified_header(first.access_token)["kid"] == "t-1"
    assert signed_with(TEMPORARY_KEY, first.access_token)
    assert entra.service.lines == ["GET chat.service.signalr.net/api/auth/accessKey"]


def test_a_signing_key_does_not_show_itself() -> None:
    assert repr(SigningKey(KEY, "t-1")) == "SigningKey(key=<redacted>, key_id='t-1')"


async def test_claims_need_a_seal_key_where_there_is_no_access_key() -> None:
    client = ServiceClient(KEYLESS, credential=Credential(), http_client=RestService().client)

    with pytest.raises(ConfigurationError, match="seal_key is missing"):
        await client.hub("chat").client_access(Identity("ann"))


@pytest.mark.parametrize(
    "answer", ["", "{}", '{"AccessKey":"","KeyId":"t-1"}', '{"AccessKey":"short","KeyId":"t"}', "[" * 5000]
)
async def test_an_answer_without_a_key_is_an_error_that_says_so(answer: str) -> None:
    service = RestService(lambda _: httpx.Response(200, text=answer))
    client = ServiceClient(KEYLESS, credential=Credential(), seal_key="s" * 44, http_client=service.client)

    with pytest.raises(ServiceError, match="no usable AccessKey"):
        await client.hub("chat").client_access(Identity("ann"))


async def test_a_key_that_the_service_had_not_heard_of_is_asked_for_once_more() -> None:
    entra = Entra()
    said = "The signature key was not found"
    entra.refused = [httpx.Response(401, headers={"www-authenticate": f'Bearer error_description="{said}"'})]

    await entra.client.hub("chat").clients.all.send("hello")

    assert [bearer(request) for request in entra.service.requests] == ["entra1", "entra2"]


async def test_any_other_refusal_is_an_error() -> None:
    entra = Entra()
    entra.refused = [httpx.Response(401, text="The audience is invalid")]

    with pytest.raises(UnauthorizedError, match="audience"):
        await entra.client.hub("chat").clients.all.send("hello")


async def test_a_credential_that_gives_nothing_fails_the_call_before_anything_is_sent() -> None:
    class Broken:
        async def get_token(self, *scopes: str) -> AccessToken:
            raise OSError("no identity here")

    service = RestService()

    with pytest.raises(CredentialError, match="Broken gave no token"):
        await (
            ServiceClient(KEYLESS, credential=Broken(), http_client=service.client)
            .hub("chat")
            .clients.all.send("t")
        )

    assert service.requests == []


async def test_negotiate_is_answered_503_while_no_key_can_be_had(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub("chat")

    @hub.negotiate
    async def who(request: Any) -> Identity:
        return Identity("ann")

    service = RestService(lambda _: httpx.Response(403, text="no role"))
    app = UpstreamApp(
        hub,
        connection_string=KEYLESS,
        credential=Credential(),
        upstream_keys=[KEY],
        seal_key="s" * 44,
        http_client=service.client,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        answer = await client.post("/chat/negotiate")

    assert answer.status_code == 503
    assert "try again" in json.loads(answer.text)["detail"]
    assert "403" in caplog.text


async def test_a_credential_that_never_answers_fails_the_call_in_its_time() -> None:
    class Hanging:
        async def get_token(self, *scopes: str) -> AccessToken:
            await asyncio.Event().wait()
            raise AssertionError

    service = RestService()
    client = ServiceClient(KEYLESS, credential=Hanging(), http_client=service.client, timeout=0.05)

    async with asyncio.timeout(5):
        with pytest.raises(CredentialError, match=r"Hanging gave no token within 0\.05 seconds"):
            await client.hub("chat").clients.all.send("hello")

    assert service.requests == []
