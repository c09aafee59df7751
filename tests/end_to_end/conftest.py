"""Servers and clients of the end-to-end tests."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from .clients import Browser, Client
from .processes import HERE, dev

EXAMPLE = HERE.parent.parent / "examples" / "chat"

Connect = Callable[..., Client]
"""``connect(library, url, *methods)``: a connected client, whose methods the server may call."""


@pytest.fixture(scope="session", autouse=True)
def _node_packages() -> None:
    for folder in (HERE, EXAMPLE):
        if not (folder / "node_modules").is_dir():
            pytest.fail(f"the packages of Node are missing: run `npm ci` in {folder}", pytrace=False)


@pytest.fixture(scope="module")
def chat_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The chat example, running."""
    with dev("app:app", folder=EXAMPLE, log=tmp_path_factory.mktemp("chat") / "server.log") as server:
        yield server.url


@pytest.fixture(scope="module")
def handlers_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app in ``handlers.py``, running; every hub whose name begins with ``tests_`` is served."""
    with dev("handlers:app", folder=HERE, log=tmp_path_factory.mktemp("tests") / "server.log") as server:
        yield server.url


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Connects clients; all of them are gone when the test ends."""
    with ExitStack() as clients:

        def connect(library: str, url: str, *methods: str, transport: str = "WebSockets") -> Client:
            log = tmp_path / f"client-{len(os.listdir(tmp_path))}.log"
            return clients.enter_context(Client(library, url, methods, log=log, transport=transport))

        yield connect


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium, with a profile that is thrown away."""
    installed = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    executable = os.environ.get("CHROMIUM") or next(filter(None, installed), None)
    if executable is None:
        pytest.fail("Chromium is missing: install it, or say where it is with CHROMIUM=/path", pytrace=False)
    folder = tmp_path_factory.mktemp("browser")
    with Browser(executable, folder=folder, log=folder / "browser.log") as browser:
        yield browser
        assert browser.page_errors() == []


@pytest.fixture
def chat_copy(tmp_path: Path) -> Path:
    """A copy of the chat example, to be edited."""
    copy = tmp_path / "chat"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    (copy / "node_modules").symlink_to(EXAMPLE / "node_modules", target_is_directory=True)
    return copy
