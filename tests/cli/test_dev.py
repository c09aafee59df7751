"""``signalr-upstream dev``, as a process. That clients stay connected is tested in tests/end_to_end."""

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from signalr_upstream.claims import Identity, client_access
from signalr_upstream.cli import main
from signalr_upstream.cli.reloading import pick_port
from signalr_upstream.connection_string import parse_connection_string

from .conftest import PATIENCE, Start, is_open
from .test_run import wait_until

APP = """
import os
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from signalr_upstream import Hub, Identity, UpstreamApp

chat = Hub("chat")

@chat.negotiate
async def negotiate(request) -> Identity:
    return Identity(user_id="ann")

def edition(request):
    return PlainTextResponse("one")

app = UpstreamApp(chat, connection_string="Endpoint=https://prod.example;AccessKey=x;",
                  routes=[Route("/edition", edition)])
"""


@pytest.fixture
def service_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def edition(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/edition").text
    except httpx.TransportError:
        return "nothing"


def test_the_app_runs_with_the_local_service_and_restarts_when_it_is_saved(
    start: Start, folder: Path, port: int, service_port: int
) -> None:
    (folder / "app.py").write_text(APP)
    command = start("dev", "app:app", "--port", str(port), "--service-port", str(service_port))
    command.read_until(f"http://localhost:{port}")
    command.read_until(f"http://localhost:{service_port}")
    assert f"Port={service_port};" in command.read_until("connection string")
    inspector = command.read_until("inspector").split()[-1]
    command.read_until("Ctrl-C ends both")
    wait_until(lambda: edition(port) == "one")
    assert inspector.startswith(f"http://localhost:{service_port}/inspector#token=")
    assert "SignalR inspector" in httpx.get(inspector).text

    # Whatever connection string the app is built with, clients go to the local service.
    access = httpx.post(f"http://127.0.0.1:{port}/chat/negotiate").json()
    assert access["url"] == f"http://localhost:{service_port}/client/?hub=chat"

    (folder / "app.py").write_text(APP.replace('"one"', '"two"'))
    command.read_until("app.py changed: restarting the app")
    wait_until(lambda: edition(port) == "two")

    (folder / "app.py").write_text(APP + ")")
    command.read_until("SyntaxError")
    command.read_until("The app has ended with status 1. It starts again when a Python file is saved.")
    (folder / "app.py").write_text("")
    command.read_until("cannot import 'app:app'")
    command.read_until("The app has ended")
    (folder / "app.py").write_text(APP)
    wait_until(lambda: edition(port) == "one")

    command.send(signal.SIGINT)

    assert command.wait() == 0
    assert not is_open(port)
    assert not is_open(service_port)


MOUNTED = """
from fastapi import FastAPI
from starlette.requests import Request
from signalr_upstream import Hub, Identity, UpstreamApp

chat = Hub("chat")

@chat.negotiate
async def negotiate(request: Request) -> Identity:
    return Identity(user_id="ann")

@chat.on("hello")
async def hello() -> str:
    return "hello from {prefix}"

app = FastAPI()
app.mount("{prefix}", UpstreamApp(chat, code="s3cret"))
"""


def invoke(port: int, prefix: str) -> str:
    """What a client gets that connects below a prefix and invokes ``hello``; "" while the app is not there."""
    try:
        answer = httpx.post(f"http://127.0.0.1:{port}{prefix}/chat/negotiate")
    except httpx.TransportError:
        return ""
    if answer.status_code != 200:
        return ""
    access = answer.json()
    url = f"{access['url'].replace('http:', 'ws:')}&access_token={access['accessToken']}"
    with connect(url, proxy=None) as client:
        client.send(
            '{"protocol":"json","version":1}\x1e{"type":1,"invocationId":"0","target":"hello","arguments":[]}\x1e'
        )
        while '"invocationId":"0"' not in (text := str(client.recv(PATIENCE))):
            pass
    return text


def test_an_app_is_called_below_the_prefix_that_it_is_mounted_under(
    start: Start, folder: Path, port: int, service_port: int
) -> None:
    (folder / "app.py").write_text(MOUNTED.replace("{prefix}", "/signalr"))
    command = start("dev", "app:app", "--port", str(port), "--service-port", str(service_port))
    url = f"http://127.0.0.1:{port}%s/{{hub}}/{{category}}/{{event}}?code=..."
    command.read_until(f"Upstream calls go to {url % '/signalr'}")
    wait_until(lambda: "hello from /signalr" in invoke(port, "/signalr"))

    (folder / "app.py").write_text(MOUNTED.replace("{prefix}", "/live"))
    command.read_until(f"Upstream calls go to {url % '/live'}")
    wait_until(lambda: "hello from /live" in invoke(port, "/live"))

    command.send(signal.SIGINT)
    assert command.wait() == 0
    assert "404" not in command.output
    assert "s3cret" not in command.output


def test_the_prefix_of_an_app_that_cannot_be_looked_into_is_given(
    start: Start, folder: Path, port: int, service_port: int
) -> None:
    (folder / "app.py").write_text(
        MOUNTED.replace("{prefix}", "/signalr").replace(', code="s3cret"', "")
        + "\nframework = app\nasync def app(*asgi): await framework(*asgi)\n"
    )
    flags = ["--port", str(port), "--service-port", str(service_port)]
    command = start("dev", "app:app", *flags)
    wait_until(lambda: "Invocation failed" in invoke(port, "/signalr"))
    command.read_until(
        f"http://127.0.0.1:{port}/chat/messages/hello answered 404: Not Found. Mounted under a prefix?"
    )
    command.send(signal.SIGINT)
    assert command.wait() == 0

    path = "/signalr/{hub}/{category}/{event}"
    start("dev", "app:app", *flags, "--path", path).read_until(f"http://127.0.0.1:{port}{path}")
    wait_until(lambda: "hello from /signalr" in invoke(port, "/signalr"))


def test_failed_calls_are_tried_again_and_streams_go_to_the_app_on_request(
    start: Start, folder: Path, port: int, service_port: int
) -> None:
    (folder / "app.py").write_text(
        "from starlette.responses import Response\nstatuses = [503, 204, 403]\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        await Response(scope['path'], statuses.pop(0))(scope, receive, send)\n"
    )
    flags = ["--retry-upstream", "--experimental-streams"]
    command = start("dev", "app:app", "--port", str(port), "--service-port", str(service_port), *flags)
    connection_string = command.read_until("connection string").split()[-1]
    endpoint = parse_connection_string(connection_string)
    access = client_access(Identity.anonymous(), endpoint=endpoint, hub="chat", now=time.time())

    url = access.url.replace("http:", "ws:") + f"&access_token={access.access_token}"
    with connect(url, proxy=None) as client:
        client.send('{"protocol":"json","version":1}\x1e')
        command.read_until("status 503; again in 1 s")
        client.send('{"type":4,"invocationId":"7","target":"count","arguments":[]}\x1e')
        command.read_until("'count' of hub 'chat': the app at http://127.0.0.1")


def test_an_app_that_does_not_end_is_killed(start: Start, folder: Path, port: int, service_port: int) -> None:
    (folder / "app.py").write_text(
        "import signal, time\nprint('begun', flush=True)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True: time.sleep(60)\n"
    )
    command = start("dev", "app:app", "--port", str(port), "--service-port", str(service_port))
    command.read_until("begun")

    command.send(signal.SIGTERM)

    assert command.wait() == 0


def test_the_app_ends_when_dev_is_gone(start: Start, folder: Path, port: int, service_port: int) -> None:
    (folder / "app.py").write_text(APP)
    command = start("dev", "app:app", "--port", str(port), "--service-port", str(service_port))
    wait_until(lambda: edition(port) == "one")

    command.process.kill()

    wait_until(lambda: not is_open(port))


def test_a_default_port_that_is_taken_gives_way_and_a_chosen_one_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert pick_port("the app", port, fixed=False) not in (0, port)
        assert capsys.readouterr().out == f"Port {port} is taken, so the app gets another one.\n"
        with pytest.raises(click.ClickException, match=f"port {port} for the app cannot be used"):
            pick_port("the app", port, fixed=True)


def test_a_path_that_is_none_is_refused() -> None:
    result = CliRunner().invoke(main, ["dev", "app", "--port", "0", "--service-port", "0", "--path", "nope"])

    assert result.exit_code == 1
    assert "the URL template of an upstream is no http or https URL" in result.output


@pytest.mark.parametrize("missing", ["websockets", "watchfiles"])
@pytest.mark.parametrize("command", [["dev", "app"], ["local"]])
def test_without_the_extra_the_way_to_install_it_is_told(
    command: list[str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("signalr_upstream.local.server", "signalr_upstream.cli.reloading"):
        monkeypatch.delitem(sys.modules, module, raising=False)
        package, _, name = module.rpartition(".")
        monkeypatch.delattr(sys.modules[package], name, raising=False)
    for module in {missing, *sys.modules}:
        if module.partition(".")[0] == missing:
            monkeypatch.setitem(sys.modules, module, None)

    result = CliRunner().invoke(main, command)

    assert result.exit_code == 1
    assert "pip install 'signalr-upstream[local]'" in result.output


def test_an_app_that_needs_a_missing_extra_is_told_in_one_line(
    start: Start, folder: Path, port: int, service_port: int
) -> None:
    (folder / "redis.py").write_text("raise ModuleNotFoundError(name='redis')\n")
    (folder / "app.py").write_text("from signalr_upstream.redis_duplicates import RedisDuplicates\n")
    command = start("dev", "app", "--port", str(port), "--service-port", str(service_port))

    command.read_until("Error: signalr_upstream.redis_duplicates needs redis: python -m pip install")
    command.read_until("The app has ended with status 1")

    assert "Traceback" not in command.output


def test_the_environment_is_left_as_it_was(start: Start, folder: Path, port: int, service_port: int) -> None:
    (folder / "app.py").write_text(
        APP + "\nimport json\nprint(json.dumps({'env': dict(os.environ)}), flush=True)\n"
    )
    command = start("dev", "app", "--port", str(port), "--service-port", str(service_port), MY_OWN="kept")

    environment = json.loads(command.read_until('"env"'))["env"]

    assert environment["MY_OWN"] == "kept"
    assert environment["PATH"] == os.environ["PATH"]
    # A ServiceClient that the app makes for itself must not reach the real service either.
    assert environment["AzureSignalRConnectionString"].startswith("Endpoint=http://localhost;Port=")
