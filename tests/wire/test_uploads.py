"""Forms on the wire: what policies see of uploads, what is sent instead, and what is refused unread."""

from __future__ import annotations

import json
import os
import tracemalloc
from typing import Any

import openai
import pytest

from policies.contract import Kind
from tests.kits.backend import Call, backend
from tests.kits.client import fetch, request
from tests.kits.fronts import KEY
from tests.kits.gate import Gate, gate
from tests.kits.stream import chunked

ANN = "ann.lee@corp-mail.org"
PII = "policies: [{use: pii_redaction, entities: [email]}]"
TYPE = b"multipart/form-data; boundary=b0undary"
WAV = b"RIFF\x00\x01\r\n\r\n\xff\xfe--b0undar\r\n--b0undary"[:-1] + bytes(range(256))
PROMPT = f"With {ANN} and Grüße"


def form(*fields: tuple[str, str], wav: bytes = WAV, name: str = "a.wav") -> bytes:
    """A form with a preamble, an epilogue and its file in the middle."""
    parts = [f'Content-Disposition: form-data; name="{n}"\r\n\r\n{text}'.encode() for n, text in fields]
    file = f'Content-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: audio/wav\r\n\r\n'.encode() + wav
    parts.insert(len(parts) // 2, file)
    return b"pre\r\n" + b"".join(b"--b0undary\r\n%b\r\n" % p for p in parts) + b"--b0undary--\r\npost"


def post(body: bytes, path: str = "/v1/audio/transcriptions", kind: bytes = TYPE, *more: tuple[bytes, bytes]) -> bytes:
    return request("POST", path, body, [(b"Content-Type", kind), *more])


async def answer(call: Call) -> None:
    await call.reply(b'{"text":"I heard [EMAIL_1]."}', fields=[(b"Content-Type", b"application/json")])


async def reply_of(policy: str, raw: bytes, **more: Any) -> tuple[Any, list[Call], Gate]:
    async with backend(answer) as b, gate(b.url, policy, **more) as g:
        reply = await fetch(g.port, raw)
        await g.settled()
        return reply, b.calls, g


@pytest.mark.parametrize(
    "path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/openai/deployments/w/audio/transcriptions?api-version=1"]
)
async def test_the_prompt_is_rewritten_and_nothing_else(path: str) -> None:
    body = form(("model", "w"), ("prompt", PROMPT), ("temperature", "0.20"), ("hotwords", ANN))
    reply, (call,), g = await reply_of(PII, post(body, path))
    assert call.body == body.replace(ANN.encode(), b"[EMAIL_1]")
    assert call.value(b"content-length") == b"%d" % len(call.body) and call.value(b"content-type") == TYPE
    assert json.loads(reply.body) == {"text": f"I heard {ANN}."}
    (x,) = g.exchanges
    assert x.scanned_request == "partly: file: file" and x.model_asked == "w"
    assert {(f.where, f.action) for f in x.findings} >= {("prompt", "pseudonymize"), ("hotwords", "pseudonymize")}


@pytest.mark.parametrize("framing", ["length", "chunked", "byte by byte"])
async def test_a_form_without_a_match_passes_byte_for_byte(framing: str) -> None:
    body = form(("prompt", "Hello."), ("x-new", "see --b0undary here"), ("temperature", "0.20"))
    raw = post(body)
    if framing != "length":
        head = request("POST", "/v1/audio/transcriptions", None, [(b"Content-Type", TYPE), (b"Transfer-Encoding", b"chunked")])
        size = 7 if framing == "chunked" else 1
        raw = head + chunked(*(body[n : n + size] for n in range(0, len(body), size)))
    _, (call,), g = await reply_of(PII, raw)
    assert call.body == body and g.exchanges[0].scanned_request == "partly: file: file"


async def test_every_text_field_and_the_name_of_the_file_is_read() -> None:
    fields = [("new_field", ANN), ("user", ANN), ("known_speaker_names[]", ANN), ("known_speaker_names[]", "Bo"), ("card", "1")]
    body = form(*fields, name=f"{ANN} calls.wav")
    _, (call,), g = await reply_of(PII, post(body))
    shown = body.replace(ANN.encode(), b"[EMAIL_1]").replace(b'"user"\r\n\r\n[EMAIL_1]', f'"user"\r\n\r\n{ANN}'.encode())
    assert call.body == shown, "user is for the backend's operator; the role `metadata` has it looked at"
    assert {f.where for f in g.exchanges[0].findings if f.action == "pseudonymize"} == {
        "*", "known_speaker_names[][0]", "file.filename",
    }  # fmt: skip


async def test_numbers_in_text_fields_are_text() -> None:
    policy = "policies: [{use: pii_redaction, entities: [credit_card]}]"
    _, (call,), _ = await reply_of(policy, post(form(("prompt", "4111111111111111"), ("seed", "4111111111111111"))))
    assert call.body == form(("prompt", "[CARD_1]"), ("seed", "4111111111111111"))


async def test_pictures() -> None:
    body = form(("prompt", f"Draw {ANN}"), ("n", "1"))
    async with backend(answer) as b, gate(b.url, PII) as g:
        await fetch(g.port, post(body, "/v1/images/edits"))
        await fetch(g.port, post(form(("n", "1")), "/v1/images/variations"))
        doc = {"prompt": f"Draw {ANN}", "images": [{"image_url": "data:image/png;base64,AA"}, {"file_id": "f"}], "n": 1}
        await fetch(g.port, post(json.dumps(doc).encode(), "/v1/images/edits", b"application/json"))
        await g.settled(3)
        assert b.calls[0].body == body.replace(ANN.encode(), b"[EMAIL_1]")
        assert b.calls[1].body == form(("n", "1"))
        assert json.loads(b.calls[2].body) == doc | {"prompt": "Draw [EMAIL_1]"}
        assert g.exchanges[2].scanned_request == "partly: images[0]: image_url, images[1]: file_id"


# -- what cannot be read

HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "no last boundary": (form(("prompt", ANN))[:-18], TYPE),
    "a hidden part behind the end": (form() + b'\r\n--b0undary\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx', TYPE),
    "two boundaries": (form(), TYPE + b"; boundary=other"),
    "base64": (form().replace(b"audio/wav\r\n", b"audio/wav\r\nContent-Transfer-Encoding: base64\r\n"), TYPE),
    "LF lines": (form(("prompt", ANN)).replace(b"\r\n", b"\n"), TYPE),
    "another multipart": (form(), b"multipart/mixed; boundary=b0undary"),
    "URL-encoded": (b"prompt=x", b"application/x-www-form-urlencoded"),
    "text": (b"prompt", b"text/plain"),
    "empty": (b"", TYPE),
}


@pytest.mark.parametrize(("body", "kind"), HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("policy", [PII, "policies: [{use: request_guard, models: [w]}]"], ids=["pii", "guard"])
async def test_a_form_that_cannot_be_read_is_refused(body: bytes, kind: bytes, policy: str) -> None:
    framed = post(body, "/v1/audio/transcriptions", kind)
    if not body:  # announced, and not there
        head = request("POST", "/v1/audio/transcriptions", None, [(b"Content-Type", kind), (b"Transfer-Encoding", b"chunked")])
        framed = head + chunked()
    reply, calls, g = await reply_of(policy, framed)
    assert (reply.status, g.exchanges[0].fault, calls) == (403, Kind.UNSCANNABLE, [])
    assert ANN.encode() not in reply.body


@pytest.mark.parametrize(("body", "kind"), [h for h in HOSTILE.values() if h[0]], ids=[k for k in HOSTILE if k != "empty"])
async def test_unless_the_file_says_that_it_may_pass(body: bytes, kind: bytes) -> None:
    reply, (call,), g = await reply_of(PII, post(body, "/v1/audio/transcriptions", kind), unscanned="allow")
    assert reply.status == 200 and call.body == body and g.exchanges[0].scanned_request == "no: not a form"


async def test_shadow_mode_refuses_no_form() -> None:
    for shadow in (PII, "policies: [{use: request_guard, models: [w]}]"):
        body, kind = HOSTILE["no last boundary"]
        policy = shadow.replace("}]", ", mode: shadow}]")
        reply, (call,), g = await reply_of(policy, post(body, "/v1/audio/transcriptions", kind))
        assert reply.status == 200 and call.body == body and g.exchanges[0].scanned_request == "no: not a form"


async def test_two_content_types_and_an_encoded_form_are_refused() -> None:
    for more in ((b"Content-Type", TYPE), (b"Content-Encoding", b"gzip")):
        reply, calls, _ = await reply_of(PII, post(form(("prompt", "x")), "/v1/audio/transcriptions", TYPE, more))
        assert reply.status == 403 and not calls


async def test_files_can_be_refused_because_nobody_can_read_them() -> None:
    policy = "policies: [{use: pii_redaction, entities: [email], unscanned: deny}]"
    reply, calls, g = await reply_of(policy, post(form(("prompt", "hi"))))
    assert reply.status == 403 and not calls
    assert ("unscanned", "block") in [(f.kind, f.action) for f in g.exchanges[0].findings]
    only_text = b'--b0undary\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nx\r\n--b0undary--\r\n'
    reply, calls, _ = await reply_of(policy, post(only_text, "/v1/images/edits"))
    assert reply.status == 200 and calls


async def test_batch_files_are_not_read() -> None:
    reply, calls, _ = await reply_of(PII, post(form(("purpose", "batch")), "/v1/files"))
    assert reply.status == 403 and not calls
    reply, (call,), _ = await reply_of(PII, post(form(("purpose", ANN)), "/v1/files"), unscanned="allow")
    assert call.body == form(("purpose", ANN))


# -- other policies


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ("models: [w]", 200, None), ("models: [other]", 403, "model"), ("ranges: {temperature: {max: 1}}", 200, None),
        ("ranges: {temperature: {max: 0.1}}", 400, "temperature"), ("ranges: {file.size: {max: 100}}", 400, "file.size"),
        ("params: {deny: [hotwords]}", 200, None), ("params: {deny: [prompt]}", 403, "prompt"),
        ("params: {allow: [model, prompt, temperature]}", 403, "file"), ("required: [language]", 400, "language"),
        ("params: {allow: [model, prompt, temperature, file]}", 200, None), ("max_text: 5", 400, "prompt"),
        ("control_characters: refuse", 200, None), ("max_body: 100B", 413, None), ("max_text: 100", 200, None),
    ],
)  # fmt: skip
async def test_request_guard_sees_fields(options: str, status: int, param: str | None) -> None:
    body = form(("model", "w"), ("prompt", "Hello there"), ("temperature", "0.2"))
    reply, calls, _ = await reply_of(f"policies: [{{use: request_guard, {options}}}]", post(body))
    assert reply.status == status and [c.body for c in calls] == [body] * (status == 200)
    if status != 200:
        assert json.loads(reply.body)["error"]["param"] == param


async def test_a_model_is_mapped_in_its_field() -> None:
    body = form(("model", "w"), ("prompt", ANN), ("language", "en"))
    async with backend(answer) as b:
        backends = {"one": {"url": b.url, "models": {"w": "whisper-large"}}}
        async with gate(backends, PII) as g:
            await fetch(g.port, post(body))
            assert b.calls[0].body == body.replace(ANN.encode(), b"[EMAIL_1]").replace(b"\r\nw\r\n", b"\r\nwhisper-large\r\n")
            assert b.calls[0].value(b"content-length") == b"%d" % len(b.calls[0].body)


async def test_a_condition_on_the_model_reads_the_form() -> None:
    policy = "policies: [{use: pii_redaction, entities: [email], when: {models: [w]}}]"
    for model, shown in (("w", "[EMAIL_1]"), ("v", ANN)):
        _, (call,), _ = await reply_of(policy, post(form(("model", model), ("prompt", ANN))))
        assert call.body == form(("model", model), ("prompt", shown))


async def test_shadow_mode_changes_no_form() -> None:
    policy = "policies: [{use: pii_redaction, entities: [email], mode: shadow}]"
    body = form(("prompt", ANN))
    _, (call,), g = await reply_of(policy, post(body))
    assert call.body == body and ("email", "pseudonymize") in {(f.kind, f.action) for f in g.exchanges[0].findings}


# -- sizes


async def test_limits_of_reading() -> None:
    big = form(("prompt", "x"), wav=bytes(20_000))
    reply, calls, _ = await reply_of(PII, post(big), limits={"inspected_body": "10KB"})
    assert reply.status == 413 and not calls
    moderated = "policies: [{use: output_moderation, rules: [{name: a, phrases: [xyz], action: block}]}]"
    for policy in ("{}", moderated):  # nobody wants the request's text: it streams through
        reply, (call,), _ = await reply_of(policy, post(big), limits={"inspected_body": "10KB"})
        assert reply.status == 200 and call.body == big


@pytest.mark.parametrize("prompt", ["nothing to see", ANN])
async def test_a_large_upload_is_held_no_more_than_it_must(prompt: str) -> None:
    """12 MB of sound: held once while it is read, and, where a field changed, once as it is sent."""
    size = 12_000_000
    body = form(("prompt", prompt), wav=os.urandom(4096) * (size // 4096))
    raw = post(body)

    async def drained(call: Call) -> None:
        seen = await call.drain_body()
        await call.reply(b'{"text":"%d"}' % seen, fields=[(b"Content-Type", b"application/json")])

    async with backend(drained, read_body=False) as b, gate(b.url, PII, limits={"inspected_body": "20MB"}) as g:
        tracemalloc.start(1)
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            reply = await fetch(g.port, raw)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert json.loads(reply.body)["text"] == str(len(body) + (0 if prompt != ANN else len("[EMAIL_1]") - len(ANN)))
        assert peak < 3.6 * size, peak / size


# -- the official client


async def test_the_official_client() -> None:
    async def script(call: Call) -> None:
        assert ANN.encode() not in call.body
        if b"images" in call.target:
            await call.reply(b'{"created":1,"data":[{"b64_json":"","revised_prompt":"for [EMAIL_1]"}]}',
                             fields=[(b"Content-Type", b"application/json")])  # fmt: skip
        elif b'"stream"\r\n\r\ntrue' in call.body:
            deltas = ["I heard [EM", "AIL_1", "]."]
            events = [{"type": "transcript.text.delta", "delta": d} for d in deltas]
            done = {"type": "transcript.text.done", "text": "".join(deltas)}
            await call.sse([b"data: " + json.dumps(e).encode() + b"\n\n" for e in [*events, done]])
        else:
            await answer(call)

    async with (
        backend(script) as b,
        gate(b.url, PII) as g,
        openai.AsyncOpenAI(base_url=f"{g.url}/v1", api_key=KEY, max_retries=0) as c,
    ):
        sound = (f"{ANN} calls.wav", WAV)
        made = await c.audio.transcriptions.create(model="w", file=sound, prompt=PROMPT, timestamp_granularities=["word"])
        assert made.text == f"I heard {ANN}."
        stream = await c.audio.transcriptions.create(model="w", file=sound, prompt=PROMPT, stream=True)
        events: list[Any] = [e async for e in stream]
        assert "".join(e.delta for e in events[:-1]) == events[-1].text == f"I heard {ANN}."
        drawn = await c.images.edit(model="w", image=[("a.png", WAV), ("b.png", WAV)], prompt=PROMPT)
        assert drawn.data is not None and drawn.data[0].revised_prompt == f"for {ANN}"
        assert b.calls[2].body.count(WAV) == 2
        await g.settled(3)
        assert {x.scanned_request for x in g.exchanges} == {"partly: file: file", "partly: image[][0]: file, image[][1]: file"}
