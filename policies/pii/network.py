"""Addresses of machines.

What lives here: IPv4, IPv6 with its mapped forms, MAC. What must never live here: other entities.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

from policies.pii.entity import Entity, Reach, detector

__all__ = ["ENTITIES"]

# A version or a section number is no address; ``1.2.3.4-rc1`` is known by what is before it only.
_VERSION = re.compile(
    r"(?i:(?:\bversion|release|build|firmware|patch|driver|package|image|tag|upgrad\w*|updat\w*)"
    r"(?:\s+(?:to|is|now|number|no\.?|of|the|in|from|with|it|runs|still|app))*[\s\"':=#(]*v?)\Z|==\Z|\b[A-Z]\w+/\Z|"
    r"(?i:(?:\bv|section|chapter|§|oid)[\s\"':=/]*(?:is\s+)?)\Z|[\d.]\Z|\w-\Z|"
    r"(?<!ip)(?<!host)(?<!addr)(?<!address)(?<!from)(?<!client)(?<!peer)(?<!server)(?<=\w):\Z"  # a tag: app:1.2.3.4
)


def _ipv4(value: str) -> bool:
    try:
        address = IPv4Address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback or value in ("255.255.255.255",))


def _ipv6(value: str) -> bool:
    """Loopback and the unspecified address are nobody's; two colons and a word are C++."""
    if value.count(":") < 3 and not ("." in value or (len(value) > 6 and any(c.isdigit() for c in value))):
        return False
    try:
        address = IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_unspecified or address.is_loopback)


def _mac(value: str) -> bool:
    digits = [c for c in value.lower() if c in "0123456789abcdef"]
    return len(set(digits)) > 1


_HEX = "[0-9A-Fa-f]"
_V4 = r"\d{1,3}(?:\.\d{1,3}){3}"

ENTITIES = (
    Entity(
        "ipv4", "IP", ("network",),
        (detector("ipv4.1", _V4, 0.9, r"\d\.\d{1,3}\.\d{1,3}\.\d", Reach.TOKEN, validate=_ipv4,
                  context=lambda before: _VERSION.search(before) is None),),
        "IPv4 address, but for 0.0.0.0, loopback and broadcast", "four bytes; no version number",
    ),
    Entity(
        "ipv6", "IP", ("network",),
        (detector("ipv6.1", rf"(?:{_HEX}{{0,4}}:){{2,7}}(?:{_HEX}{{1,4}}|{_V4})|(?:{_HEX}{{1,4}}:){{1,7}}:", 0.9,
                  r"[0-9A-Fa-f:]:[0-9A-Fa-f:]", Reach.TOKEN, validate=_ipv6,
                  context=lambda before: not before.endswith((":", "-"))),),
        "IPv6 address, also with an IPv4 address inside", "parsed; not loopback",
    ),
    Entity(
        "mac", "MAC", ("network",),
        (detector("mac.1", (rf"{_HEX}{{2}}(?::{_HEX}{{2}}){{5}}", rf"{_HEX}{{2}}(?:-{_HEX}{{2}}){{5}}",
                            rf"{_HEX}{{4}}\.{_HEX}{{4}}\.{_HEX}{{4}}"), 0.9,
                  r"[0-9A-Fa-f]{2}[:.-][0-9A-Fa-f]{2}", Reach.TOKEN, validate=_mac,
                  context=lambda before: not before.endswith((":", "-", "."))),),
        "MAC address", "six bytes, not all one digit",
    ),
)  # fmt: skip
