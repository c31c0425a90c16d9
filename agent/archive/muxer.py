"""Encoded packets to fragmented MP4: an initialisation segment, then one fragment (``moof``, ``mdat``) a GOP.

Nothing is re-encoded. Decode times count on from the camera's own clock, so fragments of one camera start can
be appended to one another in any player without offsets (``cmaf``); no trailer, so the bytes never change.

A `StreamTemplate` holds what a key frame's parameter sets say of the stream; a change of them is another
stream and needs another muxer.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import av.error

from agent.errors import SegmentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hal.camera import Packet

CLOCK_HZ: Final = 90_000
_TIME_BASE: Final = Fraction(1, CLOCK_HZ)
_MOVFLAGS: Final = "cmaf+frag_keyframe+frag_discont+skip_trailer"
_NAL_TYPE: Final = 0x1F
_NAL_SPS: Final = 7
_NAL_PPS: Final = 8
_NAL_SLICES: Final = range(1, 6)
_MIN_SPS_BYTES: Final = 4
_DEFAULT_DURATION: Final = CLOCK_HZ // 30


@dataclass(frozen=True, slots=True)
class Fragment:
    """One GOP as fMP4; times in nanoseconds of CLOCK_BOOTTIME."""

    data: bytes
    start_boot_ns: int
    duration_ns: int
    frames: int

    @property
    def end_boot_ns(self) -> int:
        """Where the next fragment starts."""
        return self.start_boot_ns + self.duration_ns


def parameter_sets(annexb: bytes) -> bytes:
    """SPS and PPS of a key frame, Annex B; equal bytes mean the same stream.

    Raises:
        SegmentError: There are none before the picture: nobody could decode from here.
    """
    found = [nal for nal in _leading_nals(annexb) if nal[0] & _NAL_TYPE in (_NAL_SPS, _NAL_PPS)]
    kinds = {nal[0] & _NAL_TYPE for nal in found}
    if kinds != {_NAL_SPS, _NAL_PPS}:
        raise SegmentError("camera packet: key frame without its parameter sets (SPS and PPS)")
    return b"".join(b"\0\0\0\1" + nal for nal in found)


def _leading_nals(annexb: bytes) -> Iterator[bytes]:
    """The NAL units before the first slice (ITU-T H.264 annex B)."""
    at = annexb.find(b"\0\0\1")
    while 0 <= at < len(annexb) - 3:
        start = at + 3
        if annexb[start] & _NAL_TYPE in _NAL_SLICES:
            return
        at = annexb.find(b"\0\0\1", start)
        nal = annexb[start : at if at >= 0 else len(annexb)].rstrip(b"\0")
        if nal:
            yield nal


class StreamTemplate:
    """What a key frame says of its stream. Costs a few milliseconds; made once per set of parameters."""

    def __init__(self, key_packet: Packet) -> None:
        """Read the stream's parameters.

        Raises:
            SegmentError: Not a decodable H.264 key frame.
        """
        self.parameters = parameter_sets(key_packet.annexb)
        sps = next(nal for nal in _leading_nals(self.parameters) if nal[0] & _NAL_TYPE == _NAL_SPS)
        if len(sps) < _MIN_SPS_BYTES:
            raise SegmentError("camera packet: parameter set too short")
        self.codec = "avc1." + sps[1:4].hex()
        """RFC 6381: profile, constraints and level as the SPS has them."""
        try:
            self._container = av.open(
                io.BytesIO(key_packet.annexb), format="h264", options={"probesize": "500000"}
            )
            self.stream = self._container.streams.video[0]
        except (av.error.FFmpegError, IndexError) as error:
            raise SegmentError("camera packet: not H.264 that a player would open") from error
        if not self.stream.codec_context.width or not self.stream.codec_context.extradata:
            raise SegmentError("camera packet: key frame that says nothing of its picture")


class _Chunks:
    """What the muxer has written since it was last asked."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


class FragmentMuxer:
    """Muxes one segment. Not thread-safe."""

    def __init__(self, template: StreamTemplate) -> None:
        self.init = b""
        """The initialisation segment (``ftyp``, ``moov``); there after the first packet."""
        self.pending_bytes = 0
        """Encoded bytes waiting for their GOP to end."""
        self._chunks = _Chunks()
        self._container = av.open(self._chunks, "w", format="mp4", options={"movflags": _MOVFLAGS})
        self._stream = self._container.add_stream_from_template(template.stream)
        self._stream.time_base = _TIME_BASE
        self._start_boot_ns: int | None = None
        self._frames = 0
        self._last: Packet | None = None
        self._step = _DEFAULT_DURATION

    @property
    def pending_since_ns(self) -> int | None:
        """When the GOP in the making began; None when there is none."""
        return self._start_boot_ns

    def add(self, packet: Packet) -> Fragment | None:
        """Take the next packet; the first is a key frame, times grow strictly.

        Returns:
            The GOP that ended with this packet's arrival, if one did.

        Raises:
            SegmentError: The packet cannot be muxed.
        """
        if self._last is not None:
            self._step = packet.pts_90k - self._last.pts_90k
        self._mux(packet)
        fragment = None
        if not self.init:
            self.init = self._chunks.take()
        elif packet.key:
            fragment = self._fragment(packet.t_boot_ns)
        if self._start_boot_ns is None:
            self._start_boot_ns = packet.t_boot_ns
        self._frames += 1
        self.pending_bytes += len(packet.annexb)
        self._last = packet
        return fragment

    def finish(self) -> Fragment | None:
        """End the stream; the last frame is taken to last as long as the one before it.

        Raises:
            SegmentError: What was left cannot be muxed.
        """
        try:
            self._container.close()
        except av.error.FFmpegError as error:
            raise SegmentError(f"camera packets: cannot be muxed ({error.strerror})") from error
        if self._last is None:
            return None
        return self._fragment(self._last.t_boot_ns + self._step * 10**9 // CLOCK_HZ)

    def _mux(self, packet: Packet) -> None:
        muxed = av.Packet(packet.annexb)
        muxed.pts = muxed.dts = packet.pts_90k
        muxed.duration = self._step
        muxed.time_base = _TIME_BASE
        muxed.is_keyframe = packet.key
        muxed.stream = self._stream
        try:
            self._container.mux(muxed)
        except (av.error.FFmpegError, ValueError) as error:
            raise SegmentError(f"camera packet: cannot be muxed ({error})") from error

    def _fragment(self, end_boot_ns: int) -> Fragment | None:
        data = self._chunks.take()
        start, frames = self._start_boot_ns, self._frames
        self._start_boot_ns, self._frames, self.pending_bytes = None, 0, 0
        if start is None or not data:
            return None
        return Fragment(data, start, end_boot_ns - start, frames)
