"""The JSON Schema: good, never stricter than the loader, and strict where an editor can help."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import policies
from policies.contract import Policy
from proxy import config_schema, config_yaml
from proxy.commands import schema
from proxy.config import catalogue, load
from proxy.config_report import Report
from tests.proxy.config_fakes import CATALOGUE, ENV, Guard
from tests.proxy.test_config_golden import FILES, RULE

jsonschema = pytest.importorskip("jsonschema")

ROOT = Path(__file__).resolve().parents[2]


def validator(known: dict[str, Callable[[], type[Policy]]] | None = None) -> Any:
    built = config_schema.build(known or catalogue())
    jsonschema.Draft202012Validator.check_schema(built)
    return jsonschema.Draft202012Validator(built)


def fakes() -> dict[str, Callable[[], type[Policy]]]:
    return {use: CATALOGUE[use] for use in ("guard", "spares")}


def plain(text: str) -> Any:
    node = config_yaml.parse(text, Report("p"))
    assert node is not None
    return node.plain()


def test_schema_prints_json() -> None:
    out = io.StringIO()
    assert schema(out) == 0
    printed = json.loads(out.getvalue())
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert printed == config_schema.build(catalogue())


def test_the_schema_takes_the_shipped_policy() -> None:
    validator().validate(plain((ROOT / "policy.yaml").read_text()))


@pytest.mark.parametrize("file", [f for f in FILES if f.stem.startswith(("right", "warn"))], ids=lambda f: f.stem)
def test_the_schema_is_never_stricter_than_the_loader(file: Path) -> None:
    text = file.read_text(encoding="utf-8").partition(RULE)[0]
    load("p", text=text.encode(), env=ENV, known=CATALOGUE)
    validator(fakes()).validate(plain(text))


BY_THE_LOADER_ALONE = {
    # rules over several keys, of the text itself, or of what is outside the file
    "long_values", "outside_bad_values", "outside_empty", "outside_file_is_a_device", "outside_file_missing",
    "outside_file_relative", "outside_in_use", "outside_mixed_text", "outside_not_set", "outside_not_utf8",
    "policy_missing_package", "policy_faulty_check", "policy_own_check", "policy_unknown_backend", "policy_names_taken",
    "settings_key_from_env_with_line_break", "settings_key_with_space", "settings_same_port",
    "settings_tls_key_without_cert",
}  # fmt: skip


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.stem.startswith(("settings", "polic")) and f.stem not in BY_THE_LOADER_ALONE],
    ids=lambda f: f.stem,
)
def test_the_schema_refuses_wrong_files(file: Path) -> None:
    document = plain(file.read_text(encoding="utf-8").partition(RULE)[0])
    assert not validator(fakes()).is_valid(document)


def test_an_editor_hears_of_the_one_wrong_option() -> None:
    document = {"backends": {"a": {"url": "http://h"}}, "policies": [{"use": "guard", "max_tokens": "many"}]}
    [error] = validator(fakes()).iter_errors(document)
    assert list(error.absolute_path) == ["policies", 0, "max_tokens"]


def test_options_named_like_common_keys_are_refused() -> None:
    class Bad(Guard):
        Options = type("Options", (Guard.Options,), {"__annotations__": {"mode": str}, "mode": ""})

    with pytest.raises(ValueError, match="every policy has the keys mode"):
        config_schema.build({"bad": lambda: Bad})


@pytest.mark.parametrize("use", sorted(policies.CATALOGUE))
def test_the_examples_of_the_policies_are_taken(use: str) -> None:
    entry = {"use": use, **config_schema.example(catalogue()[use]())}
    validator().validate({"backends": {"local": {"url": "http://h"}}, "policies": [entry]})
    assert not validator().is_valid({"backends": {"local": {"url": "http://h"}}, "policies": [{**entry, "zzz": 1}]})
