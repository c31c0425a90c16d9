from __future__ import annotations

import numpy as np
import pytest

from agent.media.caption import TIME_UNKNOWN, Caption
from hal.planes import i420_planes
from tests.support.pictures import textured

TEXT = "City police · 2026/114 · session 4f3a21"
AT = "2026-11-24 21:14:05 UTC"


def strip_of(text: str, time_text: str, size: tuple[int, int] = (640, 360)) -> tuple[Caption, np.ndarray]:
    caption = Caption(text, *size)
    picture = textured(*size)
    caption.burn(picture, time_text)
    return caption, i420_planes(picture).y[-caption.rows :].copy()


@pytest.mark.parametrize("size", [(640, 360), (320, 180), (1280, 720), (98, 74), (32, 16)])
def test_only_the_strip_changes_and_nothing_of_the_picture_is_left_in_it(size: tuple[int, int]) -> None:
    caption = Caption(TEXT, *size)
    one, other, before = textured(*size, seed=1), textured(*size, seed=2), textured(*size, seed=1)
    caption.burn(one, AT)
    caption.burn(other, AT)
    for mine, theirs, source in zip(i420_planes(one), i420_planes(other), i420_planes(before), strict=True):
        rows = caption.rows * mine.shape[0] // size[1]
        np.testing.assert_array_equal(mine[-rows:], theirs[-rows:])
        np.testing.assert_array_equal(mine[:-rows], source[:-rows])


def test_text_is_white_on_black_and_tall_enough_to_read_at_360_lines() -> None:
    caption, strip = strip_of(TEXT, AT)
    ink = np.argwhere(strip > 200)
    assert caption.rows % 2 == 0
    assert (strip == 16).mean() > 0.6
    assert 10 <= ink[:, 0].max() - ink[:, 0].min() + 1 <= caption.rows
    assert ink[:, 1].min() > 0
    assert ink[:, 1].max() < 639


def test_every_second_and_every_session_looks_different() -> None:
    pictures = [
        strip_of(TEXT, AT)[1],
        strip_of(TEXT, "2026-11-24 21:14:06 UTC")[1],
        strip_of(TEXT.replace("21", "22"), AT)[1],
        strip_of(TEXT, TIME_UNKNOWN)[1],
    ]
    for index, strip in enumerate(pictures):
        for later in pictures[index + 1 :]:
            assert not np.array_equal(strip, later)


def test_a_long_caption_takes_a_second_line_and_never_pushes_out_the_time() -> None:
    long = "An agency with a very long name, department of long names · " * 4
    caption, strip = strip_of(long, AT)
    _, later = strip_of(long, "2026-11-24 21:14:06 UTC")
    middle = caption.rows // 2
    np.testing.assert_array_equal(strip[: middle - 2], later[: middle - 2])
    assert not np.array_equal(strip[middle:], later[middle:])
    assert (strip[:middle] > 200).any()


def test_line_breaks_and_foreign_letters_do_not_break_out_of_the_strip() -> None:
    _, strip = strip_of("Zürich\n東京\x00\u202e end", AT)
    assert (strip > 200).any()
