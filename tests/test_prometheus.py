"""What Prometheus scrapes, read with prometheus_client's own parser."""

from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from signalr_upstream import Context, Hub, Identity, ServiceClient, UpstreamApp
from signalr_upstream.prometheus import Prometheus
from signalr_upstream.telemetry import Observer, PoolUse

from .support import CONNECTION_STRING, OTHER_KEY, RestService, call_headers, invocation, invoke, post

pytestmark = pytest.mark.anyio

Samples = dict[str, float]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Pool:
    def pool_use(self) -> PoolUse:
        return PoolUse(busy=3, idle=2, waiting=1)


def hub_with_negotiate() -> Hub:
    hub = Hub("chat")

    @hub.on("ok")
    async def ok(ctx: Context) -> None:
        await ctx.clients.all.send("news")

    @hub.on("look")
    async def look(ctx: Context, text: str) -> None: ...

    @hub.negotiate
    async def who() -> Identity:
        return Identity(user_id="ann")

    return hub


@pytest.fixture
def metrics() -> Prometheus:
    return Prometheus(CollectorRegistry())


@pytest.fixture
def app(metrics: Prometheus) -> UpstreamApp:
    return UpstreamApp(
        hub_with_negotiate(),
        connection_string=CONNECTION_STRING,
        max_body_size=1000,
        http_client=RestService().client,
        telemetry=[metrics],
        routes=[metrics.route()],
    )


async def scrape(app: UpstreamApp) -> Samples:
    """Every sample by its name and the values of its labels (in the order of their names), without the buckets."""
    answer = await post(app, {}, path="/metrics", method="GET")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


async def test_calls_are_counted_by_registered_names_and_outcome(app: UpstreamApp) -> None:
    await invoke(app, "ok")
    await invoke(app, "look", 1)
    for number in range(3):
        await post(app, call_headers(f"guess{number}"), invocation(f"guess{number}"))
    await post(app, call_headers("connected"), b'{"type":10}')

    samples = await scrape(app)

    assert {
        name: value for name, value in samples.items() if name.startswith("signalr_upstream_calls_total")
    } == {
        "signalr_upstream_calls_total ok chat success": 1,
        "signalr_upstream_calls_total look chat refused": 1,
        "signalr_upstream_calls_total unknown chat no_handler": 3,
        "signalr_upstream_calls_total unknown chat ignored": 1,
    }
    assert samples["signalr_upstream_call_duration_seconds_count ok chat"] == 1
    assert 0 < samples["signalr_upstream_call_duration_seconds_sum ok chat"] < 60
    assert samples["signalr_upstream_calls_in_flight"] == 0
    assert samples["signalr_upstream_calls_by_key_total 0"] == 6


async def test_calls_under_way_are_seen(metrics: Prometheus) -> None:
    hub = Hub("chat")
    seen: Samples = {}

    @hub.on("look")
    async def look(ctx: Context) -> None:
        seen.update(await scrape(looked_at))

    looked_at = UpstreamApp(
        hub, connection_string=CONNECTION_STRING, telemetry=[metrics], routes=[metrics.route()]
    )
    await invoke(looked_at, "look")

    assert seen["signalr_upstream_calls_in_flight"] == 1


async def test_refused_callers_and_bodies_are_counted_by_reason(app: UpstreamApp) -> None:
    await post(app, call_headers("ok", key=OTHER_KEY))
    await post(app, call_headers("ok"), b"x" * 1001)

    samples = await scrape(app)

    assert samples["signalr_upstream_auth_failures_total signature_wrong"] == 1
    assert samples["signalr_upstream_refused_bodies_total body_too_large"] == 1
    assert samples["signalr_upstream_calls_total unknown unknown unauthorized"] == 1


async def test_rest_calls_are_counted_by_operation_and_status(metrics: Prometheus, app: UpstreamApp) -> None:
    answers = iter([httpx.Response(503, headers={"retry-after": "0"}), httpx.Response(202)])
    rest = RestService(lambda _: next(answers))
    client = ServiceClient(CONNECTION_STRING, http_client=rest.client, telemetry=[metrics])

    await client.hub("chat").clients.group("lobby").send("news")

    samples = await scrape(app)
    assert samples["signalr_upstream_rest_requests_total send_to_group 503"] == 1
    assert samples["signalr_upstream_rest_requests_total send_to_group 202"] == 1
    assert samples["signalr_upstream_rest_retries_total send_to_group"] == 1
    assert samples["signalr_upstream_rest_request_duration_seconds_count send_to_group"] == 2


async def test_connections_negotiates_and_keys_are_there() -> None:
    clock = Clock()
    metrics = Prometheus(CollectorRegistry(), clock=clock)
    app = UpstreamApp(
        hub_with_negotiate(),
        connection_string=CONNECTION_STRING,
        telemetry=[metrics],
        routes=[metrics.route("/metrics")],
    )
    pool = Pool()
    metrics.watch(pool)
    clock.now = 90
    metrics.fetched("jwks", "https://issuer")
    clock.now = 180
    await post(app, {}, path="/chat/negotiate")

    samples = await scrape(app)

    assert samples["signalr_upstream_rest_connections busy"] == 3
    assert samples["signalr_upstream_rest_connections idle"] == 2
    assert samples["signalr_upstream_rest_waiting"] == 1
    assert samples["signalr_upstream_negotiations_total chat success"] == 1
    assert samples["signalr_upstream_key_fetched_timestamp_seconds jwks https://issuer"] == 90


async def test_no_route_is_there_unless_it_is_mounted() -> None:
    app = UpstreamApp(
        hub_with_negotiate(), connection_string=CONNECTION_STRING, telemetry=[Prometheus(CollectorRegistry())]
    )

    assert (await post(app, {}, path="/metrics", method="GET")).status_code == 404


@pytest.fixture
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


async def test_workers_that_share_a_folder_answer_for_all(shared_folder: Path) -> None:
    from prometheus_client import values

    value_class = values.MultiProcessValue(lambda: 4711)  # type: ignore[no-untyped-call]  # as another worker
    value = value_class("counter", "of_another_worker_total", "of_another_worker_total", (), (), "Help.")
    value.inc(7)
    metrics = Prometheus(CollectorRegistry())
    app = UpstreamApp(hub_with_negotiate(), connection_string=CONNECTION_STRING, routes=[metrics.route()])

    assert (await scrape(app))["of_another_worker_total"] == 7


async def test_what_workers_cannot_share_is_left_out(shared_folder: Path) -> None:
    registry = CollectorRegistry()
    Prometheus(registry)

    names = {family.name for family in registry.collect()}

    assert "signalr_upstream_key_fetched_timestamp_seconds" in names
    assert not [
        name
        for name in names
        if name.startswith(("signalr_upstream_rest_conn", "signalr_upstream_rest_wait"))
    ]


async def test_workers_that_share_nothing_are_told_so(
    tmp_path: Path, metrics: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert "PROMETHEUS_MULTIPROC_DIR" in metrics.warning_for_workers()

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert metrics.warning_for_workers() == ""
    assert Observer().warning_for_workers() == ""
