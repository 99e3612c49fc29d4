"""Text of the demo backend: prose, personal data that belongs to nobody, pieces, numbers from text.

All of it is a pure function of its arguments, so the same request gives the same reply.
Never here: the shapes of any API.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from random import Random
from typing import Any, Final

_NOUNS = (
    "canal", "weir", "sluice", "meadow", "reservoir", "gauge", "channel", "spillway", "orchard", "aqueduct",
    "valley", "mill", "keeper", "furrow", "spring", "basin", "gate", "current", "bank", "ditch",
)  # fmt: skip
_ADJECTIVES = (
    "quiet", "narrow", "old", "steady", "shallow", "green", "patient", "cold", "upper", "lower", "slow",
    "clear", "stone", "level", "distant", "careful",
)  # fmt: skip
_VERBS = (
    "feeds", "crosses", "follows", "turns", "holds", "measures", "joins", "guards", "slows", "carries",
    "meets", "leaves",
)  # fmt: skip
_OPENINGS = ("In spring", "By noon", "After rain", "At dusk", "Each year", "Below the hill", "Before harvest")
_PATTERNS = (
    "The {a} {n} {v} the {b} {m}.",
    "{o}, the {n} {v} a {a} {m}.",
    "A {a} {n} {v} the {m}, and the {k} stays {b}.",
    "{o}, every {n} near the {m} is {a}.",
)

# Nobody's data. Numbers are reserved for fiction or tests: NANP 555-01xx, Ofcom's drama range, the Visa
# test card, the IBAN of the IBAN registry's example, the Social Security number of a 1962 SSA pamphlet.
PERSON: Final[dict[str, str]] = {
    "email": "nora.quill@example.com",
    "phone": "+1 202-555-0147",
    "phone_uk": "+44 20 7946 0958",
    "credit_card": "4111 1111 1111 1111",
    "iban": "GB82 WEST 1234 5698 7654 32",
    "us_ssn": "219-09-9999",
    # Joined here so that secret scanners do not stumble over this file.
    "secret": "sk-" + "demo" + "Q7x2Lm9Zt4Vb8Rk1Ws6Yp3Nc5Hd0Jf",
}


def rng(*seed: object) -> Random:
    """A random source that depends on nothing but `seed`."""
    digest = hashlib.sha256("\x1f".join(map(str, seed)).encode("utf-8", "surrogatepass")).digest()
    return Random(int.from_bytes(digest[:8], "big"))


def sentence(pick: Random) -> str:
    """One sentence of prose."""
    noun, other, third = pick.sample(_NOUNS, 3)
    first, second = pick.sample(_ADJECTIVES, 2)
    return pick.choice(_PATTERNS).format(
        n=noun, m=other, k=third, a=first, b=second, v=pick.choice(_VERBS), o=pick.choice(_OPENINGS)
    )


def prose(pick: Random, sentences: int) -> str:
    """So many sentences, joined by spaces."""
    return " ".join(sentence(pick) for _ in range(sentences))


def phrase(pick: Random) -> str:
    """Two words, for a value in generated JSON."""
    return f"{pick.choice(_ADJECTIVES)} {pick.choice(_NOUNS)}"


def personal() -> str:
    """A reply that speaks every item of PERSON."""
    p = PERSON
    return (
        f"Sure. Write to {p['email']} or call {p['phone']} (in London {p['phone_uk']}). "
        f"The card is {p['credit_card']}, the IBAN is {p['iban']}, the SSN is {p['us_ssn']}. "
        f"The key is {p['secret']} and nobody else may have it."
    )


_PIECE: Final = re.compile(r"\s*(?:\w{1,5}|[^\w\s]{1,2})|\s+")


def pieces(text: str, size: int | None = None) -> list[str]:
    """Cut a text the way a tokeniser does (or every `size` characters). The pieces join to the text."""
    if size is not None:
        return [text[i : i + size] for i in range(0, len(text), size)]
    return _PIECE.findall(text)


def prose_pieces(pick: Random, count: int | None, size: int | None) -> list[str]:
    """Prose of exactly `count` pieces, or of two or three sentences."""
    if count is None:
        return pieces(prose(pick, pick.randint(2, 3)), size)
    found: list[str] = []
    while len(found) < count:
        found += pieces((" " if found else "") + prose(pick, 40), size)
    return found[:count]


def count_tokens(text: str) -> int:
    """A cheap count for usage: four characters are a token. Linear and fast for bodies of megabytes."""
    return (len(text) + 3) // 4


def token_id(piece: str) -> int:
    """A stable id in a vocabulary of 32000."""
    return zlib.crc32(piece.encode("utf-8", "surrogatepass")) % 32_000


def logprob(piece: str) -> float:
    """A stable log probability between -2 and 0."""
    return -round(token_id(piece) % 2000 / 1000, 4)


def rivals(piece: str, count: int) -> list[tuple[str, float]]:
    """The `count` most likely tokens in the place of `piece`: itself, then others, ever less likely."""
    start = token_id(piece)
    found = [(piece, logprob(piece))]
    for step in range(1, count):
        found.append((f" {_NOUNS[(start + step) % len(_NOUNS)]}", round(logprob(piece) - step * 0.7, 4)))
    return found[:count]


def token_logprobs(piece: str, top: int) -> dict[str, Any]:
    """The entry of one token in `logprobs.content` of chat and of `logprobs` of responses."""

    def entry(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode("utf-8", "replace"))}

    return entry(piece, logprob(piece)) | {"top_logprobs": [entry(*rival) for rival in rivals(piece, top)]}


def vector(text: str, dimensions: int, most: int = 20_000) -> list[float]:
    """A unit vector: words are hashed into it, so texts that share words lie close to each other.

    Only the first `most` characters count.
    """
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text[:most].lower()) or [text[:100]]:
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=32).digest()
        for i in range(0, 32, 4):
            number = int.from_bytes(digest[i : i + 4], "big")
            values[(number >> 1) % dimensions] += 1.0 if number & 1 else -1.0
    values[0] += 0.01  # words may cancel out; a zero vector has no direction
    norm = math.sqrt(sum(v * v for v in values))
    return [v / norm for v in values]
