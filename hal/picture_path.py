"""The way of a raw picture through a camera without an encoder of its own: mask, lores, H.264.

Never areas are burnt into ``main`` first, and ``lores`` is scaled from the burnt picture, so no pixel of
theirs is in either, however scaling blends.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import av
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from hal.camera import CameraError, Frame
from hal.h264_encoder import H264Encoder, default_bitrate, default_threads, ticks
from hal.never_mask import NeverMask
from hal.planes import i420_array, i420_planes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from hal.camera import Packet, Polygon
    from hal.feed import Feed

LORES_WIDTH: Final = 640
"""Width of ``lores`` unless the caller says otherwise; never more than main's."""

_DEFAULT_FPS: Final = 25.0
_MAX_FPS: Final = 120.0


def lores_size(width: int, height: int, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """The size of ``lores`` for a main picture: ``wanted``, or main's shape at up to `LORES_WIDTH`, even.

    Raises:
        CameraError: ``wanted`` is odd, empty or larger than main.
    """
    if wanted is None:
        lores_width = min(LORES_WIDTH, width)
        return lores_width // 2 * 2, max(2, round(height * lores_width / width / 2) * 2)
    if any(side <= 0 or side % 2 for side in wanted) or wanted[0] > width or wanted[1] > height:
        raise CameraError(
            f"lores: size (got {wanted[0]}x{wanted[1]}, expected even and at most {width}x{height})"
        )
    return wanted


def plausible_fps(fps: float | None) -> float:
    """``fps`` if a camera can have it, else 25: containers and drivers report nonsense now and then."""
    return float(fps) if fps is not None and 0 < fps <= _MAX_FPS else _DEFAULT_FPS


class Controls:
    """What may be changed on a camera from any thread, before it starts and while it runs."""

    def __init__(self) -> None:
        self._never = NeverMask(())
        self._idr = threading.Event()

    @property
    def never(self) -> NeverMask:
        """The never areas in force."""
        return self._never

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """Replace the never areas; the next picture is an IDR, so that no prediction brings old pixels back.

        Raises:
            CameraError: A polygon is malformed; the areas stay as they were.
        """
        self._never = NeverMask(polygons)
        self.request_idr()

    def request_idr(self) -> None:
        """Make the next picture that is encoded an IDR."""
        self._idr.set()

    def take_idr(self) -> bool:
        """Whether an IDR was asked for since the last call."""
        asked = self._idr.is_set()
        self._idr.clear()
        return asked


class PicturePath:
    """Takes the raw pictures of one run, one after the other, and feeds both outputs."""

    def __init__(
        self,
        feed: Feed,
        controls: Controls,
        *,
        size: tuple[int, int],
        lores: tuple[int, int],
        fps: float,
        bitrate: int | None,
    ) -> None:
        self._feed, self._controls = feed, controls
        self._size, self._lores, self._fps = size, lores, fps
        self._bitrate = bitrate if bitrate is not None else default_bitrate(*size, fps)
        self._encoder: H264Encoder | None = None
        self._epoch_ns: int | None = None
        self._to_main = VideoReformatter()
        self._to_lores = VideoReformatter()

    def take(self, picture: av.VideoFrame, t_boot_ns: int, *, encoded: Packet | None = None) -> None:
        """Mask, scale, hand over and encode one picture of any size and format.

        ``encoded`` is the access unit that holds the same picture: it is handed over in place of a new one.

        Raises:
            CameraError: The encoder failed.
        """
        main = self._burnt(picture)
        self._feed.frame(Frame(self._scaled(main), t_boot_ns))
        if encoded is not None:
            self._encoder = None  # A later one begins afresh, with an IDR.
            self._feed.packet(encoded)
            return
        force_idr = self._controls.take_idr()
        if self._encoder is None:
            self._encoder = H264Encoder(
                width=self._size[0],
                height=self._size[1],
                fps=self._fps,
                bitrate=self._bitrate,
                threads=default_threads(*self._size),
                epoch_ns=self.epoch_ns(t_boot_ns),
            )
        for packet in self._encoder.encode(main, t_boot_ns, force_idr=force_idr):
            self._feed.packet(packet)

    def epoch_ns(self, t_boot_ns: int) -> int:
        """The moment at which ``pts_90k`` is 0: that of the first picture, which ``t_boot_ns`` may be."""
        if self._epoch_ns is None:
            self._epoch_ns = t_boot_ns
        return self._epoch_ns

    def pts_90k(self, t_boot_ns: int) -> int:
        """The time stamp of a picture exposed at ``t_boot_ns``."""
        return ticks(t_boot_ns - self.epoch_ns(t_boot_ns))

    def _burnt(self, picture: av.VideoFrame) -> av.VideoFrame:
        width, height = self._size
        main = self._to_main.reformat(
            picture, width=width, height=height, format="yuv420p", dst_color_range=ColorRange.MPEG
        )
        never = self._controls.never
        if not never:
            return main
        i420 = i420_array(main)
        never.apply(i420_planes(i420))
        return av.VideoFrame.from_ndarray(i420, format="yuv420p")

    def _scaled(self, main: av.VideoFrame) -> NDArray[np.uint8]:
        width, height = self._lores
        lores = i420_array(
            self._to_lores.reformat(
                main, width=width, height=height, format="yuv420p", interpolation=Interpolation.AREA
            )
        )
        self._controls.never.apply(i420_planes(lores))
        return lores
