"""The segment in the making: packets in, sealed records on the disk, a signed footer at the end."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.archive.muxer import Fragment, FragmentMuxer, StreamTemplate
from agent.archive.segment import SEGMENT_ID_BYTES, Recipient, SegmentHeader, SegmentSealer, WallTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.archive.ring import Ring, SegmentFile
    from hal.camera import Packet

MAX_SEGMENT_PAYLOAD_BYTES: Final = 64 * 1024 * 1024
_RECORDS_SPARE: Final = 2  # a fragment that is ready, and the last one


@dataclass(frozen=True, slots=True)
class ClosedSegment:
    """A signed segment that is complete on stable storage; what the ledger commits to."""

    sequence: int
    segment_id: str  # 32 hex digits
    start_boot_ns: int
    start_wall: WallTime | None
    duration_ns: int
    bytes: int
    footer_hash: str  # sha256: and 64 hex digits


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Record ``index`` of segment ``sequence`` is on stable storage."""

    sequence: int
    index: int
    start_boot_ns: int
    end_boot_ns: int


@dataclass(frozen=True, slots=True)
class Origin:
    """Who records: what the headers of all its segments have in common."""

    camera_name: str
    device_id: str
    sign: Callable[[bytes], bytes]
    wall: Callable[[int], WallTime | None]


class OpenSegment:
    """One segment, from its first key frame to its footer. Its file is made with the first record."""

    def __init__(
        self,
        ring: Ring,
        origin: Origin,
        template: StreamTemplate,
        recipients: tuple[Recipient, ...],
        on_record: Callable[[Acknowledged], None],
    ) -> None:
        self.template = template
        self.recipients = recipients
        self._ring = ring
        self._origin = origin
        self._on_record = on_record
        self._muxer = FragmentMuxer(template)
        self._file: SegmentFile | None = None
        self._sealer: SegmentSealer | None = None
        self._start_boot_ns: int | None = None
        self._next_index = 1

    @property
    def is_full(self) -> bool:
        """Whether it takes no further GOP."""
        if self._file is None or self._sealer is None:
            return False
        too_large = self._file.size + self._muxer.pending_bytes > MAX_SEGMENT_PAYLOAD_BYTES
        return too_large or self._sealer.records_left <= _RECORDS_SPARE

    @property
    def pending_bytes(self) -> int:
        """Bytes of the GOP in the making."""
        return self._muxer.pending_bytes

    def length_ns(self, t_boot_ns: int) -> int:
        """How long it has been going at ``t_boot_ns``."""
        return 0 if self._start_boot_ns is None else t_boot_ns - self._start_boot_ns

    def pending_ns(self, t_boot_ns: int) -> int:
        """How long the GOP in the making has been going at ``t_boot_ns``."""
        since = self._muxer.pending_since_ns
        return 0 if since is None else t_boot_ns - since

    def add(self, packet: Packet) -> None:
        """Take the next packet; a GOP that it ends is on stable storage when this returns.

        Raises:
            SegmentError: The packet cannot be muxed.
            StorageError: The disk does not take the record; abandon the segment.
            SealedMessageError: The segment cannot be sealed to its recipients.
        """
        if self._start_boot_ns is None:
            self._start_boot_ns = packet.t_boot_ns
        fragment = self._muxer.add(packet)
        if fragment is not None:
            file, sealer, first = self._begun(fragment)
            file.append(first + self._seal(sealer, fragment, is_last=False))
            self._acknowledge(file, fragment)

    def end(self) -> ClosedSegment | None:
        """Write the last record and the footer; None when there was nothing to write.

        Raises:
            SegmentError: The last GOP cannot be muxed.
            StorageError: The disk does not take it; abandon the segment.
            SealedMessageError: The segment cannot be sealed to its recipients.
        """
        fragment = self._muxer.finish()
        if fragment is None:
            self.abandon()
            return None
        file, sealer, first = self._begun(fragment)
        record = self._seal(sealer, fragment, is_last=True)
        footer, footer_hash = sealer.close(self._origin.sign)
        header = sealer.header
        stored = file.close(first + record + footer, fragment.end_boot_ns - header.start_boot_ns)
        self._acknowledge(file, fragment)
        return ClosedSegment(
            header.sequence,
            header.segment_id.hex(),
            header.start_boot_ns,
            header.start_wall,
            stored.duration_ns,
            stored.bytes,
            footer_hash,
        )

    def abandon(self) -> None:
        """Drop the key and keep what is on the disk, unsigned. Never fails."""
        if self._sealer is not None:
            self._sealer.forget()
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _begun(self, fragment: Fragment) -> tuple[SegmentFile, SegmentSealer, bytes]:
        """The file and its sealer; and what stands before the first fragment, the first time."""
        if self._file is not None and self._sealer is not None:
            return self._file, self._sealer, b""
        wall = self._origin.wall(fragment.start_boot_ns)
        file = self._file = self._ring.begin(None if wall is None else wall.utc_ns)
        header = SegmentHeader(
            device=self._origin.device_id,
            camera=self._origin.camera_name,
            segment_id=os.urandom(SEGMENT_ID_BYTES),
            sequence=file.sequence,
            start_boot_ns=fragment.start_boot_ns,
            start_wall=wall,
            codec=self.template.codec,
        )
        sealer = self._sealer = SegmentSealer(header, self.recipients)
        return file, sealer, sealer.preface + sealer.seal_init(self._muxer.init)

    def _seal(self, sealer: SegmentSealer, fragment: Fragment, *, is_last: bool) -> bytes:
        return sealer.seal_fragment(
            fragment.data,
            offset_ns=fragment.start_boot_ns - sealer.header.start_boot_ns,
            duration_ns=fragment.duration_ns,
            is_last=is_last,
        )

    def _acknowledge(self, file: SegmentFile, fragment: Fragment) -> None:
        index, self._next_index = self._next_index, self._next_index + 1
        self._on_record(Acknowledged(file.sequence, index, fragment.start_boot_ns, fragment.end_boot_ns))
