"""Client certificates as proxies in front tell of them.

Sans-io. Formats: Envoy's x-forwarded-client-cert (envoyproxy.io, "HTTP header manipulation"), and distinguished names as
nginx writes them (RFC 4514, and the older form with slashes).
"""

from __future__ import annotations

import re

__all__ = ["Subject", "of_dn", "of_xfcc"]

_NAME = re.compile(r"[A-Za-z0-9@._:/+=-]{1,256}")
Subject = tuple[str, str | None]
"""(who, organisation or None)"""


def of_xfcc(value: str) -> Subject | None:
    """The last element's URI, else its Subject's common name; None when there is neither. The last is what the nearest
    proxy has added; those before it come from further away."""
    elements = _split(value, ",")
    pairs = dict(_pair(p) for p in _split(elements[-1], ";")) if elements else {}
    subject = _dn(pairs.get("subject", ""))
    uri = pairs.get("uri", "")
    if _NAME.fullmatch(uri):
        return uri, subject.get("O")
    return _subject(subject)


def of_dn(value: str) -> Subject | None:
    """The common name of a distinguished name."""
    return _subject(_dn(value))


def _subject(parts: dict[str, str]) -> Subject | None:
    name = parts.get("CN", "")
    return (name, parts.get("O")) if _NAME.fullmatch(name) else None


def _dn(text: str) -> dict[str, str]:
    """``CN=a,O=b`` or ``/O=b/CN=a``; of an attribute that is there twice the first counts, as it is the most specific in RFC
    4514's order."""
    slashes = text.startswith("/")
    parts = text[1:].split("/") if slashes else _split(text, ",")
    out: dict[str, str] = {}
    for part in reversed(parts) if slashes else parts:
        key, value = _pair(part)
        out.setdefault(key.upper(), value.replace("\\,", ","))
    return out


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.strip().partition("=")
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1].replace('\\"', '"')
    return key.strip().lower(), value


def _split(text: str, sign: str) -> list[str]:
    """Split at a sign that is neither in quotes nor behind a backslash."""
    out, part, quoted, escaped = [], "", False, False
    for char in text:
        if char == sign and not quoted and not escaped:
            out.append(part)
            part = ""
            continue
        quoted ^= char == '"' and not escaped
        escaped = char == "\\" and not escaped
        part += char
    return [*out, part] if part else out
