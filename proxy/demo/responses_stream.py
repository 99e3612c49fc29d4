"""The response object of /v1/responses and the events that build it.

The same text comes four times, as at OpenAI and vLLM: in deltas, in the *.done event, in output_item.done
and in response.completed. Sequence numbers run from 0 without gaps; there is no [DONE].
Never here: sockets, the store, what is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.demo import draft, words
from proxy.demo.call import Event, event
from proxy.demo.draft import Draft
from proxy.demo.fields import Json


@dataclass(frozen=True, slots=True)
class Made:
    """A finished reply: the fixed part of the response object, and what is said."""

    head: Json
    draft: Draft
    input_tokens: int
    logprobs: bool
    top: int

    @property
    def status(self) -> str:
        return "incomplete" if self.draft.finish == "length" else "completed"


def response(made: Made, status: str | None = None) -> Json:
    """The response object; with a `status` other than the final one it has no output yet."""
    done = status is None
    status = status or made.status
    reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
    output = [item for item, _ in _items(made)] if done else []
    return made.head | {
        "status": status,
        "incomplete_details": reason,
        "output": output,
        "usage": _usage(made) if done else None,
    }


def _usage(made: Made) -> Json:
    said, thought = made.draft.tokens, len(made.draft.reasoning)
    return {
        "input_tokens": made.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": made.input_tokens + said,
    }


def _logprobs(made: Made, texts: tuple[str, ...]) -> list[Json]:
    return [words.token_logprobs(text, made.top) for text in texts] if made.logprobs else []


def _items(made: Made) -> list[tuple[Json, tuple[str, ...]]]:
    """The finished output items, each with its pieces."""
    one = made.draft
    items: list[tuple[Json, tuple[str, ...]]] = []
    if one.reasoning:
        part: Json = {"type": "reasoning_text", "text": one.thoughts}
        head: Json = {"id": f"rs_{one.id}", "summary": [], "type": "reasoning", "content": [part]}
        items.append((head | {"encrypted_content": None, "status": "completed"}, one.reasoning))
    if one.text or not (one.calls or items):
        part = {"type": "output_text", "text": one.content, "annotations": []}
        part["logprobs"] = _logprobs(made, one.text)
        head = {"id": f"msg_{one.id}", "content": [part], "role": "assistant"}
        items.append((head | {"status": "completed", "type": "message"}, one.text))
    for call in one.calls:
        items.append((_call_item(call), call.pieces))
    if made.status == "incomplete":
        items[-1][0]["status"] = "incomplete"
    return items


def _call_item(call: draft.Call) -> Json:
    return {
        "arguments": call.arguments,
        "call_id": f"call_{call.id}",
        "name": call.name,
        "type": "function_call",
        "id": f"fc_{call.id}",
        "status": "completed",
    }


def events(made: Made, after: int = -1) -> Iterator[Event]:
    """The events of a stream with a sequence_number above `after`."""
    for number, (name, body) in enumerate(_plain_events(made)):
        kind = f"response.{name}"
        if number > after:
            last = name in ("completed", "incomplete")
            yield event({"type": kind} | body | {"sequence_number": number}, kind, last=last)


def _plain_events(made: Made) -> Iterator[tuple[str, Json]]:
    yield "created", {"response": response(made, "in_progress")}
    yield "in_progress", {"response": response(made, "in_progress")}
    for index, (item, pieces) in enumerate(_items(made)):
        place = {"output_index": index, "item_id": item["id"]}
        match item["type"]:
            case "function_call":
                empty: Json = {"arguments": ""}
                inner = _call_events(item, pieces, place)
            case "reasoning":
                empty = {"content": []}
                inner = _reasoning_events(item, pieces, place | {"content_index": 0})
            case _:
                empty = {"content": []}
                inner = _text_events(made, item, pieces, place | {"content_index": 0})
        yield "output_item.added", {"output_index": index, "item": item | {"status": "in_progress"} | empty}
        yield from inner
        yield "output_item.done", {"output_index": index, "item": item}
    yield made.status, {"response": response(made)}


def _call_events(item: Json, pieces: tuple[str, ...], place: Json) -> Iterator[tuple[str, Json]]:
    for text in pieces:
        yield "function_call_arguments.delta", place | {"delta": text}
    end = {"arguments": item["arguments"], "name": item["name"]}
    yield "function_call_arguments.done", place | end


def _reasoning_events(item: Json, pieces: tuple[str, ...], place: Json) -> Iterator[tuple[str, Json]]:
    part = item["content"][0]
    yield "content_part.added", place | {"part": part | {"text": ""}}
    for text in pieces:
        yield "reasoning_text.delta", place | {"delta": text}
    yield "reasoning_text.done", place | {"text": part["text"]}
    yield "content_part.done", place | {"part": part}


def _text_events(made: Made, item: Json, pieces: tuple[str, ...], place: Json) -> Iterator[tuple[str, Json]]:
    part = item["content"][0]
    yield "content_part.added", place | {"part": part | {"text": "", "logprobs": []}}
    for text in pieces:
        yield "output_text.delta", place | {"delta": text, "logprobs": _logprobs(made, (text,))}
    yield "output_text.done", place | {"text": part["text"], "logprobs": part["logprobs"]}
    yield "content_part.done", place | {"part": part}
