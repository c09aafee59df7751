"""The alert rules of docs/production.md, run over what Prometheus scrapes in the situations that they are for."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry
from starlette.requests import Request

from signalr_upstream import Context, Hub, Identity, ServiceClient, UpstreamApp, prometheus
from signalr_upstream.entra import EntraUpstream
from signalr_upstream.errors import ConnectError, ServiceError
from signalr_upstream.prometheus import Prometheus
from signalr_upstream.published_keys import PublishedKeys
from signalr_upstream.transports.transport import Answer

from .issuer import AUDIENCE, KEYS_URL, OBJECT_ID, TENANT, Issuer
from .promql import Scraped, evaluate
from .service import Service
from .support import CONNECTION_STRING, OTHER_KEY, call_headers, invocation, post, with_header

pytestmark = pytest.mark.anyio

TEXT = (Path(__file__).parents[1] / "docs" / "production.md").read_text()
RULES = {
    rule["alert"]: rule["expr"]
    for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    for rule in yaml.safe_load(block)["groups"][0]["rules"]
}
MINUTES = 16
"""Of every situation: more than the longest range of a rule. ``for:`` is left to Prometheus."""

OTHER_KEYS_URL = KEYS_URL.replace(TENANT, "another-tenant")


class Watched:
    """An app with metrics, a time of day that is a number, and what it does every minute."""

    def __init__(self, **options: Any) -> None:
        self.now = 1_700_000_000.0
        self.seconds = 0.01  # that a call takes
        self.timed = 0.0
        self.metrics = Prometheus(CollectorRegistry(), clock=lambda: self.now)
        self.service = Service()
        self.client = ServiceClient(CONNECTION_STRING, transport=self.service, telemetry=[self.metrics])
        hub = Hub("chat")

        @hub.on("ok")
        async def ok(ctx: Context) -> None: ...

        @hub.on("fail")
        async def fail(ctx: Context) -> None:
            raise RuntimeError("broken")

        @hub.negotiate
        async def negotiate(request: Request) -> Identity:
            if request.headers.get("user") is None:
                raise RuntimeError("broken")
            return Identity("ann")

        self.app = UpstreamApp(
            hub,
            **{"connection_string": CONNECTION_STRING, **options},
            http_client=httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(500))),
            telemetry=[self.metrics],
            routes=[self.metrics.route()],
        )

    def tick(self) -> float:
        """Seconds of the clock that calls are timed with: each look is so much later than the one before."""
        self.timed += self.seconds
        return self.timed

    async def call(self, event: str, *, times: int = 1, **options: Any) -> None:
        for _ in range(times):
            await post(self.app, call_headers(event, **options), invocation(event))

    async def unsigned(self, times: int) -> None:
        headers = with_header(call_headers("ok"), "X-ASRS-Signature", None)
        for _ in range(times):
            assert (await post(self.app, headers, path="/chat/messages/ok")).status_code == 401

    async def token(self) -> None:
        headers = {**call_headers("ok"), "Authorization": f"Bearer {Issuer().token()}"}
        assert (await post(self.app, headers, invocation("ok"))).status_code == 503

    async def negotiate(self, **headers: str) -> None:
        await post(self.app, headers, path="/chat/negotiate")

    async def send(self) -> None:
        try:
            await self.client.hub("chat").clients.all.send("news")
        except ServiceError:
            return


async def nothing_else(watched: Watched) -> None: ...


async def some_fail(watched: Watched) -> None:
    await watched.call("fail")


async def some_fail_in_a_flood(watched: Watched) -> None:
    await watched.call("fail")
    await watched.unsigned(200)


async def no_key_was_ever_fetched(watched: Watched) -> None:
    await watched.token()


async def nobody_has_the_key(watched: Watched) -> None:
    await watched.call("ok", times=70, key=OTHER_KEY)


async def a_method_is_missing(watched: Watched) -> None:
    await watched.call("old")


async def calls_take_their_time(watched: Watched) -> None:
    watched.seconds = 1.5
    await watched.call("ok")
    watched.seconds = 0.01


def answering(status: int | Exception) -> Callable[[Watched], Awaitable[None]]:
    async def sends(watched: Watched) -> None:
        watched.service.reply = lambda method, url: status
        for _ in range(3):
            await watched.send()

    return sends


async def negotiate_crashes(watched: Watched) -> None:
    await watched.negotiate()


class Tenants:
    """The keys of two tenants, of which one can be fetched only once."""

    def __init__(self) -> None:
        self.keys: list[PublishedKeys] = []
        self.asked: set[str] = set()
        self.document = httpx.Response(200, json=Issuer().document()).content

    async def __call__(self, watched: Watched) -> None:
        if not self.keys:
            self.keys = [
                PublishedKeys(
                    url,
                    Service(self.answer),
                    clock=lambda: watched.now,
                    telemetry=[watched.metrics],
                )
                for url in (KEYS_URL, OTHER_KEYS_URL)
            ]
        watched.now += 1800
        for keys in self.keys:
            keys.start_fetching()
            await keys.fetched()
            await keys.aclose()

    def answer(self, method: str, url: str) -> Answer | Exception:
        if url == OTHER_KEYS_URL and url in self.asked:
            return ConnectError("no connection")
        self.asked.add(url)
        return Answer(200, [], self.document)


ENTRA = {
    "entra": EntraUpstream(tenant=TENANT, audience=AUDIENCE, identities=[OBJECT_ID]),
    "connection_string": "Endpoint=https://chat.service.signalr.net;AuthType=azure;Version=1.0;",
    "seal_key": "s" * 32,
}

SITUATIONS: list[tuple[dict[str, Any], Callable[[Watched], Awaitable[None]], set[str]]] = [
    ({}, nothing_else, set()),
    ({}, some_fail, {"CallsFail"}),
    ({}, some_fail_in_a_flood, {"CallsFail", "CallersAreNotBelieved"}),
    ({"max_concurrent_calls": 0}, nothing_else, {"CallsFail"}),
    (ENTRA, no_key_was_ever_fetched, {"CallsCannotBeChecked"}),
    ({"connection_string": ""}, nothing_else, {"CallsCannotBeChecked"}),
    ({}, nobody_has_the_key, {"CallersAreNotBelieved"}),
    ({}, a_method_is_missing, {"MethodsAreMissing"}),
    ({}, calls_take_their_time, {"CallsAreSlow"}),
    ({}, answering(429), {"ServiceThrottlesUs"}),
    ({}, answering(503), {"ServiceCannotBeReached"}),
    ({}, answering(ConnectError("no connection")), {"ServiceCannotBeReached"}),
    ({}, negotiate_crashes, {"NegotiateFails"}),
    ({}, Tenants(), {"KeysGetOld"}),
]


@pytest.mark.parametrize(
    ("options", "situation", "alerts"),
    SITUATIONS,
    ids=["+".join(sorted(alerts)) or "quiet" for _, _, alerts in SITUATIONS],
)
async def test_the_rules_wake_in_the_situations_that_they_are_for_and_in_no_other(
    options: dict[str, Any],
    situation: Callable[[Watched], Awaitable[None]],
    alerts: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(**options)
    monkeypatch.setattr(prometheus, "time", SimpleNamespace(perf_counter=watched.tick))
    scraped = Scraped()
    for _ in range(MINUTES):
        if "entra" not in options:
            await watched.call("ok", times=3)
        if not options:
            await watched.negotiate(user="ann")
        await watched.send()
        await situation(watched)
        watched.now += 60
        scraped.add((await post(watched.app, {}, path="/metrics", method="GET")).text, watched.now)
    await watched.app.aclose()

    assert {name for name, expression in RULES.items() if evaluate(expression, scraped)} == alerts


def test_every_rule_has_its_situation() -> None:
    assert set[str]().union(*(alerts for _, _, alerts in SITUATIONS)) == RULES.keys()
