"""curl through headgate: what scripts and people do by hand, and what it says about framing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from policies.contract import Kind
from tests.kits.backend import Call, backend, head
from tests.kits.fronts import front
from tests.kits.gate import gate
from tests.kits.stream import DEADLINE, until

CURL = shutil.which("curl")
if CURL is None and os.environ.get("HEADGATE_REQUIRE_SERVICES") == "1":
    pytest.fail("curl is not installed, and HEADGATE_REQUIRE_SERVICES=1", pytrace=False)
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")

GUARD = "policies: [{use: request_guard, max_tokens: 4096}]"
ASK = json.dumps({"model": "demo", "messages": [{"role": "user", "content": "What does a weir do?"}]})
JSON = ("-H", "Content-Type: application/json")


async def started(*args: str) -> asyncio.subprocess.Process:
    assert CURL is not None
    return await asyncio.create_subprocess_exec(
        CURL, "-q", "-sS", "--noproxy", "*", "--max-time", "20", *args,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def curl(*args: str, given: bytes | None = None) -> tuple[int, bytes, str]:
    """(exit code, standard output, standard error)."""
    process = await started(*args)
    out, err = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out, err.decode()


def split(out: bytes) -> tuple[list[str], bytes]:
    """The head's lines and the body of ``curl -i``."""
    top, _, body = out.partition(b"\r\n\r\n")
    return top.decode("latin-1").split("\r\n"), body


@pytest.mark.parametrize("name", ["empty", "policies"])
async def test_a_plain_call(name: str) -> None:
    async with front(name) as at:
        code, out, err = await curl("-i", f"{at.gate.url}/v1/chat/completions", *JSON, "-d", ASK)
        assert (code, err) == (0, "")
        lines, body = split(out)
        assert lines[0] == "HTTP/1.1 200 OK"
        assert sum(line.lower().startswith("x-request-id:") for line in lines) == 1
        assert sum(line.lower().startswith("content-length:") for line in lines) == 1
        assert json.loads(body)["choices"][0]["message"]["content"]
        code, out, _ = await curl("-f", f"{at.gate.url}/v1/chat/completions", *JSON, "-d", '{"model": "gpt-9"}')
        assert code == 22


@pytest.mark.parametrize("policy", [None, GUARD])
async def test_a_stream_comes_piece_by_piece(policy: str | None) -> None:
    turn = asyncio.Semaphore(0)
    pieces = [b'data: {"choices":[{"index":0,"delta":{"content":"%d"}}]}\n\n' % i for i in range(5)]

    async def lock_step(call: Call) -> None:
        await call.begin_sse()
        for piece in pieces:
            await call.chunk(piece)
            await turn.acquire()
        await call.end_chunked()

    async with backend(lock_step) as b, gate(b.url, policy) as g:
        process = await started("-N", f"{g.url}/v1/chat/completions", *JSON, "-d", ASK)
        assert process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            for piece in pieces:
                assert await process.stdout.readuntil(b"\n\n") == piece
                turn.release()
            assert await process.stdout.read() == b""
            assert await process.wait() == 0


async def test_ending_curl_ends_the_backends_work() -> None:
    async with front("watched") as at:
        process = await started("-N", f"{at.gate.url}/v1/chat/completions", *JSON, "-H", "x-demo: stall=2", "-d",
                                ASK.replace("{", '{"stream": true, ', 1))  # fmt: skip
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readuntil(b"\n\n"), DEADLINE)
        process.kill()
        await until(lambda: at.backend.state.stats.cancelled == 1, timeout=1)
        await process.wait()
        assert (await at.gate.settled()).fault is Kind.CLIENT_GONE


# -- uploads


DATA = hashlib.sha256(b"seed").digest() * 100_000  # 3.2 MB
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds DATA."""
    made = tmp_path / "rows.bin"
    made.write_bytes(DATA)
    return made


async def test_expect_is_answered_by_the_backend(file: Path) -> None:
    """Large bodies: curl sends ``Expect: 100-continue`` by itself and waits for the word."""

    async def script(call: Call) -> None:
        assert call.value(b"expect") == b"100-continue"
        assert not call.stream.buffer, "the body came before it was asked for"
        await call.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        digest = hashlib.sha256(await call.read_body()).hexdigest()
        await call.reply(digest.encode())

    async with backend(script, read_body=False) as b, gate(b.url) as g:
        code, out, err = await curl("-v", f"{g.url}/v1/files", "--data-binary", f"@{file}")
        assert code == 0 and "< HTTP/1.1 100 Continue" in err and "Done waiting" not in err
        assert out.decode() == DIGEST


async def test_expect_is_answered_by_headgate_where_a_policy_reads_the_body() -> None:
    async with front("policies") as at:
        code, out, err = await curl(
            "-v", f"{at.gate.url}/v1/chat/completions", *JSON, "-H", "Expect: 100-continue", "-d", ASK
        )
        assert code == 0 and "< HTTP/1.1 100 Continue" in err
        assert json.loads(out)["choices"]


@pytest.mark.parametrize("policy", [None, "policies: [{use: request_guard, max_body: 1MB}]"])
async def test_an_early_refusal_reaches_a_waiting_client(file: Path, policy: str | None) -> None:
    async def script(call: Call) -> None:
        await call.reply(b"no", 413, reason=b"Content Too Large", fields=[(b"Connection", b"close")])
        call.close()

    async with backend(script, read_body=False) as b, gate(b.url, policy) as g:
        code, out, err = await curl("-v", "-w", "\n%{http_code} %{size_upload}", f"{g.url}/v1/chat/completions",
                                    *JSON, "--data-binary", f"@{file}")  # fmt: skip
        assert code == 0 and "100 Continue" not in err
        assert out.splitlines()[-1] == b"413 0"
        assert len(b.calls) == (1 if policy is None else 0)


async def test_a_chunked_upload_from_a_pipe() -> None:
    async def script(call: Call) -> None:
        assert call.value(b"transfer-encoding") == b"chunked"
        assert call.value(b"content-length") is None
        await call.reply(hashlib.sha256(call.body).hexdigest().encode())

    async with backend(script) as b, gate(b.url) as g:
        code, out, _ = await curl("-X", "POST", "-H", "Expect:", "-T", "-", f"{g.url}/v1/files", given=DATA)
        assert (code, out.decode()) == (0, DIGEST)
        assert (await g.settled()).bytes_in == len(DATA)


async def test_a_form_with_a_file(file: Path) -> None:
    async with front("policies") as at:
        code, out, _ = await curl(f"{at.gate.url}/v1/files", "-F", "purpose=batch", "-F", f"file=@{file}")
        made = json.loads(out)
        assert (code, made["bytes"]) == (0, len(DATA))
        code, out, _ = await curl(f"{at.gate.url}/v1/files/{made['id']}/content")
        assert code == 0 and out == DATA


# -- versions, methods, codings


async def chunked_reply(call: Call) -> None:
    await call.begin_chunked([(b"Content-Type", b"text/plain")])
    await call.chunk(b"one ", b"two")
    await call.end_chunked()


async def test_http_1_0_gets_no_chunks() -> None:
    async with backend(chunked_reply) as b, gate(b.url) as g:
        code, out, _ = await curl("-0", "-i", f"{g.url}/v1/models")
        lines, body = split(out)
        assert (code, body) == (0, b"one two")
        names = {line.partition(":")[0].lower() for line in lines[1:]}
        assert not names & {"transfer-encoding", "content-length"} and "Connection: close" in lines
        assert b.calls[0].version == b"HTTP/1.1"


@pytest.mark.parametrize("version", ["-0", "--http1.1"])
async def test_a_broken_reply_is_an_error_for_curl(version: str) -> None:
    async def script(call: Call) -> None:
        await call.begin_chunked()
        await call.chunk(b"half")
        call.close()

    async with backend(script) as b, gate(b.url) as g:
        code, out, _ = await curl(version, "-N", f"{g.url}/v1/models")
        assert code in (18, 56), code  # partial file, receive error
        assert out == b"half" or (version == "-0" and out == b"")
        assert (await g.settled()).fault is Kind.BACKEND_CUT


async def test_head_has_the_length_and_no_body() -> None:
    async def script(call: Call) -> None:
        assert call.method == b"HEAD"
        await call.send(head(200, [(b"Content-Length", b"12345"), (b"ETag", b'"x"')]))

    async with backend(script) as b, gate(b.url) as g:
        code, out, _ = await curl("-I", f"{g.url}/v1/models", f"{g.url}/v1/models")
        assert code == 0 and out.count(b"Content-Length: 12345\r\n") == out.count(b'ETag: "x"\r\n') == 2
        assert len(b.calls) == 2


async def test_compressed_replies_stay_compressed() -> None:
    packed = gzip.compress(b'{"object": "list"}' * 50)

    async def script(call: Call) -> None:
        await call.reply(packed, fields=[(b"Content-Encoding", b"gzip"), (b"Content-Type", b"application/json")])

    async with backend(script) as b, gate(b.url) as g:
        code, out, _ = await curl("--compressed", f"{g.url}/v1/models")
        assert (code, out) == (0, b'{"object": "list"}' * 50)
        assert b"gzip" in (b.calls[0].value(b"accept-encoding") or b"")
        code, out, _ = await curl(f"{g.url}/v1/models")
        assert (code, out) == (0, packed)
        assert b.calls[1].value(b"accept-encoding") is None, "nothing is asked for that the client did not ask for"


async def test_one_connection_serves_many_requests_and_paths_stay_as_written() -> None:
    async def script(call: Call) -> None:
        await call.reply(call.target)

    paths = ["/v1/models/a%2Fb%2fc", "//v1//models/", "/v1/../x;y=%20?a=+&b=&c", "/v1/models?"]
    async with backend(script) as b, gate(b.url) as g:
        code, out, _ = await curl("--path-as-is", "-w", " %{num_connects}\n", *(g.url + p for p in paths))
        assert code == 0
        expected = [f"{p} {int(i == 0)}" for i, p in enumerate(paths)]
        assert out.decode().splitlines() == expected
        code, out, _ = await curl("-X", "OPTIONS", "--request-target", "*", g.url)
        assert (code, out) == (0, b"*")
