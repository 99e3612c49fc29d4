"""Every channel of every dialect as streams and whole replies to put text into, and readers that take it out again.

The readers are written from the wire's side, as a client accumulates text; they share nothing with the dialects.
``KITS`` has one entry for each row of the coverage table (a test compares them).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]
Reader = Callable[[JSON], str | None]


def event(doc: Any, name: str | None = None) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def docs(stream: bytes) -> list[JSON]:
    """The JSON of every event of a stream (LF line ends)."""
    out = []
    for block in stream.split(b"\n\n"):
        data = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
        if data and data != [b"[DONE]"] and data != [b""]:
            out.append(json.loads(b"\n".join(data)))
    return out


def strings(value: Any) -> Iterator[str]:
    """Every string in a document, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for k, v in value.items():
            yield k
            yield from strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)


@dataclass(frozen=True)
class Kit:
    """stream: events for pieces of text, and the reader of one event. repeats: readers of the places where a stream says
    the whole text again. body: a whole reply, and its reader. json: the text is the arguments of a call. joined: the
    stream has the text in one piece."""

    dialect: str
    field: str
    stream: Callable[[Sequence[str]], list[bytes]] | None = None
    read: Reader = lambda doc: None
    repeats: tuple[Reader, ...] = ()
    body: Callable[[str], JSON] | None = None
    read_body: Reader = lambda doc: None
    json: bool = False
    joined: bool = False

    def __str__(self) -> str:
        return f"{self.dialect}-{self.field}"

    def text(self, stream: bytes) -> str:
        """What a client accumulates from a stream."""
        return "".join(self.read(doc) or "" for doc in docs(stream))

    def wrap(self, text: str, *, ascii: bool = False) -> str:
        return (
            json.dumps({"n": 12345678901234567890, "to": text, "x": [1.50, None]}, ensure_ascii=ascii)
            if self.json
            else text
        )

    def unwrap(self, text: str) -> str:
        if not self.json:
            return text
        doc = json.loads(text)
        assert set(doc) == {"n", "to", "x"}
        assert doc["n"] == 12345678901234567890
        return str(doc["to"])


def at(doc: Any, *path: Any) -> Any:
    for key in path:
        if isinstance(doc, dict):
            doc = doc.get(key)
        elif isinstance(doc, list) and isinstance(key, int):
            doc = doc[key] if key < len(doc) else None
        else:
            return None
    return doc


def reader(*path: Any) -> Reader:
    return lambda doc: at(doc, *path)


# -- chat and completions ---------------------------------------------------------------------------------------------

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3}}


def chunk(choices: list[JSON], object: str = "chat.completion.chunk", **more: Any) -> JSON:
    return {"id": "chatcmpl-1", "object": object, "created": 1767225600, "model": "m", "choices": choices, **more}


def delta(value: JSON, index: int = 0, finish: str | None = None) -> JSON:
    return {"index": index, "delta": value, "logprobs": None, "finish_reason": finish}


def chat_stream(make: Callable[[str], JSON], first: JSON | None = None) -> Callable[[Sequence[str]], list[bytes]]:
    def build(pieces: Sequence[str]) -> list[bytes]:
        out = [event(chunk([delta({"role": "assistant", "content": ""})]))]
        if first is not None:
            out.append(event(chunk([delta(first)])))
        out += [event(chunk([delta(make(p))])) for p in pieces]
        out.append(event(chunk([delta({}, finish="stop")])))
        return [*out, event(chunk([], usage=USAGE)), DONE]

    return build


def chat_body(message: Callable[[str], JSON]) -> Callable[[str], JSON]:
    def build(text: str) -> JSON:
        choice = {"index": 0, "message": {"role": "assistant", "content": "", **message(text)}, "finish_reason": "stop"}
        return {**chunk([choice], "chat.completion"), "usage": USAGE}

    return build


def chat(
    field: str,
    value: Callable[[str], JSON],
    path: tuple[Any, ...],
    whole: Callable[[str], JSON] | None = None,
    **more: Any,
) -> Kit:
    dialect = more.pop("dialect", "chat")
    first = more.pop("first", None)
    return Kit(
        dialect,
        field,
        chat_stream(value, first),
        reader("choices", 0, "delta", *path),
        body=chat_body(whole or value),
        read_body=reader("choices", 0, "message", *path),
        **more,
    )


def call(text: str) -> JSON:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


def whole_call(text: str) -> JSON:
    return {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}]}


_FIRST_CALL = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}

CHAT = (
    *(chat(f, lambda t, f=f: {f: t}, (f,)) for f in ("content", "reasoning", "reasoning_content", "refusal")),
    chat("arguments", call, ("tool_calls", 0, "function", "arguments"), whole_call, first=_FIRST_CALL, json=True),
    chat(
        "name",
        lambda t: {
            "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": t, "arguments": ""}}]
        },
        ("tool_calls", 0, "function", "name"),
        joined=True,
    ),
    chat(
        "input",
        lambda t: {"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "f", "input": t}}]},
        ("tool_calls", 0, "custom", "input"),
    ),
    chat("function_call", lambda t: {"function_call": {"arguments": t}}, ("function_call", "arguments"), json=True),
    chat("transcript", lambda t: {"audio": {"id": "a", "transcript": t}}, ("audio", "transcript")),
    chat("*", lambda t: {"some_new_field": [{"type": "new", "text": t}]}, ("some_new_field", 0, "text")),
)


def completion_stream(pieces: Sequence[str]) -> list[bytes]:
    def one(text: str, finish: str | None = None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        return event(chunk([choice], "text_completion"))

    return [*(one(p) for p in pieces), one("", "stop"), event(chunk([], "text_completion", usage=USAGE)), DONE]


def completion_body(text: str) -> JSON:
    return {**chunk([{"index": 0, "text": text, "finish_reason": "stop"}], "text_completion"), "usage": USAGE}


COMPLETIONS = (
    Kit(
        "completions",
        "text",
        completion_stream,
        reader("choices", 0, "text"),
        body=completion_body,
        read_body=reader("choices", 0, "text"),
    ),
)

INVOCATIONS = (
    Kit(
        "invocations",
        "text",
        completion_stream,
        reader("choices", 0, "text"),
        body=completion_body,
        read_body=reader("choices", 0, "text"),
    ),
    chat("content", lambda t: {"content": t}, ("content",), dialect="invocations"),
    chat("*", lambda t: {"odd": t}, ("odd",), dialect="invocations"),
)


# -- responses --------------------------------------------------------------------------------------------------------

RESPONSE: JSON = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "status": "in_progress",
    "output": [],
}
_RUSAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 3}}


class Events:
    """Numbers response events."""

    def __init__(self) -> None:
        self.out: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        self.out.append(event({"type": kind, "sequence_number": len(self.out), **fields}, kind))


def response_stream(
    item: Callable[[str], JSON],
    stem: str | None,
    key: str = "text",
    number: str | None = None,
    part: Callable[[str], JSON] | None = None,
    shown: JSON | None = None,
) -> Callable[[Sequence[str]], list[bytes]]:
    """stem: the event name before .delta and .done; None: the item is all there is."""
    part_stem = "response.reasoning_summary_part" if number == "summary_index" else "response.content_part"

    def build(pieces: Sequence[str]) -> list[bytes]:
        text = "".join(pieces)
        e = Events()
        e.add("response.created", response=RESPONSE)
        e.add("response.in_progress", response=RESPONSE)
        empty = {**item(""), "status": "in_progress"}
        if part is not None:
            empty["summary" if number == "summary_index" else "content"] = []
        e.add("response.output_item.added", output_index=0, item=shown or empty)
        place: JSON = {"item_id": "i1", "output_index": 0}
        if number:
            place[number] = 0
        if part is not None:
            e.add(f"{part_stem}.added", **place, part=part(""))
        if stem is not None:
            extra = {"logprobs": []} if stem.endswith("output_text") else {}
            for piece in pieces:
                e.add(f"{stem}.delta", **place, delta=piece, **extra)
            e.add(f"{stem}.done", **place, **{key: text}, **extra)
        if part is not None:
            e.add(f"{part_stem}.done", **place, part=part(text))
        e.add("response.output_item.done", output_index=0, item=item(text))
        done = {**RESPONSE, "status": "completed", "output": [item(text)], "usage": _RUSAGE}
        e.add("response.completed", response=done)
        return e.out

    return build


def response_body(item: Callable[[str], JSON]) -> Callable[[str], JSON]:
    return lambda text: {**RESPONSE, "status": "completed", "output": [item(text)], "usage": _RUSAGE}


def _message(part: JSON) -> JSON:
    return {"id": "i1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def delta_reader(kind: str) -> Reader:
    return lambda doc: doc.get("delta") if doc.get("type") == kind + ".delta" else None


def done_reader(kind: str, *path: Any) -> Reader:
    return lambda doc: at(doc, *path) if doc.get("type") == kind else None


def response_kit(
    field: str,
    item: Callable[[str], JSON],
    path: tuple[Any, ...],
    stem: str | None,
    key: str = "text",
    number: str | None = None,
    part: Callable[[str], JSON] | None = None,
    **more: Any,
) -> Kit:
    in_item = done_reader("response.output_item.done", "item", *path)
    repeats = [done_reader("response.completed", "response", "output", 0, *path)]
    shown = more.pop("shown", None)
    if stem is not None:
        repeats += [in_item, done_reader(f"{stem}.done", key)]
    if part is not None:
        name = "response.reasoning_summary_part.done" if number == "summary_index" else "response.content_part.done"
        repeats.append(done_reader(name, "part", key))
    return Kit(
        "responses",
        field,
        response_stream(item, stem, key, number, part, shown),
        delta_reader(stem) if stem is not None else in_item,
        tuple(repeats),
        response_body(item),
        reader("output", 0, *path),
        joined=stem is None,
        **more,
    )


def text_part(text: str) -> JSON:
    return {"type": "output_text", "text": text, "annotations": []}


def refusal_part(text: str) -> JSON:
    return {"type": "refusal", "refusal": text}


def _item(kind: str, **fields: Any) -> JSON:
    return {"id": "i1", "type": kind, "status": "completed", **fields}


RESPONSES = (
    response_kit(
        "text",
        lambda t: _message(text_part(t)),
        ("content", 0, "text"),
        "response.output_text",
        "text",
        "content_index",
        text_part,
    ),
    response_kit(
        "refusal",
        lambda t: _message(refusal_part(t)),
        ("content", 0, "refusal"),
        "response.refusal",
        "refusal",
        "content_index",
        refusal_part,
    ),
    response_kit(
        "reasoning",
        lambda t: _item("reasoning", summary=[], content=[{"type": "reasoning_text", "text": t}]),
        ("content", 0, "text"),
        "response.reasoning_text",
        "text",
        "content_index",
        lambda t: {"type": "reasoning_text", "text": t},
    ),
    response_kit(
        "summary",
        lambda t: _item("reasoning", summary=[{"type": "summary_text", "text": t}]),
        ("summary", 0, "text"),
        "response.reasoning_summary_text",
        "text",
        "summary_index",
        lambda t: {"type": "summary_text", "text": t},
    ),
    response_kit(
        "arguments",
        lambda t: _item("function_call", call_id="c", name="f", arguments=t),
        ("arguments",),
        "response.function_call_arguments",
        "arguments",
        json=True,
    ),
    response_kit("name", lambda t: _item("function_call", call_id="c", name=t or "f", arguments=""), ("name",), None),
    response_kit(
        "input",
        lambda t: _item("custom_tool_call", call_id="c", name="f", input=t),
        ("input",),
        "response.custom_tool_call_input",
        "input",
    ),
    response_kit("output", lambda t: _item("mcp_call", name="f", arguments="", output=t), ("output",), None),
    response_kit(
        "code",
        lambda t: _item("code_interpreter_call", code=t, container_id="c"),
        ("code",),
        "response.code_interpreter_call_code",
        "code",
    ),
    response_kit(
        "transcript",
        lambda t: _message({"type": "output_audio", "transcript": t}),
        ("content", 0, "transcript"),
        "response.output_audio_transcript",
        "transcript",
        "content_index",
    ),
    response_kit(
        "other", lambda t: _item("web_search_call", action={"type": "search", "query": t}), ("action", "query"), None
    ),
)


# -- messages ---------------------------------------------------------------------------------------------------------


def message_stream(
    block: JSON, delta: Callable[[str], JSON] | None, joined: Callable[[str], JSON] | None = None
) -> Callable[[Sequence[str]], list[bytes]]:
    def build(pieces: Sequence[str]) -> list[bytes]:
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 1},
        }
        start = joined("".join(pieces)) if joined is not None else block
        out = [
            event({"type": "message_start", "message": message}, "message_start"),
            event({"type": "ping"}, "ping"),
            event({"type": "content_block_start", "index": 0, "content_block": start}, "content_block_start"),
        ]
        if delta is not None:
            for piece in pieces:
                out.append(
                    event({"type": "content_block_delta", "index": 0, "delta": delta(piece)}, "content_block_delta")
                )
        end = {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 5},
        }
        return [
            *out,
            event({"type": "content_block_stop", "index": 0}, "content_block_stop"),
            event(end, "message_delta"),
            event({"type": "message_stop"}, "message_stop"),
        ]

    return build


def message_body(block: Callable[[str], JSON]) -> Callable[[str], JSON]:
    return lambda text: {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [block(text)],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 5},
    }


def _tool(text: str) -> JSON:
    return {"type": "tool_use", "id": "t", "name": "f", "input": json.loads(text)}


MESSAGES = (
    Kit(
        "messages",
        "text",
        message_stream({"type": "text", "text": ""}, lambda t: {"type": "text_delta", "text": t}),
        reader("delta", "text"),
        body=message_body(lambda t: {"type": "text", "text": t}),
        read_body=reader("content", 0, "text"),
    ),
    Kit(
        "messages",
        "thinking",
        message_stream({"type": "thinking", "thinking": ""}, lambda t: {"type": "thinking_delta", "thinking": t}),
        reader("delta", "thinking"),
        body=message_body(lambda t: {"type": "thinking", "thinking": t, "signature": "s"}),
        read_body=reader("content", 0, "thinking"),
    ),
    Kit(
        "messages",
        "arguments",
        message_stream(
            {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            lambda t: {"type": "input_json_delta", "partial_json": t},
        ),
        reader("delta", "partial_json"),
        body=message_body(_tool),
        read_body=lambda doc: json.dumps(at(doc, "content", 0, "input")),
        json=True,
    ),
    Kit(
        "messages",
        "name",
        message_stream({}, None, lambda t: {"type": "tool_use", "id": "t", "name": t, "input": {}}),
        reader("content_block", "name"),
        body=message_body(lambda t: {"type": "tool_use", "id": "t", "name": t, "input": {}}),
        read_body=reader("content", 0, "name"),
        joined=True,
    ),
    Kit(
        "messages",
        "other",
        message_stream({}, None, lambda t: {"type": "new_block", "note": t}),
        reader("content_block", "note"),
        body=message_body(lambda t: {"type": "new_block", "note": t}),
        read_body=reader("content", 0, "note"),
        joined=True,
    ),
)


# -- speech, tables ---------------------------------------------------------------------------------------------------


def transcript_stream(pieces: Sequence[str]) -> list[bytes]:
    out = [event({"type": "transcript.text.delta", "delta": p}) for p in pieces]
    return [*out, event({"type": "transcript.text.done", "text": "".join(pieces), "usage": _RUSAGE}), DONE]


def transcription_chunks(pieces: Sequence[str]) -> list[bytes]:
    out = [event(chunk([delta({"content": p})], "transcription.chunk")) for p in pieces]
    return [*out, event(chunk([delta({}, finish="stop")], "transcription.chunk")), DONE]


def segment_stream(pieces: Sequence[str]) -> list[bytes]:
    return [event({"type": "transcript.text.segment", "id": str(n), "text": p}) for n, p in enumerate(pieces)] + [DONE]


TRANSCRIPTION = (
    Kit(
        "transcription",
        "text",
        transcript_stream,
        lambda d: d.get("delta"),
        (done_reader("transcript.text.done", "text"),),
        lambda t: {"text": t},
        reader("text"),
    ),
    Kit("transcription", "content", transcription_chunks, reader("choices", 0, "delta", "content")),
    Kit(
        "transcription",
        "segments",
        segment_stream,
        reader("text"),
        body=lambda t: {"text": "", "segments": [{"id": 0, "text": t, "tokens": [1]}]},
        read_body=reader("segments", 0, "text"),
        joined=True,  # segments end between words
    ),
    Kit(
        "transcription",
        "words",
        body=lambda t: {"text": "", "words": [{"word": t, "start": 0.0}]},
        read_body=reader("words", 0, "word"),
    ),
    Kit(
        "transcription",
        "other",
        lambda pieces: [event({"type": "transcript.text.delta", "delta": "", "note": p}) for p in pieces] + [DONE],
        reader("note"),
        body=lambda t: {"text": "", "note": t},
        read_body=reader("note"),
        joined=True,
    ),
)

TABLES = (
    Kit(
        "rerank",
        "text",
        body=lambda t: {"results": [{"index": 0, "document": {"text": t}, "relevance_score": 0.5}]},
        read_body=reader("results", 0, "document", "text"),
    ),
    Kit(
        "rerank",
        "document",
        body=lambda t: {"results": [{"index": 0, "document": t}]},
        read_body=reader("results", 0, "document"),
    ),
    Kit(
        "tokenize",
        "token_strs",
        body=lambda t: {"count": 2, "tokens": [1, 2], "token_strs": [t[:3], t[3:]]},
        read_body=lambda doc: "".join(doc["token_strs"]),
    ),
    Kit("detokenize", "prompt", body=lambda t: {"prompt": t}, read_body=reader("prompt")),
    Kit(
        "images",
        "revised_prompt",
        body=lambda t: {"created": 1, "data": [{"b64_json": "AAAA", "revised_prompt": t}]},
        read_body=reader("data", 0, "revised_prompt"),
    ),
    Kit(
        "image_edits",
        "revised_prompt",
        body=lambda t: {"created": 1, "data": [{"b64_json": "AAAA", "revised_prompt": t}]},
        read_body=reader("data", 0, "revised_prompt"),
    ),
)

KITS: tuple[Kit, ...] = (
    *CHAT,
    *(Kit("chat_batch", k.field, body=k.body, read_body=k.read_body, json=k.json) for k in CHAT),
    *COMPLETIONS,
    *INVOCATIONS,
    *RESPONSES,
    *MESSAGES,
    *TRANSCRIPTION,
    *TABLES,
)
STREAMS = tuple(k for k in KITS if k.stream is not None)
BODIES = tuple(k for k in KITS if k.body is not None)
