"""Which segments there are, in memory, rebuilt from names at every start.

Ordered by sequence, never by time: clocks jump. Looking up an interval goes through runs of segments whose
starts do not go backwards (one run, until a clock is set back), so it stays a binary search. The numbers lie
in arrays: 30 days of ten-second segments take 7 MB.

Thread-safe: the writer adds and removes, the recovery thread fills in what was there before, anybody reads.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.archive.names import MILLISECOND_NS, PER_DIRECTORY, StoredSegment, occupied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class SetAside:
    """A file that is not ours or cannot be read, where it lies now and why."""

    name: str
    why: str
    bytes: int


class Index:
    """The closed segments and what was set aside."""

    def __init__(self, first_new: int) -> None:
        """``first_new`` is the first sequence that this run writes; lower ones were there before."""
        self._first_new = first_new
        self._changed = threading.Condition()
        self._sequences = array("Q")
        self._starts_ms = array("Q")
        self._durations_ms = array("I")
        self._sizes = array("Q")
        self._runs: list[int] | None = None  # sequences at which a run begins; None: work it out
        self._longest_ms = 0
        self._directories: Counter[int] = Counter()
        self._bytes = 0
        self._set_aside: list[SetAside] = []
        self._set_aside_bytes = 0
        self._is_complete = False
        self._failure: str | None = None

    def add(self, segments: Sequence[StoredSegment]) -> None:
        """Add segments in order of sequence; one that is already there is left out."""
        with self._changed:
            if segments and (not self._sequences or segments[0].sequence > self._sequences[-1]):
                for segment in segments:
                    self._insert(len(self._sequences), segment)
            else:
                for segment in segments:
                    at = bisect_left(self._sequences, segment.sequence)
                    if at == len(self._sequences) or self._sequences[at] != segment.sequence:
                        self._insert(at, segment)
            self._changed.notify_all()

    def remove(self, sequence: int) -> None:
        """Forget a segment; harmless when it is not there."""
        with self._changed:
            at = bisect_left(self._sequences, sequence)
            if at == len(self._sequences) or self._sequences[at] != sequence:
                return
            self._bytes -= occupied(self._sizes[at])
            directory = sequence // PER_DIRECTORY
            self._directories[directory] -= 1
            if not self._directories[directory]:
                del self._directories[directory]
            for column in (self._sequences, self._starts_ms, self._durations_ms, self._sizes):
                del column[at]

    def set_aside(self, what: SetAside) -> None:
        """Note a file that was moved out of the way."""
        with self._changed:
            self._set_aside.append(what)
            self._set_aside_bytes += occupied(what.bytes)

    def finish(self, failure: str | None = None) -> None:
        """Say that everything that was there before is in, or that it could not all be read."""
        with self._changed:
            self._is_complete = True
            self._failure = failure
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the index is complete; returns whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_complete, timeout_s)

    @property
    def is_complete(self) -> bool:
        """Whether everything on disk is in."""
        with self._changed:
            return self._is_complete

    @property
    def failure(self) -> str | None:
        """Why the index may lack something, in words; None when it does not."""
        with self._changed:
            return self._failure

    @property
    def bytes(self) -> int:
        """Bytes on disk of all closed segments, in whole blocks."""
        with self._changed:
            return self._bytes

    @property
    def set_aside_bytes(self) -> int:
        """Bytes on disk of what was set aside, in whole blocks."""
        with self._changed:
            return self._set_aside_bytes

    @property
    def directories(self) -> int:
        """How many directories hold closed segments."""
        with self._changed:
            return len(self._directories)

    def __len__(self) -> int:
        with self._changed:
            return len(self._sequences)

    def set_aside_list(self) -> tuple[SetAside, ...]:
        """What was moved out of the way, oldest first."""
        with self._changed:
            return tuple(self._set_aside)

    def oldest(self, is_protected: Callable[[StoredSegment], bool]) -> StoredSegment | None:
        """The segment with the lowest sequence that is not protected; None if there is none.

        The recovery thread reads the oldest directory first, so this waits for at most one directory.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_complete or self._knows_oldest())
            for at in range(len(self._sequences)):
                segment = self._at(at)
                if not is_protected(segment):
                    return segment
            return None

    def find(self, sequence: int) -> StoredSegment | None:
        """The segment with this sequence, if it is there."""
        with self._changed:
            at = bisect_left(self._sequences, sequence)
            found = at < len(self._sequences) and self._sequences[at] == sequence
            return self._at(at) if found else None

    def bounds(self) -> tuple[StoredSegment, StoredSegment] | None:
        """The oldest and the newest segment."""
        with self._changed:
            return (self._at(0), self._at(len(self._sequences) - 1)) if self._sequences else None

    def between(self, from_utc_ns: int | None, to_utc_ns: int | None) -> tuple[StoredSegment, ...]:
        """Segments that overlap [from, to), in order of sequence; None is no bound.

        Segments recorded without any idea of the time are listed only without both bounds.
        """
        with self._changed:
            if from_utc_ns is None and to_utc_ns is None:
                return tuple(self._at(at) for at in range(len(self._sequences)))
            low_ns = 0 if from_utc_ns is None else from_utc_ns
            found: list[StoredSegment] = []
            for begin, end in self._run_borders():
                earliest_ms = max(0, low_ns // MILLISECOND_NS - self._longest_ms)
                first = bisect_left(self._starts_ms, earliest_ms, begin, end)
                stop = end
                if to_utc_ns is not None:
                    stop = bisect_right(self._starts_ms, max(0, to_utc_ns // MILLISECOND_NS), begin, end)
                found.extend(
                    segment
                    for segment in map(self._at, range(first, stop))
                    if _overlaps(segment, low_ns, to_utc_ns)
                )
            return tuple(found)

    def _knows_oldest(self) -> bool:
        return bool(self._sequences) and self._sequences[0] < self._first_new

    def _insert(self, at: int, segment: StoredSegment) -> None:
        start_ms = (segment.start_utc_ns or 0) // MILLISECOND_NS
        duration_ms = segment.duration_ns // MILLISECOND_NS
        if at < len(self._sequences):
            self._runs = None
        elif self._runs is not None and (not at or start_ms < self._starts_ms[-1]):
            self._runs.append(segment.sequence)
        self._sequences.insert(at, segment.sequence)
        self._starts_ms.insert(at, start_ms)
        self._durations_ms.insert(at, duration_ms)
        self._sizes.insert(at, segment.bytes)
        self._longest_ms = max(self._longest_ms, duration_ms)
        self._directories[segment.sequence // PER_DIRECTORY] += 1
        self._bytes += occupied(segment.bytes)

    def _at(self, at: int) -> StoredSegment:
        return StoredSegment(
            self._sequences[at],
            self._starts_ms[at] * MILLISECOND_NS or None,
            self._durations_ms[at] * MILLISECOND_NS,
            self._sizes[at],
        )

    def _run_borders(self) -> list[tuple[int, int]]:
        if self._runs is None:
            starts = self._starts_ms
            self._runs = [
                sequence
                for at, sequence in enumerate(self._sequences)
                if not at or starts[at] < starts[at - 1]
            ]
        begins = sorted({bisect_left(self._sequences, sequence) for sequence in self._runs})
        borders = [*begins, len(self._sequences)]
        return [(begin, end) for begin, end in pairwise(borders) if begin < end]


def _overlaps(segment: StoredSegment, from_utc_ns: int, to_utc_ns: int | None) -> bool:
    start = segment.start_utc_ns
    if start is None:
        return False
    # Names keep whole milliseconds, cut off: one more on either side loses no fragment at a border.
    slack = MILLISECOND_NS
    return start + segment.duration_ns + slack > from_utc_ns and (
        to_utc_ns is None or start - slack < to_utc_ns
    )
