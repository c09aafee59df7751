"""The fixture of the pytest plugin, in projects as users have them: each is run by a pytest of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from signalr_upstream.testing import HubTester, StartHubTester

from .chat import Message, chat_app

APP = """
from signalr_upstream import Context, Hub, HubError, UpstreamApp

chat = Hub("chat")

@chat.on("disconnected")
async def left(ctx: Context) -> None:
    if ctx.user_id == "clumsy":
        raise LookupError("the hat is gone")

@chat.on("say")
async def say(ctx: Context, text: str) -> int:
    if text == "crash":
        raise LookupError("the store is gone")
    if text == "forget":
        ctx.clients.all.send("said", text)
    else:
        await ctx.clients.all.send("said", text)
    return len(text)

app = UpstreamApp(chat)
"""

TESTS = """
import pytest
{imports}
from chat import app

{mark}

@pytest.fixture
def hub(hub_tester):
    return hub_tester(app)

async def test_good(hub_tester):
    hub = await hub_tester(app)
    assert await hub.invoke("say", "hi", user="ann", result_type=int) == 2
    hub.sent.to_all("said", "hi")

async def test_crash(hub_tester):
    hub = await hub_tester(app)
    await hub.invoke("say", "crash")

async def test_crash_at_the_end(hub_tester):
    hub = await hub_tester(app)
    await hub.connect("clumsy")

async def test_forget(hub_tester):
    hub = await hub_tester(app)
    await hub.invoke("say", "forget")

class TestInAClass:
    async def test_with_a_fixture_of_its_own(self, hub):
        hub = await hub
        assert await hub.invoke("say", "hi") == 2

async def test_two(hub_tester):
    first, second = await hub_tester(app), await hub_tester(app)
    assert await second.invoke("say", "hi") == 2

async def test_assertion(hub_tester):
    hub = await hub_tester(app)
    hub.sent.to_all("said")

async def test_without_the_fixture():
    assert True
"""

ANYIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"

pytestmark = pytest.mark.anyio
"""

LOOP = ["-o", "asyncio_default_fixture_loop_scope=function"]  # else pytest-asyncio warns


def run(folder: Path, *options: str, mark: str = "", imports: str = "") -> "tuple[int, str]":
    (folder / "chat.py").write_text(APP)
    (folder / "test_chat.py").write_text(TESTS.format(mark=mark, imports=imports))
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("options", "mark"),
    [
        pytest.param(["-p", "no:asyncio"], ANYIO, id="anyio"),
        pytest.param(
            [*LOOP, "-o", "asyncio_mode=strict"], "pytestmark = pytest.mark.asyncio", id="asyncio strict"
        ),
        pytest.param([*LOOP, "-o", "asyncio_mode=auto"], "", id="asyncio auto"),
    ],
)
def test_the_fixture_works_with(tmp_path: Path, options: list[str], mark: str) -> None:
    code, output = run(tmp_path, *options, mark=mark)

    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert "4 failed, 4 passed" in output
    assert set(re.findall(r"^FAILED \S+::(\w+) - ", output, re.MULTILINE)) == {
        "test_crash",
        "test_crash_at_the_end",
        "test_forget",
        "test_assertion",
    }
    assert (
        '>           raise LookupError("the store is gone")\nE           LookupError: the store is gone'
        in output
    )
    assert "Target.send() was called and never awaited, so it has done nothing." in output
    assert ' in say\nE           ctx.clients.all.send("said", text)' in output
    assert "E       AssertionError: the app has not sent to all: said()" in output


def test_pytest_loads_the_plugin_and_nothing_of_the_package(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text(
        "import sys\n\ndef test_none():\n"
        "    assert 'pytest_signalr_upstream' in sys.modules\n"
        "    assert 'signalr_upstream' not in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    assert "1 passed" in ended.stdout, ended.stdout


def test_the_test_kit_needs_none_of_the_extras() -> None:
    code = (
        "import asyncio, sys\n"
        "for name in ('websockets', 'watchfiles', 'cryptography', 'uvloop', 'pytest'): sys.modules[name] = None\n"
        "from signalr_upstream import Hub, UpstreamApp\n"
        "from signalr_upstream.testing import HubTester\n"
        "chat = Hub('chat')\n"
        "chat.on('ping')(lambda: 'pong')\n"
        "async def test():\n"
        "    async with HubTester(UpstreamApp(chat)) as hub: print(await hub.invoke('ping'))\n"
        "asyncio.run(test())\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.stdout == "pong\n", ended.stderr


@pytest.mark.anyio
async def test_the_fixture_has_a_type(hub_tester: StartHubTester) -> None:
    hub: HubTester = await hub_tester(chat_app(), timeout=1.0)
    await hub.invoke("say", "lobby", Message("hi"), user="ann")

    hub.sent.to_group("lobby", "said", "ann", Message("hi"))


def test_a_plain_test_is_told_what_to_write(hub_tester: StartHubTester) -> None:
    starting = hub_tester(chat_app())

    with pytest.raises(pytest.UsageError, match="ends with an async test, and test_a_plain_test_is_told"):
        next(starting.__await__())
