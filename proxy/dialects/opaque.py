"""Routes whose bodies headgate does not read, and the one route whose shape is told by its keys.

What lives here: the dialect that knows nothing, and SageMaker's POST /invocations.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.chat import Chat
from proxy.dialects.choices import CompletionsCodec
from proxy.dialects.completions import Completions
from proxy.dialects.contract import Dialect, Part, Row, StreamCodec
from proxy.dialects.tables import EMBEDDINGS, RERANK, SCORE

_CHAT, _COMPLETIONS = Chat(), Completions()


class Opaque(Dialect):
    """Bytes in, the same bytes out."""

    name = "opaque"


class Invocations(Completions):
    """A body of chat, completions, embeddings, score or rerank; vLLM tells them apart by their keys, and so do we."""

    name = "invocations"
    request_rows: ClassVar[tuple[str, ...]] = (
        "as chat, completions, embeddings, score or rerank, by the keys of the body",
    )
    rows: ClassVar[tuple[Row, ...]] = (
        Row("text", "choices[].text", "choices[].text"),
        Row("content", "choices[].message.content", "choices[].delta.content"),
        Row("*", "any other text of choices[].message; results[].document", "any other text of choices[].delta"),
    )
    notes: ClassVar[tuple[str, ...]] = ()

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        found = [dialect.request(doc) for dialect in told(doc)]
        return [s for segments, _ in found for s in segments], [o for _, opaque in found for o in opaque]

    def parts(self, doc: Any) -> list[Part]:
        if isinstance(doc, dict) and "choices" not in doc:
            return RERANK.parts(doc)
        return super().parts(doc)

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        if "choices" in doc:
            super().scrub_whole(doc, changed)

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        if "choices" not in doc:
            return RERANK.cut_whole(doc, cuts)
        chat = any(isinstance(c, dict) and "message" in c for c in doc["choices"])
        return (_CHAT if chat else _COMPLETIONS).cut_whole(doc, cuts)

    def codec(self) -> StreamCodec:
        return InvocationsCodec()


class InvocationsCodec(CompletionsCodec):
    """A stream of chat or completion chunks, whichever comes."""

    def piece(self, index: int, text: str | None, finish: str | None) -> dict[str, Any]:
        if str(self.told().get("object", "")).startswith("chat"):
            return super(CompletionsCodec, self).piece(index, text, finish)
        return super().piece(index, text, finish)


def told(doc: Any) -> list[Dialect]:
    """The dialects whose keys an invocation's body has. vLLM tries them in turn; a body with the keys of several is read
    as all of them, so that none is a way around the policies."""
    if not isinstance(doc, dict):
        return []
    return [dialect for keys, dialect in _BY_KEY if not keys.isdisjoint(doc)]


_BY_KEY: tuple[tuple[frozenset[str], Dialect], ...] = (
    (frozenset(("messages",)), _CHAT),
    (frozenset(("prompt", "suffix")), _COMPLETIONS),
    (frozenset(("input", "inputs", "texts")), EMBEDDINGS),
    (frozenset(("query", "queries", "documents", "items", "text_1", "text_2", "data_1", "data_2")), SCORE),
)
