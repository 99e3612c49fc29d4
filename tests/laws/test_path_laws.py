"""However a stream is cut, and whichever way its events are read (by their bytes, parsed, at once, in steps), the same bytes
leave at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from policies.contract import Cut
from proxy import shapes
from proxy.dialects import DIALECTS
from proxy.gated import GatedStream, WatchedStream
from tests.kits.dialect_kit import DONE, STREAMS, Kit, chunk, delta, event
from tests.kits.gate_kit import Cutter, HoldAll, PassAll, Redactor
from tests.laws.test_stream_laws import CUTS, TEXTS, events_of, split_bytes

PHRASES = ("alice", "geheim", "al")
GUARDS: dict[str, Any] = {
    "redact": lambda channel: [Redactor(PHRASES)],
    "cut": lambda channel: [Cutter("geheim")],
    "hold, then cut": lambda channel: [HoldAll(), Cutter("geheim")],
}
WAYS = ("at once", "in steps", "parsed")
FAST = settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def played(kit_dialect: str, guard: Any, chunks: Sequence[bytes], way: str, **options: Any) -> tuple[list[bytes], Any]:
    stream = GatedStream(DIALECTS[kit_dialect], guard, include_usage=True, **options)
    if way == "parsed":
        stream._templates._tries = stream._templates._misses = 0
    out: list[bytes] = []
    for piece in chunks:
        out.append(b"".join(stream.feeding(piece)) if way == "in steps" else stream.feed(piece))
    out.append(stream.end())
    state = (stream.cut, stream.cuts, stream.changed, stream.finished, stream.usage, stream.queued, stream._codec.choices)
    return out, state


def same(dialect: str, guard: Any, chunks: Sequence[bytes], **options: Any) -> list[bytes]:
    """Play a stream in all ways, twice, since the second knows the first's shapes; returns what leaves."""
    first, state = played(dialect, guard, chunks, "parsed", **options)
    for way in (*WAYS, *WAYS):
        assert played(dialect, guard, chunks, way, **options) == (first, state), way
    return first


@pytest.mark.parametrize("kit", STREAMS, ids=str)
@pytest.mark.parametrize("guard", list(GUARDS))
@FAST
@given(text=TEXTS, cuts=CUTS, byte_cuts=CUTS)
def test_all_ways_give_the_same(kit: Kit, guard: str, text: str, cuts: list[int], byte_cuts: list[int]) -> None:
    events = events_of(kit, text, cuts)
    same(kit.dialect, GUARDS[guard], events)
    same(kit.dialect, GUARDS[guard], split_bytes(b"".join(events), byte_cuts))


def role(id: str, index: int = 0) -> bytes:
    return event({**chunk([delta({"role": "assistant", "content": ""}, index)]), "id": id})


def say(id: str, text: str, index: int = 0, finish: str | None = None) -> bytes:
    return event({**chunk([delta({"content": text}, index, finish)]), "id": id})


@pytest.mark.parametrize("guard", list(GUARDS))
@pytest.mark.parametrize("more", [{}, {"choices": 2}, {"interleave": "hold"}, {"annotate": True}], ids=str)
def test_events_without_text(guard: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Openings and ends are told by their bytes: while nothing waits, and also where the end of a choice is what cuts it."""
    monkeypatch.setattr(shapes.SHARED, "_quiet", {})
    for n, texts in enumerate((["a word"], ["geheim"], ["geh", "eim"], ["ali", "ce"], ["al"], [], ["x" * 900, "y" * 300])):
        for last in (None, "stop", "length"):
            id = f"x-{n}{last}"
            rows = [role(id), role(id, 1)]
            rows += [say(id, text, k % 2) for k, text in enumerate(texts)]
            rows += [say(id, "", 0, last), say(id, "", 1, last)] * (last is not None)
            rows += [b": a comment\n\n", say(id, "", 0, "stop"), DONE]
            same("chat", GUARDS[guard], rows, **more)
            same("chat", GUARDS[guard], [b"".join(rows)], **more)
            same("chat", GUARDS[guard], [b"".join(rows[:3]), b"".join(rows[3:])], **more)
    assert shapes.SHARED._quiet, "some were told by their bytes"


def test_what_is_long_is_left_for_steps() -> None:
    """Of a read with much text only its beginning is judged at once; what leaves is the same."""
    rows = [role("x"), *(say("x", f"{n} " + "word " * 30) for n in range(20)), say("x", "z" * 1500), DONE]
    guard: Any = lambda channel: [Redactor(PHRASES)]  # noqa: E731
    stream = GatedStream(DIALECTS["chat"], guard)
    out = stream.begin(b"".join(rows))
    assert stream.left and out and len(out) < 1500
    steps = list(stream.go_on())
    assert not stream.left and len(steps) > 15
    assert out + b"".join(steps) + stream.end() == b"".join(rows)


def test_a_cut_leaves_nothing_to_do() -> None:
    stream = GatedStream(DIALECTS["chat"], lambda channel: [Cutter("geheim")])
    out = stream.begin(b"".join([say("x", "ein geheimes"), say("x", "w" * 2000), DONE]))
    assert stream.cut is not None and not stream.left and out.endswith(DONE)


class LateCut(PassAll):
    """Lets all text pass, and stops the reply at its end."""

    def close(self) -> int:
        raise Cut("late", "Stopped.")


@pytest.mark.parametrize("more", [{}, {"choices": 2}], ids=str)
def test_a_cut_at_the_end_of_a_choice_keeps_its_finish_back(more: dict[str, Any]) -> None:
    late: Any = lambda channel: [LateCut() if channel.choice == 0 else PassAll()]  # noqa: E731
    rows = [role("x"), say("x", "word"), say("x", "", 0, "stop"), role("x", 1), say("x", "b", 1), say("x", "", 1, "stop"), DONE]
    out = b"".join(same("chat", late, rows, **more))
    first = out.split(b"\n\n")
    assert b'"content_filter"' in out and sum(b'"stop"' in one for one in first) == (1 if more else 0)


def test_an_event_with_an_id_is_read_in_full() -> None:
    """After it, comments of our own would not be harmless: that must not be missed."""
    for row in (b"id: 7\n" + DONE, b"id: 7\n" + say("x", "", 0, "stop"), b"id: 7\n" + role("x")):
        for _ in range(3):
            stream = GatedStream(DIALECTS["chat"], GUARDS["redact"])
            assert stream.feed(row) == row and stream.has_ids


@pytest.mark.parametrize("kit", STREAMS, ids=str)
def test_who_only_reads_along_learns_the_same(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*events_of(kit, "some words", [3, 5]), *([say("x", "", 1, "length"), DONE] if kit.dialect == "chat" else [])]
    told = []
    for fresh in (True, False, False):
        if fresh:
            monkeypatch.setattr(shapes.SHARED, "_quiet", {})
        for data in (rows, [b"".join(rows)]):
            watch = WatchedStream(DIALECTS[kit.dialect])
            for row in data:
                watch.feed(row)
            codec = watch._codec
            assert codec is not None
            told.append((watch.finishes, watch.finished, watch.errors, watch.usage, codec.choices))
    assert all(one == told[0] for one in told)
