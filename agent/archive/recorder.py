"""The archive's writer: takes packets from a camera without ever blocking it and makes them durable, sealed.

One thread owns the ring and the segment in the making. Segments are cut at key frames after about ten
seconds, and at once when the recipients or the stream's parameters change. Whatever goes wrong, the writer
goes on at the next key frame it can and reports a `Gap`: recording stops for nothing but `Recorder.stop`.

While nobody is there to seal to (before pairing) nothing is recorded, and that is no gap.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from agent.archive.intake import Break, GapReason, Idle, Intake
from agent.archive.muxer import StreamTemplate, parameter_sets
from agent.archive.writing import Acknowledged, ClosedSegment, OpenSegment, Origin
from agent.errors import DoorwardError, SealedMessageError, SegmentError, StorageError
from hal.camera import Packet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.archive.ring import Ring
    from agent.archive.segment import Recipient, WallTime

T = TypeVar("T")
log = logging.getLogger(__name__)

SEGMENT_NS: Final = 9_500_000_000
"""A segment ends with the first key frame after this: ten seconds where a GOP takes one, jitter or not."""

IDLE_S: Final = 5.0
"""Without a packet for this long the segment is closed: a camera's last GOP does not wait in memory."""

_MAX_STEP_NS: Final = 5_000_000_000
_MAX_GOP_NS: Final = 20_000_000_000
_MAX_GOP_BYTES: Final = 16 * 1024 * 1024
_FIRST_RETRY_NS: Final = 1_000_000_000
_LAST_RETRY_NS: Final = 30_000_000_000
_MIN_GAP_NS: Final = 500_000_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Nothing was recorded between these moments of CLOCK_BOOTTIME (nanoseconds)."""

    start_boot_ns: int
    end_boot_ns: int
    reason: GapReason
    dropped_packets: int


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """The writer as `doorward status` shows it. Times in nanoseconds of CLOCK_BOOTTIME."""

    is_alive: bool
    is_recording: bool  # a segment is being written
    records: int  # acknowledged since start
    durable_until_boot_ns: int | None  # the end of the newest record on stable storage
    queued_bytes: int
    gap: GapReason | None  # why nothing is being recorded right now
    gaps: int  # reported since start
    problem: str | None  # the last thing that went wrong, in words; None once recording goes on


class Recorder:
    """Records one camera into a ring until stopped. `packet`, `interrupt` and `status` from any thread."""

    def __init__(
        self,
        ring: Ring,
        *,
        camera_name: str,
        device_id: str,
        sign: Callable[[bytes], bytes],
        recipients: Callable[[], Sequence[Recipient]],
        wall: Callable[[int], WallTime | None],
        on_segment_closed: Callable[[ClosedSegment], None],
        on_gap: Callable[[Gap], None],
        on_record: Callable[[Acknowledged], None] = lambda _: None,
        intake: Intake | None = None,
    ) -> None:
        """Prepare; nothing happens before `start`.

        ``camera_name`` is a short name, ``device_id`` the device's key id; ``sign`` makes its Ed25519
        signature. ``recipients`` is asked at every key frame. ``wall`` turns a moment of CLOCK_BOOTTIME
        (nanoseconds) into wall time. All are called on the writer's thread; a `DoorwardError` from one of
        the last three is noted in the status and does not stop recording.
        """
        self._ring = ring
        self._origin = Origin(camera_name, device_id, sign, wall)
        self._recipients = recipients
        self._on_segment_closed = on_segment_closed
        self._on_gap = on_gap
        self._on_record = on_record
        self._intake = intake if intake is not None else Intake()
        self._thread = threading.Thread(target=self._run, name="archive-writer", daemon=True)
        # All below belongs to the writer's thread; others only read it.
        self._segment: OpenSegment | None = None
        self._template: StreamTemplate | None = None
        self._last: Packet | None = None
        self._durable_until_ns: int | None = None
        self._gap: Break | None = None
        self._retry_ns = _FIRST_RETRY_NS
        self._retry_at_ns = 0
        self._is_wanted = False  # whether there is anybody to seal to
        self._records = 0
        self._gaps = 0
        self._problem: str | None = None

    def start(self) -> None:
        """Start the writer's thread."""
        self._thread.start()

    def packet(self, packet: Packet) -> None:
        """Take one packet. Never blocks, never raises; what finds no room becomes part of a gap."""
        self._intake.put(packet)

    def interrupt(self, reason: GapReason, t_boot_ns: int) -> None:
        """Close the segment: the camera is gone, or an owner paused. The next key frame goes on."""
        self._intake.interrupt(reason, t_boot_ns)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Write what waits, close the segment, end the thread; returns whether it did so in time."""
        self._intake.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def status(self) -> RecorderStatus:
        """A snapshot."""
        gap = self._gap
        reason = gap.reason if gap is not None else None
        return RecorderStatus(
            is_alive=self._thread.is_alive(),
            is_recording=self._segment is not None,
            records=self._records,
            durable_until_boot_ns=self._durable_until_ns,
            queued_bytes=self._intake.bytes,
            gap=GapReason.OVERFLOW if self._intake.is_dropping else reason,
            gaps=self._gaps,
            problem=self._problem,
        )

    def _run(self) -> None:
        while (item := self._intake.take(IDLE_S)) is not None:
            try:
                self._handle(item)
            except Exception:
                # A mistake of ours. It must not cost more than what comes before the next key frame.
                log.exception("the archive's writer goes on after an error")
                at = self._last.t_boot_ns if self._last is not None else 0
                self._fail(GapReason.STORAGE, at, StorageError("archive: a mistake of ours; see the log"))
        self._end_segment()
        if self._gap is not None:
            end = self._last.t_boot_ns if self._last is not None else self._gap.t_boot_ns
            self._report_gap(max(end, self._gap.t_boot_ns))

    def _handle(self, item: Packet | Break | Idle) -> None:
        match item:
            case Packet():
                self._take(item)
            case Break():
                self._interrupt(item)
            case Idle():
                if self._segment is not None and self._last is not None:
                    self._interrupt(Break(GapReason.CAMERA, self._last.t_boot_ns))

    def _take(self, packet: Packet) -> None:
        if self._last is not None and not _follows(self._last, packet):
            self._interrupt(Break(GapReason.CAMERA, self._last.t_boot_ns))
        self._last = packet
        if packet.key:
            self._at_key_frame(packet)
        elif self._segment is not None and (
            self._segment.pending_ns(packet.t_boot_ns) > _MAX_GOP_NS
            or self._segment.pending_bytes > _MAX_GOP_BYTES
        ):
            self._interrupt(Break(GapReason.NO_KEY_FRAME, packet.t_boot_ns))
            self._last = packet
        if self._segment is not None:
            self._add(self._segment, packet)
        elif self._gap is not None:
            self._gap = Break(self._gap.reason, self._gap.t_boot_ns, self._gap.dropped + 1)

    def _add(self, segment: OpenSegment, packet: Packet) -> None:
        try:
            self._attempt(lambda: segment.add(packet), packet.t_boot_ns)
        except SegmentError as error:
            self._end_segment()  # what came before this packet is good
            self._fail(GapReason.CAMERA, packet.t_boot_ns, error)

    def _at_key_frame(self, packet: Packet) -> None:
        """Cut where a segment is due to end, and begin the next one if there is anybody to seal to."""
        recipients = tuple(self._recipients())
        self._is_wanted = bool(recipients)
        if not recipients:
            self._gap = None
        segment = self._segment
        if segment is not None and (
            segment.length_ns(packet.t_boot_ns) >= SEGMENT_NS
            or segment.is_full
            or segment.recipients != recipients
        ):
            self._end_segment()
        if not recipients:
            return
        try:
            parameters = parameter_sets(packet.annexb)
            if self._template is None or self._template.parameters != parameters:
                self._end_segment()
                self._template = StreamTemplate(packet)
        except SegmentError as error:
            self._end_segment()
            self._fail(GapReason.CAMERA, packet.t_boot_ns, error)
            return
        if self._segment is None and packet.t_boot_ns >= self._retry_at_ns:
            self._segment = OpenSegment(
                self._ring, self._origin, self._template, recipients, self._acknowledge
            )

    def _attempt(self, act: Callable[[], T], t_boot_ns: int) -> T | None:
        try:
            return act()
        except (StorageError, SealedMessageError) as error:
            self._fail(GapReason.STORAGE, t_boot_ns, error)
            self._retry_at_ns = t_boot_ns + self._retry_ns
            self._retry_ns = min(2 * self._retry_ns, _LAST_RETRY_NS)
        return None

    def _fail(self, reason: GapReason, t_boot_ns: int, error: DoorwardError) -> None:
        self._problem = str(error)
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.abandon()
        self._open_gap(Break(reason, t_boot_ns))

    def _interrupt(self, where: Break) -> None:
        self._end_segment()
        self._last = None
        self._open_gap(where)

    def _end_segment(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        at = self._last.t_boot_ns if self._last is not None else 0
        try:
            closed = self._attempt(segment.end, at)
        except SegmentError as error:
            closed = None
            self._fail(GapReason.CAMERA, at, error)
        if closed is not None:
            self._tell(self._on_segment_closed, closed)
        else:
            segment.abandon()

    def _acknowledge(self, record: Acknowledged) -> None:
        self._durable_until_ns = record.end_boot_ns
        self._records += 1
        self._retry_ns = _FIRST_RETRY_NS
        self._problem = None
        if self._gap is not None:
            self._report_gap(record.start_boot_ns)
        self._tell(self._on_record, record)

    def _open_gap(self, where: Break) -> None:
        """A gap begins where the durable recording ends, whatever was noticed first."""
        if self._gap is None and self._is_wanted:
            since = where.t_boot_ns if self._durable_until_ns is None else self._durable_until_ns
            self._gap = Break(where.reason, since, where.dropped)

    def _report_gap(self, end_boot_ns: int) -> None:
        gap, self._gap = self._gap, None
        if gap is None or (end_boot_ns - gap.t_boot_ns < _MIN_GAP_NS and not gap.dropped):
            return
        self._gaps += 1
        self._tell(self._on_gap, Gap(gap.t_boot_ns, max(end_boot_ns, gap.t_boot_ns), gap.reason, gap.dropped))

    def _tell(self, callback: Callable[[T], None], what: T) -> None:
        try:
            callback(what)
        except DoorwardError as error:
            self._problem = str(error)


def _follows(before: Packet, packet: Packet) -> bool:
    """Whether a packet goes on from the one before: in both clocks, and soon."""
    step = packet.t_boot_ns - before.t_boot_ns
    return packet.pts_90k > before.pts_90k and 0 < step <= _MAX_STEP_NS
