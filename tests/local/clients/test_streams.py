"""A client's ``stream()`` on its way to the app and back, over a socket."""

from typing import Any

import pytest
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from signalr_upstream.local import LocalService
from signalr_upstream.local.rest.outgoing import OutgoingItem

from ..test_service import connect, open_session

pytestmark = pytest.mark.anyio

STREAM = '{"type":4,"invocationId":"7","target":"counter","arguments":[10]}\x1e'


class App:
    """It takes on every stream (204) or answers what it is given."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.calls: list[tuple[str, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.calls.append((request.url.path, await request.body()))
        await Response(self.answer or None, status_code=200 if self.answer else 204)(scope, receive, send)


async def test_the_app_learns_of_a_stream_and_feeds_it() -> None:
    app = App()
    async with LocalService(app, experimental_streams=True) as service, connect(service) as client:
        await open_session(client)
        await client.send(STREAM)
        await client.send('{"type":1,"invocationId":"8","target":"next","arguments":[]}\x1e')
        assert await client.recv() == '{"type":3,"invocationId":"8"}\x1e'
        [connection] = service.hub("chat").everybody()

        fed = [
            connection.send_item("7", OutgoingItem(lambda _: Raw(b"1")), completed=False),
            connection.complete_stream("7", "enough"),
            connection.complete_stream("7", None),
        ]

        assert fed == [True, True, False]
        assert await client.recv() == '{"type":2,"invocationId":"7","item":1}\x1e'
        assert await client.recv() == '{"type":3,"invocationId":"7","error":"enough"}\x1e'
    assert app.calls[1] == (
        "/chat/messages/counter",
        b'{"type":4,"invocationId":"7","target":"counter","arguments":[10]}',
    )


@pytest.mark.parametrize("options", [{}, {"experimental_streams": True}])
async def test_a_client_never_waits_for_a_stream_that_nobody_serves(options: dict[str, Any]) -> None:
    app = App(b'{"type":3,"invocationId":"7"}\x1e')
    async with LocalService(app, **options) as service, connect(service) as client:
        await open_session(client)
        await client.send(STREAM)
        answer = await client.recv()

    assert "204" in answer if options else "experimental streams" in answer
    assert ("/chat/messages/counter" in [path for path, _ in app.calls]) == bool(options)
