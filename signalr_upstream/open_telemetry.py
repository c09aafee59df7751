"""Spans and metrics for OpenTelemetry: ``UpstreamApp(telemetry=[OpenTelemetry()])``, with the extra ``otel``.

A call is a server span, with the names that Microsoft's SignalR server uses; the trace goes on from the request's
``traceparent``, if the call is proven, and into the REST calls that the handler makes, whose spans are those of an HTTP
client. Baggage ends at the handler.

Spec: https://opentelemetry.io/docs/specs/semconv/rpc/ and https://opentelemetry.io/docs/specs/semconv/http/
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import urlsplit

from .errors import MissingExtraError
from .telemetry import REFUSED_BODIES, UNKNOWN, Call, Negotiation, Observer, Outcome, RestRequest

try:
    from opentelemetry import baggage, context, metrics, propagate, trace
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ModuleNotFoundError as error:
    raise MissingExtraError(__name__, "opentelemetry-api", extra="otel") from error

_NAME = "signalr_upstream"
_FAILED = (
    Outcome.FAILED,
    Outcome.TIMED_OUT,
    Outcome.REDELIVER,
    Outcome.NOT_CONFIGURED,
    Outcome.KEYS_NOT_FETCHED,
    Outcome.OVERLOADED,
)
"""What is the server's fault: the span of anything else is no error."""


class OpenTelemetry(Observer):
    """Traces and counts with OpenTelemetry.

    Args:
        tracer_provider, meter_provider: where to; None for the global ones.
        clock: seconds of a steady clock.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._fetched: dict[tuple[str, str], float] = {}  # by what and source
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._seconds = meter.create_histogram("rpc.server.call.duration", "s", "Upstream calls.")
        self._active = meter.create_up_down_counter(
            "signalr_upstream.calls.active", "{call}", "Upstream calls under way."
        )
        self._unproven = meter.create_counter(
            "signalr_upstream.auth_failures", "{call}", "Upstream calls that were not believed."
        )
        self._keys = meter.create_counter(
            "signalr_upstream.calls_by_key", "{call}", "Upstream calls by the key that signed them, from 0."
        )
        self._bodies = meter.create_counter(
            "signalr_upstream.refused_bodies", "{call}", "Bodies too large, too slow or of a wrong type."
        )
        self._request_seconds = meter.create_histogram(
            "http.client.request.duration", "s", "Attempts of REST calls."
        )
        self._retries = meter.create_counter(
            "signalr_upstream.rest.retries", "{request}", "Attempts of REST calls after the first."
        )
        self._negotiations = meter.create_counter(
            "signalr_upstream.negotiations", "{request}", "Answered negotiates."
        )
        meter.create_observable_up_down_counter(
            "http.client.open_connections",
            [self._connections],
            "{connection}",
            "Connections to the REST API.",
        )
        meter.create_observable_up_down_counter(
            "signalr_upstream.rest.waiting", [self._waiting], "{request}", "REST calls without a connection."
        )
        meter.create_observable_gauge(
            "signalr_upstream.key.age", [self._ages], "s", "Since a temporary key or the JWKS was fetched."
        )

    # --- calls ---

    @contextlib.contextmanager
    def call(self, call: Call) -> Iterator[None]:
        """See ``Observer.call``."""
        begun = time.perf_counter()
        # Anybody can send a traceparent that is sampled.
        headers = call.headers if call.is_proven else ()
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        token = context.attach(propagate.extract(carrier))
        self._active.add(1)
        try:
            with self._tracer.start_as_current_span(UNKNOWN, kind=SpanKind.SERVER) as span:
                yield
                _describe_call(span, call)
        finally:
            context.detach(token)
            self._active.add(-1)
        labels = {
            "rpc.system.name": "signalr",
            "rpc.method": f"{call.hub}/{call.handler}",
            "signalr_upstream.outcome": call.outcome.value,
        }
        if call.error_type:
            labels["error.type"] = call.error_type
        self._seconds.record(time.perf_counter() - begun, labels)
        if call.unproven:
            self._unproven.add(1, {"reason": call.unproven})
        if call.key_index is not None:
            self._keys.add(1, {"key": call.key_index})
        if call.outcome in REFUSED_BODIES:
            self._bodies.add(1, {"reason": call.outcome.value})

    # --- REST ---

    @contextlib.contextmanager
    def request(self, request: RestRequest) -> Iterator[None]:
        """See ``Observer.request``."""
        begun = time.perf_counter()
        url = urlsplit(request.server_url)
        labels: dict[str, str | int] = {
            "http.request.method": request.method,
            "server.address": url.hostname or "",
            "server.port": url.port or (443 if url.scheme == "https" else 80),
            "url.template": request.template,
        }
        with self._tracer.start_as_current_span(
            f"{request.method} {request.template}", kind=SpanKind.CLIENT, attributes=labels
        ) as span:
            carrier: dict[str, str] = {}
            propagate.inject(carrier, baggage.clear())  # what is in it is not for the service
            request.headers.extend(carrier.items())
            yield
            if request.status is not None:
                labels["http.response.status_code"] = request.status
            if request.error_type:
                labels["error.type"] = request.error_type
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(labels)
            if request.resend:
                span.set_attribute("http.request.resend_count", request.resend)
        self._request_seconds.record(time.perf_counter() - begun, labels)
        if request.resend:
            self._retries.add(1, {"url.template": request.template})

    def negotiated(self, negotiation: Negotiation) -> None:
        """See ``Observer.negotiated``."""
        self._negotiations.add(1, {"hub": negotiation.hub, "outcome": negotiation.outcome})

    # --- what is looked at when somebody asks ---

    def fetched(self, what: str, source: str) -> None:
        """See ``Observer.fetched``."""
        self._fetched[what, source] = self._clock()

    def _ages(self, _: CallbackOptions) -> Iterable[Observation]:
        now = self._clock()
        return [
            Observation(now - at, {"key": what, "source": source})
            for (what, source), at in self._fetched.items()
        ]

    def _connections(self, _: CallbackOptions) -> Iterable[Observation]:
        use = self.pool_use()
        state = "http.connection.state"
        return [Observation(use.busy, {state: "active"}), Observation(use.idle, {state: "idle"})]

    def _waiting(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self.pool_use().waiting)]


def _describe_call(span: Span, call: Call) -> None:
    span.update_name(f"{call.hub}/{call.handler}")
    span.set_attributes(
        {
            "rpc.system.name": "signalr",
            "rpc.method": f"{call.hub}/{call.handler}",
            "signalr_upstream.outcome": call.outcome.value,
            "signalr.connection.id": call.connection_id,
            "http.response.status_code": call.status,
        }
    )
    if call.error_type:
        span.set_attribute("error.type", call.error_type)
    if call.outcome in _FAILED:
        span.set_status(Status(StatusCode.ERROR))
