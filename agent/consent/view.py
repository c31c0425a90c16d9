"""What one permit shows of one camera."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hal.camera import Polygon


class Redaction(StrEnum):
    """What is made unrecognisable inside the visible areas."""

    FACES = "faces"
    MOVING_OUTSIDE_AREA = "moving_outside_area"


@dataclass(frozen=True, slots=True)
class View:
    """Visible polygons (0..10000 of width and height), redaction and size.

    No polygon means that nothing is visible: empty never means everything. Heights are in pixels of the
    encoded picture, whose width follows from the camera's shape.
    """

    areas: tuple[Polygon, ...]
    redaction: frozenset[Redaction]
    max_height: int
    max_fps: int
