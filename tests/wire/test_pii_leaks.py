"""Values of clients are nowhere but in their own replies: not in logs, metrics, admin pages, errors or other conversations,
whatever goes wrong."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy import admin
from tests.kits.backend import Call, backend
from tests.kits.client import Broken, connect, fetch, request
from tests.kits.gate import gate
from tests.kits.process import serve
from tests.kits.stream import chunked, read_chunk

ANN, CARD = "ann.planted@corp-mail.org", "4111 1111 1111 1111"
SECRET = "sk-proj-" + "Zq9" * 16
PLANTED = [ANN, CARD, SECRET, "ann.planted", "Zq9Zq9", "4111 1111", "41111111"]
TEXT = f"Mail {ANN}, card {CARD}, key {SECRET}."
JSON = [(b"Content-Type", b"application/json")]
SSE = [(b"Content-Type", b"text/event-stream")]
POLICY = """
policies:
  - {name: late, use: pii_redaction, entities: [email, credit_card], timeout: 1ms, when: {models: [late]}}
  - {name: open, use: pii_redaction, entities: [email, credit_card], action: block, when: {models: [blocked]}}
  - {name: pii, use: pii_redaction, entities: [contact, payment, secrets], when: {models: ["*"]}}
  - {name: said, use: output_moderation, rules: [{name: bad, phrases: [never say], action: block}]}
"""


def ask(model: str, text: str = TEXT, **more: Any) -> bytes:
    doc = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return request("POST", "/v1/chat/completions", json.dumps(doc).encode(), JSON)


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


async def faulty(call: Call) -> None:
    """Does what the model's name says; whatever it got, it says again."""
    doc = json.loads(call.body)
    text = doc["messages"][-1]["content"]
    match doc["model"]:
        case "500":
            await call.reply(json.dumps({"error": {"message": text}}).encode(), 500, JSON)
        case "html":
            await call.reply(f"<h1>{text}</h1>".encode(), 502, [(b"Content-Type", b"text/html")])
        case "broken json":
            await call.reply(json.dumps({"choices": [{"message": {"content": text}}]}).encode()[:-4], fields=JSON)
        case "odd json":
            await call.reply(json.dumps({"choices": text}).encode(), fields=JSON)
        case "odd event":
            await call.sse([chunk(text[:30]), b"data: {" + text.encode() + b"\n\n", b"data: [DONE]\n\n"])
        case "cut":
            await call.begin_sse()
            await call.chunk(chunk(text[:30]))
            call.reset()
        case "half an event":
            await call.begin_sse()
            await call.chunk(chunk(text)[:-20])
            await call.end_chunked()
        case "no reply":
            call.reset()
        case "bad head":
            await call.send(b"HTTP/1.1 2OO " + text.encode() + b"\r\n\r\n")
            call.close()
        case "gzip":
            await call.reply(b"\x1f\x8b" + text.encode(), fields=[*JSON, (b"Content-Encoding", b"gzip")])
        case "moderated":
            await call.sse([chunk(text[:9]), chunk(f" never say {text}", "stop"), b"data: [DONE]\n\n"])
        case _:
            await call.sse([chunk(text, "stop"), b"data: [DONE]\n\n"])


STREAMED = ["odd event", "cut", "half an event", "moderated", "stream"]
WHOLE = ["500", "html", "broken json", "odd json", "no reply", "bad head", "gzip", "blocked"]
#: Requests that fail before a backend sees them.
REFUSED = {
    "not JSON": request("POST", "/v1/chat/completions", b'{"messages": [' + TEXT.encode(), JSON),
    "not UTF-8": request("POST", "/v1/chat/completions", TEXT.encode() + b"\xff", JSON),
    "not readable": request("POST", "/v1/files", TEXT.encode(), [(b"Content-Type", b"text/plain")]),
    "a broken form": request("POST", "/v1/audio/translations", TEXT.encode(),
                             [(b"Content-Type", b"multipart/form-data; boundary=x")]),
    "another charset": request("POST", "/v1/chat/completions", TEXT.encode(),
                               [(b"Content-Type", b"application/json; charset=utf-16")]),
    "a bad head": b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + TEXT.encode() + b"\r\n\r\n",
    "too large": ask("m", TEXT + "x" * 200_000),
    "a bad chunk": request("POST", "/v1/chat/completions", None, [*JSON, (b"Transfer-Encoding", b"chunked")])
                   + TEXT.encode() + b"\r\n",
}  # fmt: skip


def clean(where: str, text: str | bytes) -> None:
    shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
    for value in PLANTED:
        assert value.lower() not in shown.lower(), (where, value)


async def raw(port: int, data: bytes) -> bytes:
    """Head, NUL and body; of a reply that breaks off as much as is known."""
    head = b""
    async with connect(port) as client:
        try:
            await client.send(data)
            reply = await client.head()
            head = reply.line + b"".join(n + v for n, v in reply.fields) + b"\0"
            pieces = []
            if reply.chunked:
                while piece := (await read_chunk(client))[1]:
                    pieces.append(piece)
            else:
                pieces.append(await client.exactly(int(reply.value(b"content-length") or 0)))
            return head + b"".join(pieces)
        except (Broken, ConnectionError):
            return head


async def test_a_process_whose_backend_does_everything_wrong(tmp_path: Path) -> None:
    """Logs, metrics and every admin page of a real headgate, and the errors that it makes itself."""
    async with backend(faulty) as b:
        file = tmp_path / "policy.yaml"
        file.write_text(f"version: 1\nlimits: {{inspected_body: 100KB}}\nbackends: {{b: {{url: '{b.url}'}}}}\n{POLICY}")
        async with serve("--policy", str(file), "--log", "json") as p:
            for model in WHOLE:
                reply = await raw(p.port, ask(model))
                assert reply, model
                clean(model, reply)
            for model in STREAMED:
                head, _, body = (await raw(p.port, ask(model, stream=True))).partition(b"\0")
                clean(model, head)
                if model in ("stream", "moderated"):
                    assert ANN.encode() in body or model == "moderated", "the client's own"
            large = f"{TEXT} " * 700
            reply = await raw(p.port, ask("late", large))
            assert reply.split(b" ")[1] == b"500", "the policy ran out of time"
            clean("late", reply)
            for name, data in REFUSED.items():
                clean(name, await raw(p.port, data))
            count = len(WHOLE) + len(STREAMED) + 1 + len(REFUSED) - 1  # a head that cannot be read is no request
            await p.event("request", count)
            pages = [*admin.PATHS, *admin.ALIASES]
            for path in pages:
                page = await fetch(p.admin, request("GET", path))
                clean(path, page.body)
            assert any("findings" in line for line in p.stdout)
            assert await p.stop() == 0
            clean("its output", p.text)
        for call in b.calls:
            clean("what the backend got", call.raw_head + call.body)
        assert len(b.calls) >= len(WHOLE) + len(STREAMED) - 1


@pytest.mark.parametrize("phase", ["inspect", "rewrite", "guard", "put back", "settle"])
@pytest.mark.parametrize("on_error", ["open", "closed"])
async def test_an_exception_that_quotes_a_value(
    phase: str,
    on_error: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A bug in the policy itself, whose message is a client's text."""

    def broken(*_: Any, **__: Any) -> Any:
        raise KeyError(f"bug at {TEXT}")

    async def broken_later(*_: Any) -> None:
        broken()

    target = {"inspect": "policies.pii_redaction.PiiRedaction._look", "rewrite": "policies.pii_redaction.rewrite",
              "guard": "policies.pii_redaction.PiiRedaction.guard", "put back": "policies.pii.vault.Vault.value",
              "settle": "policies.pii_redaction.PiiRedaction.settle"}[phase]  # fmt: skip
    monkeypatch.setattr(target, broken_later if phase == "settle" else broken)
    policy = f"policies: [{{use: pii_redaction, entities: [contact, payment, secrets], on_error: {on_error}}}]"
    async with backend(faulty) as b, gate(b.url, policy) as g:
        got = await raw(g.port, ask("stream", stream=True))
        await g.settled()
        head, _, body = got.partition(b"\0")
        clean("head", head)
        if on_error == "closed" and phase in ("inspect", "rewrite"):
            clean("error", body)
            assert b"500" in head.split(b"\r\n")[0] and not b.calls
        clean("log", json.dumps(await g.log_lines()))
        clean("metrics", g.metrics.exposition()[0])
        clean("findings", repr([x.findings for x in g.exchanges]))
    shown = capfd.readouterr()
    clean("stderr", shown.out + shown.err)
    clean("logging", caplog.text)


async def test_an_exception_of_a_bug_in_headgate(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError(f"bug at {TEXT}")

    monkeypatch.setattr("proxy.reading.jsonio.encode", broken)
    policy = "policies: [{use: pii_redaction, entities: [email]}]"

    async def shown_to_client() -> None:
        async with backend(faulty) as b, gate(b.url, policy) as g:
            reply = await fetch(g.port, ask("m"))
            assert reply.status == 500 and not b.calls
            clean("error", reply.body)
            await g.settled()
            clean("log", json.dumps(await g.log_lines()))

    with pytest.raises(AssertionError, match="KeyError") as caught:  # the kit looks for bugs in the log
        await shown_to_client()
    clean("the kit", str(caught.value))
    shown = capfd.readouterr()
    clean("stderr", shown.out + shown.err)


# -- conversations beside each other


@pytest.mark.parametrize("numbering", ["request", "keyed"])
async def test_two_hundred_conversations_at_once_never_mix(numbering: str) -> None:
    """All have an ``[EMAIL_1]``; every reply waits until all requests are there, and comes in pieces that alternate."""
    many, there, go = 200, 0, asyncio.Event()

    async def script(call: Call) -> None:
        nonlocal there
        text = json.loads(call.body)["messages"][0]["content"]
        assert "person" not in text
        there += 1
        if there == many:
            go.set()
        await go.wait()
        await call.begin_sse()
        for at in range(0, len(text), 5):
            await call.chunk(chunk(text[at : at + 5]))
            await asyncio.sleep(0)
        await call.send(chunked(chunk("", "stop"), b"data: [DONE]\n\n"))

    policy = f"policies: [{{use: pii_redaction, entities: [email], numbering: {numbering}, key: {'k' * 20}}}]"

    async def one(port: int, n: int) -> None:
        text = f"I am person.{n}@corp-mail.org, she is person.{n + 1}@corp-mail.org; again person.{n}@corp-mail.org."
        reply = await fetch(port, ask("m", text, stream=True), timeout=30)
        events = [json.loads(line[6:]) for line in reply.body.splitlines() if line.startswith(b"data: {")]
        assert "".join(c["delta"]["content"] for e in events for c in e["choices"]) == text

    async with backend(script) as b, gate(b.url, policy) as g:
        await asyncio.gather(*(one(g.port, n) for n in range(many)))
        await g.settled(many)
        sent = [json.loads(call.body)["messages"][0]["content"] for call in b.calls]
        assert len(set(sent)) == (1 if numbering == "request" else many)
        assert not [x for x in g.exchanges if x.notes]


# -- pieces of the network


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_an_event_a_character_and_a_placeholder_split_over_network_pieces(size: int) -> None:
    """Restoring failed where any of the three was cut."""
    idn = "jürgen@bücher-mail.de"
    said = "Grüße 🙂 an [EMAIL_1], 【EMAIL_1】 und [EMAIL_1]!"
    data = b"".join([chunk(said[:14]), chunk(said[14:17]), chunk(said[17:], "stop"), b"data: [DONE]\r\n\r\n"])
    data = data.decode("unicode_escape").encode("utf-16", "surrogatepass").decode("utf-16").encode()  # characters, not escapes

    async def script(call: Call) -> None:
        assert idn not in call.body.decode()
        await call.begin_sse()
        await call.chunk(*(data[n : n + size] for n in range(0, len(data), size)))
        await call.end_chunked()

    async with backend(script) as b, gate(b.url, "policies: [{use: pii_redaction, entities: [email]}]") as g:
        reply = await fetch(g.port, ask("m", f"an {idn}", stream=True))
        events = [json.loads(line[6:]) for line in reply.body.splitlines() if line.startswith(b"data: {")]
        shown = "".join(c["delta"]["content"] for e in events for c in e["choices"])
        assert shown == f"Grüße 🙂 an {idn}, {idn} und {idn}!"


async def test_a_stream_is_not_collapsed_and_its_first_text_is_not_late() -> None:
    """Restoring turned streams into one chunk, and the first token came with the last: here the backend goes on only when
    the client has what was said so far."""
    seen: asyncio.Queue[None] = asyncio.Queue()
    said = ["Dear ", "Ann, ", "I wrote to ", "[EMA", "IL_1]", " today ", "again.\n"]

    async def script(call: Call) -> None:
        await call.begin_sse()
        for piece in said:
            await call.chunk(chunk(piece))
            if not piece.startswith("[EMA"):
                await asyncio.wait_for(seen.get(), 10)
        await call.send(chunked(chunk("", "stop"), b"data: [DONE]\n\n"))

    policy = "policies: [{use: pii_redaction, entities: [email]}]"
    async with backend(script) as b, gate(b.url, policy) as g, connect(g.port) as client:
        await client.send(ask("m", f"write to {ANN}", stream=True))
        await client.head()
        text, want = "", ["Dear ", "Dear Ann, ", "Dear Ann, I wrote to ", f"Dear Ann, I wrote to {ANN}"]
        want += [want[-1] + " today ", want[-1] + " today again.\n"]
        data = b""
        for target in want:
            while len(text) < len(target.rstrip()):
                data += await client.some()
                lines = [line for line in data.split(b"\n") if line.startswith(b"data: {") and line.endswith(b"}")]
                text = "".join(json.loads(line[6:])["choices"][0]["delta"]["content"] for line in lines)
            assert text.rstrip() == target.rstrip()
            seen.put_nowait(None)
