"""The tables of targets and rows: every entry can be started as written, and bad names are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench import report, rows, targets

TABLE = {t.name: t for t in targets.TARGETS}


def test_names_are_unique_and_rows_exist() -> None:
    assert len(TABLE) == len(targets.TARGETS)
    names = {r.name for r in rows.ROWS}
    assert len(names) == len(rows.ROWS)
    assert all(set(t.rows or ()) <= names for t in targets.TARGETS)
    assert all(g.figure.row in names for g in report.GOALS)
    assert all(g.against in TABLE for g in report.GOALS)
    assert all("headgate" + g.suffix in TABLE for g in report.GOALS)


@pytest.mark.parametrize("target", [t for t in targets.TARGETS if t.start], ids=lambda t: t.name)
def test_start_command_and_config_are_filled_in(
    target: targets.Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ENVOY_BIN", "LITELLM_BIN", "BENCH_PY"):
        monkeypatch.setenv(name, "/opt/some binary")
    words = targets.command(target, 8123, 9456, str(tmp_path))
    everything = "\n".join(words + [(tmp_path / c).read_text() for c in target.config])
    assert "8123" in everything
    assert "9456" in everything
    assert not {"{", "$"} & set("".join(words))
    assert "@PORT@" not in everything
    assert "@MODEL" not in everything
    if words[0].startswith("/opt"):
        assert words[0] == "/opt/some binary"  # a path with a space stays one word


def test_litellm_lists_every_model_that_rows_ask_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_BIN", "litellm")
    targets.command(TABLE["litellm"], 1, 2, str(tmp_path))
    text = (tmp_path / "litellm.yaml").read_text()
    assert all(f"model_name: {m}\n" in text for m in rows.MODELS)


def test_default_choice_leaves_out_optional_and_missing_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "missing", lambda t: "not installed" if t.name == "nginx" else None)
    chosen, left_out = targets.choose(None)
    assert [t.name for t in chosen] == ["direct", "aiohttp", "headgate", "headgate-guard", "headgate-mod", "headgate-log"]
    assert left_out == ["nginx: left out, not installed"]


def test_a_target_that_was_asked_for_and_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LITELLM_BIN", raising=False)
    with pytest.raises(ValueError, match="LITELLM_BIN does not name an executable"):
        targets.choose("direct,litellm")


def test_missing_executables_and_files_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = TABLE["direct"]
    assert (
        targets.missing(dataclasses.replace(bare, needs=("exe:no-such-program",))) == "no-such-program is not installed"
    )
    assert targets.missing(dataclasses.replace(bare, needs=("file:no/such",))) == "no/such is not there"
    monkeypatch.delenv("BENCH_PY", raising=False)
    assert "no_such_module" in str(targets.missing(dataclasses.replace(bare, needs=("module:no_such_module",))))


def test_rows_keep_their_order_whatever_the_order_asked_for() -> None:
    assert [r.name for r in rows.choose("hold, memory,plain", quick=False)] == ["memory", "plain", "hold"]
    assert "hold" not in {r.name for r in rows.choose(None, quick=True)}
    assert len(rows.choose("all", quick=True)) == len(rows.ROWS)


def test_every_line_of_the_goals_has_its_row_in_the_default_run() -> None:
    default = {r.name for r in rows.choose(None, quick=False)}
    assert {g.figure.row for g in report.GOALS} <= default


def test_closes_are_matched_by_number() -> None:
    left = [[1, 1_000_000], [2, 2_000_000], [3, 3_000_000]]
    closes = [[2, 2_500_000, 1], [1, 1_100_000, 1], [77, 5, 0]]  # 77: cut off by the end of the load, nobody asks
    never = rows.NEVER_US
    assert rows.join_closes(left, closes) == {"n": 3, "unseen": 1, "p50": 500.0, "p99": never, "max": never}
    assert rows.join_closes(left[:2], closes) == {"n": 2, "unseen": 0, "p50": 500.0, "p99": 500.0, "max": 500.0}
    assert rows.join_closes(left, []) == {"n": 3, "unseen": 3, "p50": never, "p99": never, "max": never}
    assert rows.join_closes([], []) == {"n": 0, "unseen": 0}
