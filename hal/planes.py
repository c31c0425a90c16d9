"""Views of the planes of a raw 4:2:0 picture, whatever its layout in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import av
    from numpy.typing import NDArray

BLACK_Y = 16
NEUTRAL_UV = 128
"""Black in limited range: what a never mask fills with."""


class Planes(NamedTuple):
    """Views that write through: ``y`` (height, width), ``u`` and ``v`` (height // 2, width // 2), uint8."""

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]

    def to_i420(self) -> NDArray[np.uint8]:
        """A packed copy of shape (height * 3 // 2, width), as `hal.camera.Frame` wants it."""
        height, width = self.y.shape
        i420 = np.empty((height * 3 // 2, width), np.uint8)
        for target, source in zip(i420_planes(i420), self, strict=True):
            target[:] = source
        return i420


def i420_planes(i420: NDArray[np.uint8], width: int | None = None) -> Planes:
    """The planes of an I420 picture of shape (height * 3 // 2, stride) with ``width`` pixels a row.

    ``i420`` must be contiguous; chroma rows have half the stride, so two of them fill one row of the array.
    """
    rows, stride = i420.shape
    height, width = rows * 2 // 3, width or stride
    flat = i420.reshape(-1)
    luma, chroma = stride * height, stride * height // 4
    half = (height // 2, stride // 2)
    return Planes(
        flat[:luma].reshape(height, stride)[:, :width],
        flat[luma : luma + chroma].reshape(half)[:, : width // 2],
        flat[luma + chroma : luma + 2 * chroma].reshape(half)[:, : width // 2],
    )


def i420_array(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The packed I420 array of a yuv420p frame, shape (height * 3 // 2, width): a copy."""
    return np.asarray(frame.to_ndarray(), dtype=np.uint8)


def nv12_planes(nv12: NDArray[np.uint8], width: int | None = None) -> Planes:
    """The planes of a contiguous NV12 picture of shape (height * 3 // 2, stride), ``width`` pixels a row."""
    rows, stride = nv12.shape
    height, width = rows * 2 // 3, width or stride
    chroma = nv12[height:].reshape(height // 2, stride // 2, 2)[:, : width // 2]
    return Planes(nv12[:height, :width], chroma[:, :, 0], chroma[:, :, 1])
