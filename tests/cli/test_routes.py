"""``signalr-upstream routes``: what is registered, for people and for programs."""

import json
import sys
from pathlib import Path

import pytest

from .conftest import Programs

APP = """\
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI
from msgspec import Struct

from signalr_upstream import Context, Depends, Hub, UpstreamApp, role


class Message(Struct):
    text: str


chat = Hub("chat")


def now() -> int:
    return 1


@chat.filter
async def timed(ctx: Context, call_next: Any) -> Any:
    return await call_next()


@chat.on("sendMessage", require=role("admin"), timeout=5)
async def send_message(
    ctx: Context, room: str, message: Message, at: Annotated[int, Depends(now)], urgent: bool = False, *tags: str | int
) -> list[Message]:
    return [message]


@chat.on("connected")
async def joined(ctx: Context, anything: Any = None) -> None: ...


def ask(question):
    return question


class May:
    def __call__(self, ctx: Context) -> bool:
        return True


chat.on("ask", require=May())(ask)
app = UpstreamApp(chat)
outer = FastAPI()
outer.mount("/signalr", app)
"""


def test_every_handler_is_shown_with_its_arguments_and_place(programs: Programs) -> None:
    result = programs.run_on("routes", APP)

    place = programs.folder / f"{programs.names[0]}.py"
    assert result.exit_code == 0, result.output
    assert (
        result.output
        == f"""\
chat  messages/sendMessage
    send_message(room: str, message: Message, urgent: bool = ..., *tags: str | int) -> list[{programs.names[0]}.Message]
    {place}:{line_of("chat.on('sendMessage'")}
    require role('admin')
    filter  timed ({place}:{line_of("chat.filter")})
    timeout 5 s
chat  connections/connected
    joined(anything: Any = ...) -> None
    {place}:{line_of("chat.on('connected'")}
    filter  timed ({place}:{line_of("chat.filter")})
chat  messages/ask
    ask(question: Any) -> Any
    {place}:{line_of("def ask")}
    require May
    filter  timed ({place}:{line_of("chat.filter")})
"""
    )


def line_of(text: str) -> int:
    lines = APP.replace('"', "'").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_programs_get_the_same_as_json(programs: Programs) -> None:
    result = programs.run_on("routes", APP, "--json")

    first, *_ = json.loads(result.output)
    assert first | {"place": "", "filters": []} == {
        "hub": "chat",
        "category": "messages",
        "event": "sendMessage",
        "handler": "send_message",
        "place": "",
        "arguments": ["room: str", "message: Message", "urgent: bool = ...", "*tags: str | int"],
        "result": f"list[{programs.names[0]}.Message]",
        "stream": False,
        "require": "role('admin')",
        "filters": [],
        "timeout": 5.0,
    }


def test_an_app_inside_another_is_found(programs: Programs) -> None:
    name = programs.write(APP)

    result = programs.run("routes", f"{name}:outer", "--app-dir", str(programs.folder), "--json")

    assert [route["event"] for route in json.loads(result.output)] == ["sendMessage", "connected", "ask"]


def test_the_application_is_part_of_the_hubs_name(programs: Programs) -> None:
    code = APP + "app = UpstreamApp(chat, application='shop')\n"

    assert {route["hub"] for route in json.loads(programs.run_on("routes", code, "--json").output)} == {
        "shop_chat"
    }


def test_an_app_without_handlers_says_so(programs: Programs) -> None:
    code = "from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp(Hub('chat'))\n"

    assert programs.run_on("routes", code).output == "No handler is registered.\n"


@pytest.mark.parametrize("app", ["print", "type"])  # the latter does not say what it takes
def test_what_is_no_app_is_refused(programs: Programs, app: str) -> None:
    result = programs.run_on("routes", f"app = {app}\n")

    assert result.exit_code == 1
    assert "is no UpstreamApp, and importing it makes none" in result.output


def test_a_module_that_is_not_there_is_named(programs: Programs, tmp_path: Path) -> None:
    result = programs.run("routes", "nothing_here:app", "--app-dir", str(tmp_path))

    assert result.exit_code == 1
    assert "cannot import 'nothing_here:app'" in result.output


@pytest.mark.parametrize("command", ["routes", "run"])
def test_a_missing_extra_is_one_line(
    command: str, programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "signalr_upstream.redis_duplicates", raising=False)
    monkeypatch.setitem(sys.modules, "redis.exceptions", None)

    result = programs.run_on(command, "from signalr_upstream.redis_duplicates import RedisDuplicates\n")

    assert result.exit_code == 1
    assert result.output == (
        "Error: signalr_upstream.redis_duplicates needs redis: "
        "python -m pip install 'signalr-upstream[redis]'\n"
    )


def test_the_app_may_be_named_in_the_environment(programs: Programs) -> None:
    name = programs.write(APP)
    folder = str(programs.folder)

    named = programs.run("routes", "--app-dir", folder, SIGNALR_UPSTREAM_APP=f"{name}:app")

    assert named.exit_code == 0
    assert named.output == programs.run("routes", f"{name}:app", "--app-dir", folder).output
