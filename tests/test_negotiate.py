"""``POST /<hub>/negotiate``: who may connect, where to, and what a browser of another origin gets to see."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import jwt
import pytest
from fastapi.security import OAuth2PasswordBearer
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount
from starlette.types import ASGIApp

from signalr_upstream import ClientAccess, Depends, Forbidden, Hub, HubError, Identity, UpstreamApp
from signalr_upstream.calls.line_limits import LINES
from signalr_upstream.errors import ConfigurationError, RegistrationError

from .support import CONNECTION_STRING, KEY, detail

pytestmark = pytest.mark.anyio

ORIGIN = "https://page.example"


def make_app(function: Callable[[Request], Any] | None, *, hub: str = "chat", **options: Any) -> UpstreamApp:
    negotiated = Hub(hub)
    if function is not None:
        negotiated.negotiate(function)
    return UpstreamApp(negotiated, **{"connection_string": CONNECTION_STRING, **options})


async def negotiate(
    app: ASGIApp, path: str = "/chat/negotiate", *, method: str = "POST", **headers: str
) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        return await client.request(method, path, headers=names)


async def ann(request: Request) -> Identity:
    return Identity("ann", claims={"role": "admin"}, lifetime=60)


async def who_wants_argument(request: Request, name: str) -> Identity:
    return Identity(name)


async def who_wants_a_name(name: str) -> Identity:
    return Identity(name)


async def who_by_position(request: Request, /) -> Identity:
    return Identity("ann")


def token_of(answer: httpx.Response) -> dict[str, Any]:
    token = answer.json()["accessToken"]
    decoded: dict[str, Any] = jwt.decode(token, KEY, algorithms=["HS256"], options={"verify_aud": False})
    return decoded


def fields(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the log's lines have besides their text."""
    return [(vars(record)["event"], vars(record)["outcome"]) for record in caplog.records]


async def test_the_answer_sends_the_client_on_to_the_service_with_a_token() -> None:
    answer = await negotiate(make_app(ann), "/chat/negotiate?negotiateVersion=1")

    assert answer.status_code == 200
    assert list(answer.json()) == ["url", "accessToken"]
    assert answer.json()["url"] == "https://chat.service.signalr.net/client/?hub=chat"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    token = token_of(answer)
    assert token["asrs.s.uid"] == "ann"
    assert token["role"] == "admin"
    assert token["exp"] - token["iat"] == 60


async def test_the_function_sees_the_request_and_may_be_a_plain_one() -> None:
    def who(request: Request) -> Identity:
        return Identity(request.headers["x-user"])

    assert token_of(await negotiate(make_app(who), x_user="bob"))["asrs.s.uid"] == "bob"


async def test_anonymous_has_to_be_said() -> None:
    def who(request: Request) -> Identity:
        return Identity.anonymous()

    assert "asrs.s.uid" not in token_of(await negotiate(make_app(who)))


async def test_a_slash_at_the_end_changes_nothing() -> None:
    answer = await negotiate(make_app(ann), "/chat/negotiate/?negotiateVersion=1")

    assert token_of(answer)["asrs.s.uid"] == "ann"


async def test_application_and_family_are_in_the_url() -> None:
    app = make_app(ann, hub="tenant_*", application="Shop")

    answer = await negotiate(app, "/Tenant_1/negotiate")

    assert answer.json()["url"].endswith("/client/?hub=shop_tenant_1")
    detail(await negotiate(app, "/other/negotiate"), 404)


@pytest.mark.parametrize("name", ["tenant_%20", "tenant_%22%3E", "tenant_" + "x" * 200])
async def test_a_family_does_not_serve_names_that_the_service_would_not_take(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await negotiate(make_app(ann, hub="tenant_*"), f"/{name}/negotiate")

    assert "hub name" in detail(answer, 404)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len(caplog.text) < 400


# --- a login of one's own ---


async def bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "log in first", {"www-authenticate": "Bearer"})
    return token


USERS = {"token-of-ann": "ann"}


def user_of(token: Annotated[str, Depends(bearer)]) -> str:
    if token not in USERS:
        raise Forbidden("This login is over.")
    return USERS[token]


def app_with_login(**options: Any) -> UpstreamApp:
    hub = Hub("chat")

    @hub.negotiate
    async def who(user: Annotated[str, Depends(user_of)]) -> Identity:
        return Identity(user)

    return UpstreamApp(hub, connection_string=CONNECTION_STRING, **options)


async def test_a_bearer_token_is_checked_by_a_dependency() -> None:
    app = app_with_login(cors_origins=[ORIGIN])

    answer = await negotiate(app, authorization="Bearer token-of-ann", origin=ORIGIN)
    nobody = await negotiate(app, origin=ORIGIN)

    assert token_of(answer)["asrs.s.uid"] == "ann"
    assert detail(nobody, 401) == "log in first"
    assert nobody.headers["www-authenticate"] == "Bearer"
    assert nobody.headers["access-control-allow-origin"] == ORIGIN
    assert detail(await negotiate(app, authorization="Bearer of bad news"), 403) == "This login is over."


async def test_fastapis_security_schemes_are_dependencies() -> None:
    hub = Hub("chat")
    scheme = OAuth2PasswordBearer(tokenUrl="token")

    @hub.negotiate
    async def who(request: Request, token: Annotated[str, Depends(scheme)]) -> Identity:
        return Identity(USERS[token])

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert token_of(await negotiate(app, authorization="Bearer token-of-ann"))["asrs.s.uid"] == "ann"
    assert (await negotiate(app)).headers["www-authenticate"] == "Bearer"


async def test_dependencies_of_negotiate_end_and_can_be_replaced() -> None:
    happened: list[str] = []
    hub = Hub("chat")

    def database(request: Request) -> Iterator[str]:
        yield "ann"
        happened.append("closed")

    @hub.negotiate
    def who(name: Annotated[str, Depends(database)]) -> Identity:
        happened.append(name)
        return Identity(name)

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert token_of(await negotiate(app))["asrs.s.uid"] == "ann"
    app.dependency_overrides[database] = lambda: "bob"
    assert token_of(await negotiate(app))["asrs.s.uid"] == "bob"
    app.dependency_overrides[who] = Identity.anonymous
    assert "asrs.s.uid" not in token_of(await negotiate(app))
    assert happened == ["ann", "closed", "bob"]


async def test_an_only_parameter_without_annotation_is_the_request() -> None:
    def who(asked, greeting="hello"):  # type: ignore[no-untyped-def]  # as people write it
        return Identity(asked.query_params["name"])

    def lone(asked):  # type: ignore[no-untyped-def]  # as people write it
        return Identity(asked.query_params["name"])

    assert token_of(await negotiate(make_app(lone), "/chat/negotiate?name=ann"))["asrs.s.uid"] == "ann"
    with pytest.raises(RegistrationError, match=r"`asked` of .* can never be filled"):
        Hub("chat").negotiate(who)


@pytest.mark.parametrize("event", [who_wants_argument, who_wants_a_name, who_by_position])
def test_a_function_that_can_never_be_called_is_refused(event: Any) -> None:
    place = rf"`(name|request)` of {event.__name__} \({__file__}:\d+\)"
    with pytest.raises(
        RegistrationError, match=rf"negotiate of hub 'chat': {place}.*(`request: Request`|no `/`)"
    ):
        Hub("chat").negotiate(event)


# --- refusals ---


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Forbidden(), 403, "You are not allowed to do this."),
        (HubError("The room is full."), 403, "The room is full."),
        (HTTPException(401, "log in first", {"www-authenticate": "Bearer"}), 401, "log in first"),
        (HTTPException(429, "later"), 429, "later"),
        (HTTPException(440, "the session is over"), 440, "the session is over"),
    ],
)
async def test_a_function_refuses_by_raising(error: Exception, status: int, told: str) -> None:
    async def who(request: Request) -> Identity:
        raise error

    answer = await negotiate(make_app(who, cors_origins=[ORIGIN]), origin=ORIGIN)

    assert detail(answer, status) == told
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_a_refusal_may_quote_what_no_text_can_carry() -> None:
    async def who(request: Request) -> Identity:
        raise HubError("no room \ud800")  # half a surrogate pair, as JSON may bring it

    assert detail(await negotiate(make_app(who)), 403) == "no room ?"


async def test_a_function_that_fails_is_a_500_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def who(request: Request) -> Identity:
        raise ValueError("the password is hunter2")

    assert "hunter2" not in detail(await negotiate(make_app(who)), 500)
    assert "hunter2" in caplog.text
    assert fields(caplog) == [("chat/negotiate", "failed")]


async def test_a_function_has_the_time_of_a_handler_its_dependencies_included(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def session() -> AsyncIterator[str]:
        try:
            yield "open"
        finally:
            ended.append("session")

    async def who(session: Annotated[str, Depends(session)]) -> Identity:
        await asyncio.Event().wait()
        return Identity("ann")

    hub = Hub("chat")
    hub.negotiate(who)
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, handler_timeout=0.02, cors_origins=[ORIGIN])
    answer = await negotiate(app, origin=ORIGIN)

    assert "too long" in detail(answer, 503)
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert ended == ["session"]
    assert "hub 'chat' passed its time limit" in caplog.text
    assert fields(caplog) == [("chat/negotiate", "unavailable")]


async def test_a_function_that_returns_no_identity_is_a_500() -> None:
    def who(request: Request) -> Any:
        return "ann"

    detail(await negotiate(make_app(who)), 500)


async def test_an_identity_too_large_for_a_token_is_a_500_that_shows_no_claim(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def who(request: Request) -> Identity:
        return Identity("ann", claims={"avatar": "S3CRET" * 1000})

    detail(await negotiate(make_app(who)), 500)
    assert "'avatar'" in caplog.text
    assert "S3CRET" not in caplog.text


async def test_a_hub_without_a_function_says_so_and_makes_no_token(caplog: pytest.LogCaptureFixture) -> None:
    assert "@hub.negotiate" in detail(await negotiate(make_app(None)), 404)
    assert "no such hub" in detail(await negotiate(make_app(ann), "/nobody/negotiate"), 404)

    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith("negotiate of hub 'chat' answered 404: hub 'chat' has no negotiate function: ")
    assert told[1].startswith("negotiate of hub 'nobody' answered 404: there is no such hub in this app: ")


async def test_who_asks_for_what_is_not_there_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(ann)

    for _ in range(LINES + 5):
        await negotiate(app, f"/%0A{'x' * 1000}/negotiate")
        await negotiate(app, method="OPTIONS", origin="https://e", access_control_request_method="POST")

    assert len(caplog.records) == 2 * LINES
    assert {len(record.getMessage().splitlines()) for record in caplog.records} == {1}
    assert max(len(record.getMessage()) for record in caplog.records) < 300


@pytest.mark.parametrize(
    "connection_string",
    ["Endpoint=https://x.test;AccessKey=;Version=1.0;", f"Endpoint=nowhere;AccessKey={KEY};", []],
)
async def test_without_a_usable_key_there_is_no_token(
    connection_string: str | list[str], caplog: pytest.LogCaptureFixture
) -> None:
    detail(await negotiate(make_app(ann, connection_string=connection_string)), 503)
    assert KEY not in caplog.text
    assert fields(caplog) == [("chat/negotiate", "unavailable")]


async def test_without_a_seal_key_an_identity_makes_no_token_which_is_said_at_the_start_and_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    keyless = "Endpoint=https://chat.service.signalr.net;AuthType=azure;"
    app = make_app(ann, connection_string=keyless, upstream_keys=[KEY])

    with pytest.raises(ConfigurationError, match="seal_key is missing"):
        app.check_keys()
    for _ in range(3):
        assert "seal_key is missing" in detail(await negotiate(app), 503)
    (record,) = caplog.records
    assert (record.levelname, record.exc_info) == ("ERROR", None)

    make_app(ann, connection_string=keyless, upstream_keys=[KEY], seal_key="s" * 44).check_keys()
    make_app(None, connection_string=keyless, upstream_keys=[KEY]).check_keys()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_only_post_negotiates(method: str) -> None:
    answer = await negotiate(make_app(ann), method=method)

    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, OPTIONS"


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("hub", ["chat", "nobody"])
async def test_a_client_that_was_built_with_the_whole_path_is_told_so(hub: str, prefix: str) -> None:
    app: ASGIApp = make_app(ann, cors_origins=[ORIGIN])
    if prefix:
        app = Starlette(routes=[Mount(prefix, app)])

    answer = await negotiate(app, f"{prefix}/{hub}/negotiate/negotiate?negotiateVersion=1", origin=ORIGIN)

    assert "the client adds /negotiate itself" in detail(answer, 404)
    assert f'withUrl(".../{hub}")' in detail(answer, 404)
    assert answer.headers["access-control-allow-origin"] == ORIGIN


async def test_a_hub_may_be_called_negotiate() -> None:
    assert (await negotiate(make_app(ann, hub="negotiate"), "/negotiate/negotiate")).status_code == 200


# --- CORS ---


def test_any_origin_with_credentials_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="name the origins"):
        make_app(ann, cors_origins=["*"])


async def test_pages_of_the_named_origins_may_negotiate_with_credentials() -> None:
    app = make_app(ann, cors_origins=[ORIGIN])

    preflight = await negotiate(
        app,
        method="OPTIONS",
        origin=ORIGIN,
        access_control_request_method="POST",
        access_control_request_headers="x-requested-with,x-signalr-user-agent,authorization",
    )
    answer = await negotiate(app, origin=ORIGIN)

    assert preflight.status_code == 200
    for headers in (preflight.headers, answer.headers):
        assert headers["access-control-allow-origin"] == ORIGIN
        assert headers["access-control-allow-credentials"] == "true"
    assert "x-signalr-user-agent" in preflight.headers["access-control-allow-headers"]
    assert answer.status_code == 200


@pytest.mark.parametrize("origins", [[], [ORIGIN]])
async def test_pages_of_other_origins_may_not(origins: list[str], caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(ann, cors_origins=origins)
    other = "https://evil.example"

    preflight = await negotiate(app, method="OPTIONS", origin=other, access_control_request_method="POST")
    answer = await negotiate(app, origin=other)

    assert "cors_origins=[...]" in detail(preflight, 400)
    assert preflight.headers["vary"] == "Origin"
    assert [record.getMessage() for record in caplog.records] == [
        "a page of 'https://evil.example' may not negotiate: to let it in, name it in "
        "UpstreamApp(..., cors_origins=[...])"
    ]
    assert "access-control-allow-origin" not in preflight.headers
    assert "access-control-allow-origin" not in answer.headers


# --- routes of one's own ---


async def test_client_access_serves_a_route_of_ones_own() -> None:
    hub = Hub("chat")
    UpstreamApp(hub, connection_string=CONNECTION_STRING).hub(hub)
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    access = await app.client_access(hub, Identity("ann"))

    assert isinstance(access, ClientAccess)
    assert access.access_token not in repr(access)


async def test_a_negotiate_function_may_use_its_hub_although_it_is_in_several_apps() -> None:
    hub = Hub("chat")
    seen: list[str] = []

    @hub.negotiate
    async def who(request: Request) -> Identity:
        seen.append((await hub.client_access(Identity("x"))).url)
        return Identity("ann")

    apps = [UpstreamApp(hub, connection_string=CONNECTION_STRING) for _ in range(2)]

    assert [(await negotiate(app)).status_code for app in apps] == [200, 200]
    assert len(seen) == 2
