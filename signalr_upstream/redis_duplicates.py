"""Duplicates across workers and containers: what ``Duplicates`` does, with the answers in Redis.

A worker that begins a call takes a lease on its key and renews it while the handler runs; if the worker dies, the lease
ends, and a duplicate that waits takes over. Where Redis cannot be reached, or does not answer in time, calls are served
all the same.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Protocol

import msgspec

from .duplicates import ENTRY_SIZE, KEEP, MAX_BYTES, MAX_ENTRIES, Work
from .errors import MissingExtraError
from .reply import Reply

try:
    from redis.exceptions import RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError
except ModuleNotFoundError as error:
    raise MissingExtraError(__name__, "redis", extra="redis") from error

logger = logging.getLogger("signalr_upstream")

LEASE: Final = 10.0
"""Seconds after which a duplicate no longer waits for a worker that has died."""

LOOK_EVERY: Final = 0.05
"""Seconds between looks at whether the first has answered."""

TIMEOUT: Final = 2.0
"""Seconds that a call waits for Redis to answer a command: one that is well takes milliseconds."""

PAUSE: Final = 5.0
"""Seconds for which a Redis that has not answered is not asked: a call that waits takes the place of another one."""

SAY_EVERY: Final = 60.0
"""Seconds between log lines about a Redis that fails."""

_RUNNING: Final = b"r"
_ANSWER: Final = b"a"

_STORE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local keep, now, size = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local function known(key) return redis.call('HGET', KEYS[3], key) or 0 end
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[3]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', keep)
redis.call('ZADD', KEYS[2], now + keep, KEYS[1])
local bytes = redis.call('HINCRBY', KEYS[3], 'bytes', size - known(KEYS[1]))
redis.call('HSET', KEYS[3], KEYS[1], size)
while true do
  local oldest = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
  local count = redis.call('ZCARD', KEYS[2])
  local over = count > 1 and (count > tonumber(ARGV[6]) or bytes > tonumber(ARGV[7]))
  if not over and tonumber(oldest[2]) > now then break end
  redis.call('DEL', oldest[1])
  redis.call('ZREM', KEYS[2], oldest[1])
  bytes = redis.call('HINCRBY', KEYS[3], 'bytes', 0 - known(oldest[1]))
  redis.call('HDEL', KEYS[3], oldest[1])
end
redis.call('PEXPIRE', KEYS[2], 2 * keep)
redis.call('PEXPIRE', KEYS[3], 2 * keep)
return 1
"""
"""Put an answer in the place of our lease, and let the oldest go: by age, by number, by bytes.

Redis may have let any of the three keys go: an answer before the list of ends does (it goes by its own clock), and with
``maxmemory`` the list of ends or that of sizes.
"""

_IF_OURS: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW: Final = _IF_OURS.format("'PEXPIRE', KEYS[1], ARGV[2]")
_GIVE_UP: Final = _IF_OURS.format("'DEL', KEYS[1]")


class RedisClient(Protocol):
    """What is needed of ``redis.asyncio.Redis``."""

    async def execute_command(self, *args: Any, **options: Any) -> Any: ...


class RedisDuplicates:
    """Knows the calls of all processes with the same Redis and prefix.

    Args:
        redis: a ``redis.asyncio.Redis``, which stays yours to close.
        prefix: of every key. The braces keep all of them in one slot of a cluster.
        keep, max_entries, max_bytes: as for ``Duplicates``, of all processes together.
        lease: seconds after which a worker that says nothing counts as dead.
        timeout: seconds for Redis to answer a command.
        clock: Unix seconds.
    """

    def __init__(
        self,
        redis: RedisClient,
        *,
        prefix: str = "{signalr-upstream}",
        keep: float = KEEP,
        max_entries: int = MAX_ENTRIES,
        max_bytes: int = MAX_BYTES,
        lease: float = LEASE,
        timeout: float = TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._keep = keep
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._lease = lease
        self._timeout = timeout
        self._clock = clock
        self._say_again = 0.0
        self._ask_again = 0.0

    def __repr__(self) -> str:
        return f"<RedisDuplicates {self._prefix!r}>"

    async def answer(self, key: bytes, work: Work) -> Reply:
        """See ``Once.answer``."""
        name = f"{self._prefix}:{key.hex()}"
        ours = _RUNNING + secrets.token_bytes(12)
        try:
            found = await self._take(name, ours)
        except (RedisError, OSError) as error:
            self._say(error)
            reply, _ = await work()
            return reply
        return found if found is not None else await self._first(name, ours, work)

    async def _take(self, name: str, ours: bytes) -> Reply | None:
        """The answer of the first, once it is there; None if that is us."""
        while True:
            if await self._run("SET", name, ours, "NX", "PX", _ms(self._lease)):
                return None
            found = await self._run("GET", name)
            if found is not None and found.startswith(_ANSWER):
                return msgspec.msgpack.decode(found[1:], type=_REPLY)
            if found is not None:
                await asyncio.sleep(LOOK_EVERY)

    async def _first(self, name: str, ours: bytes, work: Work) -> Reply:
        counts = False
        try:
            async with self._renewing(name, ours):
                reply, counts = await work()
        finally:
            # Also if this call is cancelled: whoever waits takes over.
            await asyncio.shield(self._settle(name, ours, reply if counts else None))
        return reply

    async def _settle(self, name: str, ours: bytes, reply: Reply | None) -> None:
        try:
            if reply is None:
                await self._run("EVAL", _GIVE_UP, 1, name, ours)
                return
            await self._run(
                "EVAL",
                _STORE,
                3,
                name,
                f"{self._prefix}:ends",
                f"{self._prefix}:sizes",
                ours,
                _ANSWER + msgspec.msgpack.encode(reply),
                _ms(self._keep),
                _ms(self._clock()),
                ENTRY_SIZE + len(reply[2]),
                self._max_entries,
                self._max_bytes,
            )
        except (RedisError, OSError) as error:
            self._say(error)

    @contextlib.asynccontextmanager
    async def _renewing(self, name: str, ours: bytes) -> AsyncIterator[None]:
        task = asyncio.create_task(self._renew(name, ours))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _renew(self, name: str, ours: bytes) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            try:
                await self._run("EVAL", _RENEW, 1, name, ours, _ms(self._lease))
            except (RedisError, OSError) as error:
                self._say(error)

    async def _run(self, *command: Any) -> Any:
        if self._clock() < self._ask_again:
            raise TimeoutError
        try:
            async with asyncio.timeout(self._timeout):
                # Answers are bytes, also of a client that decodes.
                return await self._redis.execute_command(*command, NEVER_DECODE=True)
        except (TimeoutError, RedisTimeoutError):
            self._ask_again = self._clock() + PAUSE
            raise

    def _say(self, error: Exception) -> None:
        now = self._clock()
        if now >= self._say_again:
            self._say_again = now + SAY_EVERY
            logger.warning(
                "Redis fails (%s): duplicates are not recognised until it works", type(error).__name__
            )


_REPLY: Final = tuple[int, tuple[tuple[bytes, bytes], ...], bytes]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
