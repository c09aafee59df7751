"""Recorded connections of real clients to Microsoft's emulator over HTTP requests, played to our lenient service.

Every request goes in as recorded, in its turn; compared are the answers (status, headers, body), the event streams and
the upstream calls (events and bodies). The app answers as it did, one call at a time, when a recorded answer needs it.
"""

import asyncio
import base64
import json
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from signalr_upstream.auth import encode_token
from signalr_upstream.connection_string import EMULATOR_KEY
from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

from ...recorded import load, raw
from ..http_client import Exchange, settle

pytestmark = pytest.mark.anyio

# A Close message which a client sends while it goes: whether the service still knows it, is a race that the recordings
# lost in three ways (200, 404 with its text, 404 without).
LAST_WORDS = (b'{"type":7}\x1e', b"\x03\x92\x07\xc0")

# To a poll that still waits when its client leaves, Microsoft's sends a Close message that nobody reads; ours ends it.
FAREWELLS = (b'{"type":7,"allowReconnect":true}\x1e', b"\x04\x93\x07\xc0\xc3")
OTHER_KEY = "AnotherAccessKeyForTests_0123456789ABCDEFGHI"

EXCLUDED = {  # name or its beginning -> why there is nothing to compare
    "argkind_arr65536": "large; the same as over WebSockets, whose replay has it",
    "argkind_bins": "as argkind_arr65536",
    "asterisk": "the HTTP server answers it",
    "badrequestline": "as asterisk",
    "body_100k": "as argkind_arr65536",
    "conn_control_claim": "a claim with NUL: refused when the headers are built, see test_upstream",
    "http10": "of the REST API",
    "nohost": "as asterisk",
    "rest_": "of .NET, whose REST calls are not in the recording",
}
DIFFERENT = {  # name or its beginning -> why we do otherwise
    "args_11": "more than 10 arguments are dropped there and the client waits for ever; here they arrive",
    "argkind_arrays": "nested MessagePack integers are widened there; here bytes stay",
    "argkind_maplens": "as argkind_arrays",
    "argkind_objects": "as argkind_arrays",
    "argkind_strings": "strings are written anew there; here the client's bytes stay",
    "client_put": "as negotiate_get",
    "conn_alg_none": "the answer says what is wrong, there it is empty",
    "conn_bad_signature": "as conn_alg_none",
    "conn_no_token": "as conn_alg_none",
    "conn_unicode": "non-ASCII header values are never sent there (invoke fails with 500); here they are UTF-8",
    "hub_path": "as root",
    "invoke_invocation": "an answer without its Completion leaves the client waiting there; here an error says so",
    "invoke_plain": "an answer that is no message breaks the client there; here it is an error that says so",
    "invoke_wrongid": "as invoke_invocation",
    "negotiate_basic_auth": "as conn_alg_none",
    "negotiate_empty_bearer": "as conn_alg_none",
    "negotiate_garbage_token": "as conn_alg_none",
    "negotiate_get": "the answer says which methods are allowed, there it is empty",
    "negotiate_head": "as negotiate_get",
    "negotiate_notoken_origin": "as negotiate_preflight",
    "negotiate_other_path": "as root",
    "negotiate_preflight": "every origin is let in there; here those of loopback and those that are named",
    "negotiate_put": "as negotiate_get",
    "negotiate_token_in_query": "as conn_alg_none",
    "rest_broadcast_types": "JSON of a REST call is read as dates and widened there; here values stay what they are",
    "rest_send_user": "%2F in a user's name is not decoded there, and nobody is reached",
    "root": "the answer says where one is, there it is empty",
}
STRICT = {  # what a strict service refuses besides, or answers otherwise
    "conn_aud_array": "one of its audiences has to be the service",
    "conn_expired": "the token has expired",
    "conn_long_claims": "the token is longer than Azure's limit",
    "conn_no_exp": "the token does not expire",
    "conn_query_hub_twice": "the audience is another hub",
    "invoke_invocationthen": "an answer is one Completion",
    "invoke_twocompletions": "as invoke_invocationthen",
    "negotiate_nohub": "as conn_query_hub_twice: the hub of the token is missing",
    "negotiate_noquery": "as negotiate_nohub",
    "rest_close_all_while_invoking": "the call is not in the version of the API that was asked for",
}


class RecordedApp:
    """Answers as it was recorded, call by call, as soon as it may."""

    def __init__(self, calls: list[list[Any]]) -> None:
        self._answers = [(call[2:] or [200, ""]) for call in calls]
        self._allowed = asyncio.Semaphore(0)
        self.told: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.told.append((request.headers["x-asrs-event"], await request.body()))
        status, body = (
            self._answers[len(self.told) - 1] if len(self.told) <= len(self._answers) else (200, "")
        )
        if request.headers["x-asrs-category"] == "messages":
            await self._allowed.acquire()
        await Response(raw(body), status)(scope, receive, send)

    def go_on(self) -> None:
        """Let one more call be answered."""
        self._allowed.release()


class Replay:
    """One recorded connection."""

    def __init__(self, row: dict[str, Any], *, lenient: bool) -> None:
        self._row = row
        self._app = RecordedApp(row["calls"])
        self._clock = ManualClock(1_800_000_000.0)
        self._service = LocalService(self._app, keys=[EMULATOR_KEY], clock=self._clock, lenient=lenient)
        self._names: dict[
            str, str
        ] = {}  # what stands in the recording for what negotiate gives out → what it gave
        self._open: dict[int, Exchange] = {}
        self.differences: list[str] = []

    async def play(self) -> list[str]:
        heard: dict[int, bytes] = {}
        said: dict[int, tuple[str, bytes]] = {}
        for step in self._row["steps"]:
            match step:
                case [connection, str(line), headers, body]:
                    self._open[connection] = self._start(line, dict(headers), raw(body))
                    said[connection] = line, raw(body)
                    await settle()
                case [connection, int(status), headers, body]:
                    exchange, (line, asked) = self._open[connection], said[connection]
                    await self._let_answer(exchange, stream=["Content-Type", "text/event-stream"] in headers)
                    if "/api/" not in line:  # those are in test_rest_replay
                        given = {name.lower(): value for name, value in headers}
                        self._compare(exchange, (status, given, raw(body)), asked)
                case [connection, text]:
                    heard[connection] = heard.get(connection, b"") + raw(text)
                    await self._heard(self._open[connection], heard[connection])
        await self._end()
        return self.differences

    def _start(self, line: str, headers: dict[str, str], body: bytes) -> Exchange:
        method, target = line.split(" ", 1)
        for mark, name in self._names.items():
            target = target.replace(mark, name)
        token = self._token(target)
        path, _, query = target.partition("?")
        given = {"Host": "localhost:8888"} | {
            name: value.replace("<token>", token) for name, value in headers.items()
        }
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.replace("<token>", token).encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 8888),
        }
        exchange = Exchange(self._service, scope)
        exchange.say(body)
        return exchange

    def _token(self, target: str) -> str:
        claims = self._row["claims"]
        if target.startswith("/api/"):
            claims = claims | {"aud": f"http://localhost:8888{target}"}
        token = encode_token(claims, OTHER_KEY if "conn_bad_signature" in self._row["of"] else EMULATOR_KEY)
        if "conn_alg_none" in self._row["of"]:
            header = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
            token = f"{header}.{token.split('.')[1]}."
        return token

    async def _let_answer(self, exchange: Exchange, *, stream: bool) -> None:
        for _ in range(len(self._row["calls"]) + 2):
            await settle()
            if exchange.task.done() or (stream and exchange.sent):
                break
            self._app.go_on()

    def _compare(self, exchange: Exchange, expected: tuple[int, dict[str, str], bytes], asked: bytes) -> None:
        if not exchange.sent:
            self.differences.append(f"no answer instead of {expected}")
            return
        if b"connectionId" in exchange.body:
            self._learn(json.loads(exchange.body))
        given = {name: value for name, value in exchange.headers.items() if name != "content-length"}
        body = b"" if "text/event-stream" in given.values() else self._with_marks(exchange.body)
        ours = exchange.status, given, body
        status, _, text = expected
        raced = asked in LAST_WORDS and {exchange.status, status} <= {200, 404}
        farewell = exchange.status == 204 and text in FAREWELLS
        if ours != expected and not raced and not farewell:
            self.differences.append(f"{ours} instead of {expected}")

    def _learn(self, negotiation: dict[str, str]) -> None:
        self._names = {"{id}": negotiation["connectionId"]}
        if "connectionToken" in negotiation:
            self._names["{token}"] = negotiation["connectionToken"]

    def _with_marks(self, body: bytes) -> bytes:
        for mark, name in self._names.items():
            body = body.replace(name.encode(), mark.encode())
        return body

    async def _heard(self, stream: Exchange, data: bytes) -> None:
        for _ in range(len(self._row["calls"]) + 2):
            await settle()
            if len(stream.body) >= len(data):
                break
            self._app.go_on()
        if stream.body[: len(data)] != data:
            self.differences.append(f"heard {stream.body!r} instead of {data!r}")

    async def _end(self) -> None:
        for exchange in self._open.values():
            exchange.leave()
        for _ in self._row["calls"]:
            self._app.go_on()
        await settle()
        self._clock.advance(200)
        await settle()
        self._app.go_on()
        await self._service.aclose()
        told = [(event, raw(body)) for event, body, *_ in self._row["calls"]]
        if self._app.told != told:
            self.differences.append(f"told {self._app.told} instead of {told}")


def reason(reasons: dict[str, str], name: str) -> str | None:
    return next((why for start, why in reasons.items() if name.startswith(start)), None)


@pytest.mark.parametrize(
    ("lenient", "expected"),
    [
        (True, {"equal": 186, "different": 53, "excluded": 16}),
        (False, {"equal": 165, "different": 74, "excluded": 16}),
    ],
)
async def test_recorded_http_connections_replay(lenient: bool, expected: dict[str, int]) -> None:
    reasons = DIFFERENT if lenient else DIFFERENT | STRICT
    counts = {"equal": 0, "different": 0, "excluded": 0}
    head, rows = load("http_wire.jsonl")
    unused = set(reasons) | set(EXCLUDED)
    for row in rows:
        differences = await Replay(row, lenient=lenient).play()
        for name, clients in row["of"].items():
            counts["different" if differences else "equal"] += len(clients)
            if differences:
                assert reason(reasons, name), f"{name} ({clients}) differs and is not listed: {differences}"
                unused -= {start for start in unused if name.startswith(start)}
    for name, clients in head["excluded"].items():
        assert reason(EXCLUDED, name), name
        unused -= {start for start in EXCLUDED if name.startswith(start)}
        counts["excluded"] += len(clients)
    print(f"recorded HTTP connections, {'lenient' if lenient else 'strict'}: {counts}")
    assert unused == set()
    assert counts == expected
