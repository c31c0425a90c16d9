from __future__ import annotations

import cv2
import numpy as np
import pytest

from agent.consent.view import View
from agent.errors import Refused
from agent.media.mask import ViewMask, pixels_inside
from hal.h264_encoder import H264Encoder, default_bitrate
from hal.planes import i420_planes
from tests.support.pictures import FULL, LEFT_HALF, correlation, decoded, textured

TRIANGLE = ((1_200, 900), (8_800, 2_100), (4_100, 9_300))
DOORSTEP = ((6_111, 5_037), (9_999, 5_037), (9_999, 9_991), (6_111, 9_991))
SIZES = [(640, 360), (768, 576), (322, 242), (66, 50)]


def view_of(*areas: tuple[tuple[int, int], ...], height: int = 1080) -> View:
    return View(areas, frozenset(), height, 30)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("max_height", [1080, 202, 48])
@pytest.mark.parametrize("areas", [(TRIANGLE,), (DOORSTEP, LEFT_HALF), (DOORSTEP,)])
def test_hidden_content_has_no_influence_on_any_sample_that_comes_out(
    width: int, height: int, max_height: int, areas: tuple[tuple[tuple[int, int], ...], ...]
) -> None:
    one = textured(width, height, seed=1)
    other = textured(width, height, seed=2)
    visible = np.zeros((height, width), np.bool_)
    for area in areas:
        visible |= pixels_inside(area, width, height)
    for mine, theirs in zip(i420_planes(one), i420_planes(other), strict=True):
        step = width // mine.shape[1]
        shown = visible.reshape(height // step, step, width // step, step).all(axis=(1, 3))
        theirs[shown] = mine[shown]
    mask = ViewMask(view_of(*areas, height=max_height), width, height)

    first, second = mask.apply(one), mask.apply(other)

    assert first.shape == (mask.height * 3 // 2, mask.width)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("max_height", [1080, 202, 48])
def test_outside_is_exactly_flat_and_inside_is_the_scene(width: int, height: int, max_height: int) -> None:
    source = textured(width, height)
    mask = ViewMask(view_of(TRIANGLE, height=max_height), width, height)
    shown = i420_planes(mask.apply(source.copy()))
    inside = pixels_inside(TRIANGLE, mask.width, mask.height)

    assert (shown.y[~inside] == 16).all()
    hidden_quads = ~inside.reshape(mask.height // 2, 2, mask.width // 2, 2).all(axis=(1, 3))
    assert (shown.u[hidden_quads] == 128).all()
    assert (shown.v[hidden_quads] == 128).all()
    scene = cv2.resize(i420_planes(source).y, (mask.width, mask.height), interpolation=cv2.INTER_AREA)
    well_inside = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if well_inside.any():
        np.testing.assert_allclose(shown.y[well_inside], scene[well_inside], atol=1)


def test_decoded_picture_is_flat_outside_and_follows_the_scene_inside() -> None:
    mask = ViewMask(view_of(TRIANGLE, height=240), 640, 360)
    bitrate = default_bitrate(mask.width, mask.height, 30) * 4
    encoder = H264Encoder(width=mask.width, height=mask.height, fps=30, bitrate=bitrate)
    units: list[bytes] = []
    for number in range(12):
        picture = mask.apply(textured(640, 360, seed=5))
        units += [packet.annexb for packet in encoder.encode(picture, number * 33_333_333)]
    picture = decoded(units)[-1]
    luma = i420_planes(picture).y
    scene = cv2.resize(
        i420_planes(textured(640, 360, seed=5)).y, (mask.width, mask.height), interpolation=cv2.INTER_AREA
    )
    inside = pixels_inside(TRIANGLE, mask.width, mask.height)
    # A codec smears an edge within the blocks that it runs through; beyond them nothing may be left of it.
    near = cv2.dilate(inside.astype(np.uint8), np.ones((33, 33), np.uint8)).astype(bool)

    assert np.abs(luma[~near].astype(int) - 16).max() <= 2
    assert abs(correlation(luma[~inside & near], scene[~inside & near])) < 0.1
    assert correlation(luma[inside], scene[inside]) > 0.9


@pytest.mark.parametrize("seed", range(40))
def test_a_visible_pixel_lies_inside_its_area_with_all_its_corners(seed: int) -> None:
    noise = np.random.default_rng(seed)
    width, height = int(noise.integers(8, 60)) * 2, int(noise.integers(8, 60)) * 2
    corners = noise.integers(0, 10_001, (int(noise.integers(3, 9)), 2))
    area = tuple((int(x), int(y)) for x, y in corners)
    contour = (corners * (width, height) / 10_000).astype(np.float32)[:, None, :]

    visible = pixels_inside(area, width, height)

    for y, x in np.argwhere(visible):
        for corner in ((x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1), (x + 0.5, y + 0.5)):
            at = (float(corner[0]), float(corner[1]))
            assert cv2.pointPolygonTest(contour, at, measureDist=True) >= -1e-3, (area, at)


def test_an_edge_that_runs_along_pixels_loses_none_of_them() -> None:
    assert pixels_inside(FULL, 322, 242).all()
    half = pixels_inside(LEFT_HALF, 640, 360)
    assert half[:, :320].all()
    assert not half[:, 320:].any()


def test_an_area_thinner_than_a_pixel_shows_nothing() -> None:
    assert not pixels_inside(((5_000, 0), (5_001, 0), (5_001, 10_000), (5_000, 10_000)), 640, 360).any()


def test_overlapping_areas_are_both_visible_and_a_loop_over_itself_is_not() -> None:
    mask = ViewMask(view_of(FULL, DOORSTEP), 64, 48)
    assert (i420_planes(mask.apply(textured(64, 48))).y > 16).all()
    twice = FULL + FULL
    assert not pixels_inside(twice, 64, 48).any()


def test_the_same_scene_points_are_visible_at_every_size() -> None:
    large = pixels_inside(TRIANGLE, 1920, 1080)
    small = pixels_inside(TRIANGLE, 640, 360)
    pooled = large.reshape(360, 3, 640, 3)
    assert (pooled.all(axis=(1, 3)) | ~small).all()  # what small shows, large shows
    grown = cv2.dilate(small.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert (grown | ~pooled.all(axis=(1, 3))).all()  # and the other way round, within a pixel


def test_a_view_without_areas_is_flat_everywhere() -> None:
    planes = i420_planes(ViewMask(view_of(height=180), 640, 360).apply(textured(640, 360)))
    assert (planes.y == 16).all()
    assert (planes.u == 128).all()
    assert (planes.v == 128).all()


@pytest.mark.parametrize(
    ("size", "max_height", "expected"),
    [((640, 360), 360, (640, 360)), ((640, 360), 1080, (640, 360)), ((640, 360), 239, (424, 238)),
     ((768, 576), 100, (134, 100)), ((360, 640), 320, (180, 320))],
)  # fmt: skip
def test_size_is_even_keeps_the_shape_and_never_grows(
    size: tuple[int, int], max_height: int, expected: tuple[int, int]
) -> None:
    mask = ViewMask(view_of(FULL, height=max_height), *size)
    assert (mask.width, mask.height) == expected


@pytest.mark.parametrize(
    "view",
    [
        view_of(FULL, height=15),
        view_of(((0, 0), (1, 1))),
        view_of(((0, 0), (10_001, 0), (0, 9))),
        view_of(()),
    ],
)
def test_a_view_that_cannot_be_shown_as_agreed_is_refused(view: View) -> None:
    with pytest.raises(Refused, match=r"^view: ") as refused:
        ViewMask(view, 640, 360)
    assert refused.value.reason == "unsupported"


def test_a_picture_of_another_size_is_an_error_and_not_a_guess() -> None:
    mask = ViewMask(view_of(FULL), 640, 360)
    with pytest.raises(ValueError, match="size of a picture"):
        mask.apply(textured(640, 362))
