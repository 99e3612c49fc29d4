"""The statement of the machine that stands above every table: what it is, what ran, and how noisy it was."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from typing import Any

from bench.procs import HAS_SCHEDSTAT

GAP_NS = 50_000
"""A spinning thread that loses more than this at once was not merely interrupted: somebody else had the
core.
"""

QUIET = 0.05
"""A core that loses more than this share of its time while it should be idle is in use by somebody."""


def spin(core: int, seconds: float = 1.0) -> dict[str, float]:
    """Spins on an idle core and reports what it lost: share of the time (0..1) and the longest gap in
    milliseconds.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    lost = longest = 0
    try:
        start = last = time.perf_counter_ns()
        end = start + int(seconds * 1e9)
        while last < end:
            t = time.perf_counter_ns()
            if t - last > GAP_NS:
                lost += t - last
                longest = max(longest, t - last)
            last = t
    finally:
        os.sched_setaffinity(0, before)
    return {"lost": lost / (seconds * 1e9), "longest_ms": longest / 1e6}


def _first_line(*command: str) -> str | None:
    exe = shutil.which(command[0], path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if not exe:
        return None
    done = subprocess.run([exe, *command[1:]], capture_output=True, text=True, timeout=20, check=False)
    text = (done.stdout + done.stderr).strip()
    return text.splitlines()[0] if text else None


def _version(text: str | None) -> str | None:
    found = re.search(r"\d+\.\d+(\.\d+)?", text or "")
    return found.group(0) if found else None


def versions(targets: list[str]) -> dict[str, str]:
    """Version of each thing that a run of `targets` rests on, as far as it tells."""
    found: dict[str, str | None] = {
        "python": platform.python_version(),
        "cc": _version(_first_line("cc", "--version")),
    }
    for package in ("aiohttp", "uvloop", "httptools"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if "nginx" in targets:
        found["nginx"] = _version(_first_line("nginx", "-v"))
    if "haproxy" in targets:
        found["haproxy"] = _version(_first_line("haproxy", "-v"))
    if "litellm" in targets:
        found["litellm"] = _version(_first_line(os.environ.get("LITELLM_BIN", ""), "--version"))
    if "envoy" in targets and "ENVOY_BIN" in os.environ:
        found["envoy"] = _version((_first_line(os.environ["ENVOY_BIN"], "--version") or "").partition("version:")[2])
    return {k: v for k, v in found.items() if v}


def _cpu_model() -> str:
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        found = re.search(r"^model name\s*:\s*(.+)$", f.read(), re.M)
    return found.group(1).strip() if found else platform.machine()


def describe(targets: list[str], proxy_core: int, load_core: int) -> dict[str, Any]:
    """All of it, as the JSON file keeps it. Takes two seconds: one spin on each of the two cores."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "clock": "schedstat" if HAS_SCHEDSTAT else "ticks",
        "proxy_core": proxy_core,
        "load_core": load_core,
        "loadavg": os.getloadavg()[0],
        "versions": versions(targets),
        "noise": {"proxy_core": spin(proxy_core), "load_core": spin(load_core)},
        "python_executable": os.path.basename(sys.executable),
    }


def sentence(m: dict[str, Any]) -> str:
    noise = m["noise"]
    parts = [
        f"core {m[c]} lost {noise[c]['lost']:.1%}, longest gap {noise[c]['longest_ms']:.1f} ms"
        for c in ("proxy_core", "load_core")
    ]
    loud = max(noise["proxy_core"]["lost"], noise["load_core"]["lost"]) > QUIET
    return (
        f"{m['cpu']}, {m['cores']} cores, Linux {m['kernel']}, load average {m['loadavg']:.2f} at the start. "
        f"Proxy on core {m['proxy_core']}; client and backend on core {m['load_core']}. "
        f"CPU time by {m['clock']}.\n"
        f"Noise (1 s spin per core): {'; '.join(parts)}.{' NOT A QUIET MACHINE.' if loud else ''}\n"
        f"Versions: {', '.join(f'{k} {v}' for k, v in m['versions'].items())}."
    )
