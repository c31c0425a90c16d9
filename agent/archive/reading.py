"""Read-only access to closed segments, for core: what there is, and descriptors of sealed files.

Nothing here can open a segment: there is no key. A descriptor stays good when its segment is evicted.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from agent.errors import Refused, StorageError

if TYPE_CHECKING:
    from agent.archive.names import StoredSegment
    from agent.archive.ring import Ring


class ArchiveReader:
    """Reads beside the writer, from any thread."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def list(self, from_utc_ns: int | None, to_utc_ns: int | None) -> tuple[StoredSegment, ...]:
        """Closed segments that overlap [from, to) in UTC nanoseconds, in order; None is no bound.

        Segments from before the device knew any time are listed only without both bounds. The segment
        being written is not listed: it is closed ten seconds after it began.
        """
        return self._ring.index.between(from_utc_ns, to_utc_ns)

    def open_for_reading(self, sequence: int) -> int:
        """A read-only descriptor of a sealed segment; the caller closes it.

        Raises:
            Refused: There is no such segment, or no longer (reason ``not_recorded``).
            StorageError: It is there and cannot be read.
        """
        segment = self._ring.index.find(sequence)
        if segment is None:
            raise _gone(sequence)
        try:
            return os.open(self._ring.path_of(segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise _gone(sequence) from error
        except OSError as error:
            raise StorageError(f"segment {sequence}: cannot be read ({error.strerror})") from error

    def read(self, sequence: int) -> bytes:
        """The sealed bytes of a segment.

        Raises:
            Refused: There is no such segment, or no longer (reason ``not_recorded``).
            StorageError: It is there and cannot be read.
        """
        descriptor = self.open_for_reading(sequence)
        try:
            with os.fdopen(descriptor, "rb") as file:
                return file.read()
        except OSError as error:
            raise StorageError(f"segment {sequence}: cannot be read ({error.strerror})") from error


def _gone(sequence: int) -> Refused:
    return Refused(f"segment {sequence}: not in the archive, or no longer", reason="not_recorded")
