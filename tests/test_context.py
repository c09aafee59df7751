"""What a handler learns about its caller, what it is not shown, and whom it can answer."""

from typing import Any

import httpx
import jwt
import pytest

from signalr_upstream import Context, Hub, Identity, UpstreamApp, role
from signalr_upstream.claims import SEAL_CLAIM, seal

from .support import (
    CONNECTION_STRING,
    KEY,
    MESSAGEPACK,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    RestService,
    call_headers,
    detail,
    invocation,
    invoke,
    invoke_msgpack,
    msgpack_invocation,
    post,
    serve,
)

pytestmark = pytest.mark.anyio

SECRETS = {
    "Authorization": "Bearer S3CRET",
    "Authentication": "S3CRET",
    "Proxy-Authorization": "S3CRET",
    "Cookie": "session=S3CRET",
}


async def context_of(headers: dict[str, str], body: bytes | None = None, **options: Any) -> Context:
    """The context that a handler gets for this call."""
    seen: list[Context] = []

    async def go(ctx: Context) -> None:
        seen.append(ctx)

    answer = await post(serve(go, **options), headers, invocation("go") if body is None else body)
    assert answer.status_code == 200, answer.text
    return seen[0]


# --- what it shows ---


async def test_the_context_has_what_the_headers_and_the_message_say() -> None:
    headers = call_headers("go", user_id="änn", query="?room=a%20b&room=c&x=")

    ctx = await context_of({**headers, "X-Forwarded-For": "10.0.0.1"})

    assert (ctx.hub, ctx.category, ctx.event) == ("chat", "messages", "go")
    assert (ctx.connection_id, ctx.invocation_id, ctx.user_id, ctx.error) == ("c1", "1", "änn", None)
    assert ctx.query.getlist("room") == ["a b", "c"]
    assert ctx.query["x"] == ""
    assert ctx.headers["x-forwarded-for"] == "10.0.0.1"
    assert ctx.arguments == ()


async def test_without_the_optional_headers_there_is_nobody_and_nothing() -> None:
    ctx = await context_of(call_headers("go", user_id="", claims="", query=""))

    assert ctx.user_id is None
    assert dict(ctx.claims) == {}
    assert ctx.claims_raw == ""
    assert list(ctx.query) == []


async def test_a_header_that_is_not_utf_8_is_read_byte_by_byte() -> None:
    headers = [(name.encode(), value.encode()) for name, value in call_headers("go").items()]
    seen: list[str | None] = []

    async def go(ctx: Context) -> None:
        seen.append(ctx.user_id)

    headers.append((b"X-ASRS-User-Id", b"\xe4nn"))
    await post(serve(go), headers, invocation("go"), path="/chat/messages/go")

    assert seen == ["änn"]


async def test_arguments_are_builtins_in_both_protocols() -> None:
    seen: list[object] = []

    async def go(ctx: Context, *ignored: object) -> None:
        seen.append(ctx.arguments)

    await invoke(serve(go), "go", 1, "a", {"b": [None]})
    await invoke_msgpack(serve(go), "go", 1, b"\x00", {"b": [None]})

    assert seen == [(1, "a", {"b": [None]}), (1, b"\x00", {"b": [None]})]


async def test_arguments_that_cannot_be_decoded_are_a_400_also_where_require_asks_first() -> None:
    async def go(ctx: Context, value: object) -> None:
        raise AssertionError("the handler ran")

    app = serve(go, require=lambda ctx: bool(ctx.arguments))
    body = msgpack_invocation("go", "a").replace(b"\xa1a", b"\xa1\xff")  # a text that is not UTF-8

    answer = await post(app, call_headers("go", content_type=MESSAGEPACK), body)

    assert "arguments" in detail(answer, 400)


async def test_request_is_the_way_to_what_the_others_leave_out() -> None:
    body = invocation("go")

    ctx = await context_of({**call_headers("go"), **SECRETS}, body)

    assert await ctx.request.body() == body
    assert ctx.request.headers["cookie"] == "session=S3CRET"
    assert ctx.request.headers["x-asrs-signature"].startswith("sha256=")
    assert ctx.request.url.path == "/chat/messages/go"


# --- what it does not show ---


async def test_what_opens_doors_is_in_neither_headers_nor_query_nor_repr() -> None:
    query = "?access_token=S3CRET&id=S3CRET&ACCESS_TOKEN=S3CRET&Id=S3CRET&%61ccess_token=S3CRET&room=lobby"
    headers = {
        **call_headers("go", user_id="u", query=query, claims="role: S3CRET"),
        **SECRETS,
        "X-Trace": "t",
    }

    ctx = await context_of(headers)

    shown = repr([ctx, ctx.headers, ctx.headers.raw, ctx.query, ctx.claims, ctx.clients, ctx.groups])
    assert "S3CRET" not in shown
    assert headers["X-ASRS-Signature"] not in shown
    assert not any(name.startswith("x-asrs-") for name in ctx.headers)
    assert ctx.headers["x-trace"] == "t"
    assert list(ctx.query) == ["room"]


async def test_repr_cannot_forge_a_line_of_the_log() -> None:
    hub = Hub("chat")
    seen: list[str] = []

    @hub.on("*")
    async def anything(ctx: Context) -> None:
        seen.append(repr(ctx))

    target = "x\u2028ERROR\x9b1m"
    assert "result" in await invoke(UpstreamApp(hub, connection_string=CONNECTION_STRING), target)

    assert seen[0].isprintable()
    assert "chat/messages/x" in seen[0]


# --- sealed claims ---


async def test_claims_are_those_that_negotiate_sealed() -> None:
    claims = {"role": ["admin", "writer"], "name": "Doe, role: owner"}
    header = f"{SEAL_CLAIM}: {seal('ann', claims, KEY)}, exp: 1700000000"

    ctx = await context_of(call_headers("go", user_id="ann", claims=header))

    assert dict(ctx.claims) == {"role": ("admin", "writer"), "name": ("Doe, role: owner",)}
    assert ctx.claims_raw == header
    assert role("admin")(ctx)
    assert role("nobody", "writer")(ctx)
    assert not role("owner")(ctx)
    assert not role()(ctx)
    assert "admin" not in repr(ctx.claims)


async def test_role_is_named_after_what_it_asks_for() -> None:
    assert role("admin", "owner").__name__ == "role('admin', 'owner')"


async def test_a_seal_key_takes_the_place_of_the_access_key() -> None:
    seal_key = "AKeyOfItsOwnForTheSealedIdentity_0123456789"
    of_seal_key = f"{SEAL_CLAIM}: {seal('ann', {'role': 'admin'}, seal_key)}"
    of_access_key = f"{SEAL_CLAIM}: {seal('ann', {'role': 'admin'}, KEY)}"

    ctx = await context_of(call_headers("go", user_id="ann", claims=of_seal_key), seal_key=seal_key)
    assert role("admin")(ctx)
    ctx = await context_of(call_headers("go", user_id="ann", claims=of_access_key), seal_key=seal_key)
    assert not role("admin")(ctx)


async def test_identities_made_by_the_app_come_back_through_it() -> None:
    hub = Hub("chat")

    @hub.on("go", require=role("admin"))
    async def go(ctx: Context) -> list[str | None]:
        return [ctx.user_id, *ctx.claims["role"]]

    app = UpstreamApp(hub, connection_string=OTHER_CONNECTION_STRING)
    access = await hub.client_access(Identity("ann", claims={"role": ["admin", "x"]}))
    token = jwt.decode(access.access_token, OTHER_KEY, algorithms=["HS256"], options={"verify_aud": False})
    claims = f"role: admin, role: x, {SEAL_CLAIM}: {token[SEAL_CLAIM]}"

    assert (await invoke(app, "go", key=OTHER_KEY, user_id="ann", claims=claims))["result"] == [
        "ann",
        "admin",
        "x",
    ]
    assert "error" in await invoke(app, "go", key=OTHER_KEY, user_id="bob", claims=claims)
    assert "error" in await invoke(app, "go", key=OTHER_KEY, claims=claims)


# --- whom it can answer ---


async def test_the_caller_the_others_and_the_callers_groups() -> None:
    service = RestService()

    async def go(ctx: Context) -> None:
        await ctx.clients.caller.send("t")
        await ctx.clients.others.send("t")
        await ctx.clients.others_in_group("lobby").send("t")
        await ctx.groups.add("lobby")
        await ctx.groups.add("lobby", connection_id="c2")
        await ctx.groups.remove("lobby")
        await ctx.groups.remove("lobby", connection_id="c2")
        await ctx.groups.remove_from_all()
        await ctx.groups.remove_from_all(connection_id="c2")
        await ctx.users.add_to_group("ann", group="lobby")
        await ctx.connections.close("c3")

    assert "result" in await invoke(serve(go, http_client=service.client), "go")

    excluded = [request.url.params.get_list("excluded") for request in service.requests[:3]]
    assert excluded == [[], ["c1"], ["c1"]]
    assert [line.replace("chat.service.signalr.net/api/hubs/chat/", "") for line in service.lines] == [
        "POST connections/c1/:send",
        "POST :send",
        "POST groups/lobby/:send",
        "PUT groups/lobby/connections/c1",
        "PUT groups/lobby/connections/c2",
        "DELETE groups/lobby/connections/c1",
        "DELETE groups/lobby/connections/c2",
        "DELETE connections/c1/groups",
        "DELETE connections/c2/groups",
        "PUT users/ann/groups/lobby",
        "DELETE connections/c3",
    ]


async def test_what_belongs_to_the_connection_goes_to_the_endpoint_that_called() -> None:
    service = RestService()

    async def go(ctx: Context) -> None:
        await ctx.clients.caller.send("t")
        await ctx.clients.all.send("t")

    both = [CONNECTION_STRING, OTHER_CONNECTION_STRING]
    await invoke(serve(go, connection_string=both, http_client=service.client), "go", key=OTHER_KEY)

    assert [request.url.host.partition(".")[0] for request in service.requests[:1]] == ["other"]
    assert sorted(request.url.host.partition(".")[0] for request in service.requests[1:]) == ["chat", "other"]


async def test_a_service_that_refuses_is_an_error_of_the_handler_and_shows_no_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = RestService(lambda _: httpx.Response(401))
    secret = "S3CRET"

    async def go(ctx: Context) -> None:
        await ctx.clients.all.send("t", secret)

    assert "error" in await invoke(serve(go, http_client=service.client), "go")
    token = service.requests[0].headers["authorization"].removeprefix("Bearer ")
    assert token not in caplog.text
    assert secret not in caplog.text


async def test_a_hub_may_trust_the_services_list_of_claims_and_its_neighbours_do_not() -> None:
    trusting, careful = Hub("chat", trust_raw_claims=True), Hub("other")
    seen: dict[str, dict[str, tuple[str, ...]]] = {}
    for hub in (trusting, careful):

        @hub.on("rule", require=role("admin"))
        async def rule(ctx: Context) -> None:
            seen[ctx.hub] = dict(ctx.claims)

    app = UpstreamApp(trusting, careful, connection_string=CONNECTION_STRING)
    for name in ("chat", "other"):
        await invoke(app, "rule", hub=name, claims="name: Doe, Jane, role: admin")

    assert seen == {"chat": {"name": ("Doe, Jane",), "role": ("admin",)}}
