"""The doors of the local service over HTTP, without a socket: hosts, origins, tokens, negotiate, REST."""

import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalr_upstream.auth import encode_token
from signalr_upstream.claims import Identity, client_access
from signalr_upstream.connection_string import parse_connection_string
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

from .http_client import HttpClient
from .socketless import connect

pytestmark = pytest.mark.anyio

KEY = "ThisIsAnAccessKeyForTests_0123456789ABCDEFGH"
SECOND = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"
NOW = 1_700_000_000.0
SEND = "/api/hubs/chat/:send?api-version=2024-12-01"
MESSAGE = {"target": "t", "arguments": [1]}


def make(**options: Any) -> LocalService:
    settings: dict[str, Any] = {"keys": [KEY, SECOND], "clock": ManualClock(NOW)} | options
    return LocalService(**settings)


def http(service: LocalService, **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(service.asgi), base_url="http://localhost:8888", headers=headers
    )


def token(path: str = "/api/hubs/chat/:send", *, key: str = KEY, **claims: Any) -> str:
    return encode_token({"aud": f"http://localhost{path}", "exp": NOW + 60} | claims, key)


def client_token(hub: str = "chat", **claims: Any) -> str:
    return token(f"/client/?hub={hub}", **claims)


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


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


# --- tokens ---


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, "no bearer token"),
        ({"Authorization": "Basic abc"}, "not one bearer token"),
        (bearer("garbage"), "not an HS256 JWT"),
        (bearer(token(key="x" * 44)), "signature key was not found"),
        (bearer(token(exp=NOW - 1)), "expired"),
        (bearer(encode_token({"aud": "http://localhost/api/hubs/chat/:send"}, KEY)), "no usable expiration"),
        (bearer(token("/api/hubs/other/:send")), "audience is invalid"),
        (bearer(client_token()), "audience is invalid"),
        (bearer(token(aud="https://evil.example/api/hubs/chat/:send")), "audience is invalid"),
        (bearer(token(aud=None)), "audience is invalid"),
        (bearer(token(aud=["http://[", 7])), "audience is invalid"),
        (bearer(token(padding="x" * 4096)), "longer than 4096"),
    ],
)
async def test_a_strict_service_says_why_it_takes_no_token(
    service: LocalService, headers: dict[str, str], said: str
) -> None:
    response = await http(service, **headers).post(SEND, json=MESSAGE)

    assert response.status_code == 401
    assert said in response.json()["detail"]
    assert response.headers["www-authenticate"].startswith("Bearer")
    for value in headers.values():
        assert value.removeprefix("Bearer ") not in response.text + response.headers["www-authenticate"]


@pytest.mark.parametrize(
    "value",
    [
        token(),
        token(key=SECOND),
        token(aud="http://localhost:8888/api/hubs/chat/:send"),
        token(aud="HTTP://127.0.0.1/API/hubs/Chat/:send?api-version=2024-12-01"),
        token(aud=["x", "http://localhost/api/hubs/chat/%3Asend"]),
    ],
)
async def test_good_tokens_are_taken(service: LocalService, value: str) -> None:
    assert (await http(service, **bearer(value)).post(SEND, json=MESSAGE)).status_code == 202


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


# --- REST ---


async def test_sends_are_encoded_once_a_protocol_and_reach_everybody(service: LocalService) -> None:
    one = await connect(service, connection_id="a")
    two = await connect(service, connection_id="b", protocol="messagepack")
    body = '{"target":"t","arguments":[1,"é",12345678901234567890123]}'.encode()

    response = await http(service, **bearer(token()), **{"Content-Type": "application/json"}).post(
        SEND, content=body
    )

    assert response.status_code == 202
    assert one.take() == ['{"type":1,"target":"t","arguments":[1,"é",12345678901234567890123]}\x1e'.encode()]
    # 0xcb: a float, for MessagePack has no integer that large
    large = b"\xcb" + struct.pack(">d", 12345678901234567890123)
    assert two.take() == [b"\x15\x96\x01\x80\xc0\xa1t\x93\x01\xa2\xc3\xa9" + large + b"\x90"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("HEAD", "/api/hubs/chat/connections/a", 200, None),
        ("GET", "/api/hubs/chat/connections/x", 404, "Warning.Connection.NotExisted"),
        ("HEAD", "/api/hubs/chat/groups/g", 404, "Warning.Group.NotExisted"),
        ("HEAD", "/api/hubs/chat/users/ann", 200, None),
        ("HEAD", "/api/hubs/chat/users/x", 404, "Warning.User.NotExisted"),
        ("HEAD", "/api/hubs/chat/users/ann/groups/g", 404, "Info.User.NotInGroup"),
        ("PUT", "/api/hubs/chat/groups/g/connections/a", 200, None),
        ("PUT", "/api/hubs/chat/groups/g/connections/x", 404, "Error.Connection.NotExisted"),
        ("DELETE", "/api/hubs/chat/groups/g/connections/x", 200, None),
        ("DELETE", "/api/hubs/chat/connections/a/groups", 200, None),
        ("PUT", "/api/hubs/chat/users/ann/groups/g", 200, None),
        ("PUT", "/api/hubs/chat/users/ann/groups/g?ttl=5", 200, None),
        ("PUT", "/api/hubs/chat/users/ann/groups/g?ttl=-1", 400, None),
        ("PUT", "/api/hubs/chat/users/ann/groups/g?ttl=abc", 400, None),
        ("PUT", "/api/hubs/chat/users/ann/groups/g?ttl=9999999999", 400, None),
        ("DELETE", "/api/hubs/chat/users/ann/groups/g", 204, None),
        ("DELETE", "/api/hubs/chat/users/ann/groups", 204, None),
        ("DELETE", "/api/hubs/chat/connections/a", 200, None),
        ("DELETE", "/api/hubs/chat/connections/x", 200, None),
        ("POST", "/api/hubs/chat/:closeConnections", 204, None),
        ("POST", "/api/hubs/chat/users/ann/:closeConnections", 204, None),
        ("POST", "/api/hubs/chat/groups/g/:closeConnections", 204, None),
        ("POST", "/api/hubs/chat/:generateToken", 501, None),
        ("POST", "/api/hubs/1x/:closeConnections", 400, None),
        ("POST", "/api/hubs/chat/:closeConnections?application=1x", 400, None),
        ("PATCH", "/api/hubs/chat/:send", 405, None),
        ("GET", "/api/hubs", 404, None),
        ("GET", "/server/?hub=chat", 404, None),
    ],
)
async def test_statuses_are_those_of_the_apis_description(
    service: LocalService, method: str, path: str, status: int, code: str | None
) -> None:
    await connect(service, connection_id="a", user_id="ann")
    aud = path.partition("?")[0]
    url = path + ("&" if "?" in path else "?") + "api-version=2024-12-01"

    response = await http(service, **bearer(token(aud))).request(method, url)

    assert response.status_code == status
    assert response.headers.get("x-ms-error-code") == code
    if status == 405:
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("query", ["", "?api-version=", "?api-version=1900-01-01"])
async def test_a_strict_service_wants_a_known_api_version(service: LocalService, query: str) -> None:
    response = await http(service, **bearer(token())).post(f"/api/hubs/chat/:send{query}", json=MESSAGE)

    assert response.status_code == 400
    assert "api-version" in response.json()["detail"]


async def test_the_first_api_takes_no_version(service: LocalService) -> None:
    client = http(service, **bearer(token("/api/v1/hubs/chat")))

    assert (await client.post("/api/v1/hubs/chat", json=MESSAGE)).status_code == 202


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"{}", 400),
        (b'{"target":"t","arguments":[NaN]}', 400),
        (b'{"target":"t","arguments":["\xff"]}', 400),
        (b'{"target":"t","arguments":' + b"[" * 100 + b"]" * 100 + b"}", 400),
        (b'{"target":"t","arguments":["' + b"x" * 1024 * 1024 + b'"]}', 413),
    ],
)
async def test_a_bad_body_is_explained_and_reaches_nobody(
    service: LocalService, body: bytes, status: int
) -> None:
    client = await connect(service)

    response = await http(service, **bearer(token())).post(
        SEND, content=body, headers={"Content-Type": "application/json"}
    )

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"]
    assert client.received == []


async def test_a_body_must_be_json(service: LocalService) -> None:
    client = http(service, **bearer(token()))

    assert (await client.post(SEND, content=b"x", headers={"Content-Type": "text/plain"})).status_code == 415
    assert (await client.post(SEND, content=b"x")).status_code == 415


async def test_a_token_is_checked_before_the_body_is_read(service: LocalService) -> None:
    async def body() -> AsyncIterator[bytes]:
        pytest.fail("read")
        yield b""  # type: ignore[unreachable]  # makes it a generator

    assert (await http(service).post(SEND, content=body())).status_code == 401


async def test_a_hub_of_an_application_is_another_hub(service: LocalService) -> None:
    client = await connect(service, hub="app_chat")

    await http(service, **bearer(token())).post(SEND + "&application=App", json=MESSAGE)

    assert client.take() == [b'{"type":1,"target":"t","arguments":[1]}\x1e']


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
    path=st.binary(max_size=40).map(lambda rest: b"/api/hubs/" + rest)
    | st.binary(max_size=30).map(lambda p: b"/" + p),
    query=st.binary(max_size=30),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"content-type", b"origin", b"host"]),
            st.binary(max_size=40) | st.just(b"Bearer x") | st.just(b"localhost"),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=40),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_request_makes_the_service_fail(
    method: str, path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(b"host", b"localhost"), *headers],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await make().asgi(scope, receive, send)

    assert sent[0]["status"] < 500 or sent[0]["status"] == 501


async def test_a_caller_that_hangs_up_while_it_sends_is_no_error(service: LocalService) -> None:
    sent: list[Any] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/hubs/chat/:send",
        "raw_path": b"/api/hubs/chat/:send",
        "query_string": b"api-version=2024-12-01",
        "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer " + token().encode())],
    }

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await service.asgi(scope, receive, send)

    assert sent == []


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
