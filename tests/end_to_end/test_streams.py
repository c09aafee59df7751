"""``stream()`` of the official client, answered by async generators."""

from collections.abc import Iterator

import pytest

from .clients import CallError, Client
from .conftest import Connect
from .processes import HERE, dev


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
