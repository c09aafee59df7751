"""The examples, as their users' clients see them. The chat has tests of its own."""

import re
import secrets
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from .clients import CallError
from .conftest import Connect
from .processes import HERE, Process, Server, dev, free_port, wait_until

EXAMPLES = HERE.parent.parent / "examples"


def example(name: str, tmp_path: Path, *flags: str) -> Server:
    (tmp_path / "server").mkdir()
    return dev("app:app", *flags, folder=EXAMPLES / name, log=tmp_path / "server" / "server.log")


def answer_of(messages: list[list[object]], stream: str) -> str:
    """The text of a whole stream; the messages have to be all of it, in order."""
    assert [(message[0], message[1], message[2]) for message in messages] == [
        ("token", stream, number) for number in range(len(messages))
    ]
    assert [message[3] for message in messages] == ["item"] * (len(messages) - 1) + ["end"]
    return "".join(str(message[4]) for message in messages[:-1])


def test_ai_streaming(connect: Connect, tmp_path: Path) -> None:
    text = "You asked: Why? That is a good question. "
    with example("ai_streaming", tmp_path) as server:
        ann = connect("node-json", f"{server.url}/assistant", "token")
        bob = connect("node-messagepack", f"{server.url}/assistant", "token")

        stream = ann.invoke("ask", "Why?")
        assert answer_of([ann.receive() for _ in range(9)], stream) == text

        bob.invoke("joinRoom", "tea")
        ann.invoke("joinRoom", "tea")
        stream = ann.invoke("askInRoom", "tea", "Why?")
        for client in (ann, bob):  # bob's first message: he has seen nothing of ann's own answer
            assert answer_of([client.receive() for _ in range(9)], stream) == text


def test_typed_client(connect: Connect, tmp_path: Path) -> None:
    with example("typed_client", tmp_path) as server:
        ann = connect("node-json", f"{server.url}/game?name=ann", "playerJoined", "moved")
        bob = connect("node-messagepack", f"{server.url}/game?name=bob", "moved", "challenged=true")
        joined, name, his_connection = ann.receive()
        assert (joined, name) == ("playerJoined", "bob")

        assert ann.invoke("challenge", his_connection) is True
        assert bob.receive() == ["challenged", "ann"]
        ann.invoke("move", 5)
        for client in (ann, bob):
            assert client.receive() == ["moved", {"player": "ann", "field": 5}]
        with pytest.raises(CallError, match="That player has left"):
            ann.invoke("challenge", "nobody")


def test_worker(connect: Connect, tmp_path: Path) -> None:
    app_port, service_port, key = free_port(), free_port(), secrets.token_urlsafe(33)
    app_url, service_url = f"http://localhost:{app_port}", f"http://localhost:{service_port}"
    upstream = app_url + "/{hub}/{category}/{event}"
    local = ["local", "--port", str(service_port), "--upstream", upstream]
    run = ["run", "app:app", "--app-dir", str(EXAMPLES / "worker"), "--port", str(app_port)]
    environment = {
        "SIGNALR_UPSTREAM_LOCAL_ACCESS_KEY": key,
        "AzureSignalRConnectionString": f"Endpoint={service_url};AccessKey={key};Version=1.0;",
    }
    logs = tmp_path / "servers"
    logs.mkdir()
    with ExitStack() as processes:
        for name, command, url in [("service", local, f"{service_url}/api/health"), ("app", run, app_url)]:
            log = logs / f"{name}.log"
            processes.enter_context(Server(*command, url=url, log=log, environment=environment))
        watcher = connect("node-json", f"{app_url}/prices", "price")
        watcher.invoke("watch", "ACME")
        worker = processes.enter_context(
            Process(
                [sys.executable, EXAMPLES / "worker" / "worker.py"],
                log=logs / "worker.log",
                environment=environment,
            )
        )

        for _ in range(2):
            target, symbol, price = watcher.receive()
            assert (target, symbol) == ("price", "ACME")
            assert 90 <= price <= 110
        worker.signal(signal.SIGTERM)
        wait_until(lambda: worker.read_log() == "stopped\n", "the worker stops")


def test_chat_login(connect: Connect, tmp_path: Path) -> None:
    with example("chat_login", tmp_path, "--path", "/signalr/{hub}/{category}/{event}") as server:
        url = f"{server.url}/signalr/chat"

        def login(username: str, password: str) -> str:
            answer = httpx.post(f"{server.url}/login", json={"username": username, "password": password})
            token = answer.json().get("access_token", "")
            return f"{url}#{token}" if answer.status_code == 200 else str(answer.status_code)

        ann = connect("node-json", login("ann", "wonderland"), "joined", "said")
        bob = connect("node-messagepack", login("bob", "builder"), "joined", "said")
        ann.invoke("join", "tea")
        bob.invoke("join", "tea")
        assert ann.receive() == ["joined", "tea", "bob"]
        bob.send("say", "tea", "Hello")
        for client in (ann, bob):
            assert client.receive() == ["said", "tea", "bob", "Hello"]

        ann.invoke("join", "garden")
        for call in (("join", "garden"), ("say", "garden", "Hello")):
            with pytest.raises(CallError, match="You are not invited to garden"):
                bob.invoke(*call)
        assert login("ann", "builder") == login("eve", "") == "401"
        for headers in ({}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer x.y.z"}):
            assert httpx.post(f"{url}/negotiate", headers=headers).status_code == 401


def test_from_functions(connect: Connect, tmp_path: Path) -> None:
    with example("from_functions", tmp_path) as server:
        ann = connect("node-json", f"{server.url}/chat", "newConnection", "newMessage")
        assert ann.receive()[0] == "newConnection"
        bob = connect("node-messagepack", f"{server.url}/chat", "newConnection", "newMessage")
        target, connection = bob.receive()
        assert ann.receive() == [target, connection]

        assert ann.invoke("broadcast", "Hello") == 5
        for client in (ann, bob):
            assert client.receive() == ["newMessage", None, "Hello"]
        bob.stop()
        server.wait_for_log(f"{connection} has gone: None")


def test_every_example_has_a_test() -> None:
    elsewhere = {"chat", "deploy"}  # test_chat_page and test_deploy_examples
    tested = {re.sub("^test_", "", name) for name in globals() if name.startswith("test_")} | elsewhere

    assert {folder.name for folder in EXAMPLES.iterdir() if (folder / "app.py").exists()} <= tested
