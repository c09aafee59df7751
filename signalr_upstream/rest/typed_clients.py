"""Typed clients: the methods that a hub's clients have, as a ``typing.Protocol``.

A selector of such a hub gives a target with these methods. They are made once, from the signatures: a method that gives
nothing sends, one that gives something invokes and waits for the client.
"""

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol

import msgspec
import typing_extensions

from ..errors import RegistrationError
from .targets import UNTYPED, ConnectionTarget, Kinds, Target

MAX_KEPT = 256
"""Protocols whose classes are kept ready."""


@functools.lru_cache(MAX_KEPT)
def kinds_of(client: type | None) -> Kinds[Any]:
    """The targets for a client class; those without one for None.

    Raises:
        RegistrationError: it is no ``Protocol`` of async methods.
    """
    if client is None:
        return UNTYPED
    client = typing.get_origin(client) or client
    if not (isinstance(client, type) and typing_extensions.is_protocol(client)):
        raise RegistrationError(
            f"client= takes a typing.Protocol with the methods of clients, not {client!r}"
        )
    methods = {name: _Method(client, name, function) for name, function in _members(client)}
    targets = {name: method.on_many() for name, method in methods.items()}
    connections = {name: method.on_one() for name, method in methods.items()}
    unknown = {"__getattr__": _unknown(client, list(methods))}
    return Kinds(
        type(f"{client.__name__}Target", (Target,), targets | unknown),
        type(f"{client.__name__}Connection", (ConnectionTarget,), connections | unknown),
    )


def _members(client: type) -> list[tuple[str, Any]]:
    members: dict[str, Any] = {}
    for base in reversed(client.__mro__):
        if base not in (object, Protocol, typing_extensions.Protocol, Generic):
            members |= dict.fromkeys(inspect.get_annotations(base)) | vars(base)
    return [(name, value) for name, value in members.items() if not name.startswith("_")]


class _Method:
    """One method of a client class."""

    def __init__(self, client: type, name: str, function: Any) -> None:
        self._name = name
        self._shown = f"{client.__qualname__}.{name}"
        if not inspect.iscoroutinefunction(function):
            raise RegistrationError(f"{self._shown} has to be a method: async def {name}(self, ...) -> None")
        if hasattr(ConnectionTarget, name):
            raise RegistrationError(
                f"{self._shown} hides what targets have themselves: leave it out, and call it with "
                f'ctx.clients.untyped.all.send("{name}", ...)'
            )
        self._signature = inspect.signature(function)
        for parameter in self._signature.parameters.values():
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_KEYWORD):
                raise RegistrationError(
                    f"{self._shown}: `{parameter.name}` cannot be sent: an invocation's arguments have no names"
                )
        try:
            self._result = typing.get_type_hints(function, include_extras=True)["return"]
            msgspec.json.Decoder(self._result)
        except KeyError:
            raise RegistrationError(
                f"{self._shown}: say what it gives: -> None sends, anything else waits for the client"
            ) from None
        except Exception as error:
            raise RegistrationError(f"{self._shown}: its types cannot be read: {error}") from error
        self._sends = self._result is type(None)

    def on_many(self) -> Callable[..., Awaitable[Any]]:
        """The method of what may be many connections."""
        if self._sends:
            return self._sender()

        def cannot_ask(target: Target, *args: Any, **kwargs: Any) -> Awaitable[Any]:
            raise TypeError(
                f"{self._shown} gives a result, and only one connection can: clients.connection(id)"
            )

        return cannot_ask

    def on_one(self) -> Callable[..., Awaitable[Any]]:
        """The method of one connection."""
        if self._sends:
            return self._sender()

        def ask(target: ConnectionTarget, *args: Any, **kwargs: Any) -> Awaitable[Any]:
            arguments = self._arguments(args, kwargs)
            return target.invoke(self._name, *arguments, result_type=self._result)

        return ask

    def _sender(self) -> Callable[..., Awaitable[None]]:
        def send(target: Target, *args: Any, **kwargs: Any) -> Awaitable[None]:
            return target.send(self._name, *self._arguments(args, kwargs))

        return send

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in their order, defaults included.

        Raises:
            TypeError: they do not fit the signature.
        """
        try:
            bound = self._signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._shown}: {error}") from None
        bound.apply_defaults()
        return bound.args[1:]


def _unknown(client: type, names: list[str]) -> Callable[[Target, str], Any]:
    def unknown(target: Target, name: str) -> Any:
        raise AttributeError(
            f"{client.__qualname__} has no {name!r}: its methods are {', '.join(names)}",
            name=name,
            obj=target,
        )

    return unknown
