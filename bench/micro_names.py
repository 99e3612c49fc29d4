"""What names cost: ``python -m bench.micro_names``. Needs ``headgate[torch]``.

The model has the size of MiniLM-L6 (6 layers, 384 wide, 12 heads) and random weights: it finds nothing of use, and takes as
long as one that does. Printed are minima of several runs, and the event loop's lag while streams ask.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import uvloop

from policies.inference import Workers
from policies.pii.ner import LABELS, Names, NerOptions
from policies.pii.ner_merge import NamesGate, Quiet
from policies.pii.ner_sentences import Name
from policies.pii.ner_torch import TransformersEngine

ROOT = Path(__file__).resolve().parent.parent
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def prose() -> str:
    """This project's documentation, without tables and code."""
    text = "\n".join(p.read_text() for p in sorted((ROOT / "docs").glob("*.md")))
    return "\n".join(line for line in re.sub(r"```.*?```", "", text, flags=re.S).splitlines() if not line.startswith("|"))


def make(path: Path, text: str) -> None:
    """The model, in a directory."""
    torch, tf = import_module("torch"), import_module("transformers")
    common = [w for w, _ in Counter(re.findall(r"\w+|[^\w\s]", text.lower())).most_common(8000)]
    words = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *common, *LETTERS, *(f"##{c}" for c in LETTERS)])
    padded = [*words, *(f"[unused{n}]" for n in range(30522 - len(words)))]
    (path / "words.txt").write_text("\n".join(padded))
    torch.manual_seed(0)
    config = tf.BertConfig(
        vocab_size=len(padded), hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        max_position_embeddings=512, id2label=dict(enumerate(TAGS)), label2id={tag: n for n, tag in enumerate(TAGS)},
    )  # fmt: skip
    model = tf.BertForTokenClassification(config)
    with torch.no_grad():
        model.classifier.bias[0] = 3.0  # most words are no names
    model.save_pretrained(path)
    tf.BertTokenizerFast(str(path / "words.txt"), do_lower_case=True).save_pretrained(path)


def best(act: Callable[[], Any], runs: int) -> float:
    """Seconds of CPU in this thread, which does all of the work; the least of several runs."""
    took = []
    for _ in range(runs):
        began = time.thread_time()
        act()
        took.append(time.thread_time() - began)
    return min(took)


def engine_times(engine: TransformersEngine, text: str, runs: int) -> None:
    print("engine, one text, one thread")
    offsets = []
    for start in range(0, len(text), 1000):  # windows are cut: tokens by pieces of text
        offsets += [start + end for _, end in engine._tokenizer.encode(text[start : start + 1000]).offsets if end]
    for tokens in (32, 128, 512):
        part = text[: offsets[tokens - 3]]
        print(f"  {tokens:>4} tokens, {len(part):>5} characters  {best(lambda p=part: engine.names([p]), runs) * 1e3:7.1f} ms")
    for count, tokens in ((8, 32), (4, 128)):
        parts = [text[: offsets[tokens - 3]]] * count
        print(f"  {count} texts of {tokens} tokens        {best(lambda p=parts: engine.names(p), runs) * 1e3:7.1f} ms")


async def request_times(folder: str, text: str) -> None:
    print("requests")
    names = Names(NerOptions(model=folder, device="cpu", timeout=60.0), ["location", "organization", "person"])
    await names.open()
    for label, texts in (("4 KB in 10 messages", [text[n : n + 400] for n in range(0, 4000, 400)]), ("100 KB", [text[:100_000]])):
        took = []
        for _ in range(3):
            began = time.perf_counter()
            await names.of_request(names.pieces(texts, ""))
            took.append(time.perf_counter() - began)
        print(f"  {label}: new {took[0] * 1e3:.0f} ms, again {min(took[1:]) * 1e3:.1f} ms")
    names.close()


def push_time(text: str, runs: int) -> None:
    async def ask(texts: Any) -> list[list[Name]]:
        return [[] for _ in texts]

    def through() -> None:
        gate = NamesGate(None, Quiet(), ask, lambda name, value: None, hold=400)
        for at in range(0, 40_000, 8):
            gate.push(text[at : at + 8])
            if gate.due(0.0):
                with contextlib.suppress(StopIteration):
                    gate.judge().send(None)
                gate.push("")

    print(f"stream, a piece of 8 characters: {best(through, runs) / 5000 * 1e6:.1f} us")


async def stream(workers: Workers[list[Name]], text: str, size: int, pause: float, held: list[float]) -> None:
    """One stream: pieces of ``size`` characters with ``pause`` seconds between; notes how long each piece was held."""

    async def ask(texts: Any) -> list[list[Name]]:
        return await workers.ask(texts, 0)

    gate = NamesGate(None, Quiet(), ask, lambda name, value: None, hold=400)
    came: list[tuple[int, float]] = []
    task: asyncio.Task[None] | None = None

    def left(upto: int) -> None:
        while came and came[0][0] <= upto:
            held.append(time.perf_counter() - came.pop(0)[1])

    async def answers() -> None:
        while gate.due(0.0):
            await gate.judge()
            left(gate.push(""))

    for at in range(0, len(text), size):
        upto = gate.push(text[at : at + size])
        came.append((min(at + size, len(text)), time.perf_counter()))
        left(upto)
        if (task is None or task.done()) and gate.due(0.0):
            task = asyncio.ensure_future(answers())
        await asyncio.sleep(pause)
    gate.close()
    if task is not None:
        await task
    await answers()
    left(gate.close())


async def lag(engine: TransformersEngine | None, text: str, streams: int, seconds: float) -> None:
    """The loop's lag while streams run: how much later than asked a timer of a millisecond comes."""
    late: list[float] = []
    held: list[float] = []
    workers: Workers[list[Name]] = Workers(
        engine.names if engine is not None else lambda texts: [[] for _ in texts],
        ready=engine.ready if engine is not None else lambda: None, batch=8, queue=1000,
    )  # fmt: skip
    await workers.ask(["warm"], 0)

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append(time.perf_counter() - began - 0.001)

    size, pause = 5, 0.1  # characters in a second: 50, some 12 tokens
    most = int(seconds / pause * size)
    watcher = asyncio.ensure_future(watch())
    began = time.perf_counter()
    parts = [text[n * 997 : n * 997 + most] for n in range(streams)]
    await asyncio.gather(*(stream(workers, part, size, pause, held) for part in parts))
    took = time.perf_counter() - began
    watcher.cancel()
    workers.stop()
    late.sort()
    held.sort()
    shown = [f"{late[int(len(late) * q)] * 1e3:.1f}" for q in (0.5, 0.99)] + [f"{late[-1] * 1e3:.1f}"]
    waits = [f"{held[int(len(held) * q)]:.2f}" for q in (0.5, 0.99)]
    print(
        f"  {streams} streams, {'model' if engine else 'no model'}: lag p50/p99/max {'/'.join(shown)} ms; a piece was held"
        f" p50/p99 {'/'.join(waits)} s; {took:.1f} s for {seconds:g} s of text"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    text = prose()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), text)
        wanted = ["location", "organization", "person"]
        engine = TransformersEngine(folder, wanted=wanted, labels={}, usual=LABELS, device="cpu")
        engine.ready()
        engine_times(engine, text, given.runs)
        uvloop.run(request_times(folder, text))
        push_time(text, given.runs)
        print("event loop")
        for some in (None, engine):
            uvloop.run(lag(some, text, given.streams, given.seconds))


if __name__ == "__main__":
    main()
