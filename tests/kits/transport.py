"""A transport that writes down what is done to it, for protocols without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class FakeTransport(asyncio.Transport):
    """out: all that was written. done: the other calls, in order. ``high``: pause the protocol when more than so many
    bytes wait, as a real one does."""

    def __init__(self, protocol: Any = None, high: int | None = None) -> None:
        super().__init__()
        self.out = bytearray()
        self.done: list[str] = []
        self.protocol = protocol
        self.high = high
        self.paused = False
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.out += data
        if self.high is not None and len(self.out) > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def taken(self) -> bytes:
        """What was written since the last call; the other side has taken it."""
        data = bytes(self.out)
        self.out.clear()
        if self.paused:
            self.paused = False
            self.protocol.resume_writing()
        return data

    def close(self) -> None:
        self._note("close")

    def abort(self) -> None:
        self._note("abort")

    def _note(self, what: str) -> None:
        self._closing = True
        self.done.append(what)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self.done.append("pause_reading")

    def resume_reading(self) -> None:
        self.done.append("resume_reading")

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.done.append("write_eof")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.7", 1234) if name == "peername" else default

    def get_write_buffer_size(self) -> int:
        return len(self.out)
