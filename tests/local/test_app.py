"""The doors of the local service over HTTP, without a socket: hosts, origins, negotiate."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService

from .doors import KEY, MESSAGE, SEND, bearer, client_token, http, make, token
from .http_client import HttpClient

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    service = make()
    yield service
    await service.aclose()


# --- hosts and origins ---


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8888", "127.0.0.1:1", "[::1]:8888", "app.localhost", "127.1.2.3"]
)
async def test_loopback_hosts_are_served(service: LocalService, host: str) -> None:
    assert (await http(service, Host=host).get("/api/health")).status_code == 200


@pytest.mark.parametrize("path", ["/api/health", "/client/negotiate?hub=chat", SEND, "/nothing"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8888",
        "localhost@evil.example",
        "[::1",
        "",
        "a/b",
    ],
)
async def test_other_hosts_are_refused_on_every_route(service: LocalService, path: str, host: str) -> None:
    response = await http(service, Host=host).post(path, headers=bearer(token()), json=MESSAGE)

    assert response.status_code == 403
    assert "Host header" in response.json()["detail"]


async def test_the_name_it_is_bound_to_is_served() -> None:
    assert (await http(make(host="192.0.2.7"), Host="192.0.2.7:80").get("/api/health")).status_code == 200
    assert (await http(make(host="0.0.0.0"), Host="docker-host").get("/api/health")).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://localhost", "http://127.0.0.1", "http://[::1]:5000"]
)
async def test_pages_of_loopback_may_see_answers_and_errors(service: LocalService, origin: str) -> None:
    response = await http(service, Origin=origin).post("/client/negotiate?hub=chat")

    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == origin
    assert response.headers["access-control-allow-credentials"] == "true"
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost.evil.example", "http://[", "localhost"]
)
@pytest.mark.parametrize("method", ["OPTIONS", "POST", "GET"])
async def test_pages_of_elsewhere_are_refused_with_a_good_token_too(
    service: LocalService, origin: str, method: str
) -> None:
    response = await http(service, Origin=origin, **bearer(client_token())).request(
        method, "/client/negotiate?hub=chat", headers={"Access-Control-Request-Method": "POST"}
    )

    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


async def test_a_named_origin_is_allowed() -> None:
    service = make(cors_origins=["https://App.example/"])

    response = await http(service, Origin="https://app.example").post(
        "/client/negotiate?hub=chat", headers=bearer(client_token())
    )

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == "https://app.example"


async def test_a_preflight_is_answered_without_a_token(service: LocalService) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,x-signalr-user-agent",
    }

    response = await http(service, Origin="http://localhost:3000").options("/client/negotiate", headers=asked)

    assert response.status_code == 204
    assert response.headers["access-control-allow-headers"] == "authorization,x-signalr-user-agent"
    assert "POST" in response.headers["access-control-allow-methods"]
    del asked["Access-Control-Request-Headers"]
    plain = await http(service, Origin="http://localhost:3000").options("/client/negotiate", headers=asked)
    assert "access-control-allow-headers" not in plain.headers


# --- options ---


@pytest.mark.parametrize(
    "options",
    [
        {"keys": []},
        {"keys": [""]},
        {"keys": ["short"]},
        {"keys": ["${KEY}"]},
        {"keys": None, "host": "0.0.0.0"},
        {"upstream": "nowhere"},
    ],
)
def test_options_that_are_not_safe_or_cannot_work_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        make(**options)


def test_keys_are_fresh_and_long_unless_given() -> None:
    first, second = LocalService(), LocalService()

    assert first.connection_string != second.connection_string
    assert len(parse_connection_string(first.connection_string).keys[0]) == 44


def test_no_secret_is_in_a_repr() -> None:
    service = make()

    assert KEY not in repr(service) + repr(service._admission)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://localhost:1"),
        ("192.0.2.7", "http://192.0.2.7:1"),
        ("localhost", "http://localhost:1"),
        # Nothing else listens there.
        ("127.0.0.2", "http://127.0.0.2:1"),
        ("::1", "http://[::1]:1"),
        ("[::1]", "http://[::1]:1"),
        ("0.0.0.0", "http://localhost:1"),
        ("::", "http://[::1]:1"),
        ("2001:db8::1", "http://[2001:db8::1]:1"),
    ],
)
def test_the_connection_string_names_the_host_and_port(host: str, url: str) -> None:
    service = make(host=host, port=1)

    assert service.url == url
    assert parse_connection_string(service.connection_string).url == url


async def test_lifespan_is_answered_and_its_end_closes_clients(service: LocalService) -> None:
    client = HttpClient(service)
    connection = await client.open_polls()
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await service.asgi({"type": "lifespan"}, receive, send)

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert len(service._clients) == 0
    assert (await client.poll(connection).done()).status == 503
