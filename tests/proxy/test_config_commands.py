"""``headgate check`` and ``docs``; that what they ship is up to date, and has words for every key."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

import policies
from policies.entry import PolicyEntry, When
from proxy import reference, settings
from proxy.commands import REFERENCE_FILE, SCHEMA_FILE, check, docs, generated
from proxy.config import Overrides, catalogue, load
from proxy.config_fields import records_in

ROOT = Path(__file__).resolve().parents[2]
BAD = "backends:\n\tx: 1\n"
WRONG = "backends: {local: {url: 'http://h', key: secret-in-clear}}\nlog: {format: jso}\nadmin: ':9'\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def checked(tmp_path: Path, text: str | None, out: io.StringIO | None = None, **more: Any) -> tuple[int, str]:
    path = tmp_path / "p.yaml"
    if text is not None:
        path.write_text(text)
    out = out or io.StringIO()
    code = check(str(path), {}, out, **more)
    return code, out.getvalue().replace(str(path), "p.yaml")


# --- check ---


def test_check_says_what_is_right(tmp_path: Path) -> None:
    text = 'backends: {a: {url: "http://h"}, b: {url: "http://i"}}\npolicies: [{use: headers, mode: shadow}]\n'
    code, said = checked(tmp_path, text)
    first, last = said.splitlines()
    assert code == 0
    assert first.startswith("warning: p.yaml:2:")
    assert last.startswith("p.yaml: ok, 2 backends, 1 policy (1 in shadow), 1 warning, hash ")
    assert len(last.rpartition(" ")[2]) == 12


def test_check_tells_everything_that_is_wrong(tmp_path: Path) -> None:
    code, said = checked(tmp_path, WRONG)
    assert code == 1
    assert said.splitlines() == [
        "p.yaml:2:15: log.format: must be one of 'json', 'text', 'off' (got 'jso'); did you mean 'json'?",
        "warning: p.yaml:1:42: backends.local.key: a secret stands in the file in clear; write ${NAME} or file:/path",
        "not valid: 1 problem, 1 warning",
    ]


def test_check_shows_the_line_on_a_terminal(tmp_path: Path) -> None:
    _, said = checked(tmp_path, WRONG, Terminal())
    lines = said.splitlines()
    assert lines[1:3] == ["  2 | log: {format: jso}", "    |               ^"]
    assert lines[4] == "  1 | backends: {local: {url: 'http://h', key: " + "*" * 17
    assert "secret-in-clear" not in said


def test_the_mark_stays_below_its_character_after_a_tab(tmp_path: Path) -> None:
    _, said = checked(tmp_path, "backends: {a:\t{url: 5}}\n", Terminal())
    assert said.splitlines()[1:3] == ["  1 | backends: {a:\t{url: 5}}", "    |              \t      ^"]


def test_check_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    code, said = checked(tmp_path, None)
    assert (code, said.splitlines()[0]) == (
        2, "p.yaml: cannot be read: No such file or directory; check the path and the permissions"
    )  # fmt: skip


@pytest.mark.parametrize("text", [WRONG, BAD, None, 'backends: {a: {url: "http://h"}}'])
def test_check_as_json(tmp_path: Path, text: str | None) -> None:
    code, said = checked(tmp_path, text, format="json")
    document = json.loads(said)
    assert document["ok"] == (code == 0)
    assert (document["hash"] is not None) == (code == 0)
    assert document["source"] == "p.yaml"
    assert all(p["severity"] in ("error", "warning") for p in document["problems"])
    assert any(p["severity"] == "error" for p in document["problems"]) == (code != 0)
    assert "secret-in-clear" not in said


def test_check_takes_overrides(tmp_path: Path) -> None:
    code, _ = checked(tmp_path, 'listen: no\nbackends: {a: {url: "http://h"}}', overrides=Overrides(listen=":1"))
    assert code == 0


# --- the shipped files ---


def test_the_shipped_policy_is_right_and_without_warnings() -> None:
    config = load(str(ROOT / "policy.yaml"), env={})
    assert config.warnings == []
    assert [b.url for b in config.settings.backends.values()] == ["http://127.0.0.1:8000"]
    assert {spec.entry.use for spec in config.policies} >= {"request_guard", "headers"}


def test_the_shipped_policy_names_the_schema() -> None:
    first = (ROOT / "policy.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_FILE}"
    assert (ROOT / SCHEMA_FILE).is_file()


@pytest.mark.parametrize("name", [SCHEMA_FILE, REFERENCE_FILE])
def test_generated_files_are_up_to_date(name: str) -> None:
    shipped = (ROOT / name).read_text(encoding="utf-8")
    assert shipped == generated()[name], f"{name} is stale: run `python -m proxy docs`"


def test_docs_writes_what_is_missing_and_checks_without_writing(tmp_path: Path) -> None:
    def run(check_only: bool) -> tuple[int, list[str]]:
        out = io.StringIO()
        return docs(tmp_path, check_only, out), out.getvalue().splitlines()

    stale = [f"{n} is not up to date; run `headgate docs` in the source tree" for n in (SCHEMA_FILE, REFERENCE_FILE)]
    code, [said] = run(False)
    assert (code, said.endswith("is not headgate's source tree; run this in the directory of pyproject.toml")) == (
        2,
        True,
    )
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "proxy").mkdir()
    (tmp_path / "proxy" / "settings.py").touch()
    assert run(True) == (1, stale)
    assert not (tmp_path / SCHEMA_FILE).exists()
    assert run(False) == (0, [f"wrote {SCHEMA_FILE}", f"wrote {REFERENCE_FILE}"])
    assert run(False) == (0, [])
    assert run(True) == (0, [])


def test_the_guide_shows_valid_files_and_true_words() -> None:
    text = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    blocks = [b.partition("```")[0] for b in text.split("```yaml\n")[1:]]
    assert any("backends:" in b for b in blocks)
    for block in blocks:
        if "backends:" in block:
            load("configuration.md", text=block.encode(), env={})


# --- words for every key ---


def all_records() -> list[type]:
    found: list[type] = []

    def visit(model: type) -> None:
        if model not in found:
            found.append(model)
            for info in model.model_fields.values():  # type: ignore[attr-defined]
                for inner, _ in records_in(info.annotation):
                    visit(inner)

    for model in (settings.Settings, PolicyEntry, When, *(catalogue()[use]().Options for use in policies.CATALOGUE)):
        visit(model)
    return found


@pytest.mark.parametrize("model", all_records(), ids=lambda m: m.__name__)
def test_every_key_says_what_it_means(model: Any) -> None:
    silent = [name for name, info in model.model_fields.items() if not info.description]
    assert silent == []


def test_the_reference_has_every_key() -> None:
    page = reference.markdown(catalogue())
    for model in all_records():
        names = set(model.model_fields) - {"policies"}  # type: ignore[attr-defined]  # a section of its own
        assert [name for name in names if f"| `{name}` |" not in page] == []


@pytest.mark.parametrize("use", sorted(policies.CATALOGUE))
def test_examples_load(use: str) -> None:
    cls = catalogue()[use]()
    lines = "".join(f"    {line}\n" for line in cls.EXAMPLE.splitlines())
    text = f'backends: {{local: {{url: "http://h"}}, spare: {{url: "http://h"}}}}\npolicies:\n  - use: {use}\n{lines}'
    config = load("example", text=text.encode(), env={})
    assert config.policies[0].entry.use == use
