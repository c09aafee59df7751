"""Dependencies: what a handler or a negotiate function is given beside its arguments.

``Annotated[T, Depends(f)]`` is what ``f`` returns, or yields: then the rest of ``f`` runs when the call has been
answered in memory, before the answer is sent. ``f`` may itself have dependencies, and the call's ``Context`` or
``Request``. A dependency is asked once a call. Signatures are read at registration.
"""

import contextlib
import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

from msgspec import Struct
from starlette.requests import Request

from .context import Context
from .errors import RegistrationError
from .threads import Threads

Overrides = Mapping[Callable[..., Any], Callable[..., Any]]
"""Which dependency is replaced by which; for tests."""


class Depends:
    """Marks a parameter: ``user: Annotated[User, Depends(current_user)]``.

    Args:
        dependency: an async or plain function, or a generator that yields once. Plain ones run in a worker thread.
    """

    def __init__(self, dependency: Callable[..., Any]) -> None:
        self.dependency = dependency

    def __repr__(self) -> str:
        return f"Depends({getattr(self.dependency, '__qualname__', self.dependency)})"


class Dependency(Struct, frozen=True):
    """A dependency with its signature read.

    Attributes:
        needs: its own parameters by name.
    """

    function: Callable[..., Any]
    needs: "dict[str, Need]"
    is_async: bool
    is_generator: bool


Need = Dependency | type[Context] | type[Request]
"""What a parameter is filled with."""


def need_of(annotation: Any, *, where: str, name: str, seen: tuple[Any, ...] = ()) -> Need | None:
    """What a parameter with this annotation is filled with; None if that is not ours to do.

    Raises:
        RegistrationError: a dependency that can never be served.
    """
    for mark in getattr(annotation, "__metadata__", ()):
        if isinstance(mark, Depends):
            return _read(mark.dependency, where=where, seen=seen)
        if type(mark).__name__ == "Depends":
            raise RegistrationError(
                f"{where}: `{name}` has the Depends of {type(mark).__module__}. Ours is meant: "
                f"from signalr_upstream import Depends"
            )
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type):
        if issubclass(origin, Context):
            return Context
        if issubclass(origin, Request):
            return Request
    return None


def refuse_default(default: Any, *, where: str, name: str) -> None:
    """Refuse ``user: User = Depends(...)``, which is how others write it.

    Raises:
        RegistrationError: with how it is written here.
    """
    if type(default).__name__ == "Depends":
        raise RegistrationError(
            f"{where}: write `{name}: Annotated[T, Depends(...)]` (Depends from signalr_upstream), not as its default"
        )


def needs_of(function: Callable[..., Any], *, where: str) -> dict[str, Need]:
    """The needs of a function without arguments of its own. An only parameter that says nothing else is the Request.

    Raises:
        RegistrationError: a parameter that can never be filled.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) == 1:
        (only,) = parameters
        hints = typing.get_type_hints(function, include_extras=True)
        if need_of(hints.get(only.name), where=where, name=only.name) is None:
            return {only.name: Request}
    needs = _read(function, where=where, seen=()).needs
    if Context in needs.values():
        raise RegistrationError(
            f"{where}: there is no Context yet when a client negotiates: take the Request"
        )
    return needs


def _read(function: Callable[..., Any], *, where: str, seen: tuple[Any, ...]) -> Dependency:
    if not callable(function):
        raise RegistrationError(f"{where}: Depends takes a function, not {function!r}")
    shown = getattr(function, "__qualname__", repr(function))
    if function in seen:
        raise RegistrationError(f"{where}: {shown} depends on itself")
    call: Any = function
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        call = type(function).__call__.__get__(function)
    try:
        hints = typing.get_type_hints(call.__init__ if inspect.isclass(call) else call, include_extras=True)
        parameters = inspect.signature(call).parameters.values()
    except Exception as error:
        raise RegistrationError(f"{where}: the signature of {shown} cannot be read: {error}") from error
    needs: dict[str, Need] = {}
    for parameter in parameters:
        refuse_default(parameter.default, where=f"{where}, {shown}", name=parameter.name)
        annotation = hints.get(parameter.name, parameter.annotation)
        need = need_of(annotation, where=where, name=parameter.name, seen=(*seen, function))
        if need is not None:
            needs[parameter.name] = need
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            raise RegistrationError(
                f"{where}: `{parameter.name}` of the dependency {shown} can never be filled: a dependency is given a "
                "Context, a Request, and other dependencies"
            )
    return Dependency(
        function,
        needs,
        is_async=inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call),
        is_generator=inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call),
    )


class Injection:
    """What the dependencies of one call have given so far. Closed like a context manager: generators run to their end.

    Args:
        context: of the call; None for negotiate.
        request: the request, or how it is made if anybody wants it.
    """

    def __init__(
        self,
        *,
        context: Context | None,
        request: Callable[[], Request],
        threads: Threads,
        overrides: Overrides,
    ) -> None:
        self._context = context
        self._request = request
        self._threads = threads
        self._overrides = overrides
        self._values: dict[Callable[..., Any], Any] = {}
        self._exits: contextlib.AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._exits is not None:
            await self._exits.__aexit__(kind, error, traceback)

    async def fill(self, needs: Mapping[str, Need]) -> dict[str, Any]:
        """A value for each parameter."""
        return {name: await self._value(need) for name, need in needs.items()}

    async def _value(self, need: Need) -> Any:
        if not isinstance(need, Dependency):
            return self._context if need is Context else self._request()
        if need.function in self._values:
            return self._values[need.function]
        used = need
        if need.function in self._overrides:
            used = _read(self._overrides[need.function], where="dependency_overrides", seen=())
        values = await self.fill(used.needs) if used.needs else {}
        value = self._values[need.function] = await self._ask(used, values)
        return value

    async def _ask(self, dependency: Dependency, values: dict[str, Any]) -> Any:
        function = dependency.function
        if dependency.is_generator:
            if self._exits is None:
                self._exits = contextlib.AsyncExitStack()
            if dependency.is_async:
                manager = contextlib.asynccontextmanager(function)(**values)
            else:
                manager = self._in_threads(contextlib.contextmanager(function)(**values))
            return await self._exits.enter_async_context(manager)
        if dependency.is_async:
            asked: Awaitable[Any] = function(**values)
            return await asked
        return await self._threads.run(function, **values)

    @contextlib.asynccontextmanager
    async def _in_threads(self, manager: contextlib.AbstractContextManager[Any]) -> AsyncIterator[Any]:
        value = await self._threads.run(manager.__enter__)
        try:
            yield value
        except Exception as error:
            if not await self._threads.run(manager.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await self._threads.run(manager.__exit__, None, None, None)
