"""Who may open which transport, and what everybody else is told: negotiate, ids, methods, tokens, pages."""

import json
from typing import Any

import pytest

from signalr_upstream.local import LocalService, request_body
from signalr_upstream.local.clients.client_endpoint import MAX_POST
from signalr_upstream.local.clients.negotiated import MAX_EARLY
from signalr_upstream.local.clock import ManualClock

from ..echo_app import EchoApp
from ..http_client import HANDSHAKE, HANDSHAKEN, Exchange, HttpClient, event, settle

pytestmark = pytest.mark.anyio

SENT = b'{"type":1,"target":"echo","arguments":[1]}\x1e'
# recorded: negotiate_v1, negotiate_none
TRANSPORTS = (
    b'"availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]},'
    b'{"transport":"ServerSentEvents","transferFormats":["Text"]},'
    b'{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}'
)


async def websocket(client: HttpClient, target: str) -> list[Any]:
    """What a WebSocket is answered with, when its client leaves at once."""
    path, _, query = target.partition("?")
    messages = iter([{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {client.token}".encode())]
    scope = {
        "type": "websocket",
        "path": path,
        "query_string": query.encode(),
        "headers": headers,
        "extensions": {"websocket.http.response": {}},
    }
    await client.service.asgi(scope, receive, send)
    return sent


def told(answer: Exchange) -> tuple[int, bytes]:
    """Status and text of an error, whose type has to be plain text."""
    assert answer.headers["content-type"] == "text/plain"
    return answer.status, answer.body


# --- negotiate ---


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("", 0),
        ("&negotiateVersion=0", 0),
        ("&negotiateVersion=1", 1),
        ("&negotiateVersion=2", 1),
        ("&NegotiateVersion=7", 1),
    ],
)
async def test_negotiate_answers_in_the_clients_version(client: HttpClient, query: str, version: int) -> None:
    answer = await client.ask("POST", f"/client/negotiate?hub=chat{query}")

    body = json.loads(answer.body)
    assert answer.status == 200
    assert answer.headers == {"content-type": "application/json", "content-length": str(len(answer.body))}
    assert len(answer.body) == (316 if version else 273)  # as recorded
    assert answer.body.endswith(TRANSPORTS)
    assert list(body) == [
        "negotiateVersion",
        "connectionId",
        *(["connectionToken"] * version),
        "availableTransports",
    ]
    assert body["negotiateVersion"] == version
    assert len(body["connectionId"]) == 22
    assert body.get("connectionToken") != body["connectionId"]


@pytest.mark.parametrize(
    ("version", "error"),
    [
        ("-1", "The client requested version '-1', but the server does not support this version."),
        ("", "The client requested a non-integer protocol version."),
    ],
)
async def test_a_version_that_is_none_is_an_error_that_the_client_shows(
    client: HttpClient, version: str, error: str
) -> None:
    # recorded: negotiate_vneg, negotiate_vempty
    answer = await client.ask("POST", f"/client/negotiate?hub=chat&negotiateVersion={version}")

    assert (answer.status, answer.body) == (200, json.dumps({"error": error}, separators=(",", ":")).encode())


@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
async def test_negotiate_is_post(client: HttpClient, method: str) -> None:
    answer = await client.ask(method, "/client/negotiate?hub=chat")

    assert told(answer) == (405, b"negotiate is POST.")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/client/negotiate", "/Client/Negotiate/"])
async def test_case_and_a_last_slash_of_the_path_do_not_matter(client: HttpClient, path: str) -> None:
    assert (await client.ask("POST", f"{path}?hub=chat")).status == 200


@pytest.mark.parametrize(("lenient", "lifetime"), [(False, 5.0), (True, 15.0)])
async def test_a_negotiated_id_is_good_for_a_short_time(
    clock: ManualClock, lenient: bool, lifetime: float
) -> None:
    service = LocalService(EchoApp(), clock=clock, lenient=lenient)
    client = HttpClient(service)
    early, late = await client.negotiate(), await client.negotiate()

    clock.advance(lifetime - 0.1)
    in_time = await client.poll(early).done()
    clock.advance(0.1)
    too_late = await client.poll(late).done()

    assert in_time.status == 200
    assert told(too_late) == (404, b"No Connection with that ID")
    await service.aclose()


async def test_the_ids_of_clients_that_never_came_are_forgotten(
    client: HttpClient, service: LocalService, clock: ManualClock
) -> None:
    for _ in range(10):
        await client.negotiate()
        clock.advance(5)

    assert repr(service._clients._negotiated) == "NegotiatedTokens(<1 redacted>)"
    assert len(service._clients._negotiated) == 1


async def test_a_connection_is_known_by_its_token_and_not_by_its_id(client: HttpClient) -> None:
    answer = await client.ask("POST", "/client/negotiate?hub=chat&negotiateVersion=1")

    poll = await client.poll(json.loads(answer.body)["connectionId"]).done()

    assert told(poll) == (404, b"No Connection with that ID")


async def test_an_id_of_version_0_opens_a_transport(client: HttpClient) -> None:
    assert (await client.poll(await client.negotiate("")).done()).status == 200


# --- the errors of section 3.2 ---


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_an_id_is_required_and_has_to_be_known(client: HttpClient, method: str) -> None:
    # recorded: client_get_no_id, client_post_no_id, client_post_unknown_id, client_delete_unknown_id
    missing = await client.ask(method, "/client/?hub=chat")
    empty = await client.ask(method, "/client/?hub=chat&id=")
    unknown = await client.ask(method, "/client/?hub=chat&id=nope")

    assert told(missing) == told(empty) == (400, b"Connection ID required")
    assert told(unknown) == (404, b"No Connection with that ID")
    assert ("cache-control" in missing.headers) == ("cache-control" in unknown.headers) == (method == "GET")


async def test_an_event_stream_needs_a_known_id_too(client: HttpClient) -> None:
    # recorded: client_sse_no_id_timeout
    missing = await client.ask("GET", "/client/?hub=chat", headers={"Accept": "text/event-stream"})
    unknown = await client.ask("GET", "/client/?hub=chat&id=nope", headers={"Accept": "text/event-stream"})

    assert told(missing) == (400, b"Connection ID required")
    assert told(unknown) == (404, b"No Connection with that ID")


@pytest.mark.parametrize("method", ["PUT", "HEAD", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(client: HttpClient, method: str) -> None:
    answer = await client.ask(method, "/client/?hub=chat&id=nope")

    assert told(answer)[0] == 405
    assert answer.headers["allow"] == "GET, POST, DELETE"


async def test_a_transport_is_not_changed_on_the_way(client: HttpClient) -> None:
    polled = await client.open_polls()
    streamed, _ = await client.open_events()

    refused = [
        await client.events(polled).done(),
        await client.poll(streamed).done(),
    ]
    socket = await websocket(client, client.url(streamed))

    assert [told(answer) for answer in refused] == [(400, b"Cannot change transports mid-connection")] * 2
    assert socket[0]["status"] == 400
    assert socket[1]["body"] == b"Cannot change transports mid-connection"


async def test_a_second_stream_of_one_connection_is_refused(client: HttpClient) -> None:
    connection, _ = await client.open_events()

    assert told(await client.events(connection).done())[0] == 409


async def test_only_polls_are_ended_by_delete(client: HttpClient) -> None:
    connection, _ = await client.open_events()

    answer = await client.delete(connection)

    assert told(answer) == (400, b"Cannot terminate this connection using the DELETE endpoint.")


async def test_a_websocket_takes_no_posts(client: HttpClient) -> None:
    answered: list[Exchange] = []
    connection = await client.negotiate()

    async def receive() -> Any:
        if not opened:
            opened.append(True)
            return {"type": "websocket.connect"}
        answered.append(await client.post(connection, HANDSHAKE))
        return {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        pass

    opened: list[bool] = []
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {client.token}".encode())]
    query = client.url(connection).partition("?")[2].encode()
    scope = {"type": "websocket", "path": "/client/", "query_string": query, "headers": headers}
    await client.service.asgi(scope, receive, send)

    assert told(answered[0]) == (405, b"POST requests are not allowed for WebSocket connections.")


async def test_a_websocket_needs_no_id_but_the_right_path(client: HttpClient) -> None:
    assert (await websocket(client, "/client?hub=chat"))[0]["type"] == "websocket.accept"
    assert (await websocket(client, "/chat?hub=chat"))[0]["status"] == 404


@pytest.mark.parametrize("hub", ["", "1x"])
async def test_a_hub_is_needed_to_open_a_transport(service: LocalService, hub: str) -> None:
    client = HttpClient(service, hub=hub)
    connection = await client.negotiate()

    assert told(await client.poll(connection).done())[0] == 400


async def test_nothing_is_kept_of_a_socket_that_is_refused(service: LocalService) -> None:
    refused = await websocket(HttpClient(service, hub="1x"), "/client/?hub=1x")

    assert refused[0]["status"] == 400
    assert len(service._clients._negotiated) == 0


async def test_a_websocket_with_an_empty_id_has_none_that_is_known(client: HttpClient) -> None:
    assert (await websocket(client, "/client/?hub=chat&id="))[0]["status"] == 404


# --- tokens ---


async def test_every_request_needs_a_token(client: HttpClient) -> None:
    connection = await client.open_polls()
    for method, target in [
        ("POST", "/client/negotiate?hub=chat"),
        ("GET", client.url(connection)),
        ("POST", client.url(connection)),
        ("DELETE", client.url(connection)),
        ("PUT", client.url(connection)),
    ]:
        answer = await client.start(method, target, authorized=False).done()

        assert told(answer)[0] == 401
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic YTpi"])
async def test_what_is_no_bearer_token_is_told_so(client: HttpClient, value: str) -> None:
    # recorded: negotiate_empty_bearer, negotiate_basic_auth
    answer = await client.start(
        "POST", "/client/negotiate?hub=chat", authorized=False, headers={"Authorization": value}
    ).done()

    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 401),
        ("POST", {"Accept": "text/event-stream"}, 200),
        ("POST", {"Accept": "text/event-stream", "Authorization": "Basic YTpi"}, 401),
        ("GET", {}, 401),
        ("GET", {"Accept": "text/html, text/event-stream"}, 405),
    ],
)
async def test_a_token_in_the_query_counts_for_event_streams_without_a_header(
    client: HttpClient, method: str, headers: dict[str, str], status: int
) -> None:
    # recorded: negotiate_token_in_query, negotiate_token_in_query_sse_accept
    target = f"/client/negotiate?hub=chat&access_token={client.token}"

    answer = await client.start(method, target, authorized=False, headers=headers).done()

    assert answer.status == status


async def test_the_token_for_another_hub_is_refused(client: HttpClient) -> None:
    connection = await client.open_polls()

    assert (await client.ask("POST", f"/client/?hub=other&id={connection}", SENT)).status == 401


# --- pages of other origins ---


async def test_a_page_may_see_every_answer(service: LocalService) -> None:
    client = HttpClient(service, Origin="http://localhost:3000")
    connection, events = await client.open_events()
    polled = await client.negotiate()

    answers = [
        events,
        await client.post(connection, SENT),
        await client.poll(polled).done(),
        await client.delete(polled),
        await client.poll("nope").done(),
        await client.events(connection).done(),
        await client.start("POST", client.url(connection), authorized=False).done(),
    ]

    assert [answer.status for answer in answers] == [200, 200, 200, 202, 404, 409, 401]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "Origin"


async def test_a_page_of_elsewhere_opens_nothing(service: LocalService, app: EchoApp) -> None:
    connection = await HttpClient(service).open_polls()
    client = HttpClient(service, Origin="https://evil.example")

    answers = [
        await client.poll(connection).done(),
        await client.events(connection).done(),
        await client.post(connection, SENT),
        await client.delete(connection),
    ]

    assert [answer.status for answer in answers] == [403] * 4
    assert app.events == [("connected", "ann")]


# --- bodies ---


async def test_a_body_that_does_not_end_is_given_up_and_the_next_is_taken(
    client: HttpClient, app: EchoApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT", 0.01)
    connection = await client.open_polls()
    slow = client.start("POST", client.url(connection), None)
    slow.say(SENT[:10], more=True)
    await settle()
    next_one = client.start("POST", client.url(connection), SENT)

    await slow.done()
    await next_one.done()
    await settle()

    assert (told(slow)[0], slow.headers["connection"]) == (408, "close")
    assert next_one.status == 200
    assert app.events[1:] == [("echo", [1])]  # no piece of what came slowly is in it


async def test_posts_are_taken_in_the_order_in_which_they_began(client: HttpClient, app: EchoApp) -> None:
    connection = await client.open_polls()
    first = client.start("POST", client.url(connection), None)
    first.say(SENT[:10], more=True)
    await settle()
    second = client.start("POST", client.url(connection), SENT.replace(b"1]", b"2]"))
    await settle()
    assert second.sent == []

    first.say(SENT[10:])
    await second.done()
    await settle()

    assert app.events[1:] == [("echo", [1]), ("echo", [2])]


async def test_a_body_whose_client_goes_is_forgotten(client: HttpClient, app: EchoApp) -> None:
    connection = await client.open_polls()
    broken = client.start("POST", client.url(connection), None)
    broken.say(SENT[:10], more=True)
    broken.leave()
    await broken.done()

    assert broken.sent == []
    assert (await client.post(connection, SENT)).status == 200
    await settle()
    assert app.events[1:] == [("echo", [1])]


async def test_a_body_that_is_too_large_is_refused(client: HttpClient) -> None:
    connection = await client.open_polls()

    answer = await client.post(connection, b" " * (MAX_POST + 1))

    assert (told(answer)[0], answer.headers["connection"]) == (413, "close")


async def test_a_post_whose_connection_ends_meanwhile_is_told_so(client: HttpClient) -> None:
    connection = await client.open_polls()
    post = client.start("POST", client.url(connection), None)
    await settle()
    await client.delete(connection)
    await settle()
    post.say(SENT)

    assert told(await post.done()) == (404, b"No Connection with that ID")


# --- posts before there is a transport: ASP.NET, HttpConnectionDispatcher.ProcessSend --------------------------

EARLY = HANDSHAKE + SENT


async def test_what_is_posted_before_the_first_poll_is_heard_with_it(
    client: HttpClient, app: EchoApp
) -> None:
    connection = await client.negotiate()
    posted = [await client.post(connection, EARLY[:40]), await client.post(connection, EARLY[40:])]

    assert [told(answer) for answer in posted] == [(200, b"")] * 2
    assert app.events == []
    assert (await client.poll(connection).done()).body == b""
    assert (await client.poll(connection).done()).body == HANDSHAKEN
    await settle()
    assert app.events == [("connected", "ann"), ("echo", [1])]


async def test_what_is_posted_before_an_event_stream_is_answered_behind_its_start(client: HttpClient) -> None:
    connection = await client.negotiate()
    await client.post(connection, HANDSHAKE)

    events = client.events(connection)

    await events.hears(b":\r\n" + event(HANDSHAKEN))
    assert events.status == 200


async def test_a_post_in_whose_midst_the_transport_opens_reaches_it(client: HttpClient) -> None:
    connection = await client.negotiate()
    post = client.start("POST", client.url(connection), None)
    post.say(HANDSHAKE[:10], more=True)
    await settle()
    await client.poll(connection).done()
    post.say(HANDSHAKE[10:])

    assert told(await post.done()) == (200, b"")
    assert (await client.poll(connection).done()).body == HANDSHAKEN


async def test_little_may_be_posted_before_there_is_a_transport(client: HttpClient) -> None:
    connection = await client.negotiate()

    fits = await client.post(connection, b" " * MAX_EARLY)
    too_much = await client.post(connection, b" ")
    at_once = await client.post(connection, b" " * (MAX_EARLY + 1))

    assert [told(answer)[0] for answer in (fits, too_much, at_once)] == [200, 413, 413]


async def test_a_post_for_an_id_whose_time_is_over_is_refused(client: HttpClient, clock: ManualClock) -> None:
    connection = await client.negotiate()
    clock.advance(5)

    assert told(await client.post(connection, HANDSHAKE)) == (404, b"No Connection with that ID")


async def test_a_service_that_ends_takes_nobody_in(client: HttpClient, service: LocalService) -> None:
    connection = await client.negotiate()
    await service.aclose()

    assert told(await client.poll(connection).done()) == (503, b"The local service is ending.")
    assert (await client.ask("POST", "/client/negotiate?hub=chat")).status == 503
    assert (await websocket(client, "/client?hub=chat"))[0]["status"] == 503
