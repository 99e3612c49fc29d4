"""python -m bench: measures headgate beside nginx, a bare aiohttp relay and no proxy at all, and judges
the figures.

Each target is started fresh in each round, pinned on one core, loaded from another, and stopped; rounds
are interleaved, figures are medians over the rounds, ratios are taken inside a round. What was measured
under foreign load, near the limits of the rig, or with repeats too far apart is marked as not to be
trusted. How to read it all: docs/performance.md; the parts: bench/README.md.

Environment: PROXY_CORE, LOAD_CORE (default: the last two cores this process may use), BENCH_CACHE (where
the C programs are compiled to), CC, BENCH_PY (interpreter of the aiohttp relay), ENVOY_BIN (of the PyPI
package pyvoy), LITELLM_BIN (of litellm[proxy]), BENCH_NICE (autogroup weight, root only), BENCH_KEEP=1
(keep each proxy's folder and log).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import build, machine, rows, tables, targets
from bench.rig import NotReady, Rig


def note(text: str) -> None:
    print(f"# {text}", file=sys.stderr, flush=True)


def parse(argv: list[str] | None) -> argparse.Namespace:
    about, _, rest = (__doc__ or "").partition("\n\n")
    p = argparse.ArgumentParser(
        "python -m bench",
        description=f"{about}\n\n{rest}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--targets",
        metavar="A,B",
        help="what to measure (--list); default: all that are installed but the optional ones",
    )
    p.add_argument("--rows", metavar="A,B", help="which rows (--list), or `all`; default: those of the table of goals")
    p.add_argument("--repeats", type=int, metavar="N", help="rounds (3; with --quick 1)")
    p.add_argument("--secs", type=float, metavar="S", help="measured seconds of a row (2; with --quick 0.8)")
    p.add_argument(
        "--quick",
        action="store_true",
        help="one short round without the search for streams held: does it work at all?",
    )
    p.add_argument(
        "--cap",
        type=int,
        default=1600,
        metavar="N",
        help="most streams that the hold row tries (%(default)s)",
    )
    p.add_argument(
        "--limit",
        type=float,
        metavar="S",
        help="begin nothing that would end after S seconds (570; with --quick 85)",
    )
    p.add_argument(
        "--subject",
        default="headgate",
        metavar="NAME",
        help="the target that the goals are for (%(default)s)",
    )
    p.add_argument(
        "--out",
        metavar="FILE",
        help="keep the raw figures as JSON (always kept: last.json in the cache folder)",
    )
    p.add_argument("--table", metavar="FILE", help="print the tables of such a file and measure nothing")
    p.add_argument("--markdown", action="store_true", help="tables in markdown, for docs/performance.md")
    p.add_argument("--list", action="store_true", help="list targets and rows")
    return p.parse_args(argv)


def print_list() -> None:
    print("targets (* = only when named):")
    for t in targets.TARGETS:
        print(
            f"  {t.name + ('*' if t.optional else ''):15} {t.note}"
            + (f"  [{why}]" if (why := targets.missing(t)) else "")
        )
    print("rows (* = only when named, - = not with --quick):")
    for r in rows.ROWS:
        print(f"  {r.name + ('' if r.default else '*') + ('' if r.quick else '-'):15} {r.note}")


def cores() -> tuple[int, int]:
    """(proxy's core, load's core). Raises ValueError where there are no two."""
    allowed = sorted(os.sched_getaffinity(0))
    proxy = int(os.environ.get("PROXY_CORE", allowed[-1]))
    left = [c for c in allowed if c != proxy]
    load = int(os.environ.get("LOAD_CORE", left[-1] if left else -1))
    if proxy not in allowed or load not in allowed or proxy == load:
        raise ValueError(
            f"the rig needs two cores, one for the proxy and one for the load; this process may use {allowed}"
        )
    return proxy, load


def measure(rig: Rig, target: targets.Target, wanted: list[rows.Row], settings: rows.Settings) -> dict[str, Any]:
    """One target, started fresh, through all rows that make sense for it."""
    figures: dict[str, Any] = {}
    with rig.started(target) as subject:
        warm = False
        for row in wanted:
            if row.name != "memory" and not warm:
                rows.warm_up(subject)
                warm = True
            figures[row.name] = row.measure(subject, settings)
            for bulky in ("left", "closes"):
                figures[row.name].pop(bulky, None)
    return figures


def seconds_for(wanted: list[rows.Row], settings: rows.Settings) -> float:
    return 4 + sum(r.weight * (0.4 + 0.3 * settings.secs) for r in wanted)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """The measuring; returns what --out keeps."""
    repeats = args.repeats or (1 if args.quick else 3)
    settings = rows.Settings(args.secs or (0.8 if args.quick else 2.0), args.cap)
    limit = args.limit or (85 if args.quick else 570)
    chosen, left_out = targets.choose(args.targets)
    wanted = rows.choose(args.rows, args.quick)
    for line in left_out:
        note(line)
    tools, (proxy_core, load_core), began = build.build(), cores(), time.monotonic()
    data: dict[str, Any] = {
        "format": 1,
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "how": f"{repeats} interleaved rounds, {settings.secs:g} s per row",
        "machine": machine.describe([t.name for t in chosen], proxy_core, load_core),
        "failures": [],
        "results": {t.name: [] for t in chosen},
    }
    note(machine.sentence(data["machine"]).replace("\n", "\n# "))
    took: dict[str, float] = {}
    with Rig(tools, proxy_core, load_core) as rig, stoppable(data):
        for k in range(repeats):
            for target in chosen:
                mine = [r for r in wanted if target.rows is None or r.name in target.rows]
                start = time.monotonic()
                expected = took.get(target.name) or seconds_for(mine, settings)
                if start - began + expected > limit:
                    note(f"round {k + 1}: {target.name} left out, it would pass --limit {limit:.0f} s")
                    data["failures"].append([target.name, f"round {k + 1} left out for --limit {limit:.0f} s"])
                    data["results"][target.name].append({})
                    continue
                figures: dict[str, Any] = {}
                try:
                    figures = measure(rig, target, mine, settings) if mine else {}
                except (NotReady, RuntimeError) as e:
                    data["failures"].append([target.name, f"round {k + 1}: {e}"])
                    note(f"{target.name}: {e}")
                data["results"][target.name].append(figures)
                took[target.name] = time.monotonic() - start
                note(progress(k + 1, repeats, target.name, took[target.name], figures))
                save(data, args.out)
    data["how"] += f", {time.monotonic() - began:.0f} s in all"
    save(data, args.out)
    return data


@contextlib.contextmanager
def stoppable(data: dict[str, Any]) -> Iterator[None]:
    """Ctrl-C ends the measuring, not the report of what was measured."""
    try:
        yield
    except KeyboardInterrupt:
        data["stopped"] = True
        data["how"] += " (stopped by hand)"


def progress(k: int, repeats: int, name: str, took: float, figures: dict[str, Any]) -> str:
    plain, sse, hold = (figures.get(r, {}) for r in ("plain", "sse400", "hold"))
    return (
        f"round {k}/{repeats} {name:15} {took:4.0f} s"
        f"  plain {plain.get('rps', 0):.0f}/s {plain.get('cpu_us') or 0:.1f} us"
        f"  sse400 {sse.get('cpu_us') or 0:.1f} us/chunk  held {hold.get('streams', '-')}"
    )


def save(data: dict[str, Any], out: str | None) -> None:
    text = json.dumps(data, indent=1)
    last = build.cache_dir() / "last.json"
    last.parent.mkdir(parents=True, exist_ok=True)
    for path in [last] + ([Path(out)] if out else []):
        path.write_text(text, encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the proxies are stopped on the way out
    try:
        if args.list:
            print_list()
            return 0
        if args.table:
            data = json.loads(Path(args.table).read_text(encoding="utf-8"))
        else:
            data = run(args)
    except (ValueError, build.NoCompiler, OSError, RuntimeError) as e:
        print(f"bench: {e}", file=sys.stderr)
        return 2
    print(tables.whole(data, args.subject, args.markdown), end="")
    if data.get("stopped"):
        return 130
    return 0 if all(any(rounds) for rounds in data["results"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
