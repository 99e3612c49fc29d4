"""The text of requests: every place of every dialect, its address, role and trust; writing back; what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import jsonio
from proxy.dialects import DIALECTS

ARGS = '{"to": "a\\u0040b", "n": 123456789012345678901, "deep": [{"k": 1.50}], "ok": true, "none": null}'

# dialect, document, [(address, text, trust)], opaque
CASES: list[tuple[str, Any, list[tuple[str, str, str]], list[str]]] = [
    (
        "chat",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "developer", "content": [{"type": "text", "text": "d"}]},
                {
                    "role": "user",
                    "name": "joe",
                    "content": [
                        {"type": "text", "text": "u"},
                        "bare",
                        {"text": "untyped"},
                        {"type": "input_text", "text": "it"},
                        {"type": "image_url", "image_url": {"url": "data:x"}},
                        {"type": "new", "novel": {"deep": ["n"]}},
                    ],
                },
                {
                    "role": "assistant",
                    "content": None,
                    "refusal": "no",
                    "reasoning": "why",
                    "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": ARGS}},
                        {"id": "c", "type": "function", "function": {"name": "g", "arguments": "not json"}},
                        {"id": "c", "type": "custom", "custom": {"name": "h", "input": "free"}},
                    ],
                },
                {"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}},
                {"role": "tool", "tool_call_id": "c", "content": "t"},
                {"role": "alien", "content": "a"},
            ],
            "documents": [{"title": "dt", "text": "dx"}],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": "desc", "parameters": {"type": "object"}}}
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": {"enum": ["e1"]}}},
            "chat_template": "tmpl",
            "chat_template_kwargs": {"x": "kw"},
            "stop": ["st"],
            "bad_words": ["bw"],
            "structured_outputs": {"choice": ["c1"]},
            "prediction": {"type": "content", "content": "pred"},
        },
        [
            ("messages[0].content", "s", "system"),
            ("messages[1].content[0].text", "d", "system"),
            ("messages[2].content[0].text", "u", "user"),
            ("messages[2].content[1]", "bare", "user"),
            ("messages[2].content[2].text", "untyped", "user"),
            ("messages[2].content[3].text", "it", "user"),
            ("messages[2].content[5].*#0", "deep", "user"),
            ("messages[2].content[5].*#1", "n", "user"),
            ("messages[2].name", "joe", "user"),
            ("messages[3].reasoning", "why", "assistant"),
            ("messages[3].refusal", "no", "assistant"),
            ("messages[3].tool_calls[0].function.name", "f", "assistant"),
            *(
                (f"messages[3].tool_calls[0].function.arguments#{n}", t, "assistant")
                for n, t in enumerate(["to", "a@b", "n", "123456789012345678901", "deep", "k", "1.50", "ok", "none"])
            ),
            ("messages[3].tool_calls[1].function.name", "g", "assistant"),
            ("messages[3].tool_calls[1].function.arguments", "not json", "assistant"),
            ("messages[3].tool_calls[2].custom.name", "h", "assistant"),
            ("messages[3].tool_calls[2].custom.input", "free", "assistant"),
            ("messages[4].function_call.name", "old", "assistant"),
            ("messages[5].content", "t", "tool"),
            ("messages[6].content", "a", "user"),
            ("documents[0]#0", "dt", "document"),
            ("documents[0]#1", "dx", "document"),
            ("tools#0", "function", "system"),
            ("tools#1", "f", "system"),
            ("tools#2", "desc", "system"),
            ("tools#3", "object", "system"),
            ("response_format#0", "json_schema", "system"),
            ("response_format#1", "r", "system"),
            ("response_format#2", "e1", "system"),
            ("structured_outputs#0", "c1", "system"),
            ("chat_template_kwargs#0", "kw", "system"),
            ("stop[0]", "st", "system"),
            ("bad_words[0]", "bw", "system"),
            ("chat_template", "tmpl", "system"),
            ("prediction.content", "pred", "assistant"),
        ],
        ["messages[2].content[4]: image_url"],
    ),
    (
        "chat_batch",
        {"messages": [[{"role": "user", "content": "a"}], [{"role": "system", "content": "b"}]]},
        [("messages[0][0].content", "a", "user"), ("messages[1][0].content", "b", "system")],
        [],
    ),
    (
        "completions",
        {"prompt": "p", "suffix": "s", "stop": "x"},
        [("prompt", "p", "user"), ("suffix", "s", "user"), ("stop", "x", "system")],
        [],
    ),
    ("completions", {"prompt": ["a", "b"]}, [("prompt[0]", "a", "user"), ("prompt[1]", "b", "user")], []),
    ("completions", {"prompt": [1, 2]}, [], ["prompt: token ids"]),
    (
        "completions",
        {"prompt": [[1], [2]], "prompt_embeds": "AAA"},
        [],
        ["prompt: token ids", "prompt_embeds: not in this request"],
    ),
    (
        "responses",
        {"input": "hi", "instructions": "be good", "previous_response_id": "r"},
        [("instructions", "be good", "system"), ("input", "hi", "user")],
        ["previous_response_id: not in this request"],
    ),
    (
        "responses",
        {
            "input": [
                "bare",
                {"role": "user", "content": "u"},
                {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]},
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "x"}, {"type": "input_file", "file_id": "f"}],
                },
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":"b"}'},
                {"type": "function_call_output", "call_id": "c", "output": "out"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "o2"}]},
                {
                    "type": "reasoning",
                    "id": "r",
                    "summary": [{"type": "summary_text", "text": "sum"}],
                    "content": [{"type": "reasoning_text", "text": "rt"}],
                },
                {"type": "custom_tool_call", "name": "g", "input": "ci"},
                {"type": "mcp_call", "name": "m", "arguments": "{}", "output": "mo"},
                {"type": "item_reference", "id": "i"},
            ],
            "tools": [{"type": "function", "name": "f", "description": "fd"}],
            "text": {"format": {"type": "json_schema", "name": "tf"}},
            "prompt": {"id": "p", "variables": {"city": "Rome"}},
        },
        [
            ("input[0]", "bare", "user"),
            ("input[1].content", "u", "user"),
            ("input[2].content[0].text", "d", "system"),
            ("input[4].name", "f", "assistant"),
            ("input[4].arguments#0", "a", "assistant"),
            ("input[4].arguments#1", "b", "assistant"),
            ("input[5].output", "out", "tool"),
            ("input[6].output[0].text", "o2", "tool"),
            ("input[7].summary[0].text", "sum", "assistant"),
            ("input[7].content[0].text", "rt", "assistant"),
            ("input[8].name", "g", "assistant"),
            ("input[8].input", "ci", "assistant"),
            ("input[9].name", "m", "assistant"),
            ("input[9].output", "mo", "assistant"),
            ("tools#0", "function", "system"),
            ("tools#1", "f", "system"),
            ("tools#2", "fd", "system"),
            ("text#0", "json_schema", "system"),
            ("text#1", "tf", "system"),
            ("prompt.variables#0", "city", "user"),
            ("prompt.variables#1", "Rome", "user"),
        ],
        ["input[3].content[0]: image_url", "input[3].content[1]: file_id"],
    ),
    (
        "messages",
        {
            "system": [{"type": "text", "text": "sys"}],
            "messages": [
                {"role": "user", "content": "u"},
                {"role": "system", "content": "s2"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "th", "signature": "x"},
                        {"type": "redacted_thinking", "data": "zz"},
                        {"type": "tool_use", "id": "t", "name": "f", "input": {"to": "a", "n": 7}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "t", "content": "r1"},
                        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r2"}]},
                        {"type": "image", "source": {"type": "base64", "data": "AAA"}},
                        {
                            "type": "document",
                            "title": "ti",
                            "source": {"type": "text", "media_type": "text/plain", "data": "doc"},
                        },
                    ],
                },
            ],
            "tools": [{"name": "f", "input_schema": {"type": "object"}}],
            "stop_sequences": ["END"],
        },
        [
            ("system[0].text", "sys", "system"),
            ("messages[0].content", "u", "user"),
            ("messages[1].content", "s2", "system"),
            ("messages[2].content[0].thinking", "th", "assistant"),
            ("messages[2].content[2].name", "f", "assistant"),
            ("messages[2].content[2].input#0", "to", "assistant"),
            ("messages[2].content[2].input#1", "a", "assistant"),
            ("messages[2].content[2].input#2", "n", "assistant"),
            ("messages[2].content[2].input#3", "7", "assistant"),
            ("messages[3].content[0].content", "r1", "tool"),
            ("messages[3].content[1].content[0].text", "r2", "tool"),
            ("messages[3].content[3].title", "ti", "user"),
            ("messages[3].content[3].source.data", "doc", "user"),
            ("tools#0", "f", "system"),
            ("tools#1", "object", "system"),
            ("stop_sequences[0]", "END", "system"),
        ],
        ["messages[2].content[1]: data", "messages[3].content[2]: source"],
    ),
    ("count_tokens", {"messages": [{"role": "user", "content": "u"}]}, [("messages[0].content", "u", "user")], []),
    ("embeddings", {"input": "a"}, [("input", "a", "user")], []),
    ("embeddings", {"input": ["a", "b"]}, [("input[0]", "a", "user"), ("input[1]", "b", "user")], []),
    ("embeddings", {"input": [[1, 2]]}, [], ["input: token ids"]),
    ("embeddings", {"input": [{"role": "user", "content": "c"}]}, [("input[0].content", "c", "user")], []),
    (
        "embeddings",
        {
            "messages": [[{"role": "user", "content": "c"}]],
            "texts": ["t"],
            "inputs": [{"content": [{"type": "text", "text": "i"}]}],
        },
        [
            ("messages[0][0].content", "c", "user"),
            ("texts[0]", "t", "user"),
            ("inputs[0].content[0].text", "i", "document"),
        ],
        [],
    ),
    ("pooling", {"input": "a", "data_1": "b"}, [("input", "a", "user"), ("data_1", "b", "document")], []),
    (
        "score",
        {"text_1": "a", "text_2": ["b", {"content": [{"type": "text", "text": "c"}]}], "instruction": "i"},
        [
            ("text_1", "a", "document"),
            ("text_2[0]", "b", "document"),
            ("text_2[1].content[0].text", "c", "document"),
            ("instruction", "i", "document"),
        ],
        [],
    ),
    (
        "rerank",
        {"query": "q", "documents": ["d", {"content": [{"type": "text", "text": "e"}]}, {"text": "f"}]},
        [
            ("query", "q", "document"),
            ("documents[0]", "d", "document"),
            ("documents[1].content[0].text", "e", "document"),
            ("documents[2].text", "f", "document"),
        ],
        [],
    ),
    (
        "tokenize",
        {"prompt": "p", "messages": [{"role": "user", "content": "c"}], "chat_template": "t"},
        [("prompt", "p", "user"), ("messages[0].content", "c", "user"), ("chat_template", "t", "user")],
        [],
    ),
    ("detokenize", {"tokens": [1, 2]}, [], ["tokens: token ids or tensors"]),
    (
        "moderations",
        {"input": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        [("input[0].text", "t", "user")],
        ["input[1]: image_url"],
    ),
    ("images", {"prompt": "draw"}, [("prompt", "draw", "user")], []),
    (
        "speech",
        {"input": "say", "instructions": "softly"},
        [("input", "say", "user"), ("instructions", "softly", "user")],
        [],
    ),
    (
        "decisions",
        {"state": {"a": ["x"]}, "questions": [{"instructions": "why"}]},
        [
            ("state#0", "a", "user"),
            ("state#1", "x", "user"),
            ("questions#0", "instructions", "user"),
            ("questions#1", "why", "user"),
        ],
        [],
    ),
    (
        "cohere",
        {"messages": [{"role": "user", "content": "c"}], "documents": ["d"]},
        [("messages[0].content", "c", "user"), ("documents#0", "d", "document")],
        [],
    ),
    (
        "invocations",
        {"messages": [{"role": "user", "content": "c"}], "prompt": "p", "input": "i", "query": "q"},
        [
            ("messages[0].content", "c", "user"),
            ("prompt", "p", "user"),
            ("input", "i", "user"),
            ("messages[0].content", "c", "user"),
            ("query", "q", "document"),
        ],
        [],
    ),
    ("opaque", {"anything": "x"}, [], []),
    ("transcription", {}, [], []),
    (
        "transcription",
        {
            "file": {"filename": "f.wav", "content_type": "audio/wav", "size": 9}, "model": "m", "prompt": "p", "hotwords": 41,
            "temperature": 0, "stream": True, "language": "en", "new": ["a", 7], "known_speaker_references[]": ["data:audio"],
        },
        [
            ("file.filename", "f.wav", "user"), ("prompt", "p", "user"), ("hotwords", "41", "user"), ("language", "en", "user"),
            ("*[0]", "a", "user"), ("*[1]", "7", "user"),
        ],
        ["file: file", "*[0]: file"],
    ),
    (
        "image_edits",
        {"prompt": "p", "image": ["data:image/png;base64,AA"], "images": [{"file_id": "f"}], "mask": {"image_url": "u"}},
        [("prompt", "p", "user")],
        ["image[0]: file", "images[0]: file_id", "mask: image_url"],
    ),
    (
        "chat",
        {
            "messages": [
                {"role": "assistant", "content": "c", "reasoning_details": [{"type": "t", "text": "r", "data": "b"}],
                 "tool_plan": "tp", "id": "i", "tool_call_id": "j"},
            ],
            "guided_choice": ["g1"], "guided_regex": "gr", "functions": [{"name": "old"}], "chat_template_kwargs": {"k": ["kw"]},
            "user": "u@x", "metadata": {"k": "mv", "n": 1}, "safety_identifier": "si",
        },
        [
            ("messages[0].content", "c", "assistant"), ("messages[0].*#0", "r", "assistant"),
            ("messages[0].*#0", "tp", "assistant"), ("functions#0", "old", "system"), ("chat_template_kwargs#0", "kw", "system"),
            ("guided_regex", "gr", "system"), ("guided_choice#0", "g1", "system"), ("user", "u@x", "user"),
            ("safety_identifier", "si", "user"), ("metadata#0", "mv", "user"),
        ],
        [],
    ),
    (
        "completions",
        {"prompt": ["a", [1, 2]], "guided_json": {"title": "t"}, "user": "u"},
        [("prompt[0]", "a", "user"), ("guided_json#0", "t", "system"), ("user", "u", "user")],
        ["prompt: token ids"],
    ),
    (
        "responses",
        {
            "input": [
                {"type": "image_generation_call", "id": "i", "result": "aGk=", "revised_prompt": "rp"},
                {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "u"}},
                {"type": "local_shell_call", "action": {"command": ["ls", "x"]}},
                {"type": "local_shell_call_output", "output": "lo"},
                {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "co"}]},
                {"type": "file_search_call", "queries": ["q"], "results": [{"text": "rt"}]},
                {"type": "web_search_call", "action": {"query": "wq"}},
                {"type": "code_interpreter_call", "code": "cc"},
                {"type": "mcp_approval_response", "reason": "because"},
                {"type": "reasoning", "summary": [], "encrypted_content": "xx"},
                {"type": "something_new", "inside": {"deep": ["dn"]}},
            ],
            "structured_outputs": {"regex": "sr"}, "metadata": {"a": "m"}, "conversation": "conv",
        },
        [
            ("input[0].*", "rp", "assistant"), ("input[2].*#0", "command", "assistant"), ("input[2].*#1", "ls", "assistant"),
            ("input[2].*#2", "x", "assistant"), ("input[3].output", "lo", "tool"), ("input[4].output[0].text", "co", "tool"),
            ("input[5].*#0", "q", "assistant"), ("input[5].*#0", "text", "assistant"), ("input[5].*#1", "rt", "assistant"),
            ("input[6].*#0", "query", "assistant"), ("input[6].*#1", "wq", "assistant"), ("input[7].*", "cc", "assistant"),
            ("input[8].*", "because", "assistant"), ("input[10].*#0", "deep", "assistant"), ("input[10].*#1", "dn", "assistant"),
            ("structured_outputs#0", "sr", "system"), ("metadata#0", "m", "user"),
        ],
        [
            "input[0]: result", "input[1].output: image_url", "input[9]: encrypted_content",
            "conversation: not in this request",
        ],
    ),
    (
        "messages",
        {
            "messages": [{"role": "user", "content": [{"type": "search_result", "title": "ti", "source": "https://x",
                                                       "content": [{"type": "text", "text": "sr"}]}]}],
            "output_config": {"format": {"schema": {"enum": ["e"]}}}, "metadata": {"user_id": "u"},
        },
        [
            ("messages[0].content[0].title", "ti", "user"), ("messages[0].content[0].source", "https://x", "user"),
            ("messages[0].content[0].content[0].text", "sr", "user"), ("output_config#0", "e", "system"),
            ("metadata#0", "u", "user"),
        ],
        [],
    ),
    (
        "rerank",
        {"query": "q", "documents": [{"text": "t", "title": "ti"}, {"anything": {"deep": "d"}}], "user": "u"},
        [
            ("query", "q", "document"), ("documents[0].text", "t", "document"), ("documents[0].title", "ti", "document"),
            ("documents[1].*#0", "deep", "document"), ("documents[1].*#1", "d", "document"), ("user", "u", "user"),
        ],
        [],
    ),
    (
        "cohere",
        {
            "messages": [{"role": "assistant", "tool_plan": "tp", "content": [
                {"type": "text", "text": "t"}, {"type": "document", "document": {"data": {"snippet": "s"}}}]}],
            "documents": [{"id": "1", "data": {"text": "d"}}],
        },
        [
            ("messages[0].content[0].text", "t", "assistant"), ("messages[0].content[1].*#0", "data", "assistant"),
            ("messages[0].content[1].*#1", "snippet", "assistant"), ("messages[0].content[1].*#2", "s", "assistant"),
            ("messages[0].*#0", "tp", "assistant"), ("documents#0", "1", "document"), ("documents#1", "d", "document"),
        ],
        [],
    ),
]


@pytest.mark.parametrize(("name", "doc", "expected", "opaque"), CASES, ids=lambda v: v if isinstance(v, str) else None)
def test_places(name: str, doc: Any, expected: list[tuple[str, str, str]], opaque: list[str]) -> None:
    segments, blind = DIALECTS[name].request(jsonio.decode(json.dumps(doc).encode()))
    assert [(s.where, s.text, s.trust) for s in segments] == expected
    assert blind == opaque


def test_every_dialect_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(DIALECTS)


@pytest.mark.parametrize(("name", "doc"), [c[:2] for c in CASES], ids=lambda v: v if isinstance(v, str) else None)
def test_unchanged_segments_leave_the_document(name: str, doc: Any) -> None:
    """Law 4."""
    raw = json.dumps(doc, separators=(",", ":"), ensure_ascii=False).encode()
    read = jsonio.decode(raw)
    for segment in DIALECTS[name].request(read)[0]:
        segment.text = str(segment.text)
        assert not segment.changed
    assert jsonio.encode(read) == raw


@pytest.mark.parametrize(
    ("name", "doc"), [c[:2] for c in CASES if c[2]], ids=lambda v: v if isinstance(v, str) else None
)
def test_changed_segments_are_written(name: str, doc: Any) -> None:
    read = jsonio.decode(json.dumps(doc).encode())
    segments, _ = DIALECTS[name].request(read)
    for n, segment in enumerate(segments):
        segment.text = f'<{n}>"\\\n😀'
    again = jsonio.decode(jsonio.encode(read))
    found = {s.text for s in DIALECTS[name].request(again)[0]}
    assert found == {f'<{n}>"\\\n😀' for n in range(len(segments))} or name == "invocations"
    for _, text, _ in next(c for c in CASES if c[1] is doc)[2]:
        assert text not in found


def test_arguments_keep_their_untouched_numbers() -> None:
    doc = jsonio.decode(
        json.dumps({"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": ARGS}}]}]}).encode()
    )
    segments, _ = DIALECTS["chat"].request(doc)
    next(s for s in segments if s.text == "a@b").text = "[X]"
    next(s for s in segments if s.text == "to").text = "[K]"
    next(s for s in segments if s.text == "1.50").text = "[N]"
    text = jsonio.decode(jsonio.encode(doc))["messages"][0]["tool_calls"][0]["function"]["arguments"]
    assert text == '{"[K]":"[X]","n":123456789012345678901,"deep":[{"k":"[N]"}],"ok":true,"none":null}'


def test_addresses_never_hold_a_key_of_the_caller() -> None:
    doc = {
        "messages": [
            {"role": "user", "content": [{"type": "x", "alice@example.com": {"bob@example.com": "t"}}]},
            {"role": "assistant", "tool_calls": [{"function": {"arguments": '{"alice@example.com": "t"}'}}]},
        ],
        "chat_template_kwargs": {"alice@example.com": "t"},
    }
    segments, opaque = DIALECTS["chat"].request(doc)
    assert len(segments) == 5
    assert not any("example" in s.where for s in segments)
    assert not opaque


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        ({"model": "m", "stream": True}, ("m", True)),
        ({"model": 3, "stream": "true"}, (None, False)),
        ([], (None, False)),
        (None, (None, False)),
    ],
)
def test_peek(doc: Any, expected: tuple[str | None, bool]) -> None:
    assert all(d.peek(doc) == expected for d in DIALECTS.values())


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "role",
                    "content",
                    "type",
                    "text",
                    "input",
                    "prompt",
                    "tool_calls",
                    "function",
                    "arguments",
                    "documents",
                    "tools",
                    "output",
                    "summary",
                    "source",
                    "system",
                    "query",
                    "function_call",
                    "prediction",
                    "inputs",
                    "response_format",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(doc=ODD)
def test_no_shape_makes_a_dialect_fail(doc: Any) -> None:
    raw = jsonio.encode(doc)
    for dialect in DIALECTS.values():
        read = jsonio.decode(raw)
        segments, _ = dialect.request(read)
        assert jsonio.encode(read) == raw
        for segment in segments:
            segment.text = segment.text + "!"
        jsonio.encode(read)


def test_deep_documents_are_walked_without_recursion() -> None:
    deep: Any = "leaf"
    for _ in range(900):
        deep = [deep]
    doc = {"messages": [{"role": "user", "content": deep}], "tools": deep, "documents": deep}
    assert "leaf" in [s.text for s in DIALECTS["chat"].request(doc)[0]]
    content: Any = "leaf"
    for _ in range(400):
        content = [{"type": "x", "content": content}]
    assert [s.text for s in DIALECTS["chat"].request({"messages": [{"role": "user", "content": content}]})[0]][
        -1
    ] == "leaf"
