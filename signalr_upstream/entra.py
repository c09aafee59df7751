"""Microsoft Entra ID in place of an access key: credentials, and the tokens they give.

A credential is any object with ``get_token(scope)``, plain or async, as those of azure-identity are. Its token is kept
until shortly before it ends, and fetched once however many calls wait for it.

Spec: https://learn.microsoft.com/azure/azure-signalr/signalr-concept-authorize-azure-active-directory
"""

import asyncio
import inspect
import logging
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

from msgspec import Struct

from .errors import CredentialError

SCOPE: Final = "https://signalr.azure.com/.default"

EARLY: Final = 300.0
"""Seconds before its end in which a token is still used while the next one is fetched."""

LAST: Final = 10.0
"""Seconds before its end from which on a token is not used: it has to arrive."""

AGAIN_AFTER: Final = 5.0
"""Seconds between attempts to fetch a token early."""

V = TypeVar("V")

_log = logging.getLogger("signalr_upstream")


class Credential(Protocol):
    """Gives access tokens. Its answer has ``token`` and ``expires_on`` (Unix seconds)."""

    def get_token(self, *scopes: str) -> Any: ...


class Lasting(Struct, Generic[V], frozen=True):
    """A value and the Unix seconds until which it can be used."""

    value: V
    ends: float

    def __repr__(self) -> str:
        return f"Lasting(<redacted>, ends={self.ends})"


class Renewed(Generic[V]):
    """A value that has to be fetched anew from time to time.

    Args:
        fetch: gets one.
        early: seconds before its end from which on the next one is fetched in the background.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[Lasting[V]]],
        *,
        early: float = EARLY,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._fetch = fetch
        self._early = early
        self._clock = clock
        self._current: Lasting[V] | None = None
        self._next_attempt = 0.0
        # A loop of its own for each: a task can be awaited in its own loop only.
        self._fetching: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[Lasting[V]]] = (
            weakref.WeakKeyDictionary()
        )

    async def get(self) -> V:
        """The value: the one there is, or a new one."""
        current, now = self._current, self._clock()
        if current is not None and now < current.ends - LAST:
            if now >= current.ends - self._early and now >= self._next_attempt:
                self._next_attempt = now + AGAIN_AFTER
                self._start()
            return current.value
        return (await asyncio.shield(self._start())).value

    def forget(self) -> None:
        """It was refused: fetch another one next time."""
        self._current = None

    def _start(self) -> "asyncio.Task[Lasting[V]]":
        loop = asyncio.get_running_loop()
        task = self._fetching.get(loop)
        if task is None:
            task = self._fetching[loop] = loop.create_task(self._renew())
            task.add_done_callback(self._fetched)
        return task

    def _fetched(self, task: "asyncio.Task[Lasting[V]]") -> None:
        # A task refers to its loop, which would otherwise live as long as this.
        self._fetching.pop(task.get_loop(), None)
        # What failed in the background is said in the log; who waits for it is told as well.
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("%s", error)

    async def _renew(self) -> Lasting[V]:
        self._current = found = await self._fetch()
        return found


class EntraToken(Renewed[str]):
    """The token of a credential for the SignalR service."""

    def __init__(self, credential: Credential, *, clock: Callable[[], float] = time.time) -> None:
        self._credential = credential
        super().__init__(self._ask, clock=clock)

    def __repr__(self) -> str:
        return f"<EntraToken of {type(self._credential).__name__}>"

    async def _ask(self) -> Lasting[str]:
        get_token = self._credential.get_token
        try:
            if inspect.iscoroutinefunction(get_token):
                found = await get_token(SCOPE)
            else:
                found = await asyncio.to_thread(get_token, SCOPE)
                if inspect.isawaitable(found):
                    found = await found
            token, ends = str(found.token), float(found.expires_on)
        except Exception as error:
            raise CredentialError(
                f"{type(self._credential).__name__} gave no token for {SCOPE}: {type(error).__name__}. "
                "Check the identity of this program and its role on the SignalR resource (SignalR Service Owner)."
            ) from error
        if not token.isascii() or not token.isprintable() or " " in token:
            raise CredentialError(f"{type(self._credential).__name__} gave something that is no token")
        return Lasting(token, ends)
