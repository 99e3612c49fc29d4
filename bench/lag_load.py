"""The hostile side of ``bench/lag.py``: a backend that sends what it should not, and the clients that ask for it.

``python -m bench.lag_load`` prints the backend's port, then takes lines ``KIND PROXY_PORT SECONDS CLIENTS`` and answers each
with one line of JSON when it is over. Loopback only.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import cycle

Send = Callable[[bytes], object]
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
KIB = 1024


def event(delta: dict[str, object]) -> bytes:
    doc = {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
    }  # fmt: skip
    return b"data: " + json.dumps(doc, separators=(",", ":")).encode() + b"\n\n"


def say(text: str) -> bytes:
    return event({"content": text})


def call(arguments: str) -> bytes:
    return event({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]})


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def phrases(count: int, seed: int = 7) -> list[str]:
    """Phrases of two to four made-up words."""
    rng = random.Random(seed)
    word = lambda: "".join(rng.choices(_LETTERS, k=rng.randint(3, 8)))  # noqa: E731
    return [" ".join(word() for _ in range(rng.randint(2, 4))) for _ in range(count)]


def wandering(seed: int, size: int) -> str:
    """Beginnings of the phrases, one after the other: nearly every character leads into a state that was not met."""
    rng = random.Random(seed)
    known = phrases(10_000)
    out: list[str] = []
    left = size
    while left > 0:
        phrase = rng.choice(known)
        out.append(phrase[: rng.randint(3, len(phrase) - 1)])
        left -= len(out[-1])
    return " ".join(out)


def letters(seed: int, size: int) -> str:
    return "".join(random.Random(seed).choices(_LETTERS, k=size))


def pieces(text: str, size: int) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def small(text: str, size: int = 10) -> list[bytes]:
    return [say(piece) for piece in pieces(text, size)]


def blocks(events: list[bytes], least: int = 64 * KIB) -> list[bytes]:
    """Events in chunks as large as one write of a backend that has them all."""
    out, block, held = [], [], 0
    for one in events:
        block.append(one)
        held += len(one)
        if held >= least:
            out.append(chunk(b"".join(block)))
            block, held = [], 0
    return [*out, chunk(b"".join(block))] if block else out


def prose(size: int) -> str:
    words = ["people", "talk", "about", "the", "weather", "and", "what", "to", "do", "tomorrow", "over", "a", "lazy", "dog"]
    rng = random.Random(3)
    out = ""
    while len(out) < size:
        out += " ".join(rng.choices(words, k=400)) + ". "
    return out[:size]


def _escaped(text: str) -> str:
    return '{"q":"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"}'


#: kind: (chunks of the reply, sent over and over until the time is up unless it is one reply)
KINDS: dict[str, Callable[[], list[bytes]]] = {
    "none": list,
    "event of 1 MB": lambda: [chunk(say(letters(n, KIB * KIB))) for n in range(4)],
    "event of 250 KiB": lambda: [chunk(say(letters(n, 250 * KIB))) for n in range(8)],
    "event of 250 KiB, new states": lambda: [chunk(say(wandering(n, 240 * KIB)[: 250 * KIB])) for n in range(16)],
    "250 KiB of arguments, \\u": lambda: [chunk(call(_escaped(letters(n, 35 * KIB)))) for n in range(8)],
    "250 KiB of arguments, plain": lambda: [chunk(call('{"q":"' + letters(n, 240 * KIB) + '"}')) for n in range(8)],
    "a byte a segment": lambda: [b"".join(chunk(one) for one in small(prose(4 * KIB)))],
    "(a+)+$ on aaa": lambda: blocks(small("a" * 256 * KIB)),
    "(?s)(?:.*a){20} on abab": lambda: blocks(small("ab" * 128 * KIB)),
    "\\s+$ on spaces": lambda: blocks(small(" " * 256 * KIB)),
    "10,000 phrases, new states": lambda: blocks(small(wandering(1, 2 * KIB * KIB))),
    "full speed, small events": lambda: blocks(small(prose(KIB * KIB))),
    "full speed, a match each": lambda: blocks(small("123-45-6789 is my number, " * 40_000, 13)),
    "whole reply of 10 MB": lambda: [_whole(prose(10_000_000))],
    "request of 10 MB": lambda: [_whole("ok")],
    "reload of 10,000 phrases": list,
}
#: Kinds whose reply ends after its chunks; the others go on until the client leaves.
SHORT = frozenset(("whole reply of 10 MB", "request of 10 MB"))
#: Every reply of these has to begin as a new one: it is cut, or its arguments end.
ONE_EACH = frozenset(
    ("event of 1 MB", "250 KiB of arguments, \\u", "250 KiB of arguments, plain", "event of 250 KiB, new states")
)
MODELS = {
    "(a+)+$ on aaa": "hostile-patterns", "(?s)(?:.*a){20} on abab": "hostile-patterns",
    "\\s+$ on spaces": "hostile-patterns", "request of 10 MB": "hostile-request",
}  # fmt: skip


def _whole(text: str) -> bytes:
    doc = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
           "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}  # fmt: skip
    return json.dumps(doc).encode()


class Load:
    def __init__(self) -> None:
        self.kind = "none"
        self.chunks: list[bytes] = []
        self.next: Iterator[bytes] = iter(())
        self.replies = 0
        self.taken = 0

    # -- the backend

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                at = head.lower().find(b"content-length:")
                if at >= 0:
                    await reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
                async for data in self._reply():
                    writer.write(data)
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async def _reply(self) -> AsyncIterator[bytes]:
        kind, chunks = self.kind, self.chunks
        if kind in SHORT:
            body = chunks[0]
            yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            return
        yield _HEAD % b"text/event-stream"
        if kind == "a byte a segment":
            for byte in cycle(chunks[0]):
                yield b"%c" % byte
                await asyncio.sleep(0)
        elif kind in ONE_EACH:
            yield next(self.next)
            yield b"0\r\n\r\n"
        else:
            for data in cycle(chunks):
                yield data

    # -- the clients

    async def run(self, kind: str, port: int, seconds: float, clients: int) -> dict[str, float]:
        self.kind, self.chunks, self.replies, self.taken = kind, KINDS[kind](), 0, 0
        self.next = cycle(self.chunks)
        print("begun", flush=True)
        if not self.chunks:
            await asyncio.sleep(seconds)
            return {"replies": 0, "mb": 0.0}
        end = time.monotonic() + seconds
        await asyncio.gather(*(self._client(port, end) for _ in range(clients)))
        self.kind, self.chunks = "none", []
        return {"replies": self.replies, "mb": round(self.taken / 1e6, 1)}

    async def _client(self, port: int, end: float) -> None:
        text = "Write to jane.doe@example.com about it. " * 250_000 if self.kind == "request of 10 MB" else "hi"
        doc = {"model": MODELS.get(self.kind, "hostile"), "messages": [{"role": "user", "content": text}]}
        doc["stream"] = self.kind not in SHORT
        body = json.dumps(doc).encode()
        request = (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        ) + body
        while (left := end - time.monotonic()) > 0:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
            try:
                async with asyncio.timeout(left):
                    writer.write(request)
                    while data := await reader.read(1 << 18):
                        self.taken += len(data)
                self.replies += 1
            except (TimeoutError, OSError):
                pass
            finally:
                writer.close()


async def main() -> None:
    load = Load()
    server = await asyncio.start_server(load.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        kind, port, seconds, clients = json.loads(line)
        print(json.dumps(await load.run(kind, port, seconds, clients)), flush=True)
    server.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
