"""The two C programs and the rig around them: against each other, against scripted replies, through a proxy."""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import build, procs, rows, targets
from bench.rig import NotReady, Rig, Subject

pytestmark = pytest.mark.skipif(not build.compiler(), reason="no C compiler")

STEP_NS = 50_000_000


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[build.Tools]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield build.build()


@pytest.fixture
def rig(tools: build.Tools) -> Iterator[Rig]:
    allowed = sorted(os.sched_getaffinity(0))
    with Rig(tools, allowed[-1], allowed[0]) as rig:
        yield rig
    assert os.sched_getaffinity(0) == set(allowed)


@pytest.fixture
def direct(rig: Rig) -> Subject:
    return Subject(rig, rig.backend_port, 0)


def post(port: int, **body: Any) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return connection.getresponse().read()
    finally:
        connection.close()


def marks(stream: bytes) -> list[int]:
    """The clock values of the content chunks of a stream."""
    found = []
    for line in stream.split(b"\n"):
        _, at, rest = line.partition(b"@")
        if at:
            found.append(int(rest[:12].translate(bytes.maketrans(b"abcdefghijklmnop", b"0123456789abcdef")), 16))
    return found


def test_building_twice_compiles_once(tools: build.Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(Path(tools.load).parents[1]))
    monkeypatch.setenv("CC", "/nonexistent/compiler")
    assert build.build() == tools


def test_without_a_compiler_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "/nonexistent/compiler")
    with pytest.raises(build.NoCompiler, match="install gcc or clang"):
        build.build()


def test_plain_load(direct: Subject) -> None:
    seen = direct.load({"c": 4, "d": 0.3, "W": 0.1, "m": "fake-b2000"})
    assert seen["req"] > 10
    assert (seen["err"], seen["errmsg"]) == (0, "")
    assert 0 < seen["lat_us"]["p50"] <= seen["lat_us"]["p99"] <= seen["lat_us"]["max"]
    assert seen["wall"] == pytest.approx(0.3, abs=0.2)
    assert "cpu_us" not in seen  # no proxy, no CPU of one


def test_paced_streams_are_whole_and_timed(direct: Subject) -> None:
    seen = direct.load({"c": 5, "d": 0.6, "W": 0, "s": True, "m": "fake-n10-r100"})
    assert seen["req"] > 5
    assert (seen["err"], seen["short"]) == (0, 0)
    assert seen["chunks_s"] == pytest.approx(5 * 100, rel=0.3)
    assert 0 < seen["chunk_us"]["p50"] < 50_000
    assert 0 < seen["ttfc_us"]["p50"] < 50_000
    assert seen["late_us"]["n"] > 100


def test_a_new_connection_for_each_request(direct: Subject) -> None:
    seen = direct.load({"c": 2, "d": 0.2, "W": 0, "C": True})
    assert seen["conns"] >= seen["req"] > 2
    assert seen["err"] == 0


@pytest.mark.parametrize(
    ("options", "headless"),
    [
        ({"x": 0, "y": 20, "m": rows.HEADLESS}, 1),
        ({"x": 1, "y": 20, "m": rows.SILENT}, 0),
        ({"x": 3, "y": 0, "m": "fake-n500-r200"}, 0),
    ],
    ids=["before the head", "in silence", "mid-stream"],
)
def test_the_backend_sees_a_client_that_went_away(direct: Subject, options: dict[str, Any], headless: int) -> None:
    seen = direct.load({"c": 4, "d": 0.3, "W": 0, "s": True} | options)
    figures = rows.join_closes(seen["left"], seen["closes"] + direct.rig.stats()["closes"])
    assert figures["n"] > 4
    assert figures["unseen"] == 0
    assert 0 < figures["p50"] <= figures["max"] < 1e6
    assert {c[2] for c in seen["closes"]} == {headless}


def test_knobs_of_the_model_name(rig: Rig) -> None:
    port = rig.backend_port
    assert len(post(port, model="fake-b5000")) == 5000
    assert json.loads(post(port, model="fake-b900-l20"))["choices"][0]["finish_reason"] == "stop"
    usage = post(port, model="fake-n3", stream=True, stream_options={"include_usage": True})
    assert len(marks(usage)) == 3
    assert b'"completion_tokens":3' in usage
    assert usage.endswith(b"data: [DONE]\n\n")
    events = [json.loads(e[6:]) for e in usage.split(b"\n\n") if e.startswith(b"data: {")]
    assert len(events) == 6  # the role, three chunks, the finish, the usage
    long, short = (len(post(port, model=f"fake-n1-t{t}", stream=True)) for t in (204, 104))
    assert long - short == 100
    assert len(post(port, model="fake-n64-w8", stream=True)) > 64 * 200


def test_aligned_streams_tick_on_the_common_grid(rig: Rig) -> None:
    found = marks(post(rig.backend_port, model="fake-n8-r20-a1", stream=True))
    assert len(found) == 8
    assert statistics.median(m % STEP_NS for m in found) < STEP_NS / 4


class Scripted:
    """A server that answers each request with the given pieces, one send each, and hangs up where asked to."""

    def __init__(self, pieces: list[bytes], hang_up: bool = False) -> None:
        self.pieces, self.hang_up = pieces, hang_up
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self.listener.accept()
            except OSError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with peer:
                try:
                    while peer.recv(65536):
                        for piece in self.pieces:
                            peer.sendall(piece)
                        if self.hang_up:
                            break
                except OSError:
                    pass  # the load ended in the middle of a reply

    def load(self, tools: build.Tools, *more: str) -> dict[str, Any]:
        try:
            words = [tools.load, "-p", str(self.port), "-c", "1", "-d", "0.25", "-W", "0", *more]
            done = subprocess.run(words, capture_output=True, timeout=20, check=True)
        finally:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
MARK = b"@abcdefghijkl"


def sse(*texts: bytes, done: bool = True) -> bytes:
    events = b"".join(b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % t for t in texts)
    return events + (b"data: [DONE]\n\n" if done else b"")


def framed(body: bytes, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%X\r\n%s\r\n" % (len(p), p) for p in parts)
        + b"0\r\n\r\n"
    )


@pytest.mark.parametrize(("chunk", "piece"), [(1, 1), (7, 13), (1000, 1), (1, 10_000), (1000, 10_000)])
def test_marks_are_found_however_the_stream_is_cut(tools: build.Tools, chunk: int, piece: int) -> None:
    body = sse(b" a " + MARK, b'\\"x\\" ' + MARK[:6], MARK[6:] + b" and " + MARK, b"user@example.com")
    raw = framed(body, chunk)
    seen = Scripted([raw[i : i + piece] for i in range(0, len(raw), piece)]).load(tools, "-s", "-m", "x-n3")
    assert seen["req"] > 0
    assert (seen["err"], seen["short"]) == (0, 0)
    assert seen["chunks"] in range(3 * seen["req"], 3 * seen["req"] + 4)


def test_a_chunk_too_few_or_no_ending_is_a_broken_stream(tools: build.Tools) -> None:
    few = Scripted([framed(sse(MARK), 100)]).load(tools, "-s", "-m", "x-n2")
    assert few["short"] == few["req"] > 0
    endless = Scripted([framed(sse(MARK, MARK, done=False), 100)]).load(tools, "-s", "-m", "x-n2")
    assert endless["short"] == endless["req"] > 0


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (framed(sse(MARK), 50)[:-30], "closed early"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (b"SSH-2.0-something\r\n\r\n", "not HTTP"),
        (HEAD + b"Content-Length: 2\r\n\r\n{}{}", "not HTTP"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", "refused, status 503: busy"),
    ],
)
def test_bad_replies_are_errors_with_a_reason(tools: build.Tools, raw: bytes, why: str) -> None:
    seen = Scripted([raw], hang_up=True).load(tools, "-s")
    assert seen["err"] > 0
    assert seen["req"] == 0
    assert why in seen["errmsg"]


def test_interim_replies_and_bodies_up_to_the_close_are_understood(tools: build.Tools) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + HEAD + b"\r\n" + sse(MARK)
    seen = Scripted([raw], hang_up=True).load(tools, "-s", "-m", "x-n1")
    assert seen["req"] > 0
    assert (seen["err"], seen["short"]) == (0, 0)


def test_a_target_is_started_pinned_measured_and_stopped(rig: Rig) -> None:
    target = next(t for t in targets.TARGETS if t.name == "aiohttp")
    if reason := targets.missing(target):
        pytest.skip(reason)
    with rig.started(target) as subject:
        pids = procs.tree(subject.root)
        assert os.sched_getaffinity(subject.root) == {rig.proxy_core}
        seen = subject.load(
            {"c": 2, "d": 0.3, "W": 0.1, "s": True, "m": "fake-n20-r100"}, lambda: {"mb": subject.pss_mb()}
        )
    assert seen["chunks"] > 20
    assert (seen["err"], seen["short"]) == (0, 0)
    assert seen["cpu_us"] > 0
    assert 0 < seen["util"] <= 1.1
    assert seen["mb"] > 5
    assert not [p for p in pids if Path(f"/proc/{p}").exists()]


def test_a_target_that_dies_tells_its_last_words(rig: Rig) -> None:
    broken = targets.Target("broken", "", start=f"{sys.executable} -c 'import sys; sys.exit(\"no such policy\")'")
    with pytest.raises(NotReady, match="status 1; its last words: no such policy"), rig.started(broken):
        pass


def test_a_target_that_cannot_be_started_is_not_ready(rig: Rig) -> None:
    with (
        pytest.raises(NotReady, match="no-such-program"),
        rig.started(targets.Target("absent", "", start="no-such-program")),
    ):
        pass
