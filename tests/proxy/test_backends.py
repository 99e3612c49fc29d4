"""A backend: its name on the wire, its models, its key, its lease on life."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path

import pytest

from policies.contract import Candidate
from proxy.backends import Backend, candidates, tls_context
from proxy.headers import Fields
from proxy.settings import Backend as Settings
from proxy.settings import BackendTls
from tests.kits.backend import backend as scripted
from tests.kits.backend import hello


def made(name: str = "b", **settings: object) -> Backend:
    settings.setdefault("url", "http://b.example:8000")
    loop = asyncio.new_event_loop()
    try:
        return Backend(name, Settings.model_validate(settings), loop, time.monotonic)
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("url", "host", "prefix", "address"),
    [
        ("http://b.example", b"b.example", b"", ("b.example", 80)),
        ("http://b.example:80", b"b.example", b"", ("b.example", 80)),
        ("http://b.example:8000/", b"b.example:8000", b"", ("b.example", 8000)),
        ("https://b.example/base/", b"b.example", b"/base", ("b.example", 443)),
        ("https://b.example:80/a/b", b"b.example:80", b"/a/b", ("b.example", 80)),
        ("http://[::1]:8000", b"[::1]:8000", b"", ("::1", 8000)),
        ("http://[::1]", b"[::1]", b"", ("::1", 80)),
    ],
)
def test_the_url(url: str, host: bytes, prefix: bytes, address: tuple[str, int]) -> None:
    b = made(url=url)
    assert b.host_field == (b"Host", host)
    assert b.prefix == prefix
    assert (b.pool.host, b.pool.port) == address
    assert (b.pool.tls is not None) is url.startswith("https")


@pytest.mark.parametrize(
    ("models", "asked", "want"),
    [
        ({}, "any", (True, None)),
        ({"a": "x"}, None, (True, None)),
        ({"a": "x"}, "a", (True, "x")),
        ({"a": "a"}, "a", (True, None)),
        ({"a": "x"}, "b", (False, None)),
        ({"a": "x", "*": "*"}, "b", (True, None)),
        ({"a": "x", "*": "y"}, "b", (True, "y")),
        ({"a": "x", "*": "y"}, "a", (True, "x")),
    ],
)
def test_models(models: dict[str, str], asked: str | None, want: tuple[bool, str | None]) -> None:
    assert made(models=models).model_for(asked) == want


def test_candidates_keep_the_files_order() -> None:
    mapping = {"one": made("one", models={"a": "x"}), "two": made("two"), "three": made("three", models={"b": "b"})}
    assert candidates(mapping, "a") == [Candidate("one", "x"), Candidate("two", None)]
    assert candidates(mapping, None) == [Candidate("one", None), Candidate("two", None), Candidate("three", None)]
    assert candidates({"one": made(models={"a": "x"})}, "z") == []


def test_the_key_stands_where_the_callers_stood() -> None:
    fields: Fields = [(b"X-Api-Key", b"c"), (b"Accept", b"*/*"), (b"authorization", b"Bearer c")]
    made(key="k").authorize(fields)
    assert fields == [(b"Accept", b"*/*"), (b"X-Api-Key", b"k")]
    fields = [(b"Accept", b"*/*")]
    made(key="k").authorize(fields)
    assert fields == [(b"Accept", b"*/*"), (b"Authorization", b"Bearer k")]
    fields = [(b"Authorization", b"Bearer c")]
    made().authorize(fields)
    assert fields == [(b"Authorization", b"Bearer c")]


def test_a_key_does_not_show() -> None:
    assert "sesame" not in repr(made(key="sesame"))


def test_tls_settings() -> None:
    context = tls_context(BackendTls())
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    open_to_all = tls_context(BackendTls(verify=False))
    assert open_to_all.verify_mode is ssl.CERT_NONE and not open_to_all.check_hostname


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_certificate_file_that_is_none(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises((OSError, ssl.SSLError)):
        tls_context(BackendTls(ca=str(path)))
    with pytest.raises((OSError, ssl.SSLError)):
        tls_context(BackendTls(cert=str(path)))


async def test_a_probe_tells_whether_anybody_is_there_and_keeps_the_connection() -> None:
    loop = asyncio.get_running_loop()
    async with scripted(hello) as there:
        b = Backend("b", Settings(url=there.url), loop, time.monotonic)
        assert await b.probe() and b.reachable and not b.probing
        assert (len(b.pool.idle), len(b.pool.busy)) == (1, 0)
        assert await b.probe()
        assert there.accepted == 1
        b.pool.close()
    assert not await b.probe()
    assert b.reachable is False and not b.probing
