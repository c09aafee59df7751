"""The chat example, as its users' clients see it."""

from pathlib import Path

import pytest

from .clients import CallError, Client
from .conftest import EXAMPLE, Connect
from .processes import Server, free_port

METHODS = ("joined", "here", "left", "message", "whisper")


@pytest.fixture
def ann(connect: Connect, chat_url: str) -> Client:
    return connect("node-json", f"{chat_url}/chat?name=Ann", *METHODS)


@pytest.fixture
def bob(connect: Connect, chat_url: str) -> Client:
    return connect("node-messagepack", f"{chat_url}/chat?name=Bob", *METHODS)


def test_two_people_meet_talk_and_part(ann: Client, bob: Client) -> None:
    ann.invoke("joinRoom", "tea")
    bob.invoke("joinRoom", "tea")
    what, room, person = ann.receive()
    assert (what, room, person["name"]) == ("joined", "tea", "Bob")

    ann.send("greet", "tea", person["id"])
    what, room, person = bob.receive()
    assert (what, room, person["name"]) == ("here", "tea", "Ann")

    receipt = bob.invoke("sendMessage", "tea", "  Hello, Ann!  ")
    said = {"room": "tea", "sender": "Bob", "text": "Hello, Ann!", **receipt}
    assert ann.receive() == ["message", said]
    assert bob.receive() == ["message", said]

    ann.invoke("leaveRoom", "tea")
    what, room, person = bob.receive()
    assert (what, room, person["name"]) == ("left", "tea", "Ann")


def test_everybody_is_told_who_is_gone(connect: Connect, chat_url: str) -> None:
    watcher = connect("pysignalr-messagepack", f"{chat_url}/chat?name=Eva", "gone")
    leaver = connect("pysignalr-json", f"{chat_url}/chat?name=Dora", *METHODS)
    leaver.invoke("joinRoom", "tea")

    leaver.stop()

    gone = [watcher.receive()]
    while gone[-1][1]["name"] != "Dora":  # those of the tests before may still be ending
        gone.append(watcher.receive())


def test_a_whisper_reaches_one_person(ann: Client, bob: Client, connect: Connect, chat_url: str) -> None:
    cid = connect("signalrcore-messagepack", f"{chat_url}/chat?name=Cid", *METHODS)
    for client in (ann, bob, cid):
        client.invoke("joinRoom", "secrets")
    assert [ann.receive()[2]["name"] for _ in range(2)] == ["Bob", "Cid"]
    assert bob.receive()[2]["name"] == "Cid"

    receipt = bob.invoke("whisper", "Cid", "only you")
    bob.invoke("sendMessage", "secrets", "/shout all of you")

    assert cid.receive() == ["whisper", {"room": None, "sender": "Bob", "text": "only you", **receipt}]
    for client in (ann, bob, cid):
        assert client.receive()[1]["text"] == "ALL OF YOU"


def test_the_chat_says_why_it_refuses(ann: Client) -> None:
    refusals: list[tuple[tuple[str, *tuple[str | int, ...]], str]] = [
        (("sendMessage", "tea", " "), "There is nothing to send: write something first."),
        (("sendMessage", "tea", "x" * 501), "A message has at most 500 characters, this one has 501."),
        (("sendMessage", "tea", "/dance"), "There is no command /dance. The one there is: /shout."),
        (("whisper", "Nobody", "psst"), "Nobody is not here."),
        (("joinRoom", ""), "argument 1 `room`: "),
        (("sendMessage", "tea", 5), "argument 2 `text`: expected str, got int"),
    ]
    for call, text in refusals:
        with pytest.raises(CallError) as caught:
            ann.invoke(*call)
        assert text in str(caught.value)


def test_several_workers_serve_one_chat(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "a-key-for-one-test-of-more-than-32-bytes"
    port, service_port = free_port(), free_port()
    service = f"http://localhost:{service_port}"
    upstream = f"http://localhost:{port}/{{hub}}/{{category}}/{{event}}"
    monkeypatch.setenv("AzureSignalRConnectionString", f"Endpoint={service};AccessKey={key};Version=1.0;")
    monkeypatch.setenv("SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY", key)
    app = f"http://localhost:{port}"
    run = ("run", "app:app", "--app-dir", EXAMPLE, "--port", str(port), "--workers", "2")
    local = ("local", "--port", str(service_port), "--upstream", upstream)

    with (
        Server(*run, url=f"{app}/readyz", log=tmp_path / "app.log"),
        Server(*local, url=service, log=tmp_path / "service.log"),
    ):
        people = [connect("node-json", f"{app}/chat?name=P{number}", "message") for number in range(3)]
        for person in people:
            person.invoke("joinRoom", "tea")
        for person in people:
            receipt = person.invoke("sendMessage", "tea", "Hello")
            assert [listener.receive()[1]["id"] for listener in people] == [receipt["id"]] * 3
