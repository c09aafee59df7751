"""What mypy and pyright say of typed clients: wrong calls are errors, results have their types."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .processes import HERE

PATIENCE = 100  # seconds: the first run of mypy reads everything

# Behind a line stands what it reveals, or that it is an error.
CODE = """
from typing import Protocol, reveal_type

from msgspec import Struct

from signalr_upstream import Context, Hub, ServiceClient, UpstreamApp


class Message(Struct):
    text: str


class ChatClient(Protocol):
    async def newMessage(self, message: Message, room: str = "lobby") -> None: ...
    async def confirm(self, question: str) -> bool: ...


chat = Hub("chat", client=ChatClient)
plain = Hub("plain")
message = Message("hi")


@chat.on("typed")
async def typed(ctx: Context[ChatClient], text: str) -> None:
    reveal_type(ctx.clients.all)  # ChatClient
    reveal_type(ctx.clients.others)  # ChatClient
    reveal_type(ctx.clients.others_in_group("g"))  # ChatClient
    reveal_type(ctx.clients.group("g"))  # ChatClient
    reveal_type(ctx.clients.user("ann"))  # ChatClient
    reveal_type(ctx.clients.caller)  # ChatClient
    reveal_type(ctx.clients.connection("a"))  # ChatClient
    reveal_type(await ctx.clients.caller.confirm("Sure?"))  # bool
    reveal_type(ctx.clients.untyped.caller)  # ConnectionTarget
    await ctx.clients.group("g").newMessage(message)
    await ctx.clients.group("g").newMessage(message, room="tea")
    await ctx.clients.group("g").newMesage(message)  # error
    await ctx.clients.group("g").newMessage()  # error
    await ctx.clients.group("g").newMessage("hi")  # error
    await ctx.clients.group("g").newMessage(message, "tea", 1)  # error
    await ctx.clients.group("g").send("newMessage", message)  # error
    answer: str = await ctx.clients.caller.confirm("Sure?")  # error


@plain.on("untyped")
async def untyped(ctx: Context, text: str) -> None:
    reveal_type(ctx.clients.all)  # Target
    reveal_type(ctx.clients.caller)  # ConnectionTarget
    reveal_type(ctx.clients.connection("a"))  # ConnectionTarget
    reveal_type(await ctx.clients.caller.invoke("x", result_type=int))  # int
    await ctx.clients.all.invoke("x")  # error


class Chat(Hub[ChatClient]):
    pass


class Plain(Hub):
    pass


app = UpstreamApp(chat, plain)
reveal_type(chat.clients.all)  # ChatClient
reveal_type(plain.clients.all)  # Target
reveal_type(app.hub(chat).clients.all)  # ChatClient
reveal_type(app.hub(plain).clients.all)  # Target
reveal_type(Chat("c", client=ChatClient).clients.all)  # ChatClient
reveal_type(Plain("p").clients.all)  # Target
reveal_type(ServiceClient().hub("chat", client=ChatClient).clients.all)  # ChatClient
reveal_type(ServiceClient().hub("chat").clients.all)  # Target
"""
EXPECTED = [line.partition("  # ")[2] for line in CODE.splitlines()]

Said = dict[int, list[str]]


def run(*command: str | Path) -> str:
    return subprocess.run(
        command, check=False, stdout=subprocess.PIPE, cwd=HERE.parent.parent, timeout=PATIENCE
    ).stdout.decode()


def mypy(file: Path) -> Said:
    said: Said = {}
    output = run(sys.executable, "-m", "mypy", "--strict", "--output=json", file)
    for line in map(json.loads, output.splitlines()):
        revealed = re.fullmatch(r'Revealed type is "(?:\w+\.)*(\w+)"', line["message"])
        said.setdefault(line["line"], []).append(revealed[1] if revealed else line["severity"])
    return said


def pyright(file: Path) -> Said:
    said: Said = {}
    tool = HERE / "node_modules" / ".bin" / "pyright"
    output = run(tool, "--outputjson", "--pythonpath", sys.executable, file)
    found: list[dict[str, Any]] = json.loads(output)["generalDiagnostics"]
    for diagnostic in found:
        revealed = re.fullmatch(r'Type of ".*" is "(\w+)"', diagnostic["message"])
        line = diagnostic["range"]["start"]["line"] + 1
        said.setdefault(line, []).append(revealed[1] if revealed else diagnostic["severity"])
    return said


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_typed_clients_are_checked(checker: Callable[[Path], Said], tmp_path: Path) -> None:
    file = tmp_path / "checked.py"
    file.write_text(CODE)

    said = checker(file)

    assert [",".join(said.get(number, [])) for number in range(1, len(EXPECTED) + 1)] == EXPECTED
