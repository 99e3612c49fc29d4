"""Which header fields cross the relay, and what a message's head says about its framing (RFC 9110 7.6, RFC 9112 6).

Sans-io. Fields keep their order, their case, their repeated lines and their bytes; only what belongs to one hop goes.
"""

from __future__ import annotations

Fields = list[tuple[bytes, bytes]]

#: Fields of one hop (RFC 9110 7.6.1 and the ones that practice adds). TE may stay as "trailers" and is handled apart.
HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te",
     b"transfer-encoding", b"upgrade", b"http2-settings")
)  # fmt: skip

#: Where clients put their key: OpenAI's, Anthropic's and Azure's place.
KEY_FIELDS = frozenset((b"authorization", b"x-api-key", b"api-key"))

#: Names a client may not strip by listing them in Connection: the backend would judge another request than we did.
END_TO_END = frozenset(
    (b"authorization", b"api-key", b"x-api-key", b"content-length", b"content-type", b"content-encoding", b"host",
     b"cookie", b"expect", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto",
     b"x-request-id", b"accept-encoding", b"anthropic-version", b"openai-organization", b"openai-project",
     b"traceparent", b"tracestate", b"idempotency-key")
)  # fmt: skip


#: Names that may not come after the body: framing, routing, credentials, conditions (RFC 9110 6.5.1).
NO_TRAILER = (
    HOP | END_TO_END
    | frozenset((b"content-range", b"trailer", b"max-forwards", b"range", b"cache-control", b"set-cookie", b"if-match"))
)  # fmt: skip


#: A caller's wish to be told what policies found; it goes no further.
ANNOTATE = b"x-headgate-annotate"


class BadHead(ValueError):
    """The head breaks a rule of HTTP/1.1 that the parser lets pass. The text is safe to show and to log."""


class Head:
    """What one pass over the fields of a message finds.

    fields: what may cross. length: Content-Length in bytes or None. chunked: Transfer-Encoding is exactly chunked.
    forwarded: there is an X-Forwarded-For. annotate: the value of X-Headgate-Annotate, which is for us alone.
    """

    __slots__ = (
        "chunked", "close", "content_encoding", "content_type", "expect", "fields", "host", "keep_alive", "length",
        "annotate", "forwarded", "request_id", "trailers", "upgrade",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fields: Fields = []
        self.length: int | None = None
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.upgrade: bytes | None = None
        self.expect: bytes | None = None
        self.host: bytes | None = None
        self.request_id: bytes | None = None
        self.content_encoding: bytes | None = None
        self.content_type: bytes | None = None
        self.trailers = False
        self.forwarded = False
        self.annotate: bytes | None = None


#: What to do with a field, by its name as sent: _PASS it unread, _LOOK and pass, _TAKE it out. Filled as names come, so
#: that the case of a name costs one look-up; bounded, since names are the client's to choose.
_PASS, _LOOK, _TAKE = 0, 1, 2
_LOOKED = frozenset((b"content-type", b"content-encoding", b"x-request-id", b"x-forwarded-for"))
_codes: dict[bytes, int] = {}
_MAX_CODES = 4096
_MAX_NAME = 64  # bytes; longer names are looked at anew each time


def scan(raw: Fields) -> Head:
    """Read the fields of a message once; raises BadHead. ``fields`` lacks Content-Length: framing is per hop."""
    head = Head()
    codes = _codes
    try:
        special = [f for f in raw if codes[f[0]]]
    except KeyError:
        codes = _learn(raw)
        special = [f for f in raw if codes[f[0]]]
    head.fields = [f for f in raw if codes[f[0]] != _TAKE]
    tokens: set[bytes] | None = None
    for name, value in special:
        low = name.lower()
        if low == b"host":
            if head.host is not None:
                raise BadHead("two Host fields")
            head.host = value
        elif low == b"content-length":
            head.length = _length(value.strip(b" \t"), head.length)
        elif low == b"content-type":
            head.content_type = value
        elif low == b"connection":
            tokens = (tokens or set()) | {t.strip().lower() for t in value.split(b",")}
        elif low == b"transfer-encoding":
            if value.strip(b" \t").lower() != b"chunked" or head.chunked:
                raise BadHead("Transfer-Encoding must be exactly chunked")
            head.chunked = True
        elif low == b"x-request-id":
            if head.request_id is None:
                head.request_id = value
            else:
                _drop_later(head.fields, low)
        elif low == b"x-forwarded-for":
            head.forwarded = True
        elif low == b"upgrade":
            head.upgrade = value.strip().lower()
        elif low == b"te":
            head.trailers = b"trailers" in value.lower()
        elif low == b"content-encoding":
            head.content_encoding = value.strip().lower()
        elif low == ANNOTATE:
            head.annotate = value
        elif low == b"expect":
            head.expect = value.strip().lower()
    if tokens is not None:
        _connection(head, tokens)
    else:
        head.upgrade = None
    if head.chunked and head.length is not None:
        raise BadHead("both Content-Length and Transfer-Encoding")
    return head


def _learn(raw: Fields) -> dict[bytes, int]:
    """The codes of these names. When there is no more room the memory starts again: what clients make up goes, and what
    they use comes back."""
    found = {name: _code(name.lower()) for name, _ in raw}
    if len(_codes) + len(found) > _MAX_CODES:
        _codes.clear()
    _codes.update((name, code) for name, code in found.items() if len(name) <= _MAX_NAME)
    return found


def _code(low: bytes) -> int:
    if low in HOP or low in (b"content-length", b"host", b"expect", ANNOTATE):
        return _TAKE
    return _LOOK if low in _LOOKED else _PASS


def _drop_later(fields: Fields, low: bytes) -> None:
    """Of several lines of a field only the first stays."""
    lines_of = [i for i, f in enumerate(fields) if f[0].lower() == low]
    for i in reversed(lines_of[1:]):
        del fields[i]


def size_of(raw: Fields) -> int:
    """Bytes of the fields on the wire."""
    return sum(len(name) + len(value) + 4 for name, value in raw)


def _length(value: bytes, before: int | None) -> int:
    if not value.isdigit() or len(value) > 18:  # bytes.isdigit() is ASCII only
        raise BadHead("Content-Length is not a number")
    if before is not None:
        raise BadHead("two Content-Length fields")
    return int(value)


def _connection(head: Head, tokens: set[bytes]) -> None:
    """Apply Connection: its options, and the removal of the fields it lists (RFC 9110 7.6.1)."""
    head.close = b"close" in tokens
    head.keep_alive = b"keep-alive" in tokens
    if head.upgrade is not None and b"upgrade" not in tokens:
        head.upgrade = None
    listed = tokens - HOP - {b"close", b""}
    if listed:
        if listed & END_TO_END:
            raise BadHead("Connection lists a field that is not of one hop")
        head.fields[:] = [f for f in head.fields if f[0].lower() not in listed]


def lines(fields: Fields) -> bytes:
    """Fields as they stand on the wire, without the empty line."""
    return b"".join([b"%b: %b\r\n" % f for f in fields])


def forwarded_for(fields: Fields, client: str, present: bool) -> None:
    """Append the peer's address to X-Forwarded-For, in place: to its last line when one is present, or as a new one."""
    address = client.encode("latin-1")
    if present:
        for i in range(len(fields) - 1, -1, -1):
            name, value = fields[i]
            if name.lower() == b"x-forwarded-for":
                fields[i] = (name, b"%b, %b" % (value, address) if value else address)
                return
    fields.append((b"X-Forwarded-For", address))
