"""Files and audio: uploads as multipart, binary replies.

Here: reading parts with a cap, an in-memory file store, a transcription that hears prose in any bytes,
a WAV tone.
Never here: the disk.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, web

from proxy.demo import draft, fields, words
from proxy.demo.call import DONE, Call, Event, event
from proxy.demo.draft import Draft, Wish
from proxy.demo.errors import Refused
from proxy.demo.fields import Json

MAX_FILE: Final = 32 * 1024 * 1024
"""Cap on one uploaded file, in bytes."""
_MAX_FILES: Final = 100
_MAX_STORE: Final = 128 * 1024 * 1024
_MAX_FIELD: Final = 1024 * 1024
_MAX_PARTS: Final = 64
_SAMPLES: Final = 8000


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was sent."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Filed:
    """A stored file with its card."""

    card: Json
    data: bytes


async def form(call: Call) -> tuple[dict[str, str], Upload]:
    """Read a multipart body: its text fields and the part `file`.

    Raises Refused: 400 for a body that is not such a form, 413 for a part above its cap.
    """
    if not call.request.content_type.startswith("multipart/form-data"):
        raise Refused(400, "The body must be multipart/form-data.")
    texts: dict[str, str] = {}
    upload = None
    try:
        reader = await call.request.multipart()
        for _ in range(_MAX_PARTS):
            part = await reader.next()
            if part is None:
                break
            if not isinstance(part, BodyPartReader) or not part.name:
                raise Refused(400, "A part of the form has no name.")
            if part.name == "file":
                upload = Upload(part.filename or "file", await _content(part, MAX_FILE))
            else:
                texts[part.name] = (await _content(part, _MAX_FIELD)).decode("utf-8", "replace")
    except (ValueError, AssertionError):
        raise Refused(400, "The form cannot be read.") from None
    if upload is None:
        raise Refused(400, "file: Field required", param="file")
    return texts, upload


async def _content(part: BodyPartReader, most: int) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(65_536):
        data += chunk
        if len(data) > most:
            raise Refused(413, f"A part of the form is larger than {most} bytes.", param=part.name)
    return bytes(data)


# -- files -------------------------------------------------------------------------------------------


async def upload_file(call: Call) -> web.StreamResponse:
    """Store a file. The oldest ones go when the store is full."""
    texts, upload = await form(call)
    await call.gate()
    card: Json = {
        "id": f"file-{words.rng('file', call.created, call.serial).getrandbits(96):024x}",
        "object": "file",
        "bytes": len(upload.data),
        "created_at": call.created,
        "filename": upload.name,
        "purpose": texts.get("purpose", "user_data"),
        "status": "processed",
    }
    files = call.state.files
    files[card["id"]] = Filed(card, upload.data)
    while len(files) > _MAX_FILES or sum(len(f.data) for f in files.values()) > _MAX_STORE:
        files.popitem(last=False)
    return await call.json(card)


async def list_files(call: Call) -> web.StreamResponse:
    """The cards of all files, newest first."""
    await call.gate()
    cards = [f.card for f in reversed(call.state.files.values())]
    ends = {"first_id": cards[0]["id"], "last_id": cards[-1]["id"]} if cards else {}
    return await call.json({"object": "list", "data": cards, "has_more": False} | ends)


def _find(call: Call) -> Filed:
    found = call.state.files.get(call.request.match_info["id"])
    if not isinstance(found, Filed):
        raise Refused(404, "There is no file with this id.", param="file_id")
    return found


async def one_file(call: Call) -> web.StreamResponse:
    """The card of a file."""
    found = _find(call)
    await call.gate()
    return await call.json(found.card)


async def file_content(call: Call) -> web.StreamResponse:
    """The bytes of a file, as they were sent."""
    found = _find(call)
    await call.gate()
    return await call.send(found.data, "application/octet-stream")


async def delete_file(call: Call) -> web.StreamResponse:
    """Forget a file."""
    found = _find(call)
    await call.gate()
    call.state.files.pop(found.card["id"], None)
    return await call.json({"id": found.card["id"], "object": "file", "deleted": True})


# -- audio -------------------------------------------------------------------------------------------


async def transcriptions(call: Call) -> web.StreamResponse:
    """Hear prose in any bytes. response_format json, text or verbose_json; `stream=true` gives chunks."""
    texts, upload = await form(call)
    model = call.model(texts.get("model"))
    kind = texts.get("response_format", "json")
    if kind not in ("json", "text", "verbose_json"):
        raise Refused(400, "response_format must be json, text or verbose_json.", param="response_format")
    await call.gate()
    digest = hashlib.sha256(upload.data).hexdigest()
    one = draft.write(Wish(("audio", digest), call.knobs, last_user=texts.get("prompt", "")))
    if texts.get("stream", "false").lower() in ("true", "1"):
        return await call.stream(_chunks(call, model, one))
    if kind == "text":
        return await call.send(one.content.encode("utf-8", "replace"), "text/plain; charset=utf-8")
    seconds = max(1, len(upload.data) // (2 * _SAMPLES))
    if kind == "json":
        return await call.json({"text": one.content, "usage": {"type": "duration", "seconds": seconds}})
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": float(seconds), "text": one.content, "tokens": []}
    segment |= {"temperature": 0.0, "avg_logprob": -0.5, "compression_ratio": 1.2, "no_speech_prob": 0.01}
    head = {"task": "transcribe", "language": "en", "duration": float(seconds), "text": one.content}
    return await call.json(head | {"segments": [segment], "words": None})


def _chunks(call: Call, model: str, one: Draft) -> Iterator[Event]:
    base = {"id": call.id("trsc-"), "object": "transcription.chunk", "created": call.created, "model": model}
    for text in one.text:
        yield event(base | {"choices": [{"delta": {"content": text}}]})
    end = {"delta": {"content": ""}, "finish_reason": "stop", "stop_reason": None}
    yield event(base | {"choices": [end]})
    yield DONE


async def speech(call: Call) -> web.StreamResponse:
    """A tone whose length follows the text: WAV, or bare PCM samples with response_format pcm."""
    body = await call.body()
    call.model(body.get("model"))
    text = fields.string(body, "input")
    if not 0 < len(text) <= 4096:
        raise Refused(400, "input must hold 1 to 4096 characters.", param="input")
    raw = fields.string(body, "response_format", "wav") == "pcm"
    await call.gate()
    pitch = 200 + words.token_id(text) % 400
    count = min(len(text), 200) * _SAMPLES // 20
    turn = 2 * math.pi * pitch / _SAMPLES
    samples = struct.pack(f"<{count}h", *(int(8000 * math.sin(turn * i)) for i in range(count)))
    if raw:
        return await call.send(samples, "audio/pcm")
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLES)
        sound.writeframes(samples)
    return await call.send(out.getvalue(), "audio/wav")
