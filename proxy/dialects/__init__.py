"""One dialect per wire shape; the route table says which route speaks which."""

from __future__ import annotations

from proxy.dialects.audio import Transcription
from proxy.dialects.chat import Chat, ChatBatch
from proxy.dialects.completions import Completions
from proxy.dialects.contract import Dialect
from proxy.dialects.forms import IMAGE_EDITS
from proxy.dialects.messages import CountTokens, Messages
from proxy.dialects.opaque import Invocations, Opaque
from proxy.dialects.responses import Responses
from proxy.dialects.tables import TABLES

__all__ = ["DIALECTS"]

DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        Chat(), ChatBatch(), Completions(), Responses(), Messages(), CountTokens(), Transcription(), Invocations(), Opaque(),
        *TABLES, IMAGE_EDITS,
    )
}  # fmt: skip
"""Every dialect by its name."""
