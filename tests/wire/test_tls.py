"""TLS for clients: real handshakes, a certificate that changes under traffic, and clients that do not speak it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
from cryptography import x509

from proxy import config
from tests.kits.backend import Call, backend
from tests.kits.certificates import Authority
from tests.kits.fronts import front
from tests.kits.gate import Gate, gate
from tests.kits.stream import DEADLINE


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    put(made, "first")
    return made


def put(authority: Authority, name: str) -> int:
    cert, key, number = authority.issue(name)
    for file, content in (("tls.key", key), ("tls.crt", cert)):
        (authority.folder / "new").write_bytes(content)
        os.replace(authority.folder / "new", authority.folder / file)
    return number


def policy(authority: Authority, **more: object) -> str:
    return json.dumps({"tls": {"cert": str(authority.folder / "tls.crt"), "key": str(authority.folder / "tls.key")}, **more})


@contextlib.asynccontextmanager
async def tls(policy_yaml: str) -> AsyncIterator[Gate]:
    """headgate with TLS before the demo backend."""
    async with front("watched", policy_yaml=policy_yaml) as made:
        yield made.gate


async def number_of(g: Gate, context: ssl.SSLContext) -> int:
    """The serial number of the certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("127.0.0.1", g.port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_the_openai_client_streams_over_tls(authority: Authority) -> None:
    async with tls(policy(authority)) as g:
        http = httpx2.AsyncClient(verify=authority.context)
        client = openai.AsyncOpenAI(base_url=f"https://127.0.0.1:{g.port}/v1", api_key="k", http_client=http)
        said = ""
        stream = await client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        async for chunk in stream:
            said += chunk.choices[0].delta.content or "" if chunk.choices else ""
        assert said
        await client.close()
        x = await g.settled()
        assert x.status == 200 and x.fault is None


async def test_a_client_that_leaves_closes_the_backend(authority: Authority) -> None:
    left = asyncio.Event()

    async def wait(call: Call) -> None:
        await call.read_body()
        await call.gone()
        left.set()

    async with backend(wait) as b, gate(b.url, policy(authority)) as g:
        _, writer = await asyncio.open_connection("127.0.0.1", g.port, ssl=authority.context)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        await b.called()
        writer.transport.abort()
        async with asyncio.timeout(DEADLINE):
            await left.wait()
        await g.idle()


async def test_a_changed_certificate_is_shown_to_new_connections(authority: Authority) -> None:
    async with tls(policy(authority)) as g:
        old = await number_of(g, authority.context)
        cert, _, _ = authority.issue("without its key")
        (authority.folder / "tls.crt").write_bytes(cert)
        assert (await g.log_lines(1))[0]["event"] == "certificate_rejected"
        assert await number_of(g, authority.context) == old, "a pair that does not fit leaves the old one in force"
        new = put(authority, "second")
        lines = await g.log_lines(2)
        assert "certificate_reloaded" in [line["event"] for line in lines]
        assert await number_of(g, authority.context) == new


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_clients_that_do_not_speak_tls(authority: Authority) -> None:
    async with tls(policy(authority, limits={"head_timeout": "200ms"})) as g:
        reader, writer = await asyncio.open_connection("127.0.0.1", g.port)
        writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(DEADLINE):
            assert not (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        silent, writer = await asyncio.open_connection("127.0.0.1", g.port)
        async with asyncio.timeout(DEADLINE):
            assert await silent.read() == b"", "a handshake that does not come has an end"
        writer.close()
        assert await number_of(g, authority.context)
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.load_verify_locations(authority.file)
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError, OSError)):
            await number_of(g, old)


@pytest.mark.parametrize("what", ["missing", "encrypted", "no pair"])
async def test_files_that_cannot_be_used_stop_the_start(authority: Authority, what: str) -> None:
    if what == "missing":
        (authority.folder / "tls.key").unlink()
    else:
        cert, key, _ = authority.issue("other", password=b"secret" if what == "encrypted" else None)
        (authority.folder / "tls.key").write_bytes(key)
        if what == "encrypted":
            (authority.folder / "tls.crt").write_bytes(cert)
    with pytest.raises(OSError):
        async with tls(policy(authority)):
            pass


def test_both_files_have_to_be_named() -> None:
    text = json.dumps({"backends": {"local": {"url": "http://127.0.0.1:1"}}, "tls": {"cert": "/x"}})
    with pytest.raises(config.ConfigError) as caught:
        config.load("policy.yaml", text=text.encode(), env={})
    assert "tls" in str(caught.value) and "key" in str(caught.value)
