"""Whatever the file holds, loading it yields a Config or a ConfigError, soon, and tells no secret."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import Config, ConfigError, load
from tests.proxy.config_fakes import CATALOGUE
from tests.proxy.test_config_golden import FILES, RULE

SECRET = "Zq9-unguessable-Xk7"
ENV = {"KEY": SECRET, "EMPTY": "", "N": "3"}
QUICK = settings(deadline=timedelta(seconds=1), suppress_health_check=[HealthCheck.too_slow], max_examples=300)

KEYS = re.findall(
    r"\w+",
    "version listen admin workers backends local url key host models keepalive timeouts connect tls verify limits "
    "body log format policies use name when paths mode on_error timeout max_tokens rules pattern action token labels "
    "order strict limit tags max_body unknown",
)
SCALARS: list[Any] = [
    "guard", "spares", "local", "http://127.0.0.1:8000", "127.0.0.1:80", "${KEY}", "a${KEY}b", "${EMPTY}", "${N}", "${",
    "file:/nonexistent", "5s", "50MB", "shadow", "off", "block", "", "0755", "no", 0, 1, -1, 10**17, 0.5, True, None,
]  # fmt: skip
TOKENS = [
    "a: ", "- ", "\n", "  ", "{", "}", "[", "]", ", ", ": ", "'", '"', "|", ">", "&a ", "*a ", "!!str ", "? ", "---\n",
    "...", "%YAML 1.1\n", "#", "\t", "\\", "@", "backends: ", "policies: ", "use: guard", "${KEY}", "0755", "\r", "é",
    "<<: ",
]  # fmt: skip
VALUES = st.recursive(
    st.sampled_from(SCALARS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=5)
    ),
    max_leaves=25,
)  # fmt: skip


def tried(data: bytes) -> Config | ConfigError:
    found: Config | ConfigError
    try:
        found = load("policy.yaml", text=data, env=ENV, known=CATALOGUE)
    except ConfigError as exc:
        found = exc
    problems = found.problems if isinstance(found, ConfigError) else []
    assert problems or isinstance(found, Config)
    for problem in [*problems, *found.warnings]:
        assert SECRET not in f"{problem}{problem.excerpt}"
        assert problem.message
        assert "\n" not in str(problem)
    return found


@QUICK
@given(st.binary(max_size=400))
def test_any_bytes(data: bytes) -> None:
    tried(data)


@QUICK
@given(st.lists(st.sampled_from(TOKENS), max_size=60).map("".join))
def test_pieces_of_yaml(text: str) -> None:
    tried(text.encode())


@QUICK
@given(VALUES)
def test_any_document(value: Any) -> None:
    tried(yaml.safe_dump(value).encode())


@QUICK
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), st.lists(VALUES, max_size=3))
def test_documents_that_look_like_policies(extra: dict[str, Any], policies: list[Any]) -> None:
    base = {"backends": {"local": {"url": "http://127.0.0.1:8000", **extra}}, "policies": policies}
    for document in (base, {**extra, **base}, {**base, "policies": [{"use": "guard", **extra}]}):
        tried(json.dumps(document).encode())


@QUICK
@given(st.sampled_from(FILES), st.data())
def test_known_files_with_a_piece_cut_out_or_put_in(file: Path, data: st.DataObject) -> None:
    text = file.read_text(encoding="utf-8").partition(RULE)[0]
    at = data.draw(st.integers(0, len(text)))
    to = data.draw(st.integers(at, min(len(text), at + 10)))
    piece = data.draw(st.sampled_from(["", *TOKENS]))
    tried((text[:at] + piece + text[to:]).encode())


@QUICK
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_from_outside_stays_one_value(value: str) -> None:
    text = 'backends: {a: {url: "http://h", models: {m: "${X}"}}}'
    if not value or "\0" in value:
        with pytest.raises(ConfigError):
            load("p", text=text.encode(), env={"X": value}, known=CATALOGUE)
    else:
        config = load("p", text=text.encode(), env={"X": value}, known=CATALOGUE)
        assert config.settings.backends["a"].models == {"m": value}
