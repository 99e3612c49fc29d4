"""``max_in_flight`` and ``queue`` in the policy file: what is refused, what is warned of, what ``explain`` says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import yaml

from proxy import config
from proxy.config_report import ConfigError
from proxy.explain import explain
from tests.kits.gate import policy_text


def load(max_in_flight: int | None = 8, *, backend: dict[str, Any] | None = None, more: str = "", **queue: Any) -> config.Config:
    settings = {"url": "http://b.example"} | (backend or {}) | ({"queue": queue} if queue else {})
    if max_in_flight is not None:
        settings["max_in_flight"] = max_in_flight
    text = policy_text({"local": settings}, None, yaml.safe_load(more) or {})
    return config.load("policy.yaml", text=text, env={})



def test_nothing_is_bounded_unless_it_is_asked_for() -> None:
    backend = load(None).settings.backends["local"]
    assert (backend.max_in_flight, backend.queue) == (0, None)
    assert not load(None).warnings


@pytest.mark.parametrize(
    "queue",
    [
        {"size": 0}, {"timeout": 0}, {"timeout": "soon"}, {"fair_by": "model"}, {"priority": "label:"}, {"priority": "model"},
        {"priority": "label"}, {"classes": {"a": 0}}, {"classes": {"a": -1}}, {"classes": {"a": "x"}}, {"per_caller": -1},
        {"classes": {f"c{n}": 1 for n in range(65)}}, {"size": 10**7}, {"length": 5}, {"deadline": 5},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_refused(queue: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(**queue)
    assert all("backends.local.queue" in p.where or "backends.local.queue" in str(p) for p in caught.value.problems)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"max_in_flight": 9, "backend": {"max_connections": 8}}, "is above `max_connections`"),
        ({"max_in_flight": None, "size": 5}, "has no effect without `max_in_flight`"),
        ({"size": 100, "more": "limits: {connections: 100}"}, "each waiting request holds a client's connection"),
        ({"size": 5, "per_caller": 6}, "is above `size`"),
        ({"classes": {"a": 2}}, "nothing says which request is of which class"),
        ({"priority": "tenant", "classes": {"*": 2}}, "has no effect without `classes`"),
        ({"fair_by": "tenant"}, "without `callers`"),
        ({"priority": "claim:plan", "classes": {"gold": 2}}, "without `callers`"),
    ],
)
def test_what_is_warned_of(given: dict[str, Any], words: str) -> None:
    (warning,) = load(**given).warnings
    assert words in str(warning)


def test_a_sound_queue_is_not_warned_of() -> None:
    assert not load(size=100, per_caller=10, priority="label:tier", classes={"pro": 10, "free": 1, "*": 2}).warnings


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, "8 requests at once, others are refused (503)"),
        ({"more": "workers: 4"}, "8 requests at once per worker, 32 in all, others are refused (503)"),
        ({"size": 50, "timeout": "10s"}, "8 requests at once; 50 may wait, 10 s at most, each caller in turn"),
        (
            {"per_caller": 9, "priority": "label:tier", "classes": {"pro": 10, "free": 0.5}},
            "8 requests at once; 1000 may wait, 30 s at most, each caller in turn, 9 of one caller;"
            " classes by label:tier: pro 10, free 0.5, * 1",
        ),
    ],
)
def test_what_explain_says(given: dict[str, Any], line: str) -> None:
    out = io.StringIO()
    assert explain(load(**given), out) == 0
    assert f"         {line}\n" in out.getvalue()


def test_the_documented_example_is_sound() -> None:
    text = (Path(__file__).parents[2] / "docs" / "queue.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    loaded = config.load("policy.yaml", text=b"version: 1\n" + example.encode(), env={})
    assert not loaded.warnings and loaded.settings.backends["vllm"].queue is not None
