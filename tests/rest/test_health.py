"""Which endpoints are left out, and how they come back; with a clock that is only a number."""

import asyncio

import pytest

from signalr_upstream.connection_string import Endpoint, parse_connection_string
from signalr_upstream.rest.health import LOOK_AGAIN_EVERY, LOOK_EVERY, Health

pytestmark = pytest.mark.anyio

EAST, WEST = (
    parse_connection_string(f"Endpoint=https://{name}.service.signalr.net;AccessKey={name * 11}")
    for name in ("east", "west")
)
BOTH = (EAST, WEST)


class Service:
    """Two endpoints: what they would say, and who was looked at."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.down: set[Endpoint] = set()
        self.looked_at: list[Endpoint] = []
        self.health = Health(self._look, clock=lambda: self.now)

    async def _look(self, endpoint: Endpoint) -> bool:
        self.looked_at.append(endpoint)
        return endpoint not in self.down

    async def well(self) -> list[Endpoint]:
        """Who is well, and then the looks that this has started."""
        found = list(self.health.well(BOTH))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return found

    def fail(self, *endpoints: Endpoint) -> None:
        for endpoint in endpoints:
            self.health.failed(endpoint)
            self.health.failed(endpoint)


async def test_a_single_endpoint_is_never_looked_at() -> None:
    service = Service()
    service.fail(EAST)

    assert service.health.well((EAST,)) == (EAST,)
    assert service.looked_at == []


async def test_endpoints_that_nothing_is_known_of_are_taken_for_well_and_looked_at() -> None:
    service = Service()
    service.down.add(WEST)

    assert await service.well() == [EAST, WEST]
    assert service.looked_at == [EAST, WEST]
    assert await service.well() == [EAST]


async def test_what_has_answered_lately_is_not_looked_at() -> None:
    service = Service()
    service.health.answered(EAST)
    service.health.answered(WEST)
    service.now += LOOK_EVERY - 1

    await service.well()
    assert service.looked_at == []
    service.now += 1
    await service.well()
    assert service.looked_at == [EAST, WEST]


async def test_one_failure_is_forgiven_and_two_in_a_row_are_not() -> None:
    service = Service()
    service.health.answered(EAST)
    service.health.answered(WEST)

    service.health.failed(EAST)
    assert await service.well() == [EAST, WEST]
    service.health.answered(EAST)
    service.health.failed(EAST)
    assert await service.well() == [EAST, WEST]
    service.health.failed(EAST)
    assert await service.well() == [WEST]


async def test_who_is_left_out_is_looked_at_again_and_comes_back() -> None:
    service = Service()
    service.health.answered(WEST)
    service.down.add(EAST)
    service.fail(EAST)

    assert await service.well() == [WEST]
    assert await service.well() == [WEST]
    assert service.looked_at == [EAST]
    service.down.clear()
    service.now += LOOK_AGAIN_EVERY
    assert await service.well() == [WEST]
    assert await service.well() == [EAST, WEST]


async def test_where_none_is_well_all_are_tried() -> None:
    service = Service()
    service.down.update(BOTH)
    service.fail(*BOTH)

    assert await service.well() == [EAST, WEST]
