"""The real clients, driven through pipes: a small script around each library, in ``drivers/``.

A driver takes commands as JSON lines on its standard input, ``{"call": 1, "do": "invoke", "target": "echo",
"args": [1]}``, and tells on its standard output what a user of the library would notice::

    {"event": "open", "transport": "WebSockets", "negotiations": 1}
    {"event": "message", "message": ["newMessage", "hi"]}
    {"event": "answer", "call": 1, "result": [1]}    or    {"event": "answer", "call": 1, "error": "..."}
    {"event": "closed", "error": null}
"""

import json
import queue
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Self

from .processes import HERE, PATIENCE, Process

DRIVERS = HERE / "drivers"

# Name → the start of its driver's command line, and the hub protocol it speaks.
LIBRARIES: dict[str, tuple[list[str | Path], str]] = {
    "node-json": (["node", DRIVERS / "node_client.mjs"], "json"),
    "node-messagepack": (["node", DRIVERS / "node_client.mjs"], "messagepack"),
    "pysignalr-json": ([sys.executable, DRIVERS / "pysignalr_client.py"], "json"),
    "pysignalr-messagepack": ([sys.executable, DRIVERS / "pysignalr_client.py"], "messagepack"),
    "signalrcore-json": ([sys.executable, DRIVERS / "signalrcore_client.py"], "json"),
    "signalrcore-messagepack": ([sys.executable, DRIVERS / "signalrcore_client.py"], "messagepack"),
}


class CallError(Exception):
    """What the client's call was rejected with."""


class Call:
    """A command that is under way."""

    def __init__(self) -> None:
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()

    def wait(self) -> Any:
        """Its result.

        Raises:
            CallError: it was an error.
        """
        answer = self.answers.get(timeout=PATIENCE)
        if "error" in answer:
            raise CallError(answer["error"])
        return answer["result"]


class Driven(Process):
    """A process that takes commands and tells events; usable when it has told ``open``."""

    def __init__(self, command: Sequence[str | Path], *, log: Path) -> None:
        self._calls: dict[int, Call] = {}
        self._messages: queue.Queue[list[Any]] = queue.Queue()
        self.opened: dict[str, Any] = {}  # what the client told of itself when it was connected
        self._opened: queue.Queue[dict[str, Any]] = queue.Queue()
        self._closed: queue.Queue[str | None] = queue.Queue()
        super().__init__(command, log=log)

    def __enter__(self) -> Self:
        try:
            self.opened = self._opened.get(timeout=PATIENCE)
        except queue.Empty as error:
            self._fail(error)
        return self

    def _fail(self, error: BaseException) -> NoReturn:
        self.__exit__(type(error), error, None)
        raise error

    def _took_line(self, line: str) -> None:
        event: dict[str, Any] = json.loads(line)
        match event:
            case {"event": "open"}:
                self._opened.put(event)
            case {"event": "message", "message": message}:
                self._messages.put(message)
            case {"event": "answer", "call": number}:
                self._calls[number].answers.put(event)
            case {"event": "closed", "error": error}:
                self._closed.put(error)

    def command(self, do: str, **values: Any) -> Call:
        """Give a command."""
        number = len(self._calls) + 1
        call = self._calls[number] = Call()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"call": number, "do": do, **values}) + "\n")
        self._process.stdin.flush()
        return call

    def receive(self) -> list[Any]:
        """The next message, as method and arguments. Nothing is skipped, so it also shows what did not come."""
        return self._messages.get(timeout=PATIENCE)


class Client(Driven):
    """One connection of a client library.

    Args:
        library: a name of ``LIBRARIES``.
        url: where it negotiates.
        methods: what the server may call.
        transport: "WebSockets", "ServerSentEvents", "LongPolling", or for Node "fallback": it tries all of them, and
            WebSockets fail.
    """

    def __init__(
        self, library: str, url: str, methods: Sequence[str], *, log: Path, transport: str = "WebSockets"
    ) -> None:
        command, protocol = LIBRARIES[library]
        super().__init__([*command, url, protocol, transport, *methods], log=log)

    def start(self, target: str, *args: Any) -> Call:
        """Invoke a method, and go on without its answer."""
        return self.command("invoke", target=target, args=args)

    def invoke(self, target: str, *args: Any) -> Any:
        """Invoke a method: its result, or CallError with the text that the library gives its user."""
        return self.start(target, *args).wait()

    def send(self, target: str, *args: Any) -> None:
        """Call a method without asking for an answer."""
        self.command("send", target=target, args=args)

    def stream(self, target: str, *args: Any) -> Any:
        """The items of a stream, when it has ended."""
        return self.command("stream", target=target, args=args).wait()

    def take(self, count: int, target: str, *args: Any) -> Any:
        """The first items of a stream that is given up then; only Node's client does that."""
        return self.command("take", target=target, args=args, count=count).wait()

    def stop(self) -> None:
        """Leave as the library does."""
        self.command("stop")

    def wait_closed(self) -> str | None:
        """Wait until the library says that the connection has ended; the reason it gives."""
        return self._closed.get(timeout=PATIENCE)


class Browser(Driven):
    """Chromium with an empty profile, which is made in ``folder``."""

    def __init__(self, executable: str, *, folder: Path, log: Path) -> None:
        super().__init__(["node", DRIVERS / "browser.mjs", executable, folder], log=log)

    def open(self, url: str, *, without: Sequence[str] = (), **look: Any) -> "Window":
        """A new window with a page, in a browser that lacks what ``without`` names.

        ``look`` is its ``width``, ``height`` and ``scheme``, light or dark.
        """
        window = Window(self, f"window {len(self._calls)}")
        status = window.do("open", url=url, without=list(without), **look)
        assert status == 200, f"{url} answers {status}"
        return window

    def page_errors(self) -> list[Any]:
        """Errors of scripts that no page has caught so far."""
        errors = []
        while not self._messages.empty():
            errors.append(self._messages.get())
        return errors


class Window:
    """A window of the browser. A place in it is a role and a name, as a screen reader says them."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self._name = name

    def do(self, action: str, role: str = "", name: str = "", **values: Any) -> Any:
        """Let ``drivers/browser.mjs`` do something at a place, and wait until it is done."""
        return self._browser.command(action, window=self._name, role=role, name=name, **values).wait()

    def see(self, role: str, name: str, text: str, *, exact: bool = True) -> None:
        """Wait until a text (or, not ``exact``, a part of one) is visible at a place."""
        self.do("see", role, name, text=text, exact=exact)

    def see_gone(self, role: str, name: str, text: str) -> None:
        """Wait until a text is not visible at a place."""
        self.do("see_gone", role, name, text=text)

    def read(self, role: str, name: str = "") -> list[str]:
        """The lines of text at a place, as they are now."""
        texts: list[str] = self.do("read", role, name)
        return [line for text in texts for line in text.split("\n") if line]
