"""One policy applied to one route: each phase wrapped once, with all that every policy gets for free.

What lives here: conditions, shadow mode, error stance, time budget, timing and verdicts around a phase's
call. What must never live here: anything a single policy knows; sockets, clocks of its own, text of prompts
or replies.

A phase ends in one verdict: ``pass``, ``refuse``, ``error`` or ``timeout``; for gates also ``change`` and
``cut``; in shadow mode ``shadow_refuse``, ``shadow_cut`` and ``shadow_change`` for what was not done. An
error or a timeout then goes by the policy's ``on_error``; in ``observe`` and ``settle`` it harms nobody,
whatever that says.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from policies.contract import (
    Attempt,
    Candidate,
    Cut,
    Exchange,
    Finding,
    Kind,
    Policy,
    Refuse,
    ReplyHead,
    RequestBody,
)
from policies.when import Test

__all__ = ["Applied", "Hooks", "instant", "waiting"]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Where time comes from and where verdicts go; called for phases that really ran, never for the others.

    clock: seconds, monotonic. verdict: policy, phase, verdict, seconds. error: policy, phase, exception
    class.
    """

    clock: Callable[[], float]
    verdict: Callable[[str, str, str, float], None]
    error: Callable[[str, str, str], None]


class Overrun(Exception):
    """The policy's time budget is spent."""


class Applied:
    """A policy with what its entry and the route say about it.

    match: None when the route settles every condition. ran: the key in ``Exchange.notes`` that says that an
    earlier phase matched, for ``observe`` and ``settle``; None where conditions cannot change meanwhile.
    """

    __slots__ = ("closed", "hooks", "match", "name", "policy", "ran", "shadow", "timeout")

    def __init__(
        self,
        policy: Policy,
        hooks: Hooks,
        *,
        match: Test | None = None,
        ran: str | None = None,
        shadow: bool = False,
        closed: bool = True,
        timeout: float = 0.0,
    ) -> None:
        self.policy = policy
        self.name = policy.name
        self.hooks = hooks
        self.match = match
        self.ran = ran
        self.shadow = shadow
        self.closed = closed
        self.timeout = timeout

    def matcher(self, phase: str) -> Test | None:
        """The condition for a phase. What an earlier phase began, ``observe`` and ``settle`` always end."""
        match, ran = self.match, self.ran
        if match is None or ran is None:
            return match
        if phase in ("observe", "settle"):
            return lambda x: ran in x.notes or match(x)

        def test(x: Exchange) -> bool:
            if not match(x):
                return False
            x.notes[ran] = True
            return True

        return test

    def fork(self, x: Exchange, given: tuple[Any, ...]) -> tuple[Exchange, tuple[Any, ...]]:
        """What a phase is handed: the real things, or in shadow mode copies of all that it could change."""
        return (x.fork(), tuple(map(_copy, given))) if self.shadow else (x, given)

    def passed(self, x: Exchange, seen: Exchange, phase: str, seconds: float) -> None:
        self.hooks.verdict(self.name, phase, "pass", seconds)
        self.collect(x, seen)

    def stops(self, x: Exchange, seen: Exchange, phase: str, error: BaseException, seconds: float) -> bool:
        """Report what a phase raised; True when the exchange must not go on."""
        self.collect(x, seen)
        quiet = phase in ("observe", "settle")
        if isinstance(error, Refuse | Cut) and not quiet:
            self.hooks.verdict(self.name, phase, "shadow_refuse" if self.shadow else "refuse", seconds)
            refusal = as_refusal(error)
            self.note(x, refusal.kind.value, refusal.param or "", "refuse")
            return not self.shadow
        self.broke(phase, error, seconds)
        if quiet or not self.closed:
            return False
        self.note(x, Kind.POLICY_ERROR.value, "", "refuse")
        return not self.shadow

    def broke(self, phase: str, error: BaseException, seconds: float) -> None:
        """Report a failure of the policy itself: its class, never its message, which may hold text."""
        overrun = isinstance(error, Overrun)
        self.hooks.error(self.name, phase, "TimeoutError" if overrun else type(error).__name__)
        self.hooks.verdict(self.name, phase, "timeout" if overrun else "error", seconds)

    def note(self, x: Exchange, kind: str, where: str, action: str, count: int = 1) -> None:
        """A finding of the chain itself: who stopped an exchange, or would have."""
        action = f"would_{action}" if self.shadow else action
        x.findings.append(Finding(self.name, kind, count, where, action, self.shadow))

    def collect(self, x: Exchange, seen: Exchange) -> None:
        """Bring the findings of a shadow run over, marked; nothing else of it survives."""
        if seen is not x and seen.findings:
            x.findings += [replace(f, shadow=True) for f in seen.findings]
            seen.findings.clear()


def as_refusal(error: BaseException) -> Refuse:
    """What a phase raised, as the refusal that the relay is told of."""
    if isinstance(error, Refuse):
        return error
    if isinstance(error, Cut):  # outside gates there is no reply to end: the request is blocked instead
        return Refuse(Kind.BLOCKED, error.message)
    return Refuse(Kind.POLICY_ERROR)


def as_cut(error: BaseException) -> Cut:
    """What a guard or its gate raised, as the cut that the pump is told of."""
    if isinstance(error, Cut):
        return error
    if isinstance(error, Refuse):
        return Cut(error.kind.value, error.message)
    return Cut(Kind.POLICY_ERROR.value)


def _copy(thing: Any) -> Any:
    match thing:
        case RequestBody():
            return thing.fork()
        case ReplyHead():
            return ReplyHead(thing.status, thing.headers.copy())
        case Attempt() | Candidate():
            return replace(thing)
        case list():
            return [_copy(t) for t in thing]
    return thing


def waiting(applied: Applied, phase: str) -> Callable[..., Coroutine[Any, Any, None]]:
    """Wrap an async phase. Its coroutine is stepped by hand, so that one which never waits costs no timer; a phase that is
    declared ``at_once`` has none."""
    run: Callable[..., Coroutine[Any, Any, None]] = getattr(applied.policy, phase)
    plain: Callable[..., None] | None = getattr(run, "at_once", None)
    policy, name, verdict = applied.policy, applied.name, applied.hooks.verdict
    match, clock, shadow = applied.matcher(phase), applied.hooks.clock, applied.shadow

    async def call(x: Exchange, *given: Any) -> None:
        if match is not None and not match(x):
            return
        began, seen = clock(), x
        try:
            if shadow:
                seen, given = applied.fork(x, given)
            if plain is not None:
                plain(policy, seen, *given)
            else:
                work = run(seen, *given)
                try:
                    waits_for = work.send(None)
                except StopIteration:
                    pass
                else:
                    await _finish(work, waits_for, applied.timeout)
        except BaseException as error:
            if not isinstance(error, Exception) and not _own_cancel(error):
                raise
            if applied.stops(x, seen, phase, error, clock() - began):
                raise as_refusal(error) from None
        else:
            verdict(name, phase, "pass", clock() - began)
            if shadow:
                applied.collect(x, seen)

    return call


def instant(applied: Applied, phase: str) -> Callable[..., None]:
    """Wrap a sync phase that returns nothing."""
    run: Callable[..., None] = getattr(applied.policy, phase)
    match, clock, shadow = applied.matcher(phase), applied.hooks.clock, applied.shadow

    def call(x: Exchange, *given: Any) -> None:
        if match is not None and not match(x):
            return
        began, seen = clock(), x
        try:
            if shadow:
                seen, given = applied.fork(x, given)
            run(seen, *given)
        except Exception as error:
            if applied.stops(x, seen, phase, error, clock() - began):
                raise as_refusal(error) from None
        else:
            applied.passed(x, seen, phase, clock() - began)

    return call


def _own_cancel(error: BaseException) -> bool:
    """True for a CancelledError that nobody sent to this task: the policy awaited something that was
    cancelled."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


async def _finish(work: Coroutine[Any, Any, None], waits_for: Any, seconds: float) -> None:
    """Run a coroutine that has begun to wait to its end, for at most so many seconds (0: no bound)."""
    try:
        async with asyncio.timeout(seconds or None) as timer:
            await _resume(work, waits_for)
    except TimeoutError:
        if timer.expired():
            raise Overrun from None
        raise
    finally:
        work.close()


@types.coroutine
def _resume(work: Coroutine[Any, Any, None], waits_for: Any) -> Generator[Any, Any, None]:
    """Hand the event loop what a half-run coroutine waits for, and go on from there."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:
            try:
                waits_for = work.throw(error)
            except StopIteration:
                return
        else:
            try:
                waits_for = work.send(sent)
            except StopIteration:
                return
