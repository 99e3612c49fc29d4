"""What one of several processes may let through by itself: its share of each limit.

What lives here: arithmetic on parts. What must never live here: state. Used while Redis is away (``guarded.py``), and by
several workers that count in memory (``approximate: true``). Bounds, over all ``n`` processes together: a rate stays
below its limit, with a burst of at most max(burst, n requests); a window below its limit plus n - 1 requests; slots
below max(limit, n).
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.store import Part, PartState, Rate, Source, Taken, Window


def share(part: Part, n: int, used: float = 0.0) -> Part:
    """The part as one of ``n`` processes may grant it. used: of a Window, what is known to be spent already, anywhere.

    What fits into the whole limit always fits into an untouched share: a request of 4,000 tokens must not be
    impossible because a tenth of the burst is 1,000.
    """
    if isinstance(part, Rate):
        return part._replace(limit=part.limit / n, burst=min(part.burst, max(part.burst / n, part.cost)))
    if isinstance(part, Window):
        room = max(0.0, part.limit - used)
        return part._replace(limit=min(room, max(room / n, part.cost)))
    return part._replace(limit=max(1, part.limit // n) if part.limit >= 1 else 0)


def as_asked(taken: Taken, parts: Sequence[Part], source: Source, n: int) -> Taken:
    """The answer to ``n``th shares, as one to the parts that were asked for."""
    states = tuple(
        PartState(s.allowed, p.limit, s.remaining, s.reset_after_s, _retry(s, p))
        for s, p in zip(taken.parts, parts, strict=True)
    )
    return Taken(taken.ok, taken.refused, states, source, n)


def _retry(state: PartState, part: Part) -> float | None:
    if state.retry_after_s is None and isinstance(part, Window) and part.cost <= part.limit:
        return state.reset_after_s  # it is the share that is too small; the next window has room
    return state.retry_after_s
