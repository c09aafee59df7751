"""The REST API over HTTP, without a socket: statuses, versions, bodies, errors, hostile requests."""

import asyncio
import logging
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalr_upstream import Hub, ServiceClient, UpstreamApp
from signalr_upstream.auth import encode_token
from signalr_upstream.local import LocalService
from signalr_upstream.local.rest.api import MAX_TOLD
from signalr_upstream.protocol.rest import (
    COMPLETE_STREAM,
    INVOKE_CONNECTION,
    OPERATIONS,
    SEND_STREAM_ITEM,
    Body,
    Operation,
)

from ..doors import KEY, MESSAGE, NOW, SEND, bearer, call, http, make, token
from ..handmade import connect

pytestmark = pytest.mark.anyio

JSON_FRAME = b'{"type":1,"target":"t","arguments":[1]}\x1e'


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    service = make()
    yield service
    await service.aclose()


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


async def test_a_send_to_a_hub_that_nobody_knows_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "signalr_upstream.local")
    app = UpstreamApp(Hub("Known"), Hub("tenant_*"), application="shop")
    async with LocalService(app, keys=[KEY], port=None) as service:
        client = await service.connect("visited")
        await client.close()
        caplog.clear()
        async with ServiceClient(service.connection_string, transport=service.transport) as sender:
            for name in ("visited", "shop_known", "shop_tenant_7", "knwon", "KNWON", "known", "tenant_7"):
                await sender.hub(name).clients.all.send("t")
            await sender.hub("other").groups.exists("g")

    told = [record.getMessage() for record in caplog.records if record.name == "signalr_upstream.local"]
    assert told == [
        f"a send to hub '{name}' reaches nobody: it has never had a client. Is that its name?"
        for name in ("knwon", "known", "tenant_7")
    ]


async def test_no_more_than_a_hundred_names_are_told(
    service: LocalService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "signalr_upstream.local")

    for number in range(MAX_TOLD + 1):
        answer = await call(service, "POST", f"/api/hubs/h{number}/:send", b'{"target":"t","arguments":[]}')
        assert answer.status_code == 202

    assert caplog.text.count("reaches nobody") == MAX_TOLD


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
        ("POST", "/api/hubs/chat/:generateToken", 200, None),
        ("POST", "/api/hubs/chat/:generateToken?minutesToExpire=0", 400, None),
        ("GET", "/api/hubs/chat/groups/g/connections", 200, None),
        ("GET", "/api/hubs/chat/groups/g/connections?maxpagesize=201", 400, None),
        ("GET", "/api/auth/accessKey", 200, None),
        ("POST", "/api/hubs/chat/connections/x/streams/s/:complete", 404, "Error.Connection.NotExisted"),
        ("POST", "/api/hubs/chat/connections/a/streams/s/:complete", 404, "Error.Request.NotExisted"),
        ("DELETE", "/api/hubs/chat/groups/g/users/ann", 204, None),
        ("HEAD", "/api/hubs/chat/groups/g/users/ann", 404, "Info.User.NotInGroup"),
        ("DELETE", "/api/hubs/chat/connections/a/groups/g", 200, None),
        ("POST", "/api/hubs/1x/:closeConnections", 400, None),
        ("POST", "/api/hubs/chat/:closeConnections?application=1x", 400, None),
        ("POST", "/api/hubs/chat/groups/%20/:closeConnections", 400, None),
        ("PATCH", "/api/hubs/chat/:send", 405, None),
        ("GET", "/api/hubs", 404, None),
        ("GET", "/api/nothing", 404, None),
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
    if status >= 400 and method != "HEAD" and path.startswith("/api"):
        assert response.headers["content-type"] == "application/json"
        assert response.json()["code"] == (code or response.reason_phrase.replace(" ", ""))
        assert response.json()["message"]


async def test_what_is_not_the_apis_is_answered_with_problem_details(service: LocalService) -> None:
    response = await http(service).get("/server/?hub=chat")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_error_names_what_it_is_about(service: LocalService) -> None:
    response = await call(service, "POST", "/api/hubs/1x/:closeConnections")

    assert response.json()["target"] == "hub"


async def test_health_needs_no_token_and_no_version(service: LocalService) -> None:
    for path in ("/api/health", "/api/v1/health", "/api/health?api-version=2024-12-01"):
        assert (await http(service).head(path)).status_code == 200
        assert (await http(service).get(path)).status_code == 200


# --- versions ---


@pytest.mark.parametrize("version", ["", "1900-01-01", "1.0"])
async def test_a_strict_service_wants_a_known_api_version(service: LocalService, version: str) -> None:
    response = await call(service, "POST", "/api/hubs/chat/:closeConnections", version=version)

    assert response.status_code == 400
    assert "2022-06-01, 2022-11-01, 2023-07-01, 2024-12-01" in response.json()["message"]


async def test_an_operation_needs_the_version_that_brought_it(service: LocalService) -> None:
    target = "/api/hubs/chat/:generateToken"

    old = await call(service, "POST", target, version="2022-06-01")
    new = await call(service, "POST", target, version="2022-11-01")

    assert (old.status_code, new.status_code) == (400, 200)
    assert "generate_token came with api-version=2022-11-01" in old.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/v1/hubs/chat/groups/g/users/ann", 202),
        ("DELETE", "/api/v1/hubs/chat/groups/g/users/ann", 202),
        ("DELETE", "/api/v1/hubs/chat/users/ann/groups", 200),
        ("DELETE", "/api/v1/hubs/chat/connections/a", 202),
        ("PUT", "/api/v1/hubs/chat/groups/g/connections/a", 200),
        ("HEAD", "/api/v1/hubs/chat/users/ann", 200),
        ("GET", "/api/v1/auth/accessKey", 200),
        ("POST", "/api/v1/hubs/chat/:closeConnections", 400),
    ],
)
async def test_the_first_api_takes_no_version_and_has_statuses_of_its_own(
    service: LocalService, method: str, path: str, status: int
) -> None:
    # rest-and-management.md 1.4
    await connect(service, connection_id="a", user_id="ann")

    assert (await call(service, method, path, version="")).status_code == status


async def test_the_first_api_sends_without_a_verb(service: LocalService) -> None:
    client = await connect(service)

    response = await call(service, "POST", "/api/v1/hubs/chat", b'{"target":"t","arguments":[1]}', version="")

    assert response.status_code == 202
    assert client.take() == [JSON_FRAME]


async def test_a_lenient_service_asks_for_no_version() -> None:
    client = await connect(service := make(lenient=True))

    for version in ("", "1900-01-01", "2022-06-01"):
        assert (await call(service, "POST", "/api/hubs/chat/:closeConnections", version=version)).is_success
    await service.aclose()
    assert client.gone


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
async def test_every_operation_is_served(service: LocalService, operation: Operation) -> None:
    names = {"hub": "chat", "group": "g", "user": "ann", "connection": "a", "stream": "s"}
    bodies = {Body.MESSAGE: b'{"target":"t"}', Body.ITEM: b"1", Body.COMMANDS: b"[]", Body.NONE: b""}
    client = await connect(service, connection_id="a", user_id="ann")
    service.hub("chat").user_join("ann", "g", ttl=None, now=NOW)

    answering = asyncio.create_task(
        call(service, operation.method, operation.path.format_map(names), bodies[operation.body])
    )
    if operation == INVOKE_CONNECTION:
        await client.next()
        client.connection.receive(b'{"type":3,"invocationId":"s1"}\x1e')
    response = await answering

    absent = operation in (SEND_STREAM_ITEM, COMPLETE_STREAM)  # the client has not asked for a stream
    assert response.status_code == (404 if absent else operation.success[0])


# --- bodies ---


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
    assert response.headers["content-type"] == "application/json"
    assert response.json()["message"]
    assert client.received == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "", "text/json", "garbage", "application/x-www-form-urlencoded"]
)
async def test_a_body_of_another_type_is_refused(service: LocalService, kind: str) -> None:
    response = await call(service, "POST", "/api/hubs/chat/:send", b'{"target":"t"}', kind=kind)

    assert response.status_code == 415
    assert "application/json, application/x-msgpack, application/octet-stream" in response.json()["message"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"]
)
async def test_json_has_several_names(service: LocalService, kind: str) -> None:
    assert (await call(service, "POST", "/api/hubs/chat/:send", b'{"target":"t"}', kind=kind)).is_success


@pytest.mark.parametrize("lenient", [True, False])
async def test_values_pass_through_as_they_are(lenient: bool) -> None:
    # What Microsoft's emulator makes something else of: NOTES of its recording, REST.
    service = make(lenient=lenient)
    one = await connect(service, connection_id="a")
    two = await connect(service, connection_id="b", protocol="messagepack")
    arguments = (
        b'["2023-11-14T22:13:20.000Z","/Date(0)/",1.0,1e21,-0.0,12345678901234567890123,9007199254740993,'
        b'{"$type":"System.String","a":1,"a":2},[[1]],null,true]'  # eleven of them
    )

    response = await call(
        service, "POST", "/api/hubs/chat/:send", b'{"target":"t","arguments":' + arguments + b"}"
    )

    assert response.status_code == 202
    assert one.take() == [b'{"type":1,"target":"t","arguments":' + arguments + b"}\x1e"]
    [message] = two.take()
    assert msgspec.msgpack.decode(message[1:])[4] == [
        *(
            "2023-11-14T22:13:20.000Z",
            "/Date(0)/",
            1.0,
            1e21,
            -0.0,
            12345678901234567890123.0,
            9007199254740993,
        ),
        *({"$type": "System.String", "a": 2}, [[1]], None, True),
    ]
    await service.aclose()


async def test_a_compressed_body_is_refused(service: LocalService) -> None:
    headers = bearer(token()) | {"Content-Type": "application/json", "Content-Encoding": "gzip"}

    response = await http(service, **headers).post(SEND, content=b"\x1f\x8b")

    assert response.status_code == 415
    assert "compressed" in response.json()["message"]


async def test_messagepack_is_sent_on_and_converted_for_json(service: LocalService) -> None:
    one = await connect(service, connection_id="a")
    two = await connect(service, connection_id="b", protocol="messagepack")
    # {"target": "t", "arguments": [1 in nine bytes, binary 01 02]}
    body = bytes.fromhex("82a6746172676574a174a9617267756d656e747392d30000000000000001c4020102")

    response = await call(service, "POST", "/api/hubs/chat/:send", body, kind="application/x-msgpack")

    assert response.status_code == 202
    assert one.take() == [b'{"type":1,"target":"t","arguments":[1,"AQI="]}\x1e']
    assert two.take() == [bytes.fromhex("15960180c0a17492d30000000000000001c402010290")]


async def test_frames_go_to_clients_of_their_protocol_only(service: LocalService) -> None:
    one = await connect(service, connection_id="a")
    two = await connect(service, connection_id="b", protocol="messagepack")
    # rest-and-management.md 2.3: body {messagepack}, target "target", arguments ["a",1]
    body = bytes.fromhex("81ab6d6573736167657061636bc41110960180c0a674617267657492a1610190")

    response = await call(service, "POST", "/api/hubs/chat/:send", body, kind="application/octet-stream")

    assert response.status_code == 202
    assert one.take() == []
    assert two.take() == [bytes.fromhex("10960180c0a674617267657492a1610190")]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/octet-stream", msgspec.msgpack.encode({"json": b'{"type":1,"target":"t"}\x1e'})),
        ("application/octet-stream", b'{"target":"t"}'),
        ("application/x-msgpack", b'{"target":"t"}'),
        ("application/x-msgpack", bytes.fromhex("82a6746172676574a174a9617267756d656e747391818001")),
    ],
)
async def test_bad_frames_and_bad_messagepack_reach_nobody(
    service: LocalService, kind: str, body: bytes
) -> None:
    clients = [
        await connect(service, connection_id=protocol, protocol=protocol)
        for protocol in ("json", "messagepack")
    ]

    response = await call(service, "POST", "/api/hubs/chat/:send", body, kind=kind)

    assert response.status_code == 400
    assert [client.received for client in clients] == [[], []]


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
    | st.sampled_from([operation.path.encode() for operation in OPERATIONS.values()])
    | st.binary(max_size=30).map(lambda p: b"/" + p),
    query=st.binary(max_size=30)
    | st.builds(
        lambda name, value: name + b"=" + value,
        st.sampled_from([b"filter", b"top", b"maxpagesize", b"continuationToken", b"ttl", b"completed"]),
        st.binary(max_size=20),
    ),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"content-type", b"origin", b"host"]),
            st.binary(max_size=40)
            | st.sampled_from(
                [b"Bearer x", b"localhost", b"application/x-msgpack", b"application/octet-stream"]
            ),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=40),
    lenient=st.booleans(),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_request_makes_the_service_fail(
    *,
    method: str,
    path: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    lenient: bool,
) -> None:
    sent: list[Any] = []
    good = encode_token({"aud": "http://localhost" + path.decode("latin-1"), "exp": NOW + 60}, KEY)
    scope = {
        "type": "http",
        "scheme": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": b"api-version=2024-12-01&" + query,
        "headers": [(b"host", b"localhost"), (b"authorization", b"Bearer " + good.encode()), *headers],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    await make(lenient=lenient).asgi(scope, receive, send)

    assert sent[0]["status"] < 500


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


async def test_a_call_about_an_unknown_hub_leaves_nothing_behind(service: LocalService) -> None:
    for number in range(3):
        path = f"/api/hubs/nobody{number}"
        await call(service, "POST", f"{path}/:send", b'{"target":"t","arguments":[]}')
        await call(service, "PUT", f"{path}/groups/g/connections/c")
        await call(service, "DELETE", f"{path}/users/ann/groups")
        await call(service, "HEAD", f"{path}/groups/g")
    before = hubs_of(service)
    await call(service, "PUT", "/api/hubs/Kept/users/ann/groups/g")

    assert before == []
    assert hubs_of(service) == ["kept"]
    assert (await call(service, "HEAD", "/api/hubs/kept/users/ann/groups/g")).status_code == 200


def hubs_of(service: LocalService) -> list[str]:
    """The hubs that the inspector tells of."""
    hubs: list[str] = service._inspector._state().hubs
    return hubs
