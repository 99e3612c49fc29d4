"""Raw HTTP exchanges for the tests of the demo backend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from proxy.demo import backend as demo


class Wire:
    """Raw exchanges with a backend: what a client library would hide stays visible."""

    def __init__(self, running: demo.RunningBackend) -> None:
        self._port = running.port

    async def open(
        self, method: str, path: str, body: Any = None, knobs: str = "", **headers: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Send one request; the reply is left to read. `body`: bytes, or anything that becomes JSON."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "host: demo", f"content-length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"x-demo: {knobs}"] if knobs else []
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        return reader, writer

    async def raw(self, *args: Any, **kwargs: Any) -> bytes:
        """All bytes of the reply, up to the end of the connection."""
        reader, writer = await self.open(*args, connection="close", **kwargs)
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    async def call(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body), chunks joined. A body that breaks off raises IncompleteReadError."""
        return unpacked(await self.raw(*args, **kwargs))

    async def json(self, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        """(status, parsed body)."""
        status, _, body = await self.call(*args, **kwargs)
        return status, json.loads(body)

    async def stream(self, path: str, body: dict[str, Any], knobs: str = "") -> list[Any]:
        """The parsed `data:` of each event of a streamed POST; [DONE] stays a string."""
        _, headers, data = await self.call("POST", path, body | {"stream": True}, knobs)
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        return events(data)


def unpacked(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Split a reply; undo the chunked coding strictly."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") != "chunked":
        if len(rest) != int(headers.get("content-length", len(rest))):
            raise asyncio.IncompleteReadError(rest, None)
        return int(first.split()[1]), headers, rest
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            raise asyncio.IncompleteReadError(body, None)
        if int(size, 16) == 0:
            return int(first.split()[1]), headers, body
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]


def events(data: bytes) -> list[Any]:
    """The parsed data of each event of a body with LF line ends."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        text = "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: "))
        found.append(text if text == "[DONE]" else json.loads(text))
    return found


async def until(true: Callable[[], bool]) -> None:
    """Poll a condition for two seconds at most."""
    async with asyncio.timeout(2):
        while not true():  # noqa: ASYNC110 - the condition has no event
            await asyncio.sleep(0.002)
