"""Development as it is lived: code is edited, the app and the service are restarted, clients are connected."""

import re
from pathlib import Path

from .chat_page import say, sign_in
from .clients import Browser, Client
from .conftest import Connect
from .processes import dev, free_port, wait_until


def test_a_change_of_code_is_served_to_clients_that_stay_connected(
    connect: Connect, chat_copy: Path, tmp_path: Path
) -> None:
    with dev("app:app", folder=chat_copy, log=tmp_path / "server.log") as server:
        ann = connect("node-json", f"{server.url}/chat?name=Ann", "message")
        bob = connect("node-messagepack", f"{server.url}/chat?name=Bob", "message")
        ann.invoke("joinRoom", "tea")
        bob.invoke("joinRoom", "tea")

        def shout(speaker: Client) -> str:
            """What both hear when one shouts; every call made during the restart is answered too."""
            receipt = speaker.invoke("sendMessage", "tea", "/shout hello")
            heard, also_heard = ann.receive(), bob.receive()
            assert heard == also_heard
            assert heard[1]["id"] == receipt["id"]
            return str(heard[1]["text"])

        assert shout(ann) == "HELLO"
        edit(chat_copy / "app.py", r"text\.strip\(\)\.upper\(\)", 'text.strip().upper() + "!"')

        wait_until(lambda: shout(ann) == "HELLO!", "the new code answers")
        assert shout(bob) == "HELLO!"


def test_an_app_that_cannot_be_imported_is_served_again_once_it_is_repaired(
    connect: Connect, chat_copy: Path, tmp_path: Path
) -> None:
    with dev("app:app", folder=chat_copy, log=tmp_path / "server.log") as server:
        ann = connect("node-json", f"{server.url}/chat?name=Ann", "message")
        source = (chat_copy / "app.py").read_text()

        edit(chat_copy / "app.py", r'chat = Hub\("chat"\)', 'chat = Hub("chat"')
        server.wait_for_log("SyntaxError")
        waiting = ann.start("joinRoom", "tea")
        (chat_copy / "app.py").write_text(source)

        assert waiting.wait() is None
        ann.invoke("sendMessage", "tea", "hello")
        assert ann.receive()[1]["text"] == "hello"


def test_pages_find_each_other_again_after_everything_was_restarted(
    browser: Browser, chat_copy: Path, tmp_path: Path
) -> None:
    log, ports = tmp_path / "server.log", (free_port(), free_port())
    with dev("app:app", folder=chat_copy, log=log, ports=ports) as server:
        ann = sign_in(browser, server.url, "Ann", "JSON")
        bob = sign_in(browser, server.url, "Bob", "MessagePack")
        ann.see("list", "People", "Bob")
        server.interrupt()
        for window in (ann, bob):
            window.see("status", "", "reconnecting …")

    with dev("app:app", folder=chat_copy, log=log, ports=ports):
        for window in (ann, bob):
            window.see("status", "", "connected")
        ann.see("list", "People", "Bob")
        bob.see("list", "People", "Ann")
        say(ann, "Still there?")
        bob.see("list", "Messages", "Still there?")


def edit(file: Path, pattern: str, replacement: str) -> None:
    """Save a file with one change."""
    text, changes = re.subn(pattern, lambda _: replacement, file.read_text())
    assert changes == 1
    file.write_text(text)
