from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from hal.camera import COORDINATE_MAX, CameraError
from hal.never_mask import NeverMask, rasterise
from hal.planes import i420_planes, nv12_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hal.camera import Polygon

WHOLE = ((0, 0), (10_000, 0), (10_000, 10_000), (0, 10_000))
# A pentagram drawn in one stroke: an even-odd fill would leave its middle open.
PENTAGRAM = ((5000, 500), (7600, 9000), (500, 3800), (9500, 3800), (2400, 9000))
SLIVER = ((1000, 1000), (9000, 8000), (1001, 1001))


def grey(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height * 3 // 2, width), 99, np.uint8)


def holds(polygon: Polygon, x: float, y: float) -> bool:
    """Even-odd test of one point, written another way than the code: crossings of a ray to the left."""
    inside = False
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y0 > y) != (y1 > y) and x > (x1 - x0) * (y - y0) / (y1 - y0) + x0:
            inside = not inside
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_every_pixel_inside_a_polygon_is_covered_at_every_size(seed: int) -> None:
    corners = np.random.default_rng(seed).integers(0, COORDINATE_MAX + 1, (5, 2))
    polygon = tuple((int(x), int(y)) for x, y in corners)
    for width, height in ((64, 36), (30, 50)):
        area = rasterise(polygon, width, height)
        for row in range(height):
            for column in range(width):
                x = (column + 0.5) * COORDINATE_MAX / width
                y = (row + 0.5) * COORDINATE_MAX / height
                assert area[row, column] or not holds(polygon, x, y)


def test_polygon_that_crosses_itself_has_no_hole() -> None:
    assert rasterise(PENTAGRAM, 100, 100)[52, 50]


def test_area_thinner_than_a_pixel_is_not_lost() -> None:
    area = rasterise(SLIVER, 64, 36)
    assert all(area[:, column].any() for column in range(7, 57))


def test_area_does_not_spread_over_the_picture() -> None:
    square = ((4000, 4000), (6000, 4000), (6000, 6000), (4000, 6000))
    area = rasterise(square, 100, 100)
    assert area[38:62, 38:62].sum() == area.sum()
    assert area[40:60, 40:60].all()


def test_whole_picture_is_flat_in_all_planes() -> None:
    i420 = grey(64, 36)
    NeverMask([WHOLE]).apply(i420_planes(i420))
    planes = i420_planes(i420)
    assert (planes.y == 16).all()
    assert (planes.u == 128).all()
    assert (planes.v == 128).all()


def test_colour_does_not_shine_through_at_the_edge() -> None:
    i420 = grey(64, 36)
    NeverMask([((0, 0), (5100, 0), (5100, 5100), (0, 5100))]).apply(i420_planes(i420))
    planes = i420_planes(i420)
    flat = planes.y == 16
    for plane in (planes.u, planes.v):
        assert (plane[flat[::2, ::2] | flat[1::2, ::2] | flat[::2, 1::2] | flat[1::2, 1::2]] == 128).all()
    assert (planes.y[30:] == 99).all()
    assert (planes.u[15:] == 99).all()


def test_padded_and_interleaved_pictures_are_masked_in_place_and_their_padding_left_alone() -> None:
    for lay_out in (i420_planes, nv12_planes):
        picture = grey(80, 36)
        NeverMask([WHOLE]).apply(lay_out(picture, 64))
        planes = lay_out(picture, 64)
        assert (planes.y == 16).all()
        assert (planes.u == 128).all()
        assert (planes.v == 128).all()
        assert (picture[:36, 64:] == 99).all()


def test_no_area_changes_nothing() -> None:
    i420 = grey(64, 36)
    mask = NeverMask([])
    mask.apply(i420_planes(i420))
    assert not mask
    assert (i420 == 99).all()


@pytest.mark.parametrize(
    "polygon",
    [(), ((0, 0), (1, 1)), ((0, 0), (-1, 0), (5, 5)), ((0, 0), (0, 10_001), (5, 5))],
    ids=["empty", "line", "negative", "outside"],
)
def test_malformed_area_is_refused(polygon: Polygon) -> None:
    with pytest.raises(CameraError, match="never area"):
        NeverMask([WHOLE, polygon])
