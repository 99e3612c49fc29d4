"""The watched tier: usage, finishes and errors are read, whatever events are skipped unread."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.contract import Usage
from proxy.dialects import DIALECTS
from proxy.watched import WatchedStream, watch_whole

CHAT = DIALECTS["chat"]


def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    doc = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": choices, **more}
    return b"data: " + json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def choice(text: str, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


PLAIN = ["Hello", " wor", "ld", "", 'a "quoted" text', "new\nline", "Grüße 你好", "back\\", "[DONE]", '"usage"', "data: x"]


@pytest.fixture
def watched() -> WatchedStream:
    """A stream that has seen events of the usual shape."""
    stream = WatchedStream(CHAT)
    for text in PLAIN:
        stream.feed(event([choice(text)]))
    return stream


def test_a_finish_between_two_texts_of_one_event_is_seen(watched: WatchedStream) -> None:
    watched.feed(event([choice("a", 0, "stop"), choice("b", 1)]))
    assert watched.finishes == {0: "stop"}


def test_usage_between_two_texts_of_one_piece_is_seen(watched: WatchedStream) -> None:
    usage = event([choice("b")], usage={"prompt_tokens": 3, "completion_tokens": 4})
    watched.feed(event([choice("a")]) + usage + event([choice("c")]))
    assert watched.usage == Usage(3, 4, 0)


def test_what_is_unlike_earlier_events_is_seen(watched: WatchedStream) -> None:
    assert (watched.usage, watched.finishes, watched.finished, watched.errors) == (None, {}, False, 0)
    watched.feed(b'data: {"error":{"message":"x"}}\n\n')
    watched.feed(event([choice("", 0, "length")]))
    watched.feed(event([], usage={"prompt_tokens": 3, "completion_tokens": 4}))
    assert not watched.mid_event
    watched.feed(b"data: [DO")
    assert watched.mid_event
    watched.feed(b"NE]\n\n")
    assert (watched.finishes, watched.finished, watched.errors) == ({0: "length"}, True, 1)
    assert watched.usage == Usage(3, 4, 0)


@pytest.mark.parametrize(
    ("body", "usage"),
    [
        (b'{"choices":[{"usage":1}],"usage":{"prompt_tokens":3,"completion_tokens":4},"x":[1.5]}', Usage(3, 4, 0)),
        (b'{"u\\u0073age":{"input_tokens":3,"input_tokens_details":{"cached_tokens":2}}}', Usage(3, 0, 2)),
        (b'{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}', Usage(2, 0, 0)),
        (b'{"usage":{"prompt_tokens":null,"input_tokens":5,"completion_tokens":true}}', Usage(0, 0, 0)),
        (b'{"usage":{"prompt_tokens":1.0,"completion_tokens":18446744073709551616}}', Usage(0, 0, 0)),
        (b'{"usage":null}', None),
        (b'{"usage":[1]}', None),
        (b'{"id":"a \\"usage\\""}', None),
        (b'{"usage":{"prompt_tokens":1}} x', None),
        (b'[{"usage":{"prompt_tokens":1}}]', None),
        (b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}", None),
        (b'{"a":' + b"[" * 100_000, None),
        (b'{"a":NaN,"usage":{}}', None),
        (b"", None),
    ],
)
def test_usage_of_a_whole_reply(body: bytes, usage: Usage | None) -> None:
    assert watch_whole(CHAT, body) == usage


def test_a_dialect_without_counts_is_not_read() -> None:
    assert watch_whole(DIALECTS["opaque"], b'{"usage":{"prompt_tokens":1}}') is None
