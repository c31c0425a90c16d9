"""What the archive asks of a disk: the port, and the disk itself.

Every method raises `OSError` and nothing else; `agent.archive.ring` decides what that means. The port exists
so that tests can fill a disk, break a write or cut the power at any call without a special machine.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

_FALLOC_FL_KEEP_SIZE: Final = 1
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


class Files(Protocol):
    """The calls the archive's writer makes. Descriptors are plain integers."""

    def create(self, path: Path) -> int:
        """Create a file that was not there and open it for writing."""

    def open_existing(self, path: Path) -> int:
        """Open a file that is there for reading and writing."""

    def reserve(self, descriptor: int, size: int) -> None:
        """Take blocks for ``size`` bytes in all without changing the file's length."""

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        """Write some of ``data`` at ``offset``; returns how many bytes."""

    def truncate(self, descriptor: int, size: int) -> None:
        """Set the length and give back blocks beyond it."""

    def sync(self, descriptor: int) -> None:
        """Content and length are on stable storage once this returns (fdatasync)."""

    def close(self, descriptor: int) -> None:
        """Close, whatever comes of it."""

    def rename(self, source: Path, target: Path) -> None:
        """Rename within the file system, replacing nothing that the caller has not ruled out."""

    def unlink(self, path: Path) -> None:
        """Remove a file."""

    def make_directory(self, path: Path) -> None:
        """Make a directory; no error if it is there."""

    def remove_directory(self, path: Path) -> None:
        """Remove an empty directory."""

    def sync_directory(self, path: Path) -> None:
        """Names created, renamed or removed in it are on stable storage once this returns."""

    def free_bytes(self, path: Path) -> int:
        """Free space of the file system that an unprivileged writer may use."""


class DiskFiles:
    """The real disk."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def create(self, path: Path) -> int:
        """Create with O_EXCL: an existing file is never written over."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(path, flags, _FILE_MODE)

    def open_existing(self, path: Path) -> int:
        """Open a regular file; a symbolic link is refused."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)

    def reserve(self, descriptor: int, size: int) -> None:
        """fallocate(2) with FALLOC_FL_KEEP_SIZE: no zeros that recovery would have to tell from records."""
        if self._libc.fallocate(descriptor, _FALLOC_FL_KEEP_SIZE, 0, size) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        """As pwrite(2)."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        """ftruncate(2); to the same length it still frees reserved blocks."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """As fdatasync(2)."""
        os.fdatasync(descriptor)

    def close(self, descriptor: int) -> None:
        """See ``man 2 close``."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """See ``man 2 rename``."""
        source.rename(target)

    def unlink(self, path: Path) -> None:
        """See ``man 2 unlink``."""
        path.unlink()

    def make_directory(self, path: Path) -> None:
        """As mkdir(2)."""
        path.mkdir(_DIRECTORY_MODE, exist_ok=True)

    def remove_directory(self, path: Path) -> None:
        """As rmdir(2)."""
        path.rmdir()

    def sync_directory(self, path: Path) -> None:
        """fsync(2) on the directory."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """statvfs(3): blocks available to us."""
        status = os.statvfs(path)
        return status.f_bavail * status.f_frsize
