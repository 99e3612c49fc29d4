"""Chat completions, POST /v1/chat/completions: https://platform.openai.com/docs/api-reference/chat.

What lives here: where the text of a chat request and a whole chat reply is. Streams are in choices.py. vLLM's own
fields (reasoning, echo, chat_template, structured_outputs, token ids) are those of its OpenAI server, release 0.33.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from policies.contract import Channel, Segment
from proxy.dialects.choices import ChatCodec, choice_index, choices_of, scrub_choice, whole_parts
from proxy.dialects.contract import Dialect, Part, Row, StreamCodec
from proxy.dialects.finder import METADATA, TRUST, Finder, trust_of
from proxy.dialects.leading import of_chat

#: Steers generation by text: read as what the application's author wrote.
_GUIDED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "vllm_xargs")  # of older releases, too
_SCHEMAS = (
    "tools", "functions", "response_format", "structured_outputs", "chat_template_kwargs", "web_search_options", *_GUIDED,
)  # fmt: skip
_TEXTS = ("stop", "bad_words", "chat_template")
_BESIDE_MESSAGES = frozenset((*_SCHEMAS, *_TEXTS, "documents", "prediction", *METADATA))
#: The keys of a message that are read as what they are, or hold no text.
_MESSAGE = frozenset((
    "role", "content", "reasoning", "reasoning_content", "refusal", "thinking", "name", "tool_calls", "function_call", "audio",
    "tool_call_id", "id", "type", "cache_control",
))  # fmt: skip


def find_messages(find: Finder, messages: Any, where: str = "messages") -> None:
    """The text of a list of chat messages."""
    if not isinstance(messages, list):
        return
    for n, message in enumerate(messages):
        if isinstance(message, dict):
            content, role = message.get("content"), message.get("role")
            if isinstance(content, str) and isinstance(role, str) and len(message) == 2:  # nearly always
                write = partial(message.__setitem__, "content")
                segment = Segment(f"{where}[{n}].content", content, write, role, TRUST.get(role, "user"))
                find.segments.append(segment)
            else:
                find_message(find, message, f"{where}[{n}]")
        elif isinstance(message, str):
            find.text(messages, n, f"{where}[{n}]")


def find_message(find: Finder, message: dict[str, Any], at: str) -> None:
    """The text of one chat message: content, reasoning, refusal, names and the arguments of tool calls."""
    role = message.get("role")
    role = role if isinstance(role, str) else "user"
    trust = trust_of(role)
    for key in ("content", "reasoning", "reasoning_content", "refusal", "thinking"):
        if message.get(key) is not None:
            find.content(message, key, f"{at}.{key}", role, trust)
    if "name" in message:
        find.text(message, "name", f"{at}.name", role, trust)
    calls = message.get("tool_calls")
    for n, call in enumerate(calls if isinstance(calls, list) else ()):
        for kind in ("function", "custom"):
            if isinstance(call, dict) and isinstance(call.get(kind), dict):
                _find_call(find, call[kind], f"{at}.tool_calls[{n}].{kind}", role)
    if isinstance(message.get("function_call"), dict):
        _find_call(find, message["function_call"], f"{at}.function_call", role)
    if message.get("audio"):
        find.opaque.append(f"{at}: audio")
    if not message.keys() <= _MESSAGE:  # reasoning_details, tool_plan and what comes next: replies had it, so histories have
        for key in message:
            if key not in _MESSAGE:
                find.loose(message, key, f"{at}.*", role, trust)


def _find_call(find: Finder, call: dict[str, Any], at: str, role: str) -> None:
    if "name" in call:
        find.text(call, "name", f"{at}.name", role, "assistant")
    if "arguments" in call:
        find.arguments(call, "arguments", f"{at}.arguments", role, "assistant")
    if "input" in call:
        find.content(call, "input", f"{at}.input", role, "assistant")


def _find_beside(find: Finder, doc: dict[str, Any]) -> None:
    documents = doc.get("documents")
    for n in range(len(documents) if isinstance(documents, list) else 0):
        find.free(documents, n, f"documents[{n}]", "user", "document", keys=False, numbers=False)
    find.fields(doc, _SCHEMAS, lambda box, key, at: find.schema(box, key, at))
    find.fields(doc, _TEXTS, lambda box, key, at: find.texts(box, key, at, "system", "system"))
    if isinstance(doc.get("prediction"), dict) and "content" in doc["prediction"]:
        find.content(doc["prediction"], "content", "prediction.content", "assistant", "assistant")
    find.metadata(doc)


class Chat(Dialect):
    """Chat completions."""

    name = "chat"
    counts = True
    asks_usage = True
    per_choice = True
    needles = (b'"usage"', b'"finish_reason":"', b'"finish_reason": "', b'"error"', b"[DONE]")
    request_rows: ClassVar[tuple[str, ...]] = (
        "messages[].content (string, parts, tool results)",
        "messages[].{name, reasoning, reasoning_content, refusal}, and strings under other keys",
        "messages[].tool_calls[].function.{name, arguments}, .custom.input; messages[].function_call",
        "documents, tools, functions, response_format, structured_outputs, guided_*, chat_template(_kwargs)",
        "stop, bad_words, prediction.content; user, safety_identifier, metadata",
    )  # fmt: skip
    rows: ClassVar[tuple[Row, ...]] = (
        Row("content", "choices[].message.content", "choices[].delta.content"),
        Row("reasoning", "choices[].message.reasoning", "choices[].delta.reasoning"),
        Row("reasoning_content", "choices[].message.reasoning_content", "choices[].delta.reasoning_content"),
        Row("refusal", "choices[].message.refusal", "choices[].delta.refusal"),
        Row(
            "arguments",
            "choices[].message.tool_calls[].function.arguments",
            "choices[].delta.tool_calls[].function.arguments",
        ),
        Row("name", "choices[].message.tool_calls[].function.name", "choices[].delta.tool_calls[].function.name"),
        Row("input", "choices[].message.tool_calls[].custom.input", "choices[].delta.tool_calls[].custom.input"),
        Row("function_call", "choices[].message.function_call.arguments", "choices[].delta.function_call.arguments"),
        Row("transcript", "choices[].message.audio.transcript", "choices[].delta.audio.transcript"),
        Row("*", "any other text of choices[].message", "any other text of choices[].delta"),
    )
    notes: ClassVar[tuple[str, ...]] = (
        "logprobs, token_ids and stop_reason of a choice leave with the text they spell: dropped where that text was changed",
        "token_ids, and logprobs that are out of step with their text, are dropped from every event of a gated stream; in a "
        "whole reply such logprobs are read as text",
        "alternatives in top_logprobs were not said, and are not read",
        "prompt_text, prompt_token_ids and prompt_logprobs repeat the request, not the reply: not read",
        "continue_final_message, prefix and partial: the last message is left context, so a value half in it is found",
    )

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder()
        if isinstance(doc, dict):
            find_messages(find, doc.get("messages"))
            if not _BESIDE_MESSAGES.isdisjoint(doc):
                _find_beside(find, doc)
        return find.segments, find.opaque

    def lead(self, doc: Any, channel: Channel) -> str:
        return of_chat(doc, channel)

    def parts(self, doc: Any) -> list[Part]:
        return whole_parts(doc)

    def scrub_whole(self, doc: Any, changed: set[Channel]) -> None:
        touched = {channel.choice for channel in changed}
        for n, choice in enumerate(choices_of(doc)):
            if choice_index(choice, n) in touched:
                scrub_choice(choice)

    def cut_whole(self, doc: Any, cuts: dict[int, tuple[str, str | None]]) -> Any:
        for n, choice in enumerate(choices_of(doc)):
            cut = cuts.get(choice_index(choice, n))
            if cut is not None:
                old = choice.get("message")
                role = old.get("role", "assistant") if isinstance(old, dict) else "assistant"
                choice["message"] = {"role": role, "content": cut[1] or "", "refusal": None}
                choice["finish_reason"] = "content_filter"
                scrub_choice(choice)
        return doc

    def codec(self) -> StreamCodec | None:
        return ChatCodec()


class ChatBatch(Chat):
    """A list of conversations in one request: vLLM's POST /v1/chat/completions/batch."""

    name = "chat_batch"

    def request(self, doc: Any) -> tuple[list[Segment], list[str]]:
        find = Finder(*super().request(doc))
        rows = doc.get("messages") if isinstance(doc, dict) else None
        for n, messages in enumerate(rows if isinstance(rows, list) else ()):
            find_messages(find, messages, f"messages[{n}]")
        return find.segments, find.opaque

    def codec(self) -> None:
        return None
