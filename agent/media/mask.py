"""What a view lets through: everything outside its visible areas is flat fill, at every size.

Errs on the side of hiding. A pixel is visible only if the whole of its square lies inside one visible
area, and a chroma sample only if all four of its pixels are visible. A picture that is scaled is masked
twice: before scaling, so that interpolation cannot mix hidden pixels into visible ones, and after it, so
that the edge is as sharp as the areas say. Overlapping loops of one polygon cut holes.
"""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from agent.errors import Refused
from hal.camera import COORDINATE_MAX
from hal.planes import BLACK_Y, NEUTRAL_UV, i420_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from agent.consent.view import View
    from hal.camera import Polygon

MIN_HEIGHT: Final = 16
"""The fewest lines that the encoder takes; a view of fewer is refused, not enlarged."""

_MIN_CORNERS: Final = 3
_ROUNDING: Final = 1e-9


class ViewMask:
    """One view at one size of camera picture. Not thread-safe.

    Args:
        view: Areas and ``max_height``; redaction is not this class's business.
        width: Of the camera's picture, pixels, even.
        height: Likewise.

    Raises:
        Refused: The view asks for fewer than `MIN_HEIGHT` lines, or an area is no polygon of the picture.
    """

    def __init__(self, view: View, width: int, height: int) -> None:
        if view.max_height < MIN_HEIGHT:
            raise Refused(
                f"view: too small (got {view.max_height} lines, expected at least {MIN_HEIGHT})",
                reason="unsupported",
            )
        self._source = (width, height)
        self.height = min(view.max_height, height) // 2 * 2
        self.width = max(2, round(width * self.height / height / 2) * 2)
        self._scaled = (self.width, self.height) != self._source
        self._before = _Hidden(view.areas, width, height)
        self._after = _Hidden(view.areas, self.width, self.height) if self._scaled else self._before

    def apply(self, i420: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Mask ``i420`` in place and return it, or a scaled and masked copy.

        Shapes are (height * 3 // 2, width), those of the result being `height` and `width`.

        Raises:
            ValueError: ``i420`` is not of the size that this mask is for.
        """
        width, height = self._source
        if i420.shape != (height * 3 // 2, width):
            raise ValueError(f"view mask: size of a picture (got {i420.shape}, expected {width}x{height})")
        self._before.fill(i420)
        if not self._scaled:
            return i420
        scaled = np.empty((self.height * 3 // 2, self.width), np.uint8)
        for target, source in zip(i420_planes(scaled), i420_planes(i420), strict=True):
            rows, columns = target.shape
            target[:] = cv2.resize(source, (columns, rows), interpolation=cv2.INTER_AREA)
        self._after.fill(scaled)
        return scaled


class _Hidden:
    """The samples to fill in a picture of one size."""

    def __init__(self, areas: tuple[Polygon, ...], width: int, height: int) -> None:
        visible = np.zeros((height, width), np.bool_)
        for area in areas:
            visible |= pixels_inside(area, width, height)
        self._luma = ~visible
        quads = self._luma.reshape(height // 2, 2, width // 2, 2)
        self._chroma = quads.any(axis=(1, 3))

    def fill(self, i420: NDArray[np.uint8]) -> None:
        planes = i420_planes(i420)
        np.copyto(planes.y, BLACK_Y, where=self._luma)
        np.copyto(planes.u, NEUTRAL_UV, where=self._chroma)
        np.copyto(planes.v, NEUTRAL_UV, where=self._chroma)


def pixels_inside(polygon: Polygon, width: int, height: int) -> NDArray[np.bool_]:
    """The pixels of a picture whose whole square lies inside ``polygon``, shape (height, width).

    Raises:
        Refused: Fewer than three corners, or a corner outside 0..COORDINATE_MAX.
    """
    if len(polygon) < _MIN_CORNERS or not all(
        0 <= value <= COORDINATE_MAX for corner in polygon for value in corner
    ):
        raise Refused(
            f"view: an area is no polygon of the picture (got {len(polygon)} corners "
            f"within {min(map(min, polygon), default=0)} to {max(map(max, polygon), default=0)})",
            reason="unsupported",
        )
    corners = [(x * width / COORDINATE_MAX, y * height / COORDINATE_MAX) for x, y in polygon]
    inside = np.zeros((height, width), np.bool_)
    crossed = np.zeros((height, width), np.bool_)
    centre_x, centre_y = np.arange(width) + 0.5, np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        rows = (y0 <= centre_y) != (y1 <= centre_y)
        if rows.any():
            at = x0 + (centre_y[rows] - y0) * (x1 - x0) / (y1 - y0)
            inside[rows] ^= centre_x < at[:, None]
        _mark_edge(crossed, (x0, y0), (x1, y1))
    return inside & ~crossed


def _mark_edge(crossed: NDArray[np.bool_], start: tuple[float, float], end: tuple[float, float]) -> None:
    """Mark every pixel whose square's inside the edge runs through; running along its side is not through."""
    (x0, y0), (x1, y1) = sorted((start, end), key=lambda corner: corner[1])
    slack = 0.0 if x0 == x1 or y0 == y1 else _ROUNDING
    for row in range(floor(y0), ceil(y1)):
        if y0 == y1:
            at = (x0, x1)
        else:
            at = (
                x0 + (max(row, y0) - y0) * (x1 - x0) / (y1 - y0),
                x0 + (min(row + 1, y1) - y0) * (x1 - x0) / (y1 - y0),
            )
        crossed[row, max(0, floor(min(at) - slack)) : ceil(max(at) + slack)] = True
