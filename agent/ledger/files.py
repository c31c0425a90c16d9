"""The few system calls the ledger makes on its files, as a port: tests put failing disks behind it."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from pathlib import Path

DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_FALLOC_FL_KEEP_SIZE: Final = 1


class File(Protocol):
    """One open file. Every method raises OSError when the disk does not do what it should."""

    def size(self) -> int:
        """Length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end of the file."""

    def write(self, offset: int, data: bytes) -> int:
        """Write at ``offset``; returns how many bytes were taken, which may be too few."""

    def sync(self) -> None:
        """Return once everything written is durable."""

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""

    def reserve(self, size: int) -> None:
        """Allocate space up to ``size`` bytes; the length stays. EOPNOTSUPP where there is no such thing."""

    def close(self) -> None:
        """Close it."""


class DiskFile:
    """A real file, created with mode 0600 if it is not there; a symbolic link is refused."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def size(self) -> int:
        """Length in bytes."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, fewer only at the end of the file."""
        data = os.pread(self._fd, length, offset)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, offset: int, data: bytes) -> int:
        """Write at ``offset``; returns how many bytes were taken."""
        return os.pwrite(self._fd, data, offset)

    def sync(self) -> None:
        """fdatasync(2): the data, and the length where it changed."""
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        """Cut the file to ``size`` bytes."""
        os.ftruncate(self._fd, size)

    def reserve(self, size: int) -> None:
        """fallocate(2) with FALLOC_FL_KEEP_SIZE, which `os.posix_fallocate` does not offer."""
        libc = ctypes.CDLL(None, use_errno=True)
        # off_t has 64 bits on every platform we run on.
        arguments = (ctypes.c_int(self._fd), ctypes.c_int(_FALLOC_FL_KEEP_SIZE), ctypes.c_int64(0))
        while libc.fallocate(*arguments, ctypes.c_int64(size)) != 0:
            number = ctypes.get_errno()
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Close it; there is nothing to flush."""
        os.close(self._fd)


def write_all(file: File, offset: int, data: bytes) -> None:
    """Write all of ``data`` at ``offset``, in as many calls as the disk takes.

    Raises:
        OSError: It was not taken; some of it may have been.
    """
    view = memoryview(data)
    while view:
        taken = file.write(offset, bytes(view))
        if taken <= 0:
            raise OSError(errno.EIO, "nothing was written")
        view = view[taken:]
        offset += taken


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable.

    Raises:
        OSError: They are not.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
