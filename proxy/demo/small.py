"""The small routes: embeddings, models, moderations, tokenize, health, metrics, and the demo's statistics.

Never here: sockets, chat-like replies, uploads.
"""

from __future__ import annotations

import base64
import struct
from typing import Any, Final

from aiohttp import web

from proxy.demo import fields, words
from proxy.demo.call import Call, Stats
from proxy.demo.errors import Refused
from proxy.demo.fields import Json

MODELS: Final = ("demo", "demo-reason", "demo-embed")
VERSION: Final = "demo-1"
_MAX_INPUTS: Final = 2048
_CONTEXT: Final = 32_768
_DIMENSIONS: Final = 64
_CATEGORIES: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent",
    "self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors",
    "violence", "violence/graphic",
)  # fmt: skip
_VIOLENT: Final = frozenset({"attack", "bomb", "kill", "murder", "shoot", "weapon"})


def _inputs(body: Json) -> list[str]:
    """The texts of `input`: a string, strings, token ids or lists of those. Raises Refused(400)."""
    value = body.get("input")
    many = value if isinstance(value, list) else [value]
    if isinstance(value, list) and value and all(type(item) is int for item in value):
        many = [value]
    found = [item if isinstance(item, str) else _spelled(item) for item in many]
    if not 0 < len(found) <= _MAX_INPUTS:
        raise Refused(400, f"input must hold 1 to {_MAX_INPUTS} items.", param="input")
    return found


def _spelled(item: Any) -> str:
    if isinstance(item, list) and item and all(type(i) is int for i in item):
        return " ".join(map(str, item))
    raise Refused(400, "input must be a string, token ids, or a list of those.", param="input")


async def embeddings(call: Call) -> web.StreamResponse:
    """Answer one embeddings request; floats, or float32 little-endian in base64."""
    body = await call.body()
    model = call.model(body.get("model"), "demo-embed")
    texts = _inputs(body)
    dimensions = fields.integer(body, "dimensions", _DIMENSIONS, 1, 4096)
    form = fields.string(body, "encoding_format", "float")
    if form not in ("float", "base64"):
        raise Refused(400, "encoding_format must be float or base64.", param="encoding_format")
    if len(texts) * dimensions > 1_000_000:
        raise Refused(400, "input and dimensions ask for too many numbers.", param="input")
    await call.gate()
    data = []
    most = max(500, 500_000 // len(texts))
    for index, text in enumerate(texts):
        vector = words.vector(text, dimensions, most)
        packed = struct.pack(f"<{dimensions}f", *vector)
        shown = base64.b64encode(packed).decode() if form == "base64" else vector
        data.append({"index": index, "object": "embedding", "embedding": shown})
    tokens = sum(map(words.count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    head = {"id": call.id("embd-"), "object": "list", "created": call.created, "model": model}
    return await call.json(head | {"data": data, "usage": usage})


def _card(name: str, created: int) -> Json:
    head = {"id": name, "object": "model", "created": created, "owned_by": "headgate-demo"}
    return head | {"root": name, "parent": None, "max_model_len": _CONTEXT}


async def models(call: Call) -> web.StreamResponse:
    """The list of models."""
    await call.gate()
    return await call.json({"object": "list", "data": [_card(name, call.created) for name in MODELS]})


async def one_model(call: Call) -> web.StreamResponse:
    """One model by its id, which may hold slashes."""
    name = call.model(call.request.match_info["id"])
    await call.gate()
    return await call.json(_card(name, call.created))


async def moderations(call: Call) -> web.StreamResponse:
    """Flag texts by a list of six words: enough to see both answers."""
    body = await call.body()
    model = call.model(body.get("model"))
    value = body.get("input")
    parts = value if isinstance(value, list) and any(isinstance(p, dict) for p in value) else None
    texts = [fields.text_of(parts)] if parts is not None else _inputs(body)
    await call.gate()
    results = []
    for text in texts:
        violent = not _VIOLENT.isdisjoint(text.lower().split())
        hit = {name: violent and name == "violence" for name in _CATEGORIES}
        scores = {name: 0.97 if bad else 0.001 for name, bad in hit.items()}
        kinds: Json = {name: ["text"] for name in _CATEGORIES}
        result = {"flagged": violent, "categories": hit, "category_scores": scores}
        results.append(result | {"category_applied_input_types": kinds})
    return await call.json({"id": call.id("modr-"), "model": model, "results": results})


async def tokenize(call: Call) -> web.StreamResponse:
    """The demo's token ids of a prompt or of chat messages."""
    body = await call.body()
    call.model(body.get("model"))
    if body.get("messages") is not None:
        text = "\n".join(text for _, text in fields.said(fields.objects(body, "messages", required=True)))
    elif isinstance(body.get("prompt"), str):
        text = body["prompt"]
    else:
        raise Refused(400, "prompt or messages is required.", param="prompt")
    if len(text) > 1_000_000:
        raise Refused(400, "The text is too long for the demo backend.", param="prompt")
    await call.gate()
    pieces = words.pieces(text)
    shown = pieces if fields.flag(body, "return_token_strs") else None
    tokens = [words.token_id(piece) for piece in pieces]
    return await call.json({"count": len(tokens), "max_model_len": _CONTEXT, "tokens": tokens, "token_strs": shown})


async def health(call: Call) -> web.StreamResponse:
    """200 with an empty body, or 503 after `state.healthy = False`."""
    return web.Response(status=200 if call.state.healthy else 503)


async def version(call: Call) -> web.StreamResponse:
    """The version of the demo."""
    return await call.json({"version": VERSION})


async def metrics(call: Call) -> web.StreamResponse:
    """A few counters as Prometheus text, under the demo's own names."""
    s = call.state.stats
    rows = [("requests_total", "counter", s.requests), ("cancelled_total", "counter", s.cancelled)]
    rows.append(("in_flight", "gauge", s.in_flight))
    text = "".join(f"# TYPE demo_{n} {kind}\ndemo_{n} {value}\n" for n, kind, value in rows)
    head = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    return web.Response(body=text.encode(), headers=head)


async def stats(call: Call) -> web.StreamResponse:
    """{requests, in_flight, cancelled, by_route}; requests to /demo/* are not counted."""
    s = call.state.stats
    counts = {"requests": s.requests, "in_flight": s.in_flight, "cancelled": s.cancelled}
    return web.json_response(counts | {"by_route": s.by_route})


async def reset(call: Call) -> web.StreamResponse:
    """Zero the counters and those of `fail-times`. Requests in flight stay counted as such."""
    call.state.stats = Stats(in_flight=call.state.stats.in_flight)
    call.state.fails.clear()
    return web.json_response({"reset": True})
