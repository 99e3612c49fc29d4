"""The route table: every row, odd spellings, and the coverage page that is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.dialects import DIALECTS
from proxy.routes import OTHER, ROUTES, Router, coverage_markdown, match

EXPECTED = [
    ("POST", "/v1/chat/completions", "chat", "chat"),
    ("POST", "/v1/chat/completions/batch", "chat_batch", "chat_batch"),
    ("POST", "/v1/completions", "completions", "completions"),
    ("POST", "/v1/responses", "responses", "responses"),
    ("GET", "/v1/responses/resp_1", "response_get", "responses"),
    ("POST", "/v1/responses/resp_1/cancel", "response_cancel", "responses"),
    ("DELETE", "/v1/responses/resp_1", "response_delete", "opaque"),
    ("POST", "/v1/messages", "messages", "messages"),
    ("POST", "/v1/messages/count_tokens", "count_tokens", "count_tokens"),
    ("POST", "/cohere/v2/chat", "cohere_chat", "cohere"),
    ("POST", "/invocations", "invocations", "invocations"),
    ("POST", "/openai/deployments/gpt-4o/chat/completions", "azure_chat", "chat"),
    ("POST", "/openai/deployments/x/completions", "azure_completions", "completions"),
    ("POST", "/openai/deployments/x/embeddings", "azure_embeddings", "embeddings"),
    ("POST", "/v1/embeddings", "embeddings", "embeddings"),
    ("POST", "/v2/embed", "embed_v2", "embeddings"),
    ("POST", "/pooling", "pooling", "pooling"),
    ("POST", "/classify", "classify", "pooling"),
    ("POST", "/score", "score", "score"),
    ("POST", "/v1/score", "score_v1", "score"),
    ("POST", "/rerank", "rerank", "rerank"),
    ("POST", "/v1/rerank", "rerank_v1", "rerank"),
    ("POST", "/v2/rerank", "rerank_v2", "rerank"),
    ("POST", "/generative_scoring", "generative_scoring", "score"),
    ("POST", "/v1/decisions", "decisions", "decisions"),
    ("POST", "/tokenize", "tokenize", "tokenize"),
    ("POST", "/detokenize", "detokenize", "detokenize"),
    ("POST", "/v1/chat/completions/render", "chat_render", "chat"),
    ("POST", "/v1/completions/derender", "completions_derender", "opaque"),
    ("POST", "/inference/v1/generate", "generate", "opaque"),
    ("POST", "/v1/audio/transcriptions", "transcriptions", "transcription"),
    ("POST", "/v1/audio/translations", "translations", "transcription"),
    ("POST", "/v1/audio/speech", "speech", "speech"),
    ("POST", "/v1/images/generations", "images", "images"),
    ("POST", "/v1/images/edits", "image_edits", "image_edits"),
    ("POST", "/openai/deployments/d/audio/transcriptions", "azure_transcriptions", "transcription"),
    ("POST", "/v2/chat", "cohere_v2_chat", "cohere"),
    ("POST", "/v1/moderations", "moderations", "moderations"),
    ("GET", "/v1/realtime", "realtime", "opaque"),
    ("POST", "/v1/files", "file_upload", "opaque"),
    ("GET", "/v1/files/f/content", "file_content", "opaque"),
    ("GET", "/v1/models", "models", "opaque"),
    ("GET", "/v1/models/llama", "model", "opaque"),
    ("GET", "/health", "health", "opaque"),
    ("POST", "/v1/load_lora_adapter", "load_lora", "opaque"),
    ("POST", "/abort_requests", "abort_requests", "opaque"),
    ("POST", "/collective_rpc", "collective_rpc", "opaque"),
]


@pytest.mark.parametrize(("method", "path", "name", "dialect"), EXPECTED)
def test_rows(method: str, path: str, name: str, dialect: str) -> None:
    route = match(method, path)
    assert (route.name, route.dialect.name) == (name, dialect)


@pytest.mark.parametrize("route", ROUTES[:-1], ids=lambda r: r.name)
def test_every_row_is_found_and_consistent(route: object) -> None:
    assert route in ROUTES
    row = next(r for r in ROUTES if r is route)
    assert row.method is not None
    assert match(row.method, row.pattern.replace("{}", "some-id_1.0")) is row
    assert (row.path is None) == ("{}" in row.pattern)
    assert not (row.textless and (row.reads_request or row.reads_reply))
    if row.reads_request and row.json:
        assert row.dialect.request_rows
    if row.streams and row.reads_reply:
        assert row.dialect.codec() is not None


def test_names_are_unique_labels() -> None:
    names = [route.name for route in ROUTES]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert names[-1] == "other"
    assert (OTHER.method, OTHER.path, OTHER.reads_request, OTHER.textless) == (None, None, False, False)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat%2Fcompletions"), ("POST", "/v1/chat/%63ompletions"), ("POST", "//v1/chat/completions"),
        ("POST", "/v1//chat/completions"), ("POST", "/v1/./chat/completions"), ("POST", "/v1/x/../chat/completions"),
        ("POST", "/V1/chat/completions"), ("POST", "/v1/chat/completions/"), ("POST", "/v1/chat/completions;a"),
        ("POST", "v1/chat/completions"), ("POST", ""), ("POST", "*"), ("post", "/v1/chat/completions"),
        ("PUT", "/v1/chat/completions"), ("GET", "/v1/chat/completions"), ("POST", "/v1/chat/completions\\"),
        ("POST", "http://h/v1/chat/completions"), ("GET", "/v1/responses/"), ("GET", "/v1/responses/.."),
        ("GET", "/v1/responses/a%2Fb"), ("GET", "/v1/responses/a;b"), ("GET", "/v1/responses/a?b"), ("GET", "/v1/responses/é"),
        ("POST", "/openai/deployments/a/b/chat/completions"), ("POST", "/openai/deployments//chat/completions"),
        ("POST", "/openai/deployments/../chat/completions"), ("POST", "/unknown"), ("POST", "/" * 5000),
    ],
)  # fmt: skip
def test_odd_spellings_are_other(method: str, path: str) -> None:
    assert match(method, path) is OTHER


def test_a_prefix_stands_before_every_row() -> None:
    router = Router("/llm/")
    assert router.match("POST", "/llm/v1/chat/completions").name == "chat"
    assert router.match("GET", "/llm/v1/responses/r").name == "response_get"
    assert router.match("POST", "/v1/chat/completions") is OTHER


def test_the_coverage_page_is_fresh() -> None:
    page = Path(__file__).parents[2] / "docs" / "coverage.md"
    assert page.read_text() == coverage_markdown(), (
        "run: python -c 'from proxy import routes; print(routes.coverage_markdown(), end=\"\")' > docs/coverage.md"
    )
    assert all(f"| {route.name} |" in coverage_markdown() for route in ROUTES)
    assert all(f"### {d.name}" in coverage_markdown() for d in DIALECTS.values() if d.rows)
