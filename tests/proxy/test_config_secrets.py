"""Values from the environment and from files: what they become, and that they are text and never shown."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from proxy.config import Config
from tests.proxy.config_fakes import GuardOptions
from tests.proxy.test_config import MINIMAL, problems, read


def key_of(config: Config) -> str | None:
    return config.settings.backends["a"].key


@pytest.mark.parametrize(
    ("written", "got"),
    [
        ("${K}", "one"), ("x${K}-${L}", "xone-two"), ("${NO:-three}", "three"), ("${EMPTY:-four}", "four"),
        ("${K:-five}", "one"), ("$${K}", "${K}"), ("a$b$", "a$b$"), ("$$${K}", "$${K}"), ("file://x", "file://x"),
    ],
)  # fmt: skip
def test_variables(written: str, got: str) -> None:
    config = read(f'backends: {{a: {{url: "http://h", key: "{written}"}}}}', {"K": "one", "L": "two", "EMPTY": ""})
    assert key_of(config) == got


def test_an_empty_default_is_meant_and_silent() -> None:
    config = read('backends: {a: {url: "http://h${P:-}"}}')
    assert (config.settings.backends["a"].url, config.warnings) == ("http://h", [])


def test_a_default_in_use_is_a_warning() -> None:
    [warning] = read('backends: {a: {url: "${U:-http://h}"}}').warnings
    assert str(warning) == (
        "policy.yaml:1:21: backends.a.url: U is not set: its default is used; set it, or write the value"
    )


def test_what_comes_in_is_text_and_never_yaml() -> None:
    env = {"K": "x, host: keep}, b: {url: 'http://evil'", "T": "${K}", "F": "file:/etc/passwd"}
    text = """
        backends: {a: {url: "http://h", models: {m: "${K}", n: "${T}", o: "${F}"}}}
    """
    config = read(text, env)
    assert config.settings.backends["a"].models == {"m": env["K"], "n": "${K}", "o": "file:/etc/passwd"}
    assert list(config.settings.backends) == ["a"]


def test_text_from_outside_becomes_the_number_that_is_asked_for() -> None:
    env = {"N": "3", "B": "false", "F": "0.5"}
    text = MINIMAL.decode() + "workers: ${N}\nusage: ${B}\npolicies: [{use: guard, ratio: '${F}', token: '${N}'}]"
    config = read(text, env)
    assert (config.settings.workers, config.settings.usage) == (3, False)
    options = config.policies[0].options
    assert isinstance(options, GuardOptions)
    assert (options.ratio, options.token) == (0.5, "3")  # text stays text where text is asked for


@pytest.mark.parametrize("value", ["03", "1e400", "three", "", "true", "[3]"])
def test_text_from_outside_that_is_no_number(value: str) -> None:
    [said] = problems(MINIMAL.decode() + "workers: ${N}", {"N": value})
    assert said.startswith("policy.yaml:2:10: workers: ")
    assert value not in said or value == ""


@pytest.mark.parametrize("content", ["s3cret", "s3cret\n", "s3cret\r\n"])
def test_a_file_loses_its_last_line_break(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content.encode())
    config = read(f'backends: {{a: {{url: "http://h", key: "file:{file}"}}}}')
    assert (key_of(config), config.files, config.warnings) == ("s3cret", (str(file),), [])


def test_only_the_last_line_break_goes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one\n\n")
    config = read(MINIMAL.decode() + f"policies: [{{use: guard, token: 'file:{tmp_path}/key'}}]")
    assert config.policies[0].options.token == "one\n"  # type: ignore[attr-defined]


def test_a_files_name_may_hold_a_variable(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    config = read(f'backends: {{a: {{url: "http://h", key: "file:{tmp_path}/${{WHICH}}"}}}}', {"WHICH": "key"})
    assert key_of(config) == "s3cret"


def test_files_that_are_no_secrets(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "large").write_bytes(b"x" * 70_000)
    os.mkfifo(tmp_path / "pipe")
    for name, words in {
        "empty": "is empty; write the secret into it",
        "binary": "is not UTF-8; a secret's file holds its text alone",
        "large": "cannot be read: it is larger than 64 KiB; check the path and who may read it",
        "pipe": "cannot be read: it is not a plain file; check the path and who may read it",
        ".": "cannot be read: it is not a plain file; check the path and who may read it",
    }.items():
        file = f"{tmp_path}/{name}"
        [said] = problems(f'backends: {{a: {{url: "http://h",\n key: "file:{file}"}}}}')
        assert said.startswith("policy.yaml:2:7: backends.a.key: file:/")
        assert said.endswith(words)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cret")
    file.chmod(stat.S_IWUSR)
    [said] = problems(f'backends: {{a: {{url: "http://h", key: "file:{file}"}}}}')
    assert "Permission denied" in said
