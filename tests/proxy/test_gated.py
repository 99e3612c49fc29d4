"""The gated tier: order, choices, interleaved channels, copies of the text, bounds, failures, late verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.contract import Channel, Cut, Edit, Gate, Usage
from proxy.dialects import DIALECTS
from proxy.gated import GatedStream, gate_whole, watch_whole
from proxy.watched import WatchedStream
from tests.kits.dialect_kit import DONE, KITS, USAGE, chunk, delta, docs, event
from tests.kits.gate_kit import Cutter, HoldAll, PassAll, Redactor

CHAT = DIALECTS["chat"]
RESPONSES = {k.field: k for k in KITS if k.dialect == "responses"}


def chat(*gates: Any, **options: Any) -> GatedStream:
    return GatedStream(CHAT, lambda channel: [g() for g in gates], **options)


def say(text: str, index: int = 0, finish: str | None = None, field: str = "content", **choice: Any) -> bytes:
    return event(chunk([{**delta({field: text}, index, finish), **choice}]))


def texts(stream: bytes, index: int = 0, field: str = "content") -> str:
    return "".join(
        c["delta"].get(field) or "" for d in docs(stream) for c in d.get("choices", ()) if c["index"] == index
    )


def finishes(stream: bytes) -> list[tuple[int, str]]:
    return [(c["index"], c["finish_reason"]) for d in docs(stream) for c in d.get("choices", ()) if c["finish_reason"]]


def secret() -> Redactor:
    return Redactor(["secret"])


# -- order and finish ----------------------------------------------------------------------------------------------


def test_events_leave_in_order_behind_a_held_one() -> None:
    stream = chat(secret)
    assert stream.feed(say("a")) == say("a")
    assert stream.feed(say(" sec")) == b""
    assert stream.feed(b": keep-alive\n\n") == b""
    assert stream.feed(event(chunk([], usage=USAGE))) == b""
    assert (stream.held, stream.queued) == (3, 3)
    assert stream.feed(say("ond")) == say(" sec") + b": keep-alive\n\n" + event(chunk([], usage=USAGE)) + say("ond")
    assert not stream.changed
    assert stream.usage == Usage(7, 5, 3)


def test_a_finish_with_text_closes_its_choice_first() -> None:
    stream = chat(secret)
    assert stream.feed(say("se") + say("cr", finish="stop")) == say("se") + say("cr", finish="stop")
    out = chat(secret).feed(say("se") + say("cret", finish="stop"))
    assert texts(out) == "[X]"
    assert finishes(out) == [(0, "stop")]


def test_text_and_finish_and_done_in_one_piece() -> None:
    stream = chat(secret)
    out = stream.feed(say("my secret", finish="length") + DONE)
    assert texts(out) == "my [X]"
    assert out.endswith(DONE)
    assert stream.finished


def test_end_without_a_finish_decides_the_rest() -> None:
    stream = chat(secret)
    assert stream.feed(say("sec")) == b""
    assert stream.end() == say("sec")


def test_an_event_without_its_empty_line_is_still_judged() -> None:
    stream = chat(secret)
    out = stream.feed(say("x secret")[:-1]) + stream.end()
    assert b"secret" not in out
    assert texts(out) == "x [X]"
    torn = chat(secret)
    assert torn.feed(say("x secret")[:-9]) + torn.end() == b""


def test_a_replacement_over_several_events_is_in_the_first() -> None:
    out = chat(secret).feed(say("a s") + say("e") + say("cre") + say("t b") + DONE)
    assert [c["delta"]["content"] for d in docs(out) for c in d["choices"]] == ["a [X]", "", "", " b"]


def test_line_ends_ids_and_names_survive_a_rewrite() -> None:
    raw = say("secret")[:-2]
    out = chat(secret).feed(b"\xef\xbb\xbf: hello\r\nevent: x\rid: 7\n" + raw + b"\r\n\r\n" + DONE)
    assert out.startswith(b": hello\r\nevent: x\rid: 7\ndata: {")
    assert b"[X]" in out
    assert b"\r\n\r\ndata: [DONE]" in out


def test_untouched_numbers_and_unknown_fields_survive_a_rewrite() -> None:
    raw = b'data: {"choices":[{"index":0,"delta":{"content":"secret","n":1.50}}],"big":123456789012345678901234567890,"z":-0}\n\n'
    assert chat(secret).feed(raw + DONE) == raw.replace(b"secret", b"[X]") + DONE


# -- several choices -----------------------------------------------------------------------------------------------


def test_choices_have_their_own_gates() -> None:
    stream = chat(secret)
    out = stream.feed(say("sec", 0) + say("ret", 1) + say("ret", 0) + say("sec", 1) + say("ond", 1) + DONE)
    assert texts(out, 0) == "[X]"
    assert texts(out, 1) == "retsecond"


def test_one_choice_is_cut_and_the_other_goes_on() -> None:
    stream = chat(lambda: Cutter(["bad"]), include_usage=True)
    out = stream.feed(say("", 0) + say("", 1) + say("ok b", 0) + say("fine", 1) + say("ad!", 0))
    assert stream.cut is None
    assert stream.cuts == {0: "banned"}
    out += stream.feed(
        say("more", 0) + say(" too", 1) + event(chunk([delta({"content": "x"}, 0), delta({"content": "y"}, 1)]))
    )
    out += stream.feed(say("!", 1, "stop"))
    assert texts(out, 0) == "ok Stopped."
    assert texts(out, 1) == "fine tooy!"
    assert finishes(out) == [(0, "content_filter"), (1, "stop")]
    assert stream.cut == "banned"
    assert out.endswith(DONE)
    assert docs(out)[-1]["usage"]["completion_tokens"] > 0
    assert stream.feed(say("more", 1)) == b""


def test_the_last_choice_cut_ends_the_stream() -> None:
    stream = chat(lambda: Cutter(["bad"]))
    out = stream.feed(say("a", 0) + say("b", 1) + say("c", 1, "stop") + say("bad", 0))
    assert stream.cut == "banned"
    assert finishes(out) == [(1, "stop"), (0, "content_filter")]
    assert out.endswith(DONE)


def test_a_choice_that_was_not_seen_yet_keeps_the_stream_open() -> None:
    stream = chat(lambda: Cutter(["bad"]), choices=2)
    stream.feed(say("bad", 0))
    assert stream.cut is None
    assert texts(stream.feed(say("good", 1)), 1) == "good"


def test_a_cut_at_the_close_keeps_the_natural_finish_back() -> None:
    class AtClose(PassAll):
        def close(self) -> int:
            raise Cut("late")

    stream = chat(AtClose)
    out = stream.feed(say("a") + say("b", finish="stop") + DONE)
    assert finishes(out) == [(0, "content_filter")]
    assert texts(out) == "ab"
    assert out.count(b"[DONE]") == 1


# -- channels of one choice ----------------------------------------------------------------------------------------


def test_reasoning_does_not_hold_up_the_content_that_follows() -> None:
    stream = chat(secret)
    assert stream.feed(say("so: sec", field="reasoning")) == b""
    assert stream.feed(say("Hello")) == say("so: sec", field="reasoning") + say("Hello")
    # it goes on after all: what began there is still found, and what is not out yet is replaced
    out = stream.feed(say("ret!", field="reasoning") + DONE)
    assert texts(out, field="reasoning") == "[X]!"


def test_what_was_let_out_undecided_stays_context_over_many_turns() -> None:
    stream = chat(secret)
    data = b"".join(say(c, field=f) for c in "secrets" for f in ("reasoning", "content"))
    out = stream.feed(data + DONE)
    for field in ("content", "reasoning"):
        assert texts(out, field=field) == "secre[X]s"


def test_arguments_wait_for_their_end() -> None:
    def args(text: str) -> bytes:
        return event(chunk([delta({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})]))

    stream = chat(secret)
    out = stream.feed(args('{"a":"se') + say("Hello") + args('cret"}') + DONE)
    assert b"[X]" in out
    assert texts(out) == "Hello"
    late = chat(secret)
    late.feed(args('{"a":"b"}') + say("", finish="tool_calls") + args('{"a'))
    assert late.cut == "unreadable"


def test_half_characters_pass() -> None:
    halves = say("x").replace(b'"x"', b'"\\ud83d"') + say("x").replace(b'"x"', b'"\\ude00 secret"')
    out = chat(secret).feed(halves + DONE)
    assert out.startswith(say("x").replace(b'"x"', b'"\\ud83d"'))
    assert texts(out).endswith(" [X]")


def test_hold_keeps_all_behind_the_undecided_text() -> None:
    stream = chat(secret, interleave="hold")
    assert stream.feed(say("so: sec", field="reasoning") + say("Hello")) == b""
    out = stream.feed(say("ret!", field="reasoning"))
    assert texts(out, field="reasoning") == "so: [X]!"
    assert texts(out) == "Hello"


def test_text_after_the_finish_is_judged() -> None:
    out = chat(secret).feed(say("a", finish="stop") + say(" secret") + DONE)
    assert texts(out) == "a [X]"


def test_guard_is_asked_once_per_channel() -> None:
    asked: list[Channel] = []

    def guard(channel: Channel) -> list[Gate]:
        asked.append(channel)
        return [PassAll()] if channel.kind == "content" else []

    stream = GatedStream(CHAT, guard)
    stream.feed(say("a") + say("b") + say("r", field="reasoning") + say("c") + say("d", 1) + DONE)
    assert asked == [Channel(0, "content"), Channel(0, "reasoning"), Channel(1, "content")]
    assert stream.scanned == {"content"}


def test_a_field_that_nobody_knows_is_judged() -> None:
    raw = event(chunk([delta({"brand_new": {"deep": ["a secret"]}, "content": None})]))
    assert b"secret" not in chat(secret).feed(raw + DONE)
    assert b"secret" not in chat(secret).feed(event({"message": "a secret"}) + DONE)


def test_arguments_of_two_calls() -> None:
    def args(tool: int, text: str) -> bytes:
        return event(chunk([delta({"tool_calls": [{"index": tool, "function": {"arguments": text}}]})]))

    stream = chat(secret)
    out = stream.feed(
        args(0, '{"a":"se') + args(0, 'cr\\u0065t"}') + args(1, '{"a":"\\u0073') + args(1, 'ecret"}') + DONE
    )
    found = {0: "", 1: ""}
    for d in docs(out):
        for c in d["choices"][0]["delta"]["tool_calls"]:
            found[c["index"]] += c["function"]["arguments"]
    assert {k: json.loads(v) for k, v in found.items()} == {0: {"a": "[X]"}, 1: {"a": "[X]"}}


# -- other forms of the text ---------------------------------------------------------------------------------------


def logprobs(*tokens: str) -> dict[str, Any]:
    return {"content": [{"token": t, "logprob": -0.1, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]}


def test_logprobs_leave_with_their_text() -> None:
    a, b = say("a ", logprobs=logprobs("a", " ")), say("secret", logprobs=logprobs("secret"))
    out = chat(secret).feed(a + b + DONE)
    assert out.startswith(a)
    assert docs(out)[1]["choices"][0]["logprobs"] is None
    assert chat(PassAll).feed(a + b + DONE) == a + b + DONE


def test_logprobs_out_of_step_and_token_ids_are_dropped_where_a_gate_minds() -> None:
    early = say("", logprobs=logprobs("sec"))
    ids = say("a", token_ids=[1, 2])
    out = chat(secret).feed(early + ids + DONE)
    assert docs(out)[0]["choices"][0]["logprobs"] is None
    assert "token_ids" not in docs(out)[1]["choices"][0]
    assert chat().feed(early + ids + DONE) == early + ids + DONE


def test_the_stop_string_is_dropped_where_the_text_was_changed() -> None:
    last = say("", finish="stop", stop_reason="cret")
    out = chat(secret).feed(say("secret") + last)
    assert docs(out)[-1]["choices"][0]["stop_reason"] is None
    assert chat(secret).feed(say("a") + last) == say("a") + last


def test_thinking_loses_its_signature_with_its_text() -> None:
    def part(value: dict[str, Any]) -> bytes:
        return event({"type": "content_block_delta", "index": 0, "delta": value}, "content_block_delta")

    start = event(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        "content_block_start",
    )
    signature = part({"type": "signature_delta", "signature": "abc"})
    for text, kept in (("fine", "abc"), ("secret", "")):
        stream = GatedStream(DIALECTS["messages"], lambda channel: [secret()])
        out = stream.feed(start + part({"type": "thinking_delta", "thinking": text}) + signature)
        assert docs(out)[-1]["delta"]["signature"] == kept


def test_responses_repetition_that_differs_is_judged_anew() -> None:
    kit = RESPONSES["text"]
    assert kit.stream is not None
    events = kit.stream(["fine"])
    data = b"".join(events).replace(b'"text":"fine","logprobs"', b'"text":"a secret","logprobs"')
    stream = GatedStream(DIALECTS["responses"], lambda channel: [secret()])
    out = stream.feed(data) + stream.end()
    assert b"secret" not in out
    assert b"a [X]" in out


def test_responses_without_deltas_are_judged() -> None:
    """GET /v1/responses/{id}?starting_after= begins in the middle."""
    kit = RESPONSES["text"]
    assert kit.stream is not None
    for first in range(4, 9):
        stream = GatedStream(DIALECTS["responses"], lambda channel: [secret()])
        out = stream.feed(b"".join(kit.stream(["a secret"])[first:])) + stream.end()
        assert b"secret" not in out
        assert b"[X]" in out


def test_responses_sequence_goes_on_after_a_cut() -> None:
    kit = RESPONSES["text"]
    assert kit.stream is not None
    stream = GatedStream(DIALECTS["responses"], lambda channel: [Cutter(["bad"])])
    out = stream.feed(b"".join(kit.stream(["fine ", "b", "ad", " more"])))
    events = docs(out)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert [e["type"].removeprefix("response.") for e in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "incomplete",
    ]  # fmt: skip
    assert events[-1]["response"]["incomplete_details"] == {"reason": "content_filter"}
    assert events[-1]["response"]["id"] == "resp_1"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "fine Stopped."


# -- bounds --------------------------------------------------------------------------------------------------------


def test_too_much_held_is_cut() -> None:
    stream = chat(HoldAll, max_held=10)
    assert stream.feed(say("12345")) == b""
    out = stream.feed(say("678901"))
    assert stream.cut == "overflow"
    assert stream.overflowed
    assert texts(out) == ""
    assert finishes(out) == [(0, "content_filter")]


def test_too_much_held_is_released_where_asked() -> None:
    stream = chat(lambda: Redactor(["x" * 50, "secret"]), max_held=10, on_overflow="release")
    assert stream.feed(say("xxxxxxxx")) == b""
    assert stream.feed(say("xxxx")) == say("xxxxxxxx") + say("xxxx")
    assert stream.overflowed
    assert stream.held == 0
    out = stream.feed(say("x secret") + DONE)
    assert texts(out) == "x [X]"


def test_tool_arguments_have_their_own_bound() -> None:
    def args(text: str) -> bytes:
        return event(chunk([delta({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})]))

    stream = chat(HoldAll, max_held=10, max_arguments=100)
    stream.feed(args('{"a": "' + "b" * 50))
    assert stream.cut is None
    stream.feed(args("b" * 60))
    assert stream.cut == "overflow"


def test_events_behind_held_text_are_bounded() -> None:
    stream = chat(HoldAll, max_event=1000)
    stream.feed(say("a"))
    for _ in range(40):
        stream.feed(b": " + b"x" * 900 + b"\n\n")
    assert stream.cut == "overflow"


def test_an_event_too_large_is_cut_or_passes() -> None:
    large = say("y" * 2000)
    stream = chat(secret, max_event=1000)
    out = stream.feed(say("a") + large)
    assert stream.cut == "overflow"
    assert texts(out) == "a"
    for step in (1, 100, 5000):
        free = chat(secret, max_event=1000, on_overflow="release")
        data = say("a") + large + say("secret") + DONE
        out = b"".join(free.feed(data[i : i + step]) for i in range(0, len(data), step))
        assert texts(out) == "a" + "y" * 2000 + "[X]"
        assert free.overflowed == (step < len(data))  # an event that came whole could be judged all the same


# -- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [b"data: {\n\n", b"data: nonsense\n\n", b"data: [1]\n\n", b'data: {"choices":{}}\n\n', b'data: {"choices":[1]}\n\n',
     b'data: {"choices":[{"delta":"x"}]}\n\n', b'data: {"choices":[{"delta":{"tool_calls":{"a":1}}}]}\n\n', b"data: \xff\n\n"],
)  # fmt: skip
def test_what_cannot_be_read_is_cut(bad: bytes) -> None:
    stream = chat(secret)
    out = stream.feed(say("a") + bad + say("b"))
    assert stream.cut == "unreadable"
    assert out.startswith(say("a"))
    assert b"nonsense" not in out
    assert texts(out) == "a"
    assert finishes(out) == [(0, "content_filter")]


@pytest.mark.parametrize(
    "odd", [b": c\n\n", b"\n", b"event: ping\n\n", b"data:\n\n", b"data: \n\n", b"id: 3\n\n", b"retry: 1\n\n"]
)
def test_what_holds_no_text_passes(odd: bytes) -> None:
    stream = chat(secret)
    assert stream.feed(say("a") + odd + say("b")) == say("a") + odd + say("b")


def test_failure_says_so_and_drops_what_is_held() -> None:
    stream = chat(secret)
    stream.feed(say("sec"))
    out = stream.fail("The backend broke off.", "api_error", "backend_cut")
    assert docs(out) == [
        {"error": {"message": "The backend broke off.", "type": "api_error", "param": None, "code": "backend_cut"}}
    ]
    assert b"[DONE]" not in out
    done = chat(secret)
    done.feed(DONE)
    assert done.fail("x", "y", None) == b""


def test_failure_in_the_other_shapes() -> None:
    messages = GatedStream(DIALECTS["messages"], lambda channel: [])
    assert messages.fail("m", "api_error", None) == (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"m"}}\n\n'
    )
    responses = GatedStream(DIALECTS["responses"], lambda channel: [])
    kit = RESPONSES["text"]
    assert kit.stream is not None
    responses.feed(b"".join(kit.stream(["a"])[:3]))
    assert docs(responses.fail("m", "api_error", "c")) == [
        {"type": "error", "sequence_number": 3, "code": "c", "message": "m", "param": None}
    ]


def test_an_error_of_the_backend_passes() -> None:
    raw = event({"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}})
    stream = chat(secret)
    assert stream.feed(say("sec") + raw + DONE) == say("sec") + raw + DONE
    assert stream.failed


def test_a_gate_that_misbehaves_is_found() -> None:
    class Liar(PassAll):
        def push(self, text: str) -> int:
            return super().push(text) + 1

    class Late(PassAll):
        def push(self, text: str) -> int:
            self.edits.append(Edit(0, 1, "x"))
            return super().push(text)

    with pytest.raises(ValueError):
        chat(Liar).feed(say("a"))
    late = chat(Late)
    late.feed(say("a"))
    with pytest.raises(ValueError):
        late.feed(say("b"))


# -- verdicts that come later --------------------------------------------------------------------------------------


class Judge(PassAll):
    """Decides only what it has been told."""

    def __init__(self) -> None:
        super().__init__()
        self.known = 0

    def push(self, text: str) -> int:
        self.size += len(text)
        return self.known

    def close(self) -> int:
        return self.known


def test_a_verdict_that_comes_later() -> None:
    judge = Judge()
    stream = GatedStream(CHAT, lambda channel: [judge])
    assert stream.feed(say("ab") + say("cd")) == b""
    assert stream.waiting() == [judge]
    judge.known = 2
    assert stream.poll() == say("ab")
    assert stream.feed(say("e", finish="stop") + DONE) == b""
    assert stream.end() == b""
    assert stream.queued == 3
    judge.known = 5
    assert stream.poll() == say("cd") + say("e", finish="stop") + DONE
    assert stream.waiting() == []
    assert stream.queued == stream.held == 0


# -- whole replies -------------------------------------------------------------------------------------------------


def body(*contents: str, **more: Any) -> bytes:
    choices = [
        {
            "index": n,
            "message": {"role": "assistant", "content": c},
            "logprobs": logprobs(c),
            "finish_reason": "stop",
            **more,
        }
        for n, c in enumerate(contents)
    ]
    return json.dumps({**chunk(choices, "chat.completion"), "usage": USAGE}).encode()


def test_whole_reply_cuts_only_the_choice_concerned() -> None:
    new, changed, cut = gate_whole(CHAT, body("fine", "bad"), lambda channel: [Cutter(["bad"])])
    first, second = json.loads(new)["choices"]
    assert (changed, cut) == (True, "banned")
    assert first["message"]["content"] == "fine"
    assert (first["finish_reason"], second["finish_reason"]) == ("stop", "content_filter")
    assert second["message"] == {"role": "assistant", "content": "Stopped.", "refusal": None}
    assert first["logprobs"] is not None
    assert second["logprobs"] is None


def test_whole_reply_drops_copies_only_where_the_text_changed() -> None:
    new, _, _ = gate_whole(CHAT, body("fine", "secret", stop_reason="x", token_ids=[1]), lambda channel: [secret()])
    first, second = json.loads(new)["choices"]
    assert first["logprobs"] is not None
    assert first["token_ids"] == [1]
    assert second["logprobs"] is None
    assert second["stop_reason"] is None
    assert "token_ids" not in second


@pytest.mark.parametrize("bad", [b"", b"[]", b"nope", b'{"choices":1}', b'"x"', b"\xff"])
def test_whole_reply_that_cannot_be_read(bad: bytes) -> None:
    new, changed, cut = gate_whole(CHAT, bad, lambda channel: [secret()])
    assert (changed, cut) == (True, "unreadable")
    assert json.loads(new)["error"]["code"] == "bad_gateway"


def test_whole_error_object_passes() -> None:
    raw = b'{"error": {"message": "no", "type": "x", "code": 400}}'
    assert gate_whole(CHAT, raw, lambda channel: [secret()]) == (raw, False, None)


def test_replies_without_text_are_not_decoded() -> None:
    raw = b'{"data": [not even json'
    assert gate_whole(DIALECTS["embeddings"], raw, lambda channel: [secret()]) == (raw, False, None)


def test_transcript_that_is_plain_text() -> None:
    speech = DIALECTS["transcription"]
    assert (
        gate_whole(speech, b"1\n00:00 --> 00:01\na secret\n", lambda c: [secret()])[0] == b"1\n00:00 --> 00:01\na [X]\n"
    )
    assert gate_whole(speech, b"bad", lambda c: [Cutter(["bad"])]) == (b"Stopped.", True, "banned")


def test_usage_of_whole_replies() -> None:
    assert watch_whole(CHAT, body("x")) == Usage(7, 5, 3)
    assert watch_whole(CHAT, b"{") is None
    assert watch_whole(CHAT, b'{"usage": {"prompt_tokens": -1, "completion_tokens": "x"}}') == Usage()
    assert watch_whole(
        DIALECTS["messages"], b'{"usage":{"input_tokens":4,"output_tokens":2,"cache_read_input_tokens":1}}'
    ) == Usage(5, 2, 1), "there the cache's tokens are counted apart"
    written = b'{"usage":{"input_tokens":4,"output_tokens":2,"cache_creation_input_tokens":8,"cache_read_input_tokens":null}}'
    assert watch_whole(DIALECTS["messages"], written) == Usage(12, 2, 0)


# -- watched -------------------------------------------------------------------------------------------------------


def test_watched_stream_tells_where_an_error_can_be_put() -> None:
    watched = WatchedStream(CHAT)
    watched.feed(say("a")[:20])
    assert watched.mid_event
    assert watched.fail("m", "t", None) is None
    watched.feed(say("a")[20:])
    assert (watched.fail("m", "t", None) or b"").startswith(b'data: {"error"')


def test_watched_stream_collects_finishes_and_errors() -> None:
    watched = WatchedStream(CHAT)
    watched.feed(
        say("a", finish="stop")
        + say("b", 1, "length")
        + event({"error": {"message": "x"}})
        + b'data: {broken "usage"\n\n'
    )
    assert watched.finishes == {0: "stop", 1: "length"}
    assert watched.errors == 1
    watched.feed(b"data: " + b"x" * 2_000_000)
    assert watched.blind
