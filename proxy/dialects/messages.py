"""Messages, POST /v1/messages (Anthropic, and vLLM's own route of that name): https://docs.anthropic.com/en/api/messages.

What lives here: where the text of a request and a whole reply is. The stream is in messages_stream.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.contract import Dialect, Part, Row, StreamCodec, Unreadable, get_path
from proxy.dialects.finder import Finder, trust_of
from proxy.dialects.leading import of_messages
from proxy.dialects.messages_stream import MessagesCodec, content_parts, refusal

_SCHEMAS = ("tools", "output_format", "output_config", "chat_template_kwargs")


class Messages(Dialect):
    """Messages."""

    name = "messages"
    shape = "anthropic"
    counts = True
    needles = (b'"usage"', b"message_stop", b"message_delta", b'"error"')
    request_rows: ClassVar[tuple[str, ...]] = (
        "system (string, blocks), messages[].content (string; text, thinking, tool_use.input, tool_result blocks)",
        "tools, output_format, output_config, stop_sequences; metadata",
    )
    rows: ClassVar[tuple[Row, ...]] = (
        Row("text", "content[].text", "content_block_delta text_delta"),
        Row("thinking", "content[].thinking", "content_block_delta thinking_delta"),
        Row("arguments", "content[].input of tool_use", "content_block_delta input_json_delta"),
        Row("name", "content[].name of tool_use", "name in content_block_start"),
        Row("other", "any other text of content[]", "any other text of an event"),
    )
    notes: ClassVar[tuple[str, ...]] = (
        "the signature of a thinking block is dropped when its text was changed, and stop_sequence when any text was",
        "a last message of the assistant's is left context of the first block",
        "redacted_thinking, images and documents by reference cannot be read",
    )

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        if isinstance(doc, dict):
            find.fields(doc, ("system",), lambda box, key, at: find.content(box, key, at, "system", "system"))
            messages = doc.get("messages")
            for n, message in enumerate(messages if isinstance(messages, list) else ()):
                if isinstance(message, dict) and message.get("content") is not None:
                    role = message.get("role")
                    role = role if isinstance(role, str) else "user"
                    find.content(message, "content", f"messages[{n}].content", role, trust_of(role))
            find.fields(doc, _SCHEMAS, lambda box, key, at: find.schema(box, key, at))
            find.fields(doc, ("stop_sequences",), lambda box, key, at: find.texts(box, key, at, "system", "system"))
            find.metadata(doc)
        return find.segments, find.opaque

    def lead(self, doc: Any, channel: Channel) -> str:
        return of_messages(doc, channel)

    def parts(self, doc: Any) -> list[Part]:
        if not isinstance(doc, dict):
            raise Unreadable("a reply that is not an object")
        return content_parts(doc, ())

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        doc["stop_sequence"] = None
        for channel in changed:
            block = get_path(doc, ("content", channel.choice))
            if channel.field == "thinking" and isinstance(block, dict) and "signature" in block:
                block["signature"] = ""

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        first = min(cuts)
        content = doc.get("content")
        doc["content"] = content[:first] if isinstance(content, list) else []
        doc.update(refusal(cuts[first][1]))
        return doc

    def codec(self) -> StreamCodec:
        return MessagesCodec()


class CountTokens(Messages):
    """A messages request that asks for its token count: the reply is a number."""

    name = "count_tokens"
    counts = False
    rows: ClassVar[tuple[Row, ...]] = ()
    notes: ClassVar[tuple[str, ...]] = ()

    def parts(self, doc: Any) -> list[Part]:
        return []

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        return None
