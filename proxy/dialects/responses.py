"""Responses, POST /v1/responses and its kin: https://platform.openai.com/docs/api-reference/responses.

What lives here: where the text of a request and a whole reply is. The stream, which says the same text four times, is in
responses_stream.py.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.contract import Dialect, Part, Row, StreamCodec, Unreadable
from proxy.dialects.finder import Finder, trust_of
from proxy.dialects.items import drop_copies, response_parts
from proxy.dialects.leading import of_responses
from proxy.dialects.responses_stream import ResponsesCodec

_SCHEMAS = ("tools", "text", "structured_outputs", "chat_template_kwargs", "vllm_xargs")
_OPAQUE = ("previous_response_id", "conversation")


class Responses(Dialect):
    """Responses."""

    name = "responses"
    counts = True
    needles = (b'"usage"', b"response.completed", b"response.incomplete", b"response.failed", b'"error"', b"[DONE]")
    max_event = 16 * 1024 * 1024  # response.completed holds the whole reply and the request's instructions and tools
    request_rows: ClassVar[tuple[str, ...]] = (
        "input (string; message content; function_call.arguments; tool outputs; reasoning summary and content)",
        "any other text of an item; instructions, tools, text.format, structured_outputs, prompt.variables",
        "user, safety_identifier, metadata",
    )
    rows: ClassVar[tuple[Row, ...]] = (
        Row("text", "output[].content[].text", "response.output_text.delta"),
        Row("refusal", "output[].content[].refusal", "response.refusal.delta"),
        Row("reasoning", "output[].content[].text of reasoning", "response.reasoning_text.delta"),
        Row("summary", "output[].summary[].text", "response.reasoning_summary_text.delta"),
        Row("arguments", "output[].arguments", "response.{function_call,mcp_call}_arguments.delta"),
        Row("name", "output[].name", "name in response.output_item.added"),
        Row("input", "output[].input", "response.custom_tool_call_input.delta"),
        Row("output", "output[].output", "output in response.output_item.done"),
        Row("code", "output[].code", "response.code_interpreter_call_code.delta"),
        Row("transcript", "output[].content[].transcript", "response.output_audio_transcript.delta"),
        Row("other", "any other text of output[]", "any other text of an event"),
    )
    notes: ClassVar[tuple[str, ...]] = (
        "*.done, content_part.done, output_item.done and the response of the last event repeat the text: "
        "they get the same replacements",
        "logprobs and output_messages are dropped where the text they spell was changed; where they spell another, they are read "
        "as text, and so are input_messages after a previous_response_id",
        "a last item of the assistant's that is in_progress or incomplete is left context",
        "encrypted_content and audio cannot be read; previous_response_id and conversation refer to text kept elsewhere",
    )

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        if not isinstance(doc, dict):
            return [], []
        find.fields(doc, ("instructions",), lambda box, key, at: find.content(box, key, at, "system", "system"))
        if "input" in doc and not find.text(doc, "input", "input") and isinstance(doc["input"], list):
            for n in range(len(doc["input"])):
                _find_item(find, doc["input"], n, f"input[{n}]")
        find.fields(doc, _SCHEMAS, lambda box, key, at: find.schema(box, key, at))
        if isinstance(doc.get("prompt"), dict):
            find.fields(
                doc["prompt"], ("variables",), lambda box, key, at: find.free(box, key, at, "user", "user"), "prompt."
            )
        find.metadata(doc)
        find.opaque_fields(doc, _OPAQUE)
        return find.segments, find.opaque

    def lead(self, doc: Any, channel: Channel) -> str:
        return of_responses(doc, channel)

    def parts(self, doc: Any) -> list[Part]:
        if not isinstance(doc, dict):
            raise Unreadable("a reply that is not an object")
        return response_parts(doc, ())

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        drop_copies(doc, [("output", channel.choice) for channel in changed])

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        first = min(cuts)
        output = doc.get("output")
        items = output[:first] if isinstance(output, list) else []
        item = output[first] if isinstance(output, list) and first < len(output) else None
        if isinstance(item, dict) and item.get("type") == "message":
            text = {"type": "output_text", "text": cuts[first][1] or "", "annotations": []}
            items.append({**item, "status": "incomplete", "content": [text]})
        doc["output"] = items
        doc["status"] = "incomplete"
        doc["incomplete_details"] = {"reason": "content_filter"}
        doc.pop("output_messages", None)
        doc.pop("input_messages", None)
        return doc

    def codec(self) -> StreamCodec:
        return ResponsesCodec()


def _find_item(find: Finder, box: Any, n: int, at: str) -> None:
    """One input item: a message, or a call, an output, a reasoning by its type."""
    item = box[n]
    if isinstance(item, dict) and "role" in item:
        role = item["role"] if isinstance(item["role"], str) else "user"
        if "content" in item:
            find.content(item, "content", f"{at}.content", role, trust_of(role))
        return
    kind = item.get("type") if isinstance(item, dict) else None
    role = "user" if not isinstance(kind, str) else "tool" if kind.endswith("_output") else "assistant"
    find.part(box, n, at, role, trust_of(role))
