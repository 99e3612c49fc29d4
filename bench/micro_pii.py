"""What the request scan of ``pii_redaction`` costs, without network: ``python -m bench.micro_pii``.

Texts are made here, from a seed, so that all runs read the same. Per text and group of entities the best of several
short runs, in microseconds of CPU, states warmed; the number of finds in brackets."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable

from policies.pii import Scanner, compile_scanner

GROUPS: tuple[tuple[str, ...], ...] = (("contact",), ("secrets",), ("all",), ("all", "generic_secrets"))
_WORDS = (  # noqa: SIM905
    "the and that with this from they would there their what about which when make like time just know take people into year "
    "your good some could them other than then look only come over think also back after use two how our work first well way "
    "even new want because these give day most model answer question please write summary report explain result change"
).split()
_FIVE = (
    "You can reach me at jane.doe@example.com or +1 415-555-2671, my card is 4111 1111 1111 1111, SSN 536-22-1234 and the "
    "account is DE89 3704 0044 0532 0130 00."
)
_CODE = '''
def load(path: str, limit: int = 1024) -> dict[str, list[int]]:
    """Read rows of name and figures; blank lines and comments are left out."""
    out: dict[str, list[int]] = {}
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, *rest = line.split(",")
            if len(rest) > limit:
                raise ValueError(f"{path}:{number}: more than {limit} figures")
            out.setdefault(name.strip(), []).extend(int(x, 0) for x in rest)
    return out  # version 2.14.3, 0x1F60 == 8032
'''
_NEARLY = "4111 1111 1111 1112, 12 34 56, 1-1-1-1-1-1-1, (0(0(0, 00:1A:2B, 1.1.1.1.1, AB12 AB12, 2024-13-45 "


def prose(size: int, rng: random.Random) -> str:
    """Sentences of plain words, of this many characters."""
    out, length = [], 0
    while length < size:
        sentence = " ".join(rng.choices(_WORDS, k=rng.randint(6, 18))).capitalize() + rng.choice((".", ".", ".", "?", ",\n"))
        out.append(sentence)
        length += len(sentence) + 1
    return " ".join(out)[:size]


def with_finds(size: int, finds: int, rng: random.Random) -> str:
    """Prose with this many sentences of five values, evenly apart."""
    step = size // finds - len(_FIVE) - 2
    return " ".join(prose(step, rng) + " " + _FIVE for _ in range(finds))


def rows(size: int, rng: random.Random) -> str:
    """A JSON document without personal data: ids, figures, flags, times."""
    out: list[dict[str, object]] = []
    while len(out) * 75 < size:
        number = rng.randrange(1000, 9999)
        out.append({"id": number, "name": "item " + rng.choice(_WORDS), "price": rng.randrange(99999) / 100, "in_stock": True,
                    "updated": f"2024-0{rng.randint(1, 9)}-1{rng.randint(0, 9)}T10:15:{rng.randint(10, 59)}Z"})  # fmt: skip
    return json.dumps(out, indent=1)[:size]


def texts() -> dict[str, str]:
    """Name to text, as in the table."""
    rng = random.Random(4)
    return {
        "4 KB chat, clean": prose(4000, rng),
        "4 KB chat, 5 finds": with_finds(4000, 1, rng),
        "4 KB code": (_CODE * 6)[:4000],
        "4 KB JSON": rows(4000, rng),
        "100 KB, clean": prose(100_000, rng),
        "100 KB, 95 finds": with_finds(100_000, 19, rng),
        "100 KB JSON": rows(100_000, rng),
        "100 KB, nearly numbers": _NEARLY * (100_000 // len(_NEARLY)),
    }


def best(act: Callable[[], object], seconds: float = 1.0) -> float:
    """CPU seconds of the fastest run."""
    found, until = float("inf"), time.perf_counter() + seconds
    gc.collect()
    gc.disable()
    while time.perf_counter() < until:
        began = time.thread_time()
        act()
        spent = time.thread_time() - began
        if spent > 0:  # on some virtual machines the clock stands still now and then
            found = min(found, spent)
    gc.enable()
    return found


def cell(scanner: Scanner, text: str) -> str:
    scanner.spans(text)
    return f"{best(lambda: scanner.spans(text)) * 1e6:,.0f} ({len(scanner.spans(text))})"


def main() -> None:
    made = []
    for group in GROUPS:
        scanner = compile_scanner(group)
        scanner.warm()
        made.append(scanner)
    print("| text | " + " | ".join(" + ".join(g) for g in GROUPS) + " |\n|---|" + "---|" * len(GROUPS))
    for name, text in texts().items():
        print(f"| {name} ({len(text):,}) | " + " | ".join(cell(s, text) for s in made) + " |")


if __name__ == "__main__":
    main()
