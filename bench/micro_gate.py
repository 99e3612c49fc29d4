"""What moderating one chunk of text costs, without network: ``python -m bench.micro_gate``.

Text is the project's own documentation, cut into chunks of 4 to 12 characters. Three figures per rule set, in
microseconds per chunk, each the best of several passes: *new* chunks on warmed states (the second half of the text,
never seen before, every pass in a new rule set), *read*: all chunks seen, but none remembered, character by character;
*seen*: chunks met before. Then the characters held after each chunk, and hostile patterns, per character.
"""

from __future__ import annotations

import gc
import random
import re
import time
from collections.abc import Callable
from pathlib import Path

from policies.detect import Rule, RuleSet, compile_rules
from policies.detect import gate as gate_module

ROOT = Path(__file__).resolve().parent.parent

NUMBERS = [
    r"\b\d{3}-\d{2}-\d{4}\b", r"\b\d(?:[ -]?\d){12,18}\b", r"\b(?:\d{1,3}\.){3}\d{1,3}\b",
    r"\+\d{1,3}[ -]?\(?\d{2,4}\)?(?:[ -]?\d{2,4}){2,3}\b",
    r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
]  # fmt: skip
KEYS = [
    r"\bsk-[A-Za-z0-9_-]{20,}", r"\bAKIA[0-9A-Z]{16}\b", r"\bghp_[A-Za-z0-9]{36}", r"\bxox[abp]-[0-9A-Za-z-]{10,}",
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}", r"\bAIza[0-9A-Za-z_-]{35}", r"\bglpat-[\w-]{20,}",
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[A-Za-z0-9+/=\s]*",
]  # fmt: skip
PHRASES = [
    "how to build a bomb", "ignore previous instructions", "credit card dump", "internal use only", "project bluebird",
    "top secret", "step by step synthesis",
]  # fmt: skip
MAIL = r"\b[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"
HOSTILE = [(r"(a+)+$", "a"), (r"\s+$", " "), (r"(?s)(?:.*a){20}", "ab"), (r"\w+@\w+", "a"), (r"(x+x+)+y", "x")]


def twenty() -> list[Rule]:
    rules = [Rule(f"p{i}", [p]) for i, p in enumerate(NUMBERS + KEYS)]
    return rules + [Rule(f"w{i}", phrases=[p], ignore_case=True, whole_word=True) for i, p in enumerate(PHRASES)]


def text_of_the_project() -> str:
    paths = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])
    return "\n".join(p.read_text(encoding="utf-8") for p in paths)


def chunks_of(text: str, rng: random.Random) -> list[str]:
    """Words and signs, joined until a chunk has the length drawn for it, as a backend's tokens come."""
    out: list[str] = []
    chunk, size = "", rng.randint(4, 12)
    for token in re.findall(r" ?\w{1,8}|\W", text):
        chunk += token
        if len(chunk) >= size:
            out.append(chunk)
            chunk, size = "", rng.randint(4, 12)
    return [*out, chunk]


def timed(act: Callable[[], object], passes: int = 5) -> float:
    """Seconds of the fastest pass."""
    best = float("inf")
    for _ in range(passes):
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        act()
        best = min(best, time.perf_counter() - began)
        gc.enable()
    return best


def pushes(rules: RuleSet, chunks: list[str]) -> Callable[[], None]:
    def act() -> None:
        push = rules.gate(lambda hit: "[X]").push
        for chunk in chunks:
            push(chunk)

    return act


def new_chunks(make: Callable[[], RuleSet], chunks: list[str]) -> float:
    half = len(chunks) // 2
    best = float("inf")
    for _ in range(3):
        rules = make()
        rules.warm()
        pushes(rules, chunks[:half])()
        best = min(best, timed(pushes(rules, chunks[half:]), 1))
    return best / (len(chunks) - half) * 1e6


def without_memory(rules: RuleSet, chunks: list[str]) -> float:
    longest, gate_module.MEMO_LONGEST = gate_module.MEMO_LONGEST, -1
    try:
        rules.machine.forget()
        act = pushes(rules, chunks)
        act()
        return timed(act) / len(chunks) * 1e6
    finally:
        gate_module.MEMO_LONGEST = longest


def row(name: str, rules: list[Rule], chunks: list[str]) -> str:
    began = time.perf_counter()
    found = compile_rules(rules)
    load = time.perf_counter() - began
    new = new_chunks(lambda: compile_rules(rules), chunks)
    read = without_memory(found, chunks)
    pushes(found, chunks)()
    seen = timed(pushes(found, chunks)) / len(chunks) * 1e6
    gate, held, size = found.gate(lambda hit: "[X]"), [], 0
    for chunk in chunks:
        size += len(chunk)
        held.append(size - gate.push(chunk))
    held.sort()
    at = [held[int(len(held) * q)] for q in (0.9, 0.99)]
    mean = sum(held) / len(held)
    return f"| {name} | {load * 1e3:.0f} | {new:.2f} | {read:.2f} | {seen:.2f} | {mean:.2f} | {at[0]} | {at[1]} |"


def main() -> None:
    rng = random.Random(1)
    text = text_of_the_project()
    chunks = chunks_of(text, rng)
    words = sorted(set(re.findall(r"[a-z]{3,10}", text.lower())))
    phrases = sorted({" ".join(rng.choices(words, k=rng.randint(2, 4))) for _ in range(10_500)})[:10_000]
    mail = Rule("mail", [MAIL])
    print(f"{len(text)} characters in {len(chunks)} chunks\n")
    print("| rules | load ms | new us | read us | seen us | held mean | p90 | p99 |\n|---|---|---|---|---|---|---|---|")
    print(row("20", twenty(), chunks))
    print(row("20 + e-mail", [*twenty(), mail], chunks))
    every = ["nfkc", "invisible", "marks", "homoglyphs", "leet"]
    seen_through = [Rule("v", phrases=PHRASES, ignore_case=True, whole_word=True, views=every)]
    print(row("20 + e-mail + views", [*twenty(), mail, *seen_through], chunks))
    listed = Rule("list", phrases=phrases, ignore_case=True, whole_word=True)
    print(row("20 + e-mail + 10,000 phrases", [*twenty(), mail, listed], chunks))
    print("\n| hostile pattern | 1 MB, us per character | one character per push, us |\n|---|---|---|")
    for pattern, unit in HOSTILE:
        rules, long = compile_rules([Rule("h", [pattern])]), unit * (1_000_000 // len(unit))
        whole = timed(pushes(rules, [long]), 1)
        single = timed(pushes(rules, list(long[:100_000])), 2)
        print(f"| `{pattern}` | {whole:.3f} | {single * 10:.2f} |")


if __name__ == "__main__":
    main()
