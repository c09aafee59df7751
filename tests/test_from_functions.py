"""The Functions app in Python that examples/from_functions shows does what the example does.

Microsoft's package for it has no release for Python 3.13 and newer: a stand-in records what its decorators are given.
"""

import json
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "from_functions"
# One of theirs, one of ours, and so on.
BLOCKS = re.findall(r"^```py\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.MULTILINE | re.DOTALL)
SETTING = "AzureSignalRConnectionString"


class Out:
    """What an output binding is given."""

    def __class_getitem__(cls, kind: type) -> type["Out"]:
        return cls

    def set(self, text: str) -> None:
        self.value = json.loads(text)


class FunctionApp:
    """Notes which bindings each function has, by its type, with their options."""

    def __init__(self, **options: Any) -> None:
        self.bindings: dict[str, dict[str, dict[str, Any]]] = {}

    def route(self, **options: Any) -> Callable[[Any], Any]:
        return self._note(type="httpTrigger", **options)

    def _note(self, *, type: str, **options: Any) -> Callable[[Any], Any]:
        def note(function: Any) -> Any:
            self.bindings.setdefault(function.__name__, {})[type] = options
            return function

        return note

    generic_trigger = generic_input_binding = generic_output_binding = _note


@pytest.fixture
def original(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    functions = ModuleType("azure.functions")
    functions.__dict__.update(
        FunctionApp=FunctionApp,
        Out=Out,
        AuthLevel=SimpleNamespace(ANONYMOUS="anonymous"),
        HttpRequest=object,
        HttpResponse=lambda body, mimetype: (body, mimetype),
    )
    azure = ModuleType("azure")
    azure.functions = functions  # type: ignore[attr-defined]  # a module of this test
    monkeypatch.setitem(sys.modules, "azure", azure)
    monkeypatch.setitem(sys.modules, "azure.functions", functions)
    module = ModuleType("function_app")
    exec(compile("\n".join(BLOCKS[::2]), "function_app.py", "exec"), module.__dict__)
    return module


def test_what_is_shown_of_the_example_is_the_whole_example() -> None:
    shown = re.sub(r"\s+", "\n", "".join(BLOCKS[1::2]))
    _, _, code = (FOLDER / "app.py").read_text().partition('"""\n')

    assert shown.strip() == re.sub(r"\s+", "\n", code).strip()


def test_each_function_has_the_bindings_of_its_event(original: ModuleType) -> None:
    bindings = original.app.bindings

    for name, category in (
        ("connected", "connections"),
        ("disconnected", "connections"),
        ("broadcast", "messages"),
    ):
        trigger = bindings[name]["signalRTrigger"]
        assert (trigger["event"], trigger["category"]) == (name, category)
    assert bindings["negotiate"]["httpTrigger"] == {"route": "negotiate", "methods": ["POST"]}
    assert bindings["negotiate"]["signalRConnectionInfo"]["userId"] == "{headers.x-user-id}"
    generic = [
        options for each in bindings.values() for kind, options in each.items() if kind != "httpTrigger"
    ]
    assert len(generic) == 6
    for options in generic:
        assert options["hubName"] == "chat"
        assert options["connectionStringSetting"] == SETTING
        assert options["arg_name"] in ("connection", "invocation", "messages")


def test_the_functions_do_what_the_example_does(
    original: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    caller = {"ConnectionId": "c1", "UserId": "ann", "Error": None, "Arguments": ["Hello"]}
    messages = Out()

    assert original.negotiate(object(), '{"url":""}') == ('{"url":""}', "application/json")
    original.connected(json.dumps(caller), messages)
    assert messages.value == {"target": "newConnection", "arguments": ["c1"]}
    assert original.broadcast(json.dumps(caller), messages) == 5
    assert messages.value == {"target": "newMessage", "arguments": ["ann", "Hello"]}
    with caplog.at_level(logging.INFO):
        original.disconnected(json.dumps(caller))
    assert caplog.messages == ["c1 has gone: None"]
