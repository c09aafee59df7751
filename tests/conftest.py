"""What every test shares: one event loop implementation."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
