"""Starts the fake backend and the proxies, pins them, runs loads against them, and leaves no process
behind.

The proxy has one core for itself (PROXY_CORE), client and backend share another (LOAD_CORE), and so does
the rig. Loopback only.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench import procs, targets
from bench.build import Tools

PR_SET_PDEATHSIG = 1
NICE = os.environ.get("BENCH_NICE", "-15")
"""Weight of our processes against those of other sessions (autogroup, `man 7 sched`); only root may
raise it.
"""

Options = Mapping[str, Any]
"""Options of the load generator by letter; True = a switch. See bench/src/load.c."""


def _in_child(core: int) -> Callable[[], None]:
    """What a child does before it becomes the program: its core, its weight, and it dies with the rig."""
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        os.sched_setaffinity(0, {core})
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write(NICE)

    return prepare


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def stop(root: int, wait: Callable[[float], object]) -> None:
    """Ends the tree of `root`: SIGTERM, 5 s, SIGKILL. Only processes that we started, each by its id."""
    pids = procs.tree(root)
    for sig, patience in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        for pid in reversed(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        with contextlib.suppress(subprocess.TimeoutExpired):
            wait(patience)


class NotReady(Exception):
    """The target did not give a right answer in time; the text is what it said or did."""


class Rig:
    """The fake backend, running, and the means to load it directly or through a proxy. A context manager."""

    def __init__(self, tools: Tools, proxy_core: int, load_core: int) -> None:
        self.tools, self.proxy_core, self.load_core = tools, proxy_core, load_core
        self.backend: subprocess.Popen[str] | None = None
        self.backend_port = 0

    def __enter__(self) -> Rig:
        self._before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.load_core})
        with contextlib.suppress(OSError):  # root only: readings at the border of a row must not wait for the client
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        self.backend = subprocess.Popen(
            [self.tools.backend, "0"],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_in_child(self.load_core),
        )
        assert self.backend.stdout
        self.backend_port = int(self.backend.stdout.readline().split()[1])
        return self

    def __exit__(self, *_: object) -> None:
        assert self.backend
        stop(self.backend.pid, self.backend.wait)
        if self.backend.stdout:
            self.backend.stdout.close()
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, self._before)

    @contextlib.contextmanager
    def started(self, target: targets.Target) -> Iterator[Subject]:
        """A fresh process of the target, answering; stopped and its folder removed afterwards. Raises
        NotReady.
        """
        assert self.backend
        if target.start is None:
            yield Subject(self, self.backend_port, 0)
            return
        port, folder = free_port(), tempfile.mkdtemp(prefix="headgate-bench-")
        log = Path(folder, "log")
        env = dict(os.environ, **target.env)
        try:
            with log.open("w") as out:
                process = subprocess.Popen(
                    targets.command(target, port, self.backend_port, folder),
                    cwd=folder,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    start_new_session=True,
                    preexec_fn=_in_child(self.proxy_core),
                )
            try:
                subject = Subject(self, port, process.pid)
                try:
                    subject.wait_ready(target.startup, process)
                except NotReady as e:
                    raise NotReady(
                        f"{e}; its last words: {log.read_text(errors='replace')[-800:].strip() or 'none'}"
                    ) from None
                time.sleep(target.settle)
                yield subject
            finally:
                stop(process.pid, process.wait)
        except OSError as e:
            raise NotReady(str(e)) from e
        finally:
            if os.environ.get("BENCH_KEEP"):
                print(f"# kept: {folder}", file=sys.stderr)
            else:
                shutil.rmtree(folder, ignore_errors=True)

    def stats(self) -> dict[str, Any]:
        """The backend's /stats; reading it resets its lateness and its list of closes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.backend_port, timeout=10)
        try:
            connection.request("GET", "/stats")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()


class Subject:
    """A started target: where it listens and the root of its process tree (0: no proxy)."""

    def __init__(self, rig: Rig, port: int, root: int) -> None:
        self.rig, self.port, self.root = rig, port, root

    def pss_mb(self) -> float:
        return procs.pss_mb(procs.tree(self.root))

    def wait_ready(self, seconds: float, process: subprocess.Popen[bytes]) -> None:
        """Waits for a whole and right completion through the proxy."""
        body = json.dumps({"model": "fake-b1024", "messages": [{"role": "user", "content": "hi"}]})
        headers = {"Content-Type": "application/json", "Authorization": "Bearer sk-bench-0000"}
        end, last = time.monotonic() + seconds, "no answer"
        while time.monotonic() < end:
            if process.poll() is not None:
                raise NotReady(f"ended with status {process.returncode}")
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                answer = connection.getresponse()
                text = answer.read()
                if answer.status == 200 and json.loads(text)["choices"][0]["message"]["content"]:
                    return
                last = f"status {answer.status}: {text[:300].decode(errors='replace')}"
            except (OSError, http.client.HTTPException, ValueError, LookupError) as e:
                last = repr(e)
            finally:
                connection.close()
            time.sleep(0.1)
        raise NotReady(f"not ready after {seconds:.0f} s: {last}")

    def drain(self, seconds: float = 8.0) -> None:
        """Waits until the proxy has finished what an earlier, broken-off load left it: below 13 % of its
        core.
        """
        pids, end = procs.tree(self.root), time.monotonic() + seconds
        before = procs.cpu_seconds(pids)
        while pids and time.monotonic() < end:
            time.sleep(0.15)
            after = procs.cpu_seconds(pids)
            if after - before < 0.02:
                return
            before = after

    def load(self, options: Options, at_end: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
        """One run of the load generator and all figures of it. `at_end` runs while its connections are
        still open.
        """
        rig = self.rig
        assert rig.backend
        words = [rig.tools.load, "-p", str(self.port)]
        for letter, value in options.items():
            words += [f"-{letter}"] if value is True else [f"-{letter}", str(value)]
        self.drain()
        rig.stats()
        client = subprocess.Popen(
            words + (["-k"] if at_end else []),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_in_child(rig.load_core),
        )
        bound = float(options.get("d", 3)) + float(options.get("W", 0.5)) + float(options.get("S", 0)) + 20
        watchdog = threading.Timer(bound, client.kill)
        watchdog.start()
        more: dict[str, Any] = {}
        marks: list[procs.Snapshot] = []
        try:
            assert client.stdin is not None
            assert client.stdout is not None
            assert client.stderr is not None
            for line in client.stderr:
                if line in ("ON\n", "OFF\n"):
                    marks.append(procs.snapshot(self.root, rig.backend.pid, rig.proxy_core, rig.load_core))
                    if line == "OFF\n" and at_end:
                        more = at_end()
                        client.stdin.write("\n")
                        client.stdin.flush()
                else:
                    print(f"# load generator: {line.strip()}", file=sys.stderr)
            text = client.stdout.read()
            client.wait()
        finally:
            watchdog.cancel()
            if client.poll() is None:
                client.kill()
                client.wait()
            for pipe in (client.stdin, client.stdout, client.stderr):
                if pipe:
                    pipe.close()
        if len(marks) != 2 or not text:
            raise RuntimeError(f"the load generator ended with status {client.returncode}: {' '.join(words)}")
        return self._figures(json.loads(text), marks, bool(options.get("s")), rig.stats(), more)

    def _figures(
        self,
        seen: dict[str, Any],
        marks: list[procs.Snapshot],
        stream: bool,
        backend: dict[str, Any],
        more: dict[str, Any],
    ) -> dict[str, Any]:
        figures = seen | procs.between(marks[0], marks[1], seen["client_cpu"], bool(self.root)) | more
        units = seen["chunks"] if stream else seen["req"]
        if "cpu" in figures and units:
            figures["cpu_us"] = figures["cpu"] / units * 1e6
        figures["late_us"] = backend["late_us"]
        figures["closes"] = backend["closes"]
        return figures
