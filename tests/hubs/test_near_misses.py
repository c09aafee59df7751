import pytest

from signalr_upstream import Context, Hub, UpstreamApp, on
from signalr_upstream.hubs.places import shown


async def handler(ctx: Context) -> None: ...


@pytest.mark.parametrize(
    "event",
    [
        "conected",
        "Connectd",
        "connceted",
        "OnConnected",
        "onConnectedAsync",
        "on_connected",
        "disconected",
        "dissconnected",
        "OnDisconnectedAsync",
    ],
)
def test_a_target_that_nearly_is_a_connection_event_is_a_warning(
    event: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub("chat")
    hub.on(event)(handler)

    UpstreamApp(hub)

    assert caplog.messages == [
        f"hub 'chat': {shown(handler)}: `{event}` is a message's target here; the connection events are `connected` "
        'and `disconnected`. Where a target is meant, say category="messages".'
    ]


@pytest.mark.parametrize(
    "event",
    [
        "connect",
        "disconnect",
        "reconnected",
        "isConnected",
        "connection",
        "Connected",
        "connected*",
        "*",
        "on",
    ],
)
def test_words_of_their_own_are_none(event: str, caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub("chat")
    hub.on(event)(handler)

    UpstreamApp(hub)

    assert caplog.messages == []


def test_nothing_is_said_where_the_event_is_handled_or_a_target_is_meant(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub("chat")
    hub.on("connected")(handler)
    hub.on("onConnected")(handler)
    hub.on("onDisconnected", category="messages")(handler)

    UpstreamApp(hub)

    assert caplog.messages == []


def test_so_it_is_with_methods(caplog: pytest.LogCaptureFixture) -> None:
    class Chat(Hub):
        @on("OnConnectedAsync")
        async def greet(self, ctx: Context) -> None: ...

    UpstreamApp(Chat("chat"))

    assert f"Chat.greet ({__file__}:" in caplog.text
