"""The seam between a camera and everything that uses one.

A camera captures once and feeds a `Sink` twice: `Packet` is the encoded ``main`` picture for the archive,
`Frame` the small raw ``lores`` picture for motion and sharing. Both carry the moment of exposure on
CLOCK_BOOTTIME. A sink never raises into a camera and never blocks it.

Coordinates of polygons are integers 0..10000 of width and height (`COORDINATE_MAX`), so they mean the same
scene points at every size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

COORDINATE_MAX = 10_000

Polygon = tuple[tuple[int, int], ...]
"""Corners (x, y), each 0..COORDINATE_MAX of width and height; at least three."""


class CameraError(Exception):
    """The camera cannot do what was asked, or is gone. ``str()`` is one line; ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Packet:
    """One encoded access unit of ``main``: H.264, Annex B, no B-frames; SPS and PPS precede every IDR.

    ``pts_90k`` counts 90 kHz ticks from this camera's start and grows strictly; ``t_boot_ns`` is the moment
    of exposure in nanoseconds of CLOCK_BOOTTIME.
    """

    annexb: bytes
    key: bool
    pts_90k: int
    t_boot_ns: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One raw picture of ``lores``.

    ``i420`` has shape (height * 3 // 2, width), uint8: Y rows, then U and V rows as OpenCV lays I420 out.
    Width and height are even. It is valid only during the sink's call: copy what outlives it.
    """

    i420: NDArray[np.uint8]
    t_boot_ns: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.i420.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.i420.shape[0]) * 2 // 3


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """What this camera is and can do, known once it has been opened."""

    name: str  # for people: "Synthetic scene", "imx708"
    uri: str  # as configured, without credentials
    width: int  # of main, pixels
    height: int
    fps: float
    lores_width: int
    lores_height: int
    codec: str  # RFC 6381, for example "avc1.42c01f"
    can_force_idr: bool
    masks_before_encoder: bool  # whether a never mask is burnt in without a second encode
    note: str = ""  # what an owner should know: "never areas force a re-encode"


class Sink(Protocol):
    """Who gets the pictures. Called on the camera's own thread; must return at once and never raise."""

    def packet(self, packet: Packet) -> None:
        """Take one encoded access unit of ``main``."""

    def frame(self, frame: Frame) -> None:
        """Take one raw ``lores`` picture; copy what outlives the call."""

    def failed(self, error: CameraError) -> None:
        """The camera has stopped by itself (unplugged, stalled). Nothing more comes until `Camera.start`."""


class Camera(Protocol):
    """One camera. The constructor does no I/O; every method may be called from any thread."""

    def start(self, sink: Sink) -> None:
        """Open the camera and feed ``sink`` until `stop`. Returns once the first picture is on its way.

        Raises:
            CameraError: It is not there, busy, or cannot do what is configured.
        """

    def stop(self) -> None:
        """Stop and release the device; no sink call follows its return. Harmless when not started."""

    def request_idr(self) -> None:
        """Ask for a key frame of ``main`` soon; ignored where `CameraInfo.can_force_idr` is false."""

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """Burn these areas flat in ``main`` and ``lores`` before any encoder, from the next frame on."""

    def info(self) -> CameraInfo:
        """What the camera is and can do.

        Raises:
            CameraError: Not started yet and unknowable before.
        """
