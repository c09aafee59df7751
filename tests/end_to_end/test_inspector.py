"""The inspector in Chromium, as a person uses it: on `signalr-upstream dev`, with real clients and its console."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .clients import Browser, Window
from .conftest import Connect
from .processes import HERE, dev, wait_until

# Would change the title, if it were taken for markup.
PAYLOAD = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"


class Inspected(NamedTuple):
    """A running app, and the inspector of the service beside it."""

    app: str
    inspector: str


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inspected]:
    with dev("handlers:app", folder=HERE, log=tmp_path_factory.mktemp("inspector") / "server.log") as server:
        printed = re.search(r"http://localhost:\d+/inspector#token=\S+", server.read_log())
        assert printed is not None
        yield Inspected(server.url, printed.group())


@pytest.fixture
def window(browser: Browser, inspected: Inspected) -> Iterator[Window]:
    window = browser.open(inspected.inspector)
    window.see("status", "Service", "live")
    yield window
    window.do("close")


def view(window: Window, name: str) -> None:
    window.do("click", "tab", name)


def connect_by_hand(window: Window, hub: str, user: str, claims: str = "") -> None:
    view(window, "Console")
    window.do("fill", "combobox", "Hub", value=hub)
    window.do("fill", "textbox", "User", value=user)
    window.do("fill", "textbox", "Claims", value=claims)
    window.do("click", "button", "Connect")
    window.see("log", "Console output", "connected")


def invoke(window: Window, target: str, arguments: str) -> None:
    window.do("fill", "combobox", "Method", value=target)
    window.do("fill", "textbox", "Arguments", value=arguments)
    window.do("click", "button", "Invoke")


def test_what_happens_is_seen_as_it_happens(inspected: Inspected, window: Window, connect: Connect) -> None:
    client = connect("node-messagepack", f"{inspected.app}/tests_seen?user=ann", "told")
    client.invoke("tellAll", "hello")
    client.receive()

    for text in ("opened", "connected", "tellAll", "told"):
        window.see("listbox", "Activity", text)
    window.see("listbox", "Activity", "tests_seen/:send")
    window.do("click", "button", "Pings")
    view(window, "Connections")
    window.see("list", "Connections", "ann")
    window.see("list", "Connections", "tests_seen · WebSockets · messagepack", exact=False)
    window.see("list", "Users", "ann")


def test_the_list_can_be_filtered_paused_and_cleared(inspected: Inspected, window: Window) -> None:
    connect_by_hand(window, "tests_filtered", "filtered")
    invoke(window, "echo", '["first"]')
    view(window, "Activity")
    window.do("fill", "searchbox", "Filter", value="first")
    window.see("listbox", "Activity", '["first"] → ["first"]')
    window.see_gone("listbox", "Activity", "handshake")
    window.do("fill", "searchbox", "Filter", value="no such thing")
    window.see("tabpanel", "Activity", "Nothing of what has happened fits the filter.")
    window.do("fill", "searchbox", "Filter", value="")

    window.do("click", "button", "Pause")
    view(window, "Console")
    invoke(window, "echo", '["second"]')
    window.see("log", "Console output", '["second"]')
    view(window, "Activity")
    window.see("button", "", "new)", exact=False)
    window.see_gone("listbox", "Activity", '["second"] → ["second"]')
    window.do("click", "button", text="Resume", exact=False)
    window.see("listbox", "Activity", '["second"] → ["second"]')

    window.do("click", "button", "Clear")
    window.see("tabpanel", "Activity", "Nothing has happened yet.", exact=False)


def test_details_show_a_call_a_curl_line_and_replay_it(inspected: Inspected, window: Window) -> None:
    connect_by_hand(window, "tests_details", "ann")
    invoke(window, "add", "[19, 23]")
    window.see("log", "Console output", "42")
    view(window, "Activity")

    window.do("fill", "searchbox", "Filter", value="→ 42")
    window.do("click", "listbox", "Activity", text="[19,23] → 42")

    window.see("complementary", "Details", "Call to the app: add")
    details = "\n".join(window.read("complementary", "Details"))
    assert "tests_details/messages/add" in details
    assert "X-ASRS-Signature\n[hidden]" in details
    assert "curl -i -X POST" in details
    assert 'openssl dgst -sha256 -hmac "$ACCESS_KEY"' in details
    window.do("click", "button", "Replay")
    wait_until(lambda: window.do("count", selector="[role=option]") == 2, "the replayed call is listed")
    window.do("click", "button", "Close details")
    window.do("see_gone", "complementary", "Details")


def test_the_console_shows_results_errors_and_messages(inspected: Inspected, window: Window) -> None:
    connect_by_hand(window, "tests_console", "ann", "role: admin")

    invoke(window, "rule", "[]")
    window.see("log", "Console output", '"as you wish"')
    invoke(window, "refuse", "[]")
    window.see("log", "Console output", "Not on Mondays.")
    invoke(window, "tellAll", '["hello"]')
    window.see("log", "Console output", '["hello"]')
    window.see("log", "Console output", "told")
    invoke(window, "add", "[1")
    window.see("log", "Console output", "The arguments are no JSON array", exact=False)
    window.do("click", "button", "Disconnect")
    window.see("log", "Console output", "disconnected")


def test_a_page_that_is_loaded_again_finds_the_clients_of_the_console(
    browser: Browser, inspected: Inspected
) -> None:
    before = browser.open(inspected.inspector)
    connect_by_hand(before, "tests_reloaded", "kept")
    invoke(before, "tellAll", '["earlier"]')
    before.see("log", "Console output", "told")
    before.do("close")

    after = browser.open(inspected.inspector)
    view(after, "Console")
    after.see("log", "Console output", "told")
    invoke(after, "echo", '["still there"]')
    after.see("log", "Console output", '["still there"]')
    after.do("click", "button", "Disconnect")
    after.see("log", "Console output", "disconnected")
    after.do("close")


def test_faults_are_switched_on_and_off(inspected: Inspected, window: Window, connect: Connect) -> None:
    client = connect("node-json", f"{inspected.app}/tests_faults?user=bob")
    view(window, "Faults")
    window.do("select", "combobox", "Fail with status", value="503")
    window.see("status", "Faults", "One fault is on.")
    connect_by_hand(window, "tests_faults", "ann")
    invoke(window, "nothing", "[]")
    window.see("log", "Console output", "Invocation failed, status code 503", exact=False)

    view(window, "Faults")
    window.do("click", "button", "Turn all off")
    window.see("status", "Faults", "Nothing goes wrong on purpose.")
    view(window, "Console")
    invoke(window, "add", "[20, 3]")
    window.see("log", "Console output", "23")

    view(window, "Connections")
    window.do("click", "button", "Let bob stop reading")
    window.see("list", "Connections", "does not read")
    window.do("click", "button", "Let bob read on")
    window.see_gone("list", "Connections", "does not read")
    window.do("click", "button", "Drop bob")
    assert client.wait_closed() is not None  # an abnormal end


def test_no_text_of_a_client_or_an_app_is_ever_markup(inspected: Inspected, window: Window) -> None:
    quoted = PAYLOAD.replace('"', '\\"')
    connect_by_hand(window, "tests_markup", PAYLOAD, f"{PAYLOAD}: {PAYLOAD}")
    invoke(window, PAYLOAD, f'["{quoted}"]')
    invoke(window, "refuseWith", f'["{quoted}"]')
    window.see("log", "Console output", PAYLOAD)
    invoke(window, "join", f'["{quoted}"]')
    window.see("log", "Console output", "true")
    invoke(window, "addUser", f'["{quoted}", "{quoted}"]')

    view(window, "Connections")
    for place in ("Connections", "Users", "Groups"):
        window.see("list", place, PAYLOAD)
    view(window, "Activity")
    window.see("listbox", "Activity", PAYLOAD)
    window.do("click", "listbox", "Activity", text=f"] → {PAYLOAD}", exact=False)
    window.see("complementary", "Details", "Call to the app: refuseWith")
    window.see("complementary", "Details", PAYLOAD)

    assert window.do("count", selector="img, script:not([src]), [onerror]") == 0
    assert window.do("title") == "SignalR inspector"


def test_everything_can_be_reached_with_the_keyboard(inspected: Inspected, window: Window) -> None:
    connect_by_hand(window, "tests_keys", "ann")
    invoke(window, "echo", "[]")
    view(window, "Activity")
    window.see("listbox", "Activity", "echo")
    view(window, "Activity")

    def press(*keys: str) -> str:
        for key in keys:
            window.do("press", key=key)
        return str(window.do("focused")).split("\n")[0]

    assert press("ArrowRight").startswith("Connections")
    window.see("tabpanel", "Connections", "Groups")
    assert press("ArrowRight", "ArrowRight", "ArrowRight") == "Activity"
    order = [press("Tab") for _ in range(8)]
    assert order == ["Messages", "Calls to the app", "REST calls", "Pings", "", "Pause", "Clear", "Activity"]
    press("End")
    window.see("complementary", "Details", "To the client")
    press("ArrowUp")
    window.see("complementary", "Details", "Call to the app: echo")
    assert press("Tab") == "Close details"
    assert press("Escape") == "Activity"
    window.do("see_gone", "complementary", "Details")


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1200, "dark")])
def test_it_is_readable_when_narrow_and_when_dark(
    browser: Browser, inspected: Inspected, width: int, scheme: str
) -> None:
    window = browser.open(inspected.inspector, width=width, scheme=scheme)
    window.see("status", "Service", "live")

    for name in ("Connections", "Console", "Faults", "Activity"):
        view(window, name)
        assert window.do("overflow") <= 0, name
    red, *_ = (int(number) for number in re.findall(r"\d+", window.do("ground")))
    assert (red < 64) == (scheme == "dark")
    window.do("close")


def test_without_the_token_the_page_says_where_it_is(browser: Browser, inspected: Inspected) -> None:
    window = browser.open(inspected.inspector.partition("#")[0])

    window.see("status", "Service", "refused")
    window.see("alert", "", "Open the inspector with the URL that the service printed.")
    window.do("close")
