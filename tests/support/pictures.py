"""Raw pictures with texture everywhere, so that anything that shines through a mask is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from hal.planes import i420_planes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

FULL = ((0, 0), (10_000, 0), (10_000, 10_000), (0, 10_000))
LEFT_HALF = ((0, 0), (5_000, 0), (5_000, 10_000), (0, 10_000))


def textured(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """An I420 picture of coarse noise in all three planes, away from black and from neutral."""
    noise = np.random.default_rng(seed)
    i420 = np.empty((height * 3 // 2, width), np.uint8)
    for plane in i420_planes(i420):
        rows, columns = plane.shape
        coarse = noise.integers(40, 230, (rows // 4 + 1, columns // 4 + 1), np.uint8)
        plane[:] = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return i420


def decoded(units: Iterable[bytes]) -> list[NDArray[np.uint8]]:
    """Every picture in these access units, as I420."""
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for unit in units for frame in decoder.decode(av.Packet(unit))]
    frames += decoder.decode(None)
    return [frame.to_ndarray(format="yuv420p").astype(np.uint8, copy=False) for frame in frames]


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's r of two equally many samples; 0 where one of them is constant."""
    left, right = one.astype(float).ravel(), other.astype(float).ravel()
    if left.std() == 0 or right.std() == 0:
        return 0.0
    return float(np.corrcoef(left, right)[0, 1])
