"""A tiny real recording: keys, H.264 packets, rings, and disks that fail on purpose."""

from __future__ import annotations

import errno
import os
import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING

import av
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.archive.files import DiskFiles
from agent.archive.intake import Intake
from agent.archive.recorder import Gap, Recorder
from agent.archive.ring import Ring
from agent.archive.segment import Recipient, SegmentHeader, SegmentSealer, WallTime
from agent.consent.envelope import key_id
from agent.consent.times import TimeQuality
from hal.camera import Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from agent.archive.writing import Acknowledged, ClosedSegment

SECOND = 10**9
START_BOOT = 500 * SECOND
START_UTC = 1_790_000_000 * SECOND
FPS = 25
TICKS = 90_000 // FPS

DEVICE = Ed25519PrivateKey.from_private_bytes(bytes([1]) * 32)
DEVICE_KEY = DEVICE.public_key().public_bytes_raw()
DEVICE_ID = key_id(DEVICE_KEY)
DAILY = X25519PrivateKey.from_private_bytes(bytes([2]) * 32)
RECOVERY = X25519PrivateKey.from_private_bytes(bytes([3]) * 32)
STRANGER = X25519PrivateKey.from_private_bytes(bytes([4]) * 32)


def recipient(key: X25519PrivateKey) -> Recipient:
    return Recipient(key.public_key().public_bytes_raw())


OWNERS = (recipient(DAILY), recipient(RECOVERY))


def wall(t_boot_ns: int) -> WallTime:
    return WallTime(START_UTC + t_boot_ns - START_BOOT, TimeQuality.PLAUSIBLE, SECOND)


@cache
def one_second(width: int = 64, height: int = 48) -> tuple[Packet, ...]:
    """One GOP of 25 frames from libx264, with its parameter sets in front."""
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 90_000), Fraction(FPS)
    codec.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": "keyint=25:repeat-headers=1",
    }
    packets = []
    for number in range(FPS):
        picture = np.full((height * 3 // 2, width), number * 8, np.uint8)
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        frame.pts, frame.time_base = number * TICKS, Fraction(1, 90_000)
        packets += codec.encode(frame)
    packets += codec.encode(None)
    return tuple(
        Packet(bytes(each), bool(each.is_keyframe), number * TICKS, number * SECOND // FPS)
        for number, each in enumerate(packets)
    )


def video(
    seconds: int, *, at_s: int = 0, pts_s: int | None = None, size: tuple[int, int] = (64, 48)
) -> list[Packet]:
    """``seconds`` of video that begin ``at_s`` after START_BOOT."""
    pts_s = at_s if pts_s is None else pts_s
    return [
        replace(
            each,
            pts_90k=each.pts_90k + (pts_s + second) * 90_000,
            t_boot_ns=each.t_boot_ns + START_BOOT + (at_s + second) * SECOND,
        )
        for second in range(seconds)
        for each in one_second(*size)
    ]


def sealed(
    contents: Sequence[bytes],
    *,
    sequence: int = 7,
    recipients: Sequence[Recipient] = OWNERS,
    device: Ed25519PrivateKey = DEVICE,
) -> list[bytes]:
    """A segment in its parts: preface, records, footer. ``contents`` are not video."""
    device_id = key_id(device.public_key().public_bytes_raw())
    header = SegmentHeader(
        device_id, "front", os.urandom(16), sequence, START_BOOT, wall(START_BOOT), "avc1.42c00a"
    )
    sealer = SegmentSealer(header, recipients)
    parts = [sealer.preface, sealer.seal_init(b"init")]
    for number, content in enumerate(contents):
        parts.append(
            sealer.seal_fragment(
                content,
                offset_ns=number * SECOND,
                duration_ns=SECOND,
                is_last=number == len(contents) - 1,
            )
        )
    footer, _ = sealer.close(device.sign)
    return [*parts, footer]


@dataclass
class Recorded:
    closed: list[ClosedSegment]
    gaps: list[Gap]
    acknowledged: list[Acknowledged]


def recorder(
    ring: Ring,
    told: Recorded,
    *,
    recipients: Callable[[], Sequence[Recipient]] = lambda: OWNERS,
    intake: Intake | None = None,
) -> Recorder:
    return Recorder(
        ring,
        camera_name="front",
        device_id=DEVICE_ID,
        sign=DEVICE.sign,
        recipients=recipients,
        wall=wall,
        on_segment_closed=told.closed.append,
        on_gap=told.gaps.append,
        on_record=told.acknowledged.append,
        intake=intake if intake is not None else Intake(max_span_ns=10**18),
    )


def record(
    ring: Ring, packets: Iterable[Packet], recipients: Callable[[], Sequence[Recipient]] = lambda: OWNERS
) -> Recorded:
    """Record ``packets`` from start to stop."""
    told = Recorded([], [], [])
    writer = recorder(ring, told, recipients=recipients)
    writer.start()
    for packet in packets:
        writer.packet(packet)
    assert writer.stop(30)
    return told


def wait_until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    """Wait for another thread; fails after ``within_s``."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        pause.wait(0.002)


def make_ring(
    root: Path,
    *,
    budget: int = 8 * 2**20,
    keep_free: int = 0,
    files: DiskFiles | None = None,
    protected: Sequence[tuple[int, int]] = (),
) -> Ring:
    return Ring(root, budget_bytes=budget, keep_free_bytes=keep_free, files=files, protected=protected)


def segment_paths(root: Path) -> list[Path]:
    return sorted((root / "segments").rglob("*.seg"))


def disk_usage(root: Path) -> int:
    """Bytes on disk of everything below ``root``, directories included (what du says)."""
    total = os.lstat(root).st_blocks
    for parent, directories, names in os.walk(root):
        for name in directories + names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks  # noqa: PTH118 - called often
            except FileNotFoundError:
                continue
    return total * 512


class QuickFiles(DiskFiles):
    """The real disk without waiting for it: for tests that are not about power cuts."""

    def sync(self, descriptor: int) -> None:
        os.fstat(descriptor)

    def sync_directory(self, path: Path) -> None:
        path.stat()


class FullDisk(QuickFiles):
    """A disk with room for ``capacity`` bytes below ``root``."""

    def __init__(self, root: Path, capacity: int) -> None:
        super().__init__()
        self._root = root
        self._capacity = capacity

    def _take(self, wanted: int) -> None:
        if disk_usage(self._root) + wanted > self._capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def create(self, path: Path) -> int:
        self._take(4096)
        return super().create(path)

    def reserve(self, descriptor: int, size: int) -> None:
        self._take(size - os.fstat(descriptor).st_blocks * 512)
        super().reserve(descriptor, size)

    def free_bytes(self, path: Path) -> int:
        return min(super().free_bytes(path), max(0, self._capacity - disk_usage(self._root)))


class BrokenDisk(QuickFiles):
    """A disk whose named calls fail, the next ``times`` times."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, int] = {}
        self.code = errno.EIO

    def fail(self, call: str, times: int = 1) -> None:
        self.failing[call] = times

    def _maybe_fail(self, call: str) -> None:
        if self.failing.get(call, 0):
            self.failing[call] -= 1
            raise OSError(self.code, os.strerror(self.code))

    def create(self, path: Path) -> int:
        self._maybe_fail("create")
        return super().create(path)

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        self._maybe_fail("write_at")
        return super().write_at(descriptor, data, offset)

    def sync(self, descriptor: int) -> None:
        self._maybe_fail("sync")
        super().sync(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        self._maybe_fail("rename")
        super().rename(source, target)

    def sync_directory(self, path: Path) -> None:
        self._maybe_fail("sync_directory")
        super().sync_directory(path)


class ShortWrites(QuickFiles):
    """A disk that takes at most 100 bytes at a time."""

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        return super().write_at(descriptor, data[:100], offset)
