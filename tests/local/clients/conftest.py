"""A service without a port, its app and clock, and a client that uses HTTP requests."""

from collections.abc import AsyncIterator

import pytest

from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock

from ..echo_app import EchoApp
from ..http_client import HttpClient


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def app() -> EchoApp:
    return EchoApp()


@pytest.fixture
async def service(app: EchoApp, clock: ManualClock) -> AsyncIterator[LocalService]:
    service = LocalService(app, clock=clock)
    yield service
    app.gate.set()
    await service.aclose()


@pytest.fixture
async def client(service: LocalService) -> HttpClient:
    return HttpClient(service)
