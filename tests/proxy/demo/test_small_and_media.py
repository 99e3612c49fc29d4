"""Embeddings, models, moderations, tokenize, files, audio, and the routes that people look at."""

from __future__ import annotations

import io
import json
import wave
from typing import Any

import openai
import pytest

from proxy.demo import backend as demo
from proxy.demo import media
from tests.proxy.demo.raw import Wire


async def test_embeddings(client: openai.AsyncOpenAI) -> None:
    async def vectors(**ask: Any) -> list[Any]:
        made = await client.embeddings.create(model="demo-embed", **ask)
        assert [item.index for item in made.data] == list(range(len(made.data)))
        return [item.embedding for item in made.data]

    (packed,) = await vectors(input="a quiet canal")  # the client asks for base64 by itself
    (plain,) = await vectors(input="a quiet canal", encoding_format="float")
    assert packed == pytest.approx(plain, abs=1e-6)
    assert sum(v * v for v in plain) == pytest.approx(1)
    near, far = await vectors(input=["the canal is quiet", "seven loud engines"], encoding_format="float")
    assert sum(a * b for a, b in zip(plain, near, strict=True)) > sum(a * b for a, b in zip(plain, far, strict=True))
    assert len((await vectors(input="x", dimensions=5))[0]) == 5
    assert len(await vectors(input=[1, 2, 3])) == 1
    assert len(await vectors(input=[[1, 2], [3]])) == 2


@pytest.mark.parametrize("bad", [None, [], {}, [{}], [[]], ["a", 1], [True], 7])
async def test_embeddings_refuse_other_inputs(wire: Wire, bad: Any) -> None:
    status, body = await wire.json("POST", "/v1/embeddings", {"model": "demo", "input": bad})
    assert (status, body["error"]["param"]) == (400, "input")


async def test_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo", "demo-reason", "demo-embed"]
    assert (await client.models.retrieve("demo/with/slashes")).id == "demo/with/slashes"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("other")


async def test_moderations(client: openai.AsyncOpenAI) -> None:
    made = await client.moderations.create(model="demo", input=["water the field", "kill the field"])
    assert [result.flagged for result in made.results] == [False, True]
    assert made.results[1].categories.violence
    parts: list[Any] = [{"type": "text", "text": "a bomb"}]
    assert (await client.moderations.create(model="demo", input=parts)).results[0].flagged


async def test_tokenize(wire: Wire) -> None:
    ask = {"model": "demo", "prompt": "A gate, and a weir.", "return_token_strs": True}
    status, body = await wire.json("POST", "/tokenize", ask)
    assert status == 200
    assert "".join(body["token_strs"]) == ask["prompt"]
    assert body["count"] == len(body["tokens"]) == len(body["token_strs"])
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert (await wire.json("POST", "/tokenize", chat))[1]["count"] == 1
    assert (await wire.json("POST", "/tokenize", {}))[0] == 400


async def test_files(client: openai.AsyncOpenAI) -> None:
    data = bytes(range(256)) * 300
    made = await client.files.create(file=("rows.bin", data), purpose="user_data")
    assert (made.filename, made.bytes, made.purpose) == ("rows.bin", len(data), "user_data")
    second = await client.files.create(file=("b.txt", b"b"), purpose="batch")
    assert [f.id async for f in client.files.list()] == [second.id, made.id]
    assert (await client.files.retrieve(made.id)).bytes == len(data)
    assert (await client.files.content(made.id)).content == data
    assert (await client.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.files.content(made.id)


async def test_file_caps(
    client: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch, running: demo.RunningBackend
) -> None:
    monkeypatch.setattr(media, "MAX_FILE", 1000)
    monkeypatch.setattr(media, "_MAX_STORE", 2500)
    with pytest.raises(openai.APIStatusError) as caught:
        await client.files.create(file=("big", b"x" * 1001), purpose="batch")
    assert caught.value.status_code == 413
    made = [await client.files.create(file=(f"{i}", b"x" * 1000), purpose="batch") for i in range(3)]
    assert list(running.state.files) == [made[1].id, made[2].id]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x\r\n",
        b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n",
        b"--y\r\n\r\n--y--",
        b"--x\r\n\r\nno name\r\n--x--\r\n",
    ],
)
async def test_broken_forms_are_refused(wire: Wire, body: bytes) -> None:
    kind = {"content_type": "multipart/form-data; boundary=x"}
    status, answer = await wire.json("POST", "/v1/files", body, **kind)
    assert status == 400, answer
    status, _ = await wire.json("POST", "/v1/files", body, content_type="multipart/form-data")
    assert status == 400
    status, _ = await wire.json("POST", "/v1/files", body, content_type="application/json")
    assert status == 400


async def test_transcriptions(client: openai.AsyncOpenAI) -> None:
    sound = ("a.wav", b"RIFF" + bytes(500))
    made = await client.audio.transcriptions.create(model="demo", file=sound)
    assert made.text.endswith(".")
    text = await client.audio.transcriptions.create(model="demo", file=sound, response_format="text")
    assert text == made.text
    long = await client.audio.transcriptions.create(model="demo", file=sound, response_format="verbose_json")
    assert long.segments is not None
    assert long.segments[0].text == made.text
    other = await client.audio.transcriptions.create(model="demo", file=("b.wav", b"other"))
    assert other.text != made.text


async def test_transcription_stream(wire: Wire) -> None:
    form = (
        b'--x\r\ncontent-disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\nabc\r\n--x--\r\n'
    )
    kind = {"content_type": "multipart/form-data; boundary=x"}
    _, _, plain = await wire.call("POST", "/v1/audio/transcriptions", form.replace(b"true", b"false"), **kind)
    _, _, data = await wire.call("POST", "/v1/audio/transcriptions", form, **kind)
    *chunks, done = [line[6:] for line in data.decode().split("\n\n") if line]
    text = "".join(json.loads(c)["choices"][0]["delta"]["content"] for c in chunks)
    assert (text, done) == (json.loads(plain)["text"], "[DONE]")


async def test_speech(client: openai.AsyncOpenAI) -> None:
    made = await client.audio.speech.create(model="demo", voice="alloy", input="Open the gate.")
    assert made.response.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(made.content)) as sound:
        assert sound.getnframes() > 1000
    raw = await client.audio.speech.create(model="demo", voice="alloy", input="Open the gate.", response_format="pcm")
    assert made.content.endswith(raw.content)


async def test_plain_routes(wire: Wire, running: demo.RunningBackend) -> None:
    assert (await wire.call("GET", "/health"))[::2] == (200, b"")
    assert (await wire.call("POST", "/ping"))[0] == 200
    assert (await wire.json("GET", "/version"))[1] == {"version": "demo-1"}
    running.state.healthy = False
    assert (await wire.call("GET", "/health"))[0] == 503
    text = (await wire.call("GET", "/metrics"))[2].decode()
    assert "# TYPE demo_requests_total counter\ndemo_requests_total 5\n" in text


async def test_stats_and_reset(wire: Wire) -> None:
    await wire.call("GET", "/health")
    await wire.call("GET", "/v1/models/demo")
    await wire.call("GET", "/nowhere/at/all")
    await wire.call("GET", "/nowhere/else")
    assert (await wire.json("GET", "/demo/stats"))[1] == {
        "requests": 4,
        "in_flight": 0,
        "cancelled": 0,
        "by_route": {"GET /health": 1, "GET /v1/models/{id}": 1, "other": 2},
    }
    await wire.call("POST", "/demo/reset")
    assert (await wire.json("GET", "/demo/stats"))[1]["requests"] == 0
