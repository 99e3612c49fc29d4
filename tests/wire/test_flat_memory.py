"""A long moderated stream costs as much memory as a short one: headgate as a process of its own, its memory as Linux tells it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from tests.kits.backend import Call, backend
from tests.kits.client import Client, connect, request
from tests.kits.process import serve
from tests.kits.stream import chunked, read_chunk

MB = 1_000_000
POLICY = """\
version: 1
usage: false
backends: {local: {url: "URL"}}
policies:
  - use: output_moderation
    rules:
      - {name: key, patterns: ['sk-[a-z0-9]{8,}'], placeholder: "[KEY]"}
      - {name: span, patterns: ['(?s)BEGIN.*END']}
      - {name: mail, patterns: ['[a-z.]{1,64}@[a-z]{1,64}\\.com']}
      - {name: words, phrases: [project bluebird, internal use only], ignore_case: true, whole_word: true}
"""
TEXTS = {
    "clean": ["some words that nobody minds, and a few numbers such as 12 or 1999"] * 9,
    "matches": ["a key is sk-abcdef0123456789 and", " more of it than before,"] * 5,
    # once begun the pattern may always still match: each character that leaves does so at the bound
    "held": ["BEGIN and it never stops"] + ["some words behind it, then others"] * 9,
}


def _event(text: str, **delta: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text, **delta}, "logprobs": None, "finish_reason": None}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def _pss(pid: int) -> int:
    """Bytes of memory that are this process's own, shared pages by their share."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


async def _grown(kind: str, total: int, tmp_path: Path) -> int:
    """Bytes by which headgate is larger at any time after a tenth of a stream of ``total`` bytes."""
    block = b"".join(_event(text) for text in TEXTS[kind]) * 30

    async def script(call: Call) -> None:
        await call.begin_sse()
        for _ in range(total // len(block)):
            await call.send(chunked(block, end=False), timeout=60)
        await call.send(chunked(b"data: [DONE]\n\n"))

    async with backend(script) as b:
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY.replace("URL", b.url))
        async with serve("--policy", str(policy), "--admin", "off", cwd=tmp_path) as gate, connect(gate.port) as client:
            await client.send(request("POST", "/v1/chat/completions", b'{"model":"m","stream":true}'))
            assert (await client.head()).status == 200
            return await _watched(client, gate.pid, total, kind)


async def _watched(client: Client, pid: int, total: int, kind: str) -> int:
    seen, first, most, keys, last = 0, 0, 0, 0, b""
    due = total // 10
    while data := (await read_chunk(client, 60))[1]:
        seen += len(data)
        keys += data.count(b"[KEY]")
        last = data
        if seen >= due:
            due += total // 20
            now = await asyncio.to_thread(_pss, pid)
            first, most = first or now, max(most, now)
    assert last.endswith(b"data: [DONE]\n\n")
    assert seen > total * 0.8
    assert (keys > 0) is (kind == "matches")
    return most - first


async def test_a_stream_of_some_megabytes(tmp_path: Path) -> None:
    assert await _grown("matches", 5 * MB, tmp_path) < 3 * MB


@pytest.mark.slow
@pytest.mark.deadline(180)
@pytest.mark.parametrize("kind", sorted(TEXTS))
async def test_a_hundred_megabytes(kind: str, tmp_path: Path) -> None:
    assert await _grown(kind, 100 * MB, tmp_path) < 3 * MB
