"""python -m bench.lag: does one hostile stream hold up the others?

A real headgate (one worker) moderates calm, paced streams. Beside them runs one kind of hostile traffic after the other
(bench/lag_load.py). Told for each: by how much the calm streams' chunks are late at the client, how late headgate's event
loop calls back, and the longest time that the loop's thread worked without looking at anything else (bench/lag_inside.py).
Figures are medians over ``--repeats`` runs; where other processes use the same cores only the last column is sound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.lag_load import KINDS, phrases

ROOT = Path(__file__).resolve().parent.parent
PACE = 0.02  # seconds between two chunks of a calm stream
_STAMP = re.compile(rb'" ([g-v]{8,16});"')
_TO = str.maketrans("0123456789abcdef", "ghijklmnopqrstuv")
_FROM = bytes.maketrans(b"ghijklmnopqrstuv", b"0123456789abcdef")
_EVENT = (
    b'data: {"id":"chatcmpl-2","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,'
    b'"delta":{"content":" %b;"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_BODY = b'{"model":"calm","stream":true,"messages":[{"role":"user","content":"hi"}]}'
_ASK = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(_BODY), _BODY)
)


class Row(NamedTuple):
    """Milliseconds; replies and mb: what the hostile clients got."""

    p50: float
    p99: float
    worst: float
    lag99: float
    lag: float
    turn99: float
    turn: float
    replies: float
    mb: float


class CalmBackend(asyncio.Protocol):
    """Sends one stamped chunk every 20 ms for ever."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.begun = False

    def data_received(self, data: bytes) -> None:
        if not self.begun:
            self.begun = True
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self.transport.write(head)
            self.due = asyncio.get_running_loop().time() + random.random() * PACE
            self.tick()

    def tick(self) -> None:
        if self.transport.is_closing():
            return
        one = _EVENT % f"{time.monotonic_ns():x}".translate(_TO).encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(one), one))
        loop = asyncio.get_running_loop()
        self.due = max(self.due + PACE, loop.time())
        loop.call_at(self.due, self.tick)


class CalmClient(asyncio.Protocol):
    """Notes when each chunk came (nanoseconds), and how late."""

    def __init__(self, seen: list[tuple[int, int]]) -> None:
        self.seen = seen
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(_ASK)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        data = self.rest + data
        end = 0
        for found in _STAMP.finditer(data):
            self.seen.append((now, now - int(found[1].translate(_FROM), 16)))
            end = found.end()
        self.rest = data[end:][-400:]

    def connection_lost(self, exc: Exception | None) -> None:
        self.rest = b""


def policy(calm: int, hostile: int, folder: Path, overflow: str, note: int = 0, *, watched: bool = False) -> str:
    """policy.yaml: twenty rules, e-mail and 10,000 phrases over everything; patterns made to hurt over one model. watched:
    none of them; usage is read."""
    usual = (ROOT / "bench/peers/mod.yaml").read_text().split("rules:\n", 1)[1].rstrip()
    top = f"""\
version: 1
listen: 127.0.0.1:0
admin: "off"
usage: {str(watched).lower()}
drain_timeout: 0s
stream: {{on_overflow: {overflow}}}
log: {{format: text}}
backends:
  calm: {{url: "http://127.0.0.1:{calm}", models: {{calm: calm}}}}
  hostile: {{url: "http://127.0.0.1:{hostile}", models: {{"*": "*"}}}}
"""
    if watched:
        return top
    return f"""\
{top}
policies:
  - name: guard
    use: request_guard
    when: {{models: [hostile-request]}}
    max_total_text: 100000000
    control_characters: refuse
  - name: pii
    use: pii_redaction
    when: {{models: [hostile-request]}}
    entities: {{email: pseudonymize, payment: pseudonymize, secrets: redact}}
  - name: moderation
    use: output_moderation
    placeholder: "[{note}]"
    rules:
{usual}
      - {{name: email, patterns: ['\\b[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\\.)+[A-Za-z]{{2,}}\\b']}}
      - {{name: phrases, phrases_file: {folder / "phrases.txt"}, ignore_case: true, whole_word: true}}
  - name: hurting
    use: output_moderation
    when: {{models: [hostile-patterns]}}
    rules:
      - {{name: nested, patterns: ['(a+)+$']}}
      - {{name: many, patterns: ['(?s)(?:.*a){{20}}']}}
      - {{name: trailing, patterns: ['\\s+$']}}
"""


class Bench:
    """One run of headgate, with its two backends."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        self.folder = folder
        self.args = args
        self.seen: list[tuple[int, int]] = []
        self.windows: dict[str, tuple[int, int, dict[str, float]]] = {}
        self.port = 0

    async def run(self, kinds: list[str]) -> dict[str, Row]:
        loop = asyncio.get_running_loop()
        calm = await loop.create_server(CalmBackend, "127.0.0.1", 0)
        (self.folder / "phrases.txt").write_text("\n".join(phrases(10_000)))
        self.load = await self._start("bench.lag_load", stdin=True)
        self.ports = (calm.sockets[0].getsockname()[1], int(await self._line(self.load)))
        self._write(0)
        probe = self.folder / "probe"
        self.gate = await self._start("bench.lag_inside", str(probe), "serve", "--policy", str(self.folder / "policy.yaml"))
        try:
            while "start " not in (line := await self._line(self.gate)):
                if not line:
                    raise SystemExit("headgate did not start")
            self.port = int(re.findall(r"listen=\S*?:(\d+)", line)[0])
            for _ in range(self.args.streams):
                await loop.create_connection(lambda: CalmClient(self.seen), "127.0.0.1", self.port)
            await asyncio.sleep(0.5)
            drain = loop.create_task(self._drain())
            for kind in kinds:
                await self._one(kind)
                await asyncio.sleep(0.3)
            drain.cancel()
        finally:
            for process in (self.gate, self.load):
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
            await asyncio.gather(self.gate.wait(), self.load.wait())
            calm.close()
        return self._rows(array("q", probe.read_bytes()))

    async def _one(self, kind: str) -> None:
        assert self.load.stdin is not None
        self.load.stdin.write(json.dumps([kind, self.port, self.args.secs, self.args.hostile]).encode() + b"\n")
        await self._line(self.load)  # its data is made
        began = time.monotonic_ns()
        reloads = asyncio.create_task(self._reloads()) if kind.startswith("reload") else None
        done = json.loads(await self._line(self.load))
        if reloads is not None:
            reloads.cancel()
        self.windows[kind] = began, time.monotonic_ns(), done

    async def _reloads(self) -> None:
        count = 0
        while True:
            count += 1
            (self.folder / "phrases.txt").write_text("\n".join(phrases(10_000, count)))
            self._write(count)
            self.gate.send_signal(signal.SIGHUP)
            await asyncio.sleep(2.0)

    def _write(self, note: int) -> None:
        text = policy(*self.ports, self.folder, self.args.overflow, note, watched=self.args.watched)
        (self.folder / "policy.yaml").write_text(text)

    async def _start(self, module: str, *argv: str, stdin: bool = False) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *argv, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"},
        )  # fmt: skip

    @staticmethod
    async def _line(process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        return (await process.stdout.readline()).decode()

    async def _drain(self) -> None:
        while line := await self._line(self.gate):
            if self.args.verbose or "error" in line or "reject" in line:
                print("  " + line.rstrip(), file=sys.stderr)

    def _rows(self, probe: array[int]) -> dict[str, Row]:
        looks = list(zip(probe[0::3], probe[1::3], probe[2::3], strict=True))
        rows = {}
        for kind, (began, ended, done) in self.windows.items():
            late = sorted(d for t, d in self.seen if began < t < ended)
            lags = sorted(lag for t, lag, _ in looks if began < t < ended + 100_000_000)
            turns = sorted(cpu for t, _, cpu in looks if began < t < ended + 100_000_000)
            rows[kind] = Row(
                at(late, 0.5), at(late, 0.99), at(late, 1), at(lags, 0.99), at(lags, 1), at(turns, 0.99), at(turns, 1),
                done["replies"], done["mb"],
            )  # fmt: skip
        return rows


def at(values: list[int], share: float) -> float:
    """Milliseconds of sorted nanoseconds."""
    return values[min(len(values) - 1, int(share * len(values)))] / 1e6 if values else float("nan")


def table(runs: list[dict[str, Row]]) -> str:
    """Markdown: medians over the runs."""
    lines = [
        "| beside the calm streams | chunk late, ms: p50 | p99 | max | loop late, ms: p99 | max"
        " | work at a stretch, ms: p99 | max | replies | MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in runs[0]:
        row = Row(*(statistics.median(values) for values in zip(*(run[kind] for run in runs), strict=True)))
        shown = " | ".join(f"{value:.1f}" for value in row[:7])
        lines.append(f"| {kind} | {shown} | {row.replies:.0f} | {row.mb:.0f} |")
    return "\n".join(lines)


def parse(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser("python -m bench.lag", description=__doc__)
    p.add_argument("--kinds", default="", help="parts of their names, separated by |; default: all")
    p.add_argument("--streams", type=int, default=30, help="calm streams, 50 chunks a second each (30)")
    p.add_argument("--hostile", type=int, default=1, help="hostile clients at a time (1)")
    p.add_argument("--secs", type=float, default=3.0, help="seconds of each kind (3)")
    p.add_argument("--repeats", type=int, default=3, help="runs, whose medians are shown (3)")
    p.add_argument("--overflow", choices=["cut", "release"], default="cut", help="stream.on_overflow (cut)")
    p.add_argument("--watched", action="store_true", help="no policies: usage is read, nothing judged")
    p.add_argument("--verbose", action="store_true", help="show headgate's log")
    return p.parse_args(argv)


def main(argv: list[str] | None = None, run: Callable[..., Any] = asyncio.run) -> None:
    args = parse(argv)
    kinds = [k for k in KINDS if any(part in k for part in args.kinds.split("|"))]
    runs = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(prefix="headgate-lag-") as folder:
            runs.append(run(Bench(Path(folder), args).run(kinds)))
    print(table(runs))


if __name__ == "__main__":
    import uvloop

    main(run=uvloop.run)
