"""The inspector's doors, and what its API tells and does."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Scope

import signalr_upstream.local
from signalr_upstream import Context, Hub, HubError, UpstreamApp
from signalr_upstream.local import LocalService, ManualClock, NotAdmittedError
from signalr_upstream.local.inspector import console as console_module
from signalr_upstream.local.inspector import inspector_state as state_module
from signalr_upstream.local.inspector import routes as inspector_module
from signalr_upstream.local.records.entries import Client, UpstreamCall

pytestmark = pytest.mark.anyio

KEY = "k" * 44
PAGE = Path(signalr_upstream.local.__file__).parent / "inspector" / "page"
API = ["events", "entries/1", "faults", "console"]


def make_app() -> UpstreamApp:
    hub = Hub("chat")

    @hub.on("double")
    async def double(ctx: Context, number: int) -> int:
        await ctx.clients.caller.send("doubled", number)
        return 2 * number

    @hub.on("fail")
    async def fail(ctx: Context) -> None:
        raise HubError("as it should")

    @hub.on("join")
    async def join(ctx: Context, group: str) -> None:
        await ctx.groups.add(group)

    return UpstreamApp(hub)


@pytest.fixture
async def service() -> AsyncIterator[LocalService]:
    async with LocalService(make_app(), keys=[KEY], port=None) as service:
        yield service


def token(service: LocalService) -> str:
    return service._inspector.token


def http(service: LocalService, *, address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(service.asgi, client=(address, 50000)),
        base_url="http://localhost:8888",
        headers=headers,
    )


def opened(service: LocalService, **headers: str) -> httpx.AsyncClient:
    """The page's script: it has the token."""
    return http(service, **({"Authorization": f"Bearer {token(service)}"} | headers))


async def call(service: LocalService, method: str, path: str, body: Any = None) -> Any:
    """An answer of the API."""
    async with opened(service) as client:
        answer = await client.request(method, f"/inspector/api/{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


class News:
    """The stream of the API, a batch at a time."""

    def __init__(self, service: LocalService) -> None:
        self._service = service
        self.start: asyncio.Queue[Message] = asyncio.Queue()
        self._lines: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: the stream has ended
        self._gone = asyncio.Event()
        self.task: asyncio.Task[None]

    async def _receive(self) -> Message:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start.put_nowait(message)
        elif message["body"]:
            self._lines.put_nowait(message["body"])

    def open(self) -> None:
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "scheme": "http",
            "path": "/inspector/api/events",
            "raw_path": b"/inspector/api/events",
            "query_string": b"",
            "root_path": "",
            "client": ("127.0.0.1", 1),
            "headers": [
                (b"host", b"localhost:8888"),
                (b"authorization", f"Bearer {token(self._service)}".encode()),
            ],
        }
        self.task = asyncio.create_task(self._service.asgi(scope, self._receive, self._send))
        self.task.add_done_callback(lambda _: self._lines.put_nowait(None))

    async def line(self) -> bytes:
        line = await self._lines.get()
        if line is None:
            self.task.result()
            raise AssertionError("the stream has ended")
        return line

    async def until(self, key: str) -> Any:
        """The next batch that has ``key``."""
        while True:
            news = json.loads((await self.line()).strip() or b"{}")
            if key in news:
                return news[key]

    async def leave(self) -> None:
        self._gone.set()
        await self.task


@asynccontextmanager
async def following(service: LocalService) -> AsyncIterator[News]:
    news = News(service)
    news.open()
    try:
        yield news
    finally:
        await news.leave()


# --- the doors ---


@pytest.mark.parametrize("path", ["", "/inspector.js", "/api/events", "/api/console", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8888", "192.0.2.7:8888", ""])
async def test_requests_for_other_hosts_are_refused(service: LocalService, path: str, host: str) -> None:
    answer = await opened(service, Host=host).get(f"/inspector{path}")

    assert (answer.status_code, "Host header" in answer.text) == (403, True)


@pytest.mark.parametrize("host", ["localhost:8888", "localhost", "127.0.0.1:8888", "[::1]:8888", "[::1]"])
async def test_names_of_loopback_are_served(service: LocalService, host: str) -> None:
    assert (await http(service, Host=host).get("/inspector")).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "https://localhost:8888", "http://localhost"],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS"])
async def test_other_pages_are_refused_those_of_loopback_too(
    service: LocalService, origin: str, method: str
) -> None:
    answer = await opened(service, Origin=origin).request(
        method, "/inspector/api/faults", headers={"Access-Control-Request-Method": "PUT"}
    )

    assert (answer.status_code, "Other pages" in answer.text) == (403, True)
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_the_page_itself_may_call(service: LocalService) -> None:
    answer = await opened(service, Origin="http://localhost:8888").put("/inspector/api/faults", json={})

    assert answer.status_code == 204


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1", "::ffff:10.0.0.1", "2001:db8::1"])
async def test_other_machines_are_refused_whatever_the_service_listens_on(address: str) -> None:
    service = LocalService(keys=[KEY], host="0.0.0.0")

    answer = await http(service, address=address, Authorization=f"Bearer {token(service)}").get(
        "/inspector/api/entries/1"
    )

    assert answer.status_code == 403
    assert "from this machine only; the host of a container is another one" in answer.text
    assert (await http(service, address="::1").get("/inspector")).status_code == 200


@pytest.mark.parametrize("path", API)
@pytest.mark.parametrize("given", [None, "", "Bearer ", "Bearer wrong", "Basic x", "TOKEN"])
async def test_without_the_token_the_api_is_closed(
    service: LocalService, path: str, given: str | None
) -> None:
    headers = {} if given is None else {"Authorization": given.replace("TOKEN", token(service))}

    with anyio.fail_after(5):  # an open stream of events would never end
        answer = await http(service, **headers).get(f"/inspector/api/{path}")

    assert answer.status_code == 401
    assert token(service) not in answer.text


async def test_a_token_in_the_query_opens_nothing(service: LocalService) -> None:
    answer = await http(service).get(f"/inspector/api/entries/1?token={token(service)}")

    assert answer.status_code == 401


async def test_every_answer_forbids_what_a_page_could_be_made_to_do(service: LocalService) -> None:
    async with http(service) as client:
        answers = [
            await client.get(f"/inspector{path}") for path in ("", "/inspector.js", "/api/events", "/x")
        ]

    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        for part in (
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ):
            assert part in policy.split("; ")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"


async def test_each_service_has_a_token_of_its_own_in_the_fragment_of_its_url() -> None:
    first, second = LocalService(port=8888), LocalService(port=8888)

    assert first.inspector_url == f"http://localhost:8888/inspector#token={token(first)}"
    assert len(token(first)) >= 43
    assert token(first) != token(second)
    assert token(first) not in repr(first)
    everywhere = LocalService(port=1, host="0.0.0.0", keys=[KEY])
    assert everywhere.inspector_url == f"http://localhost:1/inspector#token={token(everywhere)}"


@pytest.mark.parametrize(("host", "port"), [("192.0.2.7", 8888), ("127.0.0.1", None)])
def test_there_is_no_url_where_nothing_listens_on_loopback(host: str, port: int | None) -> None:
    assert LocalService(host=host, port=port, keys=[KEY]).inspector_url is None


# --- the page ---


async def test_every_file_of_the_page_is_served_and_no_other(service: LocalService) -> None:
    async with http(service) as client:
        for file in PAGE.iterdir():
            path = "/inspector" if file.suffix == ".html" else f"/inspector/{file.name}"
            answer = await client.get(path)
            assert (answer.status_code, answer.content) == (200, file.read_bytes()), path
        assert (await client.get("/inspector/../app.py")).status_code == 404
        assert (await client.post("/inspector")).status_code == 405


def test_the_page_has_no_inline_code_and_nothing_from_elsewhere() -> None:
    page = (PAGE / "inspector.html").read_text()

    assert "<style" not in page
    assert " style=" not in page
    assert re.search(r"<[^>]*\son\w+=", page) is None
    assert (
        page.count("<script")
        == page.count('<script type="module" src="/inspector/inspector.js"></script>')
        == 1
    )
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, file.name
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "DOMParser"):
            assert way not in text, (file.name, way)


# --- what it tells ---


async def test_news_come_as_lines_the_state_first_and_again_when_it_changes(service: LocalService) -> None:
    async with following(service) as news:
        start = await news.start.get()
        state = await news.until("state")
        client = await service.connect(
            "chat", user_id="ann", claims={"role": ["admin"]}, protocol="messagepack"
        )
        rows = await news.until("rows")
        while not any(row["name"] == "connected" and row["state"] == "204" for row in rows):
            rows += await news.until("rows")

    assert start["status"] == 200
    assert (b"content-type", b"application/x-ndjson") in start["headers"]
    assert (state["connections"], state["users"], state["groups"]) == ([], [], [])
    assert state["totals"] == {"connections": 0, "users": 0, "groups": 0}
    assert state["faults"]["upstream_status"] is None
    assert [(row["kind"], row["type"], row["text"]) for row in rows if row["kind"] != "upstream"] == [
        ("opened", "", "WebSockets"),
        ("received", "Handshake", "messagepack"),
        ("sent", "Handshake", ""),
    ]
    assert {(row["connection"], row["user"]) for row in rows} == {(client.connection_id, "ann")}


async def test_the_state_names_connections_users_and_groups(service: LocalService) -> None:
    ann = await service.connect("chat", user_id="ann", claims={"role": ["admin", "x"]})
    nobody = await service.connect("chat", protocol="messagepack")
    await ann.invoke("join", "lobby")
    now = service.clock.time()
    service.hub("chat").user_join("ann", "for ever", ttl=None, now=now)
    service.hub("chat").user_join("bob", "a while", ttl=60, now=now)
    service.faults.hold(ann.connection_id)

    async with following(service) as news:
        state = await news.until("state")

    first, second = state["connections"]
    assert (
        first["id"],
        first["hub"],
        first["user"],
        first["transport"],
        first["protocol"],
        first["held"],
    ) == (
        *(ann.connection_id, "chat", "ann", "WebSockets", "json"),
        True,
    )
    assert now - 60 < first["since"] <= now
    assert ["http://schemas.microsoft.com/ws/2008/06/identity/claims/role", "admin"] in first["claims"]
    assert ["su", "[hidden]"] in first["claims"]
    assert (second["id"], second["user"], second["protocol"], second["held"]) == (
        *(nobody.connection_id, "", "messagepack"),
        False,
    )
    users = {user["name"]: (user["connections"], user["groups"]) for user in state["users"]}
    assert users["ann"] == (1, [{"group": "for ever", "until": None}])
    assert users["bob"] == (0, [{"group": "a while", "until": pytest.approx(now + 60, abs=1)}])
    assert {(group["name"], group["connections"]) for group in state["groups"]} == {
        ("lobby", 1),
        ("for ever", 1),
    }
    assert state["hubs"] == ["chat"]


async def test_lists_are_cut_and_say_how_many_there_are(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_LISTED", 1)
    for user in ("ann", "bob"):
        client = await service.connect("chat", user_id=user)
        await client.invoke("join", user)

    async with following(service) as news:
        state = await news.until("state")

    assert [len(state[name]) for name in ("connections", "users", "groups")] == [1, 1, 1]
    assert state["totals"] == {"connections": 2, "users": 2, "groups": 2}


async def test_a_client_before_its_handshake_has_no_protocol(service: LocalService) -> None:
    service.journal.opened(
        Client(connection_id="c", hub="Nowhere", user_id=None, transport="LongPolling", claims=())
    )

    async with following(service) as news:
        [connection] = (await news.until("state"))["connections"]

    assert (connection["hub"], connection["transport"], connection["protocol"]) == (
        "Nowhere",
        "LongPolling",
        "",
    )


async def test_a_silent_stream_has_a_heartbeat(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector_module, "HEARTBEAT", 0.01)

    async with following(service) as news:
        await news.until("state")
        assert await news.line() == b"\n"


async def test_rows_tell_of_calls_their_answers_and_failures(service: LocalService) -> None:
    client = await service.connect("chat", user_id="ann")
    await client.invoke("double", 21)
    with pytest.raises(HubError):
        await client.invoke("fail")
    service.faults.upstream_status = 503
    with pytest.raises(HubError):
        await client.invoke("double", 1)

    async with following(service) as news:
        rows = await news.until("rows")

    calls = [row for row in rows if row["kind"] in ("upstream", "rest")]
    assert [(row["type"], row["name"], row["text"], row["state"], row["failed"]) for row in calls] == [
        ("chat", "connected", "", "204", False),
        ("chat", "double", "[21] → 42", "200", False),
        ("POST", f"chat/connections/{client.connection_id}/:send", "doubled [21]", "202", False),
        ("chat", "fail", "[] → as it should", "200", True),
        ("chat", "double", "[1]", "503", True),
    ]
    assert all(row["seconds"] >= 0 for row in calls)
    failed = [row["text"] for row in rows if row["kind"] == "sent" and row["failed"]]
    assert failed == ["as it should", "Invocation failed, status code 503"]


async def test_details_have_all_of_an_entry_and_no_secret(service: LocalService) -> None:
    client = await service.connect("chat", user_id="ann", protocol="messagepack")
    await client.invoke("double", 21)
    numbers = [frame.number for frame in service.journal.frames]
    numbers += [call.number for call in service.upstream_calls]
    numbers += [call.number for call in service.rest_calls]

    details = [await call(service, "GET", f"entries/{number}") for number in numbers]

    titles = [entry["title"] for entry in details]
    assert titles.count("To the client") == 3
    assert titles.count("From the client") == 2
    assert titles[0] == "A client opened a transport"
    upstream = details[titles.index("Call to the app: double")]
    facts = dict(upstream["facts"])
    assert (facts["Hub"], facts["Answer"], facts["User"]) == ("chat", "200", "ann")
    assert facts["Took"].endswith(" ms")
    assert [section["title"] for section in upstream["sections"]] == [
        "Request",
        "Request body",
        "Answer",
        "Answer body",
    ]
    assert json.loads(upstream["sections"][1]["text"])["arguments"] == [21]
    assert json.loads(upstream["sections"][3]["text"])["result"] == 42
    assert ["X-ASRS-Signature", "[hidden]"] in upstream["sections"][0]["headers"]
    assert upstream["replay"]
    assert upstream["curl"] is None
    assert "in the service's process" in upstream["no_curl"]
    rest = next(entry for entry in details if entry["title"].startswith("REST call: POST"))
    assert json.loads(rest["sections"][1]["text"]) == {"target": "doubled", "arguments": [21]}
    assert not rest["replay"]
    everything = json.dumps(details)
    assert "eyJ" not in everything
    assert KEY not in everything
    assert "sha256=" not in everything


async def test_what_is_still_running_and_what_came_to_nothing_says_so(service: LocalService) -> None:
    journal = service.journal
    client = await service.connect("chat")
    await client.invoke("double", 1)
    finished = service.upstream_calls[-1]
    running = UpstreamCall(
        connection_id="gone",
        hub="chat",
        category="messages",
        event="slow",
        request=journal.request("POST", "http://localhost/x", finished.request.headers, b"x" * 70_000),
        start=0.0,
    )
    journal.upstream_called(running)

    before = await call(service, "GET", f"entries/{running.number}")
    journal.upstream_answered(running, "nothing listens there")
    journal.closed("c")
    closed_well = await call(service, "GET", f"entries/{journal.frames[-1].number}")
    journal.closed("c", "cut off")
    after = await call(service, "GET", f"entries/{running.number}")
    closed = await call(service, "GET", f"entries/{journal.frames[-1].number}")
    async with following(service) as news:
        rows = await news.until("rows")

    assert (dict(before["facts"])["Answer"], dict(before["facts"])["Took"]) == ("…", "still running")
    assert dict(after["facts"])["Answer"] == "nothing listens there"
    assert not after["replay"]  # its body was cut
    assert "70,000 bytes" in after["sections"][1]["title"]
    assert dict(closed["facts"])["Reason"] == "cut off"
    assert dict(closed_well["facts"]) == {"Connection": "c"}
    [row] = [row for row in rows if row["name"] == "slow"]
    assert (row["text"], row["state"], row["failed"]) == ("nothing listens there", "failed", True)


async def test_of_a_burst_the_newest_rows_are_told(service: LocalService) -> None:
    for number in range(600):
        service.journal.sent("c", b'{"type":3,"invocationId":"%d"}\x1e' % number, binary=False)
    service.journal.sent("c", b'{"type":6}\x1e' * 600, binary=False)

    async with following(service) as news:
        rows = await news.until("rows")
        for _ in range(3):
            service.journal.sent("c", b'{"type":6}\x1e', binary=False)
        later = await news.until("rows")

    newest = service.journal.frames[-4].number
    assert len(rows) == 500
    assert {row["key"].partition(".")[0] for row in rows} == {str(newest)}
    assert [row["key"] for row in later] == [str(newest + 1), str(newest + 2), str(newest + 3)]


async def test_a_call_is_told_of_again_when_it_ends(service: LocalService) -> None:
    journal = service.journal
    client = await service.connect("chat")
    await client.invoke("double", 1)
    call_ = service.upstream_calls[-1]

    async with following(service) as news:
        await news.until("rows")
        again = UpstreamCall(
            connection_id="c", hub="chat", category="messages", event="e", request=call_.request, start=0.0
        )
        journal.upstream_called(again)
        [begun] = await news.until("rows")
        journal.upstream_answered(again, journal.answer(204, [], b""))
        [ended] = await news.until("rows")

    assert begun["key"] == ended["key"]
    assert (begun["state"], ended["state"]) == ("…", "204")


@pytest.mark.parametrize("path", ["entries/999999", "entries/999999/replay"])
async def test_what_is_not_kept_any_more_is_a_404_that_says_so(service: LocalService, path: str) -> None:
    answer = await opened(service).request("POST" if "replay" in path else "GET", f"/inspector/api/{path}")

    assert (answer.status_code, "not kept any more" in answer.json()["error"]) == (404, True)


# --- what a person does ---


async def test_a_replay_calls_the_app_again(service: LocalService) -> None:
    client = await service.connect("chat", user_id="ann")
    await client.invoke("double", 21)
    number = service.upstream_calls[-1].number

    answer = await call(service, "POST", f"entries/{number}/replay")

    again = service.upstream_calls[-1]
    assert answer == {"number": again.number}
    assert again.answer is not None
    assert again.answer.body == service.upstream_calls[-2].answer.body  # type: ignore[union-attr]
    assert (await client.receive("doubled")).arguments == [21]
    assert (await client.receive("doubled")).arguments == [21]


async def test_faults_are_set_together_and_cleared(service: LocalService) -> None:
    await call(service, "PUT", "faults", {"upstream_status": 500, "rest_latency": 0.5})
    on = (service.faults.upstream_status, service.faults.rest_latency)

    await call(service, "POST", "faults/clear")

    assert on == (500, 0.5)
    assert (service.faults.upstream_status, service.faults.rest_latency) == (None, 0.0)


@pytest.mark.parametrize("body", [{"upstream_status": 42}, {"rest_latency": -1}, {"typo": 1}, []])
async def test_faults_that_make_no_sense_are_refused(service: LocalService, body: Any) -> None:
    answer = await opened(service).put("/inspector/api/faults", json=body)

    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)
    assert service.faults.upstream_status is None


async def test_a_client_can_be_held_released_closed_and_dropped(service: LocalService) -> None:
    ann, bob = await service.connect("chat"), await service.connect("chat")

    await call(service, "POST", f"connections/{ann.connection_id}/hold")
    held = service.faults.held
    await call(service, "POST", f"connections/{ann.connection_id}/release")
    await call(service, "POST", f"connections/{ann.connection_id}/close")
    await call(service, "POST", f"connections/{bob.connection_id}/drop")

    assert held == {ann.connection_id}
    assert not service.faults.held
    assert await ann.closed() == "Closed in the inspector."
    assert await bob.closed() is None


async def test_a_client_of_any_hub_can_be_closed(service: LocalService) -> None:
    service.hub("empty")
    client = await service.connect("chat")

    await call(service, "POST", f"connections/{client.connection_id}/close")

    assert await client.closed() == "Closed in the inspector."


@pytest.mark.parametrize("action", ["hold", "close", "drop", "nonsense"])
async def test_actions_on_nobody_are_404(service: LocalService, action: str) -> None:
    answer = await opened(service).post(f"/inspector/api/connections/nobody/{action}")

    assert answer.status_code == 404
    assert answer.json()["error"]


# --- the console ---


async def connect(service: LocalService, **asked: Any) -> str:
    answer = await call(service, "POST", "console", {"hub": "chat"} | asked)
    assert "error" not in answer, answer
    return str(answer["connection"])


@pytest.mark.parametrize("protocol", ["json", "messagepack"])
async def test_the_console_connects_as_anybody_and_calls(service: LocalService, protocol: str) -> None:
    async with following(service) as news:
        connection = await connect(service, user="ann", claims={"role": ["admin"]}, protocol=protocol)
        state = await news.until("state")
        while not any(each["console"] and each["protocol"] for each in state["connections"]):
            state = await news.until("state")

        result = await call(
            service, "POST", f"console/{connection}/call", {"target": "double", "arguments": "[21]"}
        )
        sent = await call(
            service,
            "POST",
            f"console/{connection}/call",
            {"target": "double", "arguments": "[1]", "wait": False},
        )
        failed = await call(service, "POST", f"console/{connection}/call", {"target": "fail"})
        await call(service, "DELETE", f"console/{connection}")

    [view] = state["connections"]
    assert (view["id"], view["user"], view["protocol"], view["console"]) == (
        connection,
        "ann",
        protocol,
        True,
    )
    assert ["http://schemas.microsoft.com/ws/2008/06/identity/claims/role", "admin"] in view["claims"]
    assert (result, sent, failed) == ({"result": "42"}, {"result": "null"}, {"error": "as it should"})
    assert service.hub("chat").everybody() == []


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("console", {"hub": "no good name"}, "hub"),
        ("console", {"hub": "chat", "protocol": "xml"}, "protocol"),
        ("console", {"hub": "chat", "claims": {"asrs.s.uid": ["bob"]}}, "asrs."),
        ("console", [], "object"),
        ("console/nobody/call", {"target": "double"}, "no such client"),
        ("console/nobody/call", {"target": "double", "arguments": "[1"}, "no JSON array"),
        ("console/nobody/call", {"target": "double", "arguments": "{}"}, "no JSON array"),
    ],
)
async def test_what_the_console_cannot_do_it_explains(
    service: LocalService, path: str, body: Any, error: str
) -> None:
    assert error in (await call(service, "POST", path, body))["error"]


async def test_the_console_has_a_limit(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_module, "MAX_CLIENTS", 1)
    connection = await connect(service)

    refused = await call(service, "POST", "console", {"hub": "chat"})
    await call(service, "DELETE", f"console/{connection}")
    await call(service, "DELETE", f"console/{connection}")

    assert "disconnect one first" in refused["error"]
    assert await connect(service)


async def test_the_clients_of_the_console_outlive_a_reload_and_leave_when_nobody_looks_any_more() -> None:
    clock = ManualClock()
    async with LocalService(make_app(), keys=[KEY], port=None, clock=clock) as service:
        async with following(service) as first:
            await first.until("state")
            async with following(service) as second:
                await second.until("state")
                connection = await connect(service)
            clock.advance(inspector_module.ABSENCE)
            while_watched = len(service.hub("chat").everybody())
        clock.advance(inspector_module.ABSENCE - 1)
        async with following(service) as reloaded:
            consoles = [
                view["id"] for view in (await reloaded.until("state"))["connections"] if view["console"]
            ]
            clock.advance(inspector_module.ABSENCE)
            after_a_reload = len(service.hub("chat").everybody())
        clock.advance(inspector_module.ABSENCE)
        await asyncio.gather(*service._inspector._tasks)
        in_the_end = service.hub("chat").everybody()

    assert (while_watched, consoles, after_a_reload, in_the_end) == (1, [connection], 1, [])


async def test_the_end_of_the_service_ends_streams_and_console() -> None:
    async with LocalService(make_app(), keys=[KEY], port=None) as service:
        news = News(service)
        news.open()
        await news.until("state")
        await connect(service)

    await news.task
    assert service.hub("chat").everybody() == []


async def test_clients_that_are_not_let_in_are_told_of(service: LocalService) -> None:
    secret = "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjF9.c2lnbmF0dXJl"
    async with http(service) as client:
        await client.post("/client/negotiate?hub=chat")
        await client.get(
            f"/client/?hub=chat&id=a-token&access_token={secret}", headers={"Accept": "text/event-stream"}
        )
        await client.post("/client/negotiate?hub=chat", headers={"Origin": "https://elsewhere.example"})
    service.faults.client_status = 429
    with pytest.raises(NotAdmittedError):
        await service.connect("chat")

    async with following(service) as news:
        rows = [row for row in await news.until("rows") if row["kind"] == "refused"]
    details = [await call(service, "GET", f"entries/{row['key']}") for row in rows]

    assert [(row["name"], row["state"], row["failed"]) for row in rows] == [
        ("POST /client/negotiate", "401", True),
        ("GET /client/", "401", True),
        ("POST /client/negotiate", "403", True),
        ("POST /client/negotiate", "429", True),
    ]
    assert rows[0]["text"] == "There is no bearer token."
    assert details[1]["title"] == "A request was not let in"
    assert dict(details[1]["facts"])["Request"] == "GET /client/?hub=chat&id=[hidden]&access_token=[hidden]"
    assert secret not in json.dumps([rows, details])
