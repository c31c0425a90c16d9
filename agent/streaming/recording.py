"""Keeping what was received, as it was received: access units into an MP4 file, nothing encoded again.

The file is fragmented (ISO/IEC 14496-12) and written through, so what came before a crash still plays, up to
the last complete GOP.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av

from agent.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from av.container import OutputContainer
    from av.stream import Stream

_TIME_BASE: Final = Fraction(1, 90_000)
_OPTIONS: Final = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}


class Mp4Recording:
    """One file. Begins with the first key frame it is given; without one there is no file.

    Args:
        path: Where to; its directory must exist, a file of that name is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._container: OutputContainer | None = None
        self._stream: Stream | None = None
        self._first_pts = 0
        self._last_pts = -1
        self.frames = 0

    def add(self, annexb: bytes, pts_90k: int, *, key: bool) -> None:
        """Append one access unit.

        Raises:
            StorageError: The file cannot be written, or the first key frame has no parameter sets.
        """
        try:
            if self._container is None:
                if not key:
                    return
                self._open(annexb)
                self._first_pts = pts_90k
            packet = av.Packet(annexb)
            self._last_pts = max(self._last_pts + 1, pts_90k - self._first_pts)
            packet.pts = packet.dts = self._last_pts
            packet.time_base = _TIME_BASE
            packet.is_keyframe = key
            if self._container is not None and self._stream is not None:
                packet.stream = self._stream
                self._container.mux(packet)
            self.frames += 1
        except (av.FFmpegError, OSError) as error:
            raise StorageError(f"recording {self._path}: {error}") from error

    def close(self) -> None:
        """Finish the file. Harmless when nothing was written, or twice.

        Raises:
            StorageError: The end cannot be written.
        """
        container, self._container = self._container, None
        if container is not None:
            try:
                container.close()
            except (av.FFmpegError, OSError) as error:
                raise StorageError(f"recording {self._path}: {error}") from error

    def _open(self, annexb: bytes) -> None:
        # FFmpeg reads size and parameter sets out of the unit itself: it is a complete little H.264 file.
        with av.open(io.BytesIO(annexb), format="h264") as probe:
            template = probe.streams.video[0]
            self._container = av.open(str(self._path), "w", format="mp4", options=dict(_OPTIONS))
            self._stream = self._container.add_stream_from_template(template)
            self._stream.time_base = _TIME_BASE
