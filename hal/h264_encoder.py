"""The one software H.264 encoder: raw pictures in, access units as `hal.camera.Packet` out.

What every user of a `Packet` counts on: constrained baseline without B-frames, one access unit out for each
picture in, SPS and PPS before every IDR, an IDR at least each second of pictures, and none at scene cuts.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
from av.video.frame import PictureType

from hal.camera import CameraError, Packet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TICKS_PER_S: Final = 90_000
_NS_PER_S: Final = 1_000_000_000
_BITS_PER_PIXEL: Final = 0.07


_LARGE_PICTURE: Final = 1280 * 720


def ticks(duration_ns: int) -> int:
    """Nanoseconds as 90 kHz ticks, rounded down."""
    return duration_ns * TICKS_PER_S // _NS_PER_S


def default_bitrate(width: int, height: int, fps: float) -> int:
    """Bits per second that a scene of a house needs at this size: 4.4 Mbit/s for 1920 x 1080 at 30 frames."""
    return max(200_000, int(width * height * fps * _BITS_PER_PIXEL))


def default_threads(width: int, height: int) -> int:
    """Threads that encode one picture of this size: with two, each picture comes in two slices."""
    return 1 if width * height <= _LARGE_PICTURE else 2


class H264Encoder:
    """Encodes pictures of one size with libx264. Not thread-safe.

    ``epoch_ns`` is the CLOCK_BOOTTIME moment at which ``pts_90k`` is 0; without it the first picture's. An
    encoder that follows another in the same stream gets the other's. ``max_bitrate`` bounds `set_bitrate`.

    Raises:
        CameraError: libx264 refuses these settings.
    """

    def __init__(
        self,
        *,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        max_bitrate: int | None = None,
        preset: str = "superfast",
        gop_s: float = 1.0,
        threads: int = 1,
        epoch_ns: int | None = None,
    ) -> None:
        if width % 2 or height % 2 or width <= 0 or height <= 0:
            raise CameraError(f"h264 encoder: size (got {width}x{height}, expected even numbers)")
        self._width, self._height = width, height
        self._epoch_ns = epoch_ns
        self._gop_ns = int(gop_s * _NS_PER_S)
        self._half_frame_ns = int(_NS_PER_S / fps / 2)
        self._ceiling = max(bitrate, max_bitrate or bitrate)
        self._last_pts = -1
        self._last_idr_ns: int | None = None
        self._exposures: dict[int, int] = {}
        self._context = self._open(fps, bitrate, preset, gop_s, threads)

    def encode(
        self, picture: NDArray[np.uint8] | av.VideoFrame, t_boot_ns: int, *, force_idr: bool = False
    ) -> list[Packet]:
        """Encode one picture and return what is ready: with these settings always its own access unit.

        Args:
            picture: I420, shape (height * 3 // 2, width), uint8; or a yuv420p `av.VideoFrame` of that size,
                whose pts and picture type are overwritten.
            t_boot_ns: The moment of exposure, nanoseconds of CLOCK_BOOTTIME. Should grow; where it does not,
                ``pts_90k`` still grows by one tick.
            force_idr: Make this picture an IDR.

        Raises:
            CameraError: The picture has another size, or libx264 fails.
        """
        frame = picture if isinstance(picture, av.VideoFrame) else self._wrapped(picture)
        got = (frame.format.name, frame.width, frame.height)
        expected = ("yuv420p", self._width, self._height)
        if got != expected:
            raise CameraError(f"h264 encoder: picture (got {got}, expected {expected})")
        if self._epoch_ns is None:
            self._epoch_ns = t_boot_ns
        pts = max(self._last_pts + 1, ticks(t_boot_ns - self._epoch_ns))
        self._last_pts = pts
        self._exposures[pts] = t_boot_ns
        frame.pts = pts
        frame.time_base = Fraction(1, TICKS_PER_S)
        # The GOP is counted in time: cameras slow down in the dark, and a fragment should stay at a second.
        due = self._last_idr_ns is None or t_boot_ns - self._last_idr_ns >= self._gop_ns - self._half_frame_ns
        frame.pict_type = PictureType.I if force_idr or due else PictureType.NONE
        if force_idr or due:
            self._last_idr_ns = t_boot_ns
        return self._packets(frame)

    def set_bitrate(self, bitrate: int) -> None:
        """Aim at ``bitrate`` bits per second from the next picture on, up to the ceiling; causes no IDR."""
        self._context.bit_rate = min(max(1000, bitrate), self._ceiling)

    def close(self) -> list[Packet]:
        """Flush; nothing can be encoded afterwards. The list is empty with these settings."""
        return self._packets(None)

    def _open(
        self, fps: float, bitrate: int, preset: str, gop_s: float, threads: int
    ) -> av.VideoCodecContext:
        context = av.VideoCodecContext.create("libx264", "w")
        context.width, context.height = self._width, self._height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, TICKS_PER_S)
        context.framerate = Fraction(fps).limit_denominator(1001)
        # libx264 can change the bit rate of a running encoder only in constant bit rate and only downwards of
        # what it was opened with: open at the ceiling, then come down.
        context.bit_rate = self._ceiling
        context.options = {
            "preset": preset,
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            # A still scene should cost little, not be polished up to the bit rate.
            "qmin": "16",
            "maxrate": str(self._ceiling),
            "bufsize": str(self._ceiling),
            # Only a ceiling for a caller whose clock stands still; `encode` asks for each IDR.
            "x264-params": f"repeat-headers=1:scenecut=0:keyint={max(1, round(fps * gop_s * 2))}:min-keyint=1"
            f":threads={threads}:sliced-threads={int(threads > 1)}",
        }
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            size = f"{self._width}x{self._height}"
            raise CameraError(f"h264 encoder: libx264 refuses {size}: {error}") from error
        context.bit_rate = bitrate
        return context

    def _wrapped(self, i420: NDArray[np.uint8]) -> av.VideoFrame:
        if i420.ndim != 2 or i420.shape[0] % 3:  # noqa: PLR2004 - rows and columns
            raise CameraError(f"h264 encoder: not an I420 picture (got shape {i420.shape})")
        return av.VideoFrame.from_ndarray(i420, format="yuv420p")

    def _packets(self, frame: av.VideoFrame | None) -> list[Packet]:
        try:
            encoded = self._context.encode(frame)
        except av.FFmpegError as error:
            raise CameraError(f"h264 encoder: libx264 failed: {error}") from error
        packets = []
        for unit in encoded:
            pts = unit.pts if unit.pts is not None else self._last_pts
            packets.append(Packet(bytes(unit), bool(unit.is_keyframe), pts, self._exposures.pop(pts)))
        return packets
