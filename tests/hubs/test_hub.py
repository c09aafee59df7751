"""The registry: which handler serves an event, and through which service a hub sends."""

import gc
from typing import Any

import pytest

from signalr_upstream import Context, Hub, Identity, ServiceClient, UpstreamApp
from signalr_upstream.errors import ConfigurationError, InvalidNameError, NoKeysError, RegistrationError
from signalr_upstream.rest.targets import Clients

from ..support import (
    CONNECTION_STRING,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    RestService,
    call_headers,
    connect,
    detail,
    invocation,
    invoke,
    post,
)

pytestmark = pytest.mark.anyio


# --- which handler ---


async def test_the_most_specific_handler_of_a_target_is_called() -> None:
    hub = Hub("chat")
    for name in ("*", "room.*", "room.1.*", "Room.1", "connected"):

        @hub.on(name, category="messages")
        async def handler(ctx: Context, name: str = name) -> str:
            return name

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    for target, handled_by in {
        "anything": "*",
        "room": "*",
        "room.": "room.*",
        "ROOM.2": "room.*",
        "room.1": "Room.1",
        "room.1.2": "room.1.*",
        "room.1.*": "room.1.*",
        "room.*": "room.*",
        "*": "*",
    }.items():
        assert (await invoke(app, target))["result"] == handled_by
    answer = await invoke(app, "connected", category="messages")
    assert answer["result"] == "connected"
    assert (await connect(app)).status_code == 204


async def test_catch_alls_serve_no_connection_events() -> None:
    hub = Hub("chat")

    @hub.on("*")
    async def handler(ctx: Context) -> None:
        raise AssertionError("the handler ran")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert (await connect(app)).status_code == 204
    detail(await post(app, call_headers("x", category="connections"), invocation("x")), 404)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "*", "tenant/*", "a*b", "..", "1chat", 5])
def test_names_the_service_does_not_take_are_refused_with_name_and_place(name: Any) -> None:
    class Derived(Hub):
        def __init__(self, name: str) -> None:
            super().__init__(name)

    for kind in (Hub, Derived):
        with pytest.raises(InvalidNameError) as caught:
            kind(name)
        line = caught.traceback[0].lineno + 1
        assert str(caught.value).startswith(f"invalid hub name: {name!r} ({__file__}:{line}): it ")


def test_a_hub_has_one_negotiate_function() -> None:
    hub = Hub("chat")

    @hub.negotiate
    def who(request: Any) -> Identity:
        return Identity("ann")

    with pytest.raises(RegistrationError, match="already"):
        hub.negotiate(who)


# --- which service ---


async def test_a_hub_in_one_app_sends_through_it() -> None:
    hub = Hub("chat")
    service = RestService()
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client)

    await hub.clients.all.send("hello")
    await hub.groups.add("lobby", connection_id="c1")
    await hub.users.add_to_group("ann", group="lobby")
    await hub.connections.close("c1")
    await app.hub(hub).clients.user("ann").send("hello")

    assert [line.partition("/api/hubs/chat/")[2] for line in service.lines] == [
        ":send",
        "groups/lobby/connections/c1",
        "users/ann/groups/lobby",
        "connections/c1",
        "users/ann/:send",
    ]


async def test_a_hub_in_several_apps_sends_through_the_one_that_received_the_call() -> None:
    hub = Hub("chat")

    @hub.on("go")
    async def go(ctx: Context) -> None:
        await hub.clients.all.send("hello")

    service = RestService()
    one = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client)
    two = UpstreamApp(hub, connection_string=OTHER_CONNECTION_STRING, http_client=service.client)

    assert "result" in await invoke(two, "go", key=OTHER_KEY)
    assert "result" in await invoke(one, "go")
    with pytest.raises(ConfigurationError, match=r"in 2 apps .* app\.hub\(hub\)"):
        _ = hub.clients
    await two.hub(hub).clients.all.send("hello")

    hosts = [request.url.host.partition(".")[0] for request in service.requests]
    assert hosts == ["other", "chat", "other"]


async def test_inside_the_call_of_another_app_a_hub_sends_through_its_own() -> None:
    service = RestService()
    news = Hub("news")
    chat = Hub("chat")

    @chat.on("go")
    async def go(ctx: Context) -> None:
        await news.clients.all.send("hello")

    other = UpstreamApp(news, connection_string=OTHER_CONNECTION_STRING, http_client=service.client)
    app = UpstreamApp(chat, connection_string=CONNECTION_STRING, http_client=service.client)

    assert "result" in await invoke(app, "go")
    assert service.lines == ["POST other.service.signalr.net/api/hubs/news/:send"]
    assert other in UpstreamApp.instances()


async def test_a_hub_in_no_app_sends_through_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OtherConnection", OTHER_CONNECTION_STRING)
    hub = Hub("chat", connection="OtherConnection")

    assert isinstance(hub.clients, Clients)
    assert hub._hub_client()._service.endpoints.all[0].url == "https://other.service.signalr.net"
    access = await hub.client_access(Identity("ann"))
    assert access.url == "https://other.service.signalr.net/client/?hub=chat"
    family = await Hub("tenant_*", connection="OtherConnection").client_access(
        Identity("ann"), name="tenant_1"
    )
    assert family.url == "https://other.service.signalr.net/client/?hub=tenant_1"


async def test_a_family_in_no_app_has_to_be_told_which_hub_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", CONNECTION_STRING)

    with pytest.raises(ConfigurationError, match="a family"):
        _ = Hub("tenant_*").clients


async def test_without_an_app_and_without_a_connection_string_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    hub = Hub("chat")

    for attempt in (hub.clients.all.send("hello"), hub.client_access(Identity("ann"))):
        with pytest.raises(NoKeysError, match="set AzureSignalRConnectionString"):
            await attempt


async def test_an_app_that_is_gone_is_forgotten() -> None:
    hub = Hub("chat")
    apps = [UpstreamApp(hub, connection_string=CONNECTION_STRING) for _ in range(2)]
    assert len([app for app in UpstreamApp.instances() if app in apps]) == 2

    del apps[1:]
    gc.collect()

    assert hub.clients is not None


async def test_a_family_has_to_be_told_which_hub_is_meant() -> None:
    service = RestService()
    hub = Hub("tenant_*")
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client)

    await app.hub(hub, name="tenant_1").clients.all.send("hello")
    access = await hub.client_access(Identity("ann"), name="Tenant_1")

    assert service.lines == ["POST chat.service.signalr.net/api/hubs/tenant_1/:send"]
    assert access.url == "https://chat.service.signalr.net/client/?hub=tenant_1"
    for name, reason in ((None, "a family"), ("other_1", "does not serve"), ("tenant_/", "invalid hub name")):
        with pytest.raises((ConfigurationError, InvalidNameError), match=reason):
            app.hub(hub, name=name)
    with pytest.raises(ConfigurationError, match="a family"):
        _ = hub.clients


async def test_a_service_client_of_its_own_needs_no_app() -> None:
    service = RestService()

    await ServiceClient(CONNECTION_STRING, http_client=service.client).hub("chat").clients.all.send("hello")

    assert len(service.requests) == 1


def test_a_require_that_would_have_to_be_awaited_is_refused_at_registration() -> None:
    async def later(ctx: Context) -> bool:
        return False

    with pytest.raises(RegistrationError, match="plain function"):
        Hub("chat").on("go", require=later)  # type: ignore[arg-type]  # the mistake in question
