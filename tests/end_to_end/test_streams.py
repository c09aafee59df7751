"""``stream()`` of the official client, answered by async generators."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clients import CallError, Client
from .conftest import Connect
from .processes import HERE, Server, dev, free_port


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("streams") / "server.log"
    with dev("streams_app:app", "--experimental-streams", folder=HERE, log=log) as server:
        yield f"{server.url}/streams"


@pytest.fixture(params=["node-json", "node-messagepack"])
def client(request: pytest.FixtureRequest, connect: Connect, url: str) -> Client:
    return connect(request.param, url, "closed")


def test_items_come_in_order_and_end(client: Client) -> None:
    assert client.stream("count", 20) == [{"number": number} for number in range(20)]
    assert client.stream("count", 0) == []


def test_errors_say_what_was_wrong(client: Client) -> None:
    for call, text in [
        (("fail",), "No more of that."),
        (("count", "x"), "argument 1 `to`: expected int, got str"),
        (("plain",), "plain answers with no stream"),
    ]:
        with pytest.raises(CallError, match=text):
            client.stream(*call)
    with pytest.raises(CallError, match=r"count answers with a stream: call it with stream\(\)"):
        client.invoke("count", 1)


def test_a_stream_that_the_client_gives_up_is_closed(client: Client) -> None:
    assert client.take(3, "forever") == [0, 1, 2]

    assert client.receive() == ["closed", True]
    assert client.invoke("plain") == 1


def test_a_stream_of_a_client_that_leaves_is_closed(client: Client, connect: Connect, url: str) -> None:
    leaver = connect("node-json", url)
    leaver.command("stream", target="forever", args=[])
    assert leaver.invoke("plain") == 1

    leaver.stop()

    assert client.receive() == ["closed", True]


@pytest.mark.parametrize("library", ["node-json", "node-messagepack"])
def test_an_app_that_ends_ends_its_streams_with_an_error(
    library: str, connect: Connect, tmp_path: Path
) -> None:
    app_port, service_port, key = free_port(), free_port(), secrets.token_urlsafe(33)
    app_url, service_url = f"http://localhost:{app_port}", f"http://localhost:{service_port}"
    upstream = app_url + "/{hub}/{category}/{event}"
    local = ["local", "--port", str(service_port), "--upstream", upstream, "--experimental-streams"]
    run = ["run", "streams_app:app", "--app-dir", str(HERE), "--port", str(app_port)]
    environment = {
        "SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY": key,
        "AzureSignalRConnectionString": f"Endpoint={service_url};AccessKey={key};Version=1.0;",
    }
    logs = tmp_path / "servers"
    logs.mkdir()
    with (
        Server(*local, url=f"{service_url}/api/health", log=logs / "service.log", environment=environment),
        Server(*run, url=app_url, log=logs / "app.log", environment=environment) as app,
    ):
        client = connect(library, f"{app_url}/streams", "closed")
        stream = client.command("stream", target="forever", args=[])
        assert client.invoke("plain") == 1

        app.interrupt()

        with pytest.raises(CallError, match="The server is shutting down"):
            stream.wait()
        assert client.receive() == ["closed", True]
