"""Microsoft Entra ID: credentials in place of an access key, and whose tokens an upstream call has to bring.

A credential is any object with ``get_token(scope)``, plain or async, as those of azure-identity are. Its token is kept
until shortly before it ends, and fetched once however many calls wait for it.

Spec: https://learn.microsoft.com/azure/azure-signalr/signalr-concept-authorize-azure-active-directory,
https://learn.microsoft.com/azure/azure-signalr/howto-use-managed-identity
"""

import asyncio
import inspect
import logging
import re
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, Generic, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from .connection_string import is_loopback, parse_endpoint_url
from .errors import ConfigurationError, ConnectionStringError, CredentialError

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

    async def get(self, *, timeout: float | None = None) -> V:
        """The value: the one there is, or a new one.

        Args:
            timeout: seconds to wait for a new one, which is fetched to its end all the same.

        Raises:
            TimeoutError: it took longer.
        """
        current, now = self._current, self._clock()
        if current is not None and now < current.ends - LAST:
            if now >= current.ends - self._early and now >= self._next_attempt:
                self._next_attempt = now + AGAIN_AFTER
                self._start()
            return current.value
        return (await asyncio.wait_for(asyncio.shield(self._start()), timeout)).value

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
        self.credential = credential
        self._name = type(credential).__name__
        super().__init__(self._ask, clock=clock)

    def __repr__(self) -> str:
        return f"<EntraToken of {self._name}>"

    async def get(self, *, timeout: float | None = None) -> str:
        """See ``Renewed``.

        Raises:
            CredentialError: the credential gave no token, or not in time.
        """
        try:
            return await super().get(timeout=timeout)
        except TimeoutError:
            raise CredentialError(
                f"{self._name} gave no token within {timeout:g} seconds. Is its identity service reachable from here?"
            ) from None

    async def _ask(self) -> Lasting[str]:
        get_token = self.credential.get_token
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
                f"{self._name} gave no token for {SCOPE}: {type(error).__name__}. "
                "Check the identity of this program and its role on the SignalR resource (SignalR Service Owner)."
            ) from error
        if not token.isascii() or not token.isprintable() or " " in token:
            raise CredentialError(f"{self._name} gave something that is no token")
        return Lasting(token, ends)


CLOUDS: Final = {
    "public": ("https://login.microsoftonline.com", "https://sts.windows.net"),
    "usgov": ("https://login.microsoftonline.us", "https://sts.windows.net"),
    "china": ("https://login.partner.microsoftonline.cn", "https://sts.chinacloudapi.cn"),
}
"""By cloud, who issues tokens of version 2.0 and publishes the keys, and who issues those of version 1.0."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class EntraUpstream:
    """Whose Entra ID tokens upstream calls have to bring: ``UpstreamApp(entra=EntraUpstream(...))``.

    The service brings one where the upstream setting asks for a managed identity. Where it also has access keys that
    the app knows, each call needs both, the signature and the token; without keys (``AuthType=azure`` in the connection
    string, and no ``upstream_keys``) the token alone is the proof. A call with neither is never served. An app that is
    ``connected_to`` another service, as by ``dev`` and in tests, asks for that one's signature alone.

    Args:
        tenant: id (a GUID) of the directory that the SignalR resource is in.
        audience: what the tokens are for, the claim ``aud``: the "resource" of the upstream setting, such as
            ``"api://my-app"``, or the application's id for tokens of version 2.0.
        identities: who may call: the object id (``oid``) or the application id (``appid``, ``azp``) of the SignalR
            resource's managed identity, at least one. Without it any program and person of the tenant who can get a
            token for the audience could.
        cloud: ``"public"``, ``"usgov"`` (US Government) or ``"china"``.
        endpoint: URL of the SignalR endpoint that these identities belong to, where the app has several: their calls
            are that endpoint's, and need its signature only if it has keys. Endpoints that no ``EntraUpstream`` names
            are then proven by their keys alone. One that the app does not have is an error.
        authority: issuer other than Microsoft's, without the tenant, such as the local service's URL.

    Raises:
        ConfigurationError: one of them is missing, or no such value.
    """

    _: KW_ONLY
    tenant: str
    audience: str
    identities: Sequence[str]
    cloud: Literal["public", "usgov", "china"] = "public"
    endpoint: str | None = None
    authority: str | None = None

    def __post_init__(self) -> None:
        everybody = "without it everybody in the tenant, or outside, could call"
        if not _GUID.fullmatch(str(self.tenant).lower()):
            raise ConfigurationError(
                f"EntraUpstream needs tenant=, the id of the directory as a GUID: {everybody}"
            )
        if not isinstance(self.audience, str) or not self.audience.strip():
            raise ConfigurationError(f"EntraUpstream needs audience=, what the tokens are for: {everybody}")
        if isinstance(self.identities, str) or not self.identities:
            raise ConfigurationError(
                "EntraUpstream needs identities=[...], ids of the SignalR resource's managed identity: "
                + everybody
            )
        if not all(_GUID.fullmatch(str(identity).lower()) for identity in self.identities):
            raise ConfigurationError("identities= are object ids or application ids: GUIDs")
        if self.cloud not in CLOUDS:
            raise ConfigurationError(f"cloud= is one of {', '.join(CLOUDS)}")
        if self.endpoint is not None:
            try:
                object.__setattr__(self, "endpoint", parse_endpoint_url(str(self.endpoint)))
            except ConnectionStringError:
                raise ConfigurationError(
                    "endpoint= is the URL of a SignalR endpoint, as the connection string has it: https://..."
                ) from None
        if self.authority is not None:
            url = urlsplit(self.authority)
            if url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
                raise ConfigurationError(
                    "authority= is an https URL: who can answer for it can let anybody in"
                )

    @property
    def issuers(self) -> tuple[str, str]:
        """The claim ``iss`` of a token of version 1.0 and of one of 2.0."""
        tenant = self.tenant.lower()
        newer, older = CLOUDS[self.cloud] if self.authority is None else (self.authority.rstrip("/"),) * 2
        return f"{older}/{tenant}/", f"{newer}/{tenant}/v2.0"

    @property
    def keys_url(self) -> str:
        """Where the keys that sign both versions are published."""
        return self.issuers[1].removesuffix("/v2.0") + "/discovery/v2.0/keys"

    def allows(self, *ids: object) -> bool:
        """Whether one of a token's ids is an allowed identity."""
        allowed = {identity.lower() for identity in self.identities}
        return any(isinstance(one, str) and one.lower() in allowed for one in ids)
