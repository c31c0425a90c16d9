"""Burning never areas flat, before any encoder sees the picture.

Errs on the side of hiding: a pixel that an area only touches is covered, overlapping loops of one polygon
have no holes, an area thinner than a pixel still covers the pixels it crosses, and a chroma sample is flat
when any of its four pixels is covered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hal.camera import COORDINATE_MAX, CameraError, Polygon
from hal.planes import BLACK_Y, NEUTRAL_UV

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from hal.planes import Planes

_MIN_CORNERS = 3


class _Stencil(NamedTuple):
    """The covered samples of one picture size, cut to the rows and columns that hold any."""

    luma: NDArray[np.bool_]
    luma_at: tuple[slice, slice]
    chroma: NDArray[np.bool_]
    chroma_at: tuple[slice, slice]


class NeverMask:
    """The never areas of one camera, for pictures of any size.

    Raises:
        CameraError: A polygon has fewer than three corners or a corner outside 0..COORDINATE_MAX.
    """

    def __init__(self, polygons: Sequence[Polygon]) -> None:
        self._polygons = tuple(tuple((int(x), int(y)) for x, y in polygon) for polygon in polygons)
        for polygon in self._polygons:
            if len(polygon) < _MIN_CORNERS:
                raise CameraError(f"never area: too few corners (got {len(polygon)}, expected at least 3)")
            for corner in polygon:
                if not all(0 <= value <= COORDINATE_MAX for value in corner):
                    raise CameraError(
                        f"never area: corner outside the picture (got {corner}, "
                        f"expected 0 to {COORDINATE_MAX})"
                    )
        self._stencils: dict[tuple[int, int], _Stencil | None] = {}

    def __bool__(self) -> bool:
        return bool(self._polygons)

    def apply(self, planes: Planes) -> None:
        """Fill the covered samples of ``planes`` in place."""
        if not self._polygons:
            return
        height, width = planes.y.shape
        if (width, height) not in self._stencils:
            self._stencils[width, height] = self._cut(width, height)
        stencil = self._stencils[width, height]
        if stencil is None:
            return
        np.copyto(planes.y[stencil.luma_at], BLACK_Y, where=stencil.luma)
        for plane in (planes.u, planes.v):
            np.copyto(plane[stencil.chroma_at], NEUTRAL_UV, where=stencil.chroma)

    def _cut(self, width: int, height: int) -> _Stencil | None:
        covered = np.zeros((height, width), np.bool_)
        for polygon in self._polygons:
            covered |= rasterise(polygon, width, height)
        box = _bounding_box(covered)
        if box is None:
            return None
        quads = covered.reshape(height // 2, 2, width // 2, 2)
        chroma = quads[:, 0, :, 0] | quads[:, 0, :, 1] | quads[:, 1, :, 0] | quads[:, 1, :, 1]
        chroma_box = _bounding_box(chroma) or (slice(0), slice(0))
        return _Stencil(covered[box].copy(), box, chroma[chroma_box].copy(), chroma_box)


def rasterise(polygon: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels of a picture that ``polygon`` covers or touches, shape (height, width).

    The inside is where the winding number is not zero, so a polygon that crosses itself has no holes. Every
    pixel that an edge crosses is added, and one more around it.
    """
    corners = [(x * width / COORDINATE_MAX, y * height / COORDINATE_MAX) for x, y in polygon]
    winding = np.zeros((height, width), np.int8)
    edges = np.zeros((height, width), np.bool_)
    centre_x = np.arange(width) + 0.5
    centre_y = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        crossed = (y0 <= centre_y) != (y1 <= centre_y)
        if crossed.any():
            at = x0 + (centre_y[crossed] - y0) * (x1 - x0) / (y1 - y0)
            winding[crossed] += np.where(centre_x < at[:, None], np.int8(1 if y1 > y0 else -1), np.int8(0))
        steps = np.linspace(0, 1, int(2 * max(abs(x1 - x0), abs(y1 - y0))) + 2)
        columns = np.clip((x0 + steps * (x1 - x0)).astype(int), 0, width - 1)
        rows = np.clip((y0 + steps * (y1 - y0)).astype(int), 0, height - 1)
        edges[rows, columns] = True
    inside: NDArray[np.bool_] = winding != 0
    return inside | _grown(edges)


def _grown(covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``covered`` and the eight neighbours of each pixel in it."""
    grown = covered.copy()
    grown[1:] |= covered[:-1]
    grown[:-1] |= covered[1:]
    wide = grown.copy()
    wide[:, 1:] |= grown[:, :-1]
    wide[:, :-1] |= grown[:, 1:]
    return wide


def _bounding_box(covered: NDArray[np.bool_]) -> tuple[slice, slice] | None:
    rows = np.flatnonzero(covered.any(axis=1))
    columns = np.flatnonzero(covered.any(axis=0))
    if not rows.size:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
