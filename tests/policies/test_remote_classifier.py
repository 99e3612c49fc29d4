"""The remote classifier: what it sends, how it reads answers, and how it forgets about a service that fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from policies.contract import Channel, Cut, Deps, Post
from policies.output_moderation import OutputModeration, OutputModerationOptions
from policies.remote_classifier import ClassifierDown, ClassifierError, ClassifierOptions, RemoteClassifier
from tests.kits.judges import BAD, answer
from tests.kits.policy_kit import exchange, make

URL = "https://classifier.test/v1/moderations"
GOOD = json.dumps(answer("fine")).encode()
ODD = b'{"results":[{"flagged":true,"categories":{"self-harm/intent":true,"a b\\n":true}}]}'
FLAGGED = json.dumps(answer(BAD)).encode()


class Service:
    """A post that answers what a test says. sent: (url, fields, body) of each call. now: the clock."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, dict[str, str], bytes]] = []
        self.now = 0.0
        self.release: asyncio.Event | None = None

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes, seconds: float) -> tuple[int, bytes]:
        self.sent.append((url, dict(fields), body))
        if self.release is not None:
            await self.release.wait()
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, BaseException):
            raise said
        return said if isinstance(said, tuple) else (200, said)

    def remote(self, **options: Any) -> RemoteClassifier:
        return RemoteClassifier(ClassifierOptions.model_validate({"url": URL, **options}), self, lambda: self.now)


async def test_what_is_sent() -> None:
    service = Service(GOOD)
    await service.remote(key="sk-1", model="omni").labels("caf\u00e9 \ud800")
    url, fields, body = service.sent[0]
    assert (url, fields["Authorization"], fields["Content-Type"]) == (URL, "Bearer sk-1", "application/json")
    assert json.loads(body) == {"input": "caf\u00e9 ?", "model": "omni"}
    await service.remote().labels("x")
    assert json.loads(service.sent[1][2]) == {"input": "x"} and "Authorization" not in service.sent[1][1]


@pytest.mark.parametrize(
    ("options", "said", "labels"),
    [
        ({}, GOOD, []),
        ({}, FLAGGED, ["violence"]),
        ({}, b'{"results":[{"flagged":true}]}', ["flagged"]),
        (
            {},
            ODD,
            ["a_b_", "self-harm/intent"],
        ),
        ({}, b'{"results":[{"flagged":false},{"flagged":true,"categories":{"x":true}}]}', ["x"]),
        ({"thresholds": {"violence": 0.5}}, FLAGGED, ["violence"]),
        ({"thresholds": {"violence": 0.95}}, FLAGGED, []),
        ({"thresholds": {"hate": 0.0, "violence": 0.9}}, FLAGGED, ["hate", "violence"]),
    ],
)
async def test_verdicts(options: dict[str, Any], said: bytes, labels: list[str]) -> None:
    assert await Service(said).remote(**options).labels("text") == labels


BROKEN: list[Any] = [
    (500, GOOD), (302, b""), (200, b""), b"null", b"[]", b"{}", b"not json", b'{"results":[]}', b'{"results":{}}',
    b'{"results":[1]}', b'{"results":[{}]}', b'{"results":[{"flagged":"no"}]}', b'{"results":[{"flagged":0}]}',
    b"\xff", b"[" * 100_000, OSError("refused 10.0.0.1"), TimeoutError(),
]  # fmt: skip


@pytest.mark.parametrize("said", BROKEN, ids=lambda b: repr(b)[:30])
async def test_what_is_no_answer_is_an_error_that_tells_nothing(said: Any) -> None:
    with pytest.raises(ClassifierError) as caught:
        await Service(said).remote().labels("my words")
    assert "my words" not in str(caught.value) and "10.0.0.1" not in str(caught.value)


@pytest.mark.parametrize(
    "scores", [{}, {"violence": "1"}, {"violence": None}, {"violence": True}, {"violence": 7}, None]
)
async def test_a_score_that_is_missing_is_an_error_and_no_clean_verdict(scores: Any) -> None:
    said = json.dumps({"results": [{"flagged": False, "category_scores": scores}]}).encode()
    with pytest.raises(ClassifierError):
        await Service(said).remote(thresholds={"violence": 0.5}).labels("x")


@given(st.binary(max_size=60))
def test_any_bytes_are_an_answer_or_an_error(said: bytes) -> None:
    try:
        asyncio.run(Service(said).remote().labels("x"))
    except ClassifierError:
        pass


async def test_after_so_many_failures_nobody_is_asked_for_a_while() -> None:
    service = Service(OSError(), OSError(), OSError(), OSError(), GOOD)
    remote = service.remote(failures=3, pause=10)
    for _ in range(3):
        with pytest.raises(ClassifierError):
            await remote.labels("x")
    with pytest.raises(ClassifierDown):
        await remote.labels("x")
    assert len(service.sent) == 3
    service.now = 10.0
    with pytest.raises(ClassifierError):
        await remote.labels("x")
    with pytest.raises(ClassifierDown):
        await remote.labels("x")
    service.now = 20.0
    assert await remote.labels("x") == [] == await remote.labels("x")
    assert len(service.sent) == 6


async def test_only_one_question_tries_whether_it_is_back() -> None:
    service = Service(OSError(), GOOD)
    remote = service.remote(failures=1, pause=10)
    with pytest.raises(ClassifierError):
        await remote.labels("x")
    service.now, service.release = 11.0, asyncio.Event()
    first = asyncio.create_task(remote.labels("x"))
    await asyncio.sleep(0)
    with pytest.raises(ClassifierDown):
        await remote.labels("x")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    service.release = None
    assert await remote.labels("x") == [], "a trial that was given up does not keep the door shut"


async def test_too_many_questions_wait_and_then_fail_without_blame() -> None:
    service = Service(GOOD)
    service.release = asyncio.Event()
    remote = service.remote(max_concurrent=1, failures=1, timeout=0.02)
    slow = asyncio.create_task(remote.labels("x"))
    await asyncio.sleep(0)
    with pytest.raises(ClassifierError):
        await slow
    assert len(service.sent) == 1
    service.now += 100
    service.release.set()
    assert await remote.labels("x") == []


@pytest.mark.parametrize(
    "bad",
    [
        {"url": "ftp://x/"}, {"url": "https://u:p@x/"}, {"url": "https://"}, {"url": "https://x/#f"}, {"url": "https://x:99999/"},
        {"url": "https://x/ y"}, {"key": "a b"}, {"key": ""}, {"thresholds": {"a": 1.5}}, {"lag": 0}, {"mode": "fast"},
        {"window": {"first": [0]}}, {"window": {"tokens": 0}}, {"unknown": 1},
    ],
)  # fmt: skip
def test_bad_options(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        ClassifierOptions.model_validate({"url": URL, **bad})
    assert "u:p" not in str(caught.value)


# -- in the policy -------------------------------------------------------------------------------------------------


def lent(post: Post) -> Deps:
    async def poster() -> Post:
        return post

    return Deps(poster)


async def test_the_policy_notes_flags_and_cuts() -> None:
    options: dict[str, Any] = {"message": "No.", "classifier": {"url": URL, "key": "sk-1", "channels": ["content"]}}
    policy = make("output_moderation", options)
    policy.deps = lent(Service(FLAGGED))
    assert policy.phases() == {"guard"} and policy.reads == {"reply"}
    assert policy.describe() == "classifier block, holds" and "sk-1" not in repr(policy.options)
    await policy.prepare()
    x = exchange()
    assert policy.guard(x, Channel(0, "reasoning")) is None
    gate = policy.guard(x, Channel(0, "content"))
    assert gate is not None
    gate.push(BAD)
    assert gate.close() == 0
    (judge,) = gate.judges
    assert judge.due(0.0)
    await judge.judge()
    with pytest.raises(Cut) as caught:
        gate.close()
    assert (caught.value.reason, caught.value.message, caught.value.at) == ("violence", "No.", 0)
    assert [(f.kind, f.where, f.action) for f in x.findings] == [("violence", "choices[0].content", "block")]
    options["classifier"]["action"] = "flag"
    flagging = make("output_moderation", options)
    flagging.deps = policy.deps
    await flagging.prepare()
    gate = flagging.guard(x, Channel(0, "content"))
    assert gate is not None
    gate.push(BAD)
    gate.close()
    await gate.judges[0].judge()
    assert gate.close() == len(BAD)
    assert x.findings[-1].action == "flag"


async def test_the_classifier_sees_what_the_rules_have_left() -> None:
    options = {"rules": [{"name": "a", "phrases": ["secret"]}], "classifier": {"url": URL}}
    policy = OutputModeration("p", OutputModerationOptions.model_validate(options))
    service = Service(GOOD)
    policy.deps = lent(service)
    await policy.prepare()
    gate = policy.guard(exchange(), Channel(0, "content"))
    assert gate is not None
    gate.push("a secret")
    gate.close()
    assert gate.judges[0].due(0.0)
    await gate.judges[0].judge()
    assert gate.close() == 8
    assert json.loads(service.sent[0][2]) == {"input": "a [REDACTED]"}


async def test_a_policy_without_a_way_out_does_not_start() -> None:
    with pytest.raises(OSError):
        await make("output_moderation", {"classifier": {"url": URL}}).prepare()
