"""Entra ID tokens of the service's own issuer, in place of access keys: what they open and what they do not."""

from collections.abc import AsyncIterator

import jwt
import pytest

from signalr_upstream import Identity, ServiceClient
from signalr_upstream.errors import UnauthorizedError
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.issuer import LIFETIME, REST_RESOURCE

from ..doors import MESSAGE, NOW, SEND, bearer, http, make
from ..test_service import HANDSHAKE, connect, open_session

pytestmark = pytest.mark.anyio

SCOPE = f"{REST_RESOURCE}/.default"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def service(clock: ManualClock) -> AsyncIterator[LocalService]:
    service = make(clock=clock)
    yield service
    await service.aclose()


async def send(service: LocalService, token: str) -> tuple[int, str]:
    response = await http(service, **bearer(token)).post(SEND, json=MESSAGE)
    return response.status_code, response.json()["message"] if response.content else ""


async def test_a_token_for_the_service_opens_the_rest_api(service: LocalService) -> None:
    token = service.credential.get_token(SCOPE, tenant_id="any")

    assert await send(service, token.token) == (202, "")
    assert token.expires_on == NOW + LIFETIME
    assert token.token not in repr(token)


async def test_a_token_for_anything_else_opens_nothing(service: LocalService) -> None:
    other = service.credential.get_token("https://webpubsub.azure.com/.default").token
    good = service.credential.get_token(SCOPE).token
    header, _, signature = good.split(".")
    forged = f"{header}.{other.split('.')[1]}.{signature}"

    assert await send(service, other) == (
        401,
        f"The audience is invalid: expected an Entra ID token for {REST_RESOURCE}.",
    )
    assert await send(service, forged) == (401, "The signature of the Entra ID token is wrong.")
    # Keys that anybody can make are no key of this issuer's: not even under its id.
    kid = jwt.get_unverified_header(good)["kid"]
    claims = jwt.decode(good, options={"verify_signature": False})
    own = jwt.encode(claims, "x" * 44, algorithm="HS256", headers={"kid": kid})
    assert await send(service, own) == (401, "The signature of the Entra ID token is wrong.")
    connected = await http(service, **bearer(good)).post("/client/negotiate?hub=chat")
    assert connected.status_code == 401


async def test_a_token_of_another_service_is_not_known_here(service: LocalService) -> None:
    other = make()

    status, said = await send(service, other.credential.get_token(SCOPE).token)

    assert (status, said.partition(":")[0]) == (401, "The signature key was not found")
    await other.aclose()


async def test_a_token_ends(service: LocalService, clock: ManualClock) -> None:
    token = service.credential.get_token(SCOPE).token

    clock.advance(LIFETIME + 299)  # Azure allows five minutes for clocks that are wrong
    assert await send(service, token) == (202, "")
    clock.advance(1)
    assert (await send(service, token))[0] == 401


async def test_the_fault_of_expired_tokens_is_one_of_these_too(service: LocalService) -> None:
    service.faults.rest_token_expired = True

    status, said = await send(service, service.credential.get_token(SCOPE).token)

    assert status == 401
    assert "fault" in said


async def test_a_lenient_service_takes_what_has_ended() -> None:
    clock = ManualClock(NOW)
    service = make(clock=clock, lenient=True)
    token = service.credential.get_token(SCOPE).token

    clock.advance(2 * LIFETIME)

    assert (await send(service, token))[0] == 202
    await service.aclose()


async def test_a_client_without_an_access_key_sends_and_lets_clients_connect() -> None:
    async with LocalService() as service:
        keyless = f"Endpoint={service.url};Version=1.0;"
        async with ServiceClient(keyless, credential=service.credential, seal_key="s" * 44) as sender:
            access = await sender.hub("chat").client_access(Identity("ann"))
            assert jwt.get_unverified_header(access.access_token)["kid"].startswith("t-")

            async with connect(service, Authorization=f"Bearer {access.access_token}") as client:
                await open_session(client)
                await sender.hub("chat").clients.user("ann").send("t", 1)
                assert await client.recv() == '{"type":1,"target":"t","arguments":[1]}\x1e'


async def test_keys_are_changed_while_it_runs() -> None:
    first, second, third = "f" * 44, "s" * 44, "t" * 44
    async with LocalService(keys=[first, second]) as service:
        before = service.connection_string
        async with ServiceClient(before) as old, connect(service) as client:
            await client.send(HANDSHAKE)
            assert await client.recv() == "{}\x1e"

            service.keys = (third, second)

            assert service.keys == (third, second)
            assert f"AccessKey={third};" in service.connection_string
            with pytest.raises(UnauthorizedError):
                await old.hub("chat").clients.all.send("t", "with a key that is none any more")
            for key in (second, third):
                async with ServiceClient(before.replace(first, key)) as new:
                    await new.hub("chat").clients.all.send("t", 1)
                    assert await client.recv() == '{"type":1,"target":"t","arguments":[1]}\x1e'


async def test_endpoints_have_each_a_proof_of_their_own() -> None:
    async with LocalService() as keyed, LocalService() as entra:
        strings = [keyed.connection_string, f"Endpoint={entra.url};Version=1.0;"]
        async with ServiceClient(strings, credential=entra.credential, seal_key="s" * 44) as sender:
            hub = sender.hub("chat")
            async with connect(keyed) as one, connect(entra) as other:
                for client in (one, other):
                    await open_session(client)

                await hub.clients.all.send("t", 1)

                for client in (one, other):
                    assert await client.recv() == '{"type":1,"target":"t","arguments":[1]}\x1e'
            urls = {(await hub.client_access(Identity("ann"))).url for _ in range(50)}
            assert urls == {f"{service.url}/client/?hub=chat" for service in (keyed, entra)}
            assert [call.path for call in entra.rest_calls].count("/api/auth/accessKey") == 1
            assert "/api/auth/accessKey" not in [call.path for call in keyed.rest_calls]
