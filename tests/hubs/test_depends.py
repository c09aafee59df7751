"""``Depends``: what a handler is given beside its arguments, when it ends, and what is refused at registration."""

import asyncio
import dataclasses
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Annotated, Any

import fastapi
import pytest
from starlette.requests import Request

from signalr_upstream import Context, Depends, Forbidden, Hub, HubError, Identity, UpstreamApp
from signalr_upstream.calls.data_path import TIMED_OUT
from signalr_upstream.errors import RegistrationError
from signalr_upstream.streams import MASKED

from ..support import CONNECTION_STRING, connect, disconnect, invoke, invoke_msgpack, send, serve

pytestmark = pytest.mark.anyio


async def in_loop(ctx: Context) -> str:
    return f"loop of {ctx.user_id}"


def in_thread(ctx: Context) -> str:
    return f"thread of {ctx.user_id}, main: {threading.current_thread() is threading.main_thread()}"


async def yielded(request: Request) -> AsyncIterator[str]:
    yield f"yielded for {request.headers['x-asrs-event']}"


def yielded_in_thread(ctx: Context) -> Iterator[str]:
    yield f"yielded to {ctx.event}"


class Page:
    def __init__(self, ctx: Context, size: int = 10) -> None:
        self.text = f"{size} for {ctx.user_id}"


class Prefixed:
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    async def __call__(self, ctx: Context) -> str:
        return f"{self.prefix}{ctx.user_id}"

    def method(self, ctx: Context) -> str:
        return f"{self.prefix} of a method"


async def with_prefix(prefix: str, ctx: Context, *rest: int, **options: int) -> str:
    return f"{prefix}{ctx.user_id}"


# --- what is given ---


@pytest.mark.parametrize(
    ("dependency", "given"),
    [
        (in_loop, "loop of ann"),
        (in_thread, "thread of ann, main: False"),
        (yielded, "yielded for go"),
        (yielded_in_thread, "yielded to go"),
        (Prefixed("user "), "user ann"),
        (Prefixed("prefix").method, "prefix of a method"),
        (functools.partial(with_prefix, "partial "), "partial ann"),
    ],
)
async def test_a_parameter_is_given_what_its_dependency_gives(
    dependency: Callable[..., Any], given: str
) -> None:
    async def go(ctx: Context, text: str, value: Annotated[str, Depends(dependency)], count: int = 2) -> Any:
        return [text, value, count]

    def go_in_thread(text: str, *, value: Annotated[str, Depends(dependency)]) -> Any:
        return [text, value]

    assert (await invoke(serve(go), "go", "hi", user_id="ann"))["result"] == ["hi", given, 2]
    assert (await invoke_msgpack(serve(go), "go", "hi", 3, user_id="ann"))[4] == ["hi", given, 3]
    assert (await invoke(serve(go_in_thread), "go", "hi", user_id="ann"))["result"] == ["hi", given]


async def test_a_class_is_a_dependency() -> None:
    async def go(page: Annotated[Page, Depends(Page)]) -> str:
        return page.text

    assert (await invoke(serve(go), "go", user_id="ann"))["result"] == "10 for ann"


async def test_parameters_of_every_kind_get_what_is_theirs() -> None:
    async def go(
        first: Annotated[str, Depends(in_loop)],
        text: str,
        ctx: Context,
        /,
        second: Annotated[str, Depends(in_loop)],
        *rest: int,
        request: Request,
        third: Annotated[str, Depends(in_loop)],
        flag: bool = True,
    ) -> Any:
        return [first, text, ctx.event, second, rest, request.method, third, flag]

    user = "loop of ann"
    answer = await invoke(serve(go), "go", "hi", 1, 2, user_id="ann")
    assert answer["result"] == [user, "hi", "go", user, [1, 2], "POST", user, True]


async def test_connection_events_have_dependencies_and_keep_defaults() -> None:
    seen: list[Any] = []
    hub = Hub("chat")

    @hub.on("connected")
    @hub.on("disconnected")
    async def event(
        ctx: Context, text: str = "default", user: Annotated[str, Depends(in_loop)] = "", *rest: int
    ) -> None:
        seen.append((ctx.event, text, user, rest))

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert (await connect(app, user_id="ann")).status_code == 204
    assert (await disconnect(app, user_id="ann")).status_code == 204
    assert seen == [(event, "default", "loop of ann", ()) for event in ("connected", "disconnected")]


async def test_a_dependency_is_asked_once_a_call_however_many_want_it() -> None:
    asked: list[str] = []

    async def base(ctx: Context) -> list[str]:
        asked.append(ctx.connection_id)
        return []

    async def one(base: Annotated[list[str], Depends(base)]) -> list[str]:
        return base

    async def two(base: Annotated[list[str], Depends(base)], one: Annotated[list[str], Depends(one)]) -> bool:
        return base is one

    async def go(
        base: Annotated[list[str], Depends(base)],
        again: Annotated[list[str], Depends(base)],
        same: Annotated[bool, Depends(two)],
    ) -> bool:
        return same and base is again

    app = serve(go)

    for connection_id in ("c1", "c2"):
        assert (await invoke(app, "go", connection_id=connection_id))["result"] is True
    assert asked == ["c1", "c2"]


async def test_arguments_are_bound_before_anything_is_asked() -> None:
    async def never() -> None:
        raise AssertionError("the dependency was asked")

    async def go(count: int, value: Annotated[None, Depends(never)]) -> None: ...

    assert "expected int" in (await invoke(serve(go), "go", "x"))["error"]


async def test_context_variables_reach_dependencies_and_handlers_in_threads() -> None:
    variable: ContextVar[str] = ContextVar("variable")

    async def sets(ctx: Context) -> None:
        variable.set(ctx.connection_id)

    def reads(_: Annotated[None, Depends(sets)]) -> str:
        return variable.get()

    def go(ctx: Context, read: Annotated[str, Depends(reads)]) -> bool:
        return read == variable.get() == ctx.connection_id

    app = serve(go)
    answers = await asyncio.gather(*(invoke(app, "go", connection_id=f"c{n}") for n in range(8)))
    assert [answer["result"] for answer in answers] == [True] * 8


async def test_a_generator_in_threads_can_reset_the_context_variable_that_it_set() -> None:
    variable: ContextVar[str] = ContextVar("variable", default="outside")

    def sets() -> Iterator[str]:
        token = variable.set("inside")
        yield variable.get()
        variable.reset(token)

    async def go(value: Annotated[str, Depends(sets)]) -> str:
        return value

    assert (await invoke(serve(go), "go"))["result"] == "inside"


# --- how they end ---


class Steps:
    """Two generators, the second depending on the first, and what happened in which order."""

    def __init__(self) -> None:
        self.happened: list[str] = []

    async def outer(self) -> AsyncIterator[str]:
        self.happened.append("outer begins")
        try:
            yield "outer"
        except BaseException as error:
            self.happened.append(f"outer sees {type(error).__name__}")
            raise
        finally:
            self.happened.append("outer ends")


async def test_they_end_in_reverse_order_when_the_result_has_been_encoded() -> None:
    steps = Steps()

    class Encoded:
        pass

    def enc_hook(value: Encoded) -> str:
        steps.happened.append("encoded")
        return "result"

    def inner(outer: Annotated[str, Depends(steps.outer)]) -> Iterator[str]:
        steps.happened.append("inner begins")
        yield f"inner of {outer}"
        steps.happened.append("inner ends")

    async def go(ctx: Context, inner: Annotated[str, Depends(inner)]) -> Encoded:
        steps.happened.append(f"handler with {inner}")
        ctx.after(steps.happened.append, "after")
        return Encoded()

    app = serve(go, enc_hook=enc_hook)

    assert (await invoke(app, "go"))["result"] == "result"
    await app.drain()
    assert steps.happened == [
        "outer begins",
        "inner begins",
        "handler with inner of outer",
        "encoded",
        "inner ends",
        "outer ends",
        "after",
    ]


async def test_they_see_the_error_of_the_call_which_stays_its_error() -> None:
    steps = Steps()

    def swallows(outer: Annotated[str, Depends(steps.outer)]) -> Iterator[str]:
        try:
            yield outer
        except HubError:
            steps.happened.append("swallowed")

    async def go(outer: Annotated[str, Depends(steps.outer)]) -> None:
        raise HubError("The room is full.")

    async def swallowed(value: Annotated[str, Depends(swallows)]) -> None:
        raise HubError("The room is full.")

    assert (await invoke(serve(go), "go"))["error"] == "The room is full."
    assert steps.happened == ["outer begins", "outer sees HubError", "outer ends"]
    assert (await invoke(serve(swallowed), "go"))["error"] == "The room is full."


@pytest.mark.parametrize("dependency", [yielded, yielded_in_thread])
async def test_the_log_shows_where_a_handler_with_dependencies_failed(
    dependency: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def go(_: Annotated[str, Depends(dependency)]) -> None:
        raise ValueError("this very line")

    assert (await invoke(serve(go), "go"))["error"] == MASKED
    assert 'raise ValueError("this very line")' in caplog.text


async def test_they_see_that_a_result_cannot_be_encoded() -> None:
    steps = Steps()

    async def go(outer: Annotated[str, Depends(steps.outer)]) -> object:
        return object()

    assert (await invoke(serve(go), "go"))["error"] == MASKED
    assert "outer sees TypeError" in steps.happened


async def test_an_error_at_their_end_is_the_error_of_the_call(caplog: pytest.LogCaptureFixture) -> None:
    async def refuses() -> AsyncIterator[None]:
        yield
        raise HubError("The transaction failed.")

    def breaks() -> Iterator[None]:
        yield
        raise ValueError("hunter2")

    async def go(_: Annotated[None, Depends(refuses)]) -> str:
        return "done"

    async def broken(_: Annotated[None, Depends(breaks)]) -> str:
        return "done"

    assert (await invoke(serve(go), "go"))["error"] == "The transaction failed."
    assert (await send(serve(go), "go")).status_code == 204
    assert (await invoke(serve(broken), "go"))["error"] == MASKED
    assert "hunter2" in caplog.text


@pytest.mark.parametrize("in_a_thread", [True, False])
async def test_a_dependency_refuses_the_call_by_raising(in_a_thread: bool) -> None:
    steps = Steps()

    async def refuses(outer: Annotated[str, Depends(steps.outer)]) -> None:
        raise Forbidden

    def refuses_in_thread(outer: Annotated[str, Depends(steps.outer)]) -> None:
        raise Forbidden

    async def go(_: Annotated[None, Depends(refuses_in_thread if in_a_thread else refuses)]) -> None:
        raise AssertionError("the handler ran")

    assert (await invoke(serve(go), "go"))["error"] == str(Forbidden())
    assert steps.happened == ["outer begins", "outer sees Forbidden", "outer ends"]


async def test_the_time_limit_counts_for_them_and_they_end_when_it_passes() -> None:
    steps = Steps()

    def in_threads(outer: Annotated[str, Depends(steps.outer)]) -> Iterator[None]:
        try:
            yield
        finally:
            steps.happened.append("inner ends")

    async def slow(_: Annotated[None, Depends(in_threads)]) -> None:
        await asyncio.Event().wait()

    async def go(_: Annotated[None, Depends(slow)]) -> None:
        raise AssertionError("the handler ran")

    assert (await invoke(serve(go, handler_timeout=0.1), "go"))["error"] == TIMED_OUT
    assert steps.happened == ["outer begins", "inner ends", "outer sees CancelledError", "outer ends"]


async def test_a_generator_that_yields_nothing_is_an_error_of_its_author() -> None:
    async def nothing(ctx: Context) -> AsyncIterator[None]:
        if not ctx.connection_id:
            yield

    async def go(_: Annotated[None, Depends(nothing)]) -> None: ...

    assert (await invoke(serve(go), "go"))["error"] == MASKED


# --- overrides ---


async def test_a_test_replaces_a_dependency_wherever_it_is_wanted() -> None:
    async def base() -> str:
        raise AssertionError("the real one was asked")

    async def user(base: Annotated[str, Depends(base)]) -> str:
        return f"user of {base}"

    def fake(ctx: Context) -> Iterator[str]:
        yield f"fake for {ctx.event}"

    async def go(user: Annotated[str, Depends(user)], base: Annotated[str, Depends(base)]) -> Any:
        return [user, base]

    app = serve(go)
    app.dependency_overrides[base] = fake
    assert (await invoke(app, "go"))["result"] == ["user of fake for go", "fake for go"]
    app.dependency_overrides[user] = lambda: "somebody"
    assert (await invoke(app, "go"))["result"] == ["somebody", "fake for go"]


async def test_a_replacement_that_wants_what_it_replaces_is_told_so(caplog: pytest.LogCaptureFixture) -> None:
    async def base() -> str:
        return "base"

    async def wraps(base: Annotated[str, Depends(base)]) -> str:
        return base

    async def go(base: Annotated[str, Depends(base)]) -> str:
        return base

    app = serve(go)
    app.dependency_overrides[base] = wraps

    assert (await invoke(app, "go"))["error"] == MASKED
    assert "dependency_overrides" in caplog.text
    assert "depends on itself" in caplog.text


# --- refusals at registration ---


def cycle_one(value: "Annotated[str, Depends(cycle_two)]") -> str:
    return value


def cycle_two(value: Annotated[str, Depends(cycle_one)]) -> str:
    return value


def wants_argument(text: str) -> str:
    return text


def wants_by_position(ctx: Context, /) -> str:
    return ctx.event


def wants_many(*contexts: Context) -> int:
    return len(contexts)


def unresolved(value: "NoSuchName") -> None:  # type: ignore[name-defined]  # noqa: F821
    ...


def with_default(user: str = Depends(in_loop)) -> str:  # type: ignore[assignment]
    return user


def fastapi_inside(user: Annotated[str, fastapi.Depends(in_loop)]) -> str:
    return user


@dataclasses.dataclass
class Unhashable:
    size: int

    def __call__(self) -> int:
        return self.size


OURS = "from signalr_upstream import Depends"


@pytest.mark.parametrize(
    ("dependency", "reasons"),
    [
        (cycle_one, ["cycle_one (", "depends on itself"]),
        (wants_argument, ["`text` of wants_argument (", "can never be filled", "Context, Request and other"]),
        (wants_by_position, ["`ctx` of wants_by_position (", "no `/`"]),
        (wants_many, ["`contexts` of wants_many (", "no `*`"]),
        (unresolved, ["unresolved (", "cannot be read", "NoSuchName"]),
        (with_default, ["`user: Annotated[T, Depends(...)]`", OURS, "not as its default"]),
        (fastapi_inside, ["`user` has the Depends of fastapi.params", OURS]),
        ("text", ["Depends takes a function, not 'text'"]),
        (Unhashable(1), ["Depends takes a function, not Unhashable"]),
    ],
)
def test_a_dependency_that_can_never_be_served_is_refused_with_both_places(
    dependency: Any, reasons: list[str]
) -> None:
    async def go(ctx: Context, value: Annotated[Any, Depends(dependency)]) -> None: ...

    with pytest.raises(RegistrationError) as refused:
        Hub("chat").on("go")(go)

    text = str(refused.value)
    assert f"go ({__file__}:" in text
    for reason in reasons:
        assert reason in text


async def default_of_ours(user: str = Depends(in_loop)) -> None:  # type: ignore[assignment]
    ...


async def default_of_fastapi(user: str = fastapi.Depends(in_loop)) -> None: ...


async def default_security(user: str = fastapi.Security(in_loop)) -> None: ...


async def annotated_of_fastapi(user: Annotated[str, fastapi.Depends(in_loop)]) -> None: ...


async def annotated_security(user: Annotated[str, fastapi.Security(in_loop)]) -> None: ...


async def within_a_union(user: Annotated[str, Depends(in_loop)] | None = None) -> None: ...


async def within_a_list(users: list[Annotated[str, fastapi.Depends(in_loop)]]) -> None: ...


async def many(*users: Annotated[str, Depends(in_loop)]) -> None: ...


async def named(**users: Annotated[str, Depends(in_loop)]) -> None: ...


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (default_of_ours, f"`user: Annotated[T, Depends(...)]` ({OURS})"),
        (default_of_fastapi, f"`user: Annotated[T, Depends(...)]` ({OURS})"),
        (default_security, f"`user: Annotated[T, Depends(...)]` ({OURS})"),
        (annotated_of_fastapi, f"the Depends of fastapi.params; ours is needed: {OURS}"),
        (annotated_security, f"the Security of fastapi.params; ours is needed: {OURS}"),
        (within_a_union, "`user`: Depends stands outermost"),
        (within_a_list, "`users`: Depends stands outermost"),
        (many, "`users` cannot be injected"),
        (named, "`users` cannot be injected"),
    ],
)
def test_a_parameter_that_can_never_be_injected_is_refused(handler: Any, reason: str) -> None:
    with pytest.raises(RegistrationError) as refused:
        Hub("chat").on("go")(handler)

    assert reason in str(refused.value)
    assert f"{handler.__name__} ({__file__}:" in str(refused.value)


def test_there_is_no_context_when_a_client_negotiates() -> None:
    async def user(name: Annotated[str, Depends(in_loop)]) -> str:
        return name

    async def who(user: Annotated[str, Depends(user)]) -> Identity:
        return Identity(user)

    with pytest.raises(RegistrationError, match="there is no Context yet when a client negotiates"):
        Hub("chat").negotiate(who)


def test_a_dependency_shows_what_it_asks() -> None:
    assert repr(Depends(in_loop)) == "Depends(in_loop)"
    assert repr(Depends(Prefixed("x"))).startswith("Depends(<")
