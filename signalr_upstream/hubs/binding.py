"""A handler's signature, compiled at registration into one decoder for the arguments of its invocations.

Parameters annotated ``Context`` get the context; all others take the invocation's arguments in order, converted to
their annotations by msgspec, with Python's own defaults and ``*args``. Nothing about a signature is looked at again
when a call comes in.
"""

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.inspect import CustomType

from ..annotations import parts_of
from ..context import Context
from ..errors import ArgumentsError, InvalidMessageError, RegistrationError
from ..models import is_model, validate
from ..plain_defaults import Fill, filled, filler_of
from ..protocol.surrogates import item_with_half
from ..reasons import safe_reason
from .depends import Need, need_of
from .places import place_of, shown

_CONTEXT_NAMES = ("ctx", "context")
_MSGSPEC_ERROR = re.compile(r"(?P<what>.*?) - at `\$\[(?P<index>\d+)\](?P<inside>.*)`", re.DOTALL)
# What msgspec says of values that Python cannot hold without saying which argument it is, and what we do.
_PLACELESS = {
    "map keys must be hashable": "a key of a map is itself a map or an extension value",
    "year ": "timestamp out of range",
}
_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)  # ValueError: bad UTF-8, a far timestamp


class Parameter(msgspec.Struct, frozen=True):
    """One argument of an invocation, as a handler's signature has it.

    Attributes:
        is_rest: it is ``*args``, any number of arguments.
    """

    name: str
    annotation: Any
    is_required: bool = True
    is_rest: bool = False


class Binding:
    """How one handler is called.

    Attributes:
        is_async: whether the handler is a coroutine function.
        is_stream: whether it is an async generator, whose items answer a client's ``stream()``.
        where: ``file:line`` of the handler, for messages to its author.
        needs: parameters that are injected, by name.
    """

    def __init__(
        self, handler: Callable[..., Any], *, takes_arguments: bool = True, client: type | None = None
    ) -> None:
        """Compile the signature of ``handler``.

        Args:
            client: of the hub; a ``Context[...]`` has to fit it.
            takes_arguments: False for connected and disconnected, which carry none.

        Raises:
            RegistrationError: a signature that could never be served; the text says where and what to do.
        """
        self.handler = handler
        self.where = place_of(handler)
        function = handler if inspect.isroutine(handler) else type(handler).__call__
        self.is_async = inspect.iscoroutinefunction(function)
        self.is_stream = inspect.isasyncgenfunction(function)
        if inspect.isgeneratorfunction(function):
            raise self._refuse("it is a generator; a stream is an async one: async def")
        if self.is_stream and not takes_arguments:
            raise self._refuse("it is a generator, and nobody waits for items of this event")
        self._context_at: list[int] = []
        self._context_keywords: list[str] = []
        self._names: list[str] = []
        self._types: list[Any] = []
        self._defaults: list[Any] = []
        self._rest: Any = None  # the annotation of *args
        self._rest_name = ""
        self.needs: dict[str, Need] = {}
        self._slots: list[
            str | None
        ] = []  # a positional parameter each: the name of what is injected, else None
        self._hooked = False  # an annotation is converted by a class of its own
        self._read_signature(takes_arguments, client)
        positional_only = [
            parameter.name
            for parameter in inspect.signature(handler).parameters.values()
            if parameter.kind is parameter.POSITIONAL_ONLY
        ]
        # Values that one decoder reads at once, or a list of raw values read one by one: those before *args have types
        # of their own. One by one takes 20 times as long, so *args by itself, which takes all, does without.
        self._is_one_by_one = bool(self._types) and self._rest is not None
        shape: Any = list[Raw] if self._is_one_by_one else self._shape()
        hook = validate if self._hooked or self._rest is not None else None
        self._decode_json = msgspec.json.Decoder(shape, dec_hook=hook).decode
        self._decode_msgpack = msgspec.msgpack.Decoder(shape, dec_hook=hook).decode
        fill = filler_of(shape)
        if fill is not None:
            self._decode_json = _both(self._decode_json, fill)
            self._decode_msgpack = _both(self._decode_msgpack, fill)
        # Something stands behind what is injected, so that it cannot be given by name.
        self._injected_between = self._rest is not None or any(
            name is not None and (self._slots[position + 1 :].count(None) or name in positional_only)
            for position, name in enumerate(self._slots)
        )
        self._context_first = self._context_at == [0] and not self._context_keywords

    @property
    def parameters(self) -> list[Parameter]:
        """What takes the invocation's arguments, in their order."""
        required = len(self._names) - len(self._defaults)
        parameters = [
            Parameter(name, annotation, is_required=position < required)
            for position, (name, annotation) in enumerate(zip(self._names, self._types, strict=True))
        ]
        if self._rest is not None:
            parameters.append(Parameter(self._rest_name, self._rest, is_required=False, is_rest=True))
        return parameters

    @property
    def result(self) -> Any:
        """What the handler says it gives: the type of a result, or of the items of a stream; Any if it does not."""
        given = typing.get_type_hints(self.handler, include_extras=True).get("return", Any)
        if self.is_stream:
            return next(iter(typing.get_args(given)), Any)
        return given

    def bind(
        self, context: Context, arguments: Raw, *, binary: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments to call the handler with.

        Raises:
            ArgumentsError: the arguments do not fit; the text names the argument and never shows its value.
            InvalidMessageError: the arguments are not JSON or MessagePack at all.
        """
        try:
            decoded = self._decode_msgpack(arguments) if binary else self._decode_json(arguments)
            if self._is_one_by_one:
                values = self._each(decoded, binary)
            elif self._defaults:
                values = msgspec.structs.astuple(decoded)
            else:
                values = decoded
        except _DECODE_ERRORS as error:
            raise self._explain(error, arguments, binary) from None
        if self._context_first:
            return (context, *values), {}
        if not self._context_at and not self._context_keywords:
            return values, {}
        return self._place(context, values)

    def call_without_arguments(self, context: Context) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As ``bind``, for connected and disconnected."""
        return self._place(context, tuple(self._defaults))

    def place_injected(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], injected: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """``args`` and ``kwargs`` of ``bind`` with what is injected put in its places."""
        if not self._injected_between:
            return args, kwargs | injected
        given = iter(args)
        placed = [next(given) if name is None else injected.pop(name) for name in self._slots]
        return (*placed, *given), kwargs | injected

    def _place(self, context: Context, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        positional = list(values)
        for position in self._context_at:
            positional.insert(position, context)
        return tuple(positional), dict.fromkeys(self._context_keywords, context)

    def _each(self, raw: list[Raw], binary: bool) -> tuple[Any, ...]:
        required = len(self._names) - len(self._defaults)
        if len(raw) < required:
            raise msgspec.ValidationError("Expected more")
        decode = msgspec.msgpack.decode if binary else msgspec.json.decode
        types = [*self._types, *[self._rest] * (len(raw) - len(self._types))]
        values = []
        for index, (value, annotation) in enumerate(zip(raw, types, strict=False)):
            try:
                values.append(filled(decode(value, type=annotation, dec_hook=validate), annotation))
            except msgspec.ValidationError as error:
                what, _, inside = str(error).partition(" - at `$")
                raise msgspec.ValidationError(f"{what} - at `$[{index}]{inside or '`'}") from None
        return (
            (*values, *self._defaults[len(values) - required :])
            if len(values) < len(self._names)
            else tuple(values)
        )

    # --- registration ---

    def _read_signature(self, takes_arguments: bool, client: type | None) -> None:
        try:
            annotations = typing.get_type_hints(self.handler, include_extras=True)
        except Exception as error:
            raise self._refuse(f"its annotations cannot be read: {error}") from error
        parameters = inspect.signature(self.handler).parameters.values()
        position = -1  # among the parameters that are not injected
        for parameter in parameters:
            annotation = annotations.get(parameter.name, Any)
            need = need_of(parameter, annotation, where=shown(self.handler), client=client)
            if need is not None and need is not Context:
                self._add_need(parameter, need)
                continue
            position += 1
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self._slots.append(None)
            if need is Context:
                self._add_context(parameter, position, takes_arguments)
            elif parameter.name in _CONTEXT_NAMES and annotation is Any:
                raise self._refuse(
                    f"annotate `{parameter.name}` with Context, else it would take an argument"
                )
            else:
                self._add_parameter(parameter, annotation, takes_arguments)

    def _add_need(self, parameter: inspect.Parameter, need: Need) -> None:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self._refuse(f"`{parameter.name}` cannot be injected: it takes any number of values")
        self.needs[parameter.name] = need
        if parameter.kind is not parameter.KEYWORD_ONLY:
            self._slots.append(parameter.name)

    def _add_context(self, parameter: inspect.Parameter, position: int, takes_arguments: bool) -> None:
        if parameter.kind is parameter.KEYWORD_ONLY:
            self._context_keywords.append(parameter.name)
        elif parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self._refuse(f"`{parameter.name}` can never be filled: there is one context")
        elif not takes_arguments and position != len(self._context_at):
            raise self._refuse(f"put `{parameter.name}` first: this event carries no arguments")
        else:
            self._context_at.append(position)

    def _add_parameter(self, parameter: inspect.Parameter, annotation: Any, takes_arguments: bool) -> None:
        name = parameter.name
        if parameter.kind is parameter.VAR_KEYWORD or (
            parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        ):
            raise self._refuse(
                f"`{name}` can never be filled: an invocation's arguments have no names, so no `*` stands before it"
            )
        if parameter.kind is parameter.KEYWORD_ONLY:
            return  # keeps its default
        if takes_arguments:
            self._check_type(name, annotation)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            return
        elif parameter.default is parameter.empty:
            raise self._refuse(f"`{name}` can never be filled: this event carries no arguments")
        else:
            annotation = Any  # keeps its default
        if parameter.kind is parameter.VAR_POSITIONAL:
            self._rest, self._rest_name = annotation, name
            return
        self._names.append(name)
        self._types.append(annotation)
        if parameter.default is not parameter.empty:
            self._defaults.append(parameter.default)

    def _check_type(self, name: str, annotation: Any) -> None:
        try:
            msgspec.json.Decoder(annotation)
            msgspec.msgpack.Decoder(annotation)
            custom = [part.cls for part in parts_of(annotation) if isinstance(part, CustomType)]
            custom = [cls for cls in custom if cls is not object]  # which every value is
        except Exception as error:
            raise self._refuse(f"the type of `{name}` cannot be decoded: {error}") from error
        for unknown in custom:
            if not is_model(unknown):
                raise self._refuse(
                    f"the type of `{name}` cannot be decoded: {unknown.__qualname__} is no builtin, dataclass, "
                    "TypedDict, NamedTuple, enum, datetime, UUID, Decimal, bytes, msgspec.Struct or pydantic model"
                )
            self._hooked = True

    def _shape(self) -> Any:
        if self._rest is not None:
            return types.GenericAlias(tuple, (self._rest, ...))
        if not self._defaults:
            return types.GenericAlias(tuple, tuple(self._types))
        required = len(self._names) - len(self._defaults)
        fields: list[Any] = list(zip(self._names[:required], self._types[:required], strict=True))
        for name, annotation, default in zip(
            self._names[required:], self._types[required:], self._defaults, strict=True
        ):
            # A factory, since the very object is Python's default, mutable or not.
            fields.append((name, annotation, msgspec.field(default_factory=_Constant(default))))
        # Field names are replaced: a handler's parameter may be called what a Struct cannot take.
        named = [(f"argument_{position}", *field[1:]) for position, field in enumerate(fields)]
        return msgspec.defstruct("Arguments", named, array_like=True, forbid_unknown_fields=True)

    def _refuse(self, reason: str) -> RegistrationError:
        return RegistrationError(f"{shown(self.handler)} cannot be a handler: {reason}")

    # --- errors ---

    def _explain(
        self, error: Exception, arguments: Raw, binary: bool
    ) -> ArgumentsError | InvalidMessageError:
        text = str(error)
        placeless = next((reason for part, reason in _PLACELESS.items() if part in text), None)
        if not isinstance(error, msgspec.ValidationError) and placeless is None:
            half = None if binary else item_with_half(bytes(arguments))
            if half is not None:
                return ArgumentsError(
                    f"argument {half + 1}{self._name_of(half)}: half of a surrogate pair in a text"
                )
            return InvalidMessageError("the arguments are not valid")
        try:
            values = (msgspec.msgpack if binary else msgspec.json).decode(arguments, type=list[Raw])
        except _DECODE_ERRORS:
            return InvalidMessageError("the arguments are not an array")
        count = len(values)
        required = len(self._names) - len(self._defaults)
        if count < required or (count > len(self._names) and self._rest is None):
            return ArgumentsError(f"{self._arity(required)}, got {count}")
        if not isinstance(error, msgspec.ValidationError):
            index = self._first_failing(values, type(error), binary)
            return ArgumentsError(f"argument {index + 1}{self._name_of(index)}: {placeless}")
        found = _MSGSPEC_ERROR.fullmatch(text)
        if found is None:
            return ArgumentsError("the arguments do not fit the handler")
        index = int(found["index"])
        inside = f" (at {found['inside'].lstrip('.')})" if found["inside"] else ""
        annotation = self._types[index] if index < len(self._types) else self._rest
        reason = safe_reason(found["what"], annotation, place=found["inside"])
        return ArgumentsError(f"argument {index + 1}{self._name_of(index)}: {reason}{inside}")

    def _first_failing(self, values: list[Raw], kind: type[Exception], binary: bool) -> int:
        """The first argument whose decoding by itself raises an error of this kind."""
        decode = (msgspec.msgpack if binary else msgspec.json).decode

        def fails(value: Raw, annotation: Any) -> bool:
            try:
                decode(value, type=annotation, dec_hook=validate)
            except _DECODE_ERRORS as error:
                return type(error) is kind
            return False

        types = [*self._types, *[self._rest] * len(values)]
        return [fails(*each) for each in zip(values, types, strict=False)].index(True)

    def _name_of(self, index: int) -> str:
        return f" `{self._names[index]}`" if index < len(self._names) else ""

    def _arity(self, required: int) -> str:
        most = len(self._names)
        if self._rest is not None:
            return f"expected at least {required} arguments"
        counts = f"{required} to {most}" if required < most else str(most)
        return f"expected {counts} argument{'' if counts == '1' else 's'}"


class _Constant:
    """A default factory that always gives the same object."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


def _both(decode: Callable[[Any], Any], fill: Fill) -> Callable[[Any], Any]:
    return lambda arguments: fill(decode(arguments))
