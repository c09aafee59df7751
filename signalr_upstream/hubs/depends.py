"""Dependencies: what a handler or a negotiate function is given beside its arguments.

``Annotated[T, Depends(f)]`` is what ``f`` returns, or yields: then the rest of ``f`` runs when the answer has been
encoded, before it is sent. ``f`` may itself have dependencies, and take the call's ``Context`` or ``Request``. A
dependency is asked once a call. Signatures are read at registration.
"""

import contextlib
import functools
import inspect
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import copy_context
from typing import Any

from msgspec import Struct
from starlette.requests import HTTPConnection, Request

from ..context import Context
from ..errors import RegistrationError
from ..rest.targets import C, Target
from .places import shown
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
        needs: what its parameters are filled with, by name.
        is_simple: it is an async function without dependencies of its own.
    """

    function: Callable[..., Any]
    needs: "dict[str, Need]"
    is_async: bool
    is_generator: bool
    is_simple: bool


Need = Dependency | type[Context[Any]] | type[Request]
"""What a parameter is filled with."""


def need_of(parameter: inspect.Parameter, annotation: Any, *, where: str, client: type | None) -> Need | None:
    """What a handler's parameter is filled with; None if it takes an argument.

    Args:
        client: of the handler's hub.

    Raises:
        RegistrationError: a dependency that can never be served, or a ``Context[...]`` of another client class.
    """
    return _Reader(where, has_context=True, client=client).need(parameter, annotation)


def misfit(annotation: Any, client: Any) -> str | None:
    """What is wrong with a ``Context[...]`` in a hub with this ``client=``; None if it fits.

    Args:
        client: None for a hub without one, Any where the hub is not known: then all fit.
    """
    fits: list[object] = [Any, C, Target, *(client.__mro__ if client else ())]
    for given in typing.get_args(annotation):
        if client is not Any and (typing.get_origin(given) or given) not in fits:
            has = f"client={shown(client)}" if client else "no client="
            return f"is a Context[{getattr(given, '__qualname__', given)}], and its hub has {has}"
    return None


def read_negotiator(function: Callable[..., Any], *, where: str) -> Dependency:
    """A negotiate function, which is asked as dependencies are. An only parameter without annotation is the Request.

    Raises:
        RegistrationError: a parameter that can never be filled.
    """
    return _Reader(where, has_context=False).dependency(function, lone=Request)


class _Reader:
    """Reads signatures of dependencies, and of theirs."""

    def __init__(
        self,
        where: str,
        *,
        has_context: bool,
        client: Any = Any,
        replaced: tuple[Callable[..., Any], ...] = (),
    ) -> None:
        self._where = where
        self._has_context = has_context
        self._client = client
        self._reading = [*replaced]  # each is a dependency of the one before

    def need(self, parameter: inspect.Parameter, annotation: Any) -> Need | None:
        name = parameter.name
        if _is_depends(parameter.default):
            raise self._refuse(
                f"write `{name}: Annotated[T, Depends(...)]` (from signalr_upstream import Depends), not as its default"
            )
        for mark in getattr(annotation, "__metadata__", ()):
            if isinstance(mark, Depends):
                return self.dependency(mark.dependency)
            if _is_depends(mark):
                raise self._refuse(
                    f"`{name}` has the {type(mark).__name__} of {type(mark).__module__}; "
                    "ours is needed: from signalr_upstream import Depends"
                )
        if any(_is_depends(mark) for mark in _marks_within(annotation)):
            # Overlooked it would take an argument, and callers would inject what they like.
            raise self._refuse(
                f"`{name}`: Depends stands outermost, `{name}: Annotated[T | None, Depends(...)]`"
            )
        origin = typing.get_origin(annotation) or annotation
        if not isinstance(origin, type):
            return None
        if issubclass(origin, Context):
            if not self._has_context:
                raise self._refuse(
                    f"`{name}`: there is no Context yet when a client negotiates; take the Request"
                )
            wrong = misfit(annotation, self._client)
            if wrong is not None:
                of = f" of {shown(self._reading[-1])}" if self._reading else ""
                raise self._refuse(f"`{name}`{of} {wrong}")
            return Context
        # FastAPI's security schemes ask for the more general HTTPConnection.
        return Request if issubclass(origin, Request) or origin is HTTPConnection else None

    def dependency(self, function: Any, *, lone: type[Request] | None = None) -> Dependency:
        """``lone`` is what an only parameter is filled with that says nothing."""
        if not callable(function) or function.__hash__ is None:
            raise self._refuse(f"Depends takes a function, not {function!r}")
        if function in self._reading:
            raise self._refuse(f"{shown(function)} depends on itself")
        self._reading.append(function)
        parameters, hints = self._signature(function)
        needs: dict[str, Need] = {}
        for parameter in parameters:
            annotation = hints.get(parameter.name, Any)
            need = self.need(parameter, annotation)
            if need is None and len(parameters) == 1 and annotation is Any:
                need = lone
            if need is not None:
                if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                    needs[parameter.name] = need
                    continue
                reason = "is filled by its name: no `/` behind it, no `*` before it"
            elif parameter.default is not parameter.empty or parameter.kind in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                continue
            else:
                reason = f"can never be filled: {self._takes()}"
            raise self._refuse(f"`{parameter.name}` of {shown(function)} {reason}")
        self._reading.pop()
        body = _body_of(function)
        is_function: bool = inspect.iscoroutinefunction(body)
        return Dependency(
            function,
            needs,
            is_async=is_function or inspect.isasyncgenfunction(body),
            is_generator=inspect.isgeneratorfunction(body) or inspect.isasyncgenfunction(body),
            is_simple=is_function and not any(isinstance(need, Dependency) for need in needs.values()),
        )

    def _takes(self) -> str:
        if self._has_context:
            return "a dependency takes Context, Request and other dependencies"
        return "negotiate takes `request: Request`, which has the query and headers, and Annotated[T, Depends(...)]"

    def _signature(self, function: Any) -> tuple[list[inspect.Parameter], dict[str, Any]]:
        try:
            return list(inspect.signature(function).parameters.values()), hints_of(function)
        except Exception as error:
            raise self._refuse(f"the signature of {shown(function)} cannot be read: {error}") from error

    def _refuse(self, reason: str) -> RegistrationError:
        return RegistrationError(f"{self._where}: {reason}")


def _marks_within(annotation: Any) -> Iterator[Any]:
    """The marks of every ``Annotated`` in a type."""
    yield from getattr(annotation, "__metadata__", ())
    for part in typing.get_args(annotation):
        yield from _marks_within(part)


def _is_depends(value: Any) -> bool:
    """Whether this is a ``Depends``, ours or another framework's, or made out of one (FastAPI's ``Security``)."""
    return any(kind.__name__ == "Depends" for kind in type(value).__mro__)


def hints_of(function: Any) -> dict[str, Any]:
    """The annotations of a function, or of what else can be called.

    Raises:
        Exception: whatever reading them raises: names that are imported for type checkers alone, for one.
    """
    body = _body_of(function)
    return typing.get_type_hints(body.__init__ if inspect.isclass(body) else body, include_extras=True)


def _body_of(function: Any) -> Any:
    """The function or class whose annotations count: behind ``functools.partial``, of an object that can be called."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) or inspect.isclass(function) else function.__call__


class Injection:
    """What the dependencies of one call have given so far. It has to be closed, for generators run to their end then.

    Args:
        context: of the call; None for negotiate.
        request: gives the request, which is made only if somebody wants it.
    """

    def __init__(
        self,
        *,
        context: Context[Any] | None,
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

    @property
    def is_open(self) -> bool:
        """Whether there is anything to close."""
        return self._exits is not None

    async def close(self, error: BaseException | None) -> None:
        """Run the generators to their end, with what the call has failed with.

        Raises:
            Exception: what they raise themselves. Nothing is raised for an ``error`` that they let pass or swallow.
        """
        if self._exits is not None:
            traceback = error.__traceback__ if error else None
            await self._exits.__aexit__(type(error) if error else None, error, traceback)

    async def fill(self, needs: Mapping[str, Need]) -> dict[str, Any]:
        """A value for each parameter."""
        filled: dict[str, Any] = {}
        for name, need in needs.items():
            if not isinstance(need, Dependency):
                filled[name] = self._given(need)
            elif need.function in self._values:
                filled[name] = self._values[need.function]
            elif need.is_simple and not self._overrides:  # the most usual kind, without a coroutine around it
                values = {own: self._given(of) for own, of in need.needs.items()}
                filled[name] = self._values[need.function] = await need.function(**values)
            else:
                filled[name] = await self.ask(need)
        return filled

    def _given(self, need: Need) -> Any:
        return self._context if need is Context else self._request()

    async def ask(self, dependency: Dependency) -> Any:
        """What a dependency gives that has not been asked yet."""
        function = dependency.function
        if function in self._overrides:
            reader = _Reader(
                "dependency_overrides", has_context=self._context is not None, replaced=(function,)
            )
            dependency = reader.dependency(self._overrides[function])
        values = await self.fill(dependency.needs) if dependency.needs else {}
        if dependency.is_generator:
            value = await self._enter(dependency, values)
        elif dependency.is_async:
            value = await dependency.function(**values)
        else:
            value = await self._threads.run(dependency.function, **values)
        self._values[function] = value
        return value

    async def _enter(self, dependency: Dependency, values: dict[str, Any]) -> Any:
        if self._exits is None:
            self._exits = contextlib.AsyncExitStack()
        if dependency.is_async:
            manager = contextlib.asynccontextmanager(dependency.function)(**values)
        else:
            manager = self._in_threads(contextlib.contextmanager(dependency.function)(**values))
        return await self._exits.enter_async_context(manager)

    @contextlib.asynccontextmanager
    async def _in_threads(self, manager: contextlib.AbstractContextManager[Any]) -> AsyncIterator[Any]:
        # One context for both halves: what the first sets in a context variable, the second can reset.
        run = functools.partial(self._threads.run, copy_context().run)
        value = await run(manager.__enter__)
        try:
            yield value
        except BaseException as error:  # a cancellation, too: the time limit has passed
            if not await run(manager.__exit__, type(error), error, error.__traceback__):
                raise
        else:
            await run(manager.__exit__, None, None, None)
