"""A disk in memory behind the ledger's file port: it fails on command, fills up, and loses power.

What was written but not synced is kept apart by sectors, so that a power cut can keep any part of it, in any
order, as a real disk may.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

SECTOR = 512


class Fault(Enum):
    """What goes wrong in one call."""

    FAILED = auto()  # an error, and nothing was done
    PERSISTED = auto()  # an error, although everything was done
    SHORT = auto()  # an error, and half was done
    FULL = auto()  # no space, and nothing was done
    HALF_FULL = auto()  # no space, and half was done
    POWER = auto()  # the power is cut in the middle of the call


class PowerCut(BaseException):
    """The process is gone. Nobody may catch it."""


@dataclass
class Content:
    durable: bytearray = field(default_factory=bytearray)
    cached: bytearray = field(default_factory=bytearray)
    reserved: int = 0


class Disk:
    """All files by name. ``plan`` says what goes wrong in the n-th of the calls that change something."""

    def __init__(self, capacity: int | None = None) -> None:
        self.files: dict[str, Content] = {}
        self.capacity = capacity
        self.plan: dict[int, Fault] = {}
        self.can_reserve = True
        self.calls: list[str] = []

    def open(self, path: Path) -> MemoryFile:
        return MemoryFile(self, path.name, self.files.setdefault(path.name, Content()))

    def used(self) -> int:
        return sum(max(content.reserved, len(content.cached)) for content in self.files.values())

    def fault(self, call: str) -> Fault | None:
        self.calls.append(call)
        return self.plan.pop(len(self.calls) - 1, None)

    def cut_power(self, random: Random) -> None:
        """Forget what was not synced, except for sectors that happened to reach the disk."""
        for content in self.files.values():
            survived = bytearray(content.durable)
            length = random.choice([len(content.durable), len(content.cached)])
            del survived[length:]
            survived.extend(bytes(length - len(survived)))
            for at in range(0, length, SECTOR):
                if random.random() < 0.5:
                    survived[at : at + SECTOR] = content.cached[at : at + SECTOR][: length - at].ljust(
                        min(SECTOR, length - at), b"\0"
                    )
            content.durable = survived
            content.cached = bytearray(survived)
            content.reserved = 0


class MemoryFile:
    """One open file of a `Disk`; implements `agent.ledger.files.File`."""

    def __init__(self, disk: Disk, name: str, content: Content) -> None:
        self.disk = disk
        self.name = name
        self.content = content

    def size(self) -> int:
        return len(self.content.cached)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.content.cached[offset : offset + length])

    def write(self, offset: int, data: bytes) -> int:
        fault = self.disk.fault(f"write {self.name}")
        if fault in {Fault.FAILED, Fault.FULL}:
            raise _error(fault)
        taken = data if fault in {None, Fault.PERSISTED} else data[: len(data) // 2]
        room = self._room(offset + len(taken))
        taken = taken[: max(0, room - offset)]
        if not taken and data:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.content.cached.extend(bytes(max(0, offset - len(self.content.cached))))
        self.content.cached[offset : offset + len(taken)] = taken
        if fault is not None:
            raise _error(fault)
        return len(taken)

    def sync(self) -> None:
        fault = self.disk.fault(f"sync {self.name}")
        if fault in {None, Fault.PERSISTED}:
            self.content.durable = bytearray(self.content.cached)
        if fault is Fault.FAILED:
            # As Linux does it: the pages that could not be written count as clean, and are gone.
            self.content.cached = bytearray(self.content.durable)
        if fault is not None:
            raise _error(fault)

    def truncate(self, size: int) -> None:
        fault = self.disk.fault(f"truncate {self.name}")
        if fault in {None, Fault.PERSISTED}:
            del self.content.cached[size:]
            self.content.reserved = 0
        if fault is not None:
            raise _error(fault)

    def reserve(self, size: int) -> None:
        fault = self.disk.fault(f"reserve {self.name}")
        if fault is not None:
            raise _error(fault)
        if not self.disk.can_reserve:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if self._room(size) < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.content.reserved = max(self.content.reserved, size)

    def close(self) -> None:
        """Nothing to give back."""

    def _room(self, wanted: int) -> int:
        """How long this file may become, at most ``wanted``."""
        if self.disk.capacity is None:
            return wanted
        own = max(self.content.reserved, len(self.content.cached))
        return min(wanted, own + max(0, self.disk.capacity - self.disk.used()))


def _error(fault: Fault) -> BaseException:
    if fault is Fault.POWER:
        return PowerCut()
    number = errno.ENOSPC if fault in {Fault.FULL, Fault.HALF_FULL} else errno.EIO
    return OSError(number, os.strerror(number))
