"""The log: what a line says, what it never says, and that no output can stall the caller."""

from __future__ import annotations

import ast
import fcntl
import json
import logging
import os
import pty
import re
import threading
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policies.exchange import Attempt, Exchange, Finding, Headers, Kind, Usage
from proxy import lines
from proxy.log import Format, Log, StdlibHandler

SECRET = "sk-planted-7f3a9c"
MARKER = "PLANTED"


def exchange(**fields: Any) -> Exchange:
    x = Exchange("id-1", "POST", "/v1/chat/completions", "", Headers(), "127.0.0.1", 100.0, 1_700_000_000.25)
    x.route, x.status, x.ended, x.upstream_wait = "/v1/chat/completions", 200, 101.5, 1.25
    for name, value in fields.items():
        setattr(x, name, value)
    return x


def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def read_lines(fd: int, count: int) -> list[dict[str, Any]]:
    data = b""
    while data.count(b"\n") < count:
        data += os.read(fd, 65536)
    return [json.loads(line) for line in data.splitlines()]


def written(tmp_path: Path, use: Callable[[Log], object], format: Format = "json") -> list[str]:
    path = tmp_path / "out"
    with path.open("wb") as f:
        log = Log(format, fd=f.fileno(), linger=0.0, wall=lambda: 1_700_000_000.25)
        use(log)
        assert log.close(10)
    return path.read_text().splitlines()


def test_a_request_in_full(tmp_path: Path) -> None:
    x = exchange(
        dialect="chat", tier="gated", model_asked="a", model_sent="b", stream=True, caller="team", tenant="t",
        bytes_in=10, bytes_out=20, first_byte=100.5, usage=Usage(5, 7, 2), fault=Kind.BACKEND_CUT,
        labels={"risk": "low"}, scanned_request="yes", scanned_reply="no: route",
    )  # fmt: skip
    x.attempts = [
        Attempt("local", 100.0, kind=Kind.BACKEND_CONNECT, ended_after=0.004),
        Attempt("spare", 100.1, model="b", status=200, head_after=0.2, ended_after=1.4, reused=True),
    ]
    x.findings = [Finding("pii", "email", 2, "messages[0].content", "redact", True)]
    (line,) = written(tmp_path, lambda log: log.request(x))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:21.750Z", "level": "warning", "event": "request", "id": "id-1", "method": "POST",
        "route": "/v1/chat/completions", "path": "/v1/chat/completions", "status": 200, "tier": "gated",
        "duration_ms": 1500.0, "overhead_ms": 250.0, "bytes_in": 10, "bytes_out": 20,
        "scanned": {"request": "yes", "reply": "no: route"}, "ttfb_ms": 500.0, "dialect": "chat", "model_asked": "a",
        "model_sent": "b", "stream": True, "caller": "team", "tenant": "t", "client": "127.0.0.1",
        "fault": "backend_cut",
        "attempts": [
            {"backend": "local", "kind": "backend_connect", "ms": 4.0},
            {"backend": "spare", "status": 200, "ms": 1400.0, "model": "b", "reused": True},
        ],
        "usage": {"prompt": 5, "completion": 7, "cached": 2}, "labels": {"risk": "low"},
        "findings": [{"policy": "pii", "kind": "email", "count": 2, "where": "messages[0].content",
                      "action": "redact", "shadow": True}],
    }  # fmt: skip


def test_a_plain_request_says_no_more_than_needed(tmp_path: Path) -> None:
    (line,) = written(tmp_path, lambda log: log.request(exchange()))
    assert list(json.loads(line)) == [
        "time", "level", "event", "id", "method", "route", "path", "status", "tier", "duration_ms", "overhead_ms",
        "bytes_in", "bytes_out", "scanned", "client",
    ]  # fmt: skip


LOGGED = {
    "id", "method", "path", "route", "dialect", "caller", "tenant", "client", "model_asked", "model_sent", "labels",
    "scanned_request", "scanned_reply", "tier",
}  # fmt: skip
"""The text fields of an Exchange that a line shows."""


@pytest.mark.parametrize("format", ["json", "text"])
def test_a_secret_outside_the_allow_list_is_not_written(tmp_path: Path, format: Format) -> None:
    x = exchange()
    for slot in set(Exchange.__slots__) - LOGGED:
        if isinstance(getattr(x, slot), str | None) and slot not in ("stream", "fault", "first_byte", "usage", "ended"):
            setattr(x, slot, SECRET)
    x.headers = Headers([(b"authorization", SECRET.encode()), (SECRET.encode(), b"x")])
    x.notes = {SECRET: SECRET, "policy": [SECRET]}
    x.query = f"key={SECRET}"
    x.path = f"/v1/models?key={SECRET}"
    assert SECRET not in "\n".join(written(tmp_path, lambda log: log.request(x), format))


def test_the_allow_list_is_the_whole_line() -> None:
    """A field added to the Exchange shows nowhere until somebody adds it here too."""
    x = exchange()
    for slot in Exchange.__slots__:
        if isinstance(getattr(x, slot), str) or slot in ("caller", "tenant", "model_asked", "model_sent"):
            setattr(x, slot, f"{MARKER}-{slot}")
    x.headers, x.notes = Headers([(b"a", MARKER.encode() + b"-headers")]), {"n": f"{MARKER}-notes"}
    x.labels = {"l": f"{MARKER}-labels"}
    shown = set(re.findall(rf"{MARKER}-(\w+)", lines.to_json(lines.of_exchange(x)).decode()))
    assert shown == LOGGED


def test_an_events_unknown_fields_are_named_and_not_written(tmp_path: Path) -> None:
    def use(log: Log) -> None:
        log.event("info", "start", version="1", prompt=SECRET, api_key=SECRET, workers=[1, 2])

    (line,) = written(tmp_path, use)
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z", "level": "info", "event": "start", "version": "1", "workers": [1, 2],
        "fields_left_out": ["api_key", "prompt"],
    }  # fmt: skip


def test_errors_are_told_without_their_message(tmp_path: Path) -> None:
    def use(log: Log) -> None:
        try:
            json.loads("{" + SECRET)
        except ValueError as e:
            log.exception("internal_error", e, id="x")
        handler = StdlibHandler(log)
        logger = logging.getLogger("tests.library")
        logger.addHandler(handler)
        logger.error("Task exception %s", SECRET)
        logger.info("quiet")
        logger.removeHandler(handler)

    first, second = written(tmp_path, use)
    assert SECRET not in first + second
    assert json.loads(first)["error"] == "JSONDecodeError"
    assert re.fullmatch(r"json/decoder\.py:\d+", json.loads(first)["where"])
    assert json.loads(second)["logger"] == "tests.library"


@pytest.mark.parametrize(
    "text", ["\x00\x1b[31mred\r\nnew", "\ud800 lone", "ÿ" * 300, "日本語", '"quotes"\\', "\u2028\x7f"]
)
@pytest.mark.parametrize("format", ["json", "text"])
def test_hostile_text_stays_one_harmless_line(tmp_path: Path, text: str, format: Format) -> None:
    x = exchange(id=text, path="/" + text, model_asked=text, caller=text, labels={text: text}, client=text)
    x.findings = [Finding(text, text, where=text)]
    found = written(tmp_path, lambda log: (log.request(x), log.event("info", "start", reason=text)), format)
    assert len("\n".join(found).splitlines() if format == "json" else found) >= 2
    out = (tmp_path / "out").read_bytes()
    assert out.count(b"\n") == 2
    assert not re.search(rb"[\x00-\x09\x0b-\x1f]", out)
    if format == "json":
        assert all(isinstance(json.loads(line), dict) for line in out.splitlines())


def test_long_things_are_cut_and_a_line_fits_one_write() -> None:
    x = exchange(path="/" + "p" * 9000, model_asked="m" * 9000, id="i" * 9000, caller="c" * 9000)
    x.labels = {f"{n}" * 500: "v" * 500 for n in range(100)}
    x.findings = [Finding("p" * 500, "k" * 500, where="w" * 500, action="a" * 500) for _ in range(100)]
    x.attempts = [Attempt("b" * 60, 100.0, model="m" * 500) for _ in range(100)]
    line = lines.of_exchange(x)
    assert (len(line.path), len(line.model_asked or "")) == (200, 100)
    data = lines.to_json(line)
    assert len(data) <= lines.MAX_LINE
    assert json.loads(data)["truncated"] is True
    event = lines.of_event("info", "x", 0.0, {"problems": [{"where": "w" * 999, "message": "é" * 999}] * 99})
    assert len(lines.to_json(event)) <= lines.MAX_LINE
    assert len(lines.to_text(event, False)) <= lines.MAX_LINE


def test_numbers_that_json_cannot_hold_do_not_end_the_log(tmp_path: Path) -> None:
    x = exchange(usage=Usage(10**30, -(10**30), 0))
    bad = exchange(labels={"a": 3})
    first, second, third = written(tmp_path, lambda log: [log.request(e) for e in (x, bad, exchange())])
    assert json.loads(first)["usage"]["prompt"] == 2**53
    assert json.loads(second)["event"] == "log_line_failed"
    assert json.loads(third)["event"] == "request"


def test_levels_by_whose_fault_it_is() -> None:
    levels = {k: lines.of_exchange(exchange(fault=k)).level for k in (None, *Kind)}
    assert levels[None] == levels[Kind.CLIENT_GONE] == levels[Kind.RATE_LIMITED] == "info"
    assert levels[Kind.BACKEND_CUT] == levels[Kind.OVERLOADED] == "warning"
    assert levels[Kind.INTERNAL] == levels[Kind.POLICY_ERROR] == "error"


def test_off_says_only_what_somebody_must_know(tmp_path: Path) -> None:
    def use(log: Log) -> None:
        log.request(exchange())
        log.event("info", "start")
        log.event("error", "policy_rejected")

    (line,) = written(tmp_path, use, "off")
    assert json.loads(line)["event"] == "policy_rejected"


def test_text_is_coloured_on_a_terminal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    (line,) = written(tmp_path, lambda log: log.request(exchange(usage=Usage(1, 2), model_asked="m")), "text")
    assert line.startswith("22:13:21.750 200 POST /v1/chat/completions 1500ms own 250.0ms opaque m tokens 1+2")
    master, terminal = pty.openpty()
    try:
        log = Log("text", fd=terminal, linger=0.0)
        log.request(exchange())
        assert b"\x1b[32m200\x1b[0m" in os.read(master, 4096)
        assert log.close(10)
        monkeypatch.setenv("NO_COLOR", "1")
        log = Log("text", fd=terminal, linger=0.0)
        log.request(exchange())
        assert b"\x1b" not in os.read(master, 4096)
        assert log.close(10)
    finally:
        os.close(master)
        os.close(terminal)


def test_a_blocked_pipe_stalls_nobody_and_the_loss_is_told(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    fcntl.fcntl(writing, 1031, 4096)  # F_SETPIPE_SZ: the smallest
    dropped: list[tuple[str, int]] = []
    log = Log(fd=writing, limit=2000, linger=0.0, dropped=lambda reason, n: dropped.append((reason, n)))
    worst = 0.0
    for _ in range(5000):
        began = time.perf_counter()
        log.request(exchange())
        worst = max(worst, time.perf_counter() - began)
    assert worst < 0.5, "an append must not wait for the pipe"
    assert 0 < len(dropped) <= 3000
    assert set(dropped) == {("queue_full", 1)}
    found: list[dict[str, Any]] = []

    def told() -> int:
        return sum(f["count"] for f in found if f["event"] == "log_lines_dropped")

    def read() -> None:
        rest = b""
        while told() < len(dropped) or sum(f["event"] == "request" for f in found) < 5000 - len(dropped):
            *whole, rest = (rest + os.read(reading, 65536)).split(b"\n")
            found.extend(json.loads(line) for line in whole)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert sum(f["event"] == "request" for f in found) == 5000 - len(dropped)
    assert told() == len(dropped)
    assert log.close(10)


def test_lines_of_several_writers_on_one_pipe_are_not_mixed(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    logs = [Log(fd=writing, linger=0.0) for _ in range(3)]
    for n in range(300):
        for i, log in enumerate(logs):
            log.request(exchange(id=f"{i}-{n}", labels={"pad": "x" * (n % 90)}))
    found = read_lines(reading, 900)  # every line parses
    assert {f["id"] for f in found} == {f"{i}-{n}" for n in range(300) for i in range(3)}
    for i, log in enumerate(logs):
        mine = [f["id"] for f in found if f["id"].startswith(f"{i}-")]
        assert mine == [f"{i}-{n}" for n in range(300)], "in order"
        assert log.close(10)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_stalls_nobody() -> None:
    dropped: list[tuple[str, int]] = []
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        log = Log(fd=fd, limit=100, linger=0.0, dropped=lambda reason, n: dropped.append((reason, n)))
        for _ in range(1000):
            log.request(exchange())
        until(lambda: ("queue_full", 1) in dropped)
        assert not log.close(0.0)
        until(lambda: sum(n for _, n in dropped) == 1000)
        assert {reason for reason, _ in dropped} == {"queue_full", "write_failed"}
    finally:
        os.close(fd)


def test_a_disk_that_recovers_gets_what_waited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, full, tried = tmp_path / "out", threading.Event(), threading.Event()
    monkeypatch.setattr("proxy.log._RETRY", 0.01)
    write = os.write
    full.set()

    def fails(fd: int, data: bytes) -> int:
        if full.is_set():
            tried.set()
            raise OSError(28, "No space left on device")
        return write(fd, bytes(data)[:7])  # and little by little after that

    monkeypatch.setattr("proxy.log.os.write", fails)
    with path.open("wb") as f:
        log = Log(fd=f.fileno(), linger=0.0)
        log.request(exchange(id="first"))
        assert tried.wait(10)
        log.request(exchange(id="second"))
        full.clear()
        until(lambda: path.read_bytes().count(b"\n") == 2)
        assert log.close(10)
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["first", "second"]


def test_a_reader_that_left_ends_the_writing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    dropped: list[tuple[str, int]] = []
    log = Log(fd=writing, linger=0.0, dropped=lambda reason, n: dropped.append((reason, n)))
    os.close(reading)
    log.request(exchange())
    until(lambda: dropped)
    for _ in range(1000):
        log.request(exchange())
    log.event("error", "policy_rejected")
    assert sum(n for _, n in dropped) == 1002
    assert len(log._queue) == 0
    assert not log.close(5)


def test_closing_writes_what_waits_and_a_blocked_output_does_not_hold_it_up(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = Log(fd=writing, linger=3600.0)
    log.request(exchange())
    assert log.close(10), "closing does not wait out the linger"
    assert read_lines(reading, 1)[0]["event"] == "request"
    fcntl.fcntl(writing, 1031, 4096)
    log = Log(fd=writing, linger=0.0)
    for _ in range(500):
        log.request(exchange())
    began = time.monotonic()
    assert not log.close(0.2)
    assert time.monotonic() - began < 2.0
    log._thread.join(10)
    assert not log._thread.is_alive(), "it gives up by itself"


def test_idle_it_sleeps(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as f:
        log = Log(fd=f.fileno(), linger=0.0)
        log.request(exchange())
        until(lambda: log._idle and not log._wake.is_set())
        waits = []
        wait = log._wake.wait
        log._wake.wait = lambda *a: (waits.append(a), wait(*a))[1]  # type: ignore[method-assign,assignment]
        log.request(exchange())
        until(lambda: waits)
        assert waits == [()], "no timeout: nothing wakes it but a line"
        assert log.close(10)


def test_an_append_costs_next_to_nothing(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as f:
        log = Log(fd=f.fileno(), linger=3600.0, limit=10**9)
        log._lagging = 10**9
        x = exchange()
        log.request(x)
        best = min(timeit.repeat(lambda: log.request(x), number=1000, repeat=5)) / 1000
        assert best < 5e-6, f"{best * 1e6:.2f} us; about 0.2 us on a quiet machine"
        assert log.close(30)


def test_docs_name_every_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    missing = [f for f in lines.RequestLine.__struct_fields__ if f"`{f}`" not in text]
    assert not missing, "docs/operations.md, section Log"
    for part in (lines.AttemptLine, lines.FindingLine, lines.UsageLine, lines.Scanned):
        assert not [f for f in part.__struct_fields__ if f"`{f}`" not in text]


def test_the_thread_ends_when_the_reader_has_gone(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = Log(fd=writing, linger=0.2)  # so that many lines are due in one turn
    for _ in range(400):
        log.request(exchange())
    os.close(reading)
    log._thread.join(10)
    assert not log._thread.is_alive(), "it must not spin on lines that are gone"
    log.request(exchange())
    assert not log.close(1)


def test_every_field_of_every_event_is_on_the_list() -> None:
    """Whoever tells of an event somewhere in the proxy: none of its fields is left out of the log."""
    left_out = []
    for path in sorted((Path(lines.__file__).parent).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            first = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if node.func.attr in ("event", "tell", "_tell") and first in ("debug", "info", "warning", "error"):
                left_out += [(path.name, k.arg) for k in node.keywords if k.arg and k.arg not in lines.EVENT_FIELDS]
    assert left_out == []
