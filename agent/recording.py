"""The archive of one device: a ring, a recorder and a station per camera, and what of it the ledger learns.

Recording begins once there is somebody to seal to. The ledger commits to closed segments every five minutes
and to every gap; if it cannot, recording goes on.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.archive.framing import WallTime
from agent.archive.reading import ArchiveReader
from agent.archive.recorder import Recorder
from agent.archive.ring import Ring
from agent.archive.segment import Recipient
from agent.cameras import CameraStation
from agent.config import BEST
from agent.consent import times
from agent.consent.times import TimeQuality
from agent.errors import DocumentError, LedgerError
from agent.ledger.entry import EntryKind
from hal import clock, detect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.archive.recorder import Gap
    from agent.archive.writing import ClosedSegment
    from agent.config import CameraConfig, Config
    from agent.device_keys import DeviceKeys
    from agent.ledger.keeper import Keeper
    from agent.trusted_time import TrustedTime
    from hal.camera import Camera

COMMIT_S: Final = 300
MOST_IN_ONE: Final = 200
"""Segments that one entry commits to: far below what an entry may hold."""

MOST_WAITING: Final = 20_000
"""Segments that wait while the ledger takes nothing, two days of one camera; then the oldest stay without."""

DEFAULT_BUDGET_BYTES: Final = 20_000_000_000
KEEP_FREE_BYTES: Final = 200_000_000
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CameraArchive:
    """One camera's ring, what reads it, and the station that fills it."""

    ring: Ring
    reader: ArchiveReader
    station: CameraStation


class Recording:
    """All cameras of the device. `wall` and the callbacks may run on recorders' threads."""

    def __init__(
        self,
        config: Config,
        keys: DeviceKeys,
        keeper: Keeper,
        time: TrustedTime,
        *,
        commit_s: float = COMMIT_S,
    ) -> None:
        """Take the archive directories; nothing is recorded before `begin`.

        Raises:
            StorageError: A directory cannot be used.
            ConfigError: The budget is too small.
        """
        self._keys = keys
        self._keeper = keeper
        self._time = time
        self._commit_s = commit_s
        self._begun = False
        self._closed: deque[tuple[str, ClosedSegment]] = deque(maxlen=MOST_WAITING)
        self._gaps: deque[tuple[str, Gap]] = deque(maxlen=MOST_WAITING)
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        (config.state / "archive").mkdir(mode=0o700, parents=True, exist_ok=True)
        budget = _budget(config)
        self._cameras = {
            camera.name: self._camera(camera, config.state / "archive" / camera.name, budget)
            for camera in config.cameras
        }

    def _camera(self, camera: CameraConfig, directory: Path, budget: int) -> CameraArchive:
        ring = Ring(directory, budget_bytes=budget, keep_free_bytes=KEEP_FREE_BYTES)
        recorder = Recorder(
            ring,
            camera_name=camera.name,
            device_id=self._keys.device,
            sign=self._keys.signing.sign,
            recipients=self._recipients,
            wall=self.wall,
            on_segment_closed=lambda segment: self._note_closed(camera.name, segment),
            on_gap=lambda gap: self._note_gap(camera.name, gap),
        )
        station = CameraStation(
            camera.name, camera.uri, lambda: _open(camera), recorder, boot_ns=clock.boot_ns
        )
        return CameraArchive(ring, ArchiveReader(ring), station)

    @property
    def stations(self) -> Mapping[str, CameraStation]:
        """The camera stations by name."""
        return {name: each.station for name, each in self._cameras.items()}

    @property
    def readers(self) -> Mapping[str, ArchiveReader]:
        """The archive readers by camera."""
        return {name: each.reader for name, each in self._cameras.items()}

    def delivering(self) -> frozenset[str]:
        """The cameras that deliver pictures now."""
        return frozenset(name for name, each in self._cameras.items() if each.station.delivering)

    def charter_changed(self) -> None:
        """Take *never* areas from the charter in force; begin to record if this is the first one."""
        charter = self._keeper.state.charter
        if charter is None:
            return
        for name, each in self._cameras.items():
            entry = charter.camera(name)
            here = entry is not None and entry.device == self._keys.device
            each.station.set_never_mask(entry.never if entry and here else ())
            if not self._begun:
                each.station.start()
        self._begun = True

    def stop(self) -> None:
        """Stop cameras, close segments, give the directories back. Blocks while segments are written."""
        for each in self._cameras.values():
            if self._begun:
                each.station.stop()
            each.ring.close()

    def wall(self, t_boot_ns: int) -> WallTime:
        """Wall time for a moment of CLOCK_BOOTTIME, with the quality that it has."""
        now = self._time.now(t_boot_ns)
        if now is None:
            utc_ns = clock.wall_ns() - (clock.boot_ns() - t_boot_ns)
            return WallTime(utc_ns, TimeQuality.UNTRUSTED, None)
        half = (now.latest_ns - now.earliest_ns) // 2
        return WallTime(now.earliest_ns + half, now.quality, half)

    def wall_text(self, t_boot_ns: int) -> str:
        """The time as a caption says it."""
        now = self._time.now(t_boot_ns)
        if now is None:
            return "time unknown"
        return times.written((now.earliest_ns + now.latest_ns) // 2).replace("T", " ").replace("Z", " UTC")

    def _recipients(self) -> Sequence[Recipient]:
        charter = self._keeper.state.charter
        return [Recipient(key) for key in charter.archive_keys().values()] if charter else []

    def _note_closed(self, camera: str, segment: ClosedSegment) -> None:
        self._closed.append((camera, segment))

    def _note_gap(self, camera: str, gap: Gap) -> None:
        self._gaps.append((camera, gap))
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Write commitments and gaps to the ledger, for ever. Gaps, however many, put off no commitment."""
        due = self._loop.time() + self._commit_s
        while True:
            with suppress(TimeoutError):
                # Not wait_for: in Python 3.11 it loses the cancellation that comes together with a gap.
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
            self._wake.clear()
            await self._write_gaps()
            if self._loop.time() >= due:
                await self.commit()
                due = self._loop.time() + self._commit_s

    async def commit(self) -> None:
        """Commit to the segments closed since the last time; what the ledger does not take waits.

        Gaps that wait come first: on a full disk, or because the one that reported them was the last.
        """
        await self._write_gaps()
        by_camera: dict[str, list[ClosedSegment]] = {}
        while self._closed:
            camera, segment = self._closed.popleft()
            by_camera.setdefault(camera, []).append(segment)
        for camera, segments in by_camera.items():
            for start in range(0, len(segments), MOST_IN_ONE):
                part = segments[start : start + MOST_IN_ONE]
                if not await self._record(EntryKind.ARCHIVE, _commitment(camera, part)):
                    self._closed.extend((camera, each) for each in part)

    async def _write_gaps(self) -> None:
        for _ in range(len(self._gaps)):
            camera, gap = self._gaps.popleft()
            body: dict[str, object] = {
                "camera": camera,
                "reason": str(gap.reason),
                "start_boot_us": gap.start_boot_ns // 1000,
                "end_boot_us": gap.end_boot_ns // 1000,
                "dropped": gap.dropped_packets,
            }
            if not await self._record(EntryKind.GAP, body):
                self._gaps.append((camera, gap))

    async def _record(self, kind: EntryKind, body: dict[str, object]) -> bool:
        try:
            await asyncio.to_thread(self._keeper.record, kind, body)
        except (LedgerError, DocumentError) as error:
            log.warning("%s is not in the ledger: %s", kind, error)
            return False
        return True

    def status(self) -> list[object]:
        """Cameras and their archives, for `doorward status`."""
        found: list[object] = []
        for name, each in self._cameras.items():
            camera, ring = each.station.status(), each.ring.status()
            recorder = each.station.recorder.status()
            info = camera.info
            found.append(
                {
                    "name": name,
                    "uri": info.uri if info else camera.uri,
                    "what": f"{info.name}, {info.width}x{info.height} at {info.fps:g}/s" if info else None,
                    "note": info.note if info else "",
                    "delivering": camera.delivering,
                    "problem": camera.problem,
                    "hint": camera.hint,
                    "attempts": camera.attempts,
                    "recording": recorder.is_recording,
                    "records": recorder.records,
                    "gap": str(recorder.gap) if recorder.gap else None,
                    "archive_problem": recorder.problem or ring.problem,
                    "segments": ring.segments,
                    "used_bytes": ring.used_bytes,
                    "budget_bytes": ring.budget_bytes,
                    "oldest_ms": _ms(ring.oldest.start_utc_ns) if ring.oldest else None,
                    "newest_ms": _ms(ring.newest.start_utc_ns) if ring.newest else None,
                    "set_aside": [f"{each.name}: {each.why}" for each in ring.set_aside],
                }
            )
        return found


def _commitment(camera: str, segments: Sequence[ClosedSegment]) -> dict[str, object]:
    listed: list[object] = [
        {"sequence": each.sequence, "id": each.segment_id, "footer": each.footer_hash} for each in segments
    ]
    return {"camera": camera, "segments": listed}


def _ms(utc_ns: int | None) -> int | None:
    return utc_ns // 1_000_000 if utc_ns is not None else None


def _open(camera: CameraConfig) -> Camera:
    uri = detect.best_camera() if camera.uri == BEST else camera.uri
    return detect.open_camera(uri, lores=camera.lores)


def _budget(config: Config) -> int:
    """Bytes for each camera."""
    budget = config.budget_bytes
    if budget is None:
        budget = min(DEFAULT_BUDGET_BYTES, shutil.disk_usage(config.state).free // 10)
    return budget // max(1, len(config.cameras))
