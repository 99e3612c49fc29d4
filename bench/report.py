"""The arithmetic: medians, paired ratios, verdicts, and whether a figure may be trusted in this run.
Prints nothing.

`Results` maps a target's name to its repeats in order; a repeat maps a row's name to its figures, and is
empty where the target failed. Repeat k of all targets was measured in one round, so ratios and
differences are taken inside a round and the median is taken over the rounds: slow drift of the machine
then cancels out.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Results = dict[str, list[dict[str, dict[str, Any]]]]
Kind = Literal["cpu", "rate", "delay", "hold", "memory", "close"]
How = Literal["ratio", "value", "minus"]

BASE = "nginx"
DIRECT = "direct"

FOREIGN: dict[Kind, float] = {"cpu": 0.30, "rate": 0.10, "delay": 0.10, "hold": 0.10, "close": 0.50}
"""Largest share of the proxy's core used by others. CPU time is counted per process and suffers only
through shared caches; rates and delays suffer at once. Memory does not.
"""
LOAD_FOREIGN = 0.25
STEAL = 0.02
FULL = 0.97
"""A core that is busier than this is full."""
LOAD_FULL = 0.90
"""Above this use of their core by client and backend alone, the rig is what limits."""
NOT_FULL = 0.85
"""Below this use of its core a proxy was not the bottleneck, so req/s says nothing about its capacity."""
LATE_P99_US = 5_000
DELIVERED = 0.96
SPREAD: dict[Kind, tuple[float, float]] = {
    "cpu": (0.30, 0.0),
    "rate": (0.30, 0.0),
    "delay": (0.50, 100.0),
    "hold": (0.35, 0.0),
    "memory": (0.20, 0.0),
    "close": (0.50, 20_000.0),
}
"""(largest - smallest) of the repeats may be this share of the median, or this much in the figure's
unit, whichever is more.
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one row. `path` leads to it in the row's figures; units: us, req/s, streams, MB, kB."""

    row: str
    path: tuple[str, ...]
    kind: Kind

    def of(self, repeat: dict[str, dict[str, Any]]) -> float | None:
        at: Any = repeat.get(self.row)
        for key in self.path:
            at = at.get(key) if isinstance(at, dict) else None
        return float(at) if at is not None else None


PLAIN_CPU = Figure("plain", ("cpu_us",), "cpu")
PLAIN_RPS = Figure("plain", ("rps",), "rate")
SSE100_CPU = Figure("sse100", ("cpu_us",), "cpu")
SSE400_CPU = Figure("sse400", ("cpu_us",), "cpu")
HELD = Figure("hold", ("streams",), "hold")
CHUNK_P50 = Figure("sse100", ("chunk_us", "p50"), "delay")
CHUNK_P99 = Figure("sse100", ("chunk_us", "p99"), "delay")
TTFC = Figure("ttfc", ("ttfc_us", "p50"), "delay")
REST = Figure("memory", ("rest_mb",), "memory")
PER_STREAM = Figure("memory", ("per_stream_kb",), "memory")


def _closes(row: str) -> Figure:
    return Figure(row, ("close_us", "max"), "close")


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table of goals. Bounds None: the line informs only."""

    label: str
    figure: Figure
    how: How
    goal: float | None = None
    must: float | None = None
    against: str = BASE
    """For ratio and minus: the other target."""
    suffix: str = ""
    """The configuration of the subject: headgate + "-guard"."""
    optional: bool = False
    """Left out where the other target was not measured."""


GOALS: tuple[Goal, ...] = (
    Goal("plain, empty plan: CPU per request", PLAIN_CPU, "ratio", 3.7, 5.0),
    Goal("plain, empty plan: requests/s", PLAIN_RPS, "ratio"),
    Goal("plain, empty plan: CPU per request", PLAIN_CPU, "ratio", None, 0.01, "litellm", optional=True),
    Goal("plain, request_guard reads the body: CPU per request", PLAIN_CPU, "ratio", 4.5, 6.0, suffix="-guard"),
    Goal("SSE, empty plan, 100 streams at 50/s: CPU per chunk", SSE100_CPU, "ratio", 1.25, 1.8),
    Goal("SSE, empty plan, 400 streams at 50/s: CPU per chunk", SSE400_CPU, "ratio", 1.25, 1.8),
    Goal("SSE, moderated by 20 rules, 100 streams: CPU per chunk", SSE100_CPU, "ratio", 1.75, 2.5, suffix="-mod"),
    Goal("SSE, moderated by 20 rules, 400 streams: CPU per chunk", SSE400_CPU, "ratio", 1.75, 2.5, suffix="-mod"),
    Goal("moderated: time to first chunk p50, added to direct", TTFC, "minus", 500, None, DIRECT, suffix="-mod"),
    Goal("moderated: chunk delay p99 at 100 streams, beyond nginx's", CHUNK_P99, "minus", 5_000, None, suffix="-mod"),
    Goal("SSE, streams held at 50/s with p99 < 50 ms", HELD, "ratio"),
    Goal("chunk delay p50 at 100 streams, added to direct", CHUNK_P50, "minus", 100, None, DIRECT),
    Goal("chunk delay p99 at 100 streams, added to direct", CHUNK_P99, "minus", None, None, DIRECT),
    Goal("chunk delay p99 at 100 streams, beyond nginx's", CHUNK_P99, "minus", 1_000, 5_000),
    Goal("time to first chunk p50, added to direct", TTFC, "minus", 300, 1_000, DIRECT),
    Goal("memory at rest (PSS)", REST, "value", 45, 80),
    Goal("memory per open stream (PSS)", PER_STREAM, "value", 100, None),
    Goal("client gone before the head: backend closed after, max", _closes("gone_head"), "value", None, 100_000),
    Goal("client gone in silence: backend closed after, max", _closes("gone_silent"), "value", None, 100_000),
    Goal("client gone mid-stream: backend closed after, max", _closes("gone_stream"), "value", None, 100_000),
)


def median(values: Sequence[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return statistics.median(there) if there else None


def series(results: Results, target: str, figure: Figure) -> list[float | None]:
    return [figure.of(repeat) for repeat in results.get(target, [])]


def paired(own: Sequence[float | None], other: Sequence[float | None], how: How) -> list[float]:
    """Ratio or difference inside each round; rounds in which either is missing (or a ratio's base is 0)
    are left out.
    """
    out = []
    for a, b in zip(own, other, strict=False):
        if a is None or b is None or (how == "ratio" and b == 0):
            continue
        out.append(a / b if how == "ratio" else a - b)
    return out


def too_wide(values: Sequence[float], kind: Kind) -> bool:
    if len(values) < 2:
        return False
    share, floor = SPREAD[kind]
    return max(values) - min(values) > max(share * abs(statistics.median(values)), floor)


def _middle(rows: Sequence[dict[str, Any]], *path: str) -> float:
    """Median of a disturbance over the repeats, 0 where it was not measured: one bad repeat of three is
    outvoted.
    """
    return median([Figure("row", path, "cpu").of({"row": r}) for r in rows]) or 0.0


def doubts(results: Results, target: str, figure: Figure) -> list[str]:
    """Why the figure of the target is not to be trusted in this run; empty when nothing speaks against it."""
    repeats = results.get(target, [])
    rows = [r[figure.row] for r in repeats if figure.row in r]
    values = [v for v in series(results, target, figure) if v is not None]
    if not values:
        return ["not measured"]
    found = []
    if too_wide(values, figure.kind):
        found.append(f"repeats too far apart ({min(values):.3g} to {max(values):.3g})")
    if bad := sum(int(r.get("err", 0)) + int(r.get("short", 0)) for r in rows):
        found.append(f"{bad} failed or broken replies")
    if figure.kind == "memory":
        return found
    return found + _disturbed(rows, figure, target == DIRECT)


def _disturbed(rows: Sequence[dict[str, Any]], figure: Figure, direct: bool) -> list[str]:
    found = []
    if (foreign := _middle(rows, "foreign")) > FOREIGN[figure.kind]:
        found.append(f"others used {foreign:.0%} of the proxy's core")
    if (steal := _middle(rows, "steal")) > STEAL:
        found.append(f"the hypervisor took {steal:.1%}")
    if figure.kind != "cpu" and (foreign := _middle(rows, "load_foreign")) > LOAD_FOREIGN:
        found.append(f"others used {foreign:.0%} of the client's core")
    if (late := _middle(rows, "late_us", "p99")) > LATE_P99_US:
        found.append(f"backend's ticks came {late / 1e3:.0f} ms late")
    delivered = [r["delivered"] for r in rows if "delivered" in r]
    if delivered and (share := statistics.median(delivered)) < DELIVERED:
        found.append(f"overloaded: {share:.0%} of the chunks came")
    if direct:
        return found
    util = _middle(rows, "util")
    own_load = _middle(rows, "load_busy") - _middle(rows, "load_foreign")
    if figure.kind in ("rate", "hold", "delay") and util < FULL and own_load > LOAD_FULL:
        found.append("limited by the rig: the client's core was full")
    elif figure.kind == "rate" and util < NOT_FULL:
        found.append(f"the proxy's core was not full ({util:.0%})")
    if figure.kind == "hold" and any(r.get("capped") for r in rows):
        found.append("limited by the rig: the cap was reached")
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a goal. `value` is the median ratio, difference or figure; low and high are over
    the repeats.
    """

    goal: Goal
    own: float | None
    other: float | None
    value: float | None
    rounds: int = 0
    low: float | None = None
    high: float | None = None
    verdict: str = "not measured"
    """goal, must, MISSED, - (no bound), not measured."""
    doubts: list[str] = field(default_factory=list)


def verdict(value: float, goal: float | None, must: float | None) -> str:
    if goal is None and must is None:
        return "-"
    if goal is not None and value <= goal:
        return "goal"
    if must is not None and value <= must:
        return "must"
    return "MISSED"


def judge(results: Results, goal: Goal, subject: str) -> Outcome:
    """One line of the table of goals. A doubt about either side of a ratio or difference is a doubt
    about the line.
    """
    name = subject + goal.suffix
    own = series(results, name, goal.figure)
    others = [] if goal.how == "value" else series(results, goal.against, goal.figure)
    values = [v for v in own if v is not None] if goal.how == "value" else paired(own, others, goal.how)
    if not values:
        return Outcome(goal, median(own), median(others), None)
    kind, middle = goal.figure.kind, statistics.median(values)
    found = [f"{name}: {d}" for d in doubts(results, name, goal.figure) if not d.startswith("repeats too far")]
    if goal.how != "value":
        against = doubts(results, goal.against, goal.figure)
        found += [f"{goal.against}: {d}" for d in against if not d.startswith("repeats too far")]
    if too_wide(values, kind):
        found.append("repeats too far apart")
    result = verdict(middle, goal.goal, goal.must)
    each = {verdict(v, goal.goal, goal.must) for v in values}
    if len(each) > 1:
        found.append(f"repeats disagree ({', '.join(sorted(each))})")
    return Outcome(goal, median(own), median(others), middle, len(values), min(values), max(values), result, found)


def outcomes(results: Results, subject: str) -> list[Outcome]:
    """The table of goals for `subject`; lines that need an optional target that was not measured are
    left out.
    """
    return [judge(results, g, subject) for g in GOALS if not g.optional or g.against in results]
