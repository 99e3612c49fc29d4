"""Places where a moderated reply says its text again, in another form or where nobody expects it; and endings."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.gate import Gate, gate

SAID = "see project nightjar, ok"
HIDDEN = "see [REDACTED], ok"
RULE: dict[str, Any] = {"name": "names", "phrases": ["project nightjar"]}
ASK = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
FORM = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'
STOP = b"data: [DONE]\n\n"


@contextlib.asynccontextmanager
async def answering(body: bytes, kind: bytes, action: str) -> AsyncIterator[Gate]:
    """headgate with one rule, before a backend that always answers the same."""

    async def tell(call: Call) -> None:
        await call.reply(body, fields=[(b"Content-Type", kind)])

    policy = json.dumps({"policies": [{"use": "output_moderation", "rules": [{**RULE, "action": action}]}]})
    async with backend(tell) as b, gate(b.url, policy) as g:
        yield g


async def through(path: str, body: bytes, kind: bytes = b"application/json", action: str = "redact") -> bytes:
    async with answering(body, kind, action) as g:
        asked = (FORM, b"multipart/form-data; boundary=b") if path.startswith("/v1/audio") else (ASK, b"application/json")
        reply = await fetch(g.port, request("POST", path, asked[0], [(b"Content-Type", asked[1])]))
        assert reply.status == 200
        return reply.body


async def whole(path: str, doc: Any, action: str = "redact") -> Any:
    return json.loads(await through(path, json.dumps(doc).encode(), action=action))


async def stream(path: str, events: list[Any], action: str = "redact") -> bytes:
    """events: a document each, or bytes. Those with a type have it as their event's name."""
    out = b""
    for one in events:
        name = one.get("type") if isinstance(one, dict) else None
        out += b"event: %b\n" % name.encode() if name else b""
        out += one if isinstance(one, bytes) else b"data: " + json.dumps(one).encode() + b"\n\n"
    return await through(path, out, b"text/event-stream", action)


def spelt(*tokens: str) -> list[dict[str, Any]]:
    return [{"token": t, "logprob": -0.5, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]


def message(text: str, **part: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": [], **part}]
    return {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}


def response(text: str, part: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "r", "object": "response", "status": "completed", "output": [message(text, **(part or {}))], **more}


# -- log-probabilities that spell more than the text


@pytest.mark.parametrize("tokens", [("see ", "project ", "nightjar"), ("see project nightjar",)])
async def test_logprobs_of_text_that_is_left_out(tokens: tuple[str, ...]) -> None:
    """A backend that leaves the reasoning out of its reply, and not out of the log-probabilities."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"}, "logprobs": {"content": spelt(*tokens, "ok")}}
    new = await whole("/v1/chat/completions", {"choices": [{**choice, "finish_reason": "stop"}]})
    assert new["choices"][0]["message"]["content"] == "ok"
    assert new["choices"][0]["logprobs"] is None
    old = {"tokens": ["ok ", "project", " nightjar"], "token_logprobs": [-1, -1, -1], "text_offset": [0, 3, 10]}
    made = await whole("/v1/completions", {"choices": [{"index": 0, "text": "ok ", "logprobs": old, "finish_reason": "stop"}]})
    assert made["choices"][0]["logprobs"] is None and made["choices"][0]["text"] == "ok "
    said = await whole("/v1/responses", response("ok", {"logprobs": spelt(*tokens)}))
    assert said["output"][0]["content"][0]["logprobs"] == []


async def test_clean_logprobs_stay_as_they_are() -> None:
    """Also those out of step with the text, and those whose tokens are parts of a character."""
    halves = [{"token": "\ufffd", "logprob": -1, "bytes": [b]} for b in "é".encode()]
    for content, rows in (("ok", spelt("<think>", "hm", "</think>", "ok")), ("é", halves), ("ok", None)):
        choice = {"index": 0, "message": {"content": content}, "logprobs": {"content": rows}, "finish_reason": "stop"}
        body = json.dumps({"choices": [choice]}).encode()
        assert await through("/v1/chat/completions", body) == body


async def test_logprobs_that_are_no_list_are_read() -> None:
    choice = {"index": 0, "message": {"content": "ok"}, "logprobs": {"content": {"text": SAID}}, "finish_reason": "stop"}
    assert (await whole("/v1/chat/completions", {"choices": [choice]}))["choices"][0]["logprobs"] is None


# -- raw messages of the Responses API


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_raw_messages_of_a_response(action: str) -> None:
    """What vLLM adds with ``enable_response_messages``: the model's own words, and those of the stored response before."""
    for more in (
        {"output_messages": [{"channel": "analysis", "content": [{"text": SAID}]}]},
        {"previous_response_id": "resp_0", "input_messages": [{"role": "assistant", "content": SAID}]},
    ):
        doc = response("ok", **more)
        assert b"nightjar" not in json.dumps(await whole("/v1/responses", doc, action)).encode()
        events = [
            {"type": "response.created", "sequence_number": 0, "response": {**doc, "status": "in_progress", "output": []}},
            {"type": "response.completed", "sequence_number": 1, "response": doc},
        ]
        assert b"nightjar" not in await stream("/v1/responses", events, action)
    asked = response("ok", input_messages=[{"role": "user", "content": SAID}])
    assert await whole("/v1/responses", asked, action) == asked, "the request's own words are no reply"


# -- transcriptions


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_words_and_segments_of_a_transcription(action: str) -> None:
    doc = {
        "text": SAID,
        "words": [{"word": w, "start": 0.0} for w in ("see", "project", "nightjar", "ok")],
        "segments": [{"id": 0, "text": "see project"}, {"id": 1, "text": "nightjar, ok"}],
    }
    new = await whole("/v1/audio/transcriptions", doc, action)
    assert "nightjar" not in json.dumps(new)
    if action == "redact":
        assert new == {
            "text": HIDDEN, "segments": [{"id": 0, "text": "see [REDACTED]"}, {"id": 1, "text": ", ok"}],
        }  # fmt: skip
    alone = await whole("/v1/audio/transcriptions", {"text": "ok", "words": doc["words"]}, action)
    assert "nightjar" not in json.dumps(alone)
    if action == "redact":
        assert [w["word"] for w in alone["words"]] == ["see", "[REDACTED]", "", "ok"]


async def test_segments_with_spaces_of_their_own_and_scripts_without() -> None:
    for one, other in ((" see project", " nightjar, ok"), ("see project ", "nightjar, ok")):
        doc = {"text": "", "segments": [{"text": one}, {"text": other}]}
        new = await whole("/v1/audio/transcriptions", doc)
        assert "".join(s["text"] for s in new["segments"]).strip() == HIDDEN
    clean = json.dumps({"text": "秘 密", "words": [{"word": "秘"}, {"word": "密"}]}).encode()
    assert await through("/v1/audio/transcriptions", clean) == clean


async def test_a_streamed_transcription() -> None:
    segments = [{"type": "transcript.text.segment", "id": str(n), "text": t} for n, t in enumerate(("see project", "nightjar"))]
    odd = {"type": "transcript.text.delta", "delta": "ok", "note": SAID}
    out = await stream("/v1/audio/transcriptions", [*segments, odd, {"type": "transcript.text.done", "text": "ok"}])
    assert b"nightjar" not in out and b"gap" not in out
    assert b'"see [REDACTED]"' in out and b'"text":""' in out
    assert b"nightjar" not in await stream("/v1/audio/transcriptions", [{"type": "transcript.text.delta", "delta": [SAID]}])


# -- messages


async def test_a_redacted_thinking_block_has_no_text_but_its_data() -> None:
    block = {"type": "redacted_thinking", "data": "opaque", "thinking": SAID}
    new = await whole("/v1/messages", {"type": "message", "content": [block]})
    assert new["content"] == [{**block, "thinking": HIDDEN}]


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_messages_that_end_with_done(action: str) -> None:
    """Gateways that translate send ``[DONE]`` here, too: a clean reply stays as it is, with one ending."""
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ok"}}
    delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    out = await stream("/v1/messages", [text, delta, {"type": "message_stop"}, STOP], action)
    assert out.endswith(STOP) and out.count(b"event: message_stop") == 1 and b"refusal" not in out


# -- bodies that are not what they are said to be


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\n\n"])
async def test_an_event_stream_that_is_none(path: str, tail: bytes) -> None:
    """Plain JSON under the type of an event stream: readers of events see nothing in it, others would."""
    doc = {"choices": [{"index": 0, "text": SAID, "message": {"content": SAID}}], "content": [{"type": "text", "text": SAID}]}
    out = await through(path, json.dumps({**doc, "output": [message(SAID)]}).encode() + tail, b"text/event-stream")
    assert b"nightjar" not in out


async def test_fields_of_the_grammar_are_no_odd_lines() -> None:
    body = b": note\n\nretry: 10\nid: 1\nevent: x\ndata\n\n\xef\xbb\xbf: again\r\n\r\n" + STOP
    assert await through("/v1/chat/completions", body, b"text/event-stream") == body


# -- choices beside one that is cut


def choice(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "finish_reason": finish}


@pytest.mark.parametrize(
    "chunks",
    [
        [[choice(0, "a")], [choice(1, "x project ")], [choice(0, "b", "length")], [choice(1, "nightjar", "stop")]],
        [[choice(0, "ab", "length"), choice(1, "x project nightjar")]],
        [[choice(1, "x project ")], [choice(0, "ab", "length"), choice(1, "nightjar", "stop")]],
    ],
)
async def test_the_end_of_a_clean_choice_that_waits_behind_the_one_that_is_cut(chunks: list[list[dict[str, Any]]]) -> None:
    events = [{"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": each} for each in chunks]
    out = await stream("/v1/completions", [*events, STOP], "block")
    said: dict[int, list[Any]] = {0: ["", []], 1: ["", []]}
    for line in out.split(b"\n"):
        for one in json.loads(line[6:])["choices"] if line.startswith(b"data: {") else ():
            said[one["index"]][0] += one["text"]
            said[one["index"]][1] += [one["finish_reason"]] if one["finish_reason"] else []
    assert said == {0: ["ab", ["length"]], 1: ["x ", ["content_filter"]]}
    assert out.endswith(STOP) and out.count(STOP) == 1


async def test_a_choice_that_was_cut_says_no_more_in_another_field() -> None:
    """Choice 0 is cut in its reasoning; what it then says as content comes in events that are alike but for their text."""

    def said(index: int, **delta: Any) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "finish_reason": None}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    late = [said(0, content=f" late{n}") for n in range(4)]
    events = [said(1, content="kept"), said(0, reasoning="x project nightjar"), *late, said(1, content=" too"), *late, STOP]
    out = await stream("/v1/chat/completions", events, "block")
    assert b"late" not in out and b"kept" in out and b" too" in out
    assert out.count(b'"content_filter"') == 1


@pytest.mark.parametrize("again", [1, 1.0])
async def test_an_index_is_the_same_number_however_it_is_written(again: float) -> None:
    def chunk(index: float, text: str, tool: float | None = None) -> dict[str, Any]:
        call = [{"index": tool, "function": {"arguments": text}}]
        delta = {"content": text} if tool is None else {"tool_calls": call}
        return {"id": "c", "choices": [{"index": index, "delta": delta, "finish_reason": None}]}

    out = await stream("/v1/chat/completions", [chunk(1, "see project "), chunk(again, "nightjar, ok"), STOP])
    assert b"nightjar" not in out
    tools = [chunk(0, '{"a":"project ', 1), chunk(0, 'nightjar"}', again), STOP]
    assert b"nightjar" not in await stream("/v1/chat/completions", tools)
    blocks = [
        {"type": "content_block_delta", "index": n, "delta": {"type": "text_delta", "text": text}}
        for n, text in ((1, "see project "), (again, "nightjar, ok"))
    ]
    assert b"nightjar" not in await stream("/v1/messages", blocks)
