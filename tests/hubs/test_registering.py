"""``@hub.errors``: what callers are told of exceptions. Classes of handlers: ``class Chat(Hub)`` with ``@on``."""

import asyncio
from typing import Any

import pytest

from signalr_upstream import Context, Hub, HubError, Identity, UpstreamApp, on, role
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.errors import ArgumentsError, ConfigurationError, Redeliver, RegistrationError
from signalr_upstream.streams import MASKED

from ..support import (
    CONNECTION_STRING,
    RestService,
    call_headers,
    connect,
    detail,
    disconnect,
    invocation,
    invoke,
    post,
    send,
)

pytestmark = pytest.mark.anyio


class AppError(Exception):
    """An error of the application."""


class NoRoomError(AppError, LookupError):
    """A more specific one."""


def app_that_raises(error: Exception, hub: Hub) -> UpstreamApp:
    @hub.on("go")
    async def go(ctx: Context) -> None:
        raise error

    return UpstreamApp(hub, connection_string=CONNECTION_STRING)


# --- errors ---


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AppError("x"), "app: x"),
        (NoRoomError("x"), "no room: x"),
        (KeyError("x"), "lookup"),
        (ValueError("hunter2"), MASKED),
        (HubError("as it is"), "as it is"),
    ],
)
async def test_the_map_of_the_most_specific_class_says_what_callers_are_told(
    error: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub("chat")
    hub.errors(LookupError)(lambda error: "lookup")
    hub.errors(NoRoomError)(lambda error: HubError(f"no room: {error}"))

    @hub.errors(AppError, OSError)
    def tell(error: AppError) -> str:
        return f"app: {error}"

    assert (await invoke(app_that_raises(error, hub), "go"))["error"] == told
    assert ("failed" in caplog.text) == (told is MASKED)


async def test_a_map_of_all_exceptions_leaves_alone_what_authors_say_and_time_limits() -> None:
    hub = Hub("chat")
    hub.errors(Exception)(lambda error: "Something went wrong.")

    @hub.on("slow", timeout=0.02)
    async def slow(ctx: Context) -> None:
        await asyncio.Event().wait()

    @hub.on("typed")
    async def typed(count: int) -> None: ...

    app = app_that_raises(ValueError("hunter2"), hub)

    assert (await invoke(app, "go"))["error"] == "Something went wrong."
    assert (await invoke(app, "slow"))["error"] == TIMED_OUT
    assert "expected int" in (await invoke(app, "typed", "x"))["error"]


async def test_an_error_that_is_told_can_be_mapped_by_its_own_class() -> None:
    hub = Hub("chat")
    hub.errors(ArgumentsError)(lambda error: f"Falsch: {error}")

    @hub.on("typed")
    async def typed(count: int) -> None: ...

    app = app_that_raises(HubError("as it is"), hub)

    assert (await invoke(app, "typed", "x"))["error"] == "Falsch: argument 1 `count`: expected int, got str"
    assert (await invoke(app, "go"))["error"] == "as it is"


async def test_a_map_that_raises_or_gives_nothing_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub("chat")

    @hub.on("raise")
    async def raises(kind: str) -> None:
        raise {"KeyError": KeyError, "ValueError": ValueError, "OSError": OSError}[kind]

    @hub.errors(KeyError)
    def broken(error: KeyError) -> str:
        raise ZeroDivisionError

    @hub.errors(ValueError)
    def forgetful(error: ValueError) -> str:  # type: ignore[empty-body]
        ...

    @hub.errors(OSError)
    def refuses(error: OSError) -> str:
        raise HubError("The disk is full.")

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    for kind, told in (("KeyError", MASKED), ("ValueError", MASKED), ("OSError", "The disk is full.")):
        assert (await invoke(app, "raise", kind))["error"] == told
    assert "ZeroDivisionError" in caplog.text
    assert "has to give a text or an error, not NoneType" in caplog.text


async def test_a_map_asks_for_redelivery() -> None:
    hub = Hub("chat")
    hub.errors(ConnectionError)(lambda error: Redeliver())

    answer = await post(app_that_raises(ConnectionError(), hub), call_headers("go"), invocation("go"))

    assert "again" in detail(answer, 503)


async def test_maps_count_for_connections_that_are_refused() -> None:
    hub = Hub("chat")
    hub.errors(AppError)(lambda error: "No more connections.")

    @hub.on("connected")
    @hub.on("disconnected")
    async def event(ctx: Context) -> None:
        raise AppError

    service = RestService()
    app = UpstreamApp(hub, connection_string=CONNECTION_STRING, http_client=service.client)

    detail(await connect(app), 403)
    assert (await disconnect(app)).status_code == 204
    assert [request.url.params["reason"] for request in service.requests] == ["No more connections."]


async def test_a_mapped_error_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub("chat")
    hub.errors(AppError)(lambda error: "It is closed.")

    assert (await send(app_that_raises(AppError(), hub), "go")).status_code == 204
    assert "It is closed." in caplog.text


def test_maps_that_could_never_work_are_refused_with_both_places() -> None:
    hub = Hub("chat")

    @hub.errors(AppError)
    def one(error: AppError) -> str:
        return ""

    def two(error: AppError) -> str:
        return ""

    async def later(error: AppError) -> str:
        return ""

    with pytest.raises(RegistrationError, match="AppError is mapped twice") as refused:
        hub.errors(NoRoomError, AppError)(two)
    assert str(refused.value).count(f"{__file__}:") == 2
    hub.errors(NoRoomError)(two)  # the one before took nothing
    with pytest.raises(RegistrationError, match="plain function"):
        hub.errors(ValueError)(later)  # type: ignore[type-var]  # the mistake in question
    for kinds in ((), (two,), (KeyError, BaseException)):
        with pytest.raises(RegistrationError, match="say which exceptions"):
            hub.errors(*kinds)


# --- classes ---


class Rooms(Hub):
    """Handlers that other hubs inherit."""

    def __init__(self, name: str, greeting: str = "hello") -> None:
        super().__init__(name)
        self.greeting = greeting
        self.negotiate(self.who)
        self.errors(KeyError)(self.unknown)

    @on("greet")
    @on("salute", timeout=5)
    async def greet(self, ctx: Context, name: str) -> str:
        return f"{self.greeting} {name} in {self.name} by {ctx.event}"

    @on("plain", require=lambda ctx: ctx.user_id == "ann")
    def in_thread(self, ctx: Context) -> str:
        return "plain"

    @on("static")
    @staticmethod
    async def static(text: str) -> str:
        return text

    @on("dropped")
    async def dropped(self, ctx: Context) -> None: ...

    @on("fails")
    async def fails(self, ctx: Context) -> None:
        raise KeyError("lobby")

    async def who(self) -> Identity:
        return Identity.anonymous()

    def unknown(self, error: KeyError) -> str:
        return f"no room {error}"


class Louder(Rooms):
    async def greet(self, ctx: Context, name: str) -> str:
        return (await super().greet(ctx, name)).upper()

    @on("replaced")
    async def static(self, ctx: Context) -> str:  # type: ignore[override]
        return "replaced"

    dropped = None  # type: ignore[assignment]


async def test_the_methods_of_a_class_are_handlers() -> None:
    app = UpstreamApp(Rooms("chat"), connection_string=CONNECTION_STRING)

    assert (await invoke(app, "greet", "ann"))["result"] == "hello ann in chat by greet"
    assert (await invoke(app, "salute", "ann"))["result"] == "hello ann in chat by salute"
    assert (await invoke(app, "plain", user_id="ann"))["result"] == "plain"
    assert "error" in await invoke(app, "plain", user_id="bob")
    assert (await invoke(app, "static", "text"))["result"] == "text"
    assert (await invoke(app, "fails"))["error"] == "no room 'lobby'"


async def test_a_derived_class_overrides_adds_and_drops_handlers() -> None:
    app = UpstreamApp(Louder("chat"), connection_string=CONNECTION_STRING)

    assert (await invoke(app, "greet", "ann"))["result"] == "HELLO ANN IN CHAT BY GREET"
    assert (await invoke(app, "replaced"))["result"] == "replaced"
    for target in ("static", "dropped"):
        assert (await post(app, call_headers(target), invocation(target))).status_code == 404


async def test_two_instances_of_a_class_are_two_hubs() -> None:
    app = UpstreamApp(Rooms("one"), Rooms("two", "bye"), connection_string=CONNECTION_STRING)

    assert (await invoke(app, "greet", "ann", hub="one"))["result"] == "hello ann in one by greet"
    assert (await invoke(app, "greet", "ann", hub="two"))["result"] == "bye ann in two by greet"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("filter", on("filter")(lambda self: None)),
        ("clients", lambda self: None),
        ("groups", property(lambda self: None)),
        ("name", "chat"),
        ("negotiator", None),
        ("_add", lambda self: None),
        ("_handlers", {}),
    ],
)
def test_what_hides_a_member_of_hub_is_refused_when_the_class_is_made(name: str, value: Any) -> None:
    with pytest.raises(RegistrationError, match=rf"Chat\.{name} hides Hub\.{name}: give it another name"):
        type("Chat", (Hub,), {name: value})
    mixin = type("Mixin", (), {name: value})
    with pytest.raises(RegistrationError, match=rf"Mixin\.{name} hides Hub\.{name}"):
        type("Chat", (mixin, Hub), {})


def test_a_method_that_cannot_be_served_is_refused_with_its_place() -> None:
    class Chat(Hub):
        @on("go")
        async def go(self, ctx: Context, *, text: str) -> None: ...

        @on("same")
        async def one(self, ctx: Context) -> None: ...

    class Twice(Chat):
        go = None  # type: ignore[assignment]

        @on("SAME")
        async def two(self, ctx: Context) -> None: ...

    with pytest.raises(RegistrationError, match=r"Chat\.go \(.*test_registering\.py:\d+\)"):
        Chat("chat")
    with pytest.raises(RegistrationError, match="registered twice") as refused:
        Twice("chat")
    assert str(refused.value).count(f"{__file__}:") == 2


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_time_limit_that_is_none_is_refused(timeout: float) -> None:
    with pytest.raises(RegistrationError, match="timeout= is more than 0 seconds"):
        Hub("chat").on("go", timeout=timeout)


def test_an_event_and_a_role_have_to_be_said() -> None:
    def go(ctx: Context) -> None: ...

    hub = Hub("chat")
    for decorate, said in ((hub.on, '@hub.on("event")'), (on, '@on("event")')):
        with pytest.raises(RegistrationError) as refused:
            decorate(go)  # type: ignore[arg-type]  # without its brackets
        assert said in str(refused.value)
        assert f"go ({__file__}:" in str(refused.value)
    with pytest.raises(RegistrationError, match=r'require=role\("admin"\)'):
        hub.on("go", require=role)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["chat", Hub])
def test_an_app_takes_hubs_and_nothing_else(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"UpstreamApp\(Hub\('chat'\)\), and no .*[cH]"):
        UpstreamApp(given)


async def test_a_result_that_nobody_has_awaited_is_an_error_that_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub("chat")

    @hub.on("go")
    def go(ctx: Context) -> Any:
        return ctx.clients.all.send("news")

    answer = await invoke(UpstreamApp(hub, connection_string=CONNECTION_STRING), "go")

    assert answer["error"] == MASKED
    assert "this is Target.send(), which nobody has awaited" in caplog.text
    assert "in a plain def, ctx.wait(...)" in caplog.text


def test_a_thread_cannot_be_cancelled_with_its_caller() -> None:
    def go(ctx: Context) -> None: ...

    with pytest.raises(RegistrationError, match="needs an async handler") as refused:
        Hub("chat").on("go", cancel_on_disconnect=True)(go)
    assert f"go ({__file__}:" in str(refused.value)


def test_both_negotiate_functions_are_named() -> None:
    async def one() -> Identity:
        return Identity.anonymous()

    hub = Hub("chat")
    hub.negotiate(one)
    with pytest.raises(RegistrationError, match="already") as refused:
        hub.negotiate(one)
    assert str(refused.value).count(f"{__file__}:") == 2
