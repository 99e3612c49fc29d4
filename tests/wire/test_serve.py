"""``headgate serve`` as a process: how it starts, what its admin port shows, how it ends, what it logs."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.kits.backend import Call, backend, hello
from tests.kits.client import Broken, Client, connect, fetch, request
from tests.kits.fronts import KEY
from tests.kits.process import PATIENCE, Process, headgate, serve
from tests.kits.stream import DEADLINE, until

GUARD = """\
version: 1
backends: {local: {url: URL}}
policies:
  - name: sane-requests
    use: request_guard
    max_tokens: 4096
"""
CHAT = request("POST", "/v1/chat/completions", json.dumps({"model": "demo", "stream": True}).encode())


def chat(**asked: Any) -> bytes:
    return request("POST", "/v1/chat/completions", json.dumps({"model": "demo", "messages": [], **asked}).encode())


async def get(process: Process, path: str) -> tuple[int, Any]:
    """A page of the admin port: JSON parsed, anything else as text."""
    async with aiohttp.request("GET", f"http://127.0.0.1:{process.admin}{path}") as reply:
        text = await reply.text()
        return reply.status, json.loads(text) if reply.content_type == "application/json" else text


class Streams:
    """A backend script: every chat is a stream that goes on when ``go`` is set."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, call: Call) -> None:
        if call.method == b"GET":
            await hello(call)
            return
        await call.begin_sse()
        await call.chunk(b"data: 0\n\n")
        await self.go.wait()
        await call.chunk(b"data: 1\n\n", b"data: [DONE]\n\n")
        await call.end_chunked()


async def rest(client: Client) -> bytes:
    """The body up to its proper end."""
    pieces = []
    while piece := await client.chunk():
        pieces.append(piece)
    return b"".join(pieces)


async def opened(client: Client) -> None:
    """Begin a stream and take its first piece."""
    await client.send(CHAT)
    assert (await client.final_head()).status == 200
    assert await client.chunk() == b"data: 0\n\n"


# -- start


async def test_with_a_backend_alone_it_is_a_plain_relay(tmp_path: Path) -> None:
    async with backend(hello) as b, serve("--backend", b.url, cwd=tmp_path) as p:
        raw = chat(max_tokens=10**9, extra=[1.0, 1e5, 2**80])
        reply = await fetch(p.port, raw)
        assert reply.status == 200
        assert b.calls[0].body == raw.partition(b"\r\n\r\n")[2]
        assert await get(p, "/health") == (200, {"status": "ok"})
        assert (await get(p, "/ready"))[0] == 200
        status, policies = await get(p, "/policies")
        assert (status, policies["routes"]) == (200, [])
        assert policies["last_failed_reload"] is None
        status, metrics = await get(p, "/metrics")
        assert 'headgate_requests_total{route="chat",status="200",tier="opaque"} 1' in metrics
        assert (await get(p, "/version"))[1]["version"]
        assert await p.stop() == 0
        assert [line["event"] for line in map(json.loads, p.stdout)] == ["start", "request", "drain", "stop"]
        assert p.stderr == []


async def test_with_the_policy_file_of_its_directory(tmp_path: Path) -> None:
    async with backend(hello) as b:
        (tmp_path / "policy.yaml").write_text(GUARD.replace("URL", b.url))
        async with serve(cwd=tmp_path) as p:
            assert (await fetch(p.port, chat(max_tokens=4096))).status == 200
            refused = await fetch(p.port, chat(max_tokens=4097))
            assert refused.status == 400
            assert json.loads(refused.body)["error"]["param"] == "max_tokens"
            _, policies = await get(p, "/policies")
            rows = {row["route"]: row for row in policies["routes"]}
            assert rows["chat"]["steps"][0]["policy"] == "sane-requests"
            assert policies["source"].endswith("policy.yaml")
            assert p.logged("start")[0]["policies"] == 1
            assert await p.stop() == 0
        assert len(b.calls) == 1


async def test_it_is_not_ready_before_a_backend_can_be_reached(tmp_path: Path) -> None:
    with socket.socket() as held:  # bound, not listening: connections are refused, and nobody else takes the port
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        async with serve("--backend", f"http://127.0.0.1:{port}", cwd=tmp_path) as p:
            assert (await get(p, "/health"))[0] == 200
            status, missing = await get(p, "/ready")
            assert status == 503 and "backend" in json.dumps(missing)
            held.listen()

            async def ready() -> None:
                while (await get(p, "/ready"))[0] != 200:  # noqa: ASYNC110 - the process has no event for it
                    await asyncio.sleep(0.05)

            await asyncio.wait_for(ready(), DEADLINE)


@pytest.mark.parametrize("taken", ["--listen", "--admin"])
async def test_an_address_in_use(tmp_path: Path, taken: str) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        address = f"127.0.0.1:{held.getsockname()[1]}"
        free = "--admin" if taken == "--listen" else "--listen"
        argv = ("serve", "--backend", "http://127.0.0.1:9", taken, address, free, "127.0.0.1:0")
        for more in ((), ("--workers", "2")):
            async with headgate(*argv, *more, cwd=tmp_path) as p:
                assert await p.ended() == 69
                assert p.stdout == []
                assert len(p.stderr) == 1
                assert "in use" in p.stderr[0] and address in p.stderr[0]


async def test_a_bad_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(GUARD.replace("URL", "http://127.0.0.1:9").replace("max_tokens: 4096", "max_tokns: 4096\n    n: x"))
    for argv in (("serve",), ("serve", "--workers", "2"), ("serve", "--policy", str(file))):
        async with headgate(*argv, cwd=tmp_path) as p:
            assert await p.ended() == 78
            assert p.stdout == []
            errors = [line for line in p.stderr if "policy.yaml:" in line]
            assert "policy.yaml:6:5" in errors[0] and "max_tokens" in errors[0]
            assert "policy.yaml:7:8" in errors[1]
            assert "Traceback" not in p.text
    async with headgate("serve", "--policy", "absent.yaml", cwd=tmp_path) as p:
        assert await p.ended() == 78
        assert "absent.yaml" in p.text and "Traceback" not in p.text
    async with headgate("serve", cwd=tmp_path / "..") as p:
        assert await p.ended() == 78


# -- end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_running_stream_ends_whole(tmp_path: Path, number: signal.Signals) -> None:
    streams = Streams()
    async with backend(streams) as b, serve("--backend", b.url, cwd=tmp_path) as p:
        async with connect(p.port) as client, connect(p.port) as idle:
            await opened(client)
            assert (await idle.ask(request())).status == 200
            p.send(number)
            await p.event("drain")
            await idle.gone()
            assert (await get(p, "/ready"))[0] == 503
            with pytest.raises(ConnectionRefusedError):
                async with connect(p.port):
                    pass
            assert not client.eof
            streams.go.set()
            assert await rest(client) == b"data: 1\n\ndata: [DONE]\n\n"
            assert await p.ended() == 0
        assert p.logged("stop")[0]["state"] == "clean"
        assert len(p.logged("request")) == 2


async def test_what_does_not_end_in_time_is_cut_off_visibly(tmp_path: Path) -> None:
    streams = Streams()
    async with backend(streams) as b, serve("--backend", b.url, "--drain-timeout", "100ms", cwd=tmp_path) as p:
        async with connect(p.port) as client:
            await opened(client)
            assert await p.stop() == 70
            with pytest.raises(Broken):
                await client.chunk()
        assert p.logged("stop")[0]["state"] == "cut off"
        assert p.logged("request")[0]["fault"] == "draining"
        await until(lambda: all(s.eof for s in b.streams))


async def test_told_twice_it_does_not_wait(tmp_path: Path) -> None:
    async with backend(Streams()) as b, serve("--backend", b.url, cwd=tmp_path) as p, connect(p.port) as client:
        await opened(client)
        p.send(signal.SIGINT)
        await p.event("drain")
        p.send(signal.SIGINT)
        assert await p.ended() == 70
        with pytest.raises(Broken):
            await client.chunk()


# -- reload


async def policies_with(p: Process, what: str, value: Any) -> dict[str, Any]:
    """Poll /policies until a field of it has changed from ``value``; the page."""
    async with asyncio.timeout(DEADLINE):
        while True:
            _, page = await get(p, "/policies")
            if page.get(what) != value:
                found: dict[str, Any] = page
                return found
            await asyncio.sleep(0.02)


async def test_a_changed_file_goes_live_and_a_bad_one_does_not(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    loop = asyncio.get_running_loop()
    streams = Streams()
    async with backend(streams) as b:
        text = GUARD.replace("URL", b.url)
        file.write_text(text)
        async with serve(cwd=tmp_path) as p, connect(p.port) as client:
            await opened(client)  # runs under the first policy, through all reloads
            first = (await get(p, "/policies"))[1]
            assert (await fetch(p.port, chat(max_tokens=5000))).status == 400

            written = loop.time()
            file.write_text(text.replace("4096", "10"))
            second = await policies_with(p, "hash", first["hash"])
            took = loop.time() - written
            assert took < 5.0, f"{took:.2f} s; 0.75 s and the loading on an idle machine"
            assert second["since"] >= first["since"]
            assert (await fetch(p.port, chat(max_tokens=11))).status == 400
            await p.event("policy_reloaded")

            file.write_text(text.replace("max_tokens", "max_tokns"))
            page = await policies_with(p, "last_failed_reload", None)
            assert page["hash"] == second["hash"], "the old one stays"
            assert "policy.yaml:6:5" in page["last_failed_reload"]["problems"][0]["where"]
            line = await p.event("policy_rejected")
            assert "policy.yaml:6:5" in line["where"] and "max_tokens" in line["message"]
            _, metrics = await get(p, "/metrics")
            assert "headgate_config_last_reload_successful 0" in metrics
            assert (await fetch(p.port, chat(max_tokens=11))).status == 400

            file.write_text(text.replace("4096", "20"))
            page = await policies_with(p, "hash", second["hash"])
            assert page.get("last_failed_reload") is None
            _, metrics = await get(p, "/metrics")
            assert "headgate_config_last_reload_successful 1" in metrics
            assert (await fetch(p.port, chat(max_tokens=21))).status == 400

            streams.go.set()
            assert (await rest(client)).endswith(b"data: [DONE]\n\n")
            assert await p.stop() == 0


async def test_sighup_reloads_at_once_and_a_removed_file_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    async with backend(hello) as b:
        text = GUARD.replace("URL", b.url)
        file.write_text(text)
        async with serve(cwd=tmp_path) as p:
            first = (await get(p, "/policies"))[1]
            fresh = tmp_path / "new"
            fresh.write_text(text.replace("4096", "10").replace("version: 1", "version: 1\nlisten: 127.0.0.1:1"))
            fresh.rename(file)
            p.send(signal.SIGHUP)
            await policies_with(p, "hash", first["hash"])
            assert (await fetch(p.port, chat(max_tokens=11))).status == 400
            file.unlink()
            p.send(signal.SIGHUP)
            await p.event("policy_rejected")
            assert (await fetch(p.port, chat(max_tokens=10))).status == 200
            assert await p.stop() == 0


# -- log


@pytest.mark.parametrize("form", ["text", "off"])
async def test_other_forms_of_the_log_and_no_admin_port(tmp_path: Path, form: str) -> None:
    async with backend(hello) as b, headgate(
        "serve", "--backend", b.url, "--listen", "127.0.0.1:0", "--admin", "off", "--log", form, cwd=tmp_path
    ) as p:
        if form == "text":
            line: str = await p.until(lambda: next((x for x in p.stdout if " start " in x), None))
            port = int(line.partition("listen=['127.0.0.1:")[2].partition("'")[0])
            assert (await fetch(port, request(target="/v1/models?MARKER-QUERY"))).status == 200
            await p.until(lambda: "200 GET /v1/models" in p.text)
            assert "MARKER" not in p.text
        else:
            await until(lambda: b.accepted, timeout=PATIENCE)  # it looks whether the backend is there: so it is up
        assert await p.stop() == 0
        assert p.stderr == []
        assert form == "text" or p.stdout == []


async def test_one_line_per_request_and_nothing_of_what_was_said(tmp_path: Path) -> None:
    """Markers planted in prompt, reply, keys, fields, query and refused requests show in no output of the process."""
    said = "MARKER-REPLY-3f9"

    async def script(call: Call) -> None:
        if call.target.startswith(b"/v1/files"):
            await call.begin_sse()
            await call.chunk(said.encode())
            call.reset()
            return
        content = {"choices": [{"message": {"content": said}}], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
        await call.reply(json.dumps(content).encode(), fields=[(b"Content-Type", b"application/json"), (b"X-M", b"MARKER-H")])

    keys = [(b"Authorization", b"Bearer " + KEY.encode()), (b"x-api-key", KEY.encode()), (b"Cookie", b"MARKER-COOKIE")]
    asked = {"model": "demo", "messages": [{"role": "user", "content": "MARKER-PROMPT"}], "user": "MARKER-USER"}

    def post(path: str, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
        return request("POST", path, body, fields=[*keys, *more])

    async with backend(script) as b:
        (tmp_path / "policy.yaml").write_text(GUARD.replace("URL", b.url))
        async with serve(cwd=tmp_path) as p:
            ok = json.dumps(asked).encode()
            raws = [
                (200, post("/v1/chat/completions?api_key=MARKER-QUERY", ok, (b"X-Request-Id", b"mine-1"))),
                (400, post("/v1/chat/completions", json.dumps({**asked, "max_tokens": 10**9}).encode())),
                (400, post("/v1/chat/completions", ok[:-9] + b"MARKER-BROKEN")),
                (400, post("/v1/messages", b'{"MARKER-KEY": }')),
                (200, post("/v1/unknown", ok)),
            ]
            for status, raw in raws:
                assert (await fetch(p.port, raw)).status == status
            with pytest.raises(Broken):
                await fetch(p.port, post("/v1/files", ok))
            assert (await fetch(p.port, b"GET /MARKER-TARGET HTTP/1.1\r\nMARKER-BAD FIELD: x\r\n\r\n")).status == 400
            assert (await fetch(p.port, b"MARKER-METHOD / HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400
            await p.event("request", n=len(raws) + 1)
            await p.event("refused", n=2)
            assert await p.stop() == 0
            lines = p.logged("request")
            assert len(lines) == len(raws) + 1
            first = lines[0]
            assert (first["id"], first["route"], first["status"], first["model_asked"]) == ("mine-1", "chat", 200, "demo")
            assert first["usage"] == {"prompt": 3, "completion": 5}
            assert first["attempts"][0]["backend"] == "local"
            assert lines[-1]["fault"] == "backend_cut"
            for secret in ("MARKER", KEY, said):
                assert secret not in p.text
            assert all(line.startswith("{") for line in p.stdout) and p.stderr == []
