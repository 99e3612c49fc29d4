"""Counters in Redis, Valkey or what speaks like them: one script call for a step, one for a settlement.

What lives here: the client library, connections, the wire form of a step. What must never live here: what happens when
Redis is away (``guarded.py``): every call raises StoreAway then, with a word for the reason and never the server's own
message. Nothing here bounds the time of a call but a last net; the guard does.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis import exceptions as errors
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from policies.store import FULL, Lease, Part, PartState, Rate, StoreAway, Taken, Window, check_counts, check_parts
from proxy.store.packing import HEAD, NUMBER, STATE, Script, pack, script_of, ttl_ms
from proxy.store.scripts import ADJUST, COUNT, TAKE
from proxy.store.urls import Address

#: Connections of one process. The guard lets as many commands run at once; the others wait their turn there. More would
#: not be quicker (one loop writes and one thread of Redis answers), and a burst would begin with more of them to set up.
CONNECTIONS = 16
#: The kinds in ADJUST beyond a rate (1) and a window (2).
_RELEASE, _HOLD = 3, 4
#: Names of an account read in one command: about a millisecond here.
PAGE = 1000


_TAKE, _ADJUST, _COUNT = script_of(TAKE), script_of(ADJUST), script_of(COUNT)
#: No CLIENT SETINFO for each new connection; the library renamed the option in its version 8.
_QUIET: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(Redis.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


class RedisStore:
    """One process's way to one Redis. address: where. timeout: seconds that a call usually has; several times as much is
    the last net under everything that the client library does by itself (Sentinel, topology). prefix: begins every
    key. ca: a file with certificates to trust, for TLS. clock: monotonic seconds.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: float = 0.05,
        prefix: str = "headgate",
        ca: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self.prefix = prefix
        self.clock = clock
        self.late = timeout + 1.0
        self._timeout = timeout
        self._ca = ca
        self._client: Any = None
        self._sentinel: Any = None
        #: Redis's clock minus ours in us, from the last answer; None before the first.
        self._ahead: float | None = None

    def scope(self, name: str) -> RedisScope:
        """The counters of one policy. All its keys have one hash tag, so that a Cluster keeps them in one slot."""
        return RedisScope(self, f"{{{self.prefix}:{name.replace('}', ')')}}}:")

    async def warm(self) -> None:
        """Connect, and put the scripts where they are needed; a step that writes shows whether Redis can count."""
        step = [Rate("self", 1, 1_000_000, 1.0, 1_000_000)]
        await self.scope("probe").take(step)

    async def drop(self) -> None:
        """Forget all idle connections, and where the master was. The next call makes new ones."""
        client, self._client = self._client, None
        self._ahead = None
        if client is not None:
            await self._shut(client)

    async def close(self) -> None:
        await self.drop()

    async def _shut(self, client: Any) -> None:
        try:
            await client.aclose()
            if self._sentinel is not None:
                for one in self._sentinel.sentinels:
                    await one.aclose()
        except (OSError, errors.RedisError, RuntimeError):
            pass  # it was broken already

    # -- calls

    async def script(self, script: Script, keys: Sequence[str], args: Sequence[bytes]) -> Any:
        """Run a script by its digest; Redis has forgotten it after a restart or SCRIPT FLUSH, then by its text, which
        Redis keeps."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except errors.NoScriptError:
            return await self.call("EVAL", script.text, len(keys), *keys, *args)

    async def call(self, *command: Any) -> Any:
        """One command. Raises StoreAway; NoScriptError is the caller's."""
        client = self._client
        if client is None:
            client = self._client = self._connect()
        try:
            return await client.execute_command(*command)
        except errors.NoScriptError:
            raise
        except Exception as error:  # a server that answers nonsense can raise anything
            raise StoreAway(reason_of(error)) from None

    def not_after(self) -> float:
        """The latest moment at which Redis may do what is sent now, in us of its own clock; 0 when that is unknown."""
        return 0.0 if self._ahead is None else self._ahead + (self.clock() + self.late) * 1e6

    def heard(self, us: float) -> None:
        self._ahead = us - self.clock() * 1e6

    # -- connections

    def _connect(self) -> Any:
        a = self.address
        net = max(1.0, 4 * self._timeout)
        options: dict[str, Any] = {
            "username": a.user, "password": a.password, "protocol": 2,
            "socket_timeout": net, "socket_connect_timeout": net, "retry": Retry(NoBackoff(), 0), **_QUIET,
        }  # fmt: skip
        tls: dict[str, Any] = {"ssl_ca_certs": self._ca} if a.tls else {}
        if a.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in a.hosts]
            return RedisCluster(
                startup_nodes=nodes, max_connections=4 * CONNECTIONS, ssl=a.tls, reinitialize_steps=1, **options, **tls
            )
        if a.kind == "sentinel":
            return self._by_sentinel(a, options, tls)
        # no timeout of its own here: nothing is done behind our back, and two timers per command cost 15 us
        kinds: dict[str, Any] = {"db": a.db, **options, **tls, "socket_timeout": None}
        if a.kind == "unix":
            kinds |= {"connection_class": UnixDomainSocketConnection, "path": a.path}
        else:
            kinds |= {"connection_class": SSLConnection if a.tls else Connection}
            kinds["host"], kinds["port"] = a.hosts[0]
        # The wait is a net too: the guard hands out as many turns as there are connections.
        return Redis.from_pool(BlockingConnectionPool(max_connections=CONNECTIONS, timeout=net, **kinds))

    def _by_sentinel(self, a: Address, options: dict[str, Any], tls: dict[str, Any]) -> Any:
        # user and password are the master's; the sentinels are asked without
        own = {k: v for k, v in options.items() if k not in ("username", "password")} | tls | {"ssl": a.tls}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            list(a.hosts), sentinel_kwargs=own
        )
        return self._sentinel.master_for(
            a.service, db=a.db, ssl=a.tls, max_connections=4 * CONNECTIONS, **options, **tls
        )


class RedisScope:
    """The counters of one policy. Each call is one command, and raises StoreAway."""

    def __init__(self, store: RedisStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    async def take(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        return await self._step(parts, 1.0)

    async def read(self, parts: Sequence[Part]) -> Taken:
        check_parts(parts)
        return await self._step(parts, 0.0)

    async def _step(self, parts: Sequence[Part], spend: float) -> Taken:
        if not parts:
            return Taken(True, None, (), "redis")
        keys = [self.key(part) for part in parts]
        packed = [pack(part) for part in parts]
        store = self._store
        answer = await store.script(_TAKE, keys, [HEAD.pack(spend, store.not_after()), *packed])
        first, us = self._head(answer)
        if first < 0:  # the two clocks have moved apart; it came in time, since somebody reads the answer
            answer = await store.script(_TAKE, keys, [HEAD.pack(spend, 0.0), *packed])
            first, us = self._head(answer)
        store.heard(us)
        return self._taken(parts, int(first), answer)

    def _head(self, answer: Any) -> tuple[float, float]:
        if not isinstance(answer, bytes) or len(answer) < HEAD.size:
            raise StoreAway("protocol")
        first, us = HEAD.unpack_from(answer)
        return first, us

    def _taken(self, parts: Sequence[Part], first: int, answer: bytes) -> Taken:
        if len(answer) != HEAD.size + len(parts) * STATE.size or not 0 <= first <= len(parts):
            raise StoreAway("protocol")
        states = tuple(
            [
                PartState(allowed > 0, part.limit, left, reset, None if retry < 0 else retry)
                for part, (allowed, left, reset, retry) in zip(
                    parts, STATE.iter_unpack(answer[HEAD.size :]), strict=True
                )
            ]
        )
        return Taken(first == 0, first - 1 if first else None, states, "redis")

    async def adjust(self, changes: Sequence[Part], taken: Taken | None = None) -> None:
        check_parts(changes, changes=True)
        await self._change(changes, _RELEASE)

    async def renew(self, leases: Sequence[Lease]) -> None:
        check_parts(leases, renewed=True)
        await self._change(leases, _HOLD)

    async def _change(self, changes: Sequence[Part], leases: int) -> None:
        if changes:
            keys = [self.key(part) for part in changes]
            answer = await self._store.script(_ADJUST, keys, [pack(part, leases) for part in changes])
            if answer != 1:
                raise StoreAway("protocol")

    async def get(self, key: str) -> bytes | None:
        found = await self._store.call("GET", f"{self._prefix}v:{key}")
        if found is not None and not isinstance(found, bytes):
            raise StoreAway("protocol")
        return found

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        await self._store.call("SET", f"{self._prefix}v:{key}", value, "PX", ttl_ms(ttl_s))

    async def delete(self, key: str) -> None:
        await self._store.call("DEL", f"{self._prefix}v:{key}")

    async def count(self, key: str, fields: Mapping[str, float], ttl_s: float) -> None:
        check_counts(fields, ttl_s)
        if fields:
            args = [HEAD.pack(ttl_ms(ttl_s), FULL)]
            for name, amount in fields.items():
                args += [name.encode("utf-8", "replace"), NUMBER.pack(amount)]
            if await self._store.script(_COUNT, [f"{self._prefix}c:{key}"], args) != 1:
                raise StoreAway("protocol")

    async def counts(self, key: str) -> dict[str, float]:
        found: dict[str, float] = {}
        at = 0
        while True:
            at, page = await self.counts_page(key, at)
            found |= page
            if not at:
                return found

    async def counts_page(self, key: str, at: int) -> tuple[int, dict[str, float]]:
        """Some of them, from a place on, and the next place (0: that was all). One call for all would hold Redis up."""
        answer = await self._store.call("HSCAN", f"{self._prefix}c:{key}", at, "COUNT", PAGE)
        try:
            following, rows = answer
            return int(following), {name.decode("utf-8", "replace"): float(value) for name, value in rows.items()}
        except (TypeError, ValueError, AttributeError):
            raise StoreAway("protocol") from None

    def key(self, part: Part) -> str:
        """Where Redis keeps a part: ``{PREFIX:POLICY}:r:KEY`` (w for windows, l for leases)."""
        kind = "r:" if isinstance(part, Rate) else "w:" if isinstance(part, Window) else "l:"
        return f"{self._prefix}{kind}{part.key}"


_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((errors.TimeoutError, TimeoutError), "timeout"),
    ((errors.AuthenticationError, errors.AuthenticationWrongNumberOfArgsError, errors.NoPermissionError), "auth"),
    ((errors.BusyLoadingError,), "loading"),
    ((errors.ReadOnlyError,), "read_only"),
    ((errors.OutOfMemoryError,), "out_of_memory"),
    ((errors.InvalidResponse,), "protocol"),
    ((errors.ClusterError, errors.RedisClusterException), "cluster"),
    ((errors.ConnectionError, OSError), "connection"),
    ((errors.ResponseError,), "reply"),
)
_WORDS = (("NOAUTH", "auth"), ("WRONGPASS", "auth"), ("LOADING", "loading"), ("MASTERDOWN", "connection"))


def reason_of(error: BaseException) -> str:
    """One of a few words for what went wrong; nothing of the message, which may hold addresses or keys."""
    for word, reason in _WORDS:
        if isinstance(error, errors.ResponseError) and str(error).startswith(word):
            return reason
    return next((reason for kinds, reason in _REASONS if isinstance(error, kinds)), "protocol")


