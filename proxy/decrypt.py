"""``headgate decrypt``: puts back the values that the action ``encrypt`` of ``pii_redaction`` wrote into a text.

What lives here: where the key comes from, and the pass over the text. What must never live here: a key on the command line,
where every process of the machine can read it; ciphers (``policies/pii/actions.py``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO

from policies.pii.actions import Keys, MissingExtra, decrypt
from policies.pii.catalogue import ENTITIES
from policies.pii.options import PiiRedactionOptions
from policies.pii.placeholders import tag_of
from proxy.config import ConfigError, load

__all__ = ["OK", "SOME_LEFT", "UNUSABLE", "Reader", "keys_of", "run"]

OK, SOME_LEFT, UNUSABLE = 0, 1, 2

#: What ``encrypt`` writes: 12 bytes of nonce, the value, 16 of tag. A hash is shorter.
_TOKEN = re.compile(rb"\[([A-Z][A-Z0-9_]{0,39}):([A-Za-z0-9_-]{38,})\]")
_SHORTEST_KEY = 16


class _Key(NamedTuple):
    """types: names of entities that a policy has of its own."""

    keys: Keys
    types: tuple[str, ...] = ()


class Reader:
    """Puts values back. back, left: how many tokens were, and were not, because no key made them or they were changed."""

    def __init__(self, keys: Iterable[_Key], *, in_json: bool = False) -> None:
        self._keys = list(keys)
        self._json = in_json
        self.back = 0
        self.left = 0

    def line(self, line: bytes) -> bytes:
        """A line with its values; what is no text of headgate's passes as it is. Raises MissingExtra."""
        return _TOKEN.sub(self._token, line)

    def _token(self, found: re.Match[bytes]) -> bytes:
        tag, token = found[1].decode(), found[2].decode()
        known = [name for name, entity in ENTITIES.items() if tag_of(entity.label) == tag]
        for keys, own in self._keys:
            for type in dict.fromkeys([*known, *(t for t in own if tag_of(t) == tag), tag.lower()]):
                try:
                    value = decrypt(token, keys, type=type)
                except MissingExtra:
                    raise
                except ValueError:
                    continue
                self.back += 1
                text = json.dumps(value, ensure_ascii=False)[1:-1] if self._json else value
                return text.encode("utf-8", "surrogatepass")
        self.left += 1
        return found[0]


def keys_of(policy: str | None, key_file: str | None, key_env: str | None, env: Mapping[str, str]) -> list[_Key]:
    """The keys to try. Raises ValueError and OSError, neither of which quotes a key; ConfigError."""
    secrets: list[str] = []
    if key_file is not None:
        text = Path(key_file).read_bytes().decode()
        secrets.append(text[:-2] if text.endswith("\r\n") else text.removesuffix("\n"))  # as policy.yaml reads ``file:``
    if key_env is not None:
        if key_env not in env:
            raise ValueError(f"the environment has no {key_env}")
        secrets.append(env[key_env])
    if any(len(secret) < _SHORTEST_KEY for secret in secrets):
        raise ValueError(f"a key has at least {_SHORTEST_KEY} characters")
    found = [_Key(Keys(secret)) for secret in secrets]
    if policy is not None or not found:
        path = policy or "policy.yaml"
        of_policy = list(_of_policy(path, env))
        if not of_policy:
            raise ValueError(f"{path} has no pii_redaction with a key")
        found += of_policy
    return found


def _of_policy(path: str, env: Mapping[str, str]) -> Iterator[_Key]:
    for spec in load(path, env=env).policies:
        options = spec.options
        if isinstance(options, PiiRedactionOptions) and options.key is not None:
            yield _Key(Keys(options.key.get_secret_value()), tuple(custom.name for custom in options.custom))


def run(
    source: str | None,
    stdin: BinaryIO,
    out: BinaryIO,
    err: TextIO,
    env: Mapping[str, str],
    *,
    text: str | None = None,
    policy: str | None = None,
    key_file: str | None = None,
    key_env: str | None = None,
    in_json: bool = False,
) -> int:
    """Copy a text to ``out``, line by line, with its encrypted values put back.

    source: a file; None or ``-`` for stdin; text: the text itself, instead. policy, key_file, key_env: where keys come from
    (default: policy.yaml here). in_json: escape values as JSON strings have them. Says on ``err`` how many were put back.
    Returns 0; 1 when some were left as they were, since no key made them or they were changed; 2 when nothing could be done.
    """
    try:
        reader = Reader(keys_of(policy, key_file, key_env, env), in_json=in_json)
        if text is not None:
            _copy([text.encode("utf-8", "surrogateescape")], reader, out)
        elif source in (None, "-"):
            _copy(stdin, reader, out)
        else:
            with open(str(source), "rb") as file:
                _copy(file, reader, out)
    except ConfigError as error:
        what = "cannot be read" if error.unreadable else "is not valid"
        print(f"headgate decrypt: {policy or 'policy.yaml'} {what}; `headgate check` says more", file=err)
        return UNUSABLE
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        print(f"headgate decrypt: {error}", file=err)
        return UNUSABLE
    left = f"; {reader.left} left: another key made them, or they were changed" if reader.left else ""
    print(f"headgate decrypt: {reader.back} value{'s' * (reader.back != 1)} put back{left}", file=err)
    return SOME_LEFT if reader.left else OK


def _copy(lines: Iterable[bytes], reader: Reader, out: BinaryIO) -> None:
    for line in lines:
        out.write(reader.line(line))
    out.flush()
