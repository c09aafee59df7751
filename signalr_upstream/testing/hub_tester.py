"""Test a hub: ``async with HubTester(app) as hub: result = await hub.invoke("send", "hi", user="ann")``.

A thin face over the local service without sockets: signatures, sealed claims, codecs, dispatch and the REST API are the
real ones, and what the app sends is delivered.
"""

import asyncio
import contextlib
import copy
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from starlette.types import ASGIApp

from ..errors import ConfigurationError, HubError
from ..hubs.hub import Hub, current_app
from ..local.app import LocalService
from ..local.clock import Clock
from ..local.socketless.hosted_app import upstream_apps
from ..local.socketless.in_process_client import TIMEOUT, InProcessClient, NothingCameError
from ..local.socketless.in_process_socket import NotAdmittedError
from ..protocol.upstream import MESSAGES
from .chosen_hub import chosen_hub
from .connected_client import ConnectedClient
from .handler_errors import NEGOTIATE, HandlerErrors, HandlerFailedError
from .overrides import Overrides, replaced
from .refusal import Refusal
from .sends import message_in
from .sent import Sent
from .unawaited import Unawaited

R = TypeVar("R")


class HubTester:
    """An app beside a SignalR service, for one test.

    Args:
        app: an ``UpstreamApp``, or an app that has mounted one.
        hub: which of its hubs; the name of one of a family such as ``Hub("tenant_*")``. Default: the only one.
        overrides: dependencies that are replaced meanwhile, and by which functions.
        clock: the service's clock, a ``ManualClock`` for one. Time limits of handlers go by the system's.
        timeout: seconds for everything that is waited for.
        lifespan: whether to run the lifespan of ``app``.

    Raises:
        ConfigurationError: there is no such hub in the app, or not only one.

    Attributes:
        name: the hub's, with the application's prefix.
        service: the ``LocalService``: ``faults``, ``export``, ``upstream_calls``, ``rest_calls``.
        sent: what the app has sent to this hub.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hub: str | Hub[Any] | None = None,
        overrides: Overrides | None = None,
        clock: Clock | None = None,
        timeout: float = TIMEOUT,
        lifespan: bool = True,
    ) -> None:
        self._apps = list(upstream_apps(app))
        self._app, self._hub, short_name = chosen_hub(self._apps, hub)
        self.timeout = timeout
        self.service = LocalService(
            app,
            port=None,
            lifespan=lifespan,
            clock=clock,
            experimental_streams=any(
                handler.binding.is_stream for one in self._app.hubs for handler in one.handlers
            ),
        )
        self._overrides = overrides or {}
        self._errors = HandlerErrors()
        self._unawaited = Unawaited()
        self._clients: list[ConnectedClient] = []
        self._open = contextlib.ExitStack()
        self._look_at(short_name)

    def _look_at(self, short_name: str) -> None:
        self._short_name = short_name
        self.name = self._app.services.name_of(short_name)
        self.sent = Sent(self.service, self.name, received=self._received, hint=self._unawaited.take)

    def __repr__(self) -> str:
        return f"<HubTester of hub {self.name!r}>"

    # --- life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        _check_asyncio()
        with contextlib.ExitStack() as stack:
            stack.enter_context(replaced(self._apps, self._overrides))
            for part in (self._errors, self._unawaited):
                part.start()
                stack.callback(part.stop)
            await self.service.__aenter__()
            token = current_app.set(self._app)
            stack.callback(_reset, token)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        __tracebackhide__ = True
        with self._open:
            try:
                if error is None:
                    await self.settled()
            finally:
                await self.service.aclose()
        problem = self._problem()
        if problem is not None:
            if error is None:
                raise problem
            error.add_note(f"Besides: {problem}")

    def other(self, hub: str | Hub[Any]) -> "HubTester":
        """Another hub of the same app, in the same service. It ends with this one."""
        other = copy.copy(self)
        other._app, other._hub, short_name = chosen_hub(self._apps, hub)
        other._clients = []
        other._look_at(short_name)
        return other

    # --- clients ---------------------------------------------------------------------------------------------

    async def connect(
        self,
        user: str | None = None,
        *,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        query: Mapping[str, str] | None = None,
        protocol: str = "json",
    ) -> ConnectedClient:
        """Connect a client, which stays; the ``connected`` handler has run then.

        Args:
            user: its user id; None is a client without one.
            claims: what ``ctx.claims`` says, e.g. ``{"role": ["admin"]}``. They are sealed as by negotiate.
            query: of the URL it connects with.
            protocol: ``"json"`` or ``"messagepack"``.

        Raises:
            HubError: the ``connected`` handler has refused it.
            HandlerFailedError: that raised something else, which is its ``__cause__``.
        """
        __tracebackhide__ = True
        self._check_open()
        client = await self.service.connect(
            self.name,
            user_id=user,
            claims=claims,
            protocol=protocol,
            query=query,
            timeout=self.timeout,
            seal_key=self._app.services.seal_key,
        )
        return await self._connected(
            ConnectedClient(client, self, user=user, claims=claims, query=query), client
        )

    async def connect_via(
        self,
        url: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        protocol: str = "json",
    ) -> ConnectedClient:
        """Connect a client that asks the app's negotiate first, as the official clients do with ``withUrl``.

        Args:
            url: path and query, e.g. ``"/chat?name=ann"``, with the prefix where the app is mounted; default: the
                hub's own.
            headers: of the request to negotiate, such as ``Authorization``.

        Raises:
            NotAdmittedError: negotiate refuses, or cannot be asked; its ``status`` says which.
            HandlerFailedError: it raised something else, which is the ``__cause__``. Otherwise as ``connect``.
        """
        __tracebackhide__ = True
        self._check_open()
        try:
            client = await self.service.connect_via(
                url or f"/{self._short_name}", headers=headers, protocol=protocol, timeout=self.timeout
            )
        except NotAdmittedError as error:
            failure = self.failure(NEGOTIATE, text=str(error))
            if failure is None:
                raise
            raise failure from failure.__cause__
        return await self._connected(ConnectedClient(client, self), client)

    def _check_open(self) -> None:
        __tracebackhide__ = True
        if not self._errors.are_heard:
            raise RuntimeError(
                "the test's service runs inside of `async with HubTester(app) as hub:`, and only there"
            )

    async def _connected(self, client: ConnectedClient, raw: InProcessClient) -> ConnectedClient:
        __tracebackhide__ = True
        refused = self.service.hub(self.name).connection(client.connection_id) is None
        reason = await raw.closed(timeout=self.timeout) or "" if refused else ""
        failure = self.failure(client.connection_id, text=reason)
        if failure is not None:
            raise failure from failure.__cause__
        self.check()
        if refused:
            raise HubError(reason or "the connection was closed at once, without a reason")
        self._clients.append(client)
        return client

    # --- calling the app -------------------------------------------------------------------------------------

    @overload
    async def invoke(
        self,
        target: str,
        *arguments: Any,
        user: str | None = ...,
        claims: Mapping[str, str | Sequence[str]] | None = ...,
        query: Mapping[str, str] | None = ...,
        timeout: float | None = ...,
    ) -> Any: ...
    @overload
    async def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: type[R],
        user: str | None = ...,
        claims: Mapping[str, str | Sequence[str]] | None = ...,
        query: Mapping[str, str] | None = ...,
        timeout: float | None = ...,
    ) -> R: ...

    async def invoke(
        self,
        target: str,
        *arguments: Any,
        result_type: Any = Any,
        user: str | None = None,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Call a hub method as a user and give its result.

        The user's client is the first one that is connected, with these claims and this query if they are given; if
        there is none, one connects and stays. See ``ConnectedClient.invoke`` for the rest.
        """
        __tracebackhide__ = True
        client = await self._client_of(user, claims, query)
        return await client.invoke(target, *arguments, result_type=result_type, timeout=timeout)

    async def send(
        self,
        target: str,
        *arguments: Any,
        user: str | None = None,
        claims: Mapping[str, str | Sequence[str]] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> None:
        """Call a hub method that answers nothing; see ``invoke`` and ``ConnectedClient.send``."""
        __tracebackhide__ = True
        client = await self._client_of(user, claims, query)
        await client.send(target, *arguments)

    async def _client_of(
        self,
        user: str | None,
        claims: Mapping[str, str | Sequence[str]] | None,
        query: Mapping[str, str] | None,
    ) -> ConnectedClient:
        __tracebackhide__ = True
        for client in self._clients:
            if client.is_like(user, claims, query):
                return client
        return await self.connect(user, claims=claims, query=query)

    def refused(self, text: str = "") -> Refusal:
        """``with hub.refused("not allowed"):`` around a call that is refused with this text, or one that has it in it.

        By a ``HubError`` of the handler, ``require=``, wrong arguments, the ``connected`` handler or negotiate, that is
        its 400 to 499 but for 404 and 405, which are a wrong URL.

        Raises:
            AssertionError: it is not refused, or with another text.
            HandlerFailedError: the handler or the negotiate function has not refused, it has failed.
            NotAdmittedError: there is no negotiate at this URL, or it cannot answer at the moment.
        """
        return Refusal(text, self._last_answer)

    def _last_answer(self) -> str:
        calls = self.service.upstream_calls
        return f"; {calls[-1].event!r} has answered {calls[-1].result!r}" if calls else ""

    # --- what there is ---------------------------------------------------------------------------------------

    @property
    def groups(self) -> dict[str, set[str]]:
        """Who is in which group: user ids, and the connection ids of those without a user."""
        hub = self.service.hub(self.name)
        return {
            group: {member.user_id or member.connection_id for member in hub.group(group)}
            for group in hub.groups
        }

    def groups_of(self, connection_id: str) -> set[str]:
        """The groups a connection is in."""
        return set(self.service.hub(self.name).groups_of(connection_id))

    async def settled(self) -> None:
        """Wait until the app has dealt with all that clients have sent, and with what handlers left to ``ctx.after``.

        Raises:
            HandlerFailedError: something in it has failed.
            AssertionError: a handler forgot an ``await``.
            NothingCameError: it has not in time.
        """
        __tracebackhide__ = True
        await self.service.settled(timeout=self.timeout)
        try:
            async with asyncio.timeout(self.timeout):
                for app in self._apps:
                    await app.after_work_done()
        except TimeoutError:
            raise NothingCameError(
                f"what a handler left to ctx.after still runs after {self.timeout:g} s"
            ) from None
        await self.service.settled(timeout=self.timeout)
        self.check()

    # --- what has gone wrong ---------------------------------------------------------------------------------

    def failure(self, connection_id: str, *, text: str) -> HandlerFailedError | None:
        """What a handler called by this connection has raised that it was not to raise."""
        return self._errors.take(connection_id, text=text)

    def check(self) -> None:
        """Raise what has gone wrong in the app since the last time.

        Raises:
            HandlerFailedError: a handler raised what nobody has seen.
            AssertionError: a coroutine was never awaited.
        """
        __tracebackhide__ = True
        problem = self._problem()
        if problem is not None:
            raise problem

    def _problem(self) -> Exception | None:
        failure = self._errors.take()
        unawaited = self._unawaited.take()
        if failure is None:
            return None if unawaited is None else AssertionError(unawaited)
        if unawaited is not None:
            failure.add_note(unawaited)
        return failure

    def explain(self, error: HubError, target: str) -> None:
        """Add to a refusal that there is no such handler."""
        if self._hub.lookup(MESSAGES, target) is None:
            known = ", ".join(
                repr(handler.event) for handler in self._hub.handlers if handler.category == MESSAGES
            )
            error.add_note(f"hub {self._hub.name!r} has no handler for {target!r}; it has {known or 'none'}")

    def _received(self, value: Any) -> Any:
        """A value as clients receive it from this app."""
        bodies = self._app.hub(self._hub, name=self._short_name).calls.bodies
        try:
            body = bodies.message("value", [value])
        except Exception:  # nothing that is sent: unittest.mock.ANY, pytest.approx
            return value
        return message_in(body, bodies.content_type)[1][0]


def _check_asyncio() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "HubTester runs on asyncio. With anyio's pytest plugin, put this into conftest.py:\n\n"
            "@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
        ) from None


def _reset(token: Any) -> None:
    # A fixture that opened it may have been closed in another context, which ends with the test anyhow.
    with contextlib.suppress(ValueError):
        current_app.reset(token)
