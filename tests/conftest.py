"""What every test shares: one event loop implementation, and repeated calls that do not wait."""

from collections.abc import Iterator

import pytest
import stamina


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def repeated_calls_do_not_wait() -> Iterator[None]:
    with stamina.set_testing(True, attempts=100, cap=True):
        yield
