"""What the clients of an app can call and are called with: the methods of every hub, with JSON schemas."""

import inspect
import re
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from ..app import UpstreamApp
from ..hubs.binding import Parameter
from ..hubs.hub import Hub
from ..models import is_model
from ..protocol.upstream import MESSAGES

REFERENCE: Final = "#/components/schemas/{name}"

Schema = dict[str, Any]


class Argument(Struct, frozen=True):
    """One argument of a method.

    Attributes:
        is_rest: any number of them.
    """

    name: str
    schema: Schema
    is_required: bool
    is_rest: bool


class Method(Struct, frozen=True):
    """One method, of a hub or of its clients.

    Attributes:
        text: what its author says about it.
        result: None where nobody waits for one.
        is_stream: the results are many, called for with ``stream()``.
    """

    name: str
    text: str
    arguments: list[Argument]
    result: Schema | None
    is_stream: bool = False


class HubContract(Struct, frozen=True):
    """The methods of a hub that clients call, and those of clients that the hub calls."""

    name: str
    methods: list[Method]
    client_methods: list[Method]


class Contract(Struct, frozen=True):
    """All hubs, and the schemas that their methods refer to, by name."""

    hubs: list[HubContract]
    schemas: dict[str, Schema]


class _Signature(Struct, frozen=True):
    name: str
    text: str
    parameters: list[Parameter]
    result: Any
    is_stream: bool = False


def contract_of(apps: Sequence[UpstreamApp], taken: Collection[str] = ()) -> Contract:
    """Read the contract from handlers and client classes.

    Args:
        taken: what no schema may be called.

    Raises:
        TypeError: a type that has no JSON schema, or two with one name.
    """
    hubs = [
        (app.services.name_of(hub.name), list(_handlers(hub)), list(_client_methods(hub.client)))
        for app in apps
        for hub in app.hubs
    ]
    signatures = [one for _, methods, client_methods in hubs for one in (*methods, *client_methods)]
    types = [kind for one in signatures for kind in (*(p.annotation for p in one.parameters), one.result)]
    try:
        found, schemas = msgspec.json.schema_components(
            types, schema_hook=_model_schema, ref_template=REFERENCE
        )
    except KeyError as exc:  # msgspec's way to say that one name is left for two
        raise TypeError(
            f"{exc} and another class have the same name, or the same ASCII letters in it: rename one"
        ) from exc
    definitions = dict(schemas)
    lifted = [_lifted(schema, definitions) for schema in found]
    for name, schema in schemas.items():
        definitions[name] = _lifted(schema, definitions)
    names: dict[str, str] = {}
    for name in definitions:
        names[name] = free(identifier(name), {*taken, *names.values()})
    described = iter(_renamed(lifted, names))

    def method(one: _Signature) -> Method:
        arguments = [
            Argument(p.name, next(described), is_required=p.is_required, is_rest=p.is_rest)
            for p in one.parameters
        ]
        result = next(described)
        waits = one.result is not type(None) and one.result is not None
        return Method(one.name, one.text, arguments, result if waits else None, one.is_stream)

    contracts = [
        HubContract(name, [method(one) for one in methods], [method(one) for one in client_methods])
        for name, methods, client_methods in hubs
    ]
    return Contract(contracts, {names[name]: _renamed(schema, names) for name, schema in definitions.items()})


def _handlers(hub: Hub[Any]) -> Iterator[_Signature]:
    for handler in hub.handlers:
        if handler.category == MESSAGES and not handler.event.endswith("*"):
            yield _Signature(
                handler.event,
                inspect.getdoc(handler.function) or "",
                handler.binding.parameters,
                handler.binding.result,
                handler.binding.is_stream,
            )


def _client_methods(client: type | None) -> Iterator[_Signature]:
    """The methods of a client class; the hub has looked at their form."""
    for name, function in inspect.getmembers(client, inspect.isfunction) if client is not None else ():
        if name.startswith("_"):
            continue
        hints = typing.get_type_hints(function, include_extras=True)
        parameters = [
            Parameter(
                parameter.name,
                hints.get(parameter.name, Any),
                is_required=parameter.default is parameter.empty
                and parameter.kind is not parameter.VAR_POSITIONAL,
                is_rest=parameter.kind is parameter.VAR_POSITIONAL,
            )
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        yield _Signature(name, inspect.getdoc(function) or "", parameters, hints["return"])


def _model_schema(kind: Any) -> Schema:
    """The schema of a class with ``model_json_schema``, as pydantic's; its definitions are lifted out later."""
    if not is_model(kind) or not hasattr(kind, "model_json_schema"):
        raise NotImplementedError
    schema: Schema = kind.model_json_schema(ref_template=REFERENCE.format(name="{model}"))
    inner = schema.pop("$defs", {})
    reference = {"$ref": REFERENCE.format(name=kind.__name__)}
    # A class that holds itself is described among the inner ones already.
    return {**reference, "$defs": inner if schema == reference else {**inner, kind.__name__: schema}}


def _lifted(schema: Any, definitions: dict[str, Schema]) -> Any:
    """The schema with inner definitions moved to the others."""
    if isinstance(schema, list):
        return [_lifted(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    for name, inner in schema.get("$defs", {}).items():
        if definitions.setdefault(name, inner) != inner:
            raise TypeError(f"two classes are called {name}")
    return {key: _lifted(value, definitions) for key, value in schema.items() if key != "$defs"}


def _renamed(schema: Any, names: Mapping[str, str]) -> Any:
    """The schema, or a list of them, with references to the new names of definitions."""
    if isinstance(schema, list):
        return [_renamed(item, names) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: REFERENCE.format(name=names[value.rpartition("/")[2]])
        if key == "$ref" and isinstance(value, str)
        else _renamed(value, names)
        for key, value in schema.items()
    }


def identifier(text: str) -> str:
    """A name that programming languages take."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    return name if name and not name[0].isdigit() else f"_{name}"


def free(name: str, taken: Collection[str]) -> str:
    """The name, made longer until it is none of those."""
    while name in taken:
        name += "_"
    return name
