"""Programs without an event loop of their own: a loop for each call, also in many threads, leaves nothing behind."""

import asyncio
import gc
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from asgiref.sync import async_to_sync

from signalr_upstream import Hub, Identity, ServiceClient, UpstreamApp
from signalr_upstream.client import HubClient
from signalr_upstream.errors import ConfigurationError
from signalr_upstream.local import LocalService

T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def _finish(call: Coroutine[Any, Any, T]) -> T:
    return await call


both_ways = pytest.mark.parametrize(
    "run", [asyncio.run, async_to_sync(_finish)], ids=["asyncio.run", "async_to_sync"]
)


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """A thread with an event loop, for services."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture
def services(portal: BlockingPortal) -> Iterator[list[LocalService]]:
    """Two services."""
    with ExitStack() as stack:
        yield [stack.enter_context(portal.wrap_async_context_manager(LocalService())) for _ in range(2)]


class Left:
    """What the calls of a program have left behind: open files, event loops, threads."""

    def __init__(self) -> None:
        self._before = self._now()

    def check(self) -> None:
        assert self._now() == self._before

    def _now(self) -> tuple[int, int, int]:
        gc.collect()
        loops = sum(isinstance(each, asyncio.AbstractEventLoop) for each in gc.get_objects())
        return len(os.listdir("/proc/self/fd")), loops, threading.active_count()


async def every_kind_of_call(hub: HubClient) -> None:
    await hub.clients.all.send("told", 1)
    await hub.clients.users(["ann", "bob"]).send("told", 2)
    await hub.users.add_to_group("ann", group="g")
    assert await hub.users.in_group("ann", group="g")
    assert not await hub.groups.add("g", connection_id="nobody")
    assert [each async for each in hub.groups.connections("g")] == []
    assert (await hub.client_access(Identity("ann"))).access_token


@both_ways
def test_a_client_that_is_never_closed_leaves_nothing(run: Run, services: list[LocalService]) -> None:
    hub = ServiceClient(services[0].connection_string).hub("chat")
    run(every_kind_of_call(hub))
    left = Left()

    for _ in range(20):
        run(every_kind_of_call(hub))

    left.check()


@both_ways
def test_several_endpoints_and_looks_at_their_health_leave_nothing(
    run: Run, services: list[LocalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalr_upstream.rest.health.LOOK_EVERY", 0.0)
    monkeypatch.setattr("signalr_upstream.rest.health.LOOK_AGAIN_EVERY", 0.0)
    hub = ServiceClient([service.connection_string for service in services]).hub("chat")
    run(every_kind_of_call(hub))
    left = Left()

    for _ in range(10):
        run(every_kind_of_call(hub))

    left.check()


@both_ways
def test_tokens_of_a_credential_leave_nothing(
    run: Run, services: list[LocalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    string = f"Endpoint={services[0].url};Version=1.0;"
    hub = ServiceClient(string, credential=services[0].credential, seal_key="s" * 44).hub("chat")
    run(every_kind_of_call(hub))
    left = Left()

    monkeypatch.setattr("signalr_upstream.entra.LAST", 1e9)  # so none is used twice
    for _ in range(5):
        run(every_kind_of_call(hub))

    left.check()


def test_requests_of_a_web_framework_without_a_loop_share_a_client(services: list[LocalService]) -> None:
    """As in Django under WSGI: each request has a thread, and in it a loop for each call."""
    hub = ServiceClient(services[0].connection_string).hub("chat")
    view = async_to_sync(every_kind_of_call)
    view(hub)
    left = Left()

    with ThreadPoolExecutor(8) as threads:
        for request in [threads.submit(view, hub) for _ in range(40)]:
            request.result()

    view(hub)  # the last loops of threads are forgotten with the next one
    left.check()


@both_ways
def test_a_hub_sends_outside_of_requests(
    run: Run, services: list[LocalService], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AzureSignalRConnectionString", services[0].connection_string)
    in_none, in_one, in_two = Hub("chat"), Hub("chat"), Hub("chat")
    strings = [service.connection_string for service in services]
    app = UpstreamApp(in_one, connection_string=strings[1])
    apps = [UpstreamApp(in_two, connection_string=string) for string in strings]

    async def send(hub: Hub | HubClient) -> str:
        await hub.clients.all.send("told")
        return (await hub.client_access(Identity("ann"))).url

    urls = [f"{service.url}/client/?hub=chat" for service in services]
    assert run(send(in_none)) == urls[0]
    assert run(send(in_one)) == run(send(app.hub(in_one))) == urls[1]
    assert [run(send(app.hub(in_two))) for app in apps] == urls
    assert run(send(ServiceClient(strings[1]).hub("chat"))) == urls[1]
    with pytest.raises(
        ConfigurationError, match=r"'chat' is in 2 apps and none is current here.*app\.hub\(hub\)"
    ):
        run(send(in_two))
