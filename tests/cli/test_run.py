"""``signalr-upstream run``, as a process: what it refuses, what it serves, how it ends."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from websockets.sync.client import connect

from signalr_upstream.cli import main

from .conftest import PATIENCE, Start, call_slow, is_open

SERVES = "Uvicorn running on"


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


# --- refusing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setting", ["", "Endpoint=https://example.service.signalr.net;AccessKey=;Version=1.0;"]
)
@pytest.mark.parametrize("target", ["app:app", "outer:app"])
def test_without_a_key_no_port_is_opened(start: Start, setting: str, target: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # The port is taken: had `run` come as far as opening it, the error would say that.
        port = taken.getsockname()[1]
        command = start("run", target, "--port", str(port), AzureSignalRConnectionString=setting)

        assert command.wait() == 1
    # Who has no Azure is shown the other way.
    assert ("`signalr-upstream dev`" if not setting else "AccessKey") in command.output
    assert "Traceback" not in command.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ('Hub("chat", connection="OtherConnection")', "set OtherConnection"),
        ('Hub("chat"), connection_string=lambda: open("no_such_file").read()', "failed: FileNotFoundError"),
    ],
)
def test_what_is_missing_is_said_in_one_line(start: Start, folder: Path, arguments: str, says: str) -> None:
    (folder / "app.py").write_text(
        f"from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp({arguments})\n"
    )

    command = start("run", "app:app", "--port", "0")

    assert command.wait() == 1
    assert says in command.output
    assert len(command.output.splitlines()) == 1


def test_an_insecure_app_is_refused_where_others_can_reach_it(start: Start, folder: Path) -> None:
    (folder / "app.py").write_text(
        "from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp(Hub('chat'), insecure=True)\n"
    )

    command = start("run", "app:app", "--host", "0.0.0.0", "--port", "0")

    assert command.wait() == 1
    assert "served on loopback only, not on '0.0.0.0'" in command.output


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("nothing:app", "cannot import 'nothing:app'"),
        ("nothing:app", "module"),
        ("app:nothing", "Attribute"),
        ("app.py:app", "Leave out .py"),
        ("app:__name__", "'app:__name__' is no ASGI app but 'app'"),
        ("factory:make", "name what it has made, as in app = make_app()"),
    ],
)
def test_an_app_that_does_not_exist_is_named(start: Start, folder: Path, target: str, reason: str) -> None:
    (folder / "factory.py").write_text("import app\ndef make(): return app.app\n")
    command = start("run", target)

    assert command.wait() == 1
    assert reason in command.output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_taken_port_is_an_error(start: Start, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = start("run", "app", "--port", str(taken.getsockname()[1]), "--workers", workers)

        assert command.wait() == 1
    assert "in use" in command.output


def test_a_host_that_is_none_is_named(start: Start) -> None:
    command = start("run", "app", "--host", "fe80::1%nowhere")

    assert command.wait() == 1
    assert "--host 'fe80::1%nowhere' is no address" in command.output


@pytest.mark.parametrize("option", ["--keep-alive", "--drain-delay", "--drain-timeout"])
@pytest.mark.parametrize("value", ["inf", "nan"])
def test_a_time_without_an_end_is_refused(option: str, value: str) -> None:
    result = CliRunner().invoke(main, ["run", "app", option, value])

    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {value} is no time that ends." in result.output


# --- serving ----------------------------------------------------------------------------------------------


def test_an_upstream_app_is_served_with_health_routes(start: Start, port: int, client: httpx.Client) -> None:
    # Flags may come from the environment, and ":app" is what APP ends in if it says nothing else.
    command = start("run", SIGNALR_UPSTREAM_APP="app", SIGNALR_UPSTREAM_RUN_PORT=str(port))
    command.read_until(SERVES)

    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
    answer = call_slow(client, 0)

    assert answer.content == b'{"type":3,"invocationId":"1","result":"done"}\x1e'
    assert "server" not in answer.headers
    command.send(signal.SIGINT)
    assert command.wait() == 0
    # Log lines are JSON, and a call that succeeds has none.
    lines = [json.loads(line) for line in command.output.splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "process", "message"} == set(lines[0])
    assert {line["process"] for line in lines} == {command.process.pid}
    assert "slow" not in [line["message"] for line in lines]


def test_slow_and_failed_calls_are_json_lines_with_fields(
    start: Start, port: int, client: httpx.Client
) -> None:
    command = start("run", "app", "--port", str(port), "--slow-after", "0.02", "--workers", "2")
    command.read_until("startup complete")

    call_slow(client, 0.05)
    call_slow(client, 0, target="nobody")
    command.send(signal.SIGTERM)

    assert command.wait() == 0
    lines = [json.loads(line) for line in command.output.splitlines() if line.startswith("{")]
    (slow,) = [line for line in lines if "was slow" in line["message"]]
    assert slow["level"] == "warning"
    assert (slow["event"], slow["connection"], slow["outcome"]) == ("chat/messages/slow", "c1", "success")
    assert 0.05 <= slow["duration"] < PATIENCE


def test_more_calls_than_a_worker_takes_are_told_to_come_again(
    start: Start, folder: Path, port: int, pool: ThreadPoolExecutor
) -> None:
    code = (
        (folder / "app.py")
        .read_text()
        .replace("UpstreamApp(chat)", "UpstreamApp(chat, max_concurrent_calls=3)")
    )
    (folder / "app.py").write_text(code)
    command = start("run", "app", "--port", str(port))
    command.read_until(SERVES)

    def call(_: int) -> httpx.Response:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
            return call_slow(client, 1)

    answers = list(pool.map(call, range(5)))  # as many at once as a pool has threads at least
    refused = [answer for answer in answers if answer.status_code == 503]

    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [503] * 2
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert call(0).status_code == 200


def test_an_app_around_it_gets_health_routes_in_front(start: Start, port: int, client: httpx.Client) -> None:
    command = start("run", "outer:app", "--port", str(port), "--drain-delay", "60", "--log-format", "text")
    command.read_until(SERVES)

    assert client.get("/own").json() == "own"
    assert client.get("/healthz").text == "ok"
    assert client.get("/readyz").text == "ok"
    assert client.post("/signalr/chat/messages/slow").status_code == 401

    command.send(signal.SIGTERM)
    command.read_until("draining")

    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").status_code == 200
    assert client.get("/own").json() == "own"
    command.send(signal.SIGINT)
    assert command.wait() == 0


def test_an_app_around_it_may_have_websockets(start: Start, port: int) -> None:
    start("run", "outer:app", "--port", str(port)).read_until(SERVES)

    with connect(f"ws://127.0.0.1:{port}/echo") as client:
        client.send("hello")
        assert client.recv(timeout=PATIENCE) == "hello"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_address_of_ipv6_may_have_brackets(start: Start, port: int, host: str, workers: str) -> None:
    command = start("run", "app", "--host", host, "--port", str(port), "--workers", workers)
    for _ in range(int(workers)):
        command.read_until("startup complete")
    if workers == "1":
        command.read_until(SERVES)

    assert httpx.get(f"http://[::1]:{port}/healthz").text == "ok"
    command.send(signal.SIGINT)
    assert command.wait() == 0


def test_the_folder_of_the_app_can_be_named(start: Start, folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "app.py").rename(folder / "deep" / "app.py")
    command = start("run", "app", "--app-dir", "deep", "--port", "0")
    command.read_until(SERVES)

    command.send(signal.SIGINT)

    assert command.wait() == 0


def test_an_app_that_fails_to_start_is_an_error(start: Start, folder: Path) -> None:
    (folder / "bad.py").write_text(
        "import app as inner, fastapi, contextlib\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(_):\n"
        "    raise RuntimeError('no database')\n"
        "    yield\n"
        "app = fastapi.FastAPI(lifespan=lifespan)\n"
    )
    for workers in ("1", "2"):
        command = start("run", "bad:app", "--port", "0", "--workers", workers)

        assert command.wait() == 1
        assert "no database" in command.output


def test_a_process_without_upstream_app_is_told_so(start: Start, folder: Path) -> None:
    (folder / "plain.py").write_text("import fastapi\napp = fastapi.FastAPI()\n")
    command = start("run", "plain:app", "--port", "0", "--drain-delay", "0")
    command.read_until(SERVES)

    command.send(signal.SIGTERM)

    assert command.wait() == 0
    assert "no UpstreamApp" in command.output


# --- ending -----------------------------------------------------------------------------------------------


def test_after_sigterm_calls_are_taken_until_the_delay_is_over(
    start: Start, port: int, client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    command = start("run", "app", "--port", str(port), "--drain-delay", "1.5", "--drain-timeout", "20")
    command.read_until(SERVES)
    assert call_slow(client, 0).headers.get("connection") is None

    command.send(signal.SIGTERM)
    command.read_until("draining")

    assert client.get("/readyz").status_code == 503
    assert call_slow(client, 0).content.endswith(b'"result":"done"}\x1e')
    running = pool.submit(call_slow, client, 4.0)
    command.read_until("slow begins")  # the call before
    command.read_until("slow begins")
    wait_until(lambda: not is_open(port))
    answer = running.result()
    assert answer.content == b'{"type":3,"invocationId":"1","result":"done"}\x1e'
    assert answer.headers["connection"] == "close"
    assert command.wait() == 0


STANDS_STILL = """
import asyncio
import time

from signalr_upstream import Hub, UpstreamApp

chat = Hub("chat")


@chat.on("slow")
async def slow(seconds: float) -> str:
    return "done"


def stand_still():
    print("stands still", flush=True)
    time.sleep(1.0)


class App(UpstreamApp):
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "draining" and value:
            # By the end of the first sleep, the second one is due and so is the end of the drain's delay, which comes
            # next: nobody looks at the port between these two.
            loop = asyncio.get_running_loop()
            loop.call_soon(time.sleep, 0.5)
            loop.call_later(0.01, stand_still)


app = App(chat)
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_call_on_a_connection_that_is_not_accepted_when_the_port_closes_is_answered(
    start: Start, folder: Path, port: int, client: httpx.Client, workers: str
) -> None:
    (folder / "still.py").write_text(STANDS_STILL)
    command = start("run", "still", "--port", str(port), "--drain-delay", "0.1", "--workers", workers)
    for _ in range(int(workers)):
        command.read_until("startup complete")

    command.send(signal.SIGTERM)
    for _ in range(int(workers)):
        command.read_until("stands still")
    answer = call_slow(client, 0)

    assert answer.content == b'{"type":3,"invocationId":"1","result":"done"}\x1e'
    assert answer.headers["connection"] == "close"
    assert command.wait() == 0


def test_a_call_that_runs_too_long_at_the_end_is_answered_like_a_time_out(
    start: Start, port: int, client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    command = start("run", "app", "--port", str(port), "--drain-delay", "0.1", "--drain-timeout", "0.5")
    command.read_until(SERVES)
    running = pool.submit(call_slow, client, 3600.0)
    command.read_until("slow begins")

    command.send(signal.SIGTERM)

    answer = running.result()
    assert answer.status_code == 200
    assert answer.content.startswith(b'{"type":3,"invocationId":"1","error":')
    assert command.wait() == 0


@pytest.mark.parametrize(("target", "prefix"), [("app", ""), ("outer", "/signalr")])
def test_work_behind_an_answer_is_waited_for(
    start: Start, port: int, client: httpx.Client, target: str, prefix: str
) -> None:
    command = start("run", target, "--port", str(port), "--drain-delay", "0")
    command.read_until(SERVES)
    answer = call_slow(client, 1.0, target="leaveWork", prefix=prefix)
    assert answer.content.endswith(b'"result":"done"}\x1e')

    command.send(signal.SIGTERM)

    assert command.wait() == 0
    assert "work is done" in command.output


def test_work_behind_an_answer_that_takes_too_long_is_cancelled(
    start: Start, port: int, client: httpx.Client
) -> None:
    command = start("run", "app", "--port", str(port), "--drain-delay", "0", "--drain-timeout", "0.5")
    command.read_until(SERVES)
    call_slow(client, 3600.0, target="leaveWork")
    command.read_until("work begins")

    command.send(signal.SIGTERM)

    assert command.wait() == 0
    assert "took too long" in command.output
    assert "work is done" not in command.output


def test_ctrl_c_does_not_wait_for_a_load_balancer(start: Start, port: int) -> None:
    command = start("run", "app", "--port", str(port), "--drain-delay", "3600")
    command.read_until(SERVES)

    command.send(signal.SIGINT)

    assert command.wait() == 0


def test_a_second_ctrl_c_ends_the_delay(start: Start, port: int) -> None:
    command = start("run", "app", "--port", str(port), "--drain-delay", "3600")
    command.read_until(SERVES)
    command.send(signal.SIGTERM)
    command.read_until("draining")

    command.send(signal.SIGINT)

    assert command.wait() == 0


# --- workers ----------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_all_end_together(
    start: Start, port: int, client: httpx.Client
) -> None:
    command = start("run", "app", "--port", str(port), "--workers", "2", "--drain-delay", "0.1")
    first = worker_id(command.read_until("Started server process"))
    command.read_until("Started server process")

    os.kill(first, signal.SIGKILL)

    told = json.loads(command.read_until("replacing"))
    assert (told["level"], told["process"]) == ("error", command.process.pid)
    assert told["message"] == (
        f"worker {first} was ended by signal 9 (Killed, by the system if it was short of memory): replacing it"
    )
    replacement = worker_id(command.read_until("Started server process"))
    command.read_until("startup complete")
    assert call_slow(client, 0).status_code == 200
    client.close()
    command.send(signal.SIGTERM)
    assert command.wait() == 0
    assert f"Finished server process [{replacement}]" in command.output
    assert not is_open(port)


def test_workers_end_when_their_parent_is_gone(start: Start, port: int) -> None:
    command = start("run", "app", "--port", str(port), "--workers", "2", "--drain-delay", "0")
    command.read_until("startup complete")
    command.read_until("startup complete")

    command.process.kill()

    command.read_until("Finished server process")
    command.read_until("Finished server process")
    assert not is_open(port)
    assert command.output.count("the process that has started this worker is gone: ending") == 2


def test_a_worker_that_ends_by_itself_is_replaced(start: Start, folder: Path, port: int) -> None:
    (folder / "ends.py").write_text("import os\nfrom app import app, chat\nchat.on('end')(os._exit)\n")
    command = start("run", "ends", "--port", str(port), "--workers", "2", "--drain-delay", "0")
    ids = {worker_id(command.read_until("Started server process")) for _ in range(2)}
    command.read_until("startup complete")

    with (
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as client,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        call_slow(client, 7, target="end")

    told = json.loads(command.read_until("replacing"))["message"]
    assert told in {f"worker {number} ended with status 7: replacing it" for number in ids}
    command.send(signal.SIGTERM)
    assert command.wait() == 0


METERED = """
from signalr_upstream import UpstreamApp
from signalr_upstream.prometheus import Prometheus

from app import chat

metrics = Prometheus()
app = UpstreamApp(chat, telemetry=[metrics], routes=[metrics.route()])
"""


def test_what_a_dead_worker_had_under_way_is_not_under_way_in_the_metrics(
    start: Start, folder: Path, port: int, client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    (folder / "metered.py").write_text(METERED)
    shared = folder / "new" / "metrics"
    arguments = ["run", "metered", "--port", str(port), "--workers", "2", "--drain-delay", "0"]
    command = start(*arguments, PROMETHEUS_MULTIPROC_DIR=str(shared))
    first = [worker_id(command.read_until("Started server process")) for _ in range(2)]
    command.read_until("startup complete")
    assert call_slow(client, 0).status_code == 200
    command.read_until("slow begins")
    other = httpx.Client(base_url=client.base_url, timeout=PATIENCE)
    running = pool.submit(call_slow, other, 3600.0)
    command.read_until("slow begins")
    assert "signalr_upstream_calls_in_flight 1.0" in client.get("/metrics").text

    for number in first:
        os.kill(number, signal.SIGKILL)
    for _ in range(2):
        command.read_until("startup complete")

    assert isinstance(running.exception(), httpx.RemoteProtocolError)
    other.close()
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "signalr_upstream_calls_in_flight 0.0" in metrics
    assert 'signalr_upstream_calls_total{handler="slow",hub="chat",outcome="success"} 1.0' in metrics
    assert "pid=" not in metrics
    command.send(signal.SIGTERM)
    assert command.wait() == 0
    assert "metrics for Prometheus" not in command.output


def test_workers_that_do_not_share_their_metrics_are_warned_of(start: Start, folder: Path, port: int) -> None:
    (folder / "metered.py").write_text(METERED)
    command = start("run", "metered", "--port", str(port), "--workers", "2", "--drain-delay", "0")

    told = json.loads(command.read_until("PROMETHEUS_MULTIPROC_DIR"))

    assert told["level"] == "warning"
    assert told["message"].startswith("with 2 workers metrics for Prometheus are those of the one worker")
    command.read_until("startup complete")
    command.send(signal.SIGTERM)
    assert command.wait() == 0


def test_a_worker_that_hangs_is_killed_at_the_end(start: Start, port: int) -> None:
    times = ["--drain-delay", "0", "--drain-timeout", "0"]
    command = start("run", "app", "--port", str(port), "--workers", "2", *times)
    hanging = worker_id(command.read_until("Started server process"))
    command.read_until("startup complete")
    command.read_until("startup complete")
    os.kill(hanging, signal.SIGSTOP)

    command.send(signal.SIGTERM)

    command.read_until(f"worker {hanging} does not end: killing it")
    assert command.wait() == 0


def worker_id(line: str) -> int:
    message: str = json.loads(line)["message"]
    return int(message.split("[")[1].rstrip("]"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.05)
