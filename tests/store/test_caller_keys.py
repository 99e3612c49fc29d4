"""API keys in a real Redis: put there and taken out by the command line, looked up by headgate, also while it is away."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import pytest

from proxy.__main__ import main
from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.gate import Gate, gate
from tests.kits.store_kit import RedisServer

pytestmark = [pytest.mark.wire, pytest.mark.deadline(60)]


async def ok(call: Call) -> None:
    await call.reply(b"ok")


async def ask(g: Gate, key: str) -> tuple[int, bytes]:
    bearer = (b"Authorization", b"Bearer " + key.encode())
    reply = await fetch(g.port, request("GET", "/v1/models", fields=[bearer]))
    return reply.status, reply.body


async def test_keys_come_and_go_without_a_reload(
    own_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"store": own_server.url, "callers": {"keys_in_store": True}, "backends": {"local": {"url": "http://127.0.0.1:9"}}}
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(text))

    def command(*args: str) -> tuple[int, str, str]:
        code = main(["keys", *args])
        return code, *capsys.readouterr()

    code, key, shown = await asyncio.to_thread(command, "new", "alice", "--tenant", "acme", "--into", str(file))
    key = key.strip()
    assert code == 0 and key.startswith("hg-") and key not in shown
    async with backend(ok) as b, gate(b.url, json.dumps({k: v for k, v in text.items() if k != "backends"})) as g:
        assert (await ask(g, key))[0] == 200
        assert (g.exchanges[-1].caller, g.exchanges[-1].tenant) == ("alice", "acme")
        assert (await ask(g, "unknown"))[0] == 401

        own_server.kill()
        g.clock.offset += 6.0  # beyond what is remembered without asking
        assert (await ask(g, key))[0] == 200, "a key that was known goes on counting"
        status, body = await ask(g, "never seen")
        assert status == 503 and b"cannot be checked now" in body, "nobody is told that a good key is bad"
        g.clock.offset += 400.0
        assert (await ask(g, key))[0] == 503, "but not for ever"


async def test_a_revoked_key_is_refused(
    own_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = {"store": own_server.url, "callers": {"keys_in_store": True}}
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({**text, "backends": {"local": {"url": "http://127.0.0.1:9"}}}))
    assert await asyncio.to_thread(main, ["keys", "new", "bob", "--into", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    async with backend(ok) as b, gate(b.url, json.dumps(text)) as g:
        assert (await ask(g, key))[0] == 200
        monkeypatch.setattr("sys.stdin", io.StringIO(key + "\n"))
        assert await asyncio.to_thread(main, ["keys", "revoke", "--policy", str(file)]) == 0
        g.clock.offset += 5.0
        assert (await ask(g, key))[0] == 401


def test_a_store_that_cannot_hold_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps({"backends": {"local": {"url": "http://127.0.0.1:9"}}}))
    assert main(["keys", "new", "alice", "--into", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "dies with its process" in err
    file.write_text(json.dumps({"backends": {"local": {"url": "http://127.0.0.1:9"}}, "store": "redis://127.0.0.1:9/0"}))
    assert main(["keys", "new", "alice", "--into", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "the store is away" in err, "a key whose row is nowhere is not shown"
