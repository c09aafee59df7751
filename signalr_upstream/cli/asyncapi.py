"""An AsyncAPI document of hubs: what clients send and get, as a program that answers would see it.

Spec: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from .contract import Argument, Contract, HubContract, Method, Schema, free, identifier

VERSION = "3.0.0"


def as_asyncapi(contract: Contract) -> str:
    """The document, in JSON."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for hub in contract.hubs:
        key = free(identifier(hub.name), channels)
        messages: dict[str, Any] = {}
        for action, method in _directions(hub):
            names = _add_messages(messages, action, method)
            operations[f"{key}.{names[0]}"] = _operation(key, action, method, names)
        channels[key] = {"address": f"/{hub.name}", "title": hub.name, "messages": messages}
    document = {
        "asyncapi": VERSION,
        "info": {
            "title": " and ".join(hub.name for hub in contract.hubs),
            "version": "1.0.0",
            "description": "Hubs behind Azure SignalR Service. A message is the list of an invocation's arguments.",
        },
        "channels": channels,
        "operations": operations,
        "components": {"schemas": {name: _draft_7(schema) for name, schema in contract.schemas.items()}},
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _directions(hub: HubContract) -> Iterator[tuple[str, Method]]:
    """What the app receives, and what it sends."""
    yield from (("receive", method) for method in hub.methods)
    yield from (("send", method) for method in hub.client_methods)


def _add_messages(messages: dict[str, Any], action: str, method: Method) -> list[str]:
    """Add the message of a method, and that of its result."""
    name = free(f"{action}.{identifier(method.name)}", messages)
    message: dict[str, Any] = {"name": method.name, "payload": _arguments(method.arguments)}
    if method.text:
        message["description"] = method.text
    messages[name] = message
    if method.result is None:
        return [name]
    kind = "item of the stream" if method.is_stream else "result"
    messages[f"{name}.result"] = {"title": f"{kind} of {method.name}", "payload": _draft_7(method.result)}
    return [name, f"{name}.result"]


def _operation(channel: str, action: str, method: Method, names: Sequence[str]) -> dict[str, Any]:
    reference = f"#/channels/{channel}"
    operation: dict[str, Any] = {
        "action": action,
        "title": method.name,
        "channel": {"$ref": reference},
        "messages": [{"$ref": f"{reference}/messages/{names[0]}"}],
    }
    if len(names) > 1:
        operation["reply"] = {
            "channel": {"$ref": reference},
            "messages": [{"$ref": f"{reference}/messages/{names[1]}"}],
        }
    return operation


def _arguments(arguments: Sequence[Argument]) -> Schema:
    """A list with a schema for each place."""
    single = [argument for argument in arguments if not argument.is_rest]
    rest: Any = next((_draft_7(argument.schema) for argument in arguments if argument.is_rest), False)
    schema: Schema = {"type": "array", "minItems": sum(argument.is_required for argument in single)}
    if single:
        # Beside $ref nothing else counts.
        schema["items"] = [
            {"title": argument.name, "allOf": [_draft_7(argument.schema)]} for argument in single
        ]
        schema["additionalItems"] = rest
    elif rest is False:
        schema["maxItems"] = 0
    else:
        schema["items"] = rest
    return schema


def _draft_7(schema: Any) -> Any:
    """AsyncAPI's schemas are of draft 7, which writes tuples in another way, and OpenAPI's discriminators are none."""
    if isinstance(schema, list):
        return [_draft_7(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {
        key: _draft_7(value)
        for key, value in schema.items()
        if key != "discriminator" or not isinstance(value, dict) or "propertyName" not in value
    }
    if "prefixItems" in converted:
        converted["additionalItems"] = converted.get("items", True)
        converted["items"] = converted.pop("prefixItems")
    return converted
