"""``signalr-upstream schema``: AsyncAPI's own schema takes the document, and TypeScript's compiler the interfaces."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from signalr_upstream.cli.typescript import type_of

from .conftest import Programs

NODE = Path(__file__).parents[1] / "end_to_end"

APP = '''\
import datetime
import enum
from collections.abc import AsyncIterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, Protocol, TypedDict, TypeVar

import pydantic
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from signalr_upstream import Context, Depends, Hub, UpstreamApp

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 0


class Options(TypedDict, total=False):
    loud: bool


class Message(Struct, kw_only=True):
    """What is said."""

    text: Annotated[str, Meta(description="The words.")]
    color: Color = Color.RED
    pair: tuple[int, str] = (1, "a")
    replies: dict[str, list["Message"]] = {}
    at: datetime.datetime | None = None
    note: str | UnsetType = UNSET


class Circle(Struct, tag="circle"):
    r: float


class Square(Struct, tag="square"):
    side: float


class Box(Struct, Generic[T]):
    item: T


class Inner(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    x: int


class Model(pydantic.BaseModel):
    """With what is in it."""

    inner: Inner
    label: Literal["a", "b"] = "a"


class ChatClient(Protocol):
    async def newMessage(self, message: Message, *tags: str) -> None:
        """Something was said.

        To you */ all.
        """

    async def ask(self, question: str = "?") -> bool: ...

    async def _private(self) -> None: ...


def now() -> int:
    return 1


chat = Hub("chat", client=ChatClient)


@chat.on("connected")
async def joined(ctx: Context[ChatClient]) -> None: ...


@chat.on("sendMessage")
async def send_message(
    ctx: Context[ChatClient], room: str, message: Message, at: Annotated[int, Depends(now)], function: int = 1,
    *rest: int | None,
) -> Box[int]:
    """Say something."""
    return Box(1)


@chat.on("a/b c")
def odd(model: Model, which: Literal["x", 1] | None = None) -> Model | None: ...


@chat.on("a_b_c")
def shapes(shape: Circle | Square, point: Point, anything: Any, raw: Raw, options: Options) -> dict[int, bytes]: ...


@chat.on("count")
async def count(n: int) -> AsyncIterator[int]:
    yield 1


@chat.on("room.*")
async def anything(ctx: Context[ChatClient]) -> None: ...


@chat.on("all")
async def everything(*parts: float): ...


@chat.on("plain")
async def plain() -> None: ...


other = Hub("Chat_")


@other.on("ask")
async def ask(names: set[str]) -> Model: ...


app = UpstreamApp(chat, other, experimental_streams=True)
'''

USE = """\
import type { Box_int, ChatClient, ChatHub, ChatHub_, Message } from "./schema";

declare const hub: ChatHub;
declare const other: ChatHub_;

export async function use(): Promise<void> {
  const message: Message = { text: "hello", color: "red", pair: [1, "a"], replies: { a: [{ text: "b" }] }, at: null };
  const box: Box_int = await hub.sendMessage("lobby", message, 2, 3, null);
  const nothing: void = await hub.plain();
  const label: string | undefined = (await hub["a/b c"]({ inner: { x: 1, more: "y" } }, 1))?.label;
  await hub.a_b_c({ type: "circle", r: 1 }, [1], "any", { any: 1 }, { loud: true });
  hub.count(3).subscribe({ next: (n: number) => console.log(n + box.item, nothing, label), error() {}, complete() {} });
  const model = await other.ask(["a"]);
  model.inner.x.toFixed();
}

export const client: ChatClient = {
  ask: async (question) => question === "?",
  newMessage(message, ...tags) {
    console.log(message.text.length, tags.join());
  },
};

// @ts-expect-error: a room is text
hub.sendMessage(1, { text: "a" });
// @ts-expect-error: no such shape
hub.a_b_c({ type: "triangle", r: 1 }, [1], 1, 1, {});
// @ts-expect-error: no such method
hub["room.*"]();
"""


def schema(programs: Programs, form: str, code: str = APP) -> str:
    result = programs.run_on("schema", code, "--format", form)
    assert result.exit_code == 0, result.output
    return result.output


def compile_typescript(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run npm's compiler, with the official client's types at hand."""
    modules = folder / "node_modules"
    if not modules.exists():
        modules.symlink_to(NODE / "node_modules")
    command = [
        str(NODE / "node_modules/.bin/tsc"),
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--module",
        "esnext",
    ]
    options = ["--moduleResolution", "bundler", "--skipLibCheck"]
    return subprocess.run(
        [*command, *options, *files], cwd=folder, capture_output=True, text=True, check=False
    )


def test_typescript_takes_the_interfaces_and_refuses_what_does_not_fit(
    programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "schema.ts").write_text(schema(programs, "typescript"))
    (tmp_path / "use.ts").write_text(USE)

    compiled = compile_typescript(tmp_path, "schema.ts", "use.ts")

    assert (compiled.returncode, compiled.stdout) == (0, "")


ODD_NAMES = """\
from collections.abc import AsyncIterator
import pydantic
from msgspec import Struct
from signalr_upstream import Hub, UpstreamApp

class Promise(Struct):
    a: int
class Record(Struct):
    a: dict[str, int]
class IStreamResult(Struct):
    a: int
class string(Struct):
    a: str
class readonly(Struct):
    a: str
class Größe(pydantic.BaseModel):
    a: int
class Grüße(pydantic.BaseModel):
    a: str
class Node(pydantic.BaseModel):
    next: "Node | None" = None

chat = Hub("chat")
@chat.on("new")
async def new(名: Größe, 年: Grüße, default: Node, default_: int = 1, *new: string) -> Promise: ...
@chat.on("read")
async def read(record: Record, one: readonly) -> AsyncIterator[IStreamResult]:
    yield IStreamResult(1)
app = UpstreamApp(chat, experimental_streams=True)
"""


def test_names_that_typescript_has_for_something_else_are_others_there(
    programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "schema.ts").write_text(schema(programs, "typescript", ODD_NAMES))
    (tmp_path / "use.ts").write_text("""\
import type { ChatHub } from "./schema";
declare const hub: ChatHub;
const called: Promise<{ a: number }> = hub.new({ a: 1 }, { a: "b" }, { next: { next: null } }, 1, { a: "c" });
hub.read({ a: { b: 1 } }, { a: "b" }).subscribe({ next: (item) => item.a.toFixed(), error() {}, complete() {} });
export default called;
// @ts-expect-error: the first one is of another type
hub.new({ a: "b" }, { a: "b" }, {});
// @ts-expect-error: what is inside has its type, too
hub.new({ a: 1 }, { a: "b" }, { next: { next: 1 } });
""")

    compiled = compile_typescript(tmp_path, "schema.ts", "use.ts")

    assert (compiled.returncode, compiled.stdout) == (0, "")


def test_asyncapi_has_a_name_for_each_class_and_keeps_those_of_typescript(
    programs: Programs, asyncapi: Any
) -> None:
    document = json.loads(schema(programs, "asyncapi", ODD_NAMES))

    assert [error.message for error in asyncapi.iter_errors(document)] == []
    names = {name: found["title"] for name, found in document["components"]["schemas"].items()}
    assert {
        "Promise": "Promise",
        "Record": "Record",
        "Gr_e": "Größe",
        "Gr_e_": "Grüße",
    }.items() <= names.items()


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (True, "unknown"),
        (False, "never"),
        ({}, "unknown"),
        (
            {"allOf": [{"type": "string"}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]},
            "string & (number | null)",
        ),
        ({"oneOf": [{"const": 1}, {"const": "a"}]}, '1 | "a"'),
        ({"type": ["integer", "null"]}, "number | null"),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
            "[number, ...string[]]",
        ),
        ({"type": "object", "additionalProperties": False}, "Record<string, never>"),
        ({"type": "object", "properties": {"a-b": True}}, '{\n  "a-b"?: unknown;\n}'),
    ],
)
def test_every_kind_of_schema_has_a_type(schema: Any, expected: str) -> None:
    # pydantic writes some that msgspec does not.
    assert type_of(schema) == expected


def test_without_streams_and_collisions_the_module_is_plain(programs: Programs) -> None:
    code = "from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp(Hub('chat'))\n"

    assert schema(programs, "typescript", code) == (
        "// Made by `signalr-upstream schema --format typescript`.\n\n"
        "/** What clients of chat call: connection.invoke(name, ...arguments), or send, or stream. */\n"
        "export interface ChatHub {\n}\n"
    )


def test_the_helpers_of_the_guide_fit(programs: Programs, tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
    [shown] = re.findall(r"^```ts\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "schema.ts").write_text(schema(programs, "typescript"))
    (tmp_path / "use.ts").write_text(
        'import type { HubConnection } from "@microsoft/signalr";\ndeclare const connection: HubConnection;\n'
        + shown
        + """
export const done: Promise<void> = invoke("plain");
on("newMessage", (message) => console.log(message.text));
// @ts-expect-error: no such method
invoke("nothing");
// @ts-expect-error: it takes numbers
invoke("all", "a");
"""
    )

    compiled = compile_typescript(tmp_path, "schema.ts", "use.ts")

    assert (compiled.returncode, compiled.stdout) == (0, "")


def test_comments_and_names_are_those_of_the_author(programs: Programs) -> None:
    text = schema(programs, "typescript")

    assert "/** What is said. */\nexport interface Message {" in text
    assert "  /** Say something. */\n  sendMessage(room: string, message: Message, function_?: number" in text
    assert "  /**\n   * Something was said.\n   *\n   * To you * / all.\n   */\n  newMessage(" in text
    assert "room.*" not in text
    assert "_private" not in text


@pytest.fixture(scope="module")
def asyncapi() -> Any:
    """The JSON schema of AsyncAPI 3.0.0 documents, as its project publishes it."""
    text = (NODE / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text()
    return jsonschema.Draft7Validator(json.loads(text))


def test_asyncapis_schema_takes_the_document(programs: Programs, asyncapi: Any) -> None:
    document = json.loads(schema(programs, "asyncapi"))

    assert [error.message for error in asyncapi.iter_errors(document)] == []
    assert list(asyncapi.iter_errors(document | {"channels": 1}))  # it does look


def test_every_reference_of_the_document_leads_somewhere(programs: Programs) -> None:
    document = json.loads(schema(programs, "asyncapi"))

    references = list(references_of(document))
    assert len(references) > 20
    for reference in references:
        place = document
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


def references_of(value: Any) -> Any:
    if isinstance(value, dict):
        yield from ([value["$ref"]] if "$ref" in value else [])
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references_of(item)


@pytest.mark.parametrize(
    ("message", "fits", "does_not"),
    [
        ("receive.sendMessage", ["lobby", {"text": "a"}, 1, None, 2], ["lobby", {"text": 1}]),
        ("receive.sendMessage", ["lobby", {"text": "a"}], ["lobby"]),
        ("receive.a_b_c", [{"inner": {"x": 1}}], [{"inner": {"x": 1}}, None, 2]),
        ("receive.a_b_c_", [{"type": "circle", "r": 1}, [1, 2], 1, 1, {}], [{"r": 1}, [1, 2], 1, 1, {}]),
        ("receive.all", [1, 2.5], ["a"]),
        ("receive.plain", [], [1]),
        ("send.newMessage", [{"text": "a"}, "b"], [{"text": "a"}, 1]),
        ("send.ask.result", True, "yes"),
        ("receive.count.result", 1, "a"),
    ],
)
def test_payloads_are_the_arguments_of_an_invocation(
    programs: Programs, message: str, fits: Any, does_not: Any
) -> None:
    document = json.loads(schema(programs, "asyncapi"))

    payload = document["channels"]["chat"]["messages"][message]["payload"]
    validator = jsonschema.Draft7Validator(payload | {"components": document["components"]})
    assert [error.message for error in validator.iter_errors(fits)] == []
    assert not validator.is_valid(does_not)


def test_operations_say_who_calls_whom(programs: Programs) -> None:
    document = json.loads(schema(programs, "asyncapi"))

    assert {name: operation["action"] for name, operation in document["operations"].items()} == {
        "chat.receive.sendMessage": "receive",
        "chat.receive.a_b_c": "receive",
        "chat.receive.a_b_c_": "receive",
        "chat.receive.count": "receive",
        "chat.receive.all": "receive",
        "chat.receive.plain": "receive",
        "chat.send.ask": "send",
        "chat.send.newMessage": "send",
        "Chat.receive.ask": "receive",
    }
    assert "reply" not in document["operations"]["chat.receive.plain"]


def test_the_application_is_part_of_the_hubs_name(programs: Programs) -> None:
    code = (
        "from signalr_upstream import Hub, UpstreamApp\napp = UpstreamApp(Hub('chat'), application='shop')\n"
    )

    assert list(json.loads(schema(programs, "asyncapi", code))["channels"]) == ["shop_chat"]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        ("Odd", "a type cannot be described"),
        ("tuple[A.Model, B.Model]", "two classes are called Model"),
        ("tuple[Größe, Grüße]", "and another class have the same name, or the same ASCII letters in it"),
    ],
)
def test_a_type_without_a_schema_is_named(programs: Programs, annotation: str, says: str) -> None:
    code = f"""\
from typing import Any
import msgspec
import pydantic
from signalr_upstream import Hub, UpstreamApp

class Odd:
    @classmethod
    def model_validate(cls, value: Any) -> Any: ...
    def model_dump(self) -> Any: ...
class A:
    class Model(pydantic.BaseModel):
        a: int
class B:
    class Model(pydantic.BaseModel):
        b: int
class Größe(msgspec.Struct):
    a: int
class Grüße(msgspec.Struct):
    a: int
chat = Hub("chat")
@chat.on("say")
def say(value: {annotation}) -> None: ...
app = UpstreamApp(chat)
"""
    result = programs.run_on("schema", code)

    assert result.exit_code == 1
    assert says in result.output
