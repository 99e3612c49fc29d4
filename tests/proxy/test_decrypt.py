"""``headgate decrypt``: keys, texts, and what is left as it was."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policies.pii.actions import Keys, encrypt, hashed
from proxy import decrypt
from proxy.__main__ import main

pytest.importorskip("cryptography")

KEY, OTHER = "a key of more than 16 characters", "another key of many characters"
ANN, ODD = "ann.lee@corp-mail.org", 'say "hi"\n\\o/ Grüße \ud800'


def sealed(value: str, type: str = "email", label: str = "EMAIL", *, key: str = KEY, tenant: str = "t") -> str:
    return encrypt(label, value, Keys(key), type=type, tenant=tenant)


def run(text: bytes | str, *, env: dict[str, str] | None = None, **options: Any) -> tuple[int, bytes, str]:
    """With the key in the environment, unless told otherwise."""
    out, err = io.BytesIO(), io.StringIO()
    options = {"key_env": "PII_KEY"} | options
    data = text.encode() if isinstance(text, str) else text
    code = decrypt.run(None, io.BytesIO(data), out, err, {"PII_KEY": KEY} if env is None else env, **options)
    return code, out.getvalue(), err.getvalue()


def test_values_come_back_and_all_else_stays() -> None:
    card = sealed("4111 1111 1111 1111", "credit_card", "CARD")
    text = f"x {sealed(ANN)} y\r\n{card}{sealed(ANN)}\xff [EMAIL] [EMAIL_1]".encode()
    code, out, err = run(text + b"\xff\x00")
    assert out == f"x {ANN} y\r\n4111 1111 1111 1111{ANN}\xff [EMAIL] [EMAIL_1]".encode() + b"\xff\x00"
    assert (code, err) == (0, "headgate decrypt: 3 values put back\n")


def test_entities_that_share_a_tag_and_those_of_a_policys_own() -> None:
    text = f"{sealed('192.0.2.7', 'ipv4', 'IP')} {sealed('2001:db8::7', 'ipv6', 'IP')} {sealed('E-7', 'badge', 'BADGE')}"
    assert run(text)[:2] == (0, b"192.0.2.7 2001:db8::7 E-7")


def test_json_stays_json() -> None:
    doc = {"message": f"from {sealed(ODD[:-1])}"}
    _, plain, _ = run(json.dumps(doc))
    with pytest.raises(ValueError, match=r"control character|delimiter"):
        json.loads(plain)
    assert json.loads(run(json.dumps(doc), in_json=True)[1]) == {"message": f"from {ODD[:-1]}"}


def test_any_value_comes_back() -> None:
    """Also one that UTF-8 does not have."""
    assert run(sealed(ODD))[1].decode("utf-8", "surrogatepass") == ODD


@pytest.mark.parametrize("change", [
    lambda t: t[:-2] + ("A" if t[-2] != "A" else "B") + "]",  # the tag
    lambda t: t.replace(":", ":A", 1),  # the nonce
    lambda t: t.replace("[EMAIL:", "[CARD:"),  # the type
    lambda t: t[:40] + ("A" if t[40] != "A" else "B") + t[41:],  # the value
    lambda t: t[:-6] + "]",
], ids=["tag", "nonce", "type", "value", "cut"])  # fmt: skip
def test_what_was_changed_is_left_as_it_is(change: Any) -> None:
    token = change(sealed(ANN))
    code, out, err = run(f"{token} and {sealed(ANN)}")
    assert (code, out) == (1, f"{token} and {ANN}".encode())
    assert err == "headgate decrypt: 1 value put back; 1 left: another key made them, or they were changed\n"


def test_another_key_is_left_as_it_is_and_a_hash_is_no_value() -> None:
    digest = hashed("EMAIL", ANN, Keys(KEY), type="email")
    text = f"{sealed(ANN, key=OTHER)} {digest}"
    code, out, err = run(text)
    assert (code, out) == (1, text.encode()) and "0 values put back; 1 left" in err
    assert ANN not in err and KEY not in err


# -- where keys come from


def policy(tmp_path: Path, *keys: str) -> str:
    path = tmp_path / "policy.yaml"
    rows = [
        {"use": "pii_redaction", "name": f"p{n}", "entities": ["email"], "action": "encrypt", "key": key,
         "custom": [{"name": "a" * 50, "words": ["x"]}]} for n, key in enumerate(keys)
    ]  # fmt: skip
    path.write_text(json.dumps({"version": 1, "backends": {"b": {"url": "http://127.0.0.1:1"}}, "policies": rows}))
    return str(path)


def test_the_key_of_a_policy_file(tmp_path: Path) -> None:
    file = policy(tmp_path, "${PII_KEY}", OTHER)
    long = sealed("x", "a" * 50, "a" * 50)
    text = f"{sealed(ANN)} {sealed(ANN, key=OTHER)} {long}"
    assert run(text, policy=file, key_env=None)[:2] == (0, f"{ANN} {ANN} x".encode())


def test_the_key_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    assert run(sealed(ANN), key_env=None, key_file=str(tmp_path / "key"))[:2] == (0, ANN.encode())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"key_env": "NOPE"}, "the environment has no NOPE"),
        ({"key_env": None, "key_file": "/nonexistent"}, "No such file"),
        ({"env": {"PII_KEY": "short"}}, "a key has at least 16 characters"),
        ({"key_env": None, "policy": "/nonexistent.yaml"}, "cannot be read"),
    ],
)
def test_without_a_key_nothing_is_printed(options: dict[str, Any], says: str) -> None:
    code, out, err = run(sealed(ANN), **options)
    assert (code, out) == (2, b"") and says in err and "short" not in err.replace("short", "", 0).replace("characters", "")


def test_a_policy_file_without_a_key_or_with_mistakes(tmp_path: Path) -> None:
    assert "has no pii_redaction with a key" in run("x", policy=policy(tmp_path), key_env=None)[2]
    (tmp_path / "bad.yaml").write_text("policies: 5")
    assert "is not valid" in run("x", policy=str(tmp_path / "bad.yaml"), key_env=None)[2]


# -- the command


def test_the_command(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PII_KEY", KEY)
    (tmp_path / "log").write_text(f"one {sealed(ANN)}\n")
    assert main(["decrypt", str(tmp_path / "log"), "--key-env", "PII_KEY"]) == 0
    assert capfdbinary.readouterr().out == f"one {ANN}\n".encode()
    assert main(["decrypt", "--text", sealed(ANN), "--key-env", "PII_KEY"]) == 0
    assert capfdbinary.readouterr().out == ANN.encode()
    assert main(["decrypt", str(tmp_path / "nothing"), "--key-env", "PII_KEY"]) == 2


def test_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    argv = [sys.executable, "-m", "proxy", "decrypt", "--key-file", str(tmp_path / "key")]
    done = subprocess.run(argv, input=f"a {sealed(ANN)} b".encode(), capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, f"a {ANN} b".encode())


def test_help_says_where_keys_come_from(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["decrypt", "--help"])
    shown = capsys.readouterr().out
    assert "--key-file" in shown and "--key " not in shown and "never given on the command line" in shown.replace("\n", " ")
