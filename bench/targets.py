"""What is measured: one declarative table. A new configuration of headgate, or a peer, is one entry
here.

In `start`: {port} where it must listen, {upstream} the fake backend's port (both on 127.0.0.1), {python}
this interpreter, {peers} the folder bench/peers, {dir} a fresh folder into which the `config` files of
bench/peers are copied; $NAME comes from the environment. In those files @PORT@ and @UPSTREAM@ are filled
in, and the lines between @MODELS@ and @END@ are repeated for each model name that the rows ask for, as
@MODEL@.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).resolve().parent / "peers"
SBIN = ":/usr/sbin:/usr/local/sbin"  # where Debian puts nginx and haproxy, missing in many users' PATH


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to measure. `start` None: no proxy, the client talks to the backend."""

    name: str
    note: str
    start: str | None = None
    config: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """Checked before the run: exe:NAME in PATH, env:NAME set to a file, module:NAME importable,
    file:PATH in the tree.
    """
    rows: tuple[str, ...] | None = None
    """The only rows that make sense for it; None = all."""
    optional: bool = False
    """Not in the default run."""
    startup: float = 20.0
    """Seconds until it must answer."""
    settle: float = 0.3
    """Seconds of rest after the first answer."""


SERVE = "{python} -m proxy serve"
EMPTY_PLAN = SERVE + " --backend http://127.0.0.1:{upstream} --listen 127.0.0.1:{port} --admin off"
QUIET = " --log off"
"""No target writes a request log: what headgate's costs is the difference to `headgate-log`."""
IN_TREE = {"PYTHONPATH": str(ROOT)}
"""headgate of this tree, wherever it is started from."""
GUARD_ROWS = ("plain", "plain_c1", "plain16k")
MOD_ROWS = ("ttfc", "sse100", "sse400")

TARGETS: tuple[Target, ...] = (
    Target("direct", "no proxy: client and backend on one core"),
    Target(
        "nginx",
        "Debian's nginx, 1 worker, keep-alive upstream, no buffering, no log",
        start="nginx -p {dir} -c {dir}/nginx.conf",
        config=("nginx.conf",),
        needs=("exe:nginx",),
    ),
    Target(
        "aiohttp",
        "bare relay: Application and ClientSession on uvloop, no policy",
        start="$BENCH_PY {peers}/aiohttp_relay.py {port} {upstream}",
        needs=("module:aiohttp", "module:uvloop"),
    ),
    Target(
        "headgate",
        "serve --backend, empty plan, no request log",
        start=EMPTY_PLAN + QUIET,
        env=IN_TREE,
        needs=("file:proxy/__main__.py",),
    ),
    Target(
        "headgate-guard",
        "request_guard reads every request body",
        start=SERVE + " --policy {dir}/guard.yaml" + QUIET,
        config=("guard.yaml",),
        env=IN_TREE,
        needs=("file:proxy/__main__.py",),
        rows=GUARD_ROWS,
    ),
    Target(
        "headgate-mod",
        "output_moderation with 20 rules over every stream",
        start=SERVE + " --policy {dir}/mod.yaml" + QUIET,
        config=("mod.yaml",),
        env=IN_TREE,
        needs=("file:proxy/__main__.py",),
        rows=MOD_ROWS,
    ),
    Target(
        "headgate-log",
        "empty plan, with the request log that it writes by default",
        start=EMPTY_PLAN,
        env=IN_TREE,
        needs=("file:proxy/__main__.py",),
        rows=("plain",),
    ),
    Target(
        "haproxy",
        "Debian's haproxy, 1 thread, http-reuse always, no log",
        start="haproxy -db -f {dir}/haproxy.cfg",
        config=("haproxy.cfg",),
        needs=("exe:haproxy",),
        optional=True,
    ),
    Target(
        "envoy",
        "Envoy, 1 worker, no log, no request id",
        start="$ENVOY_BIN --concurrency 1 -l error --disable-hot-restart -c {dir}/envoy.yaml",
        config=("envoy.yaml",),
        needs=("env:ENVOY_BIN",),
        optional=True,
    ),
    Target(
        "litellm",
        "LiteLLM proxy, 1 worker, no database, no callbacks",
        start="$LITELLM_BIN --config {dir}/litellm.yaml --host 127.0.0.1 --port {port} --num_workers 1",
        config=("litellm.yaml",),
        env={
            "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        },
        needs=("env:LITELLM_BIN",),
        rows=("plain", "plain_c1", "ttfc"),  # it cannot carry a hundred paced streams on one core
        optional=True,
        startup=60,
        settle=3,
    ),
)


def missing(target: Target) -> str | None:
    """Why the target cannot run here, or None."""
    for need in target.needs:
        kind, _, name = need.partition(":")
        if kind == "exe" and not shutil.which(name, path=os.environ.get("PATH", "") + SBIN):
            return f"{name} is not installed"
        if kind == "env" and not os.access(os.environ.get(name, ""), os.X_OK):
            return f"{name} does not name an executable"
        if kind == "module" and not os.environ.get("BENCH_PY") and not importlib.util.find_spec(name):
            return f"Python package {name} is not installed (or set BENCH_PY to an interpreter that has it)"
        if kind == "file" and not (ROOT / name).exists():
            return f"{name} is not there"
    return None


def choose(names: str | None) -> tuple[list[Target], list[str]]:
    """The targets to run and lines about those left out. `names` is --targets; ValueError on an unknown
    or absent one.
    """
    table = {t.name: t for t in TARGETS}
    if names is None:
        wanted = [t for t in TARGETS if not t.optional]
        return [t for t in wanted if not missing(t)], [
            f"{t.name}: left out, {missing(t)}" for t in wanted if missing(t)
        ]
    chosen = []
    for name in dict.fromkeys(n.strip() for n in names.split(",") if n.strip()):
        if name not in table:
            raise ValueError(f"unknown target {name!r}; there are {', '.join(table)}")
        if reason := missing(table[name]):
            raise ValueError(f"{name}: {reason}")
        chosen.append(table[name])
    return chosen, []


def command(target: Target, port: int, upstream: int, folder: str) -> list[str]:
    """The start command, ready to run; the target's config files are written into `folder`."""
    from bench.rows import MODELS  # rows know which model names are asked for; LiteLLM has to list them

    for name in target.config:
        text = (PEERS / name).read_text(encoding="utf-8")
        head, mark, entry = text.partition("@MODELS@\n")
        if mark:
            entry, _, rest = entry.partition("@END@\n")
            text = head + "".join(entry.replace("@MODEL@", m) for m in MODELS) + rest
        text = text.replace("@PORT@", str(port)).replace("@UPSTREAM@", str(upstream))
        Path(folder, name).write_text(text, encoding="utf-8")
    values = {"port": port, "upstream": upstream, "python": sys.executable, "peers": PEERS, "dir": folder}
    os.environ.setdefault("BENCH_PY", sys.executable)
    words = [os.path.expandvars(w.format_map(values)) for w in shlex.split(target.start or "")]
    exe = shutil.which(words[0], path=os.environ.get("PATH", "") + SBIN)
    return [exe or words[0], *words[1:]]
