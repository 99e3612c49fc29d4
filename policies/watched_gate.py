"""The ``guard`` phase wrapped: gates that enforce, and gates that only look (shadow mode).

What lives here: error stance, time budget, timing, verdicts and shadow mode around a policy's gate. What must never
live here: chaining gates, or applying edits; whoever drives the channel does that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from policies.applied import Applied, Overrun, as_cut
from policies.contract import Channel, Cut, Exchange, Finding, Gate, JudgedGate, Kind, Refuse

__all__ = ["guarding", "place"]


def place(channel: Channel) -> str:
    """The address of a reply channel in findings, e.g. ``choices[0].content``."""
    tool = f".tool_calls[{channel.tool}]" if channel.tool >= 0 else ""
    return f"choices[{channel.choice}]{tool}.{channel.field}"


def guarding(applied: Applied) -> Callable[[Exchange, Channel], Gate | None]:
    """Wrap ``guard``: it may raise Cut; the gate it returns raises nothing but Cut."""
    run, match, clock = applied.policy.guard, applied.matcher("guard"), applied.hooks.clock
    shadow = applied.shadow
    wrap = _ShadowGate if shadow else _EnforcingGate
    wrap_judged = _ShadowJudge if shadow else _EnforcingJudge

    def call(x: Exchange, channel: Channel) -> Gate | None:
        if match is not None and not match(x):
            return None
        began, seen = clock(), x
        try:
            if shadow:
                seen = x.fork()
            gate = run(seen, channel)
        except Exception as error:
            if _stops(applied, x, seen, channel, error, clock() - began):
                raise as_cut(error) from None
            return None
        if gate is None:
            applied.passed(x, seen, "guard", clock() - began)
            return None
        if shadow:
            applied.collect(x, seen)
        return (wrap_judged if gate.judges else wrap)(applied, x, seen, channel, gate, clock() - began)

    return call


def _stops(applied: Applied, x: Exchange, seen: Exchange, channel: Channel, error: Exception, seconds: float) -> bool:
    """Report what a guard or its gate raised; True when the reply must end."""
    applied.collect(x, seen)
    if isinstance(error, Cut | Refuse):
        applied.hooks.verdict(applied.name, "guard", "shadow_cut" if applied.shadow else "cut", seconds)
        applied.note(x, as_cut(error).reason, place(channel), "cut")
        return not applied.shadow
    applied.broke("guard", error, seconds)
    if not applied.closed:
        return False
    applied.note(x, Kind.POLICY_ERROR.value, place(channel), "cut")
    return not applied.shadow


class _WatchedGate(Gate):
    """Drives a policy's gate, checks that its offsets make sense, and reports one verdict when it ends."""

    # of a gate that has not changed, cut or told anything yet, as nearly all
    _over: Cut | None = None
    _changed = False
    _told = False
    _finding: Finding | None = None

    def __init__(
        self, applied: Applied, x: Exchange, seen: Exchange, channel: Channel, gate: Gate, spent: float
    ) -> None:
        self.edits = []
        self._gate: Gate | None = gate  # None once it has failed, in a way that lets what follows pass
        self._applied = applied
        self._clock = applied.hooks.clock
        self._x = x
        self._seen = seen
        self._channel = channel
        self._spent = spent
        self._pushed = 0
        self._clear = 0

    def lead(self, text: str) -> None:
        gate = self._gate
        if gate is None:
            return
        try:
            gate.lead(text)
        except Exception as error:
            self._gate = None
            if _stops(self._applied, self._x, self._seen, self._channel, error, self._spent):
                self._over = as_cut(error).with_traceback(None)  # raised at the first push

    def push(self, text: str) -> int:
        self._pushed += len(text)
        return self._step(text)

    def close(self) -> int:
        return self._step(None)

    def _step(self, text: str | None) -> int:
        gate, clock = self._gate, self._clock
        if self._over is not None:  # a driver that goes on after a cut gets nothing through
            raise Cut(self._over.reason, self._over.message)
        if gate is None:
            return self._pushed
        began = clock()
        try:
            clear = gate.close() if text is None else gate.push(text)
            least = self._clear if text is not None or _waits(gate) else self._pushed
            if not least <= clear <= self._pushed:
                raise ValueError("a gate's offset went backwards, or past its end")
        except Exception as error:
            return self._broke(gate, error, self._spent + clock() - began)
        self._clear = clear
        if gate.edits:
            self._changed = True
            self._edited(gate)
        self._spent += clock() - began
        if self._seen is not self._x:
            self._applied.collect(self._x, self._seen)
        if text is None and not self._told and (clear == self._pushed or not _waits(gate)):
            self._told = True
            change = "shadow_change" if self._applied.shadow else "change"
            verdict = change if self._changed else "pass"
            self._applied.hooks.verdict(self._applied.name, "guard", verdict, self._spent)
        return clear

    def _broke(self, gate: Gate, error: Exception, seconds: float) -> int:
        """What a gate raised ends the reply (Cut), or all that follows passes."""
        self._gate = None
        if not _stops(self._applied, self._x, self._seen, self._channel, error, seconds):
            return self._pushed
        self._over = as_cut(error).with_traceback(None)
        if isinstance(error, Cut) and gate.edits:  # of the text that leaves before the cut
            self._edited(gate)
        raise Cut(self._over.reason, self._over.message, self._over.at) from None

    def _edited(self, gate: Gate) -> None:
        """The gate has new edits."""
        raise NotImplementedError


def _waits(gate: Gate) -> bool:
    return any(judge.waits for judge in gate.judges)


class _EnforcingGate(_WatchedGate):
    def __init__(
        self, applied: Applied, x: Exchange, seen: Exchange, channel: Channel, gate: Gate, spent: float
    ) -> None:
        super().__init__(applied, x, seen, channel, gate, spent)
        self.reach = gate.reach

    def push(self, text: str) -> int:
        """As ``_step``, for text that is nothing but fine, as nearly all is."""
        gate, clock = self._gate, self._clock
        self._pushed += len(text)
        if gate is None or gate.judges:
            return self._step(text)
        began = clock()
        try:
            clear = gate.push(text)
            if not self._clear <= clear <= self._pushed:
                raise ValueError("a gate's offset went backwards, or past its end")
        except Exception as error:
            return self._broke(gate, error, self._spent + clock() - began)
        self._clear = clear
        if gate.edits:
            self._changed = True
            self._edited(gate)
        self._spent += clock() - began
        return clear

    def _edited(self, gate: Gate) -> None:
        self.edits += gate.edits
        gate.edits = []


class _ShadowGate(_WatchedGate):
    """Lets all text pass at once, unchanged. The edits that its gate would have made are counted in one
    finding."""

    reach = 0

    def push(self, text: str) -> int:
        super().push(text)
        return self._pushed

    def close(self) -> int:
        super().close()
        return self._pushed

    def _edited(self, gate: Gate) -> None:
        count = len(gate.edits)
        gate.edits = []
        if self._finding is None:
            self._applied.note(self._x, "edit", place(self._channel), "change", count)
            self._finding = self._x.findings[-1]
        else:
            self._finding.count += count


class _Judge(_WatchedGate, JudgedGate):
    """Around a gate with judges in it: asking them goes by the policy's time budget and its ``on_error``."""

    def __init__(
        self, applied: Applied, x: Exchange, seen: Exchange, channel: Channel, gate: Gate, spent: float
    ) -> None:
        super().__init__(applied, x, seen, channel, gate, spent)
        self.judges = (self,)
        self._asked: tuple[JudgedGate, ...] = gate.judges
        self._due: list[JudgedGate] = []
        self._closed = False
        self._failed = False

    def close(self) -> int:
        self._closed = True
        return super().close()

    @property
    def _live(self) -> tuple[JudgedGate, ...]:
        return self._asked if self._gate is not None else ()

    @property
    def waits(self) -> bool:
        return self._over is None and any(judge.waits for judge in self._live)

    @property
    def settled(self) -> bool:
        return self._over is not None or all(judge.settled for judge in self._live)

    def due(self, now: float) -> bool:
        self._due = [judge for judge in self._live if judge.due(now)]
        return bool(self._due)

    def hurry(self) -> None:
        for judge in self._live:
            judge.hurry()

    def forgive(self) -> None:
        """Nothing: a failure was dealt with when it happened."""

    async def judge(self) -> None:
        for judge in self._due:
            began = self._applied.hooks.clock()
            try:
                await self._ask(judge)
            except Exception as error:
                self._fail(judge, error, self._applied.hooks.clock() - began)
            else:
                self._applied.hooks.verdict(self._applied.name, "judge", "pass", self._applied.hooks.clock() - began)
            if self._seen is not self._x:
                self._applied.collect(self._x, self._seen)

    async def _ask(self, judge: JudgedGate) -> None:
        try:
            async with asyncio.timeout(self._applied.timeout or None) as timer:
                await judge.judge()
        except TimeoutError:
            if timer.expired():
                raise Overrun from None
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError("what the gate waited for was cancelled") from error

    def _fail(self, judge: JudgedGate, error: Exception, seconds: float) -> None:
        """A judge broke: cut the channel, or let pass what was asked about. One report for each channel is enough."""
        again, self._failed = self._failed, True
        if not again and _stops(self._applied, self._x, self._seen, self._channel, error, seconds):
            self._over = as_cut(error).with_traceback(None)
        else:
            judge.forgive()


class _EnforcingJudge(_Judge, _EnforcingGate):
    pass


class _ShadowJudge(_Judge, _ShadowGate):
    """Nobody waits for its verdicts; they become findings as they come, also after the reply's end."""

    @property
    def waits(self) -> bool:
        return False

    async def judge(self) -> None:
        await super().judge()
        self._step(None if self._closed else "")
