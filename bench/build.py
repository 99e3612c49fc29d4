"""Compiles bench/src into a cache folder outside the tree, once per state of the sources."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SRC = Path(__file__).parent / "src"
PROGRAMS = {"backend": ("backend.c", "replies.c"), "load": ("load.c", "load_options.c", "load_reply.c")}


class NoCompiler(Exception):
    """There is no C compiler; the text says what to install."""


@dataclass(frozen=True, slots=True)
class Tools:
    """Paths of the two programs: the fake backend and the load generator."""

    backend: str
    load: str


def cache_dir() -> Path:
    """$BENCH_CACHE, or headgate-bench in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get("BENCH_CACHE") or Path(base) / "headgate-bench")


def compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc"))


def build() -> Tools:
    """Raises NoCompiler, or RuntimeError with the compiler's words."""
    digest = hashlib.sha256()
    for path in sorted(SRC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    folder = cache_dir() / digest.hexdigest()[:16]
    tools = Tools(*(str(folder / name) for name in PROGRAMS))
    if all(os.access(p, os.X_OK) for p in (tools.backend, tools.load)):
        return tools
    cc = compiler()
    if not cc:
        raise NoCompiler(
            "bench needs a C compiler: install gcc or clang (Debian: apt-get install gcc libc6-dev) or set CC"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, sources in PROGRAMS.items():
        fresh = folder / f"{name}.{os.getpid()}"  # renamed when whole: two runs may build at once
        command = [cc, "-O2", "-std=gnu11", "-Wall", "-o", str(fresh), *(str(SRC / s) for s in sources)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
        fresh.replace(folder / name)
    return tools
