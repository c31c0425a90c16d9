"""The archive's directory: a ring within a byte budget, written by one writer, never filling the disk.

What it guarantees:

- bytes on disk never exceed the budget: room is made before anything is reserved or written;
- the lowest sequence goes first, protected intervals stay, and recording overwrites rather than stops;
- what `SegmentFile.append` has returned from is on stable storage, name included;
- a file is named closed only after its content is on stable storage.

Layout: ``lock``, ``segments/<number>/<name>``, ``set-aside/``, and ``indexing`` while the bytes in use are
not known yet. While that is so, new bytes come out of a slack that normal running keeps free; if the last
run ended that way the slack may be gone, and the oldest segments make room byte for byte.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from agent.archive import names
from agent.archive.files import DiskFiles, Files
from agent.archive.index import Index, SetAside
from agent.archive.names import StoredSegment, occupied
from agent.archive.recovery import SEGMENTS, SET_ASIDE, Recovery, salvage
from agent.errors import ConfigError, SegmentError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

MIN_BUDGET_BYTES: Final = 2 * 1024 * 1024
DIRECTORY_BYTES: Final = 32 * 1024
"""What a directory of `names.PER_DIRECTORY` names takes at most on ext4, measured 20 KiB."""

_FIXED_BYTES: Final = 2 * DIRECTORY_BYTES  # root, set-aside, the list of directories
_MAX_SLACK_BYTES: Final = 16 * 1024 * 1024
_RESERVE_STEP_BYTES: Final = 256 * 1024
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_MAX_EVICTIONS_WHEN_FULL: Final = 64
"""A disk that says it is full for another reason must not cost the whole archive at once."""


@dataclass(frozen=True, slots=True)
class RingStatus:
    """The ring as `doorward status` shows it. ``problem`` is one line for the owner, or None."""

    segments: int
    used_bytes: int
    budget_bytes: int
    oldest: StoredSegment | None
    newest: StoredSegment | None
    is_indexed: bool
    evicted: int
    set_aside: tuple[SetAside, ...]
    problem: str | None


class Ring:
    """The archive's directory. One writer thread calls `begin` and its `SegmentFile`; anybody may read."""

    def __init__(
        self,
        root: Path,
        *,
        budget_bytes: int,
        keep_free_bytes: int,
        protected: Sequence[tuple[int, int]] = (),
        files: Files | None = None,
    ) -> None:
        """Take the directory for this process and start to read what is there.

        ``keep_free_bytes`` of the file system are left to others. ``protected`` are intervals of UTC
        nanoseconds [start, end) that are never evicted.

        Raises:
            ConfigError: The budget is too small to be a ring.
            StorageError: The directory cannot be used, or another process records into it.
        """
        if budget_bytes < MIN_BUDGET_BYTES:
            raise ConfigError(
                f"archive budget: too small (got {budget_bytes} bytes, expected at least {MIN_BUDGET_BYTES})"
            )
        self._root = root
        self._budget = budget_bytes
        self._keep_free = keep_free_bytes
        self._files = files if files is not None else DiskFiles()
        self._protected: tuple[tuple[int, int], ...] = tuple(protected)
        self._slack = min(_MAX_SLACK_BYTES, budget_bytes // 8)
        self._expected_bytes = _RESERVE_STEP_BYTES
        self._open_bytes = 0
        self._can_reserve = True
        self._evicted = 0
        self._problem: str | None = None
        self._is_stopped = threading.Event()
        try:
            self._prepare()
        except OSError as error:
            raise StorageError(f"archive {root}: cannot be used ({error.strerror})") from error
        self.index = Index(self._next)
        recovery = Recovery(root, self._files, self.index, first_new=self._next)
        self._reader = threading.Thread(
            target=recovery.run, args=(self._is_stopped.is_set,), name="archive-index", daemon=True
        )
        self._reader.start()

    def close(self) -> None:
        """Give the directory back. Close or abandon the open segment first."""
        self._is_stopped.set()
        self._reader.join()
        os.close(self._lock)

    def protect(self, intervals: Sequence[tuple[int, int]]) -> None:
        """Replace the protected intervals (UTC nanoseconds, [start, end))."""
        self._protected = tuple(intervals)

    def path_of(self, segment: StoredSegment) -> Path:
        """Where a closed segment lies, until it is evicted."""
        return self._root / SEGMENTS / names.directory_of(segment.sequence) / segment.name

    def status(self) -> RingStatus:
        """The state of the ring, for people."""
        bounds = self.index.bounds()
        return RingStatus(
            segments=len(self.index),
            used_bytes=self._used(),
            budget_bytes=self._budget,
            oldest=bounds[0] if bounds else None,
            newest=bounds[1] if bounds else None,
            is_indexed=self.index.is_complete,
            evicted=self._evicted,
            set_aside=self.index.set_aside_list(),
            problem=self._problem or self.index.failure,
        )

    def begin(self, start_utc_ns: int | None) -> SegmentFile:
        """Create the next segment's file, with room for what segments have been taking.

        Raises:
            StorageError: No room can be made, or the disk refuses.
        """
        sequence = self._next
        directory = self._root / SEGMENTS / names.directory_of(sequence)
        path = directory / names.open_name(sequence, start_utc_ns)
        self.make_room(DIRECTORY_BYTES if not directory.exists() else 0)
        try:
            descriptor = self.overwriting(lambda: self._create(directory, path))
        except OSError as error:
            raise StorageError(f"archive: cannot begin a segment ({error.strerror})") from error
        self._next += 1
        file = SegmentFile(self, self._files, path, descriptor, sequence, start_utc_ns)
        try:
            file.secure(self._expected_bytes)
        except StorageError:
            file.abandon()
            raise
        return file

    # What follows is for SegmentFile, on the writer's thread.

    def make_room(self, extra: int) -> None:
        """Evict until ``extra`` more bytes fit the budget and leave the disk its free space.

        Raises:
            StorageError: Everything that is left is protected, or is not ours.
        """
        while not self.index.is_complete and self._allowance < extra:
            self._allowance += self._evict_one()
        if self.index.is_complete:
            while self._used() + extra > self._budget - self._slack:
                self._evict_one()
            self._end_indexing()
        else:
            self._allowance -= extra
        try:
            lacking = self._keep_free + extra - self._files.free_bytes(self._root)
        except OSError as error:
            raise StorageError(f"archive: the disk does not answer ({error.strerror})") from error
        while lacking > 0:
            lacking -= self._evict_one()
        self._problem = None

    def overwriting(self, call: Callable[[], T]) -> T:
        """Run a call on the disk; as long as the disk is full, evict and run it again.

        Raises:
            StorageError: Full, and nothing can be evicted.
            OSError: Whatever else the call says.
        """
        for _ in range(_MAX_EVICTIONS_WHEN_FULL):
            try:
                return call()
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._evict_one()
        raise StorageError("archive: the disk says it is full, whatever is evicted")

    def reserve(self, descriptor: int, extra: int, size: int) -> None:
        """Account ``extra`` bytes to the open segment, and take blocks for ``size`` where the disk can."""
        self._open_bytes += extra
        if not self._can_reserve:
            return
        try:
            self.overwriting(lambda: self._files.reserve(descriptor, size))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            self._can_reserve = False  # such as FAT: only the number of bytes per video gets worse

    def settle(self, reserved: int, segment: StoredSegment | None) -> None:
        """An open segment has ended: its reservation is over, what is left of it is in the index."""
        self._open_bytes -= reserved
        self._allowance += reserved - occupied(segment.bytes if segment is not None else 0)
        if segment is not None:
            self.index.add([segment])
            self._expected_bytes = min(
                max(occupied(segment.bytes + segment.bytes // 16), _RESERVE_STEP_BYTES), self._budget // 16
            )

    def _prepare(self) -> None:
        for directory in (self._root, self._root / SEGMENTS, self._root / SET_ASIDE):
            self._files.make_directory(directory)
        self._lock = _locked(self._root / "lock")
        try:
            self._next = _next_sequence(self._root / SEGMENTS)
            self._allowance = 0
            self._is_indexing = True
            if not self._marker.exists():
                self._allowance = self._slack
                self._files.close(self._files.create(self._marker))
                self._files.sync_directory(self._root)
        except OSError:
            os.close(self._lock)
            raise

    @property
    def _marker(self) -> Path:
        return self._root / "indexing"

    def _end_indexing(self) -> None:
        if self._is_indexing and self.index.failure is None:
            self._is_indexing = False
            try:
                self._files.unlink(self._marker)
            except OSError as error:
                raise StorageError(f"archive: cannot be written ({error.strerror})") from error

    def _create(self, directory: Path, path: Path) -> int:
        if not directory.exists():
            self._files.make_directory(directory)
            self._files.sync_directory(directory.parent)
        # No directory sync for the file: `SegmentFile.append` does it before the first record counts.
        return self._files.create(path)

    def _used(self) -> int:
        directories = self.index.directories + 1  # the current one may hold no closed segment yet
        # Files that somebody else put here must not be able to push all footage out.
        foreign = min(self.index.set_aside_bytes, self._budget // 4)
        return self.index.bytes + foreign + self._open_bytes + directories * DIRECTORY_BYTES + _FIXED_BYTES

    def _evict_one(self) -> int:
        """Evict the oldest segment that may go; returns its bytes on disk.

        0 means that the index has been completed meanwhile: look again at what is needed.
        """
        was_complete = self.index.is_complete
        victim = self.index.oldest(self._is_protected)
        if not was_complete and victim is None:
            self.index.wait()
        if not was_complete and self.index.is_complete:
            return 0
        if victim is None:
            self._problem = (
                "archive: no room is left: protected footage fills it"
                if len(self.index)
                else "archive: no room is left: other files fill the disk"
            )
            raise StorageError(self._problem, hint="give the archive more room, or protect less")
        path = self.path_of(victim)
        try:
            self._files.unlink(path)
        except FileNotFoundError:
            pass  # somebody was quicker; the room is there all the same
        except OSError as error:
            raise StorageError(f"archive: {path.name} cannot be evicted ({error.strerror})") from error
        # No directory sync: should the name come back after a power cut, the next start counts it again.
        self.index.remove(victim.sequence)
        self._evicted += 1
        self._drop_directory(path.parent, victim)
        return occupied(victim.bytes)

    def _drop_directory(self, directory: Path, victim: StoredSegment) -> None:
        """Remove an emptied directory, but the newest: it is how the next start knows the sequence."""
        bounds = self.index.bounds()
        number = names.directory_of(victim.sequence)
        if number == names.directory_of(self._next) or (
            bounds and names.directory_of(bounds[0].sequence) == number
        ):
            return
        try:
            self._files.remove_directory(directory)
        except OSError:
            return  # not empty: something in it is protected or still being recovered

    def _is_protected(self, segment: StoredSegment) -> bool:
        start = segment.start_utc_ns
        if start is None:
            return False
        end = start + segment.duration_ns + names.MILLISECOND_NS
        return any(start < until and since < end for since, until in self._protected)


class SegmentFile:
    """The one segment being written; once a method has raised, only `abandon` makes sense."""

    def __init__(
        self,
        ring: Ring,
        files: Files,
        path: Path,
        descriptor: int,
        sequence: int,
        start_utc_ns: int | None,
    ) -> None:
        self.sequence = sequence
        self.size = 0
        self._ring = ring
        self._files = files
        self._path = path
        self._descriptor = descriptor
        self._start_utc_ns = start_utc_ns
        self._reserved = 0

    def append(self, data: bytes) -> None:
        """Write at the end; on stable storage once this returns.

        Raises:
            StorageError: The disk does not take it.
        """
        is_first = not self.size
        self._write(data)
        try:
            self._files.sync(self._descriptor)
            if is_first:
                self._files.sync_directory(self._path.parent)
        except OSError as error:
            # Not tried again: after a failed sync the kernel may have dropped the pages.
            raise StorageError(f"segment {self.sequence}: not durable ({error.strerror})") from error

    def close(self, data: bytes, duration_ns: int) -> StoredSegment:
        """Write the last bytes and give the segment its closed name, durably.

        Raises:
            StorageError: The disk does not take it; abandon the segment then.
        """
        self._write(data)
        segment = StoredSegment(self.sequence, self._start_utc_ns, duration_ns, self.size)
        try:
            self._files.truncate(self._descriptor, self.size)
            self._files.sync(self._descriptor)
            self._files.rename(self._path, self._path.with_name(segment.name))
            self._path = self._path.with_name(segment.name)
            self._files.sync_directory(self._path.parent)
        except OSError as error:
            raise StorageError(f"segment {self.sequence}: not durable ({error.strerror})") from error
        self._files.close(self._descriptor)
        self._ring.settle(self._reserved, segment)
        return segment

    def abandon(self) -> StoredSegment | None:
        """Keep what is whole, as after a power cut; never fails.

        Returns:
            The unsigned segment that is left, or None.
        """
        try:
            self._files.close(self._descriptor)
            segment = self._salvaged()
        except (OSError, SegmentError):
            # The next start tries again. Its bytes stay accounted for until then.
            return None
        self._ring.settle(self._reserved, segment)
        return segment

    def secure(self, size: int) -> None:
        """Make sure that the file may grow to ``size`` bytes."""
        if size <= self._reserved:
            return
        target = max(occupied(size), self._reserved + _RESERVE_STEP_BYTES)
        extra = target - self._reserved
        self._ring.make_room(extra)
        self._reserved = target
        try:
            self._ring.reserve(self._descriptor, extra, target)
        except OSError as error:
            raise StorageError(f"segment {self.sequence}: no room ({error.strerror})") from error

    def _write(self, data: bytes) -> None:
        self.secure(self.size + len(data))
        left = memoryview(data)
        try:
            while left:
                written = self._ring.overwriting(self._writing(left))
                if written <= 0:
                    raise StorageError(f"segment {self.sequence}: the disk wrote nothing")
                left = left[written:]
                self.size += written
        except OSError as error:
            raise StorageError(f"segment {self.sequence}: cannot be written ({error.strerror})") from error

    def _writing(self, data: memoryview) -> Callable[[], int]:
        return lambda: self._files.write_at(self._descriptor, data, self.size)

    def _salvaged(self) -> StoredSegment | None:
        closed = names.parse_closed(self._path.name)
        if closed is not None:
            return closed  # only the sync of its new name failed
        return salvage(self._files, self._path)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise
        raise StorageError(f"archive {path.parent}: another process records into it") from error
    return descriptor


def _next_sequence(segments: Path) -> int:
    """One more than the newest sequence; only the newest directory is read."""
    with os.scandir(segments) as entries:
        numbers = [names.parse_directory(entry.name) for entry in entries if entry.is_dir()]
    newest = max((number for number in numbers if number is not None), default=0)
    sequence = newest * names.PER_DIRECTORY
    directory = segments / f"{newest:08d}"
    if directory.is_dir():
        for path in directory.iterdir():
            closed = names.parse_closed(path.name)
            found = closed.sequence if closed is not None else names.parse_open(path.name)
            if found is not None and names.directory_of(found) == directory.name:
                sequence = max(sequence, found + 1)
    return sequence
