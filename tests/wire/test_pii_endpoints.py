"""Every endpoint and every place of text in its requests: the backend gets no value, and all else as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.contract import Kind
from proxy.routes import ROUTES
from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.gate import gate

A, B = "ann.lee@corp-mail.org", "bob@corp-mail.org"
PII = "policies: [{use: pii_redaction, entities: [email]%s}]"
JSON = [(b"Content-Type", b"application/json")]
USER: dict[str, Any] = {"messages": [{"role": "user", "content": A}]}



def packed(doc: Any) -> str:
    """JSON text as it is written where something in it was replaced."""
    return json.dumps(doc, separators=(",", ":"))


# path, body, whether all of it can be read
ROWS: list[tuple[str, dict[str, Any], bool]] = [
    ("/v1/embeddings", {"input": A}, True),
    ("/v1/embeddings", {"input": [A, "x", B]}, True),
    ("/v1/embeddings", {"input": [1, 2]}, False),
    ("/v2/embed", {"texts": [A], "inputs": [{"content": [{"type": "text", "text": B}]}]}, True),
    ("/v1/completions", {"prompt": A, "suffix": B}, True),
    ("/v1/completions", {"prompt": [A, B], "n": 2, "temperature": 0.10}, True),
    ("/v1/completions", {"prompt": [[1], [2]], "suffix": A}, False),
    ("/v1/completions", {"prompt": [A, [1, 2]]}, False),
    ("/v1/chat/completions", {"messages": [{"role": "developer", "content": A}, {"role": "user", "name": B, "content": [
        {"type": "text", "text": A}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]}]}, False),
    ("/v1/chat/completions", USER | {"documents": [{"title": A, "text": B}]}, True),
    ("/v1/chat/completions", USER | {"prediction": {"type": "content", "content": B}}, True),
    ("/v1/chat/completions", USER | {"stop": [A]}, True),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "content": None, "reasoning": B,
                                            "function_call": {"name": "f", "arguments": packed({"to": A})}},
                                           {"role": "function", "name": "f", "content": A}]}, True),
    ("/v1/chat/completions", {"messages": [{"role": "assistant", "reasoning_details": [{"type": "reasoning.text", "text": A}]}]},
     True),
    ("/v1/chat/completions/batch", {"messages": [[{"role": "user", "content": A}], [{"role": "user", "content": B}]]}, True),
    ("/v1/responses", {"input": A, "instructions": B}, True),
    ("/v1/responses", {"input": [
        {"role": "user", "content": [{"type": "input_text", "text": A}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": packed({A: [B]})},
        {"type": "function_call_output", "call_id": "c", "output": A},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": B}]},
        {"type": "mcp_call", "name": "m", "arguments": packed({"q": A}), "output": B},
        {"type": "local_shell_call_output", "output": A}, {"type": "custom_tool_call", "name": "c", "input": B},
    ], "prompt": {"id": "p", "variables": {"who": A}}}, True),
    ("/v1/responses", {"input": A, "previous_response_id": "r"}, False),
    ("/v1/messages", {"max_tokens": 9, "system": [{"type": "text", "text": A}], "messages": [
        {"role": "user", "content": B},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": A, "signature": "s"},
                                          {"type": "tool_use", "id": "t", "name": "f", "input": {"to": [A], "n": 1.50}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": B}]},
                                     {"type": "tool_result", "tool_use_id": "u", "content": A},
                                     {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": B}}]},
    ]}, True),
    ("/v1/messages/count_tokens", {"system": A, **USER}, True),
    ("/rerank", {"query": A, "documents": [B, {"text": A}, {"content": [{"type": "text", "text": B}]}], "top_n": 1}, True),
    ("/v1/rerank", {"query": A, "documents": ["x"]}, True),
    ("/v2/rerank", {"query": "x", "documents": [{"anything": {"deep": B}}]}, True),
    ("/score", {"text_1": A, "text_2": [B, "x"]}, True),
    ("/v1/score", {"data_1": A, "data_2": [{"content": [{"type": "text", "text": B}]}]}, True),
    ("/score", {"queries": [A], "documents": [B], "instruction": A}, True),
    ("/classify", {"input": [A, B]}, True),
    ("/pooling", {"input": A}, True),
    ("/pooling", USER, True),
    ("/v1/moderations", {"input": [A, B]}, True),
    ("/tokenize", {"prompt": A, "add_special_tokens": True}, True),
    ("/tokenize", USER, True),
    ("/detokenize", {"tokens": [1, 2, 3]}, False),
    ("/generative_scoring", {"query": A, "items": [B]}, True),
    ("/invocations", USER, True),
    ("/invocations", {"input": [A]}, True),
    ("/v1/images/generations", {"prompt": f"draw {A}", "n": 1}, True),
    ("/openai/deployments/d/chat/completions", USER, True),
    ("/openai/v1/responses", {"input": A}, True),
]  # fmt: skip


def hidden(doc: Any) -> Any:
    """What must come: placeholders by first appearance, what stands beside the conversation first."""
    return json.loads(json.dumps(doc).replace(A, "[X]").replace(B, "[X]"))


async def answer(call: Call) -> None:
    await call.reply(b'{"object":"list","data":[]}', fields=JSON)


@pytest.mark.parametrize(("path", "doc", "all_of_it"), ROWS, ids=[f"{n} {path}" for n, (path, _, _) in enumerate(ROWS)])
async def test_no_value_reaches_the_backend(path: str, doc: dict[str, Any], all_of_it: bool) -> None:
    doc = {"model": "m", **doc, "x_unknown": {"kept": [1.50, 12345678901234567890, None]}}
    raw = request("POST", path, json.dumps(doc).encode(), JSON)
    async with backend(answer) as b, gate(b.url, PII % ", 'on': [request], restore: false") as g:
        await fetch(g.port, raw)
        x = await g.settled()
        (call,) = b.calls
        got = call.body.decode()
        assert A not in got and B not in got
        assert b'"kept":[1.5,12345678901234567890,null]' in call.body
        for number in (1, 2):
            got = got.replace(f"[EMAIL_{number}]", "[X]")
        if "previous_response_id" not in doc:  # its numbers are made with a key
            assert json.loads(got) == hidden(doc)
        assert (x.scanned_request == "yes") is all_of_it, x.scanned_request
    async with backend(answer) as b, gate(b.url, PII % ", 'on': [request], restore: false, unscanned: deny") as g:
        reply = await fetch(g.port, raw)
        assert (reply.status == 403, len(b.calls)) == (not all_of_it, int(all_of_it))


@pytest.mark.parametrize(("doc", "role"), [
    (USER | {"tools": [{"type": "function", "function": {"name": "f", "description": f"such as {B}"}}]}, "definitions"),
    (USER | {"functions": [{"name": "f", "description": f"such as {B}"}]}, "definitions"),
    (USER | {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"enum": [B]}}}}, "definitions"),
    (USER | {"structured_outputs": {"choice": [B]}}, "definitions"),
    (USER | {"guided_choice": [B]}, "definitions"),
    (USER | {"guided_regex": B}, "definitions"),
    (USER | {"chat_template_kwargs": {"who": B}}, "definitions"),
    (USER | {"user": B}, "metadata"),
    (USER | {"metadata": {"customer": B}}, "metadata"),
    (USER | {"safety_identifier": B}, "metadata"),
])  # fmt: skip
async def test_definitions_and_metadata_are_looked_at_when_they_are_named(doc: dict[str, Any], role: str) -> None:
    raw = request("POST", "/v1/chat/completions", json.dumps({"model": "m", **doc}).encode(), JSON)
    roles = f", 'on': [request], restore: false, roles: [user, {role}]"
    for options, there in ((", 'on': [request], restore: false", True), (roles, False)):
        async with backend(answer) as b, gate(b.url, PII % options) as g:
            await fetch(g.port, raw)
            assert (B.encode() in b.calls[0].body) is there
            assert A.encode() not in b.calls[0].body


BLIND = ["/inference/v1/generate", "/v1/responses/compact", "/v1/files", "/v1/batches", "/v1/uploads", "/V1/chat/completions",
         "//v1/chat/completions", "/v1/chat/completions/", "/v1/chat%2Fcompletions", "/v1/unheard/of"]  # fmt: skip


@pytest.mark.parametrize("path", BLIND)
async def test_what_nobody_can_read_is_refused(path: str) -> None:
    async with backend(answer) as b, gate(b.url, PII % "") as g:
        reply = await fetch(g.port, request("POST", path, json.dumps({"model": "m", **USER}).encode(), JSON))
        assert reply.status == 403 and not b.calls
        assert (await g.settled()).fault is Kind.UNSCANNABLE


def test_every_route_that_reads_requests_is_tried_here_or_with_its_like() -> None:
    """A new route has to come into the table above."""
    tried = {path.replace("/d/", "/{}/") for path, _, _ in ROWS} | {
        "/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits", "/v1/images/variations",  # test_uploads.py
        "/v1/audio/speech", "/cohere/v2/chat", "/v2/chat", "/v1/decisions", "/v1/systemone",  # test_requests.py
        "/openai/deployments/{}/audio/transcriptions", "/openai/deployments/{}/audio/translations",
        "/openai/deployments/{}/images/edits", "/openai/deployments/{}/completions",
        "/openai/deployments/{}/embeddings", "/openai/v1/chat/completions",
    }  # fmt: skip
    reading = {r.pattern for r in ROUTES if r.reads_request and r.method == "POST"}
    assert {path for path in reading if not path.endswith(("/render", "/cancel"))} <= tried
