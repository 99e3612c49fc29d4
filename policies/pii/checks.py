"""Check digits that are a few lines: Luhn, mod 97, ABA, Base58Check, Bech32, EIP-55, entropy.

What lives here: public algorithms over a value. What must never live here: patterns, context. Sources: ISO/IEC 7812-1
(Luhn), ISO 13616 and the SWIFT IBAN registry (lengths), ABA routing number policy (weights 3-7-1), BIP 173 and 350
(Bech32, Bech32m), EIP-55 (mixed-case checksum; Keccak-256 as in the Keccak submission, which is not SHA3-256).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from math import log2

__all__ = ["aba", "base58check", "bech32", "eip55", "entropy", "iban", "luhn"]

_SINGLE = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))


def luhn(digits: str) -> bool:
    """digits: ASCII digits alone."""
    data = digits.encode()
    return (sum(data[-1::-2].translate(_SINGLE)) + sum(data[-2::-2].translate(_DOUBLED))) % 10 == 0


# Characters of an IBAN by country, from the registry (release 99).
_IBAN = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20,
    "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19,
    "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29,
    "PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20,
    "YE": 30,
}  # fmt: skip


def iban(value: str) -> bool:
    """With or without separators; its length must be that of its country, and nothing more may be in the sum."""
    if len(value) < _IBAN.get(value[:2].upper(), 99):  # most of the places where one might end
        return False
    text = "".join([c for c in value if c.isalnum()]).upper()
    if _IBAN.get(text[:2]) != len(text) or not text.isascii():
        return False
    return int("".join([str(int(c, 36)) for c in text[4:] + text[:4]])) % 97 == 1


def aba(digits: str) -> bool:
    """A US routing number: nine digits, a first pair that is in use, the sum."""
    first = int(digits[:2])
    if len(digits) != 9 or not (first <= 12 or 21 <= first <= 32 or 61 <= first <= 72 or first == 80):
        return False
    return sum(w * int(d) for w, d in zip((3, 7, 1) * 3, digits, strict=True)) % 10 == 0 and digits != "000000000"


_BASE58 = {c: i for i, c in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def base58check(text: str) -> bool:
    """A Bitcoin address of the first kinds: 21 bytes and the first four of a double SHA-256 of them."""
    number = 0
    for char in text:
        if char not in _BASE58:
            return False
        number = number * 58 + _BASE58[char]
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:] and raw[0] in (0, 5)


_BECH32 = {c: i for i, c in enumerate("qpzry9x8gf2tvdw0s3jn54khce6mua7l")}
_BECH32_STEPS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)


def bech32(text: str) -> bool:
    """A segwit address, ``bc1...`` or ``tb1...``, of either version of the code; one case only."""
    if text not in (text.lower(), text.upper()):
        return False
    prefix, _, data = text.lower().rpartition("1")
    if not data or any(c not in _BECH32 for c in data):
        return False
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + [_BECH32[c] for c in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, step in enumerate(_BECH32_STEPS):
            check ^= step if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


def eip55(text: str) -> bool:
    """An Ethereum address, ``0x`` and 40 hex digits: in one case, or with the case that its hash asks for."""
    digits = text[2:]
    if digits in (digits.lower(), digits.upper()):
        return True
    mark = _keccak256(digits.lower().encode()).hex()
    return all(c.isdigit() or c.isupper() == (int(m, 16) >= 8) for c, m in zip(digits, mark, strict=False))


_TURNS = (0, 36, 3, 41, 18, 1, 44, 10, 45, 2, 62, 6, 43, 15, 61, 28, 55, 25, 21, 56, 27, 20, 39, 8, 14)
_MASK = (1 << 64) - 1


def _rounds() -> list[int]:
    out, register = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        out.append(constant)
    return out


_ROUNDS = _rounds()


def _turn(lane: int, by: int) -> int:
    return (lane << by | lane >> (64 - by)) & _MASK if by else lane


def _keccak256(data: bytes) -> bytes:
    """data: below 136 bytes, one block."""
    block = bytearray(data + bytes(136 - len(data)))
    block[len(data)] ^= 1
    block[135] ^= 0x80
    lanes = [0] * 25  # index 5 * x + y
    for i in range(17):
        lanes[5 * (i % 5) + i // 5] = int.from_bytes(block[8 * i : 8 * i + 8], "little")
    for constant in _ROUNDS:
        sums = [lanes[5 * x] ^ lanes[5 * x + 1] ^ lanes[5 * x + 2] ^ lanes[5 * x + 3] ^ lanes[5 * x + 4] for x in range(5)]
        mixed = [sums[(x - 1) % 5] ^ _turn(sums[(x + 1) % 5], 1) for x in range(5)]
        moved = [0] * 25
        for x in range(5):
            for y in range(5):
                moved[5 * y + (2 * x + 3 * y) % 5] = _turn(lanes[5 * x + y] ^ mixed[x], _TURNS[5 * x + y])
        for x in range(5):
            for y in range(5):
                lanes[5 * x + y] = moved[5 * x + y] ^ (~moved[5 * ((x + 1) % 5) + y] & moved[5 * ((x + 2) % 5) + y])
        lanes[0] ^= constant
    return b"".join([lanes[5 * (i % 5) + i // 5].to_bytes(8, "little") for i in range(4)])


def entropy(text: str) -> float:
    """Shannon entropy of its characters, bits each."""
    size = len(text)
    return -sum(n / size * log2(n / size) for n in Counter(text).values()) if size else 0.0
