"""What moderation holds back of texts in which nothing is found: ``python -m bench.hold`` prints a Markdown table.

The clean texts of ``tests/policies/detect/corpus.py`` go through a gated chat stream in pieces of 4 to 12 characters, cut at
words, as a backend's tokens come. Counted after each event: characters that are held; for each event: how many further
events came before it left. No clock is read, so every run gives the same figures.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence

from bench.micro_gate import chunks_of
from policies.detect import Rule, RuleSet, compile_rules
from proxy.dialects.chat import Chat
from proxy.gated import GatedStream
from tests.policies.detect import corpus

SETS: dict[str, list[Rule]] = {
    "numbers, keys, phrases": corpus.TWENTY,
    "and e-mail": [*corpus.TWENTY, corpus.MAIL],
}


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    doc = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(doc).encode() + b"\n\n"


def follow(rules: RuleSet, pieces: Sequence[str]) -> tuple[list[int], list[int]]:
    """(characters held after each event, further events each event waited for). Events of the stream's end wait no more."""
    stream = GatedStream(Chat(), lambda channel: [rules.gate(lambda hit: "[X]")])
    held: list[int] = []
    waits: list[int] = []
    left = 0
    for n, piece in enumerate(pieces):
        out = stream.feed(event(piece))
        held.append(stream.held)
        gone = out.count(b"\n\n")
        waits += [n - k for k in range(left, left + gone)]
        left += gone
    stream.end()
    return held, waits + [len(pieces) - k for k in range(left, len(pieces))]


def share(values: Sequence[int], at: float) -> int:
    return sorted(values)[min(int(len(values) * at), len(values) - 1)]


def measure(rules: RuleSet, text: str) -> tuple[list[int], list[int]]:
    """Both figures over ten different cuts of a text."""
    held: list[int] = []
    waits: list[int] = []
    for seed in range(10):
        more = follow(rules, chunks_of(text * 3, random.Random(seed)))
        held += more[0]
        waits += more[1]
    return held, waits


def main() -> None:
    print("| text | rules | held: mean | p90 | p99 | events delayed | by one further event at most | p99 of further events |")
    print("|---|---|---|---|---|---|---|---|")
    for rules_name, rules in SETS.items():
        found = compile_rules(rules)
        for name, text in corpus.CLEAN.items():
            held, waits = measure(found, text)
            mean = sum(held) / len(held)
            late, one = sum(w > 0 for w in waits) / len(waits), sum(w <= 1 for w in waits) / len(waits)
            print(f"| {name} | {rules_name} | {mean:.2f} | {share(held, 0.9)} | {share(held, 0.99)} "
                  f"| {late:.1%} | {one:.2%} | {share(waits, 0.99)} |")  # fmt: skip


if __name__ == "__main__":
    main()
