"""What every test shares: one event loop implementation, and repeated calls that do not wait."""

import asyncio

import pytest

from signalr_upstream.rest import repeating

from .canary_watch import (
    no_answer_span_or_metric_holds_a_secret,
    no_error_text_holds_a_secret,
    pytest_runtest_makereport,
)

__all__ = [
    "no_answer_span_or_metric_holds_a_secret",
    "no_error_text_holds_a_secret",
    "pytest_runtest_makereport",
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def repeated_calls_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr(repeating, "sleep", lambda seconds: sleep(0))
