"""pydantic models as arguments, results and in sends, of clients of both protocols."""

import datetime
import enum
import uuid
from typing import Annotated, Any, Literal

import httpx
import msgspec
import pydantic
import pytest
from pydantic.alias_generators import to_camel

from signalr_upstream import Context, Hub, HubError, ServiceClient
from signalr_upstream.errors import RegistrationError, ResultError
from signalr_upstream.streams import MASKED

from .support import CONNECTION_STRING, RestService, invoke, invoke_msgpack, send, serve

pytestmark = pytest.mark.anyio

SECRET = "hunter2"


class Colour(enum.Enum):
    RED = "red"


class Author(pydantic.BaseModel):
    name: str
    id: uuid.UUID | None = None


class Message(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(alias_generator=to_camel, populate_by_name=True)

    text_body: str = pydantic.Field(min_length=1)
    sent_at: datetime.datetime | None = None
    author: Author | None = None
    colours: list[Colour] = []
    url: pydantic.AnyUrl | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    count: int
    kind: Literal["a", "b"] = "a"

    @pydantic.field_validator("count")
    @classmethod
    def no_ones(cls, value: int) -> int:
        if value == 1:
            raise ValueError(f"{SECRET} is not allowed")
        if value == 2:
            raise HubError("Two is too many.")
        return value


class Page(msgspec.Struct):
    messages: list[Message]
    first: Message | None = None


WIRE: dict[str, Any] = {
    "textBody": "hi",
    "sentAt": "2024-05-01T10:00:00Z",
    "author": {"name": "ann", "id": "0f8fad5b-d9cb-469f-a165-70867728950e"},
    "colours": ["red"],
    "url": "https://a.example/",
}


async def test_a_model_comes_in_and_goes_out_as_its_json() -> None:
    async def go(message: Message) -> Message:
        assert message.sent_at == datetime.datetime(2024, 5, 1, 10, tzinfo=datetime.UTC)
        assert message.author is not None
        assert message.author.name == "ann"
        assert message.colours == [Colour.RED]
        return message

    assert (await invoke(serve(go), "go", WIRE))["result"] == WIRE
    assert (await invoke_msgpack(serve(go), "go", WIRE))[4] == WIRE


async def test_models_are_taken_wherever_msgspec_takes_a_type() -> None:
    async def go(  # noqa: PLR0917 - all kinds at once
        first: Message,
        listed: list[Message],
        named: dict[str, Author],
        page: Page,
        maybe: Message | None,
        either: Author | None = None,
        *rest: Author,
    ) -> Any:
        assert isinstance(page.messages[0], Message)
        assert isinstance(page.first, Message)
        return [first, listed, named, page, maybe, either, rest]

    one = {**WIRE, "author": None, "url": None}
    ann = {"name": "ann", "id": None}
    arguments = [one, [one, one], {"a": ann}, {"messages": [one], "first": one}, None]
    app = serve(go)

    assert (await invoke(app, "go", *arguments))["result"] == [*arguments, None, []]
    assert (await invoke_msgpack(app, "go", *arguments, ann, ann))[4] == [*arguments, ann, [ann]]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ({"count": SECRET}, "(count: Input should be a valid integer, unable to parse string as an integer)"),
        ({}, "(count: Field required)"),
        ({"count": 3, "kind": SECRET}, "(kind: Input should be 'a' or 'b')"),
        ({"count": 3, "more": SECRET}, "(more: Extra inputs are not permitted)"),
        ({"count": 1}, "(count: not accepted)"),
        (SECRET, "(value: Input should be a valid dictionary or instance of Strict)"),
    ],
)
async def test_an_error_names_the_member_and_never_shows_the_value(
    argument: Any, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def go(text: str, value: Strict) -> None: ...

    error = f"argument 2 `value`: expected a valid Strict {told}"
    assert (await invoke(serve(go), "go", "x", argument))["error"] == error
    assert (await invoke_msgpack(serve(go), "go", "x", argument))[4] == error
    await send(serve(go), "go", "x", argument)
    assert SECRET not in caplog.text


async def test_an_error_within_a_list_says_where() -> None:
    async def go(*values: list[Strict]) -> None: ...

    answer = await invoke(serve(go), "go", [], [{"count": 3}, {"count": "x"}])

    assert answer["error"].startswith("argument 2: expected a valid Strict (count: ")
    assert answer["error"].endswith("(at [1])")


async def test_of_many_problems_the_first_are_named() -> None:
    class Many(pydantic.BaseModel):
        a: int
        b: int
        c: int
        d: int

    async def go(value: Many) -> None: ...

    error = (await invoke(serve(go), "go", {}))["error"]
    assert error == (
        "argument 1 `value`: expected a valid Many (a: Field required; b: Field required; c: Field required)"
    )


async def test_the_tag_of_a_union_is_a_value_and_not_shown() -> None:
    class A(pydantic.BaseModel):
        kind: Literal["a"]

    class B(pydantic.BaseModel):
        kind: Literal["b"]

    class Either(pydantic.BaseModel):
        value: Annotated[A | B, pydantic.Field(discriminator="kind")]

    async def go(either: Either) -> None: ...

    error = (await invoke(serve(go), "go", {"value": {"kind": SECRET}}))["error"]
    assert error == "argument 1 `either`: expected a valid Either (value: not accepted)"


async def test_a_validator_says_what_it_wants_with_a_hub_error() -> None:
    async def go(value: Strict) -> None: ...

    assert (await invoke(serve(go), "go", {"count": 2}))["error"] == "Two is too many."


async def test_any_class_with_the_two_methods_will_do() -> None:
    class Celsius:
        def __init__(self, degrees: float) -> None:
            self.degrees = degrees

        @classmethod
        def model_validate(cls, value: Any) -> "Celsius":
            if not isinstance(value, int | float):
                raise ValueError(SECRET)
            return cls(value)

        def model_dump(self, **options: Any) -> float:
            return self.degrees

    async def go(value: Celsius) -> Celsius:
        return Celsius(value.degrees + 1)

    assert (await invoke(serve(go), "go", 20.5))["result"] == 21.5
    assert (await invoke(serve(go), "go", "x"))["error"] == "argument 1 `value`: expected a valid Celsius"


# --- sends ---


@pytest.mark.parametrize("protocols", [["json"], ["json", "messagepack"]])
async def test_models_are_sent(protocols: list[str]) -> None:
    service = RestService()
    message = Message(text_body="hi", author=Author(name="ann"))

    async def go(ctx: Context) -> None:
        await ctx.clients.all.send("news", message)

    await invoke(serve(go, http_client=service.client, protocols=protocols), "go")
    async with ServiceClient(CONNECTION_STRING, http_client=service.client, protocols=protocols) as client:
        await client.hub("chat").clients.all.send("news", message)

    for request in service.requests:
        assert b"textBody" in request.content
        assert b"text_body" not in request.content


async def test_the_users_own_hook_writes_what_is_no_model() -> None:
    def enc_hook(value: Any) -> Any:
        if isinstance(value, complex):
            return [value.real, value.imag]
        raise NotImplementedError

    async def go(ctx: Context) -> Any:
        return [1j, Author(name="ann")]

    assert (await invoke(serve(go, enc_hook=enc_hook), "go"))["result"] == [
        [0.0, 1.0],
        {"name": "ann", "id": None},
    ]
    assert (await invoke(serve(go), "go"))["error"] == MASKED


async def test_a_model_is_what_a_client_is_asked_for() -> None:
    class Unknown:
        pass

    service = RestService(lambda _: httpx.Response(200, json={"result": {"name": "ann"}}))
    connection = (
        ServiceClient(CONNECTION_STRING, http_client=service.client).hub("chat").clients.connection("c1")
    )

    assert await connection.invoke("who", result_type=Author) == Author(name="ann")
    for kind, reason in (
        (Strict, r"expected a valid Strict \(count: Field required"),
        (Unknown, "expected Unknown"),
    ):
        with pytest.raises(ResultError, match=reason):
            await connection.invoke("who", result_type=kind)


# --- at registration ---


def test_a_model_beside_other_types_is_refused_at_registration() -> None:
    async def go(value: int | Author) -> None: ...

    with pytest.raises(RegistrationError, match="the type of `value` cannot be decoded"):
        Hub("chat").on("go")(go)
