"""What the output client asks and is answered, beyond plain sends: results, streams, commands, pages, tokens."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest

from signalr_upstream.client import HubClient, ServiceClient
from signalr_upstream.commands import CloseConnection, JoinGroup, LeaveGroup, SendMessage
from signalr_upstream.errors import (
    ClientInvocationError,
    ConnectError,
    DeliveryUnknown,
    InvalidNameError,
    NotFoundError,
    ResultError,
    ServiceError,
    ThrottledError,
    UnavailableError,
)
from signalr_upstream.rest import repeating
from signalr_upstream.rest.paging import GroupConnection
from signalr_upstream.transports.transport import Answer

from .service import EAST, KEY, WEST, Service, hub_of

pytestmark = pytest.mark.anyio


def answering(body: bytes, status: int = 200) -> Service:
    return Service(lambda method, url: Answer(status, [], body))


# ---- results of clients ----


class Point(msgspec.Struct):
    x: int
    y: int


async def ask(body: bytes, result_type: Any = Any, status: int = 200) -> Any:
    hub = hub_of(answering(body, status))
    return await hub.clients.connection("c").invoke("where", "é", result_type=result_type)


async def test_invoke_posts_the_message_and_gives_the_result_as_its_type() -> None:
    service = answering(b'{"result":{"x":1,"y":2}}')

    point: Point = await hub_of(service).clients.connection("c/1").invoke("where", "é", result_type=Point)

    assert point == Point(1, 2)
    assert service.lines == ["POST https://east.example/api/hubs/chat/connections/c%2F1/:invoke"]
    assert service.requests[0][3] == '{"target":"where","arguments":["é"]}'.encode()


# The official example of the REST API; HubProtocol.md's completions, in JSON and MessagePack; no answer at all.
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"result":{"message":"Hello, World!"}}', {"message": "Hello, World!"}),
        (b'{"type":3,"invocationId":"123","result":42}\x1e', 42),
        (b'{"type":3,"invocationId":"123"}\x1e', None),
        (bytes.fromhex("09950380a13103a26f6b"), "ok"),
        (bytes.fromhex("06940380a13102"), None),
        (b"{}", None),
        (b"", None),
    ],
)
async def test_a_result_is_read_in_every_form_the_service_writes(body: bytes, expected: object) -> None:
    assert await ask(body) == expected


async def test_a_result_of_another_type_says_where_and_not_what() -> None:
    with pytest.raises(ResultError, match=r"fit: expected int, got str - at `\$.y`") as caught:
        await ask(b'{"result":{"x":1,"y":"secret"}}', Point)

    assert "secret" not in str(caught.value)


async def test_a_result_that_is_none_of_the_allowed_values_is_not_shown() -> None:
    with pytest.raises(ResultError, match=r"fit: not one of the allowed values: \"no\", \"yes\"$"):
        await ask(b'{"result":"secret"}', Literal["yes", "no"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"result":',
        b"\xff\xff\xff\xff\xff\xff",
        b'{"type":6}\x1e',
        b'{"type":6}\x1e{"type":6}\x1e',
        b"<html>",
        b'{"result":' + b"[" * 100_000,
        # HubProtocol.md's Completion in MessagePack, whose result is a timestamp in the year 10000.
        bytes.fromhex("15950380a13103c70cff000000000000003afff44180"),
    ],
)
async def test_an_answer_that_holds_no_result_is_told(body: bytes) -> None:
    with pytest.raises(ResultError):
        await ask(body)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"type":3,"invocationId":"1","error":"it broke"}\x1e', 200),
        (bytes.fromhex("0f950380a13101a8") + b"it broke", 200),
        (b"it broke", 400),
    ],
)
async def test_what_failed_at_the_client_is_told_in_its_words(body: bytes, status: int) -> None:
    with pytest.raises(ClientInvocationError, match="it broke"):
        await ask(body, status=status)


async def test_the_connection_that_is_asked_may_be_at_any_endpoint() -> None:
    absent = Answer(404, [(b"x-ms-error-code", b"Error.Connection.NotExisted")], b"")
    service = Service(lambda method, url: Answer(200, [], b'{"result":1}') if "west" in url else absent)

    assert await hub_of(service, EAST, WEST).clients.connection("c").invoke("t") == 1

    service.reply = lambda method, url: absent
    with pytest.raises(NotFoundError):
        await hub_of(service, EAST, WEST).clients.connection("c").invoke("t")

    service.reply = lambda method, url: 404
    service.requests.clear()
    with pytest.raises(NotFoundError, match="hub is wrong"):
        await hub_of(service, EAST, WEST).clients.connection("c").invoke("t")
    assert len(service.requests) == 1


async def test_a_client_has_as_long_to_answer_as_the_call_says() -> None:
    class Timed(Service):
        async def request(self, *args: Any, timeout: float) -> Answer:
            self.timeout = timeout
            return await super().request(*args, timeout=timeout)

    service = Timed()
    await hub_of(service).clients.connection("c").invoke("t", timeout=120.0)

    assert 119 < service.timeout <= 120


# ---- streams ----


async def test_items_and_the_end_of_a_stream_go_to_the_call_that_asked_for_them() -> None:
    service = Service()
    connection = hub_of(service).clients.connection("c")

    assert await connection.send_item("s/1", {"a": 1})
    assert await connection.send_item("s/1", None, completed=True)
    assert await connection.complete_stream("s/1")
    assert await connection.complete_stream("s/1", error="a b")

    stream = "POST https://east.example/api/hubs/chat/connections/c/streams/s%2F1/"
    assert service.lines == [
        stream + ":send",
        stream + ":send&completed=true",
        stream + ":complete",
        stream + ":complete&reason=a%20b",
    ]
    assert [body for *_, body in service.requests] == [b'{"a":1}', b"null", b"", b""]


async def test_a_stream_of_a_client_that_is_gone_takes_nothing() -> None:
    service = Service(lambda method, url: (404, "Error.Connection.NotExisted"))

    assert await hub_of(service).clients.connection("c").send_item("s", 1) is False
    assert await hub_of(service).clients.connection("c").complete_stream("s") is False


# ---- bodies ----

# Recorded from the Management SDK (management/rest-requests.jsonl, protocols/); its names of the JSON form apart.
BOTH = ("json", "messagepack")


async def body_of(*arguments: Any, target: str = "target", **options: Any) -> tuple[bytes, str]:
    service = Service()
    await hub_of(service, **options).clients.all.send(target, *arguments)
    _, _, headers, body = service.requests[0]
    return body, headers["Content-Type"]


# rest-and-management.md, 2.3, made with the code of the SDK.
@pytest.mark.parametrize(
    ("arguments", "protocols", "body"),
    [
        ((), ["json"], None),
        (
            ("a", 1),
            BOTH,
            "82a46a736f6ec4317b2274797065223a312c22746172676574223a22746172676574222c22617267756d656e7473223a"
            "5b2261222c315d7d1eab6d6573736167657061636bc41110960180c0a674617267657492a1610190",
        ),
        ((), ["messagepack"], "81ab6d6573736167657061636bc40e0d960180c0a67461726765749090"),
        (
            (None, False, "string", {"name": "name"}),
            ["messagepack"],
            "81ab6d6573736167657061636bc42221960180c0a674617267657494c0c2a6737472696e6781a46e616d65a46e616d6590",
        ),
    ],
)
async def test_the_binary_body_is_what_the_net_sdk_sends(
    arguments: tuple[Any, ...], protocols: list[str], body: str | None
) -> None:
    sent = await body_of(*arguments, protocols=protocols)

    if body is None:
        assert sent == (b'{"target":"target","arguments":[]}', "application/json")
    else:
        assert sent == (bytes.fromhex(body), "application/octet-stream")


async def test_bytes_and_times_reach_messagepack_clients_as_they_are() -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)

    body, _ = await body_of(b"\x00\xff", moment, 2**63, protocols=BOTH)

    frames = msgspec.msgpack.decode(body)
    assert msgspec.msgpack.decode(frames["messagepack"][1:])[4] == [b"\x00\xff", moment, 2**63]
    assert msgspec.json.decode(frames["json"][:-1])["arguments"] == ["AP8=", "2026-01-02T00:00:00Z", 2**63]


async def test_items_of_a_stream_have_a_binary_form_too() -> None:
    service = Service()

    await hub_of(service, protocols=BOTH).clients.connection("c").send_item("s1", {"a": 1})

    # rest-and-management.md, 2.4.
    assert msgspec.msgpack.decode(service.requests[0][3]) == {
        "json": b'{"type":2,"invocationId":"s1","item":{"a":1}}\x1e',
        "messagepack": bytes.fromhex("0a940280a2733181a16101"),
    }


@pytest.mark.parametrize("protocols", [["json"], BOTH])
async def test_what_msgspec_does_not_know_is_made_by_the_hook(protocols: list[str]) -> None:
    def hook(value: Any) -> Any:
        return {"re": value.real, "im": value.imag}

    body, _ = await body_of(1 + 2j, protocols=protocols, enc_hook=hook)

    assert b'[{"re":1.0,"im":2.0}]' in body


@pytest.mark.parametrize("protocols", [[], ["xml"], "json", ["json", "MessagePack"]])
def test_other_protocols_are_refused(protocols: Any) -> None:
    with pytest.raises(ValueError, match="protocols is a list"):
        ServiceClient(EAST, protocols=protocols)


@pytest.mark.parametrize("target", ["", " \n"])
async def test_a_message_needs_a_target(target: str) -> None:
    service = Service()

    with pytest.raises(InvalidNameError):
        await hub_of(service).clients.all.send(target)

    assert service.requests == []


# ---- commands ----


async def test_commands_are_carried_out_for_all_that_fit_the_filter() -> None:
    service = Service()
    hub = hub_of(service, application="shop")

    await hub.execute(
        [
            SendMessage("t", [Decimal("1.5")]),
            JoinGroup("g"),
            LeaveGroup("h"),
            CloseConnection("bye"),
            CloseConnection(),
        ],
        filter="startswith(userId, 'a')",
    )
    await hub.execute([JoinGroup("g")])

    assert service.lines == [
        "POST https://east.example/api/hubs/chat/:execute&filter=startswith%28userId%2C%20%27a%27%29",
        "POST https://east.example/api/hubs/chat/:execute",
    ]
    assert msgspec.json.decode(service.requests[0][3]) == [
        {"type": "SendMessage", "message": {"target": "t", "arguments": ["1.5"]}},
        {"type": "JoinGroup", "group": "g"},
        {"type": "LeaveGroup", "group": "h"},
        {"type": "CloseConnection", "reason": "bye"},
        {"type": "CloseConnection"},
    ]


async def test_commands_are_json_whatever_the_protocols() -> None:
    service = Service()

    await hub_of(service, protocols=BOTH).execute([JoinGroup("g")])

    assert service.requests[0][2]["Content-Type"] == "application/json"


# ---- pages ----

LINK = "https://east.example/api/hubs/chat/groups/a%2Fb/connections?maxpagesize=2&continuationToken=c2%3D&api-version=V"


def pages(*bodies: bytes) -> Service:
    left = iter(bodies)
    return Service(lambda method, url: Answer(200, [], next(left)))


async def members(hub: HubClient, **options: Any) -> list[GroupConnection]:
    found: AsyncIterator[GroupConnection] = hub.groups.connections("a/b", **options)
    return [connection async for connection in found]


FIRST = b'{"value":[{"connectionId":"conn1","userId":"user1"},{"connectionId":"conn2","userId":null}],"nextLink":"%s"}'
LAST = b'{"value":[{"connectionId":"conn3"}]}'


async def test_the_connections_of_a_group_come_page_by_page() -> None:
    service = pages(FIRST % LINK.encode(), LAST)

    found = await members(hub_of(service), page_size=2)

    assert found == [GroupConnection("conn1", "user1"), GroupConnection("conn2"), GroupConnection("conn3")]
    assert [url for _, url, *_ in service.requests] == [
        "https://east.example/api/hubs/chat/groups/a%2Fb/connections?api-version=2024-12-01&maxpagesize=2",
        LINK,
    ]


async def test_no_more_connections_are_given_than_asked_for() -> None:
    service = pages(FIRST % LINK.encode())

    assert await members(hub_of(service), top=1) == [GroupConnection("conn1", "user1")]
    assert service.lines == [
        "GET https://east.example/api/hubs/chat/groups/a%2Fb/connections&maxpagesize=200&top=1"
    ]


async def test_the_connections_of_every_endpoint_are_given() -> None:
    assert len(await members(hub_of(pages(LAST, LAST), EAST, WEST))) == 2


@pytest.mark.parametrize(
    "link",
    [
        LINK.replace("east.example", "evil.example"),
        LINK.replace("east.example", "east.example@evil.example"),
        LINK.replace("/groups/", "/users/"),
        LINK + " HTTP/1.1",
        LINK + "é",
        LINK + r"\u0000x",
        LINK + r"\u007f",
        "https://[::1/api",
        LINK.partition("?")[0] + "?api-version=2024-12-01&maxpagesize=200",
    ],
)
async def test_a_next_page_anywhere_else_is_not_asked_for(link: str) -> None:
    service = pages(FIRST % link.encode())

    with pytest.raises(ServiceError, match="somewhere else"):
        await members(hub_of(service))

    assert len(service.requests) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"value":[{}]}'])
async def test_a_page_that_is_none_is_an_error(body: bytes) -> None:
    with pytest.raises(ServiceError, match="no page of connections"):
        await members(hub_of(pages(body)))


@pytest.mark.parametrize("options", [{"page_size": 0}, {"page_size": 201}, {"top": 0}])
async def test_pages_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="page_size is 1 to 200"):
        await members(hub_of(pages()), **options)


# ---- tokens and health ----


async def test_the_service_can_make_a_token() -> None:
    service = answering(b'{"token":"abc"}')
    hub = hub_of(service, application="shop")

    assert await hub.generate_token("a b", minutes=5) == "abc"
    assert await hub.generate_token() == "abc"
    assert service.lines == [
        "POST https://east.example/api/hubs/chat/:generateToken&userId=a%20b&minutesToExpire=5",
        "POST https://east.example/api/hubs/chat/:generateToken&minutesToExpire=60",
    ]


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"Token":1}'])
async def test_an_answer_without_a_token_is_an_error(body: bytes) -> None:
    with pytest.raises(ServiceError, match="has no token"):
        await hub_of(answering(body)).generate_token()


async def test_health_is_asked_of_every_endpoint() -> None:
    service = Service()
    service.is_well = False

    assert await ServiceClient([EAST, WEST], transport=service).health() is True
    assert service.lines == [f"HEAD https://{name}.example/api/health" for name in ("east", "west")]


@pytest.mark.parametrize(("reply", "healthy"), [(200, True), (500, False), (503, False), (504, False)])
async def test_a_service_in_trouble_is_not_well(reply: int, healthy: bool) -> None:
    service = Service(lambda method, url: reply)
    service.is_well = False

    assert await ServiceClient(EAST, transport=service).health() is healthy


async def test_what_is_no_service_is_told() -> None:
    service = Service(lambda method, url: 404)
    service.is_well = False

    with pytest.raises(NotFoundError):
        await ServiceClient(EAST, transport=service).health()


# ---- what is repeated ----


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (408, DeliveryUnknown),
        (500, DeliveryUnknown),
        (502, DeliveryUnknown),
        (504, DeliveryUnknown),
        (DeliveryUnknown("no answer"), DeliveryUnknown),
    ],
)
async def test_a_send_that_may_have_been_taken_is_repeated_only_where_twice_does_no_harm(
    reply: int | Exception, error: type[ServiceError]
) -> None:
    service = Service(lambda method, url: reply)
    target = hub_of(service).clients.group("g")

    with pytest.raises(error) as caught:
        await target.send("t")
    assert len(service.requests) == 1
    assert caught.value.operation == "send_to_group"

    with pytest.raises(error):
        await target.send("t", idempotent=True)
    assert len(service.requests) == 5


@pytest.mark.parametrize(
    ("reply", "error"),
    [(429, ThrottledError), (503, UnavailableError), (ConnectError("no connection"), ConnectError)],
)
async def test_a_send_that_was_not_taken_is_repeated(
    reply: int | Exception, error: type[ServiceError]
) -> None:
    service = Service(lambda method, url: reply if len(service.requests) < 4 else 202)
    target = hub_of(service).clients.group("g")

    await target.send("t")
    assert len(service.requests) == 4

    service.requests.clear()
    service.reply = lambda method, url: reply
    with pytest.raises(error):
        await target.send("t")
    assert len(service.requests) == 4


async def test_what_will_not_pass_is_not_repeated() -> None:
    service = Service(lambda method, url: 503 if len(service.requests) == 1 else 403)

    with pytest.raises(ServiceError, match="403"):
        await hub_of(service).users.exists("u")

    assert len(service.requests) == 2


async def test_a_wait_longer_than_the_call_may_take_is_not_waited_for() -> None:
    told = Answer(503, [(b"retry-after", b"29")], b"")
    service = Service(lambda method, url: told)

    with pytest.raises(UnavailableError) as caught:
        await hub_of(service, total_timeout=20).users.exists("u")

    assert len(service.requests) == 1
    assert caught.value.retry_after == 29


async def test_an_outage_writes_no_line_for_an_attempt(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(lambda method, url: ConnectError("no connection"))

    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectError):
        await hub_of(service).clients.all.send("t")

    assert len(service.requests) == 4
    assert not [record for record in caplog.records if record.name != "asyncio"]


async def test_the_first_attempt_takes_no_longer_than_the_whole_call_may() -> None:
    service = Service()

    await hub_of(service, total_timeout=2.5).clients.all.send("t")

    assert service.timeouts == [2.5]


async def test_retry_after_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(repeating, "sleep", sleep)
    told = [Answer(429, [(b"retry-after", after)], b"") for after in (b"3", b"Thu, 01 Jan 2026 00:00:00 GMT")]
    service = Service(lambda method, url: told.pop(0) if told else 202)
    await hub_of(service).clients.all.send("t")

    assert 3.0 <= waits[0] <= 3.2
    assert 0.4 <= waits[1] <= 0.6
    assert KEY not in repr(service.requests)
