"""REST calls on who is connected: exclusions, times to live, pages."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signalr_upstream.local import LocalService
from signalr_upstream.local.clock import ManualClock
from signalr_upstream.local.upstream.delivery import Upstream

from ..doors import NOW, call, make
from ..handmade import Client, connect

pytestmark = pytest.mark.anyio

LIST = "/api/hubs/chat/groups/g%2F1/connections"
MESSAGE = b'{"target":"t"}'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
async def service(clock: ManualClock) -> AsyncIterator[LocalService]:
    service = make(clock=clock)
    yield service
    await service.aclose()


async def three(service: LocalService) -> dict[str, Client]:
    """Three connections of one user, all in a group."""
    clients = {name: await connect(service, connection_id=name, user_id="ann") for name in "abc"}
    for name in clients:
        service.hub("chat").join(name, "g")
    return clients


@pytest.mark.parametrize("where", ["", "/groups/g"])
@pytest.mark.parametrize(
    "query", ["excluded=a&excluded=c", "Excluded=a&excluded=c", "excluded[0]=a&excluded[1]=c"]
)
async def test_sends_leave_out_who_is_excluded(service: LocalService, where: str, query: str) -> None:
    clients = await three(service)

    await call(service, "POST", f"/api/hubs/chat{where}/:send?{query}", MESSAGE)

    assert [name for name, client in clients.items() if client.received] == ["b"]


@pytest.mark.parametrize("where", ["", "/groups/g", "/users/ann"])
async def test_closes_leave_out_who_is_excluded(service: LocalService, where: str) -> None:
    clients = await three(service)

    await call(service, "POST", f"/api/hubs/chat{where}/:closeConnections?excluded=a&excluded=b&reason=over")

    assert [name for name, client in clients.items() if client.gone] == ["c"]
    assert clients["c"].take() == [b'{"type":7,"error":"over","allowReconnect":true}\x1e']


# --- memberships of users ---


async def test_a_membership_ends_but_not_for_who_is_connected(
    service: LocalService, clock: ManualClock
) -> None:
    present = await connect(service, connection_id="a", user_id="ann")
    path = "/api/hubs/chat/users/ann/groups/g"
    hub = service.hub("chat")

    await call(service, "PUT", f"{path}?ttl=10")
    clock.advance(9)
    member = (await call(service, "HEAD", path)).status_code
    await connect(service, connection_id="b", user_id="ann")
    clock.advance(1)
    former = (await call(service, "HEAD", path)).status_code
    await connect(service, connection_id="c", user_id="ann")

    assert (member, former) == (200, 404)
    assert [each.connection_id for each in hub.group("g")] == ["a", "b"]
    assert not present.gone


async def test_a_ttl_of_nothing_is_for_who_is_connected(service: LocalService) -> None:
    await connect(service, connection_id="a", user_id="ann")
    path = "/api/hubs/chat/users/ann/groups/g"

    added = await call(service, "PUT", f"{path}?ttl=0")
    await connect(service, connection_id="b", user_id="ann")

    assert (added.status_code, (await call(service, "HEAD", path)).status_code) == (200, 404)
    assert [each.connection_id for each in service.hub("chat").group("g")] == ["a"]


# --- pages ---


async def filled(service: LocalService, ids: list[str]) -> None:
    upstream = Upstream(keys=["k" * 44])
    for connection_id in ids:
        user_id = None if connection_id == "c3" else "ann"
        await connect(service, connection_id=connection_id, user_id=user_id, upstream=upstream)
        service.hub("chat").join(connection_id, "g/1")


async def test_a_group_is_listed(service: LocalService) -> None:
    await filled(service, ["c3", "c1"])

    response = await call(service, "GET", LIST)

    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "value": [{"connectionId": "c1", "userId": "ann"}, {"connectionId": "c3", "userId": None}]
    }
    assert (await call(service, "GET", "/api/hubs/chat/groups/x/connections")).json() == {"value": []}


async def test_a_long_group_comes_in_pages_with_absolute_links(service: LocalService) -> None:
    ids = [f"c{index:03}" for index in range(201)]
    await filled(service, ids)

    first = (await call(service, "GET", LIST)).json()
    second = await follow(service, first)

    assert [each["connectionId"] for each in first["value"]] == ids[:200]
    assert [each["connectionId"] for each in second["value"]] == ids[200:]
    assert first["nextLink"] == (
        f"http://localhost:8888{LIST}?maxpagesize=200&continuationToken=c199&api-version=2024-12-01"
    )
    assert "nextLink" not in second


async def follow(service: LocalService, page: dict[str, Any]) -> dict[str, Any]:
    """The next page, with a token for the path of its link."""
    link = urlsplit(page["nextLink"])
    query = link.query.removesuffix("&api-version=2024-12-01")
    assert query != link.query
    answer: dict[str, Any] = (await call(service, "GET", f"{link.path}?{query}")).json()
    return answer


@pytest.mark.parametrize(
    ("query", "sizes"),
    [
        ("top=2", [2]),
        ("top=5", [5]),
        ("top=9", [5]),
        ("maxpagesize=2", [2, 2, 1]),
        ("maxPageSize=2&top=3", [2, 1]),  # the SDK's spelling
        ("maxpagesize=2&top=4", [2, 2]),
        ("maxpagesize=5", [5]),
    ],
)
async def test_there_is_a_link_only_while_there_is_more(
    service: LocalService, query: str, sizes: list[int]
) -> None:
    await filled(service, [f"d{index}" for index in range(5)])

    pages = [(await call(service, "GET", f"{LIST}?{query}")).json()]
    while "nextLink" in pages[-1]:
        pages.append(await follow(service, pages[-1]))

    assert [len(page["value"]) for page in pages] == sizes


async def test_pages_are_stable_while_others_join_and_leave(service: LocalService) -> None:
    await filled(service, ["b", "d", "f", "h"])
    hub = service.hub("chat")

    first = (await call(service, "GET", f"{LIST}?maxpagesize=2")).json()
    hub.leave("d", "g/1")  # the last of the page
    hub.leave("f", "g/1")
    await filled(service, ["a", "e", "z"])
    second = await follow(service, first)
    third = await follow(service, second)

    assert [[each["connectionId"] for each in page["value"]] for page in (first, second, third)] == [
        ["b", "d"],
        ["e", "h"],
        ["z"],
    ]


async def test_the_link_keeps_the_application(service: LocalService) -> None:
    for name in ("a", "b"):
        await connect(service, hub="app_chat", connection_id=name)
        service.hub("app_chat").join(name, "g/1")

    page = (await call(service, "GET", f"{LIST}?application=App&maxpagesize=1")).json()

    assert "&application=App&" in page["nextLink"]
    assert (await follow(service, page))["value"] == [{"connectionId": "b", "userId": None}]


@pytest.mark.parametrize(
    "query", ["maxpagesize=0", "maxpagesize=201", "top=0", "top=-1", "top=x", "top=9999999999"]
)
async def test_sizes_out_of_range_are_refused(service: LocalService, query: str) -> None:
    response = await call(service, "GET", f"{LIST}?{query}")

    assert response.status_code == 400
    assert query.partition("=")[0] in response.json()["message"]


@given(
    token=st.text(max_size=20).filter(lambda text: text.isprintable())
    | st.sampled_from(["d1", "d2", "zz", "\x00", "ü"]),
    size=st.integers(1, 4),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_any_continuation_token_is_a_place_in_the_order(
    service: LocalService, token: str, size: int
) -> None:
    if not service.hub("chat").everybody():
        await filled(service, ["d1", "d2", "d3"])

    response = await call(service, "GET", f"{LIST}?maxpagesize={size}&continuationToken={quote(token)}")

    assert response.status_code == 200
    found = [each["connectionId"] for each in response.json()["value"]]
    assert found == [each for each in ("d1", "d2", "d3") if each > token][:size]
