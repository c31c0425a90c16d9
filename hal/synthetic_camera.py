"""``synthetic:`` - a scene that is computed, for machines without a camera, and for measuring.

A textured background and things that move on it, the same for the same frame number; `hal.stamp` tells each
picture's number and moment of exposure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import av
import numpy as np

from hal.camera import CameraError, CameraInfo
from hal.clock import boot_ns
from hal.feed import CaptureThread
from hal.picture_path import Controls, PicturePath, lores_size
from hal.planes import i420_planes
from hal.stamp import Stamp, burn_stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hal.camera import Polygon, Sink
    from hal.feed import Feed

_NS_PER_S: Final = 1_000_000_000
_MIN_SIDE: Final = 128
_MAX_SIDE: Final = 4096
_MAX_FPS: Final = 120

# What moves: luma, U, V, size as a part of the height, and turns a minute across and down.
_MOVERS: Final = (
    (200, 90, 170, 0.20, 9.0, 5.0),
    (70, 170, 90, 0.14, 5.0, 11.0),
    (150, 110, 110, 0.09, 14.0, 8.0),
)


class SyntheticScene:
    """The scene itself, without a clock or an encoder: the source that tests compare pictures with.

    Width and height are even.
    """

    def __init__(self, width: int, height: int, fps: float) -> None:
        self._width, self._height, self._fps = width, height, fps
        rows, columns = np.mgrid[0:height, 0:width]
        texture = (rows * 8 // height * 5 + columns * 16 // width * 7) % 3 * 12
        self._background = np.empty((height * 3 // 2, width), np.uint8)
        planes = i420_planes(self._background)
        planes.y[:] = 60 + columns * 70 // width + rows * 30 // height + texture
        planes.u[:] = 118 + (columns[::2, ::2] * 20 // width)
        planes.v[:] = 118 + (rows[::2, ::2] * 20 // height)

    def draw(self, frame_number: int, t_boot_ns: int) -> NDArray[np.uint8]:
        """The picture with this number as I420, shape (height * 3 // 2, width), its stamp burnt in."""
        i420 = self._background.copy()
        planes = i420_planes(i420)
        minutes = frame_number / self._fps / 60
        for luma, u, v, part, turns_x, turns_y in _MOVERS:
            side = int(self._height * part) // 2 * 2
            x = self._at(turns_x * minutes, self._width - side)
            y = self._at(turns_y * minutes, self._height - side)
            planes.y[y : y + side, x : x + side] = luma
            planes.u[y // 2 : (y + side) // 2, x // 2 : (x + side) // 2] = u
            planes.v[y // 2 : (y + side) // 2, x // 2 : (x + side) // 2] = v
        burn_stamp(planes, Stamp(frame_number, t_boot_ns))
        return i420

    @staticmethod
    def _at(turns: float, room: int) -> int:
        return int((1 - math.cos(turns * 2 * math.pi)) / 2 * room) // 2 * 2


class SyntheticCamera:
    """The camera ``synthetic:``; see `hal.camera.Camera`."""

    def __init__(
        self,
        uri: str = "synthetic:",
        *,
        size: tuple[int, int] = (1280, 720),
        fps: float = 15.0,
        lores: tuple[int, int] | None = None,
        bitrate: int | None = None,
    ) -> None:
        if any(side % 2 or not _MIN_SIDE <= side <= _MAX_SIDE for side in size):
            raise CameraError(
                f"synthetic: size (got {size[0]}x{size[1]}, expected even, {_MIN_SIDE} to {_MAX_SIDE})"
            )
        if not 1 <= fps <= _MAX_FPS:
            raise CameraError(f"synthetic: fps (got {fps:g}, expected 1 to {_MAX_FPS})")
        self._uri, self._size, self._fps, self._bitrate = uri, size, fps, bitrate
        self._lores = lores_size(*size, lores)
        self._controls = Controls()
        self._thread = CaptureThread("synthetic", self._capture)

    def start(self, sink: Sink) -> None:
        """See `hal.camera.Camera.start`."""
        self._thread.start(sink)

    def stop(self) -> None:
        """See `hal.camera.Camera.stop`."""
        self._thread.stop()

    def request_idr(self) -> None:
        """See `hal.camera.Camera.request_idr`; the next picture is one."""
        self._controls.request_idr()

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """See `hal.camera.Camera.set_never_mask`."""
        self._controls.set_never_mask(polygons)

    def info(self) -> CameraInfo:
        """See `hal.camera.Camera.info`; known at once."""
        return CameraInfo(
            name="Synthetic scene",
            uri=self._uri,
            width=self._size[0],
            height=self._size[1],
            fps=self._fps,
            lores_width=self._lores[0],
            lores_height=self._lores[1],
            codec=self._thread.codec,
            can_force_idr=True,
            masks_before_encoder=True,
            note="computed pictures, no camera",
        )

    def _capture(self, feed: Feed) -> None:
        scene = SyntheticScene(*self._size, self._fps)
        path = PicturePath(
            feed, self._controls, size=self._size, lores=self._lores, fps=self._fps, bitrate=self._bitrate
        )
        frame_number = 0
        due_ns = boot_ns()
        while not feed.closed.wait(max(0, due_ns - boot_ns()) / _NS_PER_S):
            exposed_ns = boot_ns()
            picture = scene.draw(frame_number, exposed_ns)
            path.take(av.VideoFrame.from_ndarray(picture, format="yuv420p"), exposed_ns)
            frame_number += 1
            # A machine too slow for this rate gets fewer pictures a second, never a growing queue of late
            # ones.
            due_ns = max(due_ns + int(_NS_PER_S / self._fps), boot_ns())
