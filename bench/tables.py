"""The tables, as text for a terminal or as markdown. Numbers come from report.py; nothing is computed
here.
"""

from __future__ import annotations

from typing import Any

from bench import machine
from bench.report import (
    CHUNK_P50,
    CHUNK_P99,
    HELD,
    PER_STREAM,
    PLAIN_CPU,
    PLAIN_RPS,
    REST,
    SSE100_CPU,
    SSE400_CPU,
    TTFC,
    Figure,
    Outcome,
    Results,
    doubts,
    median,
    outcomes,
    series,
)
from bench.rows import NEVER_US

MS, CLOSE, US, COUNT, MB, KB = "ms", "ms ", "us", "", "MB", "kB"

Column = tuple[str, Figure, str]
COLUMNS: tuple[Column, ...] = (
    ("req/s", PLAIN_RPS, COUNT),
    ("us/request", PLAIN_CPU, US),
    ("us/chunk, 100 streams", SSE100_CPU, US),
    ("us/chunk, 400 streams", SSE400_CPU, US),
    ("streams held", HELD, COUNT),
    ("chunk p50 ms", CHUNK_P50, MS),
    ("chunk p99 ms", CHUNK_P99, MS),
    ("first chunk p50 ms", TTFC, MS),
    ("MB at rest", REST, MB),
    ("kB/stream", PER_STREAM, KB),
)
GONE = (("before the head", "gone_head"), ("in silence", "gone_silent"), ("mid-stream", "gone_stream"))
CLOSE_COLUMNS: tuple[Column, ...] = tuple(
    (f"{label} {q} ms", Figure(row, ("close_us", q), "close"), CLOSE)
    for label, row in GONE
    for q in ("p50", "p99", "max")
)
EXTRA_COLUMNS: tuple[Column, ...] = (
    ("c1 p50 ms", Figure("plain_c1", ("lat_us", "p50"), "delay"), MS),
    ("c1 us/request", Figure("plain_c1", ("cpu_us",), "cpu"), US),
    ("16 kB us/request", Figure("plain16k", ("cpu_us",), "cpu"), US),
    ("new connection us/request", Figure("newconn", ("cpu_us",), "cpu"), US),
    ("unpaced chunks/s", Figure("sse_max", ("chunks_s",), "rate"), COUNT),
    ("us/chunk, 400 in step", Figure("sse400_step", ("cpu_us",), "cpu"), US),
    ("chunk p99 ms, 400 in step", Figure("sse400_step", ("chunk_us", "p99"), "delay"), MS),
)


def number(value: float | None, unit: str) -> str:
    """Three digits or so; MS turns microseconds into milliseconds."""
    if value is None:
        return "-"
    if unit == CLOSE and value >= NEVER_US:
        return "never"
    if unit in (MS, CLOSE):
        value /= 1e3
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.2f}" if unit in (MS, CLOSE) or abs(value) < 10 else f"{value:.1f}"


def grid(head: list[str], lines: list[list[str]], markdown: bool) -> str:
    if markdown:
        rows = [head, ["---"] * len(head), *lines]
        return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)
    width = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, width, strict=True)).rstrip() for line in [head, *lines]
    )


def _unit(figure: Figure) -> str:
    return {"delay": MS, "close": CLOSE, "cpu": US, "memory": KB if figure is PER_STREAM else MB}.get(
        figure.kind, COUNT
    )


def _bound(o: Outcome, bound: float | None) -> str:
    if bound is None:
        return "-"
    if o.goal.how == "ratio":
        return f"<= {bound:g} x {o.goal.against}"
    unit = _unit(o.goal.figure)
    return f"< {bound / 1e3 if unit in (MS, CLOSE) else bound:g} {unit.strip()}"


def _goal_line(o: Outcome) -> list[str]:
    unit = _unit(o.goal.figure)

    def shown(v: float | None) -> str:
        return (f"{v:.2f}" if v is not None else "-") if o.goal.how == "ratio" else number(v, unit)

    tail = " x" if o.goal.how == "ratio" else f" {unit.strip()}"
    return [
        o.goal.label,
        _bound(o, o.goal.goal),
        _bound(o, o.goal.must),
        number(o.own, unit),
        f"{number(o.other, unit)} ({o.goal.against})" if o.goal.how != "value" else "-",
        "-" if o.value is None else f"{shown(o.value)}{tail} [{shown(o.low)} .. {shown(o.high)}]",
        o.verdict,
        "-" if o.value is None else "no" if o.doubts else "yes" if o.rounds > 1 else "1 round",
    ]


def goals(results: Results, subject: str, markdown: bool) -> str:
    head = ["row", "goal", "must", subject, "beside", "median [repeats]", "reached", "trust"]
    found = outcomes(results, subject)
    text = grid(head, [_goal_line(o) for o in found], markdown)
    unsure = [(o.goal.label, o.doubts) for o in found if o.doubts]
    if unsure:
        text += "\n\nNot to be trusted in this run:\n" + "\n".join(
            f"- {label}: {'; '.join(why)}" for label, why in unsure
        )
    return text


def figures(results: Results, columns: tuple[Column, ...], markdown: bool) -> str:
    """Medians of each target; a `?` behind a number means that there is a doubt. Columns without a
    number are left out.
    """
    used = [c for c in columns if any(median(series(results, t, c[1])) is not None for t in results)]
    if not used:
        return ""
    lines = []
    for target in results:
        cells = [target]
        for _, figure, unit in used:
            value = median(series(results, target, figure))
            cells.append(number(value, unit) + ("?" if value is not None and doubts(results, target, figure) else ""))
        lines.append(cells)
    return grid(["", *(c[0] for c in used)], lines, markdown)


def doubt_list(results: Results) -> str:
    """Every doubt about every figure, gathered: reason first, then where."""
    where: dict[str, list[str]] = {}
    for target in results:
        for label, figure, _ in COLUMNS + CLOSE_COLUMNS + EXTRA_COLUMNS:
            if median(series(results, target, figure)) is not None:
                for why in doubts(results, target, figure):
                    where.setdefault(f"{target}: {why}", []).append(label)
    return "\n".join(f"- {why} ({', '.join(labels)})" for why, labels in where.items())


def whole(data: dict[str, Any], subject: str, markdown: bool) -> str:
    """Everything about one run, from the JSON that --out keeps."""
    results: Results = data["results"]
    parts = [f"{data['date']}; {data['how']}\n{machine.sentence(data['machine'])}"]
    parts += [f"{name}: {why.splitlines()[0]}" for name, why in data.get("failures", [])]
    heading = "### " if markdown else "== "
    if any(o.value is not None for o in outcomes(results, subject)):
        parts.append(f"{heading}Goals, {subject}\n\n{goals(results, subject, markdown)}")
    else:
        parts.append(f"No figure of {subject} in this run: no table of goals (--subject NAME judges another target).")
    for title, columns in (
        ("Medians", COLUMNS),
        ("Client gone: time until the backend's connection was closed", CLOSE_COLUMNS),
        ("More rows", EXTRA_COLUMNS),
    ):
        if text := figures(results, columns, markdown):
            parts.append(f"{heading}{title}\n\n{text}")
    if text := doubt_list(results):
        parts.append(f"{heading}Doubts behind the `?`\n\n{text}")
    return "\n\n".join(parts) + "\n"
