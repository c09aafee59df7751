"""TypeScript interfaces of hubs and their clients, from JSON schemas."""

import json
import re
from collections.abc import Sequence
from typing import Any

from .contract import Argument, Contract, Method, Schema, free, identifier

_PLAIN = {
    "null": "null",
    "boolean": "boolean",
    "integer": "number",
    "number": "number",
    "string": "string",
}
_NAME = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
# Parameters may not be called so in a module.
_KEYWORDS = (
    "arguments await break case catch class const continue debugger default delete do else enum eval export extends "
    "false finally for function if implements import in instanceof interface let new null package private protected "
    "public return static super switch this throw true try typeof var void while with yield"
)
# Nor types; and not as those of the language and of the official client that are used here.
_TYPES = (
    "any bigint boolean infer keyof never number object readonly string symbol undefined unique unknown "
    "IStreamResult Promise Record"
)
_RESERVED = frozenset(_KEYWORDS.split())
TAKEN = _RESERVED.union(_TYPES.split())


def as_typescript(contract: Contract) -> str:
    """A module: a type for each schema, ``<Hub>Hub`` with what clients invoke, ``<Hub>Client`` with what they offer."""
    taken = set(contract.schemas)
    blocks = ["// Made by `signalr-upstream schema --format typescript`."]
    if any(method.is_stream for hub in contract.hubs for method in hub.methods):
        blocks.append('import type { IStreamResult } from "@microsoft/signalr";')
    for name, schema in contract.schemas.items():
        blocks.append(_declaration(name, schema))
    for hub in contract.hubs:
        base = "".join(part[:1].upper() + part[1:] for part in identifier(hub.name).split("_"))
        name = free(f"{base}Hub", taken)
        text = f"What clients of {hub.name} call: connection.invoke(name, ...arguments), or send, or stream."
        blocks.append(_interface(name, text, hub.methods, waits=True))
        taken.add(name)
        if hub.client_methods:
            name = free(f"{base}Client", taken)
            text = f"What clients of {hub.name} are called with: connection.on(name, method)."
            blocks.append(_interface(name, text, hub.client_methods, waits=False))
            taken.add(name)
    return "\n\n".join(blocks) + "\n"


def _interface(name: str, text: str, methods: Sequence[Method], *, waits: bool) -> str:
    lines = [_comment(text, ""), f"export interface {name} {{"]
    for method in methods:
        if method.text:
            lines.append(_comment(method.text, "  "))
        # Without quotes, `new(...)` is how the interface is constructed.
        key = '"new"' if method.name == "new" else _property(method.name)
        lines.append(f"  {key}({_arguments(method)}): {_result(method, waits)};")
    return "\n".join([*lines, "}"])


def _result(method: Method, waits: bool) -> str:
    result = "void" if method.result is None else type_of(method.result)
    if method.is_stream:
        return f"IStreamResult<{result}>"
    if waits:
        return f"Promise<{result}>"
    return result if method.result is None else f"{result} | Promise<{result}>"


def _arguments(method: Method) -> str:
    taken = set(_RESERVED)
    arguments = []
    for argument in method.arguments:
        name = free(argument.name, taken)  # Python's names, letters of all scripts included, are TypeScript's
        taken.add(name)
        arguments.append(_argument(name, argument))
    return ", ".join(arguments)


def _argument(name: str, argument: Argument) -> str:
    if argument.is_rest:
        return f"...{name}: {_grouped(type_of(argument.schema))}[]"
    return f"{name}{'' if argument.is_required else '?'}: {type_of(argument.schema)}"


def _declaration(name: str, schema: Schema) -> str:
    comment = f"{_comment(schema['description'], '')}\n" if schema.get("description") else ""
    if schema.get("type") == "object" and schema.get("properties") and not schema.get("additionalProperties"):
        return f"{comment}export interface {name} {_members(schema)}"
    return f"{comment}export type {name} = {type_of(schema)};"


def type_of(schema: Any) -> str:
    """The type of the values that a JSON schema takes."""
    if not isinstance(schema, dict):
        return "never" if schema is False else "unknown"
    if "$ref" in schema:
        name: str = schema["$ref"].rpartition("/")[2]
        return name
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(dict.fromkeys(type_of(item) for item in schema[key]))
    if "allOf" in schema:
        return " & ".join(_grouped(type_of(item)) for item in schema["allOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"])
    kind = schema.get("type")
    if isinstance(kind, list):
        return " | ".join(type_of({**schema, "type": one}) for one in kind)
    if kind == "array":
        return _array(schema)
    if kind == "object":
        return _object(schema)
    return _PLAIN.get(str(kind), "unknown")


def _array(schema: Schema) -> str:
    if "prefixItems" not in schema:
        return f"{_grouped(type_of(schema.get('items')))}[]"
    items = [type_of(item) for item in schema["prefixItems"]]
    required = schema.get("minItems", len(items))
    places = [f"{_grouped(item)}?" if position >= required else item for position, item in enumerate(items)]
    if schema.get("items"):
        places.append(f"...{_grouped(type_of(schema['items']))}[]")
    return f"[{', '.join(places)}]"


def _object(schema: Schema) -> str:
    others = schema.get("additionalProperties")
    if not schema.get("properties"):
        return f"Record<string, {type_of(others)}>"
    members = _members(schema)
    return f"{members} & Record<string, unknown>" if others else members


def _members(schema: Schema) -> str:
    required = schema.get("required", ())
    lines = ["{"]
    for name, inner in schema["properties"].items():
        mark = "" if name in required else "?"
        lines.append(f"  {_property(name)}{mark}: {type_of(inner)};")
    return "\n".join([*lines, "}"])


def _property(name: str) -> str:
    return name if _NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _grouped(text: str) -> str:
    return f"({text})" if "|" in text or "&" in text else text


def _comment(text: str, indent: str) -> str:
    lines = text.replace("*/", "* /").splitlines()
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */"
    return "\n".join([f"{indent}/**", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"])
