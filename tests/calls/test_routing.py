"""Which handler a call reaches: hubs, families, applications, paths, case, and what nobody handles."""

import logging
import textwrap
from typing import Any

import pytest

from signalr_upstream import Context, Hub, UpstreamApp
from signalr_upstream.calls.routing import MAX_HINTS, MAX_ROUTES, MAX_SPELLING
from signalr_upstream.errors import ConfigurationError, InvalidNameError

from ..support import (
    CONNECTION_STRING,
    KEY,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    RestService,
    asgi_scope,
    call_asgi,
    call_headers,
    completion,
    connect,
    detail,
    disconnect,
    invocation,
    invoke,
    post,
    send,
)

pytestmark = pytest.mark.anyio


def make_hub(name: str, **options: Any) -> Hub:
    """A hub whose target ``where`` tells who was reached, and by which name."""
    hub = Hub(name, **options)

    @hub.on("where")
    async def where(ctx: Context) -> list[str]:
        return [name, ctx.hub]

    return hub


def make_app(*hubs: Hub, **options: Any) -> UpstreamApp:
    return UpstreamApp(*(hubs or [make_hub("chat")]), **{"connection_string": CONNECTION_STRING, **options})


# --- hubs ---


async def test_each_hub_has_its_own_handlers() -> None:
    app = make_app(make_hub("chat"), make_hub("news"))

    assert (await invoke(app, "where", hub="chat"))["result"] == ["chat", "chat"]
    assert (await invoke(app, "where", hub="news"))["result"] == ["news", "news"]


async def test_names_are_compared_ignoring_case_and_given_as_sent() -> None:
    app = make_app()
    headers = call_headers("WHERE", hub="CHAT", category="Messages")

    answer = await post(app, headers, invocation("Where"), path="/Chat/MESSAGES/where")

    assert completion(answer)["result"] == ["chat", "CHAT"]
    assert (await connect(app, hub="cHAT")).status_code == 204


async def test_a_family_serves_every_hub_whose_name_begins_so() -> None:
    app = make_app(make_hub("tenant_*"), make_hub("tenant_vip_*"), make_hub("tenant_7"))

    for name, reached in {
        "tenant_1": "tenant_*",
        "Tenant_7": "tenant_7",
        "tenant_7b": "tenant_*",
        "tenant_vip_1": "tenant_vip_*",
        "tenant_vip_": "tenant_*",
    }.items():
        assert (await invoke(app, "where", hub=name))["result"] == [reached, name]
    for name in ("tenant_", "tenant", "other"):
        detail(await post(app, call_headers("where", hub=name), invocation("where")), 404)


async def test_a_hub_with_its_own_connection_has_its_own_keys_and_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OtherConnection", OTHER_CONNECTION_STRING)
    service = RestService()
    other = Hub("other", connection="OtherConnection")

    @other.on("go")
    async def go(ctx: Context) -> None:
        await ctx.clients.all.send("gone")

    app = make_app(make_hub("chat"), other, http_client=service.client)

    assert "result" in await invoke(app, "go", hub="other", key=OTHER_KEY)
    assert service.lines == ["POST other.service.signalr.net/api/hubs/other/:send"]
    assert "result" in await invoke(app, "where", hub="chat")
    detail(await post(app, call_headers("go", hub="other", key=KEY), invocation("go")), 401)
    detail(await post(app, call_headers("where", hub="chat", key=OTHER_KEY), invocation("where")), 401)


async def test_an_application_is_a_prefix_of_every_hub_on_the_wire() -> None:
    service = RestService()
    hub = make_hub("chat")

    @hub.on("go")
    async def go(ctx: Context) -> str:
        await ctx.groups.add("lobby")
        return ctx.hub

    app = make_app(hub, application="Shop", http_client=service.client)

    assert (await invoke(app, "go", hub="shop_chat"))["result"] == "chat"
    assert (await invoke(app, "where", hub="SHOP_Chat"))["result"] == ["chat", "Chat"]
    assert service.lines == ["PUT chat.service.signalr.net/api/hubs/chat/groups/lobby/connections/c1"]
    assert service.requests[0].url.params["application"] == "shop"
    for name in ("chat", "other_chat", "shop_", "shop_shop_chat"):
        detail(await post(app, call_headers("go", hub=name), invocation("go")), 404)


async def test_connected_to_replaces_keys_and_service_of_every_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OtherConnection", OTHER_CONNECTION_STRING)
    local_key = "GeneratedForTheLocalService_0123456789ABCDEF"
    app = make_app(make_hub("chat"), make_hub("other", connection="OtherConnection"))
    assert "result" in await invoke(app, "where")

    assert app.connected_to(f"Endpoint=http://localhost;Port=8888;AccessKey={local_key};Version=1.0;") is app

    for hub, key in (("chat", KEY), ("other", OTHER_KEY)):
        detail(await post(app, call_headers("where", hub=hub, key=key), invocation("where")), 401)
        assert "result" in await invoke(app, "where", hub=hub, key=local_key)


@pytest.mark.parametrize(
    ("hubs", "options"),
    [
        ([], {}),
        (["chat", "CHAT"], {}),
        (["chat"], {"path": "{hub}/x"}),
        (["chat"], {"path": "/{hub}/{hub}"}),
        (["chat"], {"code": ""}),
        (["chat"], {"code": "  "}),
        (["chat"], {"seal_key": "short"}),
        (["chat"], {"cors_origins": ["*"]}),
    ],
)
def test_options_that_cannot_work_are_refused(hubs: list[str], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        UpstreamApp(*map(Hub, hubs), connection_string=CONNECTION_STRING, **options)


def test_an_applications_name_is_checked() -> None:
    with pytest.raises(InvalidNameError):
        make_app(application="not a name")


# --- paths ---


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{hub}/{category}/{event}", "/chat/messages/where"),
        ("/{hub}/{category}/{event}", "/any/prefix/chat/messages/where"),
        ("/{hub}/{category}/{event}", "/chat/messages/where/"),
        ("/{hub}/{category}/{event}", "/x//chat//messages/where"),
        ("/{hub}/{category}/{event}", "/CHAT/Messages/%57here"),
        ("/{hub}/{category}/{event}", "/chat/messages%2Fwhere"),
        ("/{hub}/api/{category}/{event}", "/chat/api/messages/where"),
        ("/{hub}/api/{category}/{event}/", "/chat/API/messages/where"),
        ("/{event}/{hub}", "/where/chat"),
        ("/runtime/webhooks/signalr", "/runtime/webhooks/signalr"),
        ("/runtime/webhooks/signalr", "/x/Runtime/webhooks/signalr/"),
        ("/", "/anything/at/all"),
    ],
)
async def test_paths_are_compared_as_tolerantly_as_proxies_make_it_necessary(pattern: str, path: str) -> None:
    answer = await post(make_app(path=pattern), call_headers("where"), invocation("where"), path=path)

    assert completion(answer)["result"] == ["chat", "chat"]


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/{hub}/{category}/{event}", "/chat/messages/other"),
        ("/{hub}/{category}/{event}", "/news/messages/where"),
        ("/{hub}/{category}/{event}", "/chat/connections/where"),
        ("/{hub}/{category}/{event}", "/mychat/messages/where"),
        ("/{hub}/{category}/{event}", "/chat/messages/where/more"),
        ("/{hub}/{category}/{event}", "/"),
        ("/{hub}/api/{category}/{event}", "/chat/messages/where"),
        ("/runtime/webhooks/signalr", "/chat/messages/where"),
    ],
)
async def test_a_path_that_disagrees_is_a_400_with_both_in_the_log(
    pattern: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(path=pattern)

    answer = await post(app, call_headers("where"), invocation("where"), path=f"{path}?code=S3CRET")

    assert pattern in detail(answer, 400)
    assert repr(path) in caplog.text
    assert "'where'" in caplog.text
    assert "S3CRET" not in caplog.text


async def test_a_path_that_was_right_once_does_not_make_another_one_right() -> None:
    app = make_app()

    assert "result" in await invoke(app, "where")
    detail(await post(app, call_headers("where"), invocation("where"), path="/chat/messages/other"), 400)


async def test_path_check_off_lets_the_headers_decide() -> None:
    app = make_app(path_check="off")

    answer = await post(app, call_headers("where"), invocation("where"), path="/rewritten/by/a/proxy")

    assert "result" in completion(answer)


async def test_a_name_with_a_slash_arrives_escaped() -> None:
    hub = Hub("chat")

    @hub.on("room/*")
    async def room(ctx: Context) -> str:
        return ctx.event

    app = make_app(hub)

    assert (await invoke(app, "room/é ü?"))["result"] == "room/é ü?"


async def test_a_server_without_raw_path_is_served() -> None:
    app = make_app()
    scope = asgi_scope(call_headers("where"))
    del scope["raw_path"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": invocation("where")}

    for _ in range(2):
        assert (await call_asgi(app, dict(scope), receive))[0]["status"] == 200
    scope["path"] = "/chat/messages/other"
    assert (await call_asgi(app, scope, receive))[0]["status"] == 400


# --- what nobody handles ---


async def test_an_unknown_target_is_a_404_and_the_log_has_a_handler_to_paste(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()
    hostile = "x'); import os  # \u2028"

    for _ in range(2):
        assert detail(await post(app, call_headers(hostile), invocation(hostile)), 404)

    assert caplog.text.count("To handle it:") == 1
    assert f"@hub.on({hostile!r})" in caplog.text
    assert "*arguments: object" in caplog.text
    assert "\u2028" not in caplog.text


async def test_the_handler_of_the_log_can_be_pasted_and_serves(caplog: pytest.LogCaptureFixture) -> None:
    hub = make_hub("chat")
    for event in ("new", "room's"):
        await send(make_app(hub), event)
        source = caplog.records[-2].getMessage().partition("To handle it:")[2]

        exec(textwrap.dedent(source), {"hub": hub, "Context": Context})

        assert (await invoke(make_app(hub), event, 1, "two"))["result"] is None


async def test_at_most_20_unknown_names_are_explained(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    for number in range(MAX_HINTS + 5):
        assert (await send(app, f"unknown{number}")).status_code == 404

    assert caplog.text.count("To handle it:") == MAX_HINTS == 20


async def test_connected_and_disconnected_need_no_handler(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "signalr_upstream")
    app = make_app()

    for _ in range(2):
        assert (await connect(app)).status_code == 204
        assert (await disconnect(app)).status_code == 204

    assert len(caplog.records) == 2
    assert {record.levelno for record in caplog.records} == {logging.INFO}


async def test_of_an_unknown_hub_even_connected_is_a_404(caplog: pytest.LogCaptureFixture) -> None:
    app = make_app()

    detail(await connect(app, hub="nobody"), 404)

    assert "@hub.on('connected')" in caplog.text
    assert "Hub('nobody')" in caplog.text


@pytest.mark.parametrize(
    ("category", "event"), [("connections", "joined"), ("streams", "where"), ("messages", "connected")]
)
async def test_other_categories_and_events_are_a_404(category: str, event: str) -> None:
    detail(await post(make_app(), call_headers(event, category=category), invocation(event)), 404)


async def test_remembered_spellings_are_bounded_and_the_newest_are_among_them() -> None:
    hub = Hub("chat")

    @hub.on("*")
    async def anything(ctx: Context) -> str:
        return ctx.event

    app = make_app(hub, insecure=True)
    for number in range(MAX_ROUTES + 2):
        app._routes.find(asgi_scope(headers := call_headers(f"t{number}")), _raw(headers))
        assert 0 < len(app._routes._known) <= MAX_ROUTES

    assert len(app._routes._known) == 2
    assert (await invoke(app, "another"))["result"] == "another"


async def test_a_spelling_too_long_to_be_remembered_is_served_all_the_same() -> None:
    hub = Hub("chat")

    @hub.on("*")
    async def anything(ctx: Context) -> int:
        return len(ctx.event)

    app = make_app(hub)

    assert (await invoke(app, "t" * MAX_SPELLING))["result"] == MAX_SPELLING
    assert not app._routes._known


async def test_a_message_called_connected_is_explained_with_its_category(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_app()
    detail(await post(app, call_headers("connected", category="messages"), invocation("connected")), 404)

    assert "@hub.on('connected', category='messages')" in caplog.text


def _raw(headers: dict[str, str]) -> dict[bytes, bytes]:
    return {name.lower().encode(): value.encode() for name, value in headers.items()}
