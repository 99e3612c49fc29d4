"""The printed tables, and the command line around them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as cli
from bench import build, machine, rows, tables, targets

MACHINE = {
    "cpu": "Some CPU", "cores": 2, "kernel": "6.1", "clock": "schedstat", "loadavg": 0.1,
    "proxy_core": 1, "load_core": 0,
    "versions": {"python": "3.11.7", "nginx": "1.22.1"},
    "noise": {"proxy_core": {"lost": 0.01, "longest_ms": 0.2}, "load_core": {"lost": 0.0, "longest_ms": 0.0}},
}  # fmt: skip


def data(**results: Any) -> dict[str, Any]:
    return {"date": "2026-01-02 03:04", "how": "2 rounds", "machine": MACHINE, "failures": [], "results": results}


def row(cpu_us: float, foreign: float = 0.0) -> dict[str, Any]:
    return {"plain": {"cpu_us": cpu_us, "rps": 9000.0, "util": 0.99, "foreign": foreign, "err": 0, "short": 0}}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "us", "-"),
        (1234.5, "us", "1234"),
        (61.24, "us", "61.2"),
        (3.456, "kB", "3.46"),
        (99.0, "ms", "0.10"),
        (-50.0, "ms", "-0.05"),
        (rows.NEVER_US, tables.CLOSE, "never"),
        (43_000.0, tables.CLOSE, "43.00"),
    ],
)
def test_numbers(value: float | None, unit: str, text: str) -> None:
    assert tables.number(value, unit) == text


def test_markdown_is_a_table_with_every_cell() -> None:
    text = tables.grid(["a", "b"], [["1", "2"]], markdown=True)
    assert text == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_text_columns_line_up() -> None:
    assert tables.grid(["a", "bb"], [["long", "2"]], markdown=False) == "a     bb\nlong  2"


def test_the_page_has_machine_goals_medians_and_doubts() -> None:
    text = tables.whole(data(nginx=[row(10), row(11)], headgate=[row(30, 0.5), row(33, 0.5)]), "headgate", False)
    assert "Some CPU, 2 cores, Linux 6.1" in text
    assert "core 1 lost 1.0%" in text
    line = next(x for x in text.splitlines() if x.startswith("plain, empty plan: CPU"))
    assert "<= 3.7 x nginx" in line
    assert "3.00 x [3.00 .. 3.00]" in line
    assert line.split()[-2:] == ["goal", "no"]
    assert "- plain, empty plan: CPU per request: headgate: others used 50% of the proxy's core" in text
    assert "31.5?" in text
    assert "- headgate: others used 50% of the proxy's core (req/s, us/request)" in text


def test_a_machine_in_use_is_called_so() -> None:
    busy = MACHINE | {
        "noise": {"proxy_core": {"lost": 0.3, "longest_ms": 9.0}, "load_core": {"lost": 0.0, "longest_ms": 0.0}}
    }
    assert "NOT A QUIET MACHINE" in machine.sentence(busy)
    assert "NOT A QUIET MACHINE" not in machine.sentence(MACHINE)


def test_one_round_is_said_to_be_one_round() -> None:
    text = tables.whole(data(nginx=[row(10)], headgate=[row(30)]), "headgate", False)
    assert next(x for x in text.splitlines() if x.startswith("plain, empty plan: CPU")).endswith("1 round")


def test_without_the_subject_there_is_no_table_of_goals() -> None:
    text = tables.whole(data(nginx=[row(10)]), "headgate", False)
    assert "No figure of headgate" in text
    assert "== Medians" in text


def test_columns_that_nobody_measured_are_left_out() -> None:
    assert "streams held" not in tables.figures({"nginx": [row(10)]}, tables.COLUMNS, False)
    assert tables.figures({"nginx": [row(10)]}, tables.CLOSE_COLUMNS, False) == ""


@pytest.fixture
def kept_sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("kept_sigterm")
class TestCommandLine:
    def test_table_prints_a_kept_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        kept = tmp_path / "kept.json"
        kept.write_text(json.dumps(data(nginx=[row(10)], headgate=[row(30)])))
        assert cli.main(["--table", str(kept), "--markdown"]) == 0
        assert "### Goals, headgate" in capsys.readouterr().out

    def test_list_names_all(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["--list"]) == 0
        out = capsys.readouterr().out
        assert all(t.name in out for t in targets.TARGETS)
        assert all(r.name in out for r in rows.ROWS)

    @pytest.mark.parametrize("wrong", [["--targets", "nginy"], ["--rows", "plane"], ["--table", "/nonexistent/file"]])
    def test_wrong_names_end_with_2_and_a_reason(self, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(wrong) == 2
        assert wrong[1] in capsys.readouterr().err

    def test_a_whole_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if not build.compiler():
            pytest.skip("no C compiler")
        try:
            cli.cores()
        except ValueError as e:
            pytest.skip(str(e))
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
        monkeypatch.setattr(machine, "spin", lambda core: {"lost": 0.0, "longest_ms": 0.0})
        kept = tmp_path / "out.json"
        assert (
            cli.main(["--targets", "direct", "--rows", "plain", "--repeats", "1", "--secs", "0.2", "--out", str(kept)])
            == 0
        )
        assert "direct" in capsys.readouterr().out
        assert json.loads(kept.read_text())["results"]["direct"][0]["plain"]["req"] > 10
        assert (tmp_path / "last.json").exists()

    def test_a_run_that_would_pass_its_limit_is_not_begun(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if not build.compiler():
            pytest.skip("no C compiler")
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
        monkeypatch.setattr(machine, "spin", lambda core: {"lost": 0.0, "longest_ms": 0.0})
        monkeypatch.setattr(cli, "cores", lambda: (0, 0))
        assert cli.main(["--targets", "direct", "--rows", "plain", "--limit", "1"]) == 1
        assert "direct left out, it would pass --limit 1 s" in capsys.readouterr().err
