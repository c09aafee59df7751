"""What the service hands out: tokens for clients, and temporary keys to sign such tokens with."""

from collections.abc import AsyncIterator

import jwt
import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.rest.signing_keys import SigningKeys

from ..doors import KEY, NOW, bearer, call, http, make

pytestmark = pytest.mark.anyio

GENERATE = "/api/hubs/Chat/:generateToken"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def service(clock: ManualClock) -> AsyncIterator[LocalService]:
    service = make(clock=clock)
    yield service
    await service.aclose()


async def negotiate(service: LocalService, token: str, hub: str = "chat") -> int:
    response = await http(service, **bearer(token)).post(f"/client/negotiate?hub={hub}")
    return response.status_code


def claims_of(token: str) -> dict[str, object]:
    claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def test_a_generated_token_opens_the_hub_for_the_user(service: LocalService) -> None:
    response = await call(service, "POST", f"{GENERATE}?userId=ann&minutesToExpire=5")

    token = response.json()["token"]
    assert claims_of(token) == {
        "asrs.s.uid": "ann",
        "nbf": NOW,
        "exp": NOW + 300,
        "iat": NOW,
        "iss": "azure-signalr",
        "aud": "http://localhost/client/?hub=chat",
    }
    assert await negotiate(service, token) == 200
    assert await negotiate(service, token, "other") == 401


async def test_without_options_it_is_for_anybody_and_an_hour(
    service: LocalService, clock: ManualClock
) -> None:
    token = (await call(service, "POST", GENERATE)).json()["token"]
    claims = claims_of(token)

    assert "asrs.s.uid" not in claims
    assert claims["exp"] == NOW + 3600
    clock.advance(3600)
    assert await negotiate(service, token) == 401


@pytest.mark.parametrize("minutes", ["0", "-1", "x", "1.5", "9999999999"])
async def test_minutes_are_a_number_from_one_on(service: LocalService, minutes: str) -> None:
    response = await call(service, "POST", f"{GENERATE}?minutesToExpire={minutes}")

    assert response.status_code == 400
    assert "minutesToExpire must be a whole number from 1" in response.json()["message"]


# --- temporary keys ---


def signed(key: str, *, kid: str | None, exp: float = NOW + 86400) -> str:
    claims = {"aud": "http://localhost/client/?hub=chat", "exp": exp}
    return jwt.encode(claims, key, headers=None if kid is None else {"kid": kid})


@pytest.mark.parametrize(
    ("path", "version"), [("/api/auth/accessKey", "2023-07-01"), ("/api/v1/auth/accessKey", "")]
)
async def test_a_temporary_key_signs_tokens_that_name_it(
    service: LocalService, path: str, version: str
) -> None:
    response = await call(service, "GET", path, version=version)

    answer = response.json()
    key, kid = answer["AccessKey"], answer["KeyId"]
    assert set(answer) == {"AccessKey", "KeyId"}
    assert await negotiate(service, signed(key, kid=kid)) == 200
    assert await negotiate(service, signed(key, kid=None)) == 401  # the service finds a key by its id
    assert await negotiate(service, signed(key, kid="t-other")) == 401
    assert await negotiate(service, signed(KEY, kid=kid)) == 401


async def test_temporary_keys_rotate_and_die(service: LocalService, clock: ManualClock) -> None:
    # rest-and-management.md 3.5: rotated hourly, valid for 90 minutes
    first = (await call(service, "GET", "/api/auth/accessKey")).json()
    clock.advance(3599)
    again = (await call(service, "GET", "/api/auth/accessKey")).json()
    clock.advance(1)
    second = (await call(service, "GET", "/api/auth/accessKey")).json()
    old = signed(first["AccessKey"], kid=first["KeyId"])
    clock.advance(1799)
    alive = await negotiate(service, old)
    clock.advance(1)

    assert first == again != second
    assert (alive, await negotiate(service, old)) == (200, 401)
    assert await negotiate(service, signed(second["AccessKey"], kid=second["KeyId"])) == 200


def test_keys_are_in_no_repr(clock: ManualClock) -> None:
    keys = SigningKeys([KEY], clock)
    temporary = keys.temporary()

    shown = repr(keys) + repr(temporary) + repr(keys.__dict__["_temporary"])
    assert KEY not in shown
    assert temporary.key not in shown
