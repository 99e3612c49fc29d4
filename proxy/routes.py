"""The route table: which method and path means what, as data, and the match of a request to its row.

What lives here: the paths of vLLM's server (release 0.33), of the OpenAI API, of Anthropic's and Azure's, and what can
be read on each. What must never live here: decoding a path. The raw bytes are compared; a path in any other spelling
(``%2F``, ``//``, dot segments, capitals) is the route ``other``, whose text no policy has seen, so that an enforcing
text policy refuses it instead of being walked around.
"""

from __future__ import annotations

from dataclasses import dataclass

from proxy.dialects import DIALECTS
from proxy.dialects.contract import Dialect

__all__ = ["OTHER", "ROUTES", "Route", "Router", "coverage_markdown", "match"]


@dataclass(frozen=True, slots=True)
class Route:
    """A row. name: unique, a metric label. method: None is any. path: exact, or None where ``pattern`` (with ``{}`` for
    one segment) stands for many. reads_request, reads_reply: the dialect can read all text of JSON bodies there. textless:
    neither direction carries text of prompts or replies. json: requests are JSON whatever they say. form: requests are
    forms, or JSON. streams: replies may be event streams.
    """

    name: str
    method: str | None
    path: str | None
    dialect: Dialect
    pattern: str = ""
    reads_request: bool = False
    reads_reply: bool = False
    textless: bool = False
    json: bool = False
    streams: bool = False
    form: bool = False


def _read(
    name: str, path: str, dialect: str, *, reply: bool = True, streams: bool = False, method: str = "POST"
) -> Route:
    pattern = "{}" in path
    return Route(
        name, method, None if pattern else path, DIALECTS[dialect], path, reads_request=True, reads_reply=reply,
        json=True, streams=streams,
    )  # fmt: skip


def _reply(name: str, path: str, dialect: str, method: str, *, streams: bool = False, request: bool = False) -> Route:
    """A route whose reply can be read; ``request``: it has one that can."""
    pattern = "{}" in path
    return Route(
        name, method, None if pattern else path, DIALECTS[dialect], path, reads_request=request, reads_reply=True,
        json=False, streams=streams,
    )  # fmt: skip


def _form(name: str, path: str, dialect: str, *, streams: bool = False) -> Route:
    """A route whose requests are forms."""
    pattern = "{}" in path
    return Route(
        name, "POST", None if pattern else path, DIALECTS[dialect], path, reads_request=True, reads_reply=True,
        streams=streams, form=True,
    )  # fmt: skip


def _blind(name: str, path: str, method: str | None = "POST") -> Route:
    """Text that headgate does not read: files, web sockets."""
    return Route(name, method, None if "{}" in path else path, DIALECTS["opaque"], path)


def _plain(name: str, path: str, method: str | None = "GET") -> Route:
    """No text of prompts or replies."""
    return Route(name, method, None if "{}" in path else path, DIALECTS["opaque"], path, textless=True)


_AZURE = "/openai/deployments/{}"

ROUTES: tuple[Route, ...] = (
    # generation
    _read("chat", "/v1/chat/completions", "chat", streams=True),
    _read("chat_batch", "/v1/chat/completions/batch", "chat_batch"),
    _read("completions", "/v1/completions", "completions", streams=True),
    _read("responses", "/v1/responses", "responses", streams=True),
    _reply("response_get", "/v1/responses/{}", "responses", "GET", streams=True, request=True),
    _reply("response_cancel", "/v1/responses/{}/cancel", "responses", "POST", request=True),
    _plain("response_delete", "/v1/responses/{}", "DELETE"),
    _blind("response_items", "/v1/responses/{}/input_items", "GET"),
    _blind("response_compact", "/v1/responses/compact"),
    _read("messages", "/v1/messages", "messages", streams=True),
    _read("count_tokens", "/v1/messages/count_tokens", "count_tokens"),
    _read("cohere_chat", "/cohere/v2/chat", "cohere", reply=False, streams=True),
    _read("cohere_v2_chat", "/v2/chat", "cohere", reply=False, streams=True),
    _read("invocations", "/invocations", "invocations", streams=True),
    _read("azure_chat", f"{_AZURE}/chat/completions", "chat", streams=True),
    _read("azure_completions", f"{_AZURE}/completions", "completions", streams=True),
    _read("azure_embeddings", f"{_AZURE}/embeddings", "embeddings"),
    _read("azure_v1_chat", "/openai/v1/chat/completions", "chat", streams=True),
    _read("azure_v1_responses", "/openai/v1/responses", "responses", streams=True),
    _blind("generate", "/inference/v1/generate"),
    # numbers and lists
    _read("embeddings", "/v1/embeddings", "embeddings"),
    _read("embed_v2", "/v2/embed", "embeddings"),
    _read("pooling", "/pooling", "pooling"),
    _read("classify", "/classify", "pooling"),
    _read("score", "/score", "score"),
    _read("score_v1", "/v1/score", "score"),
    _read("rerank", "/rerank", "rerank"),
    _read("rerank_v1", "/v1/rerank", "rerank"),
    _read("rerank_v2", "/v2/rerank", "rerank"),
    _read("generative_scoring", "/generative_scoring", "score"),
    _read("decisions", "/v1/decisions", "decisions", reply=False),
    _read("systemone", "/v1/systemone", "decisions", reply=False),
    _read("moderations", "/v1/moderations", "moderations"),
    _read("tokenize", "/tokenize", "tokenize"),
    _read("detokenize", "/detokenize", "detokenize"),
    # rendered prompts: the request's text again, and token ids
    _read("chat_render", "/v1/chat/completions/render", "chat", reply=False),
    _read("completions_render", "/v1/completions/render", "completions", reply=False),
    _read("messages_render", "/v1/messages/render", "messages", reply=False),
    _read("responses_render", "/v1/responses/render", "responses", reply=False),
    _blind("chat_derender", "/v1/chat/completions/derender"),
    _blind("completions_derender", "/v1/completions/derender"),
    _blind("messages_derender", "/v1/messages/derender"),
    _blind("responses_derender", "/v1/responses/derender"),
    # sound and pictures
    _form("transcriptions", "/v1/audio/transcriptions", "transcription", streams=True),
    _form("translations", "/v1/audio/translations", "transcription", streams=True),
    _read("speech", "/v1/audio/speech", "speech", reply=False),
    _read("images", "/v1/images/generations", "images", streams=False),
    _form("azure_transcriptions", f"{_AZURE}/audio/transcriptions", "transcription", streams=True),
    _form("azure_translations", f"{_AZURE}/audio/translations", "transcription", streams=True),
    _form("azure_image_edits", f"{_AZURE}/images/edits", "image_edits"),
    _form("image_edits", "/v1/images/edits", "image_edits"),
    _form("image_variations", "/v1/images/variations", "image_edits"),
    _blind("realtime", "/v1/realtime", "GET"),
    # files hold whole requests
    _blind("file_upload", "/v1/files"),
    _plain("files", "/v1/files"),
    _plain("file", "/v1/files/{}"),
    _plain("file_delete", "/v1/files/{}", "DELETE"),
    _blind("file_content", "/v1/files/{}/content", "GET"),
    _blind("uploads", "/v1/uploads"),
    _blind("upload_part", "/v1/uploads/{}/parts"),
    _blind("upload_complete", "/v1/uploads/{}/complete"),
    _plain("upload_cancel", "/v1/uploads/{}/cancel", "POST"),
    _blind("batch_create", "/v1/batches"),
    _plain("batches", "/v1/batches"),
    _plain("batch", "/v1/batches/{}"),
    _plain("batch_cancel", "/v1/batches/{}/cancel", "POST"),
    # about the server
    _plain("models", "/v1/models"),
    _plain("model", "/v1/models/{}"),
    _plain("azure_models", "/openai/models"),
    _plain("health", "/health"),
    _plain("health_head", "/health", "HEAD"),
    _plain("ping", "/ping"),
    _plain("ping_post", "/ping", "POST"),
    _plain("version", "/version"),
    _plain("metrics", "/metrics"),
    _plain("load", "/load"),
    _plain("tokenizer_info", "/tokenizer_info"),
    _plain("kv_event_sources", "/kv_event_sources"),
    _plain("docs", "/docs"),
    _plain("openapi", "/openapi.json"),
    _plain("server_info", "/server_info"),
    # administration; textless, but not for callers: a `request_guard` can close them
    _plain("load_lora", "/v1/load_lora_adapter", "POST"),
    _plain("unload_lora", "/v1/unload_lora_adapter", "POST"),
    _plain("start_profile", "/start_profile", "POST"),
    _plain("stop_profile", "/stop_profile", "POST"),
    _plain("scale_elastic_ep", "/scale_elastic_ep", "POST"),
    _plain("is_scaling_elastic_ep", "/is_scaling_elastic_ep", "POST"),
    _plain("abort_requests", "/abort_requests", "POST"),
    _plain("inference_abort", "/inference/v1/abort_requests", "POST"),
    _plain("sleep", "/sleep", "POST"),
    _plain("wake_up", "/wake_up", "POST"),
    _plain("is_sleeping", "/is_sleeping"),
    _plain("reset_prefix_cache", "/reset_prefix_cache", "POST"),
    _plain("reset_mm_cache", "/reset_mm_cache", "POST"),
    _plain("reset_encoder_cache", "/reset_encoder_cache", "POST"),
    _plain("pause", "/pause", "POST"),
    _plain("resume", "/resume", "POST"),
    _plain("update_weights", "/update_weights", "POST"),
    # its arguments may be anything
    _blind("collective_rpc", "/collective_rpc"),
    Route("other", None, None, DIALECTS["opaque"]),
)
"""Every route; the last one, ``other``, is every method and path that no row names."""

OTHER = ROUTES[-1]


class Router:
    """Finds the route of a request. prefix: a path that stands before all of them (vLLM's ``--root-path``), or ''."""

    __slots__ = ("_exact", "_patterns", "_prefix")

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix.rstrip("/")
        self._exact: dict[tuple[str, str], Route] = {}
        # by method and number of segments: (segments before, segments after the one that is free)
        self._patterns: dict[tuple[str, int], list[tuple[list[str], Route]]] = {}
        for route in ROUTES[:-1]:
            assert route.method is not None
            if route.path is not None:
                self._exact[route.method, self._prefix + route.path] = route
            else:
                segments = (self._prefix + route.pattern).split("/")
                self._patterns.setdefault((route.method, len(segments)), []).append((segments, route))

    def match(self, method: str, path: str) -> Route:
        """The route of a method and a raw path without its query (about 0.1 us for an exact one)."""
        found = self._exact.get((method, path))
        if found is not None:
            return found
        segments = path.split("/", 16)
        for pattern, route in self._patterns.get((method, len(segments)), ()):
            if all(p == s or (p == "{}" and _segment(s)) for p, s in zip(pattern, segments, strict=True)):
                return route
        return OTHER


def _segment(text: str) -> bool:
    """Something that a ``{}`` may stand for: an identifier. ``%2F`` may be part of a model's name, but a segment that a
    server could read as none, as another level or as a step back may not."""
    return text not in ("", ".", "..") and text.isascii() and text.isprintable() and not _STRANGE.intersection(text)


_STRANGE = frozenset("\\;?#%")

_ROUTER = Router()


def match(method: str, path: str) -> Route:
    """The route of a method and a raw path without its query, with no prefix."""
    return _ROUTER.match(method, path)


def coverage_markdown() -> str:
    """The coverage table of docs/coverage.md, from the routes and the dialects."""
    lines = [
        "# What headgate reads",
        "",
        "Generated from the route table and the dialects by `proxy.routes.coverage_markdown`; a test keeps it fresh.",
        "",
        "## Routes",
        "",
        "| route | method | path | dialect | request text | whole reply | stream |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in ROUTES:
        stream = ("read" if r.reads_reply and r.dialect.codec() is not None else "not read") if r.streams else "-"
        request = "none" if r.textless else "read" if r.reads_request else "not read"
        reply = "none" if r.textless else "read" if r.reads_reply else "not read"
        path = f"`{r.pattern}`" if r.pattern else "anything else"
        lines.append(f"| {r.name} | {r.method or 'any'} | {path} | {r.dialect.name} | {request} | {reply} | {stream} |")
    lines += [
        "",
        "`not read`: the bytes pass as they are. Where a policy that enforces on such text applies, the request is refused",
        "unless `unscanned: allow` is set. A path in any other spelling is the last row.",
        "",
        "Forms (`multipart/form-data`): every field but `model` is text, and so are names of files; files cannot be read.",
        "A form goes on byte for byte, but for the fields that a policy changed. One that servers could read in different ways",
        "(no last boundary, padded boundaries, bare line ends, encodings, another charset than UTF-8, backslashes in names,",
        "`filename*`) counts as not read, and so does any other body there that is not JSON. Without a policy that looks at",
        "requests an upload streams through; with one it is held in memory, up to `limits.inspected_body` (413 above).",
        "",
        "## Dialects",
    ]
    for dialect in DIALECTS.values():
        if dialect.request_rows or dialect.rows:
            lines += _dialect_lines(dialect)
    return "\n".join(lines) + "\n"


def _dialect_lines(dialect: Dialect) -> list[str]:
    lines = ["", f"### {dialect.name}", ""]
    if dialect.request_rows:
        lines += ["Request text: " + "; ".join(dialect.request_rows) + ".", ""]
    if dialect.rows:
        lines += ["| channel | whole reply | stream |", "|---|---|---|"]
        lines += [f"| {row.field} | {row.whole or '-'} | {row.stream or '-'} |" for row in dialect.rows]
    if dialect.notes:
        lines += [""] + [f"- {note}." for note in dialect.notes]
    return lines
