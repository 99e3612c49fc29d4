"""Hostile requests as raw bytes, and what must become of each.

served: the targets that the backend may see, in order; each is answered. Where ``refused`` is set, the last reply is
that status from us and the connection ends. /evil stands for a request that a confused parser would find; it may never
arrive. Sources of the classes: RFC 9112 (sections 2.2, 3.2, 5, 6, 7), HTTP request smuggling literature, the findings
of the HTTP Garden (https://github.com/narfindustries/http-garden).
"""

from __future__ import annotations

from dataclasses import dataclass

EVIL = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Vector:
    raw: bytes
    served: tuple[bytes, ...] = ()
    refused: tuple[int, ...] = (400,)


def _post(fields: bytes, body: bytes = b"", *, version: bytes = b"1.1") -> bytes:
    return b"POST /first HTTP/%b\r\nHost: x\r\n%b\r\n%b" % (version, fields, body)


def _get(fields: bytes) -> bytes:
    return b"GET /first HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"


def _chunks(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked\r\n", body)


def _ok(raw: bytes, *targets: bytes) -> Vector:
    return Vector(raw, targets or (b"/first",), ())


def _either(raw: bytes) -> Vector:
    """Served as one request or refused; both are right."""
    return Vector(raw, (b"/first",), (400, 0))


_ABC = b"3\r\nabc\r\n0\r\n\r\n"

FRAMING = {
    "CL and TE": Vector(_post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + EVIL)),
    "TE and CL": Vector(_post(b"Transfer-Encoding: chunked\r\nContent-Length: 50\r\n", b"0\r\n\r\n" + EVIL)),
    "CL 0 and TE": Vector(_post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", _ABC + EVIL)),
    "differing CL": Vector(_post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abc" + EVIL)),
    "differing CL, 0 first": Vector(_post(b"Content-Length: 0\r\nContent-Length: 32\r\n", EVIL)),
    "equal CL": Vector(_post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc" + EVIL)),
    "CL list": Vector(_post(b"Content-Length: 3, 3\r\n", b"abc" + EVIL)),
    "CL +3": Vector(_post(b"Content-Length: +3\r\n", b"abc" + EVIL)),
    "CL -1": Vector(_post(b"Content-Length: -1\r\n", b"abc" + EVIL)),
    "CL 0x3": Vector(_post(b"Content-Length: 0x3\r\n", b"abc" + EVIL)),
    "CL 3_0": Vector(_post(b"Content-Length: 3_0\r\n", EVIL)),
    "CL 3.0": Vector(_post(b"Content-Length: 3.0\r\n", b"abc" + EVIL)),
    "CL 3 0": Vector(_post(b"Content-Length: 3 0\r\n", b"abc" + EVIL)),
    "CL empty": Vector(_post(b"Content-Length: \r\n", EVIL)),
    "CL wide digit": Vector(_post("Content-Length: ３\r\n".encode(), b"abc" + EVIL)),
    "CL overflow": Vector(_post(b"Content-Length: 18446744073709551619\r\n", b"abc" + EVIL)),
    "CL overflow 2": Vector(_post(b"Content-Length: 9223372036854775808\r\n", b"abc" + EVIL)),
    "CL too many digits": Vector(_post(b"Content-Length: " + b"1" * 40 + b"\r\n", b"abc" + EVIL)),
    "CL leading zeros": _either(_post(b"Content-Length: 0003\r\n", b"abc")),
    "CL with spaces around": _ok(_post(b"Content-Length: \t 3 \r\n", b"abc")),
    "CL with a vertical tab": Vector(_post(b"Content-Length: \x0b3\r\n", b"abc" + EVIL)),
    "CL on a GET hides no request": _ok(_get(b"Content-Length: %d\r\n" % len(EVIL)) + EVIL),
    "TE xchunked": Vector(_post(b"Transfer-Encoding: xchunked\r\n", _ABC + EVIL)),
    "TE chunkedx": Vector(_post(b"Transfer-Encoding: chunkedx\r\n", _ABC + EVIL)),
    "TE twice in one": Vector(_post(b"Transfer-Encoding: chunked, chunked\r\n", _ABC + EVIL)),
    "TE twice": Vector(_post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", _ABC + EVIL)),
    "TE identity": Vector(_post(b"Transfer-Encoding: identity\r\n", EVIL)),
    "TE chunked and identity": Vector(
        _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", _ABC + EVIL)
    ),
    "TE identity and CL": Vector(_post(b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n", b"abc" + EVIL)),
    "TE gzip, chunked": Vector(_post(b"Transfer-Encoding: gzip, chunked\r\n", _ABC + EVIL)),
    "TE chunked, gzip": Vector(_post(b"Transfer-Encoding: chunked, gzip\r\n", _ABC + EVIL)),
    "TE with a parameter": Vector(_post(b"Transfer-Encoding: chunked;q=1\r\n", _ABC + EVIL)),
    "TE empty": Vector(_post(b"Transfer-Encoding: \r\n", EVIL)),
    "TE vertical tab": Vector(_post(b"Transfer-Encoding: \x0bchunked\r\n", _ABC + EVIL)),
    "TE quoted": Vector(_post(b'Transfer-Encoding: "chunked"\r\n', _ABC + EVIL)),
    "TE upper case": _ok(_post(b"TRANSFER-ENCODING: CHUNKED\r\n", _ABC)),
    "TE folded": Vector(_post(b"Transfer-Encoding:\r\n chunked\r\n", _ABC + EVIL)),
    "TE after a fold": Vector(_post(b"X: y\r\n Transfer-Encoding: chunked\r\n", _ABC + EVIL)),
    "TE in 1.0": Vector(_post(b"Transfer-Encoding: chunked\r\n", _ABC + EVIL, version=b"1.0")),
    "TE and CL in 1.0": Vector(
        _post(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"abc" + EVIL, version=b"1.0")
    ),
    "TE hidden by Connection": Vector(
        _post(b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"abc" + EVIL)
    ),
    "CL hidden by Connection": Vector(_post(b"Connection: content-length\r\nContent-Length: 3\r\n", b"abc" + EVIL)),
}

CHUNKS = {
    "size 0x3": Vector(_chunks(b"0x3\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size +3": Vector(_chunks(b"+3\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size -3": Vector(_chunks(b"-3\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size empty": Vector(_chunks(b"\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size overflow": Vector(_chunks(b"10000000000000003\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size of 64 bits": Vector(_chunks(b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size with underscore": Vector(_chunks(b"1_0\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size with a space before": Vector(_chunks(b" 3\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size, tab, digits": Vector(_chunks(b"3\t3\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "size then LF": Vector(_chunks(b"3\nabc\r\n0\r\n\r\n" + EVIL)),
    "size then CR": Vector(_chunks(b"3\rabc\r\n0\r\n\r\n" + EVIL)),
    "data longer than its size": Vector(_chunks(b"3\r\nabcd\r\n0\r\n\r\n" + EVIL)),
    "data without its line end": Vector(_chunks(b"3\r\nabc0\r\n\r\n" + EVIL)),
    "data then LF": Vector(_chunks(b"3\r\nabc\n0\r\n\r\n" + EVIL)),
    "data then CR": Vector(_chunks(b"3\r\nabc\r0\r\n\r\n" + EVIL)),
    "last chunk then LF": Vector(_chunks(b"3\r\nabc\r\n0\n\r\n" + EVIL)),
    "LF in an extension": Vector(_chunks(b"3;a\nb\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "LF ends an extension": Vector(_chunks(b"3;a\nabc\r\n0\r\n\r\n" + EVIL)),
    "NUL in an extension": Vector(_chunks(b"3;a=\x00\r\nabc\r\n0\r\n\r\n" + EVIL)),
    "an extension": _ok(_chunks(b"3;a=b;c\r\nabc\r\n0;d\r\n\r\n")),
    "a quoted extension": _either(_chunks(b'3;a="b;c"\r\nabc\r\n0\r\n\r\n')),
    "leading zeros": _either(_chunks(b"0000000003\r\nabc\r\n00000\r\n\r\n")),
    "an extension of 20 kB": _either(_chunks(b"3;" + b"a" * 20_000 + b"\r\nabc\r\n0\r\n\r\n")),
    "an extension flood": Vector(
        _chunks(b"".join(b"1;%b\r\nx\r\n" % (b"a" * 1000) for _ in range(600))), refused=(400,)
    ),
    "an endless extension": Vector(_chunks(b"3;" + b"a" * 600_000)),
    "a trailer with CL": Vector(_chunks(b"3\r\nabc\r\n0\r\nContent-Length: 32\r\n\r\n" + EVIL)),
    "a trailer with TE": Vector(_chunks(b"3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n" + EVIL)),
    "a trailer with Host": Vector(_chunks(b"3\r\nabc\r\n0\r\nHost: evil\r\n\r\n")),
    "a trailer with a key": Vector(_chunks(b"3\r\nabc\r\n0\r\nAuthorization: Bearer x\r\n\r\n")),
    "a folded trailer": Vector(_chunks(b"3\r\nabc\r\n0\r\nX: a\r\n b\r\n\r\n" + EVIL)),
    "a bad trailer": Vector(_chunks(b"3\r\nabc\r\n0\r\nno colon\r\n\r\n" + EVIL)),
    "a trailer with LF": Vector(_chunks(b"3\r\nabc\r\n0\r\nX: y\n\r\n" + EVIL)),
    "a trailer flood": Vector(_chunks(b"3\r\nabc\r\n0\r\n" + b"X: y\r\n" * 5_000 + b"\r\n"), refused=(400, 431)),
    "a trailer of 600 kB": Vector(_chunks(b"3\r\nabc\r\n0\r\nX: " + b"a" * 600_000), refused=(400, 431)),
}

HEADS = {
    "space before colon, CL": Vector(_post(b"Content-Length : 3\r\n", b"abc" + EVIL)),
    "space before colon, TE": Vector(_post(b"Transfer-Encoding : chunked\r\n", _ABC + EVIL)),
    "tab before colon": Vector(_get(b"X\t: y\r\n")),
    "a folded field": Vector(_get(b"X: a\r\n b\r\n")),
    "a fold first": Vector(b"GET /first HTTP/1.1\r\n Host: x\r\nHost: y\r\n\r\n"),
    "bare LF between fields": Vector(b"GET /first HTTP/1.1\r\nHost: x\nX: y\r\n\r\n"),
    "bare LF throughout": Vector(b"GET /first HTTP/1.1\nHost: x\n\n"),
    "bare LF at the end": Vector(b"GET /first HTTP/1.1\r\nHost: x\r\n\n" + EVIL),
    "bare CR in a value": Vector(_get(b"X: a\rb\r\n")),
    "bare CR hides a field": Vector(_post(b"X: a\rContent-Length: 3\r\n", b"abc" + EVIL)),
    "CR CR LF": Vector(_get(b"X: a\r\r\n")),
    "NUL in a value": Vector(_get(b"X: a\x00b\r\n")),
    "NUL in a name": Vector(_get(b"X\x00: b\r\n")),
    "control characters in a value": Vector(_get(b"X: a\x01\x08b\r\n")),
    "DEL in a value": Vector(_get(b"X: a\x7fb\r\n")),
    "an empty name": Vector(_get(b": b\r\n")),
    "a space in a name": Vector(_get(b"X Y: b\r\n")),
    "brackets in a name": Vector(_get(b"X[a]: b\r\n")),
    "quotes in a name": Vector(_get(b'"X": b\r\n')),
    "a name above ASCII": Vector(_get("Ü: b\r\n".encode())),
    "a line without a colon": Vector(_get(b"nonsense\r\n")),
    "two Hosts": Vector(_get(b"Host: y\r\n")),
    "two equal Hosts": Vector(_get(b"Host: x\r\n")),
    "no Host": Vector(b"GET /first HTTP/1.1\r\nX: y\r\n\r\n"),
    "Connection hides the key": Vector(_get(b"Authorization: Bearer x\r\nConnection: close, Authorization\r\n")),
    "Connection hides the id": Vector(_get(b"X-Request-Id: x\r\nConnection: x-request-id\r\n")),
    "Connection hides Host": Vector(_get(b"Connection: host\r\n")),
    "a field of 100 kB": Vector(_get(b"X: " + b"a" * 100_000 + b"\r\n"), refused=(431,)),
    "a name of 100 kB": Vector(_get(b"a" * 100_000 + b": x\r\n"), refused=(431,)),
    "5,000 fields": Vector(_get(b"".join(b"X-%d: y\r\n" % i for i in range(5_000))), refused=(431,)),
    "a head without an end": Vector(_get(b"X: " + b"a" * 600_000)[:-2], refused=(431,)),
    "a target of 20 kB": Vector(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", refused=(414,)),
    "a target without an end": Vector(b"GET /" + b"a" * 600_000, refused=(414,)),
    "a method without an end": Vector(b"G" * 600_000),
}

LINES = {
    "absolute form": Vector(b"GET http://evil.example/first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "absolute form, https": Vector(b"GET https://x/first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "authority form": Vector(b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n" + EVIL),
    "CONNECT with a path": Vector(b"CONNECT /first HTTP/1.1\r\nHost: x\r\n\r\n" + EVIL),
    "asterisk with GET": Vector(b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    "asterisk with OPTIONS": _ok(b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"*"),
    "no slash": Vector(b"GET first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a query alone": Vector(b"GET ?x=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no target": Vector(b"GET  HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a space in the target": Vector(b"GET /first /evil HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a tab in the target": Vector(b"GET /fi\trst HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a control character in the target": Vector(b"GET /fi\x01rst HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a NUL in the target": Vector(b"GET /fi\x00rst HTTP/1.1\r\nHost: x\r\n\r\n"),
    "DEL in the target": Vector(b"GET /fi\x7frst HTTP/1.1\r\nHost: x\r\n\r\n"),
    "CR in the target": Vector(b"GET /fi\rrst HTTP/1.1\r\nHost: x\r\n\r\n"),
    "two spaces": _either(b"GET  /first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a space at the end": Vector(b"GET /first HTTP/1.1 \r\nHost: x\r\n\r\n"),
    "a space at the start": Vector(b" GET /first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "tabs": Vector(b"GET\t/first\tHTTP/1.1\r\nHost: x\r\n\r\n"),
    "lower-case method": Vector(b"get /first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "no such method": Vector(b"EVIL /first HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a method of RTSP": Vector(b"SETUP /first RTSP/1.0\r\nHost: x\r\n\r\n"),
    "HTTP/0.9": Vector(b"GET /first\r\n\r\n"),
    "HTTP/1.2": Vector(b"GET /first HTTP/1.2\r\nHost: x\r\n\r\n"),
    "HTTP/2.0": Vector(b"GET /first HTTP/2.0\r\nHost: x\r\n\r\n"),
    "HTTP/3.0": Vector(b"GET /first HTTP/3.0\r\nHost: x\r\n\r\n"),
    "HTTP/1.10": Vector(b"GET /first HTTP/1.10\r\nHost: x\r\n\r\n"),
    "HTTP/1,1": Vector(b"GET /first HTTP/1,1\r\nHost: x\r\n\r\n"),
    "HTTP/01.1": Vector(b"GET /first HTTP/01.1\r\nHost: x\r\n\r\n"),
    "http/1.1": Vector(b"GET /first http/1.1\r\nHost: x\r\n\r\n"),
    "ICE/1.0": Vector(b"SOURCE /first ICE/1.0\r\nHost: x\r\n\r\n"),
    "HTTP/2 preface": Vector(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    "TLS": Vector(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))),
    "SOCKS": Vector(b"\x05\x01\x00"),
    "garbage": Vector(bytes(range(255, 0, -1))),
    "a reply": Vector(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "empty lines first": _ok(b"\r\n\r\n\r\n" + _get(b"")),
    "dots and slashes": _ok(b"GET //evil/../%2e%2e/admin;x HTTP/1.1\r\nHost: x\r\n\r\n", b"//evil/../%2e%2e/admin;x"),
}

SECOND = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"

SEQUENCES = {
    "h2c and a second request": _ok(
        _get(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n")
        + SECOND,
        b"/first", b"/second",
    ),
    "h2c on a POST": _ok(
        _post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n" % len(EVIL), EVIL)
        + SECOND,
        b"/first", b"/second",
    ),
    "an upgrade to nothing known": _ok(_get(b"Connection: Upgrade\r\nUpgrade: TLS/1.0, foo\r\n")),
    "a websocket without Connection": _ok(_get(b"Upgrade: websocket\r\n") + SECOND, b"/first", b"/second"),
    "h2c on a chunked POST": _ok(
        _post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n", b"1f\r\n" + EVIL + b"\r\n0\r\n\r\n")
        + SECOND,
        b"/first", b"/second",
    ),
    "a websocket with a body": Vector(
        _get(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: %d\r\n" % len(EVIL)) + EVIL
    ),
    "an upgrade in 1.0": _ok(
        b"GET /first HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + EVIL
    ),
    "a websocket, refused, and a second request": _ok(
        _get(b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n") + EVIL
    ),
    "a request, then garbage": Vector(_get(b"") + b"\x00\x01\x02\r\n\r\n", (b"/first",)),
    "a request, then a bad one": Vector(
        _get(b"") + _post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n" + EVIL), (b"/first",)
    ),
    "three, the last one bad": Vector(
        _get(b"") + b"POST /second HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab" + b"GET /third HTTP/9.9\r\n\r\n",
        (b"/first", b"/second"),
    ),
    "a surplus byte after the body": Vector(_post(b"Content-Length: 3\r\n", b"abcX" + EVIL), (b"/first",)),
    "after Connection: close nothing is read": _ok(_get(b"Connection: close\r\n") + EVIL),
    "after HTTP/1.0 nothing is read": _ok(b"GET /first HTTP/1.0\r\n\r\n" + EVIL),
    "after close even garbage is not read": _ok(_get(b"Connection: close\r\n") + b"\x00\xff garbage"),
}  # fmt: skip

ALL = {
    f"{group}: {name}": vector
    for group, vectors in (
        ("framing", FRAMING), ("chunks", CHUNKS), ("heads", HEADS), ("line", LINES), ("sequence", SEQUENCES),
    )
    for name, vector in vectors.items()
}  # fmt: skip
