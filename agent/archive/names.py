"""The names of the archive's files, which are its only index. PURE.

``<sequence>-<start>-<duration>-<bytes>.seg`` once closed, ``<sequence>-<start>.open`` while written: decimal,
zero-padded, ``start`` in UTC milliseconds (0: unknown) and ``duration`` in milliseconds. `PER_DIRECTORY`
sequences share a directory, so the newest sequence is found without reading the whole archive.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

PER_DIRECTORY: Final = 256
BLOCK_BYTES: Final = 4096
MAX_SEQUENCE: Final = 10**15
MAX_START_MS: Final = 10**14
MAX_DURATION_MS: Final = 10**9
MAX_BYTES: Final = 10**10
MILLISECOND_NS: Final = 1_000_000

_CLOSED: Final = re.compile(r"(\d{10,15})-(\d{13,14})-(\d{7,9})-(\d{10})\.seg\Z", re.ASCII)
_OPEN: Final = re.compile(r"(\d{10,15})-(\d{13,14})\.open\Z", re.ASCII)
_DIRECTORY: Final = re.compile(r"\d{8,13}\Z", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class StoredSegment:
    """One closed segment as its name tells it; ``start_utc_ns`` is None when the device had no time."""

    sequence: int
    start_utc_ns: int | None
    duration_ns: int
    bytes: int

    @property
    def name(self) -> str:
        """The file's name."""
        start = _start_ms(self.start_utc_ns)
        duration = min(self.duration_ns // MILLISECOND_NS, MAX_DURATION_MS - 1)
        return f"{self.sequence:010d}-{start:013d}-{duration:07d}-{self.bytes:010d}.seg"


def parse_closed(name: str) -> StoredSegment | None:
    """Read the name of a closed segment, in the one way it is written; None for any other name."""
    match = _CLOSED.match(name)
    if match is None:
        return None
    sequence, start, duration, size = (int(part) for part in match.groups())
    segment = StoredSegment(sequence, start * MILLISECOND_NS or None, duration * MILLISECOND_NS, size)
    return segment if segment.name == name else None


def parse_open(name: str) -> int | None:
    """The sequence of a segment that was being written; None for any other name."""
    match = _OPEN.match(name)
    return int(match[1]) if match else None


def open_name(sequence: int, start_utc_ns: int | None) -> str:
    """The name of a segment while it is written."""
    return f"{sequence:010d}-{_start_ms(start_utc_ns):013d}.open"


def _start_ms(start_utc_ns: int | None) -> int:
    # A clock that is wrong by millennia must not make a name that we would not read back.
    return min(max(0, start_utc_ns or 0) // MILLISECOND_NS, MAX_START_MS - 1)


def directory_of(sequence: int) -> str:
    """The name of the directory in which a sequence lies."""
    return f"{sequence // PER_DIRECTORY:08d}"


def parse_directory(name: str) -> int | None:
    """The number of a directory of ours; None for any other name."""
    return int(name) if _DIRECTORY.match(name) and f"{int(name):08d}" == name else None


def occupied(size: int) -> int:
    """Bytes a file of ``size`` takes on disk: whole blocks of 4 KiB."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
