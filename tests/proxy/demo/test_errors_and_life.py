"""Bad input, start and stop, the realtime socket."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import aiohttp
import pytest

from proxy.demo import backend as demo
from proxy.demo import chat, draft, knobs
from tests.proxy.demo.raw import Wire

CHAT = "/v1/chat/completions"
TURN = {"role": "user", "content": "x"}
DEEP = '{"a":' * 50_000 + "1" + "}" * 50_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, b""),
        (CHAT, b"{"),
        (CHAT, b"\xff\xfe"),
        (CHAT, b"[]"),
        (CHAT, DEEP.encode()),
        (CHAT, b'{"messages":' + b"[" * 900 + b"]" * 900 + b"}"),
        (CHAT, {}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": "x"}),
        (CHAT, {"messages": [{}]}),
        (CHAT, {"messages": [TURN], "model": 7}),
        (CHAT, {"messages": [TURN], "n": 0}),
        (CHAT, {"messages": [TURN], "n": True}),
        (CHAT, {"messages": [TURN], "n": 10**9}),
        (CHAT, {"messages": [TURN], "stream": "yes"}),
        (CHAT, {"messages": [TURN], "max_tokens": 0}),
        (CHAT, {"messages": [TURN], "max_tokens": 1.5}),
        (CHAT, {"messages": [TURN], "stop": [1]}),
        (CHAT, {"messages": [TURN], "stream_options": {"include_usage": True}}),
        (CHAT, {"messages": [TURN], "top_logprobs": 21}),
        (CHAT, {"messages": [TURN], "tools": "x"}),
        (CHAT, {"messages": [TURN], "tools": [{"function": 3}]}),
        (CHAT, {"messages": [TURN], "tool_choice": "required"}),
        (CHAT, {"messages": [TURN], "tool_choice": ["x"]}),
        (CHAT, {"messages": [TURN], "response_format": {"type": "xml"}}),
        (CHAT, {"messages": [TURN], "response_format": {"type": ["x"]}}),
        ("/v1/completions", {}),
        ("/v1/completions", {"prompt": []}),
        ("/v1/completions", {"prompt": ["a", 1]}),
        ("/v1/completions", {"prompt": [[]]}),
        ("/v1/completions", {"prompt": ["a"] * 100, "n": 2}),
        ("/v1/responses", {}),
        ("/v1/responses", {"input": [3]}),
        ("/v1/responses", {"input": "x", "text": {"format": {"type": "xml"}}}),
        ("/v1/responses", {"input": "x", "tool_choice": "required"}),
        ("/v1/responses", {"input": "x", "background": True, "store": False}),
        ("/v1/messages", {"messages": [TURN]}),
        ("/v1/messages", {"messages": [TURN], "max_tokens": 5, "system": 3}),
        ("/v1/messages", {"messages": [TURN], "max_tokens": 5, "tool_choice": {"type": ["x"]}}),
        ("/v1/audio/speech", {"input": ""}),
        ("/v1/moderations", {}),
    ],
)
async def test_bad_bodies_are_refused_in_the_shape_of_the_api(
    wire: Wire, path: str, body: Any, caplog: pytest.LogCaptureFixture
) -> None:
    status, answer = await wire.json("POST", path, body)
    assert status == 400, answer
    assert answer["error"]["message"]
    if path == "/v1/messages":
        assert (answer["type"], answer["error"]["type"]) == ("error", "invalid_request_error")
    else:
        assert (answer["error"]["type"], answer["error"]["code"]) == ("BadRequestError", 400)
    assert not caplog.records


@pytest.mark.parametrize(
    "content",
    [None, 7, "\ud800 lone", [], [7, None, "bare"], [{"type": "image_url", "image_url": {"url": "u"}}]],
)
async def test_odd_content_is_answered(wire: Wire, content: Any) -> None:
    ask = {"messages": [{"role": "user", "content": content}]}
    for knob in ("", "echo=1"):
        status, _ = await wire.json("POST", CHAT, ask, knob)
        assert status == 200


async def test_unknown_paths_methods_and_models(wire: Wire) -> None:
    status, body = await wire.json("GET", "/v2/nothing")
    assert (status, body["error"]["type"], body["error"]["code"]) == (404, "NotFoundError", 404)
    status, headers, _ = await wire.call("DELETE", CHAT)
    assert (status, headers["allow"]) == (405, "POST")
    status, body = await wire.json("POST", "/v1/messages", {"model": "x", "messages": [TURN], "max_tokens": 1})
    assert (status, body["error"]["type"]) == (404, "not_found_error")


async def test_too_large_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_BODY", 1000)
    small = await demo.start(rate=0)
    try:
        status, body = await Wire(small).json("POST", CHAT, {"messages": [TURN], "pad": "x" * 1000})
        assert (status, body["error"]["code"]) == (413, 413)
    finally:
        await small.close()


async def test_replies_have_a_cap(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draft, "_MAX_PIECES", 100)
    assert (await wire.json("POST", CHAT, {"messages": [TURN], "n": 2}, "tokens=50"))[0] == 200
    status, body = await wire.json("POST", CHAT, {"messages": [TURN], "n": 2}, "tokens=51")
    assert (status, "at most 100 tokens" in body["error"]["message"]) == (400, True)
    status, body = await wire.json("POST", "/v1/completions", {"prompt": "x" * 500_001, "echo": True})
    assert (status, body["error"]["param"]) == (400, "prompt")
    schema = {"type": "array", "minItems": 20, "items": {"type": "string", "minLength": 100_000}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert (await wire.json("POST", CHAT, {"messages": [TURN], "response_format": form}))[0] == 400


async def test_a_bug_is_a_500_and_no_text_is_logged(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise KeyError("the prompt")

    monkeypatch.setattr(chat, "reply", broken)
    with caplog.at_level(logging.DEBUG):
        status, body = await wire.json("POST", CHAT, {"messages": [{"role": "user", "content": "the prompt"}]})
    assert (status, body["error"]["type"]) == (500, "InternalServerError")
    assert "KeyError in broken" in caplog.text
    assert "the prompt" not in caplog.text
    assert "the prompt" not in json.dumps(body)


async def test_headers_of_a_reply(wire: Wire) -> None:
    for body in ({"messages": [TURN]}, {}):
        _, headers, _ = await wire.call("POST", CHAT, body, X_Request_Id="abc-1")
        assert (headers["server"], headers["x-request-id"]) == ("headgate-demo", "abc-1")
        assert headers["content-type"].startswith("application/json")
    assert "x-request-id" not in (await wire.call("GET", "/health"))[1]


async def test_ids_differ_but_for_the_same_request_id(wire: Wire) -> None:
    ask = {"messages": [TURN]}
    ids = [(await wire.json("POST", CHAT, ask))[1]["id"] for _ in range(2)]
    assert ids[0] != ids[1]
    same = [await wire.call("POST", CHAT, ask, X_Request_Id="r") for _ in range(2)]
    assert same[0][2] == same[1][2]


# -- start and stop ------------------------------------------------------------------------------------


async def test_close_ends_stalled_streams_and_frees_the_port(wire: Wire, running: demo.RunningBackend) -> None:
    reader, _ = await wire.open("POST", CHAT, {"messages": [TURN], "stream": True}, "stall=1")
    await reader.readuntil(b"\n\n")
    async with asyncio.timeout(3):
        await running.close()
        assert not (await reader.read()).endswith(b"0\r\n\r\n")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", running.port)
    await running.close()


async def test_a_taken_port_and_bad_defaults(running: demo.RunningBackend) -> None:
    with pytest.raises(OSError):
        await demo.start(port=running.port)
    with pytest.raises(knobs.KnobError):
        await demo.start(defaults="bogus=1")


async def test_the_module_runs_until_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.demo.backend", "--port", "0", "--knobs", "say=hello",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(10):
            line = (await process.stdout.readline()).decode()
            url = line.removeprefix("demo backend: ").strip()
            ask = {"messages": [TURN]}
            async with aiohttp.request("POST", f"{url}/chat/completions", json=ask) as reply:
                assert (await reply.json())["choices"][0]["message"]["content"] == "hello"
            process.terminate()
            _, err = await process.communicate()
            assert (process.returncode, err) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()


def test_bad_arguments() -> None:
    for argv in (["--knobs", "bogus=1"], ["--rate", "-3"], ["--port", "x"]):
        with pytest.raises(SystemExit) as caught:
            demo.main(argv)
        assert caught.value.code == 2
    assert demo.main(["--port", "70000"]) == 1


# -- realtime ------------------------------------------------------------------------------------------


async def frames(socket: aiohttp.ClientWebSocketResponse, last: str) -> list[Any]:
    """The frames up to the one of type `last`."""
    found: list[Any] = []
    async with asyncio.timeout(3):
        while not found or found[-1]["type"] != last:
            found.append(await socket.receive_json())
    return found


async def test_realtime_echoes(running: demo.RunningBackend) -> None:
    part = {"type": "input_text", "text": "Open the gate, ünïcode ☃."}
    item = {"type": "message", "role": "user", "content": [part]}
    asked = ("realtime", "openai-insecure-api-key.none")
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.url}/v1/realtime?model=demo", protocols=asked) as socket,
    ):
        assert socket.protocol == "realtime"
        opened = await socket.receive_json()
        assert (opened["type"], opened["session"]["model"]) == ("session.created", "demo")
        await socket.send_json({"type": "session.update", "session": {}})
        await frames(socket, "session.updated")
        await socket.send_json({"type": "conversation.item.create", "item": item})
        await frames(socket, "conversation.item.created")
        await socket.send_json({"type": "response.create"})
        seen = await frames(socket, "response.done")
        deltas = [f["delta"] for f in seen if f["type"] == "response.text.delta"]
        assert "".join(deltas) == part["text"]
        assert len(deltas) > 3
        assert [f["text"] for f in seen if f["type"] == "response.text.done"] == [part["text"]]
        for bad in ("{", "[]", '{"type": "odd"}', '{"type": "conversation.item.create", "item": 3}'):
            await socket.send_str(bad)
            await frames(socket, "error")
        await socket.send_bytes(b"\x00")
        await frames(socket, "error")
        ids = [f["event_id"] for f in seen]
        assert len(set(ids)) == len(ids)


async def test_realtime_refuses_before_the_upgrade(running: demo.RunningBackend, wire: Wire) -> None:
    async with aiohttp.ClientSession() as session:
        for query, headers, status in (
            ("model=other", {}, 404),
            ("model=demo%3Bfail%3D429", {}, 429),
            ("", {"x-demo": "bogus"}, 400),
        ):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"{running.url}/v1/realtime?{query}", headers=headers)
            assert caught.value.status == status
    assert (await wire.call("GET", "/v1/realtime"))[0] == 426
    status, _, _ = await wire.call("GET", "/v1/realtime", Upgrade="websocket", Connection="upgrade")
    assert status == 400


async def test_realtime_cut_and_close(running: demo.RunningBackend) -> None:
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(f"{running.url}/v1/realtime", headers={"x-demo": "cut=1"})
        assert (await socket.receive_json())["type"] == "session.created"
        await socket.send_json({"type": "session.update"})
        message = await socket.receive(timeout=3)
        assert message.type is not aiohttp.WSMsgType.TEXT
        other = await session.ws_connect(f"{running.url}/v1/realtime")
        await other.receive_json()
        closing = asyncio.create_task(running.close())
        message = await other.receive(timeout=3)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
        await other.close()
        await closing
