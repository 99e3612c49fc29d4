"""Names on the wire: a real (tiny) model, the official client, a backend that says what it got and adds names of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.kits import names as models
from tests.kits.backend import Call, backend
from tests.kits.fronts import KEY
from tests.kits.gate import gate

POLICY = """
policies:
  - use: pii_redaction
    entities: [names, email]
    timeout: 20
    ner: {{model: {model}, timeout: 15, on_error: {on_error}}}
"""
ASKED = "I am Mary Smith of Acme Corp in New York, mail mary@corp-mail.org. Dr. Ann Lee said hello!"
PLANTED = ["mary", "smith", "acme", "york", "ann lee"]


def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def script(size: int) -> Any:
    """Says what it was asked, thinks of John, and sends it all to a tool; in pieces, or as a whole where no stream is wanted."""

    async def answer(call: Call) -> None:
        body = json.loads(call.body)
        text = f"You said: {body['messages'][-1]['content']} John of Berlin."
        arguments = json.dumps({"to": text, "n": 1})
        if not body.get("stream"):
            tool = {"id": "t", "type": "function", "function": {"name": "paris", "arguments": arguments}}
            message = {"role": "assistant", "content": text, "reasoning": "Is it John?", "tool_calls": [tool]}
            doc = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            await call.reply(json.dumps({**doc, "choices": [choice]}).encode(), fields=[(b"Content-Type", b"application/json")])
            return

        def cut(whole: str) -> list[str]:
            return [whole[at : at + size] for at in range(0, len(whole), size)]

        head = {"index": 0, "id": "t", "type": "function", "function": {"name": "paris", "arguments": ""}}
        events = [event({"role": "assistant", "content": ""})]
        events += [event({"reasoning": p}) for p in cut("Is it John?")]
        events += [event({"content": p}) for p in cut(text)]
        events += [event({"tool_calls": [head]})]
        events += [event({"tool_calls": [{"index": 0, "function": {"arguments": p}}]}) for p in cut(arguments)]
        await call.sse([*events, event({}, "tool_calls"), b"data: [DONE]\n\n"])

    return answer


async def said(client: openai.AsyncOpenAI, *, stream: bool) -> tuple[str, str, str, str]:
    """(reasoning, content, the tool's name, its arguments)."""
    asked: Any = {"model": "m", "messages": [{"role": "user", "content": ASKED}]}
    if not stream:
        done: Any = await client.chat.completions.create(**asked)
        message = done.choices[0].message
        function = message.tool_calls[0].function
        return message.reasoning, message.content, function.name, function.arguments
    out = ["", "", "", ""]
    async for one in await client.chat.completions.create(**asked, stream=True):
        delta: Any = one.choices[0].delta
        out[0] += getattr(delta, "reasoning", None) or ""
        out[1] += delta.content or ""
        for call in delta.tool_calls or ():
            out[2] += call.function.name or ""
            out[3] += call.function.arguments or ""
    return out[0], out[1], out[2], out[3]


@pytest.mark.parametrize("size", [0, 1, 5, 1000])
async def test_names_never_reach_the_backend_and_come_back(tmp_path: Path, size: int) -> None:
    policy = POLICY.format(model=models.tiny_model(tmp_path / "model"), on_error="closed")
    async with (
        backend(script(size)) as b,
        gate(b.url, policy) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as client,
    ):
        reasoning, content, tool, arguments = await said(client, stream=size > 0)
        text = f"You said: {ASKED} [PERSON] of [LOCATION]."
        assert (reasoning, content, tool) == ("Is it [PERSON]?", text, "paris")
        assert json.loads(arguments) == {"to": text, "n": 1}
        sent = json.loads(b.calls[0].body)["messages"][0]["content"]
        assert sent == (
            "I am [PERSON_1] of [ORGANIZATION_1] in [LOCATION_1], mail [EMAIL_1]. Dr. [PERSON_2] said hello!"
        )
        x = await g.settled()
        told = json.dumps(await g.log_lines()) + g.metrics.exposition()[0].decode() + repr(x.findings)
        assert not [value for value in PLANTED if value in told.lower()]
