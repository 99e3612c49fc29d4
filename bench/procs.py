"""What Linux tells about processes and cores: CPU time, memory, foreign load. Reads /proc only; starts
and stops nothing.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass

TICKS = os.sysconf("SC_CLK_TCK")
HAS_SCHEDSTAT = os.path.exists("/proc/self/schedstat")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as f:
            return f.read()
    except OSError:  # the process ended meanwhile
        return ""


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on (state, ppid, ...); the second may hold spaces and
    brackets.
    """
    text = _read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2 :].split() if ")" in text else []


def tree(root: int) -> list[int]:
    """`root` and all its descendants that live now; empty when root is 0."""
    if not root:
        return []
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := _stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """Seconds on a CPU of all threads of `pids`: nanosecond clock of schedstat, or ticks of stat where
    it is missing.
    """
    total = 0.0
    for pid in pids:
        if HAS_SCHEDSTAT:
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for tid in threads:
                total += int((_read(f"/proc/{pid}/task/{tid}/schedstat") or "0").split()[0]) / 1e9
        elif fields := _stat(pid):
            total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def pss_mb(pids: list[int]) -> float:
    """Proportional set size in MiB (2**20 bytes): shared pages are counted once over the whole tree."""
    kib = 0
    for pid in pids:
        if m := re.search(r"^Pss:\s+(\d+)", _read(f"/proc/{pid}/smaps_rollup"), re.M):
            kib += int(m.group(1))
    return kib / 1024


@dataclass(frozen=True, slots=True)
class CoreTimes:
    """Seconds since boot that one core was busy (all but idle and waiting) and was taken away by the
    hypervisor.
    """

    busy: float
    steal: float


def core_times(core: int) -> CoreTimes:
    for line in _read("/proc/stat").splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = (int(x) / TICKS for x in line.split()[1:9])
            return CoreTimes(user + nice + system + irq + softirq, steal)
    raise ValueError(f"this machine has no core {core}")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU readings of one moment; two of them and their difference make the figures of a row."""

    at: float
    proxy: float
    backend: float
    proxy_core: CoreTimes
    load_core: CoreTimes


def snapshot(proxy_root: int, backend_pid: int, proxy_core: int, load_core: int) -> Snapshot:
    proxy = cpu_seconds(tree(proxy_root))
    return Snapshot(time.monotonic(), proxy, cpu_seconds([backend_pid]), core_times(proxy_core), core_times(load_core))


def between(a: Snapshot, b: Snapshot, client_cpu: float, has_proxy: bool) -> dict[str, float]:
    """Shares of the wall time from a to b.

    util: the proxy's CPU; foreign: its core's busy time that was not the proxy's; load_busy: the load
    core's busy time; load_foreign: what of it was neither client nor backend; steal: the worse of both
    cores.
    """
    wall = max(b.at - a.at, 1e-9)
    load_busy = (b.load_core.busy - a.load_core.busy) / wall
    shares = {
        "wall": wall,
        "load_busy": load_busy,
        "load_foreign": max(0.0, load_busy - (client_cpu + b.backend - a.backend) / wall),
        "steal": max(b.proxy_core.steal - a.proxy_core.steal, b.load_core.steal - a.load_core.steal) / wall,
    }
    if has_proxy:
        cpu = b.proxy - a.proxy
        shares |= {
            "cpu": cpu,
            "util": cpu / wall,
            "foreign": max(0.0, (b.proxy_core.busy - a.proxy_core.busy - cpu) / wall),
        }
    return shares
