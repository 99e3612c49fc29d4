"""One raw exchange, directly and through headgate, and what must be equal between the two."""

from __future__ import annotations

from dataclasses import dataclass

from tests.kits.backend import Backend, Call, Script, backend
from tests.kits.client import Client, Reply, connect
from tests.kits.gate import Gate, gate
from tests.kits.stream import Fields

#: Fields of one hop, and those that headgate is allowed to add.
_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"te", b"upgrade", b"proxy-connection", b"content-length"}
_ADDED = {b"x-forwarded-for", b"x-request-id"}


@dataclass
class Seen:
    """What both ends saw of an exchange."""

    call: Call
    reply: Reply


async def converse(port: int, b: Backend, raw: bytes, trickle: int) -> Seen:
    method = raw.partition(b" ")[0].decode()
    before = len(b.calls)
    async with connect(port) as client:
        if trickle:
            await client.trickle(raw, trickle)
        else:
            client.transport.write(raw)
        reply = await client.reply(method)
    b.check()
    assert len(b.calls) == before + 1, "one request, one call"
    return Seen(b.calls[-1], reply)


def end_to_end(fields: Fields, *more: bytes) -> Fields:
    """The fields that must cross as they are, in their order."""
    return [f for f in fields if f[0].lower() not in _HOP | set(more)]


def same_request(direct: Call, through: Call, *, host: bytes) -> None:
    """Method, target, fields (order, case, values), framing, body and trailers."""
    assert (direct.method, direct.target) == (through.method, through.target)
    assert through.version == b"HTTP/1.1"
    given = {k.lower() for k, _ in direct.fields}
    drop = (b"host", b"expect", *(_ADDED - given))
    assert end_to_end(direct.fields, *drop) == end_to_end(through.fields, *drop)
    assert through.value(b"host") == host
    assert through.value(b"x-request-id")
    for framing in (b"content-length", b"transfer-encoding"):
        assert direct.value(framing) == through.value(framing)
    assert direct.body == through.body
    assert direct.trailers == through.trailers


def same_reply(direct: Reply, through: Reply) -> None:
    """Status line, fields (order, case, values), length, body and trailers."""
    assert direct.line == through.line
    given = {k.lower() for k, _ in direct.fields}
    drop = (b"x-request-id",) if b"x-request-id" not in given else ()
    assert end_to_end(direct.fields, *drop) == end_to_end(through.fields, *drop)
    assert through.value(b"x-request-id"), "exactly one request id"
    if not direct.chunked and direct.status != 204:
        assert direct.values(b"content-length") == through.values(b"content-length")
    assert direct.body == through.body
    assert direct.trailers == through.trailers
    assert [i.line for i in direct.interims] == [i.line for i in through.interims]
    for one, other in zip(direct.interims, through.interims, strict=True):
        assert end_to_end(one.fields) == end_to_end(other.fields)


class Pair:
    """A backend, and headgate in front of it."""

    def __init__(self, b: Backend, g: Gate) -> None:
        self.backend = b
        self.gate = g

    async def same(self, raw: bytes, *, trickle: int = 0) -> tuple[Seen, Seen]:
        """Run the exchange both ways and compare; returns what was seen directly and through headgate."""
        direct = await converse(self.backend.port, self.backend, raw, 0)
        through = await converse(self.gate.port, self.backend, raw, trickle)
        same_request(direct.call, through.call, host=b"127.0.0.1:%d" % self.backend.port)
        same_reply(direct.reply, through.reply)
        return direct, through


class pair:
    """`async with pair(script) as p`: both parts, started and stopped together."""

    def __init__(self, script: Script, **settings: object) -> None:
        self._backend = backend(script)
        self._settings = settings

    async def __aenter__(self) -> Pair:
        b = await self._backend.__aenter__()
        self._gate = gate(b.url, **self._settings)
        try:
            return Pair(b, await self._gate.__aenter__())
        except BaseException:
            await self._backend.__aexit__(None, None, None)
            raise

    async def __aexit__(self, *exc: object) -> None:
        try:
            await self._gate.__aexit__(*exc)  # type: ignore[arg-type]
        finally:
            await self._backend.__aexit__(*exc)  # type: ignore[arg-type]


async def no_more(client: Client) -> None:
    """Nothing else comes on a connection that is then closed by us."""
    assert not client.buffer
    client.half_close()
    assert await client.to_end() == b""
