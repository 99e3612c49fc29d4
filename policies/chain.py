"""The policy engine: a list of policies and a route in, a Plan out.

What lives here: which policy acts in which phase on which route, in which order; and the policies' life
around it. What must never live here: what happens inside a phase (``applied.py``, ``watched_gate.py``),
conditions (``when.py``), sockets, YAML.

Policies act in the order of the list, in every phase. A phase in which nobody acts is an empty tuple, and
the relay skips it: a route that no policy concerns pays nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, NamedTuple

from policies.applied import Applied, Hooks, instant, waiting
from policies.contract import (
    PHASES,
    Attempt,
    Candidate,
    Channel,
    Exchange,
    Gate,
    Policy,
    ReplyHead,
    RequestBody,
)
from policies.entry import PolicyEntry
from policies.watched_gate import guarding
from policies.when import Condition, RouteFacts, Test, compile_when, conditions_text

__all__ = [
    "EMPTY_PLAN", "Hooks", "Plan", "PrepareError", "RouteFacts", "Row", "Step", "close_all", "compile_plan",
    "prepare_all",
]  # fmt: skip

Wait = Coroutine[Any, Any, None]
Side = Literal["request", "reply"]
_ASYNC = frozenset({"admit", "inspect", "settle"})


class Step(NamedTuple):
    """A policy and the entry of the policy file that made it."""

    policy: Policy
    entry: PolicyEntry


class Row(NamedTuple):
    """One line of ``headgate explain``: a policy in a phase of a route."""

    policy: str
    use: str
    phase: str
    mode: str
    conditions: str
    describe: str


class Plan:
    """What the policies do on one route. Each phase is a tuple of callables, in the order of the policy file.

    The async ones must be awaited inside a task. What they raise: ``admit``, ``admit_late``, ``inspect``,
    ``choose`` and ``respond`` Refuse; ``guard`` and the gates it returns Cut; ``observe`` and ``settle``
    nothing. Only the cancellation of the task itself passes through all of them.

    admit: with the head alone. admit_late: the admits that wait for the model or the stream flag; to be run
    once the body is read, before ``inspect``, or after ``admit`` when there is no body to read. inspect: for
    every body that is JSON, also where the dialect finds no text in it. needs_body: such a body must be
    decoded before it may go on. meters: some policy wants the tokens of every reply. enforcing_request,
    enforcing_reply: the policies that enforce on that text, for routes where nobody can read it (see
    ``enforces``). shadow_request, shadow_reply: those that would, in shadow mode.
    """

    __slots__ = (
        "_readers", "admit", "admit_late", "choose", "empty", "enforcing_reply", "enforcing_request", "guard",
        "inspect", "meters", "needs_body", "observe", "respond", "rows", "settle", "shadow_reply", "shadow_request",
    )  # fmt: skip

    def __init__(self, calls: dict[str, list[Callable[..., Any]]], rows: Sequence[Row] = ()) -> None:
        def of(phase: str) -> tuple[Callable[..., Any], ...]:
            return tuple(calls.get(phase, ()))

        self.admit: tuple[Callable[[Exchange], Wait], ...] = of("admit")
        self.admit_late: tuple[Callable[[Exchange], Wait], ...] = of("admit_late")
        self.inspect: tuple[Callable[[Exchange, RequestBody], Wait], ...] = of("inspect")
        self.choose: tuple[Callable[[Exchange, list[Candidate]], None], ...] = of("choose")
        self.observe: tuple[Callable[[Exchange, Attempt], None], ...] = of("observe")
        self.respond: tuple[Callable[[Exchange, ReplyHead], None], ...] = of("respond")
        self.guard: tuple[Callable[[Exchange, Channel], Gate | None], ...] = of("guard")
        self.settle: tuple[Callable[[Exchange], Wait], ...] = of("settle")
        self.rows = tuple(rows)
        self.needs_body = bool(self.inspect)
        self.meters = False
        self.enforcing_request: tuple[str, ...] = ()
        self.enforcing_reply: tuple[str, ...] = ()
        self.shadow_request: tuple[str, ...] = ()
        self.shadow_reply: tuple[str, ...] = ()
        self._readers: list[tuple[Side, str, Test | None]] = []
        self.empty = not any(calls.values())

    def enforces(self, x: Exchange, side: Side) -> tuple[str, ...]:
        """The names of the policies that enforce on this exchange's request or reply text, by their
        conditions.

        For refusing what cannot be scanned. On a route whose request cannot be decoded, ``models`` and
        ``stream`` count as met. Call it after ``admit`` there, elsewhere after ``inspect``, when the model
        is known.
        """
        return tuple(name for s, name, test in self._readers if s == side and (test is None or test(x)))


EMPTY_PLAN = Plan({})


def compile_plan(steps: Sequence[Step], route: RouteFacts, hooks: Hooks) -> Plan:
    """Compile the policies, in their order, for one route.

    Raises ValueError for two policies of one name or a phase that does not exist, TypeError for a phase of
    the wrong colour (``async def`` where the proxy cannot wait, or the other way round).
    """
    calls: dict[str, list[Callable[..., Any]]] = {}
    rows: list[Row] = []
    readers: list[tuple[Step, Condition]] = []
    late = meters = False
    names: set[str] = set()
    for step in steps:
        name = step.policy.name
        if name in names:
            raise ValueError(f"two policies are called {name!r}; give each its own name")
        names.add(name)
        condition = compile_when(step.entry.when, route, f"when:{name}")
        if condition.never:
            continue
        phases = _phases(step.policy, route)
        if phases and condition.latch is not None:
            calls.setdefault("admit", []).append(_latching(condition.latch))
        applied = _applied(step, condition, phases, hooks)
        for phase in phases:
            turn = "admit_late" if phase == "admit" and (condition.late or step.policy.late) else phase
            calls.setdefault(turn, []).append(_wrap(applied, phase))
            rows.append(_row(step, turn))
        late = late or (bool(phases) and (condition.late or step.policy.late))
        meters = meters or (bool(phases) and step.policy.meters)
        readers.append((step, condition))
    plan = Plan(calls, rows)
    plan.needs_body = plan.needs_body or (late and _has_body(route))
    plan.meters = meters
    _readers(plan, readers, route)
    return plan


def _phases(policy: Policy, route: RouteFacts) -> list[str]:
    """The phases a policy takes part in on a route, in the order of time."""
    wanted = policy.phases()
    if unknown := wanted - set(PHASES):
        raise ValueError(f"policy {policy.name!r}: no such phase: {', '.join(sorted(unknown))}")
    for phase in wanted:
        if inspect.iscoroutinefunction(getattr(policy, phase)) is not (phase in _ASYNC):
            colour = "async def" if phase in _ASYNC else "def"
            raise TypeError(f"policy {policy.name!r}: {phase} must be a plain `{colour}`")
    if not _has_body(route):
        wanted -= {"inspect"}
    if not route.reads_reply:
        wanted -= {"guard"}
    return [phase for phase in PHASES if phase in wanted]


def _has_body(route: RouteFacts) -> bool:
    """False for methods whose requests have no content that means anything (RFC 9110 9.3)."""
    return route.method not in ("GET", "HEAD", "DELETE", "OPTIONS")


def _applied(step: Step, condition: Condition, phases: list[str], hooks: Hooks) -> Applied:
    ends = condition.test is not None and not {"observe", "settle"}.isdisjoint(phases)
    return Applied(
        step.policy,
        hooks,
        match=condition.test,
        ran=f"ran:{step.policy.name}" if ends else None,
        shadow=step.entry.mode == "shadow",
        closed=step.entry.on_error == "closed",
        timeout=step.entry.timeout,
    )


def _wrap(applied: Applied, phase: str) -> Callable[..., Any]:
    if phase == "guard":
        return guarding(applied)
    return waiting(applied, phase) if phase in _ASYNC else instant(applied, phase)


def _latching(latch: Test) -> Callable[[Exchange], Wait]:
    async def admit(x: Exchange) -> None:
        latch(x)

    return admit


def _row(step: Step, phase: str) -> Row:
    entry = step.entry
    return Row(step.policy.name, entry.use, phase, entry.mode, conditions_text(entry.when), step.policy.describe())


def _readers(plan: Plan, steps: list[tuple[Step, Condition]], route: RouteFacts) -> None:
    """Fill in who enforces on which text, or would."""
    found: dict[tuple[Side, bool], list[str]] = {}
    for step, condition in steps:
        shadow = step.entry.mode == "shadow"
        for side in step.policy.reads:
            found.setdefault((side, shadow), []).append(step.policy.name)
            if not shadow:
                test = condition.test if route.reads_request else condition.early
                plan._readers.append((side, step.policy.name, test))
    plan.enforcing_request = tuple(found.get(("request", False), ()))
    plan.enforcing_reply = tuple(found.get(("reply", False), ()))
    plan.shadow_request = tuple(found.get(("request", True), ()))
    plan.shadow_reply = tuple(found.get(("reply", True), ()))


class PrepareError(Exception):
    """A policy could not get ready. policy: its name; the cause is the exception it raised."""

    def __init__(self, policy: str, cause: Exception) -> None:
        super().__init__(f"policy {policy!r} could not start: {type(cause).__name__}: {cause}")
        self.policy = policy


async def prepare_all(steps: Sequence[Step]) -> None:
    """Prepare all policies in order, or none: when one fails or the task is cancelled, those before it and
    the half-done one are closed again. Raises PrepareError."""
    for i, step in enumerate(steps):
        try:
            await step.policy.prepare()
        except BaseException as error:
            await close_all(steps[: i + 1])
            if isinstance(error, Exception):
                raise PrepareError(step.policy.name, error) from error
            raise


async def close_all(steps: Sequence[Step]) -> list[tuple[str, Exception]]:
    """Close all policies, last first; one that fails does not keep the others open.

    Returns the failures by policy name. A cancellation is passed on once all are closed.
    """
    failed: list[tuple[str, Exception]] = []
    stopped: BaseException | None = None
    for step in reversed(steps):
        try:
            await step.policy.close()
        except Exception as error:
            failed.append((step.policy.name, error))
        except BaseException as error:
            stopped = error
    if stopped is not None:
        raise stopped
    return failed
