"""A value of which the request holds the first half and the reply the second."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.kits.client import fetch, request
from tests.kits.fronts import front

SAID = "ingale flew. Then all was still."
ASSISTANT = {"role": "assistant", "content": "It is called project night"}
USER = {"role": "user", "content": "What is it called?"}
RULES = [
    {"name": "names", "phrases": ["project nightingale"], "whole_word": True},
    {"name": "keys", "patterns": ["sk-[a-z]{4,}"], "action": "flag"},
]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [USER, ASSISTANT], "continue_final_message": True}),
    "completions": ("/v1/completions", {"prompt": ASSISTANT["content"]}),
    "prompts": ("/v1/completions", {"prompt": ["Well", ASSISTANT["content"]]}),
    "messages": ("/v1/messages", {"messages": [USER, ASSISTANT], "max_tokens": 99}),
    "responses": ("/v1/responses", {"input": [USER, {**ASSISTANT, "status": "in_progress"}]}),
}


def policy(action: str) -> str:
    return json.dumps({"policies": [{"use": "output_moderation", "rules": [{**RULES[0], "action": action}, RULES[1]]}]})


def spoken(doc: Any, choice: int) -> str:
    """The text of a whole reply, or what one event adds to it."""
    choices = [c for c in doc.get("choices", ()) if c["index"] == choice]
    for c in choices:
        message = c.get("message") or c.get("delta") or {}
        return str(c.get("text") or message.get("content") or "")
    if isinstance(doc.get("delta"), str):
        return doc["delta"] if doc["type"] == "response.output_text.delta" else ""
    blocks = doc.get("content") or [part for item in doc.get("output", ()) for part in item.get("content", ())]
    return str((doc.get("delta") or {}).get("text") or "".join(part["text"] for part in blocks))


def documents(body: bytes, stream: bool) -> list[Any]:
    if not stream:
        return [json.loads(body)]
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("asked", ASKED)
async def test_the_second_half_is_held(asked: str, action: str, stream: bool) -> None:
    path, doc = ASKED[asked]
    async with front("moderated", policy_yaml=policy(action)) as f:
        for piece in (1, 4, 40):
            fields = [(b"Content-Type", b"application/json"), (b"x-demo", f"say={quote(SAID)}; piece={piece}".encode())]
            body = json.dumps({"model": "demo", "stream": stream, **doc}).encode()
            reply = await fetch(f.gate.port, request("POST", path, body, fields))
            assert reply.status == 200
            docs = documents(reply.body, stream)
            text = "".join(spoken(d, 1 if asked == "prompts" else 0) for d in docs)
            assert text == ("[REDACTED] flew. Then all was still." if action == "redact" else "")
            if asked == "prompts":
                assert "".join(spoken(d, 0) for d in docs) == SAID, "which goes on with another prompt"
            else:
                assert b"flew" not in reply.body or action == "redact"


async def test_what_the_request_holds_whole_is_no_find_of_the_reply() -> None:
    async with front("moderated", policy_yaml=policy("block")) as f:
        fields = [(b"Content-Type", b"application/json"), (b"x-demo", b"say=all%20well"), (b"X-Headgate-Annotate", b"true")]
        for prompt in ("project nightingale. And so: ", "sk-abcdefgh "):
            doc = {"model": "demo", "prompt": prompt}
            reply = await fetch(f.gate.port, request("POST", "/v1/completions", json.dumps(doc).encode(), fields))
            assert reply.status == 200 and json.loads(reply.body)["choices"][0]["text"] == "all well"
            assert reply.values(b"x-headgate-findings") == [b"none"]
