"""The rows: which loads a target gets, in which order, and what is kept of each. Figures are judged in
report.py.

A load is the load generator's options by letter (bench/src/load.c): c connections, d seconds, W warm-up,
S spread of the starts, s stream, m model name with the backend's knobs, x and y for clients that go
away.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.rig import Subject

PLAIN, PLAIN_16K = "fake-b1024", "fake-b16384"
STREAM, LONG, STEP = "fake-n50-r50", "fake-n2000-r50", "fake-n2000-r50-a1"
SLOW, SILENT, HEADLESS, UNPACED = "fake-n2000-r2", "fake-n10-r1", "fake-n10-l5000", "fake-n200-r0"
MODELS = (PLAIN, PLAIN_16K, STREAM, LONG, STEP, SLOW, SILENT, HEADLESS, UNPACED)
"""All model names that rows ask for; a peer that must know its models lists them."""

RATE = 50
"""Chunks per second and stream of the paced rows: a brisk reply of a current model."""
HOLD_P99_US = 50_000
HOLD_DELIVERED = 0.96
"""A stream is held while the p99 chunk delay is below 50 ms and 96 % of the chunks come (the rest is
rounding at the borders).
"""
OPEN_STREAMS = (400, 1200)
CLOSE_WAIT = 3.0
"""Seconds to wait for the backend to see closes: a proxy that notices only when it writes needs two
ticks of a silent stream.
"""
NEVER_US = CLOSE_WAIT * 1e6


@dataclass(frozen=True, slots=True)
class Settings:
    """secs: measured seconds of a row; cap: most streams that the hold row tries."""

    secs: float = 2.0
    cap: int = 1600


Measure = Callable[[Subject, Settings], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    note: str
    measure: Measure
    default: bool = True
    quick: bool = True
    weight: float = 3.0
    """Seconds it takes at the default settings, to keep a run within its limit."""


def _plain(connections: int, model: str = PLAIN, **more: Any) -> Measure:
    return lambda s, o: s.load({"c": connections, "d": o.secs, "W": 0.5, "m": model, **more})


def _paced(streams: int, starts: float, model: str = LONG) -> Measure:
    """`starts`: seconds over which the streams begin. 3 ms apart, not 4 or 5: that would divide the
    period of 20 ms, and the streams would tick in a few groups, which costs less CPU and more delay.
    """

    def measure(s: Subject, o: Settings) -> dict[str, Any]:
        seen = s.load({"c": streams, "d": o.secs, "W": 0.8, "S": starts, "s": True, "m": model})
        return seen | {"delivered": seen["chunks_s"] / (RATE * streams)}

    return measure


def _first_chunk(s: Subject, o: Settings) -> dict[str, Any]:
    return s.load({"c": 100, "d": o.secs + 0.5, "W": 0.5, "S": 1.0, "s": True, "m": STREAM})


def _memory(s: Subject, o: Settings) -> dict[str, Any]:
    """PSS at rest, and its growth per stream from 400 to 1200 open streams that trickle.

    First row, so that no earlier load has grown the heap. Not from rest to 400: the first streams live in what the
    start has left free.
    """
    if not s.root:
        return {}
    s.load({"c": 1, "d": 0.3, "W": 0, "s": True, "m": STREAM})
    rest, seen, opened = s.pss_mb(), {}, []
    for streams in OPEN_STREAMS:
        load = {"c": streams, "d": 0.5, "W": 0.5, "S": 1.0, "s": True, "m": SLOW}
        seen = s.load(load, at_end=lambda: {"pss_mb": s.pss_mb()})
        opened.append(seen["pss_mb"])
    growth = (opened[1] - opened[0]) / (OPEN_STREAMS[1] - OPEN_STREAMS[0])
    return seen | {"rest_mb": rest, "open_mb": opened, "per_stream_kb": growth * 1024}


def _hold(s: Subject, o: Settings) -> dict[str, Any]:
    """Search for the most streams held: a guess from the CPU per chunk, then up or down by a third, then
    halving.
    """
    guess = s.load({"c": 100, "d": 0.7, "W": 0.5, "S": 0.3, "s": True, "m": LONG})
    us = guess.get("cpu_us") or 10.0
    n = min(o.cap, max(4, int(0.85e6 / us / RATE)))
    good, bad, best, tries = 0, 0, guess, 0
    while tries < 4 and n >= 2:
        tries += 1
        ramp = min(2.0, max(0.4, n / 2000))
        warm = min(2.5, 0.8 + n * us * 30e-6)
        seen = s.load({"c": n, "d": max(0.8, o.secs - 0.8), "W": warm, "S": ramp, "s": True, "m": LONG})
        held = (
            seen["chunk_us"]["p99"] < HOLD_P99_US and seen["chunks_s"] >= HOLD_DELIVERED * RATE * n and not seen["err"]
        )
        if held:
            good, best = n, seen
        else:
            bad = n
        if good >= o.cap or (good and bad and bad < good * 1.12):
            break
        n = (good + bad) // 2 if good and bad else min(o.cap, int(n * 1.3) + 1) if good else int(n / 1.4)
    return best | {"streams": good, "tries": tries, "capped": good >= o.cap}


def join_closes(left: list[list[int]], closes: list[list[int]]) -> dict[str, Any]:
    """Matches the client's goings [number, ns] with the backend's closes [number, ns, head?]: delays in us.

    `unseen` counts requests whose backend connection was not closed while the rig waited; they stand in the
    quantiles as NEVER_US, which is no less than a lower bound.
    """
    at = {number: ns for number, ns, *_ in closes}
    seen = [max(0, at[number] - ns) / 1e3 for number, ns in left if number in at]
    delays = sorted(min(d, NEVER_US) for d in seen) + [NEVER_US] * (len(left) - len(seen))
    figures: dict[str, Any] = {"n": len(left), "unseen": len(left) - len(seen)}
    if delays:
        figures |= {f"p{q}": delays[min(len(delays) - 1, len(delays) * q // 100)] for q in (50, 99)}
        figures["max"] = delays[-1]
    return figures


def _gone(**more: Any) -> Measure:
    def measure(s: Subject, o: Settings) -> dict[str, Any]:
        seen = s.load({"c": 20, "d": min(o.secs, 1.5), "W": 0.3, "S": 0.05, "s": True, **more})
        closes, end = seen.pop("closes"), time.monotonic() + CLOSE_WAIT
        left = seen.pop("left")
        while (figures := join_closes(left, closes))["unseen"] and time.monotonic() < end:
            time.sleep(0.05)
            closes += s.rig.stats()["closes"]
        return seen | {"close_us": figures}

    return measure


ROWS: tuple[Row, ...] = (
    Row("memory", "PSS at rest; per stream from 400 to 1200 open streams of 2 chunks/s", _memory, weight=6),
    Row("plain", "POST chat, 0.6 kB request, 1 kB reply, 64 keep-alive connections", _plain(64)),
    Row("ttfc", "100 streams of 50 chunks at 50/s, started over and over", _first_chunk, weight=4.5),
    Row("sse100", "100 running streams at 50 chunks/s: CPU and delay per chunk", _paced(100, 0.3), weight=3.6),
    Row("sse400", "400 running streams at 50 chunks/s", _paced(400, 0.5), weight=3.8),
    Row("gone_head", "client gone 50 ms after its request, before the head", _gone(x=0, y=50, m=HEADLESS)),
    Row("gone_silent", "... 50 ms after the first chunk, in silence", _gone(x=1, y=50, m=SILENT)),
    Row("gone_stream", "... after the third chunk of a stream at 50/s", _gone(x=3, y=0, m=LONG)),
    Row("hold", "most streams at 50/s with p99 chunk delay below 50 ms", _hold, quick=False, weight=14),
    Row("plain_c1", "plain over one connection: the latency of an idle proxy", _plain(1), default=False),
    Row("plain16k", "plain with a 16 kB reply", _plain(64, PLAIN_16K), default=False),
    Row("newconn", "plain with a new connection for each request", _plain(16, C=True), default=False),
    Row("sse_max", "16 unpaced streams; a proxy may join chunks", _plain(16, UNPACED, s=True), default=False),
    Row("sse400_step", "400 streams in step, as an engine sends", _paced(400, 0.5, STEP), default=False),
)


def choose(names: str | None, quick: bool) -> list[Row]:
    """The rows to run, in table order; ValueError on an unknown name. `all` means every one."""
    if names is None:
        return [r for r in ROWS if r.default and (r.quick or not quick)]
    wanted = {n.strip() for n in names.split(",") if n.strip()}
    if "all" in wanted:
        return list(ROWS)
    if unknown := wanted - {r.name for r in ROWS}:
        raise ValueError(f"unknown row {sorted(unknown)[0]!r}; there are {', '.join(r.name for r in ROWS)}")
    return [r for r in ROWS if r.name in wanted]


def warm_up(s: Subject) -> None:
    """A short load before the first measured one: lazy imports, pools, branch predictors, the kernel's
    own caches.
    """
    s.load({"c": 16, "d": 0.5, "W": 0.1, "m": PLAIN})
