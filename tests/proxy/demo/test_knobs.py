"""The knobs: how they are read, and what each does on the wire."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxy.demo import backend as demo
from proxy.demo import knobs, words
from proxy.demo.knobs import KNOBS, KnobError, Knobs
from tests.proxy.demo.raw import Wire, until

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Repeat: ünïcode ☃"}]}
STREAM = ASK | {"stream": True}


def text(events: list[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        if isinstance(event, dict)
        for choice in event.get("choices", ())
    )


# -- reading them --------------------------------------------------------------------------------------


def test_parse() -> None:
    found = knobs.parse("rate=2.5; pii ;say=a%3Bb%20c;retry_after=3;cut=head;split=bytes;tail=0")
    assert found == Knobs(rate=2.5, pii=True, say="a;b c", retry_after=3, cut=knobs.HEAD, split=1)
    assert knobs.parse("rate=0", found).say == "a;b c"
    assert knobs.parse(" ; ") == Knobs()


@pytest.mark.parametrize(
    "bad",
    ["bogus=1", "=1x", "rate=fast", "rate=nan", "rate=-1", "rate=inf", "tokens=0", "tokens=²", "fail=200",
     "fail=", "cut=-1", "say=%ff", "pii=maybe", "split=0", "to=nowhere", "error=" + "9" * 5000,
     "say=" + "x" * 70_000],
)  # fmt: skip
def test_bad_knobs_are_named(bad: str) -> None:
    with pytest.raises(KnobError) as caught:
        knobs.parse(bad)
    assert len(str(caught.value)) < 500
    if bad == "bogus=1":
        assert all(name in str(caught.value) for name in KNOBS)


async def test_unknown_knob_is_a_400_that_names_the_known(wire: Wire) -> None:
    for ask, header in ((ASK | {"model": "demo;speed=3"}, ""), (ASK, "speed=3")):
        status, body = await wire.json("POST", CHAT, ask, header)
        assert status == 400
        assert "'speed'" in body["error"]["message"]
        assert "ttft" in body["error"]["message"]


async def test_header_wins_over_model_wins_over_defaults() -> None:
    backend = await demo.start(rate=0, defaults="say=from%20defaults")
    try:
        wire = Wire(backend)
        assert text(await wire.stream(CHAT, ASK)) == "from defaults"
        assert text(await wire.stream(CHAT, ASK | {"model": "demo;say=model"})) == "model"
        assert text(await wire.stream(CHAT, ASK | {"model": "demo;say=model"}, "say=header")) == "header"
    finally:
        await backend.close()


def test_the_docs_list_every_knob() -> None:
    page = (Path(demo.__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    missing = [name for name, (_, about) in KNOBS.items() if about not in rows.get(name, "")]
    assert not missing, "docs/demo.md and proxy/demo/knobs.py differ: " + ", ".join(missing)


# -- what is said --------------------------------------------------------------------------------------


async def test_say_speaks_verbatim_in_small_pieces(wire: Wire) -> None:
    said = "Mail nora.quill@example.com; ünïcode ☃, 4111 1111 1111 1111.\n\n  End"
    quoted = "".join(f"%{byte:02x}" for byte in said.encode())
    events = await wire.stream(CHAT, ASK, f"say={quoted}")
    assert text(events) == said
    assert len(events) > 15
    events = await wire.stream(CHAT, ASK, f"say={quoted}; piece=1")
    assert len(events) == len(said) + 3  # the role, the finish, [DONE]


async def test_echo_pii_and_tokens(wire: Wire) -> None:
    assert text(await wire.stream(CHAT, ASK, "echo=1")) == "Repeat: ünïcode ☃"
    spoken = text(await wire.stream(CHAT, ASK, "pii=1"))
    assert all(value in spoken for value in words.PERSON.values())
    _, body = await wire.json("POST", CHAT, ASK, "tokens=123")
    assert body["usage"]["completion_tokens"] == 123


async def test_to_moves_the_speech_to_the_reasoning(wire: Wire) -> None:
    for where, content, reasoning in (
        ("reasoning", False, True),
        ("both", True, True),
        ("content", True, False),
    ):
        _, body = await wire.json("POST", CHAT, ASK, f"say=hush; to={where}")
        message = body["choices"][0]["message"]
        assert ((message["content"] == "hush"), (message["reasoning"] == "hush")) == (content, reasoning)


async def test_spoken_text_reaches_tool_arguments_escaped_or_not(wire: Wire) -> None:
    schema = {"type": "object", "properties": {"to": {"type": "string"}}}
    ask = ASK | {"tools": [{"type": "function", "function": {"name": "send", "parameters": schema}}]}

    async def arguments(knob: str) -> str:
        _, body = await wire.json("POST", CHAT, ask, f"say=nora%40example.com; {knob}")
        return str(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])

    plain, escaped = await arguments("escape=0"), await arguments("escape=1")
    assert json.loads(plain) == json.loads(escaped) == {"to": "nora@example.com"}
    assert "@" in plain
    assert "\\u0040" in escaped


async def test_tail_puts_the_last_piece_into_the_finish_event(wire: Wire) -> None:
    *_, last, done = await wire.stream(CHAT, ASK, "say=one%20two; tail=1")
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({"content": " two"}, "stop")
    *_, last, done = await wire.stream("/v1/completions", {"prompt": "x"}, "say=one%20two; tail=1")
    assert (last["choices"][0]["text"], last["choices"][0]["finish_reason"]) == (" two", "stop")
    assert done == "[DONE]"


# -- how it is written ---------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["bytes", "3", "whole", "events"])
async def test_split_changes_no_byte(wire: Wire, split: str) -> None:
    _, _, one = await wire.call("POST", CHAT, STREAM, "echo=1", X_Request_Id="r")
    _, _, two = await wire.call("POST", CHAT, STREAM, f"echo=1; split={split}", X_Request_Id="r")
    assert one == two
    assert b'"id":"chatcmpl-r"' in one
    _, _, plain = await wire.call("POST", CHAT, ASK, "echo=1", X_Request_Id="r")
    assert (await wire.call("POST", CHAT, ASK, f"echo=1; split={split}", X_Request_Id="r"))[2] == plain


async def test_split_bytes_makes_a_chunk_per_byte(wire: Wire) -> None:
    raw = await wire.raw("POST", CHAT, STREAM, "say=x; split=bytes")
    body = raw.partition(b"\r\n\r\n")[2]
    assert body.startswith(b"1\r\nd\r\n1\r\na\r\n1\r\nt\r\n")


async def test_each_event_is_one_write(wire: Wire) -> None:
    raw = await wire.raw("POST", CHAT, STREAM, "say=x")
    body = raw.partition(b"\r\n\r\n")[2]
    assert body.endswith(b"\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    assert body.count(b"\r\ndata: ") == body.count(b"data: ")


async def test_crlf_and_comments(wire: Wire) -> None:
    _, _, plain = await wire.call("POST", "/v1/responses", {"input": "x", "stream": True}, X_Request_Id="r")
    ask = {"input": "x", "stream": True}
    _, _, crlf = await wire.call("POST", "/v1/responses", ask, "crlf=1", X_Request_Id="r")
    assert crlf == plain.replace(b"\n", b"\r\n")
    _, _, noisy = await wire.call("POST", "/v1/responses", ask, "comments=1", X_Request_Id="r")
    assert noisy.replace(b": keep-alive\n\n", b"") == plain
    assert noisy.count(b": keep-alive\n\nevent: ") == plain.count(b"event: ")


# -- what goes wrong -----------------------------------------------------------------------------------


async def test_fail_times_counts_by_key(wire: Wire) -> None:
    async def statuses(knob: str) -> list[int]:
        return [(await wire.json("POST", CHAT, ASK, knob))[0] for _ in range(3)]

    assert await statuses("fail-times=2; key=a") == [503, 503, 200]
    assert await statuses("fail=429; fail-times=1; key=b") == [429, 200, 200]
    assert await statuses("fail=500") == [500, 500, 500]


async def test_error_inside_each_stream(wire: Wire) -> None:
    events = await wire.stream(CHAT, ASK, "error=0")
    assert [type(e) for e in events] == [dict, str]
    assert events[0]["error"]["code"] == 500
    events = await wire.stream("/v1/completions", {"prompt": "x"}, "error=2")
    assert "error" in events[2]
    assert events[3:] == ["[DONE]"]
    events = await wire.stream("/v1/responses", {"input": "x"}, "error=2")
    assert (events[2]["type"], events[2]["sequence_number"], len(events)) == ("error", 2, 3)
    events = await wire.stream("/v1/messages", ASK | {"max_tokens": 9}, "error=2")
    assert (events[2]["type"], events[2]["error"]["type"], len(events)) == ("error", "api_error", 3)


@pytest.mark.parametrize(
    ("path", "more", "ends"),
    [
        (CHAT, ASK, b"[DONE]"),
        ("/v1/completions", {"prompt": "x"}, b"[DONE]"),
        ("/v1/responses", {"input": "x"}, b"response.completed"),
        ("/v1/messages", ASK | {"max_tokens": 9}, b"message_stop"),
    ],
)
async def test_nodone_leaves_out_the_end_only(wire: Wire, path: str, more: dict[str, Any], ends: bytes) -> None:
    ask = more | {"stream": True}
    _, _, whole = await wire.call("POST", path, ask, X_Request_Id="r")
    _, _, cut = await wire.call("POST", path, ask, "nodone=1", X_Request_Id="r")
    assert ends in whole
    assert ends not in cut
    assert whole.startswith(cut)


async def test_malformed(wire: Wire) -> None:
    _, _, data = await wire.call("POST", CHAT, STREAM, "malformed=1; say=x")
    blocks = data.split(b"\n\n")[:-1]
    with pytest.raises(json.JSONDecodeError):
        json.loads(blocks[1][6:])
    assert json.loads(blocks[2][6:])["choices"][0]["delta"] == {"content": "x"}
    _, _, data = await wire.call("POST", CHAT, ASK, "malformed=40")
    assert len(data) == 40


@pytest.mark.parametrize("count", [0, 1, 4])
async def test_cut_breaks_the_body_after_n_events(wire: Wire, count: int) -> None:
    raw = await wire.raw("POST", CHAT, STREAM, f"cut={count}")
    assert raw.count(b"data: ") == count
    assert not raw.endswith(b"0\r\n\r\n")
    with pytest.raises(asyncio.IncompleteReadError):
        await wire.call("POST", CHAT, STREAM, f"cut={count}")


async def test_cut_of_a_plain_reply_and_before_the_head(wire: Wire) -> None:
    raw = await wire.raw("POST", CHAT, ASK, "cut=25")
    assert len(raw.partition(b"\r\n\r\n")[2]) == 25
    assert await wire.raw("POST", CHAT, ASK, "cut=head") == b""
    assert await wire.raw("GET", "/v1/models", None, "cut=head") == b""


async def test_reset_is_a_reset(wire: Wire) -> None:
    with pytest.raises(ConnectionResetError):
        await wire.raw("POST", CHAT, ASK, "cut=head; reset=1")


@pytest.mark.parametrize("knob", ["stall=2", "rate=0.01", "ttft=60000"])
@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_a_client_that_leaves_is_noticed_at_once(
    wire: Wire, running: demo.RunningBackend, knob: str, path: str
) -> None:
    _, writer = await wire.open("POST", path, STREAM | {"input": "x"}, knob)
    await until(lambda: running.state.stats.in_flight == 1)
    assert running.state.stats.cancelled == 0
    writer.close()
    await until(lambda: running.state.stats.in_flight == 0)
    assert running.state.stats.cancelled == 1


async def test_stall_says_what_it_has_and_then_nothing(wire: Wire) -> None:
    reader, writer = await wire.open("POST", CHAT, STREAM, "stall=2; say=a")
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in head
    assert b'"role":"assistant"' in await reader.readuntil(b"\n\n")
    assert b'"content":"a"' in await reader.readuntil(b"\n\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readuntil(b"\n\n"), 0.05)
    writer.close()


async def test_rate_and_ttft_ask_the_clock() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    backend = await demo.start(rate=10, sleep=sleep)
    try:
        wire = Wire(backend)
        events = await wire.stream(CHAT, ASK, "ttft=250")
        assert waits == [0.25] + [0.1] * (len(events) - 1)
        waits.clear()
        await wire.stream(CHAT, ASK, "rate=50; say=x")
        assert waits == [0.02] * 3
        waits.clear()
        await wire.json("POST", CHAT, ASK)
        assert waits == []
    finally:
        await backend.close()
