"""A gated stream whose gates have to ask: what waits, in which order it leaves, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.contract import Channel, Gate
from policies.windows import WindowGate, WindowOptions
from proxy.dialects import DIALECTS
from proxy.gated import GatedStream
from proxy.whole import WholeReply
from tests.kits.dialect_kit import DONE, KITS, chunk, delta, docs, event
from tests.kits.gate_kit import Redactor
from tests.kits.judges import BAD, FakeJudge
from tests.kits.policy_kit import run

CHAT = DIALECTS["chat"]
WINDOW = WindowOptions(first=[1], tokens=1, time=3600.0, context=100)


def judged(judge: FakeJudge, *before: Any, lag: int | None = None, dialect: Any = CHAT, **options: Any) -> GatedStream:
    def guard(channel: Channel) -> list[Gate]:
        return [*(make() for make in before), WindowGate(judge, WINDOW, lag)]

    return GatedStream(dialect, guard, **options)


def say(text: str, index: int = 0, finish: str | None = None, field: str = "content") -> bytes:
    return event(chunk([delta({field: text}, index, finish)]))


def ask(stream: GatedStream) -> bytes:
    """One round of questions, as the pump makes it."""
    for judge in [j for j in stream.judges if j.due(0.0)]:
        run(judge.judge())
    out = stream.poll()
    stream.judges[:] = [j for j in stream.judges if not j.settled]
    return out


def finish(stream: GatedStream) -> bytes:
    out = stream.end()
    for _ in range(50):
        if not stream.asks:
            return out
        out += ask(stream)
    raise AssertionError("it waits for ever")


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["a", "lu", "p", "ugh", " plugh ", "sec", "ret", "word "]), max_size=12),
    fields=st.lists(st.sampled_from(["content", "reasoning"]), max_size=12),
    asks=st.lists(st.booleans(), max_size=12),
    lag=st.none() | st.integers(1, 9),
)
def test_channels_that_take_turns_stay_in_order(
    texts: list[str], fields: list[str], asks: list[bool], lag: int | None
) -> None:
    """Whatever speaks when, and whenever verdicts come: a clean stream leaves byte for byte, a bad word never does."""
    judge = FakeJudge()
    stream = judged(judge, lag=lag)
    sent = b"".join(say(t, field=f) for t, f in zip(texts, fields, strict=False)) + say("", finish="stop") + DONE
    out = b""
    answers = iter(asks)
    for raw in sent.split(b"\n\n")[:-1]:
        out += stream.feed(raw + b"\n\n")
        if next(answers, False):
            out += ask(stream)
    out += finish(stream)
    said = {f: "".join(t for t, g in zip(texts, fields, strict=False) if g == f) for f in ("content", "reasoning")}
    if not any(BAD in text for text in said.values()):
        assert out == sent and stream.cut is None
    elif lag is None:
        assert BAD not in "".join(c["delta"].get("content") or "" for d in docs(out) for c in d["choices"])


def test_a_channel_that_speaks_again_waits_for_its_last_verdict() -> None:
    judge = FakeJudge()
    stream = judged(judge)
    sent = say("think", field="reasoning") + say("say") + say("more", field="reasoning") + say("", finish="stop") + DONE
    assert stream.feed(sent) == b""
    assert stream.full and stream.queued == 5
    assert finish(stream) == sent
    assert [w for _, w in judge.asked][:2] == ["think", "say"]


@pytest.mark.parametrize("lag", [None, 1000])
def test_the_end_waits_for_the_verdict(lag: int | None) -> None:
    stream = judged(FakeJudge(), lag=lag)
    first = stream.feed(say("So plu") + say("gh") + say("", finish="stop") + DONE)
    assert first == (b"" if lag is None else say("So plu") + say("gh"))
    assert stream.end() == b"" and stream.asks
    out = ask(stream)
    assert b'"content_filter"' in out and out.endswith(DONE)
    assert b'"stop"' not in out and stream.cut == "bad" and not stream.asks


def test_one_choice_is_cut_by_its_verdict_and_the_other_goes_on() -> None:
    stream = judged(FakeJudge(), choices=2)
    stream.feed(say("fine", 0) + say(BAD, 1))
    out = ask(stream)
    assert stream.cut is None and stream.cuts == {1: "bad"}
    out += stream.feed(say(" too", 0) + say("x", 1) + say("", 0, "stop") + say("", 1, "stop") + DONE) + finish(stream)
    ends = [(c["index"], c["finish_reason"]) for d in docs(out) for c in d["choices"] if c["finish_reason"]]
    assert sorted(ends) == [(0, "stop"), (1, "content_filter")]
    assert b"plugh" not in out and b" too" in out


@pytest.mark.parametrize("kit", [k for k in KITS if k.stream], ids=lambda k: f"{k.dialect}-{k.field}")
def test_every_channel_of_every_dialect(kit: Any) -> None:
    """Held, judged, replaced by a rule on the way, and ended well; the repetitions of a text wait with it."""
    judge = FakeJudge("never said")
    stream = judged(judge, lambda: Redactor(["secret"]), dialect=DIALECTS[kit.dialect])
    out = stream.feed(b"".join(kit.stream(["a secret"] if kit.joined else ["a sec", "ret"])))
    assert b"[X]" not in out
    out += finish(stream)
    assert stream.cut is None and b"secret" not in out and b"[X]" in out
    clean = judged(FakeJudge(), dialect=DIALECTS[kit.dialect])
    raw = b"".join(kit.stream(["some ", "thing"]))
    assert clean.feed(raw) + finish(clean) == raw


def test_a_bound_of_held_text_is_no_cut_while_verdicts_are_to_come() -> None:
    stream = judged(FakeJudge(), max_held=10)
    sent = b"".join(say("word " * 3) for _ in range(5)) + DONE
    assert stream.feed(sent) == b"" and stream.full and stream.cut is None
    assert finish(stream) == sent and not stream.full


def test_a_backend_that_breaks_loses_what_waits() -> None:
    stream = judged(FakeJudge())
    stream.feed(say("word"))
    out = stream.fail("gone", "api_error", None)
    assert b"word" not in out and b'"error"' in out


def whole(judge: FakeJudge, *contents: str, **more: Any) -> WholeReply:
    choices = [
        {"index": n, "message": {"role": "assistant", "content": c}, "finish_reason": "stop"}
        for n, c in enumerate(contents)
    ]
    body = json.dumps({"id": "c", "object": "chat.completion", "choices": choices}).encode()
    return WholeReply(CHAT, body, lambda channel: [Redactor(["secret"]), WindowGate(judge, WINDOW)], **more)


def test_a_whole_reply_waits_for_all_verdicts() -> None:
    judge = FakeJudge()
    reply = whole(judge, "fine", f"so {BAD}", "a secret", annotate=True)
    assert len(reply.judges) == 3
    with pytest.raises(ValueError):
        whole(judge, "fine").result()
    for one in reply.judges:
        assert one.due(0.0)
        run(one.judge())
    body, changed, cut = reply.result()
    assert (changed, cut) == (True, "bad")
    choices = json.loads(body)["choices"]
    assert [c["message"]["content"] for c in choices] == ["fine", "Stopped.", "a [X]"]
    assert [c["finish_reason"] for c in choices] == ["stop", "content_filter", "stop"]
    assert [c.get("content_filter_results") for c in choices] == [
        None,
        {"bad": {"filtered": True, "detected": True}},
        None,
    ]
