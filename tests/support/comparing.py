"""Holding a saved video against the clip it should show: inside an area, and nothing outside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

EDGE: Final = 12
"""Pixels left out on both sides of the area's border: a codec smears there."""

CAPTION_SHARE: Final = 0.14
"""The caption is within the lowest seventh of the picture."""

SKIPPED: Final = 2


@dataclass(frozen=True)
class Found:
    """What a comparison found.

    Correlations are Pearson's: per picture the best of all of the clip's, then the median over pictures.
    """

    frames: int
    width: int
    height: int
    inside: float
    outside: float
    outside_range: int  # between the darkest and the brightest pixel outside, of 255
    caption: float  # share of bright pixels in the caption's strip, outside the area


def luma(path: Path) -> list[NDArray[np.uint8]]:
    """The Y planes of all pictures of a video."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="gray8").astype(np.uint8) for frame in container.decode(video=0)]


def compare(saved: Path, clip: Path, area: Sequence[Sequence[int]] | None) -> Found:
    """Compare; ``area`` None means that the whole picture is visible and there is no caption."""
    pictures = luma(saved)
    height, width = pictures[0].shape
    source = [_resized(each, width, height) for each in luma(clip)]
    inside, outside, strip = _regions(area, width, height)
    chosen = pictures[SKIPPED :: max(1, len(pictures) // 8)]
    return Found(
        frames=len(pictures),
        width=width,
        height=height,
        inside=float(np.median([_best(each, source, inside) for each in chosen])),
        outside=float(np.median([_best(each, source, outside) for each in chosen])) if area else 0.0,
        outside_range=max(int(np.ptp(each[outside])) for each in chosen) if area else 0,
        caption=float(np.median([np.mean(each[strip] > 128) for each in chosen])) if area else 0.0,
    )


def _resized(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _regions(
    area: Sequence[Sequence[int]] | None, width: int, height: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Well inside the area, well outside it, and the caption's strip outside it."""
    visible = np.ones((height, width), np.uint8)
    if area is not None:
        visible[:] = 0
        corners = np.array([[x * width // 10_000, y * height // 10_000] for x, y in area], np.int32)
        cv2.fillPoly(visible, [corners], 1)
    kernel = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    inside = cv2.erode(visible, kernel).astype(bool)
    outside = ~cv2.dilate(visible, kernel).astype(bool)
    strip = np.zeros_like(inside)
    if area is not None:
        top = height - round(height * CAPTION_SHARE)
        strip[top:] = True
        inside, outside = inside & ~strip, outside & ~strip
    return inside, outside, strip


def _best(picture: NDArray[np.uint8], source: list[NDArray[np.uint8]], where: NDArray[np.bool_]) -> float:
    """The best correlation with any picture of the clip; 0 for a flat picture."""
    here = picture[where].astype(np.float64)
    if here.std() < 1e-6:
        return 0.0
    here = (here - here.mean()) / here.std()
    best = 0.0
    for each in source:
        there = each[where].astype(np.float64)
        spread = there.std()
        if spread > 0:
            best = max(best, float(np.mean(here * (there - there.mean()) / spread)))
    return best
