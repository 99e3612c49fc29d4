"""Addresses of Bitcoin and Ethereum.

What lives here: shapes and checksums. What must never live here: other entities.
"""

from __future__ import annotations

from policies.pii.checks import base58check, bech32, eip55
from policies.pii.entity import Entity, Reach, detector, near

__all__ = ["ENTITIES"]

_WORDS = near(r"bitcoin|btc|wallet|coins?\b|crypto|monedero|portefeuille|ビットコイン|비트코인|比特币", gap=32)
_OLD = r"[13][1-9A-HJ-NP-Za-km-z]{25,34}"
_NEW = r"(?:bc|tb)1[02-9ac-hj-np-z]{11,71}|(?:BC|TB)1[02-9AC-HJ-NP-Z]{11,71}"

ENTITIES = (
    Entity(
        "btc_address", "BTC", ("crypto",),
        (
            detector("btc_address.1", _OLD, 0.95, r"[13][1-9A-Za-z]{25}", Reach.TOKEN, validate=base58check),
            detector("btc_address.2", _NEW, 0.95, "(?i)[bt][cb]1[0-9a-z]{11}", Reach.TOKEN, validate=bech32),
            detector("btc_address.3", (_OLD, _NEW), 0.7, "(?i)1[0-9a-z]{11}|3[1-9a-z]{25}", Reach.TOKEN, context=_WORDS,
                     validate=lambda v: len(set(v)) > 9 and any(c.isalpha() for c in v)),
        ),
        "Bitcoin address; after a word for it also one with a wrong checksum", "Base58Check, Bech32 and Bech32m",
    ),
    Entity(
        "eth_address", "ETH", ("crypto",),
        (detector("eth_address.1", "0x[0-9A-Fa-f]{40}", 0.9, "0x[0-9A-Fa-f]{40}", Reach.TOKEN, validate=eip55),),
        "Ethereum address", "EIP-55 when the case is mixed",
    ),
)  # fmt: skip
