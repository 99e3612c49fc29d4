"""What a moderated reply held back comes back by no other way: stored responses, echoes, log-probabilities, token ids."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.fronts import Front, front
from tests.kits.gate import gate

SAID = "The next one is project nightjar. It ships soon, after that we rest."
SAY = [(b"x-demo", f"say={quote(SAID)}; piece=3".encode())]
SECRET = b"nightjar"
RULE = {"name": "names", "phrases": ["project nightjar"]}


def policies(action: str) -> str:
    rule = {**RULE, "action": action}
    return json.dumps({"policies": [{"use": "output_moderation", "rules": [rule]}]})


@contextlib.asynccontextmanager
async def moderated(action: str) -> AsyncIterator[Front]:
    async with front("moderated", policy_yaml=policies(action)) as made:
        yield made


async def post(f: Front, path: str, **doc: Any) -> Any:
    fields = [(b"Content-Type", b"application/json"), *SAY]
    return await fetch(f.gate.port, request("POST", path, json.dumps({"model": "demo", **doc}).encode(), fields))


def numbers(body: bytes) -> list[int]:
    return [json.loads(line[6:])["sequence_number"] for line in body.split(b"\n") if line.startswith(b"data: {")]


@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("background", [False, True])
async def test_a_stored_response_gives_back_nothing_that_was_held(action: str, background: bool) -> None:
    async with moderated(action) as f:
        made = await post(f, "/v1/responses", input="Hello", store=True, background=background)
        assert made.status == 200 and SECRET not in made.body
        path = "/v1/responses/" + json.loads(made.body)["id"]
        stored = [
            await fetch(f.gate.port, request("GET", path + query))
            for query in ("", "?stream=false", "?include[]=message.output_text.logprobs", "?stream=true")
        ]
        assert all(r.status == 200 and SECRET not in r.body for r in stored)
        cancelled = await fetch(f.gate.port, request("POST", path + "/cancel", b""))
        assert SECRET not in cancelled.body
        again = await post(f, "/v1/responses", input="And then?", previous_response_id=json.loads(made.body)["id"])
        assert SECRET not in again.body
        last = max(numbers(stored[-1].body))
        assert last > 10
        for after in range(last + 1):
            rest = await fetch(f.gate.port, request("GET", f"{path}?stream=true&starting_after={after}"))
            assert b"jar" not in rest.body.replace(b"[REDACTED]", b""), "not even the end of it"
            assert numbers(rest.body) == [n for n in numbers(stored[-1].body) if n > after]


@pytest.mark.parametrize(
    "query", ["starting_after=3&starting_after=1", "starting%5Fafter=3", "starting_after=-1", "starting_after="]
)
async def test_a_middle_that_cannot_be_told_for_sure_is_refused(query: str) -> None:
    async with moderated("redact") as f:
        reply = await fetch(f.gate.port, request("GET", f"/v1/responses/resp_1?stream=true&{query}"))
        if query.startswith("starting%5F"):
            assert reply.status == 404, "read as the parameter that it is"
        else:
            assert reply.status == 400 and b"starting_after" in reply.body


async def test_reads_that_nobody_can_judge_are_refused() -> None:
    """Other spellings and places of what is stored."""

    async def tell(call: Call) -> None:
        await call.reply(SAID.encode(), fields=[(b"Content-Type", b"application/json")])

    async with backend(tell) as b, gate(b.url, policies("redact")) as g:
        for path in (
            "/v1/responses/resp_1/input_items", "//v1/responses/resp_1", "/v1/responses/resp_1/", "/v1/responses/%72esp_1",
            "/v1/files/file_1/content", "/v1/conversations/c_1/items", "/v1/chat/completions/c1",
        ):  # fmt: skip
            reply = await fetch(g.port, request("GET", path))
            assert reply.status == 403 and SECRET not in reply.body, path
        assert (await fetch(g.port, request("GET", "/v1/models"))).status == 200


DOORS: dict[str, tuple[str, dict[str, Any]]] = {
    "logprobs": ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 2}),
    "token ids": ("/v1/chat/completions", {"return_token_ids": True, "return_tokens_as_token_ids": True}),
    "prompt logprobs": ("/v1/chat/completions", {"prompt_logprobs": 1}),
    "n": ("/v1/chat/completions", {"n": 2, "logprobs": True}),
    "completion logprobs": ("/v1/completions", {"logprobs": 2}),
    "echo": ("/v1/completions", {"echo": True, "logprobs": 1}),
    "a stop string": ("/v1/chat/completions", {"stop": [" soon"]}),
    "responses logprobs": ("/v1/responses", {"include": ["message.output_text.logprobs"]}),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("door", DOORS)
async def test_no_field_spells_what_was_held(door: str, action: str, stream: bool) -> None:
    path, params = DOORS[door]
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
    if path == "/v1/completions":
        asked = {"prompt": "Tell me of project nightjar, please." if door == "echo" else "Hi"}
    elif path == "/v1/responses":
        asked = {"input": "Hi"}
    async with moderated(action) as f:
        reply = await post(f, path, stream=stream, **asked, **params)
        assert reply.status == 200
        assert SECRET not in reply.body and b'"jar' not in reply.body and b"night" not in reply.body
