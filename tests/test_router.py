from signalr_upstream import Identity
from signalr_upstream.connection_string import load_endpoints
from signalr_upstream.router import DefaultRouter

NORTH, SOUTH, EAST = load_endpoints(
    environ={
        f"Azure__SignalR__Endpoints__{name}": f"Endpoint=https://{name}.service.signalr.net;AccessKey={'k' * 44}"
        for name in ("north", "south", "east__Secondary")
    }
)


def test_clients_go_to_any_primary_endpoint_while_one_is_well() -> None:
    router = DefaultRouter()
    seen = {
        router.negotiate([NORTH, SOUTH, EAST], hub="chat", identity=Identity("ann")).name for _ in range(200)
    }

    assert seen == {"north", "south"}


def test_clients_go_to_a_secondary_endpoint_when_no_primary_is_well() -> None:
    assert DefaultRouter().negotiate([EAST], hub="chat", identity=Identity("ann")) is EAST


def test_calls_go_to_every_endpoint() -> None:
    everyone = [NORTH, SOUTH, EAST]

    assert DefaultRouter().send(everyone, hub="chat", operation="send_to_user", names=("ann",)) is everyone
