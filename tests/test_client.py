"""The output client: what it refuses, whom it asks, what it makes of answers."""

import gc
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import httpx
import jwt
import pytest

from signalr_upstream.claims import Identity
from signalr_upstream.client import HubClient, ServiceClient
from signalr_upstream.connection_string import Endpoint
from signalr_upstream.endpoints import Endpoints
from signalr_upstream.errors import (
    AccessDeniedError,
    ConnectError,
    ConnectionStringError,
    DeliveryUnknown,
    InvalidNameError,
    NoKeysError,
    NotFoundError,
    PartialDelivery,
    ServiceError,
    TooLargeError,
)
from signalr_upstream.protocol import rest
from signalr_upstream.rest.delivery import MAX_IN_FLIGHT
from signalr_upstream.transports.transport import Answer

from .service import EAST, KEY, WEST, Reply, Service, hub_of

pytestmark = pytest.mark.anyio


def gone(method: str, url: str) -> Reply:
    return 404, "Error.Connection.NotExisted"


# ---- requests ----


async def test_a_send_is_signed_for_its_path_and_carries_json() -> None:
    service = Service()

    await hub_of(service).clients.group("a/b", excluding=["c1", "c2", "c1"]).send("t", "é", 1, None)

    method, url, headers, body = service.requests[0]
    expected = (
        "https://east.example/api/hubs/chat/groups/a%2Fb/:send?api-version=2024-12-01&excluded=c1&excluded=c2"
    )
    assert (method, url) == ("POST", expected)
    assert body == '{"target":"t","arguments":["é",1,null]}'.encode()
    assert headers["Content-Type"] == "application/json"
    audience = "https://east.example/api/hubs/chat/groups/a%2Fb/:send"
    claims = jwt.decode(headers["Authorization"].removeprefix("Bearer "), KEY, ["HS256"], audience=audience)
    assert claims["exp"] - claims["iat"] == 3600


async def test_requests_without_a_body_have_no_content_type() -> None:
    service = Service()

    await hub_of(service).groups.add("g", connection_id="c")

    assert set(service.requests[0][2]) == {"Authorization"}


async def test_every_closing_call_takes_exclusions_and_a_reason() -> None:
    service = Service()
    hub = hub_of(service)

    await hub.close_all(excluding=["c1"], reason="a b")
    await hub.groups.close_all("g", reason="")
    await hub.users.close_all("u", excluding=["c1"])

    assert service.lines == [
        "POST https://east.example/api/hubs/chat/:closeConnections&excluded=c1&reason=a%20b",
        "POST https://east.example/api/hubs/chat/groups/g/:closeConnections&reason=",
        "POST https://east.example/api/hubs/chat/users/u/:closeConnections&excluded=c1",
    ]


async def test_calls_go_to_the_server_endpoint_and_are_signed_for_the_endpoint() -> None:
    service = Service()

    await hub_of(service, EAST + "ServerEndpoint=https://gateway.example:8443/asrs").clients.all.send("t")

    _, url, headers, _ = service.requests[0]
    assert url.startswith("https://gateway.example:8443/asrs/api/hubs/chat/:send?")
    audience = "https://east.example/api/hubs/chat/:send"
    jwt.decode(headers["Authorization"].removeprefix("Bearer "), KEY, ["HS256"], audience=audience)


async def test_no_token_is_made_twice_for_one_path() -> None:
    service = Service()
    hub = hub_of(service)

    await hub.clients.all.send("t")
    await hub.clients.all.send("t")

    assert service.requests[0][2]["Authorization"] == service.requests[1][2]["Authorization"]


async def test_an_environment_with_a_connection_string_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", EAST)
    service = Service()

    await ServiceClient(transport=service).hub("Chat").clients.all.send("t")

    assert service.lines == ["POST https://east.example/api/hubs/chat/:send"]


async def test_endpoints_that_are_loaded_already_are_used() -> None:
    service = Service()
    endpoints = Endpoints.load(environ={"OtherConnection": WEST}, name="OtherConnection")

    await ServiceClient(endpoints=endpoints, transport=service).hub("chat").clients.all.send("t")

    assert service.lines == ["POST https://west.example/api/hubs/chat/:send"]


async def test_the_users_httpx_client_is_used_and_not_closed() -> None:
    mock = httpx.MockTransport(lambda request: httpx.Response(202))
    async with httpx.AsyncClient(transport=mock) as http_client:
        async with ServiceClient(EAST, http_client=http_client) as client:
            await client.hub("chat").clients.all.send("t")
        assert not http_client.is_closed


async def test_closing_the_client_closes_its_transport() -> None:
    service = Service()
    async with ServiceClient(EAST, transport=service) as client:
        assert client.endpoints.all[0].url == "https://east.example"

    assert service.closed


async def test_any_number_of_hubs_can_be_sent_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalr_upstream.client.MAX_HUBS", 2)
    service = Service()
    client = ServiceClient(EAST, transport=service)

    for number in range(4):
        await client.hub(f"tenant_{number}").clients.all.send("t")

    assert service.lines == [f"POST https://east.example/api/hubs/tenant_{n}/:send" for n in range(4)]
    assert client.hub("tenant_3") is client.hub("tenant_3")


# ---- refused before anything is sent ----


@pytest.mark.parametrize("name", [".", "..", ""])
async def test_names_that_would_become_another_path_are_never_sent(name: str) -> None:
    service = Service()
    hub = hub_of(service)

    for call in (
        hub.clients.user(name).send("t"),
        hub.clients.groups(["good", name]).send("t"),
        hub.clients.connection(name).send("t"),
        hub.groups.add("g", connection_id=name),
        hub.users.exists(name),
    ):
        with pytest.raises(InvalidNameError):
            await call

    assert service.requests == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (5, "int: write str(...)"),
        (0, "int: write str(...)"),
        (uuid.UUID(int=5), "UUID: write str(...)"),
        (None, "None"),
        (["ann"], "list"),
    ],
)
async def test_names_have_to_be_text(name: Any, told: str) -> None:
    service = Service()
    hub = hub_of(service)

    for kind, call in (
        ("user", hub.clients.user(name).send("t")),
        ("group", hub.clients.group(name).send("t")),
        ("connection", hub.clients.connection(name).send("t")),
        ("connection", hub.groups.add("g", connection_id=name)),
        ("target", hub.clients.all.send(name)),
    ):
        with pytest.raises(InvalidNameError) as caught:
            await call
        assert str(caught.value) == f"invalid {kind} name: it has to be text, not {told}"

    with pytest.raises(InvalidNameError, match="invalid excluded name: it has to be text, not int"):
        await hub.clients.all_except([5]).send("t")  # type: ignore[list-item]  # what is refused
    assert service.requests == []


async def test_what_is_wrong_with_a_text_of_ones_own_is_its_own() -> None:
    class Odd(str):
        __hash__ = None  # type: ignore[assignment]  # what no text does

    with pytest.raises(TypeError, match="unhashable"):
        await hub_of(Service()).clients.user(Odd("ann")).send("t")


@pytest.mark.parametrize("names", [{"hub": "1chat"}, {"hub": 5}, {"application": "a-b"}])
def test_bad_hub_and_application_names_are_refused_at_once(names: dict[str, Any]) -> None:
    with pytest.raises(InvalidNameError):
        ServiceClient(EAST, application=names.get("application", "")).hub(names.get("hub", "chat"))


def test_one_name_in_place_of_a_list_is_refused() -> None:
    clients = hub_of(Service()).clients

    for select in (clients.users, clients.groups, clients.connections, clients.all_except):
        with pytest.raises(TypeError, match="list of names"):
            select("ann")


async def test_a_message_over_the_limit_is_not_sent() -> None:
    service = Service()
    target = hub_of(service).clients.all
    room = rest.MAX_BODY - len(b'{"target":"t","arguments":[""]}')

    await target.send("t", "x" * room)
    with pytest.raises(TooLargeError, match="send_to_all: the message has 1048577 bytes") as caught:
        await target.send("t", "x" * (room + 1))

    assert caught.value.operation == "send_to_all"
    assert len(service.requests) == 1


async def test_too_many_exclusions_are_not_sent() -> None:
    service = Service()

    with pytest.raises(TooLargeError, match="Exclude fewer"):
        await hub_of(service).clients.all_except([f"connection-{n:020}" for n in range(400)]).send("t")

    assert service.requests == []


async def test_an_argument_that_json_cannot_express_is_a_type_error() -> None:
    service = Service()

    with pytest.raises(TypeError):
        await hub_of(service).clients.all.send("t", object())

    assert service.requests == []


@pytest.mark.parametrize("ttl", [-1, 2**31, float("nan"), float("inf")])
async def test_a_ttl_out_of_range_is_refused(ttl: float) -> None:
    service = Service()

    with pytest.raises(ValueError, match="ttl must be"):
        await hub_of(service).users.add_to_group("u", group="g", ttl=ttl)

    assert service.requests == []


@pytest.mark.parametrize("key", ["", "short", "${KEY}"])
async def test_without_a_real_key_nothing_is_sent_and_the_reason_is_told(key: str) -> None:
    service = Service()

    with pytest.raises(NoKeysError, match=r"AccessKey of https://north\.example"):
        await hub_of(service, EAST, f"Endpoint=https://north.example;AccessKey={key};").clients.all.send("t")

    assert service.requests == []


async def test_a_missing_connection_string_fails_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    client = ServiceClient(transport=Service())

    with pytest.raises(NoKeysError, match="AzureSignalRConnectionString"):
        await client.hub("chat").clients.all.send("t")


def test_a_connection_string_that_cannot_be_used_fails_at_once() -> None:
    with pytest.raises(ConnectionStringError):
        ServiceClient("Endpoint=nonsense;AccessKey=x")


# ---- answers ----


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_any_2xx_is_a_success(status: int) -> None:
    hub = hub_of(Service(lambda method, url: status))

    await hub.clients.all.send("t")
    assert await hub.groups.add("g", connection_id="c") is True
    assert await hub.groups.exists("g") is True
    assert await hub.connections.close("c") is True


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda hub: hub.connections.exists("c"), "Warning.Connection.NotExisted"),
        (lambda hub: hub.connections.close("c"), "warning.connection.notexisted"),
        (lambda hub: hub.groups.add("g", connection_id="c"), "Error.Connection.NotExisted"),
        (lambda hub: hub.groups.exists("g"), "Warning.Group.NotExisted"),
        (lambda hub: hub.users.exists("u"), "Warning.User.NotExisted"),
        (lambda hub: hub.users.in_group("u", group="g"), "Info.User.NotInGroup"),
    ],
)
async def test_a_404_says_no_only_by_its_error_code(call: Callable[[HubClient], Any], code: str) -> None:
    assert await call(hub_of(Service(lambda method, url: (404, code)))) is False
    for other in (404, (404, "Warning.Something.Else")):
        with pytest.raises(NotFoundError):
            await call(hub_of(Service(lambda method, url, reply=other: reply)))  # type: ignore[misc]  # bound now


async def test_taking_a_gone_connection_out_of_groups_is_no_error() -> None:
    groups = hub_of(Service(gone)).groups

    await groups.remove("g", connection_id="c")
    await groups.remove_from_all(connection_id="c")


async def test_a_send_to_a_gone_connection_is_an_error() -> None:
    with pytest.raises(NotFoundError, match="send_to_connection: the service answered 404"):
        await hub_of(Service(gone)).clients.connection("c").send("t")


@pytest.mark.parametrize("error", [ConnectError("no connection"), DeliveryUnknown("no answer")])
async def test_errors_of_the_transport_name_the_operation(error: ServiceError) -> None:
    with pytest.raises(type(error)) as caught:
        await hub_of(Service(lambda method, url: error)).users.exists("u")

    assert caught.value is error
    assert caught.value.operation == "user_exists"


async def test_no_error_shows_a_key_a_token_or_the_url() -> None:
    with pytest.raises(AccessDeniedError) as caught:
        await hub_of(Service(lambda method, url: 403)).clients.user("ann").send("t", "secret")

    for hidden in (KEY, "eyJ", "https://", "ann", "secret"):
        assert hidden not in str(caught.value)


def test_no_repr_shows_a_key() -> None:
    client = ServiceClient([EAST, WEST], transport=Service())
    hub = client.hub("chat")

    for shown in (client, hub, hub.clients.user("ann")):
        assert KEY not in repr(shown)
        assert "chat" in repr(shown) or "east.example" in repr(shown)


# ---- several targets ----


async def test_each_of_several_targets_gets_the_message_once() -> None:
    service = Service()

    await hub_of(service).clients.users(["a", "b", "a"]).send("t", 1)

    assert service.lines == [f"POST https://east.example/api/hubs/chat/users/{name}/:send" for name in "ab"]
    assert {body for *_, body in service.requests} == {b'{"target":"t","arguments":[1]}'}


async def test_no_target_is_no_request() -> None:
    service = Service()

    await hub_of(service).clients.connections([]).send("t")

    assert service.requests == []


async def test_all_targets_are_tried_and_each_failure_is_told() -> None:
    def reply(method: str, url: str) -> Reply:
        return 403 if "/b/" in url else DeliveryUnknown("no answer") if "/c/" in url else 202

    service = Service(reply)

    with pytest.raises(PartialDelivery, match="2 of 4 targets failed") as caught:
        await hub_of(service).clients.groups(["a", "b", "c", "d"]).send("t")

    assert len(service.requests) == 4
    assert caught.value.delivered == 2
    assert {name: type(error) for name, error in caught.value.errors.items()} == {
        "b": AccessDeniedError,
        "c": DeliveryUnknown,
    }


async def test_targets_are_sent_to_concurrently_up_to_the_limit() -> None:
    under_way, most = 0, 0

    class Slow(Service):
        async def request(self, *args: Any, **kwargs: Any) -> Answer:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await anyio.lowlevel.checkpoint()
            under_way -= 1
            return await super().request(*args, **kwargs)

    service = Slow()
    await hub_of(service).clients.users([f"u{n}" for n in range(100)]).send("t")

    assert most == MAX_IN_FLIGHT
    assert len(service.requests) == 100


# ---- several endpoints ----


async def test_users_groups_and_all_go_to_every_endpoint() -> None:
    service = Service()

    await hub_of(service, EAST, WEST).clients.all.send("t")

    assert service.lines == [f"POST https://{name}.example/api/hubs/chat/:send" for name in ("east", "west")]
    assert service.requests[0][2] != service.requests[1][2]


class ByName:
    """A router that remembers what it was asked, and sends everything east but what is for all."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Sequence[str]]] = []

    def negotiate(self, endpoints: Sequence[Endpoint], *, hub: str, identity: Identity) -> Endpoint:
        return endpoints[-1]

    def send(
        self, endpoints: Sequence[Endpoint], *, hub: str, operation: str, names: Sequence[str]
    ) -> Sequence[Endpoint]:
        self.asked.append((hub, operation, names))
        return endpoints if operation == "send_to_all" else endpoints[:1]


async def test_a_router_is_told_whom_a_call_is_about() -> None:
    service, router = Service(), ByName()
    hub = hub_of(service, EAST, WEST, router=router)

    await hub.clients.all.send("t")
    await hub.clients.groups(["g", "h"]).send("t")
    await hub.users.add_to_group("ann", group="g/1")

    assert sorted(router.asked) == [
        ("chat", "add_user_to_group", ("ann", "g/1")),
        ("chat", "send_to_all", ()),
        ("chat", "send_to_group", ("g",)),
        ("chat", "send_to_group", ("h",)),
    ]
    west = [line for line in service.lines if "https://east.example/" not in line]
    assert west == ["POST https://west.example/api/hubs/chat/:send"]
    assert (await hub.client_access(Identity("ann"))).url == "https://west.example/client/?hub=chat"


async def test_what_belongs_to_a_connection_goes_to_its_origin_alone() -> None:
    service = Service()
    client = ServiceClient([EAST, WEST], transport=service)
    hub = client.hub("chat", origin=client.endpoints.all[1].url)

    await hub.groups.add("g", connection_id="c")
    await hub.clients.connection("c").send("t")
    await hub.clients.group("g").send("t")

    hosts = [url.split("/")[2] for _, url, *_ in service.requests]
    assert hosts == ["west.example", "west.example", "east.example", "west.example"]


def only_west(code: str) -> Callable[[str, str], Reply]:
    return lambda method, url: 200 if "west" in url else (404, code)


async def test_a_connection_of_unknown_origin_is_found_at_the_endpoint_that_has_it() -> None:
    hub = hub_of(Service(only_west("Error.Connection.NotExisted")), EAST, WEST)

    assert await hub.groups.add("g", connection_id="c") is True
    assert await hub.connections.exists("c") is True
    await hub.clients.connection("c").send("t")


async def test_what_exists_anywhere_exists_though_another_endpoint_is_down() -> None:
    hub = hub_of(Service(lambda method, url: 200 if "west" in url else 503), EAST, WEST)

    assert await hub.users.exists("u") is True


async def test_an_endpoint_that_is_down_is_named() -> None:
    hub = hub_of(Service(lambda method, url: 204 if "west" in url else 503), EAST, WEST)

    with pytest.raises(PartialDelivery) as caught:
        await hub.users.remove_from_group("u", group="g")
    assert (list(caught.value.errors), caught.value.delivered) == (["https://east.example"], 1)

    await hub.clients.all.send("t")  # it was down several times in a row, and is left out


async def test_a_connection_that_no_endpoint_knows_is_an_error_for_sends() -> None:
    hub = hub_of(Service(gone), EAST, WEST)

    with pytest.raises(PartialDelivery) as caught:
        await hub.clients.connection("c").send("t")

    assert caught.value.delivered == 0
    assert [type(error) for error in caught.value.errors.values()] == [NotFoundError, NotFoundError]
    assert await hub.connections.close("c") is False


async def test_of_several_targets_each_counts_once_however_many_endpoints_fail() -> None:
    hub = hub_of(Service(lambda method, url: 503 if "/a/" in url else 202), EAST, WEST)

    with pytest.raises(PartialDelivery, match="1 of 2 targets failed") as caught:
        await hub.clients.users(["a", "b"]).send("t")

    assert (list(caught.value.errors), caught.value.delivered) == (["a"], 1)


@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_send_that_fails_leaves_nothing_to_the_garbage_collector(status: int) -> None:
    # With the service in trouble there are thousands of them, and whoever is served meanwhile would wait for it.
    hub = hub_of(Service(lambda method, url: (status, "")))
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            with pytest.raises(ServiceError):
                await hub.clients.all.send("t")
        assert gc.collect() < 50
    finally:
        gc.enable()
