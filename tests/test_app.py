"""The app's own face: health, keys, what it tells of itself, and what no log and no answer holds."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from signalr_upstream import Context, Hub, Identity, UpstreamApp, role
from signalr_upstream.connection_string import Endpoint
from signalr_upstream.errors import ConfigurationError, ConnectionStringError, NoKeysError

from .support import (
    CONNECTION_STRING,
    KEY,
    OTHER_CONNECTION_STRING,
    OTHER_KEY,
    RestService,
    call_headers,
    connect,
    invocation,
    invoke,
    post,
)

pytestmark = pytest.mark.anyio


def make_app(**options: Any) -> UpstreamApp:
    return UpstreamApp(Hub("chat"), **{"connection_string": CONNECTION_STRING, **options})


# --- keys ---


def test_importing_and_constructing_need_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    app = make_app(connection_string=None)

    with pytest.raises(NoKeysError, match="AzureSignalRConnectionString"):
        app.check_keys()
    with pytest.raises(NoKeysError):
        make_app(connection_string="Endpoint=https://x.test;AccessKey=;Version=1.0;").check_keys()
    with pytest.raises(ConnectionStringError):
        make_app(connection_string="nonsense").check_keys()
    make_app(connection_string=None, insecure=True).check_keys()
    make_app(connection_string=[], upstream_keys=[KEY]).check_keys()


def test_every_hub_needs_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OtherConnection", raising=False)
    app = UpstreamApp(
        Hub("chat"), Hub("other", connection="OtherConnection"), connection_string=CONNECTION_STRING
    )

    with pytest.raises(NoKeysError):
        app.check_keys()


async def test_the_environment_is_read_when_it_is_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AzureSignalRConnectionString", raising=False)
    app = make_app(connection_string=None)
    monkeypatch.setenv("AzureSignalRConnectionString", CONNECTION_STRING)

    assert (await connect(app)).status_code == 204


async def test_keys_rotate_without_a_refused_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", CONNECTION_STRING)
    monkeypatch.setenv("AzureSignalRSecondaryConnectionString", CONNECTION_STRING.replace(KEY, OTHER_KEY))
    app = make_app(connection_string=None)

    for key in (KEY, OTHER_KEY):
        assert (await connect(app, key=key)).status_code == 204


# --- health ---


async def test_health_is_served_only_if_asked_for() -> None:
    assert (await post(make_app(), {}, path="/healthz", method="GET")).status_code == 404

    app = make_app(health=True)
    app.add_health_routes()  # a second time changes nothing

    assert (await post(app, {}, path="/healthz", method="GET")).text == "ok"
    assert (await post(app, {}, path="/readyz", method="GET")).text == "ready"
    assert len([route for route in app.routes if getattr(route, "path", "") == "/readyz"]) == 1


async def test_readyz_tells_draining_and_missing_keys() -> None:
    app = make_app(health=True)
    app.draining = True
    keyless = make_app(health=True, connection_string="Endpoint=https://x.test;AccessKey=;Version=1.0;")

    draining = await post(app, {}, path="/readyz", method="GET")
    missing = await post(keyless, {}, path="/readyz", method="GET")

    assert (draining.status_code, draining.text) == (503, "draining")
    assert missing.status_code == 503
    assert "is empty" in missing.text
    assert (await post(keyless, {}, path="/healthz", method="GET")).status_code == 200
    assert (await connect(app)).status_code == 204  # what still comes is served


# --- several endpoints and hubs ---


class West:
    """A router that sends clients to the last endpoint."""

    def negotiate(self, endpoints: Sequence[Endpoint], *, hub: str, identity: Identity) -> Endpoint:
        assert (hub, identity.user_id) == ("chat", "ann")
        return endpoints[-1]

    def send(
        self, endpoints: Sequence[Endpoint], *, hub: str, operation: str, names: Sequence[str]
    ) -> Sequence[Endpoint]:
        return endpoints


async def test_a_router_says_where_clients_connect() -> None:
    hub = Hub("chat")
    app = UpstreamApp(
        hub,
        connection_string=[CONNECTION_STRING, OTHER_CONNECTION_STRING],
        router=West(),
        http_client=RestService().client,
    )

    assert (await app.client_access(hub, Identity("ann"))).url.startswith(
        "https://other.service.signalr.net/"
    )


async def test_one_hub_cannot_be_reached_with_the_keys_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OtherConnection", OTHER_CONNECTION_STRING)
    app = UpstreamApp(
        Hub("chat"), Hub("other", connection="OtherConnection"), connection_string=CONNECTION_STRING
    )

    statuses = {
        (hub, key): (await connect(app, hub=hub, key=key)).status_code
        for hub in ("chat", "other")
        for key in (KEY, OTHER_KEY)
    }

    assert statuses == {
        ("chat", KEY): 204,
        ("chat", OTHER_KEY): 401,
        ("other", KEY): 401,
        ("other", OTHER_KEY): 204,
    }


# --- what it shows ---


async def test_nothing_it_says_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "signalr_upstream")
    caplog.set_level(logging.WARNING, "httpx")  # the test's own client logs its URLs
    hub = Hub("chat")

    @hub.on("fail")
    async def fail(ctx: Context) -> None:
        raise ValueError("broken")

    @hub.on("guarded", require=role("admin"))
    async def guarded(ctx: Context) -> None: ...

    service = RestService()
    code = "C0DE-S3CRET"
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, code=code, http_client=service.client)
    secrets = {
        "claims": "S3CRET-claim",
        "query": "?access_token=S3CRET-token&id=S3CRET-id",
        "user_id": "S3CRET-user",
    }
    answers = []
    for event in ("fail", "guarded", "missing", "connected", "disconnected"):
        for key in (KEY, OTHER_KEY):
            headers = {
                **call_headers(event, key=key, **secrets),
                "Cookie": "S3CRET",
                "Authorization": "S3CRET",
            }
            for query in ("", f"?code={code}", f"?code={code}x"):
                path = f"/chat/{headers['X-ASRS-Category']}/{event}{query}"
                for body in (invocation(event), b'{"type":"S3CRET"}', b"S3CRET"):
                    answer = await post(app, headers, body, path=path)
                    answers.append(answer.text + repr(answer.headers))

    said = (
        caplog.text + "".join(answers) + repr([app, hub, hub.handlers, app.hub(hub), UpstreamApp.instances()])
    )
    for secret in ("S3CRET", KEY, OTHER_KEY, call_headers("x")["X-ASRS-Signature"][7:]):
        assert secret not in said
    assert len(answers) == 90


async def test_a_name_is_what_the_app_shows() -> None:
    assert repr(UpstreamApp(Hub("chat"), Hub("news"))) == "<UpstreamApp with chat, news>"


async def test_apps_of_several_threads_and_loops_do_not_disturb_each_other() -> None:
    hub = Hub("chat")

    @hub.on("go")
    async def go(ctx: Context, number: int) -> int:
        await asyncio.sleep(0)
        return number

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    async def call_many() -> list[int]:
        answers = await asyncio.gather(*(invoke(app, "go", number) for number in range(20)))
        return [answer["result"] for answer in answers]

    assert await call_many() == list(range(20))
    assert await asyncio.to_thread(lambda: asyncio.run(call_many())) == list(range(20))


async def test_an_app_needs_a_hub() -> None:
    with pytest.raises(ConfigurationError, match="at least one hub"):
        UpstreamApp()
