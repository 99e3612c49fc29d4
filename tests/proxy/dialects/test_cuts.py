"""How a reply that a policy changes or stops looks on the wire, and what the makers' own SDKs make of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from policies.contract import Cut, Gate
from proxy.dialects import DIALECTS
from proxy.gated import GatedStream
from tests.kits.dialect_kit import STREAMS, Kit, chunk, delta, docs, event
from tests.kits.gate_kit import Cutter, PassAll, Redactor

BY_NAME = {(kit.dialect, kit.field): kit for kit in STREAMS}


def cutter() -> Gate:
    return Cutter(["bad"])


class Silent(Cutter):
    """Cuts without a message to show."""

    def found(self, start: int, end: int) -> None:
        raise Cut("banned", at=start)


def served(kit: Kit, text: str, gate: Callable[[], Gate] = cutter, **options: Any) -> bytes:
    assert kit.stream is not None
    whole = kit.wrap(text)
    pieces = [whole] if kit.joined else [whole[i : i + 4] for i in range(0, len(whole), 4)]
    stream = GatedStream(DIALECTS[kit.dialect], lambda channel: [gate()], **options)
    data = b"".join(kit.stream(pieces))
    return stream.feed(data) + stream.end()


# -- golden endings ------------------------------------------------------------------------------------------------

CHAT_BASE = '{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1767225600,"model":"m","choices":'
TEXT_BASE = '{"id":"chatcmpl-1","object":"text_completion","created":1767225600,"model":"m","choices":'

GOLDEN: dict[tuple[str, str], list[str]] = {
    ("chat", "content"): [
        f'data: {CHAT_BASE}[{{"index":0,"delta":{{"content":"fine"}},"logprobs":null,"finish_reason":null}}]}}',
        f'data: {CHAT_BASE}[{{"index":0,"delta":{{"content":" "}},"logprobs":null,"finish_reason":null}}]}}',
        f'data: {CHAT_BASE}[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"content_filter"}}]}}',
        f'data: {CHAT_BASE}[],"usage":{{"prompt_tokens":0,"completion_tokens":2,"total_tokens":2}}}}',
        "data: [DONE]",
    ],
    ("completions", "text"): [
        f'data: {TEXT_BASE}[{{"index":0,"text":" ","logprobs":null,"finish_reason":null,"stop_reason":null}}]}}',
        f'data: {TEXT_BASE}[{{"index":0,"text":"","logprobs":null,"finish_reason":"content_filter"}}]}}',
        f'data: {TEXT_BASE}[],"usage":{{"prompt_tokens":0,"completion_tokens":2,"total_tokens":2}}}}',
        "data: [DONE]",
    ],
    ("messages", "text"): [
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" "}}',
        'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}',
        'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"refusal","stop_sequence"'
        ':null,"stop_details":'
        '{"type":"refusal","category":null,"explanation":"The reply was stopped by a content policy."}},"usag'
        'e":{"output_tokens":2}}',
        'event: message_stop\ndata: {"type":"message_stop"}',
    ],
    ("responses", "text"): [
        'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":5,"item_id":"i1",'
        '"output_index":0,"content_index":0,"delta":" ","logprobs":[]}',
        'event: response.output_text.done\ndata: {"type":"response.output_text.done","sequence_number":6,"item_id":"i1",'
        '"output_index":0,"content_index":0,"text":"fine ","logprobs":[]}',
        'event: response.content_part.done\ndata: {"type":"response.content_part.done","sequence_number":7,"item_id":"i1",'
        '"output_index":0,"content_index":0,"part":{"type":"output_text","text":"fine ","annotations":[]}}',
        'event: response.output_item.done\ndata: {"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":'
        '{"id":"i1","type":"message","role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"fine ",'
        '"annotations":[]}]}}',
        'event: response.incomplete\ndata: {"type":"response.incomplete","sequence_number":9,"response":{"id":"resp_1",'
        '"object":"response","created_at":1,"model":"m","status":"incomplete","output":[{"id":"i1","type":"message",'
        '"role":"assistant","status":"incomplete","content":[{"type":"output_text","text":"fine ","annotations":[]}]}],'
        '"incomplete_details":{"reason":"content_filter"}}}',
    ],
    ("responses", "arguments"): [
        'event: response.function_call_arguments.done\ndata: {"type":"response.function_call_arguments.done",'
        '"sequence_number":%d,'
        '"item_id":"i1","output_index":0,"arguments":"%s"}',
        'event: response.output_item.done\ndata: {"type":"response.output_item.done","sequence_number":%d,"ou'
        'tput_index":0,"item":'
        '{"id":"i1","type":"function_call","status":"incomplete","call_id":"c","name":"f","arguments":"%s"}}',
        'event: response.incomplete\ndata: {"type":"response.incomplete","sequence_number":%d,"response":{"id":"resp_1",'
        '"object":"response","created_at":1,"model":"m","status":"incomplete","output":[{"id":"i1","type":"function_call",'
        '"status":"incomplete","call_id":"c","name":"f","arguments":"%s"}],"incomplete_details":{"reason":"content_filter"}}}',
    ],
    ("transcription", "content"): [
        f'data: {CHAT_BASE.replace("chat.completion", "transcription")}[{{"index":0,"delta":{{}},"logprobs":nu'
        f'll,"finish_reason":"content_filter"}}]}}',
        "data: [DONE]",
    ],
    ("transcription", "text"): [
        'data: {"type":"transcript.text.delta","delta":" "}',
        'data: {"error":{"message":"The reply was stopped by a content policy.","type":"invalid_request_error","param":null,'
        '"code":"content_filter"}}',
    ],
}


@pytest.mark.parametrize("key", GOLDEN, ids="-".join)
def test_golden_endings(key: tuple[str, str]) -> None:
    out = served(
        BY_NAME[key], "fine bad thing", lambda: Silent(["bad"]), include_usage=key[0] in ("chat", "completions")
    )
    expected = GOLDEN[key]
    if key == ("responses", "arguments"):
        sent = BY_NAME[key].text(out)
        number = docs(out)[-3]["sequence_number"]
        quoted = json.dumps(sent, ensure_ascii=False)[1:-1]
        expected = [e % (number + n, quoted) for n, e in enumerate(expected)]
    assert out.decode().removesuffix("\n\n").split("\n\n")[-len(expected) :] == expected


# -- through the SDKs ----------------------------------------------------------------------------------------------


def openai_client(body: bytes) -> openai.OpenAI:
    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    return openai.OpenAI(
        api_key="k",
        base_url="http://test/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )


def anthropic_client(body: bytes) -> anthropic.Anthropic:
    def handle(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    return anthropic.Anthropic(
        api_key="k",
        base_url="http://test",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(handle)),
    )


ASK: list[Any] = [{"role": "user", "content": "x"}]


def test_openai_chat_redacted() -> None:
    for field in ("content", "refusal", "arguments"):
        kit = BY_NAME["chat", field]
        body = served(kit, "a bad thing", lambda: Redactor(["bad"]))
        with openai_client(body).chat.completions.stream(model="m", messages=ASK) as stream:
            for _ in stream:
                pass
            message = stream.get_final_completion().choices[0].message
        if field == "arguments":
            assert message.tool_calls is not None
            assert json.loads(message.tool_calls[0].function.arguments)["to"] == "a [X] thing"
        else:
            assert getattr(message, field) == "a [X] thing"


def test_openai_chat_cut() -> None:
    for field in ("content", "reasoning", "refusal", "arguments"):
        body = served(BY_NAME["chat", field], "a bad thing", include_usage=True)
        chunks = list(openai_client(body).chat.completions.create(model="m", messages=ASK, stream=True))
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "content_filter"
        assert chunks[-1].usage is not None
        with openai_client(body).chat.completions.stream(model="m", messages=ASK) as stream:
            for _ in stream:
                pass
            with pytest.raises(openai.ContentFilterFinishReasonError):
                stream.get_final_completion()


def test_openai_chat_one_choice_cut() -> None:
    parts = [delta({"role": "assistant", "content": ""}, i) for i in (0, 1)]
    rows = [(0, "a bad"), (1, "fine"), (0, " thing"), (1, " too")]
    data = b"".join(
        event(chunk([c])) for c in [*parts, *(delta({"content": t}, i) for i, t in rows), delta({}, 1, "stop")]
    )
    stream = GatedStream(DIALECTS["chat"], lambda channel: [cutter()])
    body = stream.feed(data)
    ends = {}
    said = {0: "", 1: ""}
    for piece in openai_client(body).chat.completions.create(model="m", messages=ASK, stream=True, n=2):
        for choice in piece.choices:
            said[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert said == {0: "a Stopped.", 1: "fine too"}
    assert ends == {0: "content_filter", 1: "stop"}


def test_openai_completions() -> None:
    body = served(BY_NAME["completions", "text"], "a bad thing")
    chunks = list(openai_client(body).completions.create(model="m", prompt="x", stream=True))
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "a Stopped."
    assert chunks[-1].choices[0].finish_reason == "content_filter"


@pytest.mark.parametrize("field", ["text", "refusal", "reasoning", "summary", "arguments", "input"])
def test_openai_responses_cut(field: str) -> None:
    body = served(BY_NAME["responses", field], "a bad thing")
    events = list(openai_client(body).responses.create(model="m", input="x", stream=True))
    last = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "content_filter"
    assert last.response.output[0].status == "incomplete"
    assert [e.sequence_number for e in events] == list(range(len(events)))
    with openai_client(body).responses.stream(model="m", input="x") as stream:
        assert [e.type for e in stream][-1] == "response.incomplete"


@pytest.mark.parametrize("field", ["text", "refusal", "arguments"])
def test_openai_responses_redacted(field: str) -> None:
    kit = BY_NAME["responses", field]
    body = served(kit, "a bad thing", lambda: Redactor(["bad"]))
    with openai_client(body).responses.stream(model="m", input="x") as stream:
        for _ in stream:
            pass
        item: Any = stream.get_final_response().output[0]
    if field == "arguments":
        assert json.loads(item.arguments)["to"] == "a [X] thing"
    else:
        assert getattr(item.content[0], field) == "a [X] thing"


def test_openai_error_event() -> None:
    stream = GatedStream(DIALECTS["chat"], lambda channel: [PassAll()])
    body = stream.feed(event(chunk([delta({"content": "a"})]))) + stream.fail("Broke off.", "api_error", "backend_cut")
    with pytest.raises(openai.APIError, match="Broke off"):
        list(openai_client(body).chat.completions.create(model="m", messages=ASK, stream=True))


@pytest.mark.parametrize("field", ["text", "thinking", "arguments"])
def test_anthropic_messages(field: str) -> None:
    kit = BY_NAME["messages", field]
    with anthropic_client(served(kit, "a bad thing")).messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        for _ in stream:
            pass
        message = stream.get_final_message()
    assert message.stop_reason == "refusal"
    redacted = served(kit, "a bad thing", lambda: Redactor(["bad"]))
    with anthropic_client(redacted).messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        for _ in stream:
            pass
        block: Any = stream.get_final_message().content[0]
    assert (block.input["to"] if field == "arguments" else getattr(block, field)) == "a [X] thing"


def test_anthropic_error_event() -> None:
    stream = GatedStream(DIALECTS["messages"], lambda channel: [PassAll()])
    kit = BY_NAME["messages", "text"]
    assert kit.stream is not None
    body = stream.feed(b"".join(kit.stream(["a"])[:4])) + stream.fail("Broke off.", "api_error", None)
    with pytest.raises(anthropic.APIStatusError, match="Broke off"):
        list(anthropic_client(body).messages.create(model="m", max_tokens=9, messages=ASK, stream=True))
