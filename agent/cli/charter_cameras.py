"""``doorward charter add-area`` and ``never``: what there is to see, and what nobody ever sees."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from agent.cli.adopting import adopt
from agent.cli.collecting import save_option
from agent.cli.options import door_options, root_options
from agent.consent.charter import NamedArea
from agent.consent.fields import polygon_item
from agent.errors import MalformedInput, Refused

if TYPE_CHECKING:
    from agent.consent.charter import CameraEntry, Charter
    from hal.camera import Polygon


@click.command("add-area")
@click.argument("camera")
@click.argument("name")
@click.argument("corners")
@save_option
@door_options
@root_options
def add_area(camera: str, name: str, corners: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Name a part of CAMERA's picture that may be shared.

    CORNERS are 'x,y x,y x,y …', each 0..10000 of width and height from the top left:
    'doorward charter add-area front door "0,0 5000,0 5000,10000 0,10000"' is the left half.
    """
    polygon = parse_corners(corners, "corners")

    def change(current: Charter) -> Charter:
        entry = _camera(current, camera)
        areas = (*(each for each in entry.areas if each.name != name), NamedArea(name, polygon))
        return _replaced(current, replace(entry, areas=areas))

    adopt(options, change)


@click.command("never")
@click.argument("camera")
@click.argument("corners")
@save_option
@door_options
@root_options
def never(camera: str, corners: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Black out a part of CAMERA's picture for ever: before recording, before anybody, owners included."""
    polygon = parse_corners(corners, "corners")

    def change(current: Charter) -> Charter:
        entry = _camera(current, camera)
        return _replaced(current, replace(entry, never=(*entry.never, polygon)))

    adopt(options, change)


def _camera(current: Charter, name: str) -> CameraEntry:
    entry = current.camera(name)
    if entry is None:
        known = ", ".join(each.name for each in current.cameras)
        raise Refused(f"no camera {name} (there is {known})", reason="unknown")
    return entry


def _replaced(current: Charter, entry: CameraEntry) -> Charter:
    cameras = tuple(entry if each.name == entry.name else each for each in current.cameras)
    return replace(current, cameras=cameras)


def parse_corners(text: str, where: str) -> Polygon:
    """A polygon written as ``x,y x,y x,y``.

    Raises:
        MalformedInput: Written otherwise, or a corner outside the picture.
    """
    try:
        points = [[int(part) for part in corner.split(",")] for corner in text.split()]
    except ValueError as error:
        raise MalformedInput(f"{where}: got {text[:60]!r}, expected 'x,y x,y x,y'") from error
    return polygon_item(points, where)
