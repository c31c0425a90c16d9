"""What an archive finds when it starts: names into the index, interrupted segments cut to their last record.

Runs in a thread of its own while recording already goes on, oldest directory first. Nothing here is fatal:
what is foreign or damaged is moved to ``set-aside/`` and named, what the disk refuses is reported. A segment
that was interrupted keeps every record that lies whole under its checksums; it has no signed footer and so
stays unsigned for ever. No key is needed, and none is there.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from agent.archive import names
from agent.archive.framing import MAX_SEGMENT_BYTES, ClearSegment, read_clear
from agent.archive.index import Index, SetAside
from agent.archive.names import StoredSegment
from agent.errors import SegmentError, SegmentTruncated

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.archive.files import Files

SEGMENTS: Final = "segments"
SET_ASIDE: Final = "set-aside"
_MAX_COLLISIONS: Final = 10_000


def salvage(files: Files, path: Path) -> StoredSegment | None:
    """Make a closed segment of one that was interrupted: cut, sync, rename, sync the directory.

    Returns:
        The segment, or None when it held no fragment yet and was removed.

    Raises:
        SegmentError: Not a segment of ours, although named like one; untouched.
        OSError: The disk refuses; what was renamed or removed is whole all the same.
    """
    clear, length = _read_interrupted(path)
    if clear is None or len(clear.records) <= 1:
        files.unlink(path)
        return None
    descriptor = files.open_existing(path)
    try:
        # Also to the same length: that frees the blocks reserved beyond it.
        files.truncate(descriptor, min(clear.good_bytes, length))
        files.sync(descriptor)
    finally:
        files.close(descriptor)
    wall = clear.header.start_wall
    segment = StoredSegment(
        clear.header.sequence, None if wall is None else wall.utc_ns, clear.duration_ns, clear.good_bytes
    )
    files.rename(path, path.with_name(segment.name))
    files.sync_directory(path.parent)
    return segment


def _read_interrupted(path: Path) -> tuple[ClearSegment | None, int]:
    """Walk an interrupted segment; None when the power went before its first record was on disk."""
    with path.open("rb") as file:
        data = file.read(MAX_SEGMENT_BYTES + 1)
    if len(data) > MAX_SEGMENT_BYTES:
        raise SegmentError(f"segment {path.name}: too large (expected at most {MAX_SEGMENT_BYTES} bytes)")
    if not data.strip(b"\0"):
        return None, len(data)
    try:
        clear = read_clear(data)
    except SegmentTruncated:
        return None, len(data)
    if clear.header.sequence != names.parse_open(path.name):
        raise SegmentError(f"segment {path.name}: header has another sequence (got {clear.header.sequence})")
    return clear, len(data)


class Recovery:
    """One pass over what was there before this run."""

    def __init__(self, root: Path, files: Files, index: Index, *, first_new: int) -> None:
        """Prepare to read everything below sequence ``first_new``; the rest is the running writer's."""
        self._root = root
        self._files = files
        self._index = index
        self._first_new = first_new
        self._failures: list[str] = []

    def run(self, is_stopped: Callable[[], bool]) -> None:
        """Fill the index, and say so when done. Raises nothing."""
        try:
            self._note_earlier()
            for directory in self._directories():
                if is_stopped():
                    break
                self._read_directory(directory)
        except OSError as error:
            self._failures.append(f"archive: cannot be read ({error.strerror})")
        self._index.finish("; ".join(self._failures[:3]) or None)

    def _note_earlier(self) -> None:
        with os.scandir(self._root / SET_ASIDE) as entries:
            for entry in entries:
                size = entry.stat(follow_symlinks=False).st_size
                self._index.set_aside(SetAside(entry.name, "set aside at an earlier start", size))

    def _directories(self) -> list[Path]:
        numbered: list[tuple[int, Path]] = []
        with os.scandir(self._root / SEGMENTS) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_directory in found:
            path = self._root / SEGMENTS / name
            number = names.parse_directory(name)
            if number is None or not is_directory:
                self._put_aside(path, "not a directory of the archive")
            else:
                numbered.append((number, path))
        return [path for _, path in sorted(numbered)]

    def _read_directory(self, directory: Path) -> None:
        closed: dict[int, StoredSegment] = {}
        interrupted: list[Path] = []
        with os.scandir(directory) as entries:
            found = sorted((entry.name, entry.is_file(follow_symlinks=False)) for entry in entries)
        for name, is_file in found:
            path = directory / name
            segment = names.parse_closed(name)
            sequence = segment.sequence if segment is not None else names.parse_open(name)
            if sequence is None or not is_file or names.directory_of(sequence) != directory.name:
                self._put_aside(path, "not a segment of the archive")
            elif sequence >= self._first_new:
                continue  # written by this very run; the writer has it in the index
            elif segment is None:
                interrupted.append(path)
            elif sequence in closed:
                self._put_aside(path, f"a second segment {sequence}")
            else:
                closed[sequence] = segment
        for path in interrupted:
            salvaged = self._salvage(path, closed)
            if salvaged is not None:
                closed[salvaged.sequence] = salvaged
        self._index.add([closed[sequence] for sequence in sorted(closed)])

    def _salvage(self, path: Path, closed: dict[int, StoredSegment]) -> StoredSegment | None:
        sequence = names.parse_open(path.name)
        if sequence in closed:
            self._put_aside(path, f"a second segment {sequence}")
            return None
        try:
            return salvage(self._files, path)
        except SegmentError as error:
            self._put_aside(path, str(error))
        except OSError as error:
            self._failures.append(f"{path.name}: cannot be recovered ({error.strerror})")
        return None

    def _put_aside(self, path: Path, why: str) -> None:
        """Move ``path`` out of the way, under its own name or that name with a number."""
        try:
            size = path.lstat().st_size
            target = _free_name(self._root / SET_ASIDE / path.name)
            self._files.rename(path, target)
        except OSError as error:
            self._failures.append(f"{path.name}: cannot be set aside ({error.strerror})")
            return
        self._index.set_aside(SetAside(target.name, why, size))


def _free_name(wanted: Path) -> Path:
    for number in range(_MAX_COLLISIONS):
        candidate = wanted if not number else wanted.with_name(f"{wanted.name}.{number}")
        if not os.path.lexists(candidate):
            return candidate
    raise FileExistsError(errno.EEXIST, "too many files of one name", str(wanted))
