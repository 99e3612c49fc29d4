"""The guard in front of Redis: no request waits for a store that is away, and each goes on as the setting says.

What lives here: the breaker, the deadline of a call, what is done instead, and what is told to Redis when it is back.
What must never live here: the client library, logging (a callback hears of changes of state, never of requests).

Up: every call is a task with a deadline. The first error, or the first deadline that passes, opens the breaker and ends
all calls under way at once. Away: nothing is sent; one probe a second, in the background, which takes a real step and
must be as quick as a call. Back: what is owed to Redis goes first, then the breaker closes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from policies.store import Lease, Part, Store, StoreAway
from proxy.store.deadline import Deadline
from proxy.store.memory import Memory
from proxy.store.redis import CONNECTIONS, RedisScope, RedisStore
from proxy.store.scope import GuardedScope
from proxy.store.state import Change, Mode, OnError, StoreState
from proxy.store.unsent import Unsent

T = TypeVar("T")

#: Seconds between two probes while Redis is away.
PROBE_EVERY = 1.0
#: Seconds that connecting may take in a probe; a call has its deadline alone.
CONNECT = 1.0
#: Changes kept for Redis while it is away; more are dropped, and counted.
MAX_OWED = 10_000
#: Changes sent in one command at the return.
BATCH = 100
#: Seconds without an outage after which the next one is a new one, and not the same that flaps.
QUIET = 30.0
#: Probes in a row that a store which flaps must pass.
MOST_PROBES = 3


class Guarded:
    """A Redis store behind a breaker. n: how many processes share the limits, replicas times workers; each grants its
    share while Redis is away, in mode ``local``. timeout: seconds for a call, connecting included.

    For metrics, all plain: ``up``, ``mode`` (of what is in force now: ``shared`` when up), ``errors`` by reason,
    ``outages``, ``instead`` (calls answered without Redis, by mode), ``owed`` (changes waiting for its return),
    ``dropped`` (changes it will never hear of), ``unsure`` (settlements under way when it went: done or not).
    """

    def __init__(
        self,
        remote: RedisStore,
        *,
        on_error: OnError = "local",
        n: int = 1,
        timeout: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        changed: Callable[[Change], None] | None = None,
        probe_every: float = PROBE_EVERY,
    ) -> None:
        self.remote = remote
        self.local = Memory(clock=clock, wall=wall, n=n)
        self.on_error: OnError = on_error
        self.n = n
        self.clock = clock
        self.up = True
        self.answered = -QUIET
        self.errors: Counter[str] = Counter()
        self.outages = 0
        self.instead: Counter[str] = Counter()
        self.dropped = 0
        self.unsure = 0
        self._timeout = timeout
        self._changed = changed
        self._probe_every = probe_every
        self._turns = asyncio.Semaphore(CONNECTIONS)
        self._running: set[asyncio.Task[Any]] = set()
        self._aside: set[asyncio.Task[Any]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._owed: deque[tuple[RedisScope, Part]] = deque()
        self._unsent = Unsent()
        self._scopes: dict[str, GuardedScope] = {}
        self._warmed: asyncio.Lock | None = None
        self._ready = False
        self._away_at = self._back_at = -QUIET
        self._need = 1
        self._instead_before = 0
        self._closed = False

    # -- life

    def scope(self, name: str) -> GuardedScope:
        """The counters of one policy."""
        found = self._scopes.get(name)
        if found is None:
            found = self._scopes[name] = GuardedScope(self, self.remote.scope(name), self.local.scope(name))
        return found

    async def open(self, name: str) -> Store:
        """The counters of one policy, once somebody has tried to reach Redis. Never fails because Redis does."""
        self._warmed = self._warmed or asyncio.Lock()
        async with self._warmed:
            if not self._ready:
                self._ready = True
                try:
                    async with asyncio.timeout(CONNECT):
                        await self.remote.warm()
                except (StoreAway, TimeoutError) as error:
                    self.fail(error.reason if isinstance(error, StoreAway) else "timeout")
        return self.scope(name)

    async def close(self) -> None:
        self._closed = True
        tasks = [*self._running, *self._aside] + ([self._watcher] if self._watcher else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.local.clear()
        await self.remote.close()

    # -- state

    @property
    def mode(self) -> Mode:
        return "shared" if self.up else self.on_error

    @property
    def owed(self) -> int:
        """Changes and additions that Redis has yet to be told."""
        return len(self._owed) + len(self._unsent)

    def state(self) -> StoreState:
        """For metrics; cheap."""
        return StoreState(
            self.mode, self.up, True, self.n, len(self.local), self.errors, self.outages, self.local.evicted, self.instead,
            self.dropped, self.unsure,
        )  # fmt: skip

    def fail(self, reason: str) -> None:
        """Redis is away. Ends every call under way; starts the probes."""
        self.errors[reason] += 1
        if not self.up or self._closed:
            return
        now = self.clock()
        self._need = min(MOST_PROBES, self._need + 1) if now - self._back_at < QUIET else 1
        self.up = False
        self.outages += 1
        self._away_at = now
        self._instead_before = self.instead.total()
        mine = asyncio.current_task()
        for task in self._running:
            if task is not mine:
                task.cancel()
        self._watcher = asyncio.get_running_loop().create_task(self._watch())
        self._tell(reason, 0.0)

    def _tell(self, reason: str, away_s: float) -> None:
        if self._changed is not None:
            calls = self.instead.total() - self._instead_before
            self._changed(Change(self.up, reason, self.on_error, away_s, calls, self.dropped))

    # -- calls

    async def call(self, work: Callable[[], Awaitable[T]], undo: Callable[[T], None] | None = None) -> T:
        """Run a call to Redis as a task of its own: a caller that is cancelled leaves no connection half-read, and
        ``undo`` gets what the call brought. Raises StoreAway."""
        if not self.up:
            raise StoreAway("away", self._probe_every)
        task = asyncio.get_running_loop().create_task(self._bounded(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _cancelling():  # it was ended by `fail` before it had begun
                raise StoreAway("away", self._probe_every) from None
            task.add_done_callback(lambda done: _hand(done, undo))
            raise

    async def _bounded(self, work: Callable[[], Awaitable[T]]) -> T:
        """Waits for its turn without a deadline: while others are answered, a queue of our own making is no outage."""
        timer = None
        try:
            async with self._turns:
                timer = Deadline(self._timeout, self)
                found = await work()
                if not timer.passed:
                    self.answered = self.clock()
                return found
        except StoreAway as error:
            self.fail(error.reason)
            raise
        except asyncio.CancelledError:
            # nobody but the deadline, `fail` and `close` has this task
            if timer is not None and timer.passed:
                self.fail("timeout")
            raise StoreAway("timeout", self._probe_every) from None
        finally:
            if timer is not None:
                timer.cancel()

    def aside(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something that nobody waits for."""
        if self._closed:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    def owe(self, scope: RedisScope, changes: Sequence[Part]) -> None:
        """Keep changes for Redis's return; each is sent once."""
        room = MAX_OWED - len(self._owed)
        self._owed.extend((scope, change) for change in changes[:room])
        self.dropped += max(0, len(changes) - room)

    def owe_counts(self, scope: RedisScope, key: str, fields: Mapping[str, float], ttl_s: float) -> None:
        """Keep additions to an account for Redis's return."""
        self.dropped += self._unsent.add(scope, key, fields, ttl_s)

    # -- the way back

    async def _watch(self) -> None:
        good = 0
        await self.remote.drop()
        while True:
            await asyncio.sleep(self._probe_every)
            good = good + 1 if await self._probe() else 0
            if good >= self._need:
                break
        if not await self._pay():
            self._watcher = asyncio.get_running_loop().create_task(self._watch())
            return
        self.up = True
        self._back_at = self.clock()
        self._watcher = None
        self._tell("back", self._back_at - self._away_at)
        self._collect()  # what was counted here while the last batch was under way
        await self._send_owed()

    async def _probe(self) -> bool:
        try:
            async with asyncio.timeout(CONNECT):
                await self.remote.warm()  # connects, which may take its time
            async with asyncio.timeout(self._timeout):
                await self.remote.warm()
        except StoreAway as error:
            self.errors[error.reason] += 1
        except TimeoutError:
            self.errors["timeout"] += 1
        else:
            return True
        await self.remote.drop()
        return False

    async def _pay(self) -> bool:
        """Tell Redis what it has missed: windows spent here, slots held here, settlements of steps that it counted.
        Still away meanwhile, so what comes in goes with the next round; the rounds are bounded. False: it went again."""
        for _ in range(20):
            leases = self._collect()
            if not self.owed:
                break
            if not await self._send_owed():
                return False
        for scope, held in leases:
            for i in range(0, len(held), BATCH):
                if not await self._sent(scope.renew(held[i : i + BATCH])):
                    return False
        return True

    def _collect(self) -> list[tuple[RedisScope, list[Lease]]]:
        """Put the windows spent here with what is owed; returns the slots held here."""
        found = [(self._scopes[owed.scope].remote, owed) for owed in self.local.drain()]
        for scope, owed in found:
            self.owe(scope, owed.changes)
        return [(scope, owed.leases) for scope, owed in found if owed.leases]

    async def _send_owed(self) -> bool:
        """All of it, changes first, each sort by its age; False as soon as a batch fails."""
        while self._owed:
            scope, changes = self._batch()
            if not await self._sent(scope.adjust(changes)):
                self.dropped += len(changes)  # done or not: to send them again could charge twice
                return False
        while (owed := self._unsent.take(BATCH)) is not None:
            if not await self._sent(owed.scope.count(owed.key, owed.fields, owed.ttl_s)):
                self.dropped += len(owed.fields)
                return False
        return True

    def _batch(self) -> tuple[RedisScope, list[Part]]:
        """The next changes of one policy: one command has one slot."""
        scope, first = self._owed.popleft()
        batch = [first]
        while self._owed and len(batch) < BATCH and self._owed[0][0] is scope:
            batch.append(self._owed.popleft()[1])
        return scope, batch

    async def _sent(self, work: Awaitable[None]) -> bool:
        try:
            async with asyncio.timeout(CONNECT):
                await work
        except (StoreAway, TimeoutError):
            return False
        return True


def _cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _hand(done: asyncio.Task[T], undo: Callable[[T], None] | None) -> None:
    """The end of a call whose caller has gone. Looks at its error, so that asyncio does not print it."""
    if not done.cancelled() and done.exception() is None and undo is not None:
        undo(done.result())

