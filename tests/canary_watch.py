"""A watch over the whole suite: nothing that a test brings forth holds a secret.

It is a pytest plugin: ``conftest`` takes its hook and its fixtures. What it sees:

- logs, standard output and standard error of each test, those of processes included that inherit them
- the text of each error of ours, when it is made
- what each ``UpstreamApp`` and ``LocalService`` in this process sends: headers and bodies of all answers, pages of the
  inspector, frames and close reasons of WebSockets, with the two exceptions of ``TOKENS_ARE_ASKED_FOR``
- each span that ends, and the labels of each measurement, of OpenTelemetry's SDK and of Prometheus
"""

import re
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import prometheus_client.metrics
import pytest
from opentelemetry.sdk import metrics, trace
from starlette.types import Message, Receive, Scope, Send

from signalr_upstream import UpstreamApp
from signalr_upstream.errors import SignalRError
from signalr_upstream.local import LocalService

from .canaries import secret_in

TOKENS_ARE_ASKED_FOR = ("/negotiate", "/:generatetoken")
"""Ends of the paths whose good answer is a token: that one is left out, and nothing else."""

_ASKED_FOR = re.compile(r'"(accessToken|token)":"[^"]*"')

_told: list[str] = []
"""What has been seen since the last test."""


def _look(place: str, text: str) -> None:
    if secret := secret_in(text):
        _told.append(f"{secret} stands in {place}")


# --- logs and output ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that has told a secret."""
    report = yield
    if report.when == "teardown":
        for name, text in report.sections:
            _look(f"the {name.lower()} of this test", text)
        if _told and report.passed:
            report.outcome = "failed"
            report.longrepr = "\n".join(dict.fromkeys(_told))
        _told.clear()
    return report


# --- errors ---


@pytest.fixture(autouse=True, scope="session")
def no_error_text_holds_a_secret() -> Generator[None, None, None]:
    """Fail where an error of ours is made with a secret in its text."""

    def make(cls: type[SignalRError], *args: Any, **options: Any) -> SignalRError:
        secret = secret_in(repr((args, options)))
        assert secret is None, f"{secret} stands in the text of a {cls.__name__}"
        return super(SignalRError, cls).__new__(cls, *args)

    SignalRError.__new__ = make  # type: ignore[assignment]
    yield
    del SignalRError.__new__


# --- answers, pages, spans and metrics ---

_App = Callable[[Any, Scope, Receive, Send], Awaitable[None]]


@pytest.fixture(autouse=True, scope="session")
def no_answer_span_or_metric_holds_a_secret() -> Generator[None, None, None]:
    """Look at what apps and local services send, and at what telemetry is given."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpstreamApp, "__call__", _watched_app(UpstreamApp.__call__))
        patch.setattr(LocalService, "asgi", _watched_app(LocalService.asgi))
        patch.setattr(trace.Span, "end", _watched_end(trace.Span.end))
        for kind, name in (
            (metrics.Counter, "add"),
            (metrics.UpDownCounter, "add"),
            (metrics.Histogram, "record"),
        ):
            patch.setattr(kind, name, _watched_arguments(getattr(kind, name)))
        labelled = prometheus_client.metrics.MetricWrapperBase
        patch.setattr(labelled, "labels", _watched_arguments(labelled.labels))
        yield


def _watched_app(app: _App) -> _App:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0
        seen: list[str] = []

        async def watched_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            seen.append(_text_of(message))
            await send(message)

        try:
            await app(self, scope, receive, watched_send)
        finally:
            path, text = scope.get("path", ""), "".join(seen)  # in one piece, since a secret may come in two
            if status == 200 and path.lower().rstrip("/").endswith(TOKENS_ARE_ASKED_FOR):
                text = _ASKED_FOR.sub("", text)
            _look(f"what {scope.get('method', scope['type'])} {path} is answered", text)

    return call


def _text_of(message: Message) -> str:
    if message["type"] == "http.response.body":
        body: bytes = message.get("body", b"")
        return body.decode("latin-1")
    return str(dict(message))


def _watched_end(end: Callable[..., None]) -> Callable[..., None]:
    def ended(span: trace.Span, *args: Any, **options: Any) -> None:
        end(span, *args, **options)
        _look(f"the span {span.name}", span.to_json())

    return ended


def _watched_arguments(method: Callable[..., Any]) -> Callable[..., Any]:
    def called(self: Any, *args: Any, **options: Any) -> Any:
        _look(f"a label of {self!r}", repr((args, options)))
        return method(self, *args, **options)

    return called
