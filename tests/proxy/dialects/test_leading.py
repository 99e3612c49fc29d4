"""What a reply goes on with: the end of the request, where the model was asked to continue a text."""

from __future__ import annotations

from typing import Any

import pytest

from policies.contract import Channel
from proxy.dialects.chat import ChatBatch
from proxy.dialects.leading import MOST
from proxy.routes import DIALECTS

CONTENT, TEXT = Channel(0, "content"), Channel(0, "text")


def messages(*contents: Any, role: str = "assistant", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}, *({"role": role, "content": c, **more} for c in contents)]}


@pytest.mark.parametrize(
    ("dialect", "doc", "channel", "lead"),
    [
        ("chat", {**messages("so far"), "continue_final_message": True}, CONTENT, "so far"),
        ("chat", {**messages("so far"), "continue_final_message": True}, Channel(3, "content"), "so far"),
        ("chat", {**messages("so far"), "continue_final_message": True}, Channel(0, "reasoning"), "so far"),
        ("chat", {**messages([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "continue_final_message": True},
         CONTENT, "b"),
        ("chat", {**messages([{"type": "image_url"}]), "continue_final_message": True}, CONTENT, ""),
        ("chat", {**messages("so far"), "continue_final_message": True}, Channel(0, "arguments", 0), ""),
        ("chat", {**messages("so far"), "continue_final_message": True, "echo": True}, CONTENT, ""),
        ("chat", messages("so far"), CONTENT, ""),
        ("chat", messages("so far", prefix=True), CONTENT, "so far"),
        ("chat", messages("so far", partial=True), CONTENT, "so far"),
        ("chat", {"continue_final_message": True}, CONTENT, ""),
        ("chat", {"messages": ["x"], "continue_final_message": True}, CONTENT, ""),
        ("completions", {"prompt": "once"}, TEXT, "once"),
        ("completions", {"prompt": ["one", "two"], "n": 2}, Channel(1, "text"), "one"),
        ("completions", {"prompt": ["one", "two"], "n": 2}, Channel(2, "text"), "two"),
        ("completions", {"prompt": ["one"]}, Channel(7, "text"), ""),
        ("completions", {"prompt": ["one"], "n": "many"}, TEXT, "one"),
        ("completions", {"prompt": [[1, 2]]}, TEXT, ""),
        ("completions", {"prompt": "once", "echo": True}, TEXT, ""),
        ("completions", {"prompt": "x" * 9000}, TEXT, "x" * MOST),
        ("messages", messages("so far"), TEXT, "so far"),
        ("messages", messages([{"type": "text", "text": "so far"}]), TEXT, "so far"),
        ("messages", messages("so far"), Channel(1, "text"), ""),
        ("messages", messages("asked", role="user"), TEXT, ""),
        ("responses", {"input": [{"role": "assistant", "status": "in_progress", "content": "so far"}]}, TEXT, "so far"),
        ("responses", {"input": [{"role": "assistant", "status": "incomplete", "content": [{"type": "output_text",
         "text": "so far"}]}]}, TEXT, "so far"),
        ("responses", {"input": [{"role": "assistant", "status": "completed", "content": "so far"}]}, TEXT, ""),
        ("responses", {"input": "asked"}, TEXT, ""),
    ],
)  # fmt: skip
def test_what_a_channel_goes_on_with(dialect: str, doc: Any, channel: Channel, lead: str) -> None:
    assert DIALECTS[dialect].lead(doc, channel) == lead


def test_a_batch_has_a_last_message_for_each_choice() -> None:
    rows = [messages(text)["messages"] for text in ("one", "two")]
    doc = {"messages": rows, "continue_final_message": True}
    assert [ChatBatch().lead(doc, Channel(n, "content")) for n in (0, 1, 2)] == ["one", "two", ""]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize(
    "doc", [None, [], "x", 1, {}, {"messages": 1, "prompt": {}, "input": [0], "continue_final_message": True}]
)
def test_bad_requests_have_no_lead(dialect: str, doc: Any) -> None:
    assert all(DIALECTS[dialect].lead(doc, channel) == "" for channel in (CONTENT, TEXT))
