"""A worker's numbers in a mapped file, so that they add up over processes and outlive a killed one.

What lives here: the file's layout, its only writer (one thread of one process) and its readers. What must
never live here: metric names, Prometheus, sockets. ``proxy/families.py`` says what the numbers mean.

Every worker has one file. A row is a run of 8-byte floats under a key (block name, label values); the hot
path adds into the mapping, so there is nothing to flush: what a killed process counted is in the file. Its
replacement opens the same file and counts on; gauge rows start again at zero. The supervisor clears ``pid``
of a dead worker, which makes readers leave its gauges out. Without a path the same layout lies in anonymous
memory (one process).
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

_MAGIC = b"HGTALLY1"
_HEAD = struct.Struct("<8sQQdQ")  # magic, bytes of table in use, pid (0: nobody), start (unix s), values in use
_USED, _PID, _VALUES = 8, 16, 32
_INFO_AT, _INFO_SIZE = 64, 128
_TABLE_AT, _TABLE_SIZE = 4096, 256 * 1024
_DATA_AT, _DATA_SIZE = _TABLE_AT + _TABLE_SIZE, 1024 * 1024
_SIZE = _DATA_AT + _DATA_SIZE
_SLOTS = _DATA_SIZE // 8
_SCRATCH = 256  # values at the start that nobody reads: where rows go that found no room
_LEN = struct.Struct("<I")

SUFFIX = ".tally"


class _Key(msgspec.Struct, array_like=True, frozen=True):
    block: str
    size: int
    labels: tuple[str, ...]


@dataclass(slots=True, frozen=True)
class Row:
    """block: which declaration it follows. labels: values in its order. values: one per slot."""

    block: str
    labels: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(slots=True, frozen=True)
class Snapshot:
    """One process's numbers at one moment. name: the file's stem (``0``, ``1``, ..., ``supervisor``)."""

    name: str
    pid: int
    started: float
    info: str
    rows: tuple[Row, ...]

    @property
    def alive(self) -> bool:
        return self.pid != 0


class Tally:
    """The writing side. ``values`` is indexed by what ``row`` returned plus the slot within the row."""

    def __init__(self, path: Path | None = None, gauges: Iterable[str] = ()) -> None:
        """Open or create ``path`` (None: memory alone). gauges: blocks whose rows start again at zero.

        Raises OSError when the file cannot be made in full: a sparse file on a full disk would kill the
        process later, at some addition.
        """
        self.path = path
        self.lost = 0  # rows that found no room
        self._map = mmap.mmap(-1, _SIZE) if path is None else _open(path)
        self._bytes = memoryview(self._map)
        self.values = self._bytes[_DATA_AT:].cast("d")
        self._rows: dict[tuple[str, int, tuple[str, ...]], int] = {}
        self._used, self._next = 0, _SCRATCH
        self._load(frozenset(gauges))
        _HEAD.pack_into(self._map, 0, _MAGIC, self._used, os.getpid(), time.time(), self._next)
        self.info("")

    def _load(self, gauges: frozenset[str]) -> None:
        if self._map[:8] != _MAGIC:
            self._map[:] = bytes(_SIZE)
            return
        for key, base, used in _keys(self._map):
            self._rows[key.block, key.size, key.labels] = base
            self._used, self._next = used, base + key.size
            if key.block in gauges:
                for slot in range(base, base + key.size):
                    self.values[slot] = 0.0

    def row(self, block: str, size: int, labels: tuple[str, ...] = ()) -> int:
        """Index of the row's first value; made at the first call. Without room: a place that nobody reads."""
        key = (block, size, labels)
        base = self._rows.get(key)
        if base is not None:
            return base
        record = msgspec.msgpack.encode(_Key(*key))
        used = self._used + _LEN.size + len(record)
        if used > _TABLE_SIZE or self._next + size > _SLOTS or size > _SCRATCH:
            self.lost += 1
            return 0
        at = _TABLE_AT + self._used
        self._map[at : at + _LEN.size] = _LEN.pack(len(record))
        self._map[at + _LEN.size : _TABLE_AT + used] = record
        base, self._used, self._next = self._next, used, self._next + size
        self._rows[key] = base
        # The counts in the head come last: a process killed before this line has merely not made the row.
        self._bytes[_VALUES : _VALUES + 8] = struct.pack("<Q", self._next)
        self._bytes[_USED : _USED + 8] = struct.pack("<Q", used)
        return base

    def info(self, text: str) -> None:
        """A short text that others can read (the policy's hash); cut at 127 bytes."""
        data = text.encode()[: _INFO_SIZE - 1].ljust(_INFO_SIZE, b"\0")
        self._bytes[_INFO_AT : _INFO_AT + _INFO_SIZE] = data

    def snapshot(self, name: str = "0") -> Snapshot:
        return _parse(name, bytes(self._bytes[: _DATA_AT + 8 * self._next]))

    def close(self) -> None:
        """Unmap. The file stays: its numbers still count."""
        self.values.release()
        self._bytes.release()
        self._map.close()


def run_directory() -> Path:
    """Make a private directory for the tallies of one supervisor: in memory where the system has it.

    On a disk the kernel may stall a writer to a mapped page while it writes the page back. Raises OSError.
    """
    shm = "/dev/shm"  # noqa: S108 - mkdtemp makes a private directory in it
    usable = os.path.isdir(shm) and os.access(shm, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="headgate-", dir=shm if usable else None))


def path_of(directory: Path, name: str | int) -> Path:
    return directory / f"{name}{SUFFIX}"


def mark_dead(path: Path) -> None:
    """Note that the file's process is gone. A missing file is fine (it died before it began)."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.pwrite(fd, bytes(8), _PID)
    finally:
        os.close(fd)


def read_all(directory: Path) -> list[Snapshot]:
    """Every process's numbers, by name. A file that is not (yet) a tally is left out."""
    out = []
    for path in sorted(directory.glob(f"*{SUFFIX}"), key=lambda p: (len(p.stem), p.stem)):
        try:
            with path.open("rb") as f:
                head = f.read(_HEAD.size)
                if len(head) < _HEAD.size or head[:8] != _MAGIC:
                    continue
                f.seek(0)
                data = f.read(_DATA_AT + 8 * min(_HEAD.unpack(head)[4], _SLOTS))
        except OSError:
            continue
        out.append(_parse(path.stem, data))
    return out


def _parse(name: str, data: bytes) -> Snapshot:
    _, _, pid, started, values = _HEAD.unpack_from(data)
    numbers = memoryview(data)[_DATA_AT : _DATA_AT + 8 * min(values, _SLOTS)].cast("d")
    info = data[_INFO_AT : _INFO_AT + _INFO_SIZE].split(b"\0", 1)[0].decode("utf-8", "replace")
    rows = tuple(
        Row(key.block, key.labels, tuple(numbers[base : base + key.size]))
        for key, base, _ in _keys(data)
        if base + key.size <= len(numbers)
    )
    return Snapshot(name, pid, started, info, rows)


def _keys(data: bytes | mmap.mmap) -> Iterator[tuple[_Key, int, int]]:
    """The table's keys, each with the index of its row's first value and the table's bytes up to its end.

    Stops at the first that makes no sense.
    """
    used, at, base = min(_HEAD.unpack_from(data)[1], _TABLE_SIZE), 0, _SCRATCH
    decoder = msgspec.msgpack.Decoder(_Key)
    while at + _LEN.size <= used:
        start = _TABLE_AT + at + _LEN.size
        (length,) = _LEN.unpack(data[start - _LEN.size : start])
        try:
            key = decoder.decode(data[start : start + length])
        except msgspec.MsgspecError:
            return
        at += _LEN.size + length
        yield key, base, at
        base += key.size


def _open(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size != _SIZE:
            os.ftruncate(fd, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(fd, 0, _SIZE)
            else:
                os.write(fd, bytes(_SIZE))
        return mmap.mmap(fd, _SIZE)
    finally:
        os.close(fd)
