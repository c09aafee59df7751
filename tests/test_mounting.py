"""The app by itself and inside other apps, with their lifespan and without, with middleware and without."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp

from .support import (
    CONNECTION_STRING,
    OTHER_KEY,
    Message,
    RestService,
    asgi_scope,
    call_asgi,
    call_headers,
    completion,
    detail,
    invocation,
    path_of,
    post,
    receive_nothing,
)

pytestmark = pytest.mark.anyio


class HeaderMiddleware:
    """A user's middleware: marks every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-marked", b"yes")]
            await send(message)

        await self.app(scope, receive, marked)


class DispatchMiddleware(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-marked"] = "yes"
        return response


MIDDLEWARE = {
    "none": [],
    "plain": [Middleware(HeaderMiddleware)],
    "dispatch": [Middleware(DispatchMiddleware)],
}


def make_app(**options: Any) -> tuple[UpstreamApp, RestService]:
    """An app with a handler of each kind, a negotiate function and a route of its own."""
    hub = Hub("chat")
    service = RestService()

    @hub.on("connected")
    async def joined(ctx: Context) -> None:
        raise HubError("closed today")

    @hub.on("add")
    async def add(ctx: Context, a: int, b: int) -> int:
        return a + b

    @hub.on("state")
    def state(ctx: Context) -> list[str]:
        return sorted(ctx.state._state)

    @hub.negotiate
    async def who(request: Request) -> Identity:
        return Identity("ann")

    async def about(request: Request) -> Response:
        return PlainTextResponse(f"about {request.scope.get('root_path', '')}")

    routes = [Route("/about", about), *options.pop("routes", [])]
    given = {
        "connection_string": CONNECTION_STRING,
        "http_client": service.client,
        "routes": routes,
        **options,
    }
    return UpstreamApp(hub, **given), service


def alone(app: UpstreamApp) -> tuple[ASGIApp, str]:
    return app, ""


def in_starlette(app: UpstreamApp) -> tuple[ASGIApp, str]:
    return Starlette(routes=[Mount("/some/prefix", app=app)]), "/some/prefix"


def in_starlette_at_the_root(app: UpstreamApp) -> tuple[ASGIApp, str]:
    return Starlette(routes=[Route("/own", PlainTextResponse("own")), Mount("/", app=app)]), ""


def in_fastapi(app: UpstreamApp) -> tuple[ASGIApp, str]:
    outer = FastAPI()
    outer.mount("/signalr", app)
    return outer, "/signalr"


def in_fastapi_with_middleware(app: UpstreamApp) -> tuple[ASGIApp, str]:
    outer = FastAPI()
    outer.add_middleware(DispatchMiddleware)
    outer.mount("/signalr", app)
    return outer, "/signalr"


@contextlib.asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[dict[str, Any]]:
    """The app with its lifespan run, as a server does it."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    state: dict[str, Any] = {}
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    task = asyncio.ensure_future(app(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    started = await from_app.get()
    if started["type"] == "lifespan.startup.failed":
        with contextlib.suppress(Exception):
            await task
        raise RuntimeError(started["message"])
    try:
        yield state
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await task


@pytest.mark.parametrize("lifespan", [False, True])
@pytest.mark.parametrize("middleware", MIDDLEWARE)
@pytest.mark.parametrize(
    "mount", [alone, in_starlette, in_starlette_at_the_root, in_fastapi, in_fastapi_with_middleware]
)
async def test_everything_is_served_wherever_the_app_is(
    mount: Callable[[UpstreamApp], tuple[ASGIApp, str]], middleware: str, *, lifespan: bool
) -> None:
    app, service = make_app(middleware=MIDDLEWARE[middleware])
    outer, prefix = mount(app)
    async with contextlib.AsyncExitStack() as stack:
        if lifespan:
            await stack.enter_async_context(running(outer))
        headers = call_headers("add")
        path = prefix + path_of(headers)

        answer = await post(outer, headers, invocation("add", 2, 3), path=path)
        assert completion(answer)["result"] == 5
        assert ("x-marked" in answer.headers) == (middleware != "none" or mount is in_fastapi_with_middleware)

        refused = await post(outer, call_headers("add", key=OTHER_KEY), b"", path=path)
        assert detail(refused, 401)
        wrong_path = await post(outer, headers, invocation("add", 2, 3), path=f"{prefix}/chat/messages/other")
        assert detail(wrong_path, 400)
        connected = call_headers("connected")
        assert (await post(outer, connected, b"", path=prefix + path_of(connected))).status_code == 403
        assert len(service.requests) == 1

        assert "accessToken" in (await post(outer, {}, path=f"{prefix}/chat/negotiate")).json()
        assert (await post(outer, {}, path=f"{prefix}/about", method="GET")).text.startswith("about")
        assert (await post(outer, {}, path=f"{prefix}/nowhere", method="GET")).status_code == 404
        assert detail(await post(outer, {}, path=path), 401)
        unsigned = await post(outer, {}, path=path, method="GET")
        assert detail(unsigned, 405)
        assert unsigned.headers["allow"] == "POST"


@pytest.mark.parametrize("middleware", ["none", "plain"])
async def test_no_body_is_read_before_the_signature_is_checked_wherever_the_app_is(middleware: str) -> None:
    for mount in (alone, in_starlette, in_fastapi):
        app, _ = make_app(middleware=MIDDLEWARE[middleware])
        outer, prefix = mount(app)
        headers = call_headers("add", key=OTHER_KEY)

        sent = await call_asgi(outer, asgi_scope(headers, path=prefix + path_of(headers)), receive_nothing)

        assert sent[0]["status"] == 401


async def test_a_route_of_ones_own_does_not_take_upstream_calls() -> None:
    async def everything(request: Request) -> Response:
        return PlainTextResponse("mine")

    for middleware in MIDDLEWARE.values():
        app, _ = make_app(
            routes=[Route("/{rest:path}", everything, methods=["GET", "POST"])], middleware=middleware
        )

        assert completion(await post(app, call_headers("add"), invocation("add", 1, 2)))["result"] == 3
        assert (await post(app, {}, path="/chat/messages/add")).text == "mine"


async def test_websockets_go_to_the_apps_own_routes() -> None:
    accepted: list[str] = []

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        accepted.append(websocket.url.path)
        await websocket.close()

    app, _ = make_app(routes=[WebSocketRoute("/socket", socket)])

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    for path in ("/socket", "/chat/messages/add"):
        scope = {**asgi_scope({}, path=path), "type": "websocket", "subprotocols": []}
        sent = await call_asgi(app, scope, receive)
        assert sent[-1]["type"] == "websocket.close"
    assert accepted == ["/socket"]


# --- lifespan ---


async def test_the_outer_apps_state_reaches_the_handlers() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"database": "db"}

    inner, _ = make_app()
    outer = Starlette(routes=[Mount("/x", app=inner)], lifespan=lifespan)
    alone_app, _ = make_app(lifespan=lifespan)
    for app, prefix in ((outer, "/x"), (alone_app, "")):
        async with running(app) as state:
            scope = asgi_scope(call_headers("state"), path=f"{prefix}/chat/messages/state")

            async def receive() -> dict[str, Any]:
                return {"type": "http.request", "body": invocation("state")}

            sent = await call_asgi(app, {**scope, "state": dict(state)}, receive)
            assert b'"result":["database"]' in sent[1]["body"]


@pytest.mark.parametrize(
    ("connection_string", "reason"),
    [
        ("Endpoint=https://x.test;AccessKey=;Version=1.0;", "is empty"),
        ("Endpoint=https://x.test;AccessKey=${KEY};Version=1.0;", "placeholder"),
        ("Endpoint=https://x.test;AccessKey=short;Version=1.0;", "shorter than 32 bytes"),
        ("Endpoint=nowhere;AccessKey=;Version=1.0;", "valid URI"),
        ([], "AzureSignalRConnectionString"),
    ],
)
async def test_start_up_fails_without_a_usable_key(connection_string: Any, reason: str) -> None:
    entered: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: UpstreamApp) -> AsyncIterator[None]:
        entered.append("user's lifespan")
        yield

    app, _ = make_app(connection_string=connection_string, lifespan=lifespan)

    with pytest.raises(RuntimeError, match=reason):
        async with running(app):
            pass
    assert entered == []


async def test_insecure_needs_no_key_to_start() -> None:
    app, _ = make_app(connection_string=[], insecure=True)

    async with running(app):
        headers = {name: value for name, value in call_headers("add").items() if "Signature" not in name}
        assert completion(await post(app, headers, invocation("add", 1, 2)))["result"] == 3


async def test_shut_down_closes_the_connections_to_the_service_and_later_sends_open_new_ones() -> None:
    class Transport:
        closed = 0

        async def request(self, *args: Any, timeout: float) -> Any:
            raise AssertionError("nothing is sent")

        async def aclose(self) -> None:
            self.closed += 1

    transport = Transport()
    app, _ = make_app()
    app.connected_to(CONNECTION_STRING, transport)

    async with running(app):
        pass
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        assert (await client.post("/chat/negotiate")).status_code == 200

    assert transport.closed == 1
