"""Server-sent events: any line ends, any split, the cap; law 1 (joined raw bytes are the input)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.sse import Event, EventTooLarge, Oversize, Splitter, parse, reframe

LINES = st.sampled_from([
    b"data: a", b"data:b", b"data", b"data:  two", b": comment", b":", b"event: x", b"id: 1", b"id", b"retry: 5", b"",
    b"unknown: 1", b"data: \xe2\x80\xa8\xc2\x85\x0b", b"data: 1\x00",
])  # fmt: skip
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
STREAMS = st.tuples(st.sampled_from([b"", b"\xef\xbb\xbf"]), st.lists(st.tuples(LINES, ENDS), max_size=14)).map(
    lambda s: s[0] + b"".join(a + b for a, b in s[1])
)


def reference(stream: bytes) -> list[tuple[bytes | None, bytes | None, bool]]:
    """The HTML standard's steps, line by line: what is dispatched or carries an id, but not the empty rest."""
    stream = stream.removeprefix(b"\xef\xbb\xbf")
    lines = stream.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    out = []
    data: list[bytes] = []
    name: bytes | None = None
    has_id = False
    for line in lines[:-1]:  # the last one is not ended
        if not line:
            if data or name is not None or has_id:
                out.append((b"\n".join(data) if data else None, name, has_id))
            data, name, has_id = [], None, False
            continue
        key, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if key == b"data":
            data.append(value)
        elif key == b"event":
            name = value
        elif key == b"id":
            has_id = True
    return out


def seen(events: list[Event]) -> list[tuple[bytes | None, bytes | None, bool]]:
    return [(e.data, e.event, e.has_id) for e in events if e.data is not None or e.event is not None or e.has_id]


@settings(max_examples=300, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 120), max_size=20))
def test_any_split_gives_the_same_events_and_all_bytes(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    for pieces in (
        [stream],
        [stream[a:b] for a, b in pairwise(edges)],
        [bytes([b]) for b in stream],
    ):
        splitter = Splitter()
        events = [e for piece in pieces for e in splitter.feed(piece)]
        assert b"".join(e.raw for e in events) + splitter.rest() == stream
        assert seen(events) == reference(stream)
        assert all(parse(e.raw).data == e.data for e in events)


@settings(max_examples=200, deadline=None)
@given(stream=STREAMS, cuts=st.lists(st.integers(0, 120), max_size=20), cap=st.integers(1, 12))
def test_going_on_over_the_cap_keeps_all_bytes(stream: bytes, cuts: list[int], cap: int) -> None:
    edges = sorted({0, len(stream), *(c for c in cuts if c < len(stream))})
    splitter = Splitter(cap, go_on=True)
    out: list[bytes] = []
    for a, b in pairwise(edges):
        splitter.split(stream[a:b], out)
    assert b"".join(out) + splitter.rest() == stream
    assert len(splitter.rest()) <= cap
    assert all(len(raw) <= cap for raw in out if not isinstance(raw, Oversize))


def test_after_an_oversize_event_the_next_one_is_whole_again() -> None:
    stream = b"data: " + b"x" * 50 + b"\r\n\r\ndata: ok\n\n"
    for step in range(1, 80):
        splitter = Splitter(20, go_on=True)
        out: list[bytes] = []
        for i in range(0, len(stream), step):
            splitter.split(stream[i : i + step], out)
        assert b"".join(out) == stream
        assert [raw for raw in out if not isinstance(raw, Oversize) and raw != b"\n"] == [b"data: ok\n\n"]
        assert splitter.idle


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_the_cap(step: int) -> None:
    stream = b"data: ok\n\ndata: " + b"x" * 100
    splitter = Splitter(20)
    out: list[bytes] = []

    def feed_all() -> None:
        for i in range(0, len(stream), step):
            splitter.split(stream[i : i + step], out)

    with pytest.raises(EventTooLarge) as error:
        feed_all()
    assert out == [b"data: ok\n\n"]
    assert error.value.raw == (b"data: " + b"x" * 100)[:21]
    assert "x" * 5 not in str(error.value)


def test_an_event_of_exactly_the_cap_passes() -> None:
    raw = b"data: " + b"x" * 12 + b"\n\n"
    for step in (1, 20):
        splitter = Splitter(20)
        assert [e for i in range(0, 20, step) for e in splitter.split(raw[i : i + step])] == [raw]


def test_idle_is_between_events_only() -> None:
    splitter = Splitter()
    assert splitter.idle
    splitter.split(b"data: x\n")
    assert not splitter.idle
    splitter.split(b"\r")
    assert not splitter.idle  # a LF may still belong to the CR
    assert splitter.split(b"\n") == [b"\n"]
    assert splitter.idle


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"data: a\n\n", b"data: Z\n\n"),
        (b"event: x\ndata: a\ndata: b\n: c\n\n", b"event: x\ndata: Z\n: c\n\n"),
        (b"\xef\xbb\xbfid: 1\r\ndata: a\r\n\r\n", b"id: 1\r\ndata: Z\r\n\r\n"),
        (b"data: a\rdata: b\r\r", b"data: Z\r\r"),
        (b"data: a", b"data: Z"),
        (b"data: a\nevent: e", b"data: Z\nevent: e"),
    ],
)
def test_reframe(raw: bytes, expected: bytes) -> None:
    assert reframe(raw, b"Z") == expected


def test_dribbled_bytes_stay_linear() -> None:
    """One byte at a time into one event of 200 kB: a search or a copy per byte would take minutes."""
    splitter = Splitter(1 << 20)
    for _ in range(200_000):
        splitter.split(b"x")
    assert len(splitter.rest()) == 200_000
