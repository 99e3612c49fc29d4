"""Loading a configuration: where it comes from, what the command line changes, secrets, the hash, the fingerprint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policies.contract import PolicyOptions
from proxy.config import Config, ConfigError, Overrides, catalogue, fingerprint, load
from tests.proxy.config_fakes import CATALOGUE, Guard, GuardOptions

MINIMAL = b'backends: {local: {url: "http://127.0.0.1:8000"}}\n'
SECRET = "sk-do-not-show-0123456789"


def read(text: str | bytes, env: dict[str, str] | None = None, **overrides: object) -> Config:
    data = text.encode() if isinstance(text, str) else text
    return load("policy.yaml", text=data, env=env or {}, overrides=Overrides(**overrides), known=CATALOGUE)  # type: ignore[arg-type]


def problems(text: str | bytes, env: dict[str, str] | None = None, **overrides: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, env, **overrides)
    return [str(p) for p in caught.value.problems]


# --- where it comes from ---


def test_a_backend_alone_is_the_plain_relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(
        None, env={}, overrides=Overrides(backend="http://10.0.0.1:9/base/", listen=":0", admin="off", workers=2)
    )
    s = config.settings
    assert (s.usage, config.policies, s.policies, config.source) == (False, [], [], None)
    assert [(name, b.url) for name, b in s.backends.items()] == [("default", "http://10.0.0.1:9/base")]
    assert (s.listen, s.admin, s.workers) == (":0", "off", 2)
    assert config.warnings == []


def test_a_backend_alone_says_that_a_file_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_bytes(MINIMAL)
    config = load(None, env={}, overrides=Overrides(backend="http://h"))
    assert config.source is None
    assert [str(w) for w in config.warnings] == [
        "--backend: the policy.yaml here is not used: --backend alone is the plain relay; "
        "add --policy policy.yaml to use it"
    ]


def test_the_file_of_the_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("policy.yaml").write_bytes(MINIMAL)
    assert load(None, env={}).source == "policy.yaml"


def test_nothing_at_all_names_both_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(None, env={})
    assert caught.value.unreadable
    assert "headgate serve --policy FILE" in str(caught.value)
    assert "headgate serve --backend http://" in str(caught.value)


@pytest.mark.parametrize("make", ["missing", "directory", "nul"])
def test_a_file_that_cannot_be_read(tmp_path: Path, make: str) -> None:
    path = {"missing": str(tmp_path / "no.yaml"), "directory": str(tmp_path), "nul": "a\0b"}[make]
    with pytest.raises(ConfigError) as caught:
        load(path, env={})
    assert caught.value.unreadable
    assert str(caught.value).startswith(f"{path}: cannot be read: ")


def test_the_environment_is_the_process_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADGATE_TEST_URL", "http://10.0.0.2")
    config = load("p", text=b"backends: {a: {url: '${HEADGATE_TEST_URL}'}}")
    assert config.settings.backends["a"].url == "http://10.0.0.2"


# --- what a file may be ---


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"backends: \xff\n", "policy.yaml:1:11: is not UTF-8; save the file as UTF-8"),
        (b"# \xc3\xa9\xc3\xa9 \xff", "policy.yaml:1:6: is not UTF-8; save the file as UTF-8"),
        (MINIMAL + b"#" * 5_000_000, "policy.yaml: is larger than 5 MB; shorten it"),
        (b"a: \x00\n", 'policy.yaml:1:4: has an invisible character, U+0000; remove it, or write it as "\\u0000"'),
        (b"x\xef\xbb\xbf", 'policy.yaml:1:2: has an invisible character, U+FEFF; remove it, or write it as "\\uFEFF"'),
        (
            MINIMAL + b"policies: [" + b"0," * 200_001 + b"]",
            "policy.yaml:2:399994: the file holds more than 200000 values; shorten it",
        ),
    ],
    ids=["not utf-8", "not utf-8 after utf-8", "too large", "nul", "mark in the middle", "too many values"],
)  # fmt: skip
def test_files_that_are_no_text(data: bytes, words: str) -> None:
    assert problems(data) == [words]


@pytest.mark.parametrize("breaks", ["\n", "\r\n", "\r"])
def test_a_mark_at_the_start_and_any_line_end(breaks: str) -> None:
    text = "version: 1\nlisten: nowhere\nbackends: {a: {url: 'http://h'}}\n".replace("\n", breaks)
    [said] = problems(b"\xef\xbb\xbf" + text.encode())
    assert said.startswith("policy.yaml:2:9: listen: ")


def test_many_problems_are_counted_not_listed() -> None:
    said = problems("backends: {a: {url: 'http://h'}}\n" + "".join(f"k{i}: 1\n" for i in range(1000)))
    assert len(said) == 201
    assert said[-1] == "policy.yaml: 800 more problems are not listed"


# --- the command line ---


def test_the_command_line_wins_over_the_file() -> None:
    text = """
        listen: 127.0.0.1:1
        workers: 7
        log: {format: json}
        backends:
          first: {url: "http://one", host: keep}
          second: {url: "http://two"}
    """
    config = read(text, backend="http://three", listen=":2", admin="off", workers=3, log="text", drain_timeout="9s")
    s = config.settings
    assert (s.listen, s.admin, s.workers, s.log.format, s.drain_timeout) == (":2", "off", 3, "text", 9.0)
    assert [(n, b.url, b.host) for n, b in s.backends.items()] == [
        ("first", "http://three", "keep"), ("second", "http://two", "backend")
    ]  # fmt: skip


def test_mistakes_on_the_command_line_name_the_option() -> None:
    said = problems(MINIMAL, backend="h:80", listen="80", workers=0, log="xml", drain_timeout="soon")
    assert said == [
        "--listen: write HOST:PORT, for instance 127.0.0.1:8080 (got '80')",
        "--workers: must be at least 1 (got 0)",
        "--drain-timeout: write a duration such as 30s, 250ms or 2m (got 'soon')",
        "--log: must be one of 'json', 'text', 'off' (got 'xml')",
        "--backend: write http://host:port or https://host, without user, query or fragment (got 'h:80')",
    ]


def test_a_mistake_in_the_file_that_the_command_line_replaces_is_none() -> None:
    assert read(b"listen: nowhere\n" + MINIMAL, listen=":1").settings.listen == ":1"


def test_a_backend_option_over_a_broken_file_still_tells_of_the_file() -> None:
    assert problems("backends: 5\n", backend="http://h") == [
        "policy.yaml:1:11: backends: must be a mapping (name: value) (got 5); "
        "write for instance backends: {local: {url: http://127.0.0.1:8000}}"
    ]


# --- policies ---


def test_policies_come_with_class_options_name_and_line() -> None:
    config = read(
        MINIMAL + b"policies:\n  - use: guard\n    max_tokens: 5\n  - {use: guard, name: two, mode: shadow}\n"
    )
    one, two = config.policies
    assert (one.entry.name, one.entry.use, one.line, one.cls) == ("guard", "guard", 3, Guard)
    assert isinstance(one.options, GuardOptions)
    assert (one.options.max_tokens, one.shown) == (5, {"max_tokens": 5})
    assert (two.entry.name, two.entry.mode, two.line) == ("two", "shadow", 5)
    assert [p.name for p in config.settings.policies] == ["guard", "two"]


def test_options_do_not_leak_into_the_settings() -> None:
    config = read(MINIMAL + b"policies: [{use: guard, token: '${T}'}]", {"T": SECRET})
    assert config.settings.policies[0].model_extra == {}
    assert SECRET not in repr(config)
    assert config.policies[0].shown == {"token": "${T}"}


def test_the_shipped_catalogue_is_the_default() -> None:
    config = load("p", text=MINIMAL + b"policies: [{use: headers}]", env={})
    assert config.policies[0].cls is catalogue()["headers"]()


def test_a_policy_that_fails_at_import_is_a_problem() -> None:
    def broken() -> type[Guard]:
        raise ZeroDivisionError(SECRET)

    with pytest.raises(ConfigError) as caught:
        load("p", text=MINIMAL + b"policies: [{use: bad}]", env={}, known={"bad": broken})
    assert [p.message for p in caught.value.problems] == ["cannot be loaded: ZeroDivisionError"]
    assert SECRET not in str(caught.value)


def test_a_policy_without_options() -> None:
    class Bare(Guard):
        Options = PolicyOptions

    config = load("p", text=MINIMAL + b"policies: [{use: bare}]", env={}, known={"bare": lambda: Bare})
    assert config.policies[0].options == PolicyOptions()


# --- the hash ---


def test_the_hash_covers_the_text_and_the_command_line_and_no_secret() -> None:
    text = 'backends: {a: {url: "http://h", key: "${K}"}}'
    one = read(text, {"K": "x"})
    assert one.hash == read(text, {"K": "y"}).hash
    assert one.hash != read(text + "\n", {"K": "x"}).hash
    assert one.hash != read(text, {"K": "x"}, workers=2).hash
    assert (len(one.hash), one.short_hash) == (64, one.hash[:12])


def test_a_changed_secret_shows_in_the_settings() -> None:
    """A reload compares them, so that a rotated key goes live although the hash is the same."""
    text = 'backends: {a: {url: "http://h", key: "${K}"}}'
    assert read(text, {"K": "x"}).settings != read(text, {"K": "y"}).settings


# --- the fingerprint ---


def test_the_fingerprint_sees_what_happens_to_files(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    assert fingerprint(str(file)) == ((str(file), 0, 0, 0),)
    file.write_text("a")
    seen = {fingerprint(str(file))}
    os.utime(file, ns=(1, 1))
    seen.add(fingerprint(str(file)))
    file.write_text("ab")
    os.utime(file, ns=(1, 1))
    seen.add(fingerprint(str(file)))
    other = tmp_path / "new"
    other.write_text("cd")
    os.utime(other, ns=(1, 1))
    other.replace(file)  # what editors do: same size, same time, another inode
    seen.add(fingerprint(str(file)))
    assert len(seen) == 4
    assert fingerprint(str(file)) in seen


def test_the_fingerprint_follows_a_configmap_swap(tmp_path: Path) -> None:
    """Kubernetes: policy.yaml -> ..data/policy.yaml, ..data -> a directory, swapped by renaming a link."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text("same")
        os.utime(tmp_path / name / "policy.yaml", ns=(1, 1))
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "policy.yaml").symlink_to("..data/policy.yaml")
    before = fingerprint(str(tmp_path / "policy.yaml"), "a\0b")
    (tmp_path / "..tmp").symlink_to("two")
    (tmp_path / "..tmp").replace(tmp_path / "..data")
    after = fingerprint(str(tmp_path / "policy.yaml"), "a\0b")
    assert before != after
    assert before[1] == ("a\0b", 0, 0, 0)
