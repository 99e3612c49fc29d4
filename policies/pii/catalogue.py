"""All entities by name, and the groups that keep a policy short.

What lives here: the two tables and the resolving of names. What must never live here: shapes (one file per family).
"""

from __future__ import annotations

from collections.abc import Iterable

from policies.pii.address import ENTITIES as ADDRESS
from policies.pii.contact import ENTITIES as CONTACT
from policies.pii.contact import phone_detectors
from policies.pii.crypto import ENTITIES as CRYPTO
from policies.pii.entity import Detector, Entity, MissingExtra, optional
from policies.pii.national import ENTITIES as NATIONAL
from policies.pii.network import ENTITIES as NETWORK
from policies.pii.payment import ENTITIES as PAYMENT
from policies.pii.personal import ENTITIES as PERSONAL
from policies.pii.secrets import ENTITIES as SECRETS

__all__ = ["ENTITIES", "GROUPS", "OPT_IN", "detectors", "resolve"]

_FAMILIES = (CONTACT, PAYMENT, NATIONAL, NETWORK, SECRETS, CRYPTO, PERSONAL, ADDRESS)
ENTITIES: dict[str, Entity] = {entity.name: entity for family in _FAMILIES for entity in family}
"""Name to entity, families in the order of docs/pii.md."""

OPT_IN = "generic_secrets"
"""The group that ``all`` leaves out: it finds more, and errs more."""


def _groups() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entity in ENTITIES.values():
        for group in entity.groups:
            found[group] = (*found.get(group, ()), entity.name)
    found["national_ids"] = (*found["us_ids"], *found["national_ids"])
    found["base"] = tuple(n for n, e in ENTITIES.items() if not e.needs_extra and OPT_IN not in e.groups)
    found["all"] = tuple(n for n, e in ENTITIES.items() if OPT_IN not in e.groups)
    return found


GROUPS: dict[str, tuple[str, ...]] = _groups()
"""Group to the names of its entities. ``base``: all that need no extra; ``all``: all but the opt-in ones."""


def resolve(names: Iterable[str]) -> list[str]:
    """Entities and groups to entities, each once. Raises ValueError for a name that is neither, MissingExtra when
    an entity needs a package that is not installed."""
    out: dict[str, None] = {}
    for name in names:
        if name in GROUPS:
            out.update(dict.fromkeys(GROUPS[name]))
        elif name in ENTITIES:
            out[name] = None
        else:
            raise ValueError(f"no entity or group is called {name!r}; groups are {', '.join(GROUPS)}; see docs/pii.md")
    wanting = [n for n in out if ENTITIES[n].needs_extra]
    try:
        for module in ("stdnum", "phonenumbers") if wanting else ():
            optional(module)
    except MissingExtra:
        raise MissingExtra(
            f"the check of {', '.join(wanting)} needs packages that are not installed: pip install 'headgate[pii]'; or choose"
            f" the group base, which needs none"
        ) from None
    return list(out)


def detectors(name: str, regions: tuple[str, ...]) -> tuple[Detector, ...]:
    """Those of one entity; telephone numbers for these regions."""
    entity = ENTITIES[name]
    return phone_detectors(regions) if entity.phones else entity.detectors


