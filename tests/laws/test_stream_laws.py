"""The laws of gated replies, over every channel of every dialect and any split (DESIGN: laws 2, 3, 5, 7 and "a clean
stream is byte-identical")."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.contract import Channel, Gate
from proxy.dialects import DIALECTS
from proxy.dialects.leaves import SKIP
from proxy.gated import GatedStream, WatchedStream, gate_whole
from proxy.routes import ROUTES
from tests.kits.dialect_kit import BODIES, DONE, KITS, STREAMS, Kit, chunk, delta, docs, event, strings
from tests.kits.gate_kit import Cutter, HoldAll, PassAll, Redactor, redact

PHRASES = ("alice@example.com", "alice", "geheim", 'se"c\\ret', "naïve café", "日本語 の", "x\n\ty", "😀secret")
WORDS = st.sampled_from(
    [*PHRASES, "al", "ali", "geh", "\n", " ", "a", "日本", "😀", '"', "\\", "plain words ", "é", "{", "1,", "\x7f"]
)
TEXTS = st.lists(WORDS, min_size=1, max_size=12).map("".join)
CUTS = st.lists(st.integers(0, 400), max_size=24)
FAST = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def pieces_of(text: str, cuts: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *(c % (len(text) + 1) for c in cuts)})
    return [text[a:b] for a, b in pairwise(edges)]


def split_bytes(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(c * 37 % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def run(stream: GatedStream, pieces: Sequence[bytes]) -> bytes:
    out = b"".join(stream.feed(p) for p in pieces)
    return out + stream.end()


def events_of(kit: Kit, text: str, cuts: Sequence[int], *, ascii: bool = False) -> list[bytes]:
    assert kit.stream is not None
    whole = kit.wrap(text, ascii=ascii)
    return kit.stream([whole] if kit.joined else pieces_of(whole, cuts))


@pytest.mark.parametrize("kit", STREAMS, ids=str)
@FAST
@given(text=TEXTS, cuts=CUTS, byte_cuts=CUTS, ascii=st.booleans())
def test_released_text_is_that_of_the_whole(
    kit: Kit, text: str, cuts: list[int], byte_cuts: list[int], ascii: bool
) -> None:
    events = events_of(kit, text, cuts, ascii=ascii)
    expected = redact(text, PHRASES)
    held: list[int] = []

    def guard(channel: Channel) -> list[Gate]:
        return [Redactor(PHRASES)]

    for chunks in (events, split_bytes(b"".join(events), byte_cuts), [bytes([b]) for b in b"".join(events)][:4000]):
        if b"".join(chunks) != b"".join(events):
            continue  # too long for one byte at a time
        stream = GatedStream(DIALECTS[kit.dialect], guard, interleave="hold")
        out = bytearray()
        for piece in chunks:
            out += stream.feed(piece)
            held.append(stream.held)
        out += stream.end()
        result = bytes(out)
        assert stream.cut is None
        assert kit.unwrap(kit.text(result)) == expected
        assert stream.held == stream.queued == 0
        assert max(held) <= 12 * max(map(len, PHRASES)) + 12
        for repeat in kit.repeats:
            assert [kit.unwrap(r) for d in docs(result) if (r := repeat(d))] in (
                [expected],
                [expected] * 2,
                [] if not expected else [expected],
            )
        if expected == text:
            assert result == b"".join(events)
            assert not stream.changed
        else:
            assert stream.changed
            assert_gone(result, expected)


def assert_gone(stream: bytes, expected: str) -> None:
    """No phrase is left anywhere, in any form, but where the redacted text has it by chance."""
    for phrase in PHRASES:
        if phrase not in expected:
            for doc in docs(stream):
                assert not any(phrase in s for s in strings(doc))
                assert json.dumps(phrase)[1:-1] not in json.dumps(doc)


@pytest.mark.parametrize("kit", STREAMS, ids=str)
@pytest.mark.parametrize("gates", [(PassAll,), (HoldAll,), (PassAll, HoldAll, PassAll)], ids=["pass", "hold", "chain"])
def test_clean_stream_is_byte_identical(kit: Kit, gates: tuple[type[Gate], ...]) -> None:
    text = 'Some words, 日本語 and 😀\n"quoted" \\ end'
    data = b"".join(events_of(kit, text, range(0, 60, 7)))
    for step in (len(data), 300, 7, 1):
        stream = GatedStream(
            DIALECTS[kit.dialect], lambda channel: [g() for g in gates], max_held=1 << 30, interleave="hold"
        )
        assert run(stream, [data[i : i + step] for i in range(0, len(data), step)]) == data
        assert not stream.changed
        assert stream.scanned
        assert stream.usage is None or stream.usage.completion == 5


@pytest.mark.parametrize("kit", STREAMS, ids=str)
@FAST
@given(text=TEXTS, cuts=CUTS, byte_cuts=CUTS)
def test_after_a_cut_nothing_but_its_ending(kit: Kit, text: str, cuts: list[int], byte_cuts: list[int]) -> None:
    text = text.replace("geheim", "") + "geheim" + text
    events = events_of(kit, text, cuts)
    data = b"".join(events)
    stream = GatedStream(
        DIALECTS[kit.dialect], lambda channel: [Cutter(["geheim"])], interleave="hold", include_usage=True
    )
    out = b"".join(stream.feed(p) for p in split_bytes(data, byte_cuts))
    assert stream.cut == "banned"
    assert stream.feed(data) == b""
    assert stream.end() == b""
    assert stream.fail("x", "y", None) == b""
    shown = kit.text(out).removesuffix("Stopped.")
    clean = text.split("geheim")[0]
    if kit.joined and kit.field != "segments":
        assert shown in ("", "f")  # the kit's own name of a call; never part of a name or of an unknown field
    elif kit.json:
        assert kit.wrap(clean).startswith(shown)
        assert len(shown) >= len(json.dumps({"n": 12345678901234567890, "to": clean}, ensure_ascii=False)) - 3
    else:
        assert shown == clean
    assert "geheim" not in json.dumps(docs(out), ensure_ascii=False)
    assert out.endswith(b"\n\n")


@pytest.mark.parametrize("kit", BODIES, ids=str)
@FAST
@given(text=TEXTS)
def test_whole_reply_meets_the_same_gates(kit: Kit, text: str) -> None:
    assert kit.body is not None
    body = json.dumps(kit.body(kit.wrap(text))).encode()
    expected = redact(text, PHRASES)
    new, changed, cut = gate_whole(DIALECTS[kit.dialect], body, lambda channel: [Redactor(PHRASES)])
    assert cut is None
    if expected == text:
        assert new is body
        assert not changed
    else:
        doc = json.loads(new)
        assert changed
        assert kit.unwrap(kit.read_body(doc) or "") == expected
        assert_gone(b"data: " + new + b"\n\n", expected)


@pytest.mark.parametrize("kit", BODIES, ids=str)
def test_whole_reply_is_cut(kit: Kit) -> None:
    assert kit.body is not None
    body = json.dumps(kit.body(kit.wrap("well, geheim it is"))).encode()
    new, changed, cut = gate_whole(DIALECTS[kit.dialect], body, lambda channel: [Cutter(["geheim"])])
    assert changed
    assert cut == "banned"
    assert b"geheim" not in new
    json.loads(new)


@pytest.mark.parametrize("kit", STREAMS, ids=str)
def test_two_gates_in_a_row(kit: Kit) -> None:
    """The second sees what the first lets out: its own words, and those that a replacement made."""
    text = "one alice, two bob, three"
    for step in (1, 2, 5, 99):
        events = events_of(kit, text, range(0, 300, step))
        stream = GatedStream(
            DIALECTS[kit.dialect],
            lambda c: [Redactor(["alice"], "<bo"), Redactor(["<bo, two", "three"], "#")],
            interleave="hold",
        )
        assert kit.unwrap(kit.text(run(stream, events))) == "one # bob, #"


def test_a_kit_for_every_row() -> None:
    rows = {(d.name, row.field) for d in DIALECTS.values() for row in d.rows}
    assert rows == {(kit.dialect, kit.field) for kit in KITS}
    streams = {(d.name, row.field) for d in DIALECTS.values() for row in d.rows if row.stream and d.codec() is not None}
    assert streams == {(kit.dialect, kit.field) for kit in STREAMS}
    wholes = {(d.name, row.field) for d in DIALECTS.values() for row in d.rows if row.whole}
    assert wholes == {(kit.dialect, kit.field) for kit in BODIES}
    assert {r.dialect.name for r in ROUTES} <= set(DIALECTS)


@pytest.mark.parametrize("kit", STREAMS, ids=str)
def test_watched_stream_reads_along(kit: Kit) -> None:
    events = events_of(kit, "some text", [3])
    watched = WatchedStream(DIALECTS[kit.dialect])
    for byte in b"".join(events):
        watched.feed(bytes([byte]))
    assert watched.finished or DONE not in events
    assert watched.errors == 0
    assert not watched.mid_event
    if any(b'"usage"' in e for e in events):
        usage = watched.usage
        assert usage is not None
        assert (usage.completion, usage.prompt) == (5, 7)


TURNS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["content", "reasoning", "refusal"]),
        st.sampled_from(["al", "ice", "ge", "heim", "a", " ", "alice"]),
    ),
    max_size=30,
)


@settings(max_examples=80, deadline=None)
@given(turns=TURNS, ends=st.booleans())
def test_channels_that_take_turns(turns: list[tuple[int, str, str]], ends: bool) -> None:
    """``hold``: every channel as if it were alone. ``close``: no phrase leaves whole, and nothing waits for a channel
    that has fallen silent."""
    phrases = ("alice", "geheim")
    events = [event(chunk([delta({field: text}, index)])) for index, field, text in turns]
    spoken: dict[tuple[int, str], str] = {}
    for index, field, text in turns:
        spoken[index, field] = spoken.get((index, field), "") + text
    ending = [event(chunk([delta({}, i, "stop")])) for i in (0, 1)] if ends else []
    for interleave in ("hold", "close"):
        stream = GatedStream(DIALECTS["chat"], lambda channel: [Redactor(phrases)], interleave=interleave)  # type: ignore[arg-type]
        out = run(stream, [*events, *ending])
        heard: dict[tuple[int, str], str] = dict.fromkeys(spoken, "")
        for doc in docs(out):
            for choice in doc["choices"]:
                for field, text in choice["delta"].items():
                    heard[choice["index"], field] += text
        for key, text in spoken.items():
            if interleave == "hold":
                assert heard[key] == redact(text, phrases)
            else:
                assert not any(p in heard[key] for p in phrases)
                assert heard[key] == text or "[X]" in heard[key]
                assert heard[key] != text or redact(text, phrases) == text
        if not stream.changed:
            assert out == b"".join([*events, *ending])


KEYS = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "text",
        "content",
        "tool_calls",
        "function",
        "arguments",
        "name",
        "type",
        "index",
        "response",
        "output",
        "item",
        "part",
        "summary",
        "logprobs",
        "finish_reason",
        "usage",
        "content_block",
        "output_index",
        "error",
        "audio",
        "input",
        "signature",
        "id",
        "novel",
    ]
)
KINDS = st.sampled_from(
    [
        "response.output_text.delta",
        "response.output_text.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.done",
        "response.function_call_arguments.delta",
        "response.completed",
        "response.created",
        "response.novel.delta",
        "content_block_delta",
        "content_block_start",
        "content_block_stop",
        "message_start",
        "message_delta",
        "message_stop",
        "transcript.text.delta",
        "transcript.text.done",
        "message",
        "function_call",
        "text",
        "error",
    ]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["al", "ice", "alice", "a", ""]) | KINDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def texts_of(value: Any) -> Iterator[str]:
    """Every string that a client could show: not identifiers."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in SKIP and key != "error":
                yield from texts_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts_of(inner)


def without_echo(name: str, doc: Any) -> Any:
    """A response's ``text`` is the request's own setting of that name."""
    for box in (doc, doc.get("response")):
        if name == "responses" and isinstance(box, dict) and ("delta" not in str(doc.get("type")) or box is not doc):
            if not str(doc.get("type")).endswith(".done"):
                box.pop("text", None)
    return doc


@pytest.mark.parametrize("name", sorted({kit.dialect for kit in STREAMS}))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.tuples(KINDS, st.dictionaries(KEYS, ODD, max_size=5)), max_size=6), cut=st.booleans())
def test_no_event_makes_the_gates_fail_or_leak(name: str, rows: list[tuple[str, dict[str, Any]]], cut: bool) -> None:
    """Whatever the shape of the events: no exception, and no event says a phrase that it was not cut for."""
    data = b"".join(event({"type": kind, **doc}) for kind, doc in rows)
    stream = GatedStream(DIALECTS[name], lambda channel: [Cutter(["alice"]) if cut else Redactor(["alice"])])
    out = run(stream, [data])
    if name in ("chat", "responses", "messages"):
        for doc in docs(out):
            if "error" not in doc and doc.get("type") != "error":
                assert "alice" not in list(texts_of(without_echo(name, doc)))
    if not stream.changed:
        assert out == data
    watched = WatchedStream(DIALECTS[name])
    watched.feed(data)
    body = json.dumps({"type": "x", **(rows[0][1] if rows else {})}).encode()
    new, changed, reason = gate_whole(DIALECTS[name], body, lambda channel: [Redactor(["alice"])])
    assert changed or new is body
    assert reason in (None, "unreadable")
    if name in ("chat", "responses", "messages") and "error" not in json.loads(body):
        assert "alice" not in list(texts_of(without_echo(name, json.loads(new))))
