"""A client that stays connected during a test."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, overload

import msgspec

from ..errors import HubError, SignalRError
from ..local.socketless.in_process_client import InProcessClient, Received
from ..models import validate
from ..plain_defaults import filled
from .handler_errors import HandlerFailedError

R = TypeVar("R")


class Bench(Protocol):
    """What a client needs of the test it is in."""

    timeout: float

    def failure(self, connection_id: str, *, text: str) -> HandlerFailedError | None:
        """What a handler called by this connection has raised that it was not to raise.

        Args:
            text: what the client was told.
        """
        ...

    def check(self) -> None:
        """Raise what has gone wrong otherwise."""
        ...

    def explain(self, error: HubError, target: str) -> None:
        """Add to a refusal what a test should know of it."""
        ...

    async def settled(self) -> None:
        """Wait for the app, and raise what has gone wrong."""
        ...

    def groups_of(self, connection_id: str) -> set[str]:
        """The groups a connection is in."""
        ...


class ConnectedClient:
    """One client of the hub; ``HubTester.connect`` makes it. ``async with`` closes it in the end.

    Attributes:
        user: its user id; None for a client without one, and where the app's negotiate has decided.
        connection_id: its connection.
    """

    def __init__(
        self,
        client: InProcessClient,
        bench: Bench,
        *,
        user: str | None = None,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        self.user = user
        self.connection_id = client.connection_id
        self._client = client
        self._bench = bench
        self._claims = claims or {}
        self._query = query or {}

    def __repr__(self) -> str:
        return f"<ConnectedClient {self.user!r} {self.connection_id}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def is_like(
        self,
        user: str | None,
        claims: Mapping[str, str | Sequence[str]] | None,
        query: Mapping[str, str] | None,
    ) -> bool:
        """Whether it is open and such a client; None for claims and query is any."""
        return (
            self.is_open
            and self.user == user
            and (claims is None or claims == self._claims)
            and (query is None or query == self._query)
        )

    # --- calling the app -------------------------------------------------------------------------------------

    @overload
    async def invoke(self, target: str, *arguments: Any, timeout: float | None = ...) -> Any: ...
    @overload
    async def invoke(
        self, target: str, *arguments: Any, result_type: type[R], timeout: float | None = ...
    ) -> R: ...

    async def invoke(
        self, target: str, *arguments: Any, result_type: Any = Any, timeout: float | None = None
    ) -> Any:
        """Call a hub method and give its result.

        Args:
            result_type: what to make of the result, as msgspec converts it, e.g. a Struct; else Python's builtins.
            timeout: seconds for the answer; default: the tester's.

        Raises:
            HubError: the app refuses; the text is what the client sees.
            HandlerFailedError: the handler raised something else, which is its ``__cause__``.
            AssertionError: the result is no ``result_type``, or a handler forgot an ``await``.
            NothingCameError: no answer in time.
        """
        __tracebackhide__ = True
        try:
            result = await self._client.invoke(target, *arguments, timeout=timeout or self._bench.timeout)
        except HubError as error:
            refusal: SignalRError = self._explained(error, target)
        else:
            self._bench.check()
            return self._converted(target, result, result_type)
        raise refusal from refusal.__cause__

    @staticmethod
    def _converted(target: str, result: Any, result_type: Any) -> Any:
        __tracebackhide__ = True
        try:
            return filled(msgspec.convert(result, result_type, dec_hook=validate), result_type)
        except msgspec.ValidationError as error:
            raise AssertionError(
                f"{target!r} has answered {result!r}, which is no {result_type!r}: {error}"
            ) from None

    async def send(self, target: str, *arguments: Any) -> None:
        """Call a hub method that answers nothing, and wait until the app has dealt with it.

        Raises:
            HandlerFailedError: the handler raised. A HubError is seen by nobody, as on a real client.
        """
        __tracebackhide__ = True
        await self._client.send(target, *arguments, timeout=self._bench.timeout)
        await self._bench.settled()

    async def stream(self, target: str, *arguments: Any) -> AsyncGenerator[Any, None]:
        """Call a hub method that answers with a stream: its items. Raises as ``invoke``."""
        __tracebackhide__ = True
        try:
            async for item in self._client.stream(target, *arguments, timeout=self._bench.timeout):
                yield item
        except HubError as error:
            refusal = self._explained(error, target)
        else:
            self._bench.check()
            return
        raise refusal from refusal.__cause__

    def _explained(self, error: HubError, target: str) -> SignalRError:
        """What a test is to see of an error: the handler's own, or the refusal, without the client's frames."""
        failure = self._bench.failure(self.connection_id, text=str(error))
        if failure is not None:
            return failure
        self._bench.check()
        refusal = HubError(str(error))
        self._bench.explain(refusal, target)
        return refusal

    # --- being called ----------------------------------------------------------------------------------------

    def on(self, target: str, handler: Callable[..., Any]) -> None:
        """Call ``handler``, plain or async, when the app sends to ``target``; what it returns or raises is the answer
        where the app waits for one. What has a handler is not there for ``receive``."""
        self._client.on(target, handler)

    async def receive(self, target: str | None = None, *, timeout: float | None = None) -> Received:
        """The next message, or the next one to ``target``: ``("newMessage", ["hello"])``.

        Raises:
            NothingCameError: it has not come in time; the text names what has.
            DisconnectedError: the connection is closed, and it had not come before.
        """
        __tracebackhide__ = True
        return await self._client.receive(target, timeout=timeout or self._bench.timeout)

    @property
    def waiting(self) -> list[Received]:
        """The messages that have come and were not taken with ``receive``."""
        return self._client.waiting

    # --- life ------------------------------------------------------------------------------------------------

    @property
    def groups(self) -> set[str]:
        """The groups it is in."""
        return self._bench.groups_of(self.connection_id)

    @property
    def is_open(self) -> bool:
        """Whether its connection has not ended."""
        return self._client.is_open

    async def close(self) -> None:
        """Leave; the app's ``disconnected`` handler has run then."""
        __tracebackhide__ = True
        await self._client.close(timeout=self._bench.timeout)
        await self._bench.settled()

    async def closed(self, *, timeout: float | None = None) -> str | None:
        """Wait to be sent away, and give the reason.

        Raises:
            NothingCameError: it is still connected.
        """
        __tracebackhide__ = True
        return await self._client.closed(timeout=timeout or self._bench.timeout)
