"""The arithmetic of the benchmark: medians, paired ratios, verdicts, doubts."""

from __future__ import annotations

from typing import Any

import pytest

from bench import report, rows
from bench.report import CHUNK_P50, CHUNK_P99, HELD, PLAIN_CPU, PLAIN_RPS, REST, Goal, Results, doubts, judge


def plain(cpu_us: float, **more: Any) -> dict[str, dict[str, Any]]:
    """One quiet repeat with a plain row."""
    quiet = {"rps": 1e6 / cpu_us, "util": 0.99, "foreign": 0.0, "steal": 0.0, "err": 0, "short": 0}
    return {"plain": quiet | {"cpu_us": cpu_us} | more}


def paced(p50: float, p99: float, **more: Any) -> dict[str, dict[str, Any]]:
    return {"sse100": {"chunk_us": {"p50": p50, "p99": p99}, "delivered": 1.0, "util": 0.2, "foreign": 0.0} | more}


def closes(longest: float) -> dict[str, dict[str, Any]]:
    return {"gone_head": {"close_us": {"p50": 50.0, "p99": longest, "max": longest}}}


PLAIN_GOAL = Goal("plain", PLAIN_CPU, "ratio", 3.7, 5.0)


def test_median_leaves_out_what_was_not_measured() -> None:
    assert report.median([3.0, None, 1.0]) == 2.0
    assert report.median([None]) is None
    assert report.median([]) is None


@pytest.mark.parametrize(
    ("own", "other", "how", "expected"),
    [
        ([10.0, 40.0], [5.0, 10.0], "ratio", [2.0, 4.0]),
        ([10.0, None, 30.0], [5.0, 10.0, None], "ratio", [2.0]),
        ([10.0, 30.0], [0.0, 10.0], "ratio", [3.0]),  # a base of nothing has no ratio
        ([10.0, 30.0], [0.0, 10.0], "minus", [10.0, 20.0]),
        ([10.0, 30.0], [5.0], "ratio", [2.0]),  # the other was stopped after one round
    ],
)
def test_pairs_are_made_inside_a_round(own: Any, other: Any, how: Any, expected: list[float]) -> None:
    assert report.paired(own, other, how) == expected


def test_paired_ratio_cancels_the_drift_of_the_machine() -> None:
    results: Results = {"nginx": [plain(10), plain(20), plain(40)], "headgate": [plain(35), plain(70), plain(140)]}
    outcome = judge(results, PLAIN_GOAL, "headgate")
    assert (outcome.value, outcome.low, outcome.high, outcome.rounds) == (3.5, 3.5, 3.5, 3)
    assert (outcome.own, outcome.other) == (70, 20)
    assert outcome.verdict == "goal"


@pytest.mark.parametrize(("cpu", "expected"), [(37.0, "goal"), (37.1, "must"), (50.0, "must"), (50.1, "MISSED")])
def test_verdicts_at_their_bounds(cpu: float, expected: str) -> None:
    results: Results = {"nginx": [plain(10)], "headgate": [plain(cpu)]}
    assert judge(results, PLAIN_GOAL, "headgate").verdict == expected


def test_a_line_without_bounds_informs_only() -> None:
    assert report.verdict(99.0, None, None) == "-"
    assert report.verdict(99.0, 1.0, None) == "MISSED"


def test_what_was_not_measured_has_no_verdict() -> None:
    results: Results = {"nginx": [plain(10)], "headgate": [{}]}
    outcome = judge(results, PLAIN_GOAL, "headgate")
    assert (outcome.value, outcome.verdict, outcome.other) == (None, "not measured", 10)


def test_guard_line_reads_the_guard_configuration() -> None:
    line = next(g for g in report.GOALS if g.suffix == "-guard")
    results: Results = {"nginx": [plain(10)], "headgate": [plain(90)], "headgate-guard": [plain(44)]}
    assert judge(results, line, "headgate").value == 4.4


def test_added_delay_is_taken_from_direct_and_excess_from_nginx() -> None:
    results: Results = {
        "direct": [paced(20, 100)] * 3,
        "nginx": [paced(60, 300)] * 3,
        "headgate": [paced(110, 1290), paced(119, 1200), paced(125, 1310)],
    }
    found = {(o.goal.figure.path[-1], o.goal.against): o for o in report.outcomes(results, "headgate") if o.value}
    assert found["p50", "direct"].value == 99
    assert found["p50", "direct"].verdict == "goal"
    assert found["p99", "nginx"].value == 990
    assert found["p99", "nginx"].verdict == "goal"
    assert found["p99", "direct"].value == 1190


def test_quiet_figures_have_no_doubt() -> None:
    results: Results = {"headgate": [plain(60), plain(62), plain(58)]}
    assert doubts(results, "headgate", PLAIN_CPU) == []
    assert doubts(results, "headgate", PLAIN_RPS) == []


@pytest.mark.parametrize(
    ("figure", "disturbed", "word"),
    [
        (PLAIN_CPU, {"foreign": 0.4}, "others used 40% of the proxy's core"),
        (PLAIN_RPS, {"foreign": 0.2}, "others used 20% of the proxy's core"),
        (PLAIN_CPU, {"steal": 0.05}, "the hypervisor took 5.0%"),
        (PLAIN_RPS, {"load_busy": 0.9, "load_foreign": 0.4}, "others used 40% of the client's core"),
        (PLAIN_RPS, {"util": 0.6, "load_busy": 0.99, "load_foreign": 0.02}, "limited by the rig"),
        (PLAIN_RPS, {"util": 0.6, "load_busy": 0.5, "load_foreign": 0.0}, "core was not full (60%)"),
        (PLAIN_CPU, {"err": 2, "short": 1}, "9 failed or broken replies"),  # three in each round
    ],
)
def test_each_disturbance_is_named(figure: report.Figure, disturbed: dict[str, Any], word: str) -> None:
    results: Results = {"headgate": [plain(60, **disturbed)] * 3}
    assert any(word in d for d in doubts(results, "headgate", figure)), doubts(results, "headgate", figure)


def test_foreign_load_that_spoils_a_rate_need_not_spoil_cpu_time() -> None:
    results: Results = {"headgate": [plain(60, foreign=0.2)] * 3}
    assert doubts(results, "headgate", PLAIN_CPU) == []


def test_one_disturbed_round_of_three_is_outvoted_but_its_errors_are_not() -> None:
    results: Results = {"headgate": [plain(60), plain(61, foreign=0.9, err=1), plain(62)]}
    assert doubts(results, "headgate", PLAIN_CPU) == ["1 failed or broken replies"]


def test_memory_does_not_mind_foreign_load() -> None:
    results: Results = {"headgate": [{"memory": {"rest_mb": 40, "foreign": 0.9, "steal": 0.5}}]}
    assert doubts(results, "headgate", REST) == []


def test_late_ticks_and_lost_chunks_are_named() -> None:
    late = paced(100, 300, late_us={"p99": 9_000}, delivered=0.8)
    found = doubts({"headgate": [late] * 3}, "headgate", CHUNK_P50)
    assert "backend's ticks came 9 ms late" in found
    assert "overloaded: 80% of the chunks came" in found


def test_a_capped_search_is_limited_by_the_rig() -> None:
    results: Results = {"nginx": [{"hold": {"streams": 1600, "capped": True, "util": 0.5}}]}
    assert doubts(results, "nginx", HELD) == ["limited by the rig: the cap was reached"]


@pytest.mark.parametrize(
    ("values", "kind", "wide"),
    [
        ([100.0], "cpu", False),
        ([100.0, 115.0, 129.0], "cpu", False),
        ([100.0, 115.0, 145.0], "cpu", True),
        ([30.0, 60.0, 120.0], "delay", False),  # below 0.1 ms apart: nobody can feel it
        ([300.0, 600.0, 1200.0], "delay", True),
    ],
)
def test_spread(values: list[float], kind: report.Kind, wide: bool) -> None:
    assert report.too_wide(values, kind) is wide


def test_repeats_on_both_sides_of_a_bound_are_a_doubt() -> None:
    results: Results = {"nginx": [plain(10)] * 3, "headgate": [plain(36), plain(36.5), plain(38)]}
    outcome = judge(results, PLAIN_GOAL, "headgate")
    assert outcome.verdict == "goal"
    assert outcome.doubts == ["repeats disagree (goal, must)"]


def test_a_wide_base_alone_is_no_doubt_when_the_ratios_agree() -> None:
    results: Results = {"nginx": [plain(10), plain(30)], "headgate": [plain(30), plain(90)]}
    assert judge(results, PLAIN_GOAL, "headgate").doubts == []


def test_a_disturbed_base_is_a_doubt_about_the_ratio() -> None:
    results: Results = {"nginx": [plain(10, foreign=0.5)] * 2, "headgate": [plain(30)] * 2}
    assert judge(results, PLAIN_GOAL, "headgate").doubts == ["nginx: others used 50% of the proxy's core"]


def test_a_close_that_never_came_is_a_miss_however_fast_the_others() -> None:
    line = next(g for g in report.GOALS if g.figure.row == "gone_head")
    assert judge({"headgate": [closes(900)]}, line, "headgate").verdict == "must"
    assert (
        judge({"headgate": [closes(900), closes(rows.NEVER_US), closes(rows.NEVER_US)]}, line, "headgate").verdict
        == "MISSED"
    )


def test_figure_of_a_failed_repeat_is_none() -> None:
    assert CHUNK_P99.of({}) is None
    assert CHUNK_P99.of({"sse100": {"chunk_us": None}}) is None
