"""One request at the demo backend: its knobs, and the way its reply goes out.

Here: everything that touches the socket of a reply, so that each knob that harms a reply acts in one place.
Never here: what a reply says. No request text is kept or logged.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from aiohttp import web

from proxy.demo import fields, knobs, words
from proxy.demo.errors import HungUp, Refused, anthropic_error, openai_error
from proxy.demo.knobs import Knobs

MAX_BODY: Final = 64 * 1024 * 1024
"""Cap on a request body, in bytes. Images in base64 make bodies of 50 MB."""
_MAX_KEYS: Final = 1000
_MAX_ID: Final = 200


@dataclass(slots=True)
class Stats:
    """Counters since the start, or since POST /demo/reset."""

    requests: int = 0
    in_flight: int = 0
    cancelled: int = 0
    by_route: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """What the requests of one backend share. The owners of `store` and `files` keep them bounded."""

    knobs: Knobs
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    healthy: bool = True
    stats: Stats = field(default_factory=Stats)
    fails: OrderedDict[str, int] = field(default_factory=OrderedDict)
    store: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    files: OrderedDict[str, Any] = field(default_factory=OrderedDict)
    sockets: set[web.WebSocketResponse] = field(default_factory=set)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    serial: int = 0


STATE: Final = web.AppKey("state", State)


class Event(NamedTuple):
    """One event of a stream. `last` marks the one that says the stream is complete."""

    data: bytes
    name: str | None = None
    last: bool = False

    def encode(self, end: bytes) -> bytes:
        """The bytes of the event, with `end` as the end of a line."""
        head = b"event: " + self.name.encode() + end if self.name else b""
        return head + b"data: " + self.data + end + end


DONE: Final = Event(b"[DONE]", last=True)


def event(value: Any, name: str | None = None, *, last: bool = False) -> Event:
    """An event whose data is compact JSON."""
    return Event(fields.dumps(value), name, last)


_BROKEN: Final = b'{"id":"demo","choices":[{"index":0,"delta":{"content":"'


class Call:
    """A request with its knobs. A handler takes body and model, passes the gate, then replies once."""

    def __init__(self, state: State, request: web.Request) -> None:
        self.state = state
        self.request = request
        self._header = "; ".join(request.headers.getall("x-demo", []))
        self.knobs = self._parsed(self._header, state.knobs)
        state.serial += 1
        self.serial = state.serial
        self.created = int(state.clock())

    def _parsed(self, text: str, base: Knobs) -> Knobs:
        try:
            return knobs.parse(text, base)
        except knobs.KnobError as problem:
            raise Refused(400, str(problem), param="x-demo") from None

    def model(self, name: Any, default: str = "demo") -> str:
        """Take the model name of the body: checks it, reads the knobs behind it, returns it without them.

        Raises Refused: 400 for a bad name or knob, 404 for a model that is not served.
        """
        if name is None:
            return default
        if not isinstance(name, str):
            raise Refused(400, "model must be a string.", param="model")
        base, suffix = knobs.split_model(name)
        if not base.startswith("demo") or len(base) > _MAX_ID:
            raise Refused(404, "The model does not exist. The models here begin with `demo`.", param="model")
        self.knobs = self._parsed(self._header, self._parsed(suffix, self.state.knobs))
        return base

    async def body(self) -> fields.Json:
        """Read and parse the JSON body. Raises Refused(400)."""
        return fields.loads(await self.request.read())

    def id(self, prefix: str) -> str:
        """An id for the reply. It holds the client's X-Request-Id where there is one, as vLLM does."""
        given = self.request.headers.get("X-Request-Id", "")
        if given and len(given) <= _MAX_ID and given.isascii():
            return prefix + given
        return f"{prefix}{words.rng('id', self.created, self.serial).getrandbits(96):024x}"

    async def gate(self) -> None:
        """Wait, fail or hang up before the head, as the knobs say. Raises Refused, HungUp."""
        if self.knobs.ttft:
            await self.state.sleep(self.knobs.ttft / 1000)
        if self.knobs.cut == knobs.HEAD:
            self.hang_up()
        status = self.knobs.fail
        if self.knobs.fail_times is not None:
            status = (status or 503) if self._still_fails(self.knobs.fail_times) else None
        if status is not None:
            after = self.knobs.retry_after
            headers = {"Retry-After": str(after)} if after is not None else {}
            raise Refused(status, f"The demo backend was asked to fail with {status}.", headers=headers)

    def _still_fails(self, times: int) -> bool:
        fails = self.state.fails
        fails[self.knobs.key] = fails.pop(self.knobs.key, 0) + 1
        while len(fails) > _MAX_KEYS:
            fails.popitem(last=False)
        return fails[self.knobs.key] <= times

    def hang_up(self) -> None:
        """Close the connection: what was written still goes out, nothing after it. Always raises HungUp."""
        transport = self.request.transport
        if transport is not None:
            raw = transport.get_extra_info("socket")
            if self.knobs.reset and raw is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            else:
                transport.close()
        raise HungUp

    async def silence(self) -> None:
        """Say nothing until the client goes away (which cancels this) or the backend stops."""
        await self.state.closing.wait()
        self.hang_up()

    # -- plain replies -------------------------------------------------------------------------------

    async def json(self, value: Any, status: int = 200) -> web.StreamResponse:
        """Send a JSON reply."""
        return await self.send(fields.dumps(value), "application/json", status)

    async def send(self, data: bytes, kind: str, status: int = 200) -> web.StreamResponse:
        """Send a reply with a Content-Length, harmed as the knobs say. `kind` is the Content-Type."""
        k = self.knobs
        if k.malformed is not None:
            data = data[: min(k.malformed, max(len(data) - 1, 0))]
        head = {"Content-Type": kind}
        if k.cut is None and k.stall is None and not k.split:
            return web.Response(body=data, status=status, headers=head)
        reply = web.StreamResponse(status=status, headers=head)
        reply.content_length = len(data)
        await reply.prepare(self.request)
        stop = min(x for x in (k.cut, k.stall, len(data)) if x is not None)
        await self._write(reply, data[:stop])
        if stop < len(data):
            await self._harm(stop)
        return reply

    async def _harm(self, sent: int) -> None:
        if self.knobs.cut is not None and sent >= self.knobs.cut:
            self.hang_up()
        await self.silence()

    async def _write(self, reply: web.StreamResponse, data: bytes) -> None:
        size = self.knobs.split
        if size <= 0:
            await reply.write(data)
            return
        for start in range(0, len(data), size):
            await reply.write(data[start : start + size])

    # -- streams -------------------------------------------------------------------------------------

    async def stream(self, events: Iterable[Event]) -> web.StreamResponse:
        """Send an event stream at the rate that the knobs ask for, harmed as they say."""
        head = {"Content-Type": "text/event-stream; charset=utf-8"}
        reply = web.StreamResponse(headers=head)
        await reply.prepare(self.request)
        writer = _Writer(self, reply)
        sent = -1
        for sent, item in enumerate(events):
            if await writer.ends(sent):
                break
            await self.pace(sent)
            if not (item.last and self.knobs.nodone):
                await writer.put(item)
        else:
            await writer.ends(sent + 1)
        await writer.flush()
        await reply.write_eof()
        return reply

    async def pace(self, sent: int) -> None:
        """Wait between two events. Without a rate other tasks still run, so that a cancel gets through."""
        if self.knobs.rate and sent:
            await self.state.sleep(1 / self.knobs.rate)
        else:
            await asyncio.sleep(0)


class _Writer:
    """The writes of one stream: framing, splitting, and what goes wrong after N events."""

    def __init__(self, call: Call, reply: web.StreamResponse) -> None:
        self._call = call
        self._reply = reply
        self._end = b"\r\n" if call.knobs.crlf else b"\n"
        self._held = bytearray()

    async def put(self, item: Event) -> None:
        if self._call.knobs.comments:
            await self._out(b": keep-alive" + self._end * 2)
        await self._out(item.encode(self._end))

    async def _out(self, data: bytes) -> None:
        if self._call.knobs.split == knobs.WHOLE:
            self._held += data
        else:
            await self._call._write(self._reply, data)

    async def flush(self) -> None:
        if self._held:
            await self._reply.write(bytes(self._held))
            self._held.clear()

    async def ends(self, sent: int) -> bool:
        """Act on the knobs that count events. True: the stream ends here. Raises HungUp."""
        k = self._call.knobs
        if k.malformed == sent:
            await self.put(Event(_BROKEN, self._named()))
        if k.cut == sent or k.stall == sent:
            await self.flush()
            await self._call._harm(sent)
        if k.error != sent:
            return False
        for item in self._errors(sent):
            await self.put(item)
        return True

    def _named(self) -> str | None:
        path = self._call.request.path
        if path.startswith("/v1/responses"):
            return "response.output_text.delta"
        return "content_block_delta" if path.startswith("/v1/messages") else None

    def _errors(self, sent: int) -> list[Event]:
        """An error inside a 200 stream, as each API sends it; the request path says which API."""
        message = "The demo backend was asked to fail in the stream."
        path = self._call.request.path
        if path.startswith("/v1/messages"):
            return [event(anthropic_error(500, message), "error")]
        if path.startswith("/v1/responses"):
            body = {"type": "error", "code": "server_error", "message": message, "param": None}
            return [event(body | {"sequence_number": sent}, "error")]
        found = [event(openai_error(500, message))]
        return found if self._call.knobs.nodone else [*found, DONE]
