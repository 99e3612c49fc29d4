"""``headgate keys``: a key is shown once, its row can be used as it is printed."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from proxy import config
from proxy.__main__ import main
from proxy.callers.keys import digest


def test_a_new_key_and_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--tenant", "acme", "--scopes", "ai:generate,ai:list", "--tier", "pro", "--expires", "2090-01-31"]
    assert main(["keys", "new", "alice", *args]) == 0
    out, err = capsys.readouterr()
    key = out.strip()
    assert key.startswith("hg-") and key not in err
    row = yaml.safe_load(err[err.index("- {") :])
    assert row[0]["sha256"] == digest(key)
    text = json.dumps({"backends": {"local": {"url": "http://127.0.0.1:1"}}, "callers": {"keys": row}})
    asked = config.load("policy.yaml", text=text.encode(), env={}).settings.callers
    assert asked is not None and asked.keys[0].scopes == ["ai:generate", "ai:list"]


def test_what_no_row_may_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["keys", "new", "two words", "--expires", "soon"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "name: write a name" in err and "expires: write a day" in err


def test_hash(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\n"))
    assert main(["keys", "hash"]) == 0
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert capsys.readouterr().out.strip() == known
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["keys", "hash"]) == 2
