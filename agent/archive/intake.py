"""The bounded queue between a camera's thread and the archive's writer.

`Intake.put` never blocks and never fails: when the writer cannot keep up, packets are dropped from there to
the next key frame that finds room again, and the writer is told so by a `Break` in their place.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hal.camera import Packet

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_SPAN_NS: Final = 8_000_000_000


class GapReason(StrEnum):
    """Why nothing was recorded for a while."""

    OVERFLOW = "overflow"  # the disk did not keep up
    STORAGE = "storage"  # the disk refused, or no room was left
    CAMERA = "camera"  # the camera was gone, stalled or delivered what cannot be read
    NO_KEY_FRAME = "no-key-frame"  # the camera sent no key frame for too long
    PAUSED = "paused"  # an owner paused recording


@dataclass(frozen=True, slots=True)
class Break:
    """Recording is interrupted here; what follows starts at a key frame. Times in ns of CLOCK_BOOTTIME."""

    reason: GapReason
    t_boot_ns: int
    dropped: int = 0


class Idle:
    """What `Intake.take` returns when nothing came for a while."""


IDLE: Final = Idle()


class Intake:
    """Packets on their way to the writer. Any thread may put, one takes."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_span_ns: int = MAX_SPAN_NS) -> None:
        self._max_bytes = max_bytes
        self._max_span_ns = max_span_ns
        self._changed = threading.Condition()
        self._items: deque[Packet | Break] = deque()
        self._bytes = 0
        self._is_closed = False
        self._dropping_since_ns: int | None = None
        self._dropped = 0

    @property
    def bytes(self) -> int:
        """Bytes waiting."""
        with self._changed:
            return self._bytes

    @property
    def is_dropping(self) -> bool:
        """Whether packets are being dropped right now."""
        with self._changed:
            return self._dropping_since_ns is not None

    def put(self, packet: Packet) -> None:
        """Hand a packet to the writer, or drop it."""
        with self._changed:
            if self._is_closed:
                return
            if self._dropping_since_ns is not None:
                half_span = self._max_span_ns // 2
                if not packet.key or self._is_fuller_than(self._max_bytes // 2, packet, half_span):
                    self._dropped += 1
                    return
                self._end_dropping()
            elif self._is_fuller_than(self._max_bytes, packet, self._max_span_ns):
                self._dropping_since_ns, self._dropped = packet.t_boot_ns, 1
                return
            self._append(packet)
            self._bytes += len(packet.annexb)

    def interrupt(self, reason: GapReason, t_boot_ns: int) -> None:
        """Tell the writer to close the segment here."""
        with self._changed:
            if self._dropping_since_ns is None:
                self._append(Break(reason, t_boot_ns))

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        with self._changed:
            if self._dropping_since_ns is not None:
                self._end_dropping()
            self._is_closed = True
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Packet | Break | Idle | None:
        """The next item; `IDLE` after ``timeout_s`` without one; None once closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._is_closed, timeout_s)
            if self._items:
                item = self._items.popleft()
                if isinstance(item, Packet):
                    self._bytes -= len(item.annexb)
                return item
            return None if self._is_closed else IDLE

    def _is_fuller_than(self, most_bytes: int, packet: Packet, most_span_ns: int) -> bool:
        oldest = next((item for item in self._items if isinstance(item, Packet)), None)
        if oldest is None:
            return False
        span = packet.t_boot_ns - oldest.t_boot_ns
        return self._bytes + len(packet.annexb) > most_bytes or span > most_span_ns

    def _end_dropping(self) -> None:
        if self._dropping_since_ns is not None:
            self._append(Break(GapReason.OVERFLOW, self._dropping_since_ns, self._dropped))
            self._dropping_since_ns = None

    def _append(self, item: Packet | Break) -> None:
        self._items.append(item)
        self._changed.notify_all()
