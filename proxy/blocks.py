"""How the numbers of the metrics are laid out: what one row holds, with its buckets.

What lives here: plain declarations; ``proxy/tally.py`` keeps the rows, ``proxy/recorder.py`` fills them. What must never live
here: names that Prometheus sees (``proxy/families.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

DURATION = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_BYTE = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
HOLD = (0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
HELD = (0.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0)
QUEUE_WAIT = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# The two below are the bounds that the GenAI conventions advise.
GEN_AI_TOKENS = tuple(float(4**n) for n in range(14))
GEN_AI_SECONDS = tuple(0.01 * 2**n for n in range(14))
GEN_AI_FIRST_CHUNK = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Block:
    """Layout of one kind of row.

    parts: (name, bounds). Without bounds one number; with bounds a histogram: one count per bucket, one
    above the last bound, one sum. gauge: it starts at zero with its process, and ends with it.
    """

    name: str
    labels: tuple[str, ...]
    parts: tuple[tuple[str, tuple[float, ...]], ...]
    gauge: bool = False

    def at(self, part: str) -> int:
        """Slot of a part's first number."""
        offset = 0
        for name, bounds in self.parts:
            if name == part:
                return offset
            offset += _width(bounds)
        raise KeyError(part)

    def bounds(self, part: str) -> tuple[float, ...]:
        return dict(self.parts)[part]

    @property
    def size(self) -> int:
        return sum(_width(bounds) for _, bounds in self.parts)


def _width(bounds: tuple[float, ...]) -> int:
    return len(bounds) + 2 if bounds else 1


REQUEST = Block(
    "request", ("route", "status", "tier"),
    (("duration", DURATION), ("first_byte", FIRST_BYTE), ("overhead", OVERHEAD), ("in", ()), ("out", ())),
)  # fmt: skip
MODEL = Block(
    "model", ("operation", "provider", "model"),
    (
        ("input", GEN_AI_TOKENS), ("output", GEN_AI_TOKENS), ("cached", ()),
        ("duration", GEN_AI_SECONDS), ("first_chunk", GEN_AI_FIRST_CHUNK),
    ),
)  # fmt: skip
FAULT = Block("fault", ("kind",), (("count", ()),))
GONE = Block("gone", ("when",), (("count", ()),))
FINDING = Block("finding", ("policy", "kind", "action", "mode"), (("count", ()),))
ATTEMPT = Block("attempt", ("backend", "result"), (("seconds", DURATION), ("reused", ())))
POLICY = Block("policy", ("policy", "phase", "verdict"), (("seconds", OVERHEAD),))
HOLDING = Block("hold", (), (("seconds", HOLD), ("characters", HELD), ("ahead", HELD)))
QUEUE = Block("queue", ("backend", "class", "outcome"), (("seconds", QUEUE_WAIT),))
LOG = Block("log", ("reason",), (("dropped", ()),))
RELOAD = Block("reload", ("result",), (("count", ()),))
RESTART = Block("restart", ("worker",), (("count", ()),))
SPEND = Block("spend", ("policy", "tenant", "currency"), (("money", ()),))
STORE = Block("store", (), (("outages", ()), ("evicted", ()), ("dropped", ()), ("unsure", ())))
STORE_ERROR = Block("store_error", ("reason",), (("count", ()),))
STORE_INSTEAD = Block("store_instead", ("mode",), (("count", ()),))
STORE_NOW = Block("store_now", (), (("up", ()), ("keys", ()), ("shares", ())), gauge=True)
STORE_MODE = Block("store_mode", ("mode",), (("workers", ()),), gauge=True)
NOW = Block("now", (), (("requests", ()), ("streams", ()), ("connections", ())), gauge=True)
LINK = Block("link", ("backend",), (("active", ()), ("idle", ()), ("up", ()), ("waiting", ())), gauge=True)
POLICY_FILE = Block("policy_file", (), (("ok", ()), ("since", ())), gauge=True)

BLOCKS = {
    b.name: b
    for b in (
        REQUEST, MODEL, FAULT, GONE, FINDING, ATTEMPT, POLICY, HOLDING,
        QUEUE, LOG, RELOAD, RESTART, SPEND, STORE, STORE_ERROR, STORE_INSTEAD, STORE_NOW, STORE_MODE, NOW, LINK, POLICY_FILE,
    )
}  # fmt: skip
GAUGES = frozenset(b.name for b in BLOCKS.values() if b.gauge)
