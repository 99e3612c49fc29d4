"""A large whole reply is judged away from the event loop, and comes out as a small one would."""

from __future__ import annotations

import json

import pytest

from proxy import reply as replies
from tests.kits.backend import Call, backend
from tests.kits.client import connect, request
from tests.kits.gate import gate

POLICY = """
policies:
  - use: output_moderation
    rules: [{name: key, patterns: ['sk-[a-z0-9]{8,}'], placeholder: "[KEY]"}]
"""


@pytest.mark.parametrize("words", [10, 20_000])
async def test_a_reply_of_any_size_is_judged_alike(words: int) -> None:
    text = "plain words " * words + "sk-abcdef0123456789 end"
    body = json.dumps({"choices": [{"index": 0, "message": {"content": text}, "finish_reason": "stop"}]}).encode()
    assert (len(body) > replies.OFF_LOOP) is (words > 10)

    async def script(call: Call) -> None:
        await call.reply(body, fields=[(b"Content-Type", b"application/json")])

    async with backend(script) as b, gate(b.url, POLICY) as g, connect(g.port) as client:
        got = await client.ask(request("POST", "/v1/chat/completions", b'{"model":"m"}'))
        said = json.loads(got.body)["choices"][0]["message"]["content"]
        assert said == "plain words " * words + "[KEY] end"
        assert [(f.kind, f.count) for f in (await g.settled()).findings] == [("key", 1)]
