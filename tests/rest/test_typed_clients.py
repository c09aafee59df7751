"""Typed clients: what their methods send and ask, and what is refused before anything is sent."""

import inspect
import json
import types
from typing import Annotated, Any, Generic, Protocol, TypeVar

import pytest

from signalr_upstream import Context, Depends, Hub, ServiceClient, UpstreamApp
from signalr_upstream.errors import RegistrationError, ResultError
from signalr_upstream.rest.targets import Target
from signalr_upstream.transports.transport import Answer

from ..service import EAST, Service
from ..support import CONNECTION_STRING, RestService, invoke, send

pytestmark = pytest.mark.anyio


class Joins(Protocol):
    async def joined(self, user: str) -> None: ...


class ChatClient(Joins, Protocol):
    async def newMessage(self, room: str, text: str = "", *more: int) -> None: ...  # noqa: N802
    async def confirm(self, question: str) -> bool: ...


class OtherClient(Protocol):
    async def other(self) -> None: ...


def hub_of(service: Service) -> Any:
    return ServiceClient(EAST, transport=service).hub("chat", client=ChatClient)


def sent(service: Service) -> list[tuple[str, Any]]:
    return [
        (url.removeprefix("https://east.example").partition("?")[0], json.loads(body))
        for _, url, _, body in service.requests
    ]


async def test_a_method_that_gives_nothing_sends_to_whom_was_selected() -> None:
    service = Service()
    clients = hub_of(service).clients

    await clients.group("g").newMessage("tea", "hi", 1, 2)
    await clients.all.newMessage("tea")  # with the default that the class has
    await clients.connection("c1").newMessage(text="hi", room="tea")
    await clients.user("ann").joined("bob")  # of the class's base

    assert sent(service) == [
        ("/api/hubs/chat/groups/g/:send", {"target": "newMessage", "arguments": ["tea", "hi", 1, 2]}),
        ("/api/hubs/chat/:send", {"target": "newMessage", "arguments": ["tea", ""]}),
        ("/api/hubs/chat/connections/c1/:send", {"target": "newMessage", "arguments": ["tea", "hi"]}),
        ("/api/hubs/chat/users/ann/:send", {"target": "joined", "arguments": ["bob"]}),
    ]


async def test_a_method_that_gives_something_asks_one_connection() -> None:
    service = Service(lambda *_: Answer(200, [], b'{"result":true}'))
    clients = hub_of(service).clients

    assert await clients.connection("c1").confirm("Sure?") is True
    with pytest.raises(TypeError, match=r"ChatClient\.confirm gives a result, and only one connection can"):
        clients.group("g").confirm("Sure?")

    assert sent(service) == [
        ("/api/hubs/chat/connections/c1/:invoke", {"target": "confirm", "arguments": ["Sure?"]})
    ]


async def test_what_a_client_answers_has_to_be_what_the_class_says() -> None:
    service = Service(lambda *_: Answer(200, [], b'{"result":"yes"}'))

    with pytest.raises(ResultError, match="expected bool, got str"):
        await hub_of(service).clients.connection("c1").confirm("Sure?")


@pytest.mark.parametrize("select", [lambda clients: clients.all, lambda clients: clients.connection("c1")])
def test_wrong_calls_fail_at_once(select: Any) -> None:
    service = Service()
    target = select(hub_of(service).clients)

    with pytest.raises(AttributeError, match=r"ChatClient has no 'newMesage': .*newMessage, confirm"):
        target.newMesage("tea")
    with pytest.raises(TypeError, match=r"ChatClient\.newMessage: missing a required argument: 'room'"):
        target.newMessage()
    with pytest.raises(TypeError, match=r"ChatClient\.joined: too many positional arguments"):
        target.joined("ann", "bob")

    assert service.requests == []


async def test_a_target_that_is_no_python_name_is_sent_untyped() -> None:
    service = Service()

    target = hub_of(service).clients.untyped.all
    await target.send("room:message", 1)

    assert type(target) is Target
    assert sent(service) == [("/api/hubs/chat/:send", {"target": "room:message", "arguments": [1]})]


async def test_a_handler_its_hub_and_its_app_have_typed_clients() -> None:
    chat = Hub("chat", client=ChatClient)

    @chat.on("go")
    async def go(ctx: Context[ChatClient]) -> None:
        await ctx.clients.caller.joined("caller")
        await ctx.clients.others.joined("others")
        await ctx.clients.others_in_group("g").joined("others in g")
        await ctx.clients.untyped.caller.send("plain")
        await chat.clients.all.joined("hub")

    service = RestService()
    app = UpstreamApp(chat, connection_string=CONNECTION_STRING, http_client=service.client)
    await send(app, "go")
    await app.hub(chat).clients.all.joined("app")

    assert [json.loads(request.content)["target"] for request in service.requests] == [
        *["joined"] * 3,
        "plain",
        *["joined"] * 2,
    ]
    assert service.requests[1].url.params.get_list("excluded") == ["c1"]


async def test_filters_of_several_hubs_send_to_typed_ones_too() -> None:
    async def announce(ctx: Context, call_next: Any) -> Any:
        await ctx.clients.all.send("called", ctx.event)
        return await call_next()

    chat = Hub("chat", client=ChatClient)

    @chat.on("go")
    async def go(ctx: Context[ChatClient]) -> int:
        return 1

    service = RestService()
    app = UpstreamApp(
        chat, connection_string=CONNECTION_STRING, http_client=service.client, filters=[announce]
    )

    assert (await invoke(app, "go"))["result"] == 1
    assert [json.loads(request.content)["target"] for request in service.requests] == ["called"]


async def test_a_hub_class_has_typed_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    class Chat(Hub[ChatClient]):
        pass

    monkeypatch.setenv("AzureSignalRConnectionString", EAST)

    with pytest.raises(TypeError, match=r"ChatClient\.joined"):
        Chat("chat", client=ChatClient).clients.all.joined()  # type: ignore[call-arg, unused-coroutine]  # mypy sees it, too


# --- what cannot be registered ---------------------------------------------------------------------------------------


async def annotated_otherwise(ctx: Context[OtherClient]) -> None: ...


async def annotated_with_any(ctx: Context[Any]) -> None: ...


async def annotated_with_base(ctx: Context[Joins]) -> None: ...


async def annotated_untyped(ctx: Context[Target]) -> None: ...


@pytest.mark.parametrize(
    ("hub", "has"), [(Hub("a"), "no client="), (Hub("a", client=ChatClient), "client=ChatClient")]
)
def test_a_context_of_another_client_is_refused(hub: Hub, has: str) -> None:
    with pytest.raises(RegistrationError, match=f"`ctx` is a Context.OtherClient., and its hub has {has}"):
        hub.on("go")(annotated_otherwise)


async def asks_otherwise(other: Context[OtherClient]) -> str:
    return other.event


async def asks_who_asks(event: Annotated[str, Depends(asks_otherwise)]) -> str:
    return event


async def asks_plainly(ctx: Context) -> str:
    return ctx.event


@pytest.mark.parametrize("dependency", [asks_otherwise, asks_who_asks])
def test_a_dependency_on_a_context_of_another_client_is_refused_with_the_handler_that_wants_it(
    dependency: Any,
) -> None:
    async def go(value: Annotated[str, Depends(dependency)]) -> None: ...

    with pytest.raises(RegistrationError) as refused:
        Hub("chat", client=ChatClient).on("go")(go)

    for part in (
        f"go ({__file__}:",
        f"`other` of asks_otherwise ({__file__}:",
        "is a Context[OtherClient], and its hub has client=ChatClient",
        f"ChatClient ({__file__}:{inspect.getsourcelines(ChatClient)[1]})",
    ):
        assert part in str(refused.value)


async def test_a_dependency_on_a_context_that_fits_serves_the_handler() -> None:
    hub = Hub("chat", client=OtherClient)

    @hub.on("go")
    async def go(value: Annotated[str, Depends(asks_otherwise)]) -> str:
        return value

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)

    assert (await invoke(app, "go"))["result"] == "go"


async def test_a_replacement_for_tests_may_say_what_it_likes_of_its_context() -> None:
    hub = Hub("chat", client=ChatClient)

    @hub.on("go")
    async def go(value: Annotated[str, Depends(asks_plainly)]) -> str:
        return value

    app = UpstreamApp(hub, connection_string=CONNECTION_STRING)
    app.dependency_overrides[asks_plainly] = asks_otherwise

    assert (await invoke(app, "go"))["result"] == "go"


async def filters_otherwise(ctx: Context[OtherClient], call_next: Any) -> Any:
    return await call_next()


async def filters_any(ctx: Context[Any], call_next: Any) -> Any: ...


async def filters_base(ctx: Context[Joins], call_next: Any) -> Any: ...


async def filters_without_words(ctx, call_next):  # type: ignore[no-untyped-def]
    ...


async def filters_for_type_checkers(ctx: "Context[Nowhere]", call_next: Any) -> Any:  # type: ignore[name-defined]  # noqa: F821
    ...


@pytest.mark.parametrize("hub", [Hub("a"), Hub("a", client=ChatClient)])
def test_a_filter_of_another_client_is_refused_by_its_hub_and_by_an_app_with_such_a_hub(
    hub: Hub[Any],
) -> None:
    others = Hub("others", client=OtherClient)
    others.filter(filters_otherwise)
    UpstreamApp(others, filters=[filters_otherwise])

    for register in (hub.filter, lambda filter: UpstreamApp(others, hub, filters=[filter])):
        with pytest.raises(RegistrationError, match=r"of hub 'a': `ctx` is a Context\[Other") as refused:
            register(filters_otherwise)
        assert f"filters_otherwise ({__file__}:" in str(refused.value)
        assert hub.client is None or f"client=ChatClient ({__file__}:" in str(refused.value)


def test_a_client_class_without_a_file_is_named_nevertheless() -> None:
    made = types.new_class("Made", (Joins, Protocol))

    with pytest.raises(RegistrationError, match=r"client=Made \(unknown place\)"):
        Hub("a", client=made).filter(filters_otherwise)


@pytest.mark.parametrize(
    "function", [filters_any, filters_base, filters_without_words, filters_for_type_checkers]
)
def test_a_filter_whose_context_fits_or_says_nothing_is_taken(function: Any) -> None:
    hub = Hub("chat", client=ChatClient)

    hub.filter(function)

    assert UpstreamApp(hub, filters=[function]).filters == (function,)


@pytest.mark.parametrize("handler", [annotated_with_any, annotated_with_base, annotated_untyped])
def test_a_context_that_a_client_fits_is_taken(handler: Any) -> None:
    hub = Hub("chat", client=ChatClient)

    hub.on("go")(handler)

    assert len(hub.handlers) == 1


T_contra = TypeVar("T_contra", contravariant=True)


class GenericClient(Protocol, Generic[T_contra]):
    async def take(self, value: T_contra) -> None: ...


async def annotated_with_generic(ctx: Context[GenericClient[int]]) -> None: ...


def test_a_class_may_be_generic() -> None:
    hub = Hub("chat", client=GenericClient[int])

    hub.on("go")(annotated_with_generic)

    assert len(hub.handlers) == 1


class NoProtocol:
    async def joined(self) -> None: ...


class PlainMethod(Protocol):
    def joined(self) -> None: ...


class Attribute(Protocol):
    joined: str


class HidesSend(Protocol):
    async def send(self, text: str) -> None: ...


class NamedArgument(Protocol):
    async def joined(self, *, user: str) -> None: ...


class NamedArguments(Protocol):
    async def joined(self, **users: str) -> None: ...


class SaysNothing(Protocol):
    async def joined(self, user: str): ...  # type: ignore[no-untyped-def]  # that is the point


class Unreadable(Protocol):
    async def joined(self, user: str) -> "NoSuchName": ...  # type: ignore[name-defined]  # noqa: F821 - the point


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (NoProtocol, "takes a typing.Protocol"),
        (5, "takes a typing.Protocol"),
        (PlainMethod, r"PlainMethod.joined has to be a method: async def joined"),
        (Attribute, r"Attribute.joined has to be a method"),
        (HidesSend, r'HidesSend.send hides .*ctx.clients.untyped.all.send\("send", ...\)'),
        (NamedArgument, r"NamedArgument.joined: `user` cannot be sent"),
        (NamedArguments, r"NamedArguments.joined: `users` cannot be sent"),
        (SaysNothing, r"SaysNothing.joined: say what it gives: -> None sends"),
        (Unreadable, r"Unreadable.joined: its types cannot be read: .*NoSuchName"),
    ],
)
def test_a_class_whose_methods_clients_cannot_have_is_refused(client: Any, reason: str) -> None:
    with pytest.raises(RegistrationError, match=reason):
        Hub("chat", client=client)
