"""Metrics for Prometheus: ``UpstreamApp(telemetry=[Prometheus()])``, with the extra ``prometheus``.

::

    metrics = Prometheus()
    app = UpstreamApp(chat, telemetry=[metrics], routes=[metrics.route()])

Every worker of ``signalr-upstream run --workers`` counts for itself. With ``PROMETHEUS_MULTIPROC_DIR`` each of them
answers for all, as prometheus_client does it; the connections, which are looked at only when they are asked for, are
missing then.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .errors import MissingExtraError
from .telemetry import METRICS_FOLDER, REFUSED_BODIES, Call, Negotiation, Observer, RestRequest

try:
    from prometheus_client import (
        CONTENT_TYPE_LATEST,
        CollectorRegistry,
        Counter,
        Gauge,
        Histogram,
        generate_latest,
    )
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import REGISTRY
except ModuleNotFoundError as error:
    raise MissingExtraError(__name__, "prometheus-client", extra="prometheus") from error


class Prometheus(Observer):
    """Counts for Prometheus.

    Args:
        registry: where the metrics are registered; one registry takes one ``Prometheus``.
        clock: seconds since 1970.
    """

    def __init__(
        self, registry: CollectorRegistry = REGISTRY, *, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__()
        self._registry = registry
        self._clock = clock
        calls = ["hub", "handler"]
        self._calls = Counter(
            "signalr_upstream_calls",
            "Upstream calls; a hub or handler that is not registered is unknown.",
            [*calls, "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "signalr_upstream_call_duration_seconds",
            "From the first header to the answer.",
            calls,
            registry=registry,
        )
        self._in_flight = Gauge(
            "signalr_upstream_calls_in_flight",
            "Upstream calls under way.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._unproven = Counter(
            "signalr_upstream_auth_failures",
            "Upstream calls that were not believed.",
            ["reason"],
            registry=registry,
        )
        self._keys = Counter(
            "signalr_upstream_calls_by_key",
            "Upstream calls by the key that they were signed with, counted from 0.",
            ["key"],
            registry=registry,
        )
        self._bodies = Counter(
            "signalr_upstream_refused_bodies",
            "Upstream calls whose body was too large, too slow or of a wrong type.",
            ["reason"],
            registry=registry,
        )
        self._negotiations = Counter(
            "signalr_upstream_negotiations", "Answered negotiates.", ["hub", "outcome"], registry=registry
        )
        self._rest_metrics()
        if METRICS_FOLDER not in os.environ:  # what is only looked at is not shared: it would be 0 for ever
            self._connections()

    def _rest_metrics(self) -> None:
        registry = self._registry
        self._requests = Counter(
            "signalr_upstream_rest_requests",
            "Attempts of REST calls, by the status of the answer or the name of the error.",
            ["operation", "status"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "signalr_upstream_rest_request_duration_seconds",
            "An attempt of a REST call.",
            ["operation"],
            registry=registry,
        )
        self._retries = Counter(
            "signalr_upstream_rest_retries",
            "Attempts of REST calls after the first.",
            ["operation"],
            registry=registry,
        )
        self._fetched = Gauge(
            "signalr_upstream_key_fetched_timestamp_seconds",
            "When a temporary key, or the JWKS of Entra ID, was fetched, in seconds since 1970.",
            ["key", "source"],
            registry=registry,
            multiprocess_mode="livemin",  # the oldest of the workers that live
        )

    def _connections(self) -> None:
        registry = self._registry
        pool = Gauge(
            "signalr_upstream_rest_connections", "Connections to the REST API.", ["state"], registry=registry
        )
        pool.labels("busy").set_function(lambda: self.pool_use().busy)
        pool.labels("idle").set_function(lambda: self.pool_use().idle)
        waiting = Gauge(
            "signalr_upstream_rest_waiting",
            "REST calls that wait for a connection.",
            registry=registry,
        )
        waiting.set_function(lambda: self.pool_use().waiting)

    @contextlib.contextmanager
    def call(self, call: Call) -> Iterator[None]:
        """See ``Observer.call``."""
        begun = time.perf_counter()
        with self._in_flight.track_inprogress():
            yield
        self._calls.labels(call.hub, call.handler, call.outcome.value).inc()
        self._seconds.labels(call.hub, call.handler).observe(time.perf_counter() - begun)
        if call.unproven:
            self._unproven.labels(call.unproven).inc()
        if call.key_index is not None:
            self._keys.labels(call.key_index).inc()
        if call.outcome in REFUSED_BODIES:
            self._bodies.labels(call.outcome.value).inc()

    @contextlib.contextmanager
    def request(self, request: RestRequest) -> Iterator[None]:
        """See ``Observer.request``."""
        begun = time.perf_counter()
        yield
        self._requests.labels(request.operation, request.status or request.error_type).inc()
        self._request_seconds.labels(request.operation).observe(time.perf_counter() - begun)
        if request.resend:
            self._retries.labels(request.operation).inc()

    def negotiated(self, negotiation: Negotiation) -> None:
        """See ``Observer.negotiated``."""
        self._negotiations.labels(negotiation.hub, negotiation.outcome).inc()

    def fetched(self, what: str, source: str) -> None:
        """See ``Observer.fetched``."""
        self._fetched.labels(what, source).set(self._clock())

    def warning_for_workers(self) -> str:
        """See ``Observer.warning_for_workers``."""
        if METRICS_FOLDER in os.environ:
            return ""
        return (
            "metrics for Prometheus are those of the one worker that happens to answer: let "
            f"{METRICS_FOLDER} name a folder, where they share what they count"
        )

    def route(self, path: str = "/metrics") -> Route:
        """A route with all metrics of the registry. Whoever reaches it reads them: do not let everybody."""
        return Route(path, self._expose)

    def _expose(self, request: Request) -> Response:
        registry = self._registry
        if METRICS_FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library has it so
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})
