"""Calls as the service makes them, posted to an app over ASGI, and the service's REST API as a mock."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import quote

import httpx
import msgspec
from starlette.types import ASGIApp

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.auth import sign_connection

from . import canaries

KEY, OTHER_KEY = canaries.KEY, canaries.OTHER_KEY
CONNECTION_STRING = f"Endpoint=https://chat.service.signalr.net;AccessKey={KEY};Version=1.0;"
OTHER_CONNECTION_STRING = f"Endpoint=https://other.service.signalr.net;AccessKey={OTHER_KEY};Version=1.0;"
JSON = "application/json"
MESSAGEPACK = "application/x-msgpack"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


def call_headers(
    event: str,
    *,
    category: str | None = None,
    hub: str = "chat",
    connection_id: str = "c1",
    key: str = KEY,
    content_type: str = JSON,
    user_id: str | None = None,
    claims: str | None = None,
    query: str | None = None,
) -> dict[str, str]:
    """The headers of one signed call, as the service names them, with secrets that nothing may tell."""
    if category is None:
        category = "connections" if event in ("connected", "disconnected") else "messages"
    headers = {
        "X-ASRS-Connection-Id": connection_id,
        "X-ASRS-Hub": hub,
        "X-ASRS-Category": category,
        "X-ASRS-Event": event,
        "X-ASRS-User-Id": user_id,
        "X-ASRS-User-Claims": f"canary: {canaries.CLAIM}" if claims is None else claims,
        "X-ASRS-Client-Query": f"?access_token={canaries.CLIENT_TOKEN}&id={canaries.CONNECTION_TOKEN}"
        if query is None
        else query,
        "X-ASRS-Signature": sign_connection(connection_id, [key]),
        "Content-Type": content_type,
        "Authorization": f"Bearer {canaries.BEARER_TOKEN}",
        "Cookie": f"session={canaries.COOKIE}",
    }
    return {name: value for name, value in headers.items() if value is not None}


def path_of(headers: Mapping[str, str]) -> str:
    """The default path of a call with these headers."""
    names = ("X-ASRS-Hub", "X-ASRS-Category", "X-ASRS-Event")
    return "/" + "/".join(quote(headers[name], safe="") for name in names)


def invocation(target: str, *arguments: Any, invocation_id: str | None = "1") -> bytes:
    """The JSON body of an invocation, written out as HubProtocol.md shows it, not with our encoder."""
    head = "" if invocation_id is None else f'"invocationId":{json.dumps(invocation_id)},'
    return f'{{"type":1,{head}"target":{json.dumps(target)},"arguments":{json.dumps(arguments)}}}'.encode()


def msgpack_invocation(target: str, *arguments: Any, invocation_id: str | None = "1") -> bytes:
    """The MessagePack body of an invocation: ``[1, headers, invocationId, target, arguments, streamIds]``."""
    return msgspec.msgpack.encode([1, {}, invocation_id, target, list(arguments), []])


async def post(
    app: ASGIApp,
    headers: Mapping[str, str] | Iterable[tuple[bytes, bytes]],
    body: bytes | AsyncIterator[bytes] = b"",
    *,
    path: str | None = None,
    method: str = "POST",
) -> httpx.Response:
    """Send one request to ``app`` and return its answer. An exception of the app fails the test."""
    if path is None:
        assert isinstance(headers, Mapping)
        path = f"{path_of(headers)}?code={canaries.CODE}"
    given = (
        [(name.encode(), value.encode()) for name, value in headers.items()]
        if isinstance(headers, Mapping)
        else list(headers)
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as client:
        return await client.request(method, path, headers=given, content=body)


async def connect(app: ASGIApp, **options: Any) -> httpx.Response:
    """Tell the app that a client has connected."""
    return await post(app, call_headers("connected", **options), b'{"type":10}')


async def disconnect(app: ASGIApp, body: bytes = b'{"Type":11}', **options: Any) -> httpx.Response:
    """Tell the app that a client has gone, with the capitals of the service."""
    return await post(app, call_headers("disconnected", **options), body)


async def send(app: ASGIApp, target: str, *arguments: Any, **options: Any) -> httpx.Response:
    """Call a hub method as a JSON client that waits for no answer."""
    body = invocation(target, *arguments, invocation_id=None)
    return await post(app, call_headers(target, **options), body)


async def invoke(app: ASGIApp, target: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Call a hub method as a JSON client that waits; the Completion it gets."""
    answer = await post(app, call_headers(target, **options), invocation(target, *arguments))
    return completion(answer)


def completion(answer: httpx.Response) -> dict[str, Any]:
    """The one framed JSON Completion of an answer."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == JSON
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.content.endswith(b"\x1e")
    decoded: dict[str, Any] = json.loads(answer.content[:-1])
    assert decoded["type"] == 3
    return decoded


async def invoke_msgpack(app: ASGIApp, target: str, *arguments: Any, **options: Any) -> list[Any]:
    """Call a hub method as a MessagePack client that waits; the Completion it gets, as an array."""
    headers = call_headers(target, content_type=MESSAGEPACK, **options)
    answer = await post(app, headers, msgpack_invocation(target, *arguments))
    return msgpack_completion(answer)


def msgpack_completion(answer: httpx.Response) -> list[Any]:
    """The one framed MessagePack Completion of an answer: ``[3, headers, invocationId, kind, value]``."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MESSAGEPACK
    # The length prefix: seven bits a byte, the lowest first. Two bytes are enough here.
    first, second = answer.content[:2]
    size = 1 if first < 128 else 2
    assert (first if size == 1 else (first & 127) | second << 7) == len(answer.content) - size
    decoded: list[Any] = msgspec.msgpack.decode(answer.content[size:])
    assert decoded[0] == 3
    return decoded


def detail(answer: httpx.Response, status: int) -> str:
    """What a problem body tells; the answer has to have this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    text: str = problem["detail"]
    return text


class RestService:
    """The service's REST API: remembers every request and answers 202, or what the test wants.

    Looks at the health of several endpoints come when they like, and are answered well and forgotten.
    """

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer or (lambda _: httpx.Response(202))
        self.client = httpx.AsyncClient(transport=httpx.MockTransport(self._receive))

    def _receive(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/health":
            return httpx.Response(200)
        self.requests.append(request)
        return self._answer(request)

    @property
    def lines(self) -> list[str]:
        """Method, host and escaped path of every request."""
        return [
            f"{request.method} {request.url.host}{request.url.raw_path.decode().partition('?')[0]}"
            for request in self.requests
        ]


class Recorder:
    """An app with one handler for everything, and what was called."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.hub = Hub("chat")
        for event in ("connected", "disconnected"):
            self.hub.on(event)(self.record_event)
        self.hub.on("echo")(self.echo)
        self.app = UpstreamApp(self.hub, **{"connection_string": CONNECTION_STRING, **options})

    async def record_event(self, ctx: Context) -> None:
        self.calls.append(ctx.event)

    async def echo(self, ctx: Context, value: str) -> str:
        self.calls.append(value)
        return value


def serve(
    function: Callable[..., Any], *, require: Callable[[Context], bool] | None = None, **options: Any
) -> UpstreamApp:
    """An app whose target ``go`` is served by ``function``."""
    hub = Hub("chat")
    hub.on("go", require=require)(function)
    return UpstreamApp(hub, **{"connection_string": CONNECTION_STRING, **options})


def with_header(headers: Mapping[str, str], name: str, value: str | None) -> dict[str, str]:
    """``headers`` with one of them replaced, or left out for None."""
    changed = {**headers, name: value}
    return {name: value for name, value in changed.items() if value is not None}


def asgi_scope(headers: Mapping[str, str], *, method: str = "POST", path: str | None = None) -> Message:
    """The ASGI scope of a call, for tests that watch ``receive`` and ``send``."""
    path = path_of(headers) if path is None else path
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": f"code={canaries.CODE}".encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": ("app.test", 80),
        "client": ("127.0.0.1", 1234),
    }


async def call_asgi(app: ASGIApp, scope: Message, receive: Receive) -> list[Message]:
    """Run one call against the app; the messages it sent."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


async def receive_nothing() -> Message:
    """A ``receive`` that fails the test: the body must not be read."""
    raise AssertionError("the body was read")
