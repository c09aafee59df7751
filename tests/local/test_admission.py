"""Who may come in: tokens of clients and of REST calls, strictly and leniently checked."""

import re
from collections.abc import AsyncIterator

import jwt
import pytest

from signalr_upstream.auth import encode_token
from signalr_upstream.claims import Identity, client_access
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.local import LocalService

from .doors import KEY, MESSAGE, NOW, SECOND, SEND, bearer, client_token, http, make, token

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    service = make()
    yield service
    await service.aclose()


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "no bearer token"),
        ({"Authorization": "Basic abc"}, "not one bearer token"),
        (bearer("garbage"), "not an HS256 JWT"),
        (bearer(token(key="x" * 44)), "signature key was not found: .* the service's 2 keys"),
        (
            bearer(token(exp=NOW - 301)),
            r"expired 301 seconds ago, at 1699999699\.0; 300 seconds of clock skew",
        ),
        (bearer(token(nbf=NOW + 301)), r"not valid before 1700000301\.0, in 301 seconds; 300 seconds"),
        (bearer(encode_token({"aud": "http://localhost/api/hubs/chat/:send"}, KEY)), "no usable expiration"),
        (
            bearer(token("/api/hubs/other/:send")),
            "audience is invalid: expected http://localhost/api/hubs/chat/:send,",
        ),
        (bearer(token("/api/hubs/chat/:send?api-version=2022-06-01")), "audience is invalid"),
        (bearer(token("/api/hubs/chat/:send?application=other")), "audience is invalid"),
        (bearer(token("/api/hubs/chat")), "audience is invalid"),
        (bearer(client_token()), "audience is invalid"),
        (bearer(token(aud="https://evil.example/api/hubs/chat/:send")), "audience is invalid"),
        (bearer(token(aud=None)), "audience is invalid"),
        (bearer(token(aud=["http://[", 7])), "audience is invalid"),
        (bearer(token(padding="x" * 4096)), "longer than 4096"),
    ],
)
async def test_a_strict_service_says_what_it_expected(
    service: LocalService, headers: dict[str, str], said: str
) -> None:
    response = await http(service, **headers).post(SEND, json=MESSAGE)

    answer = response.json()
    assert (response.status_code, answer["code"]) == (401, "Unauthorized")
    assert re.search(said, answer["message"])
    assert response.headers["www-authenticate"].startswith("Bearer")
    for value in headers.values():
        assert value.removeprefix("Bearer ") not in response.text + response.headers["www-authenticate"]


@pytest.mark.parametrize(
    "value",
    [
        token(),
        token(key=SECOND),
        token(exp=NOW - 299, nbf=NOW + 299),
        # rest-and-management.md 3.1: the newest SDK, that of March 2024 and the documentation, and what people write
        token("/api/hubs/chat/:send?api-version=2024-12-01"),
        token(aud="http://localhost:8888/api/hubs/chat/:send"),
        token(aud="HTTP://127.0.0.1/API/hubs/Chat/:send?api-version=2024-12-01"),
        token(aud="https://[::1]/api/hubs/chat/:send/"),
        token(aud=["x", "http://localhost/api/hubs/chat/%3Asend"]),
        jwt.encode(
            {"aud": "http://localhost/api/hubs/chat/:send", "exp": NOW}, KEY, headers={"kid": "-19927"}
        ),
    ],
)
async def test_good_tokens_are_taken(service: LocalService, value: str) -> None:
    assert (await http(service, **bearer(value)).post(SEND, json=MESSAGE)).status_code == 202


async def test_an_audience_repeats_the_query_or_a_part_of_it(service: LocalService) -> None:
    target = SEND + "&application=App&excluded=c1"

    for audience in (
        "http://localhost/api/hubs/chat/:send?application=app&api-version=2024-12-01",
        f"http://localhost{target}",
    ):
        headers = bearer(token(aud=audience))
        assert (await http(service, **headers).post(target, json=MESSAGE)).status_code == 202
    refused = await http(service, **bearer(token(f"{target}&excluded=c2"))).post(target, json=MESSAGE)
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("audience", "status"),
    [("groups/a%2Fb", 200), ("groups/a%2fb", 200), ("groups/a/b", 401), ("groups/a", 401)],
)
async def test_a_slash_in_a_name_stays_in_it(service: LocalService, audience: str, status: int) -> None:
    path = "/api/hubs/chat/users/u/groups/a%2Fb"
    value = token(f"/api/hubs/chat/users/u/{audience}")

    response = await http(service, **bearer(value)).put(f"{path}?api-version=2024-12-01")

    assert response.status_code == status


async def test_what_is_expected_of_a_client_is_its_hub(service: LocalService) -> None:
    response = await http(service, **bearer(client_token("other"))).post("/client/negotiate?hub=Chat")

    assert response.status_code == 401
    assert response.text.startswith("The audience is invalid: expected http://localhost/client/?hub=chat,")


async def test_nothing_in_a_challenge_ends_it(service: LocalService) -> None:
    response = await http(service, Host="[::1]:1", **bearer(token())).post(
        "/client/negotiate?hub=a%22%0D%0A%5C%C3%BC"
    )

    assert response.headers["www-authenticate"] == (
        'Bearer error="invalid_token", error_description="The audience is invalid: expected '
        'http://[::1]/client/?hub=a?????, with or without a port."'
    )


async def test_two_authorization_headers_are_refused(service: LocalService) -> None:
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", "Bearer x")]

    assert (await http(service).post(SEND, headers=headers, json=MESSAGE)).status_code == 401


async def test_a_lenient_service_takes_expired_tokens_for_anything_but_no_other_key() -> None:
    client = http(make(lenient=True))

    expired = await client.post("/api/hubs/chat", headers=bearer(client_token(exp=1)), json=MESSAGE)
    foreign = await client.post("/api/hubs/chat", headers=bearer(token(key="x" * 44)), json=MESSAGE)

    assert (expired.status_code, foreign.status_code) == (202, 401)


async def test_our_own_client_access_opens_negotiate(service: LocalService) -> None:
    endpoint = parse_connection_string(service.connection_string)
    access = client_access(Identity("ann"), endpoint=endpoint, hub="Chat", application="App", now=NOW)

    response = await http(service, **bearer(access.access_token)).post("/client/negotiate?hub=app_chat")

    assert response.status_code == 200
    other = await http(service, **bearer(access.access_token)).post("/client/negotiate?hub=other")
    assert other.status_code == 401
