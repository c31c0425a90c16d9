"""A frame number and a time stamp that a machine reads off a picture, whatever happened to it on the way.

`STAMP_AREA` is a field of 16 x 8 squares, white for 1 and black for 0, row by row, most significant bit
first: 32 bits frame number, 64 bits CLOCK_BOOTTIME nanoseconds, 32 bits CRC-32 of these twelve bytes.
Squares are given as fractions of the picture, so the stamp survives scaling; black and white are as far
apart as luma goes, so it survives H.264; the checksum tells a stamp from anything else.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hal.camera import COORDINATE_MAX
from hal.planes import NEUTRAL_UV, Planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hal.camera import Polygon

_COLUMNS: Final = 16
_ROWS: Final = 8
# The field's left, top, right and bottom edge in parts of 64 of the width and of 36 of the height: squares
# on a 16:9 picture, room for a caption above, and a margin of one square that is part of the area.
_LEFT, _TOP, _ACROSS, _DOWN = 2, 5, 64, 36

_WHITE: Final = 235
_BLACK: Final = 16
_MIDDLE: Final = 125
_PAYLOAD: Final = struct.Struct(">IQ")


def _edges(start: int, count: int, parts: int, size: int) -> list[int]:
    """Where the squares begin, and where the last ends, in pixels of a side of ``size``."""
    return [round((start + index) * size / parts) for index in range(count + 1)]


_WEST, _EAST = ((_LEFT + edge) * COORDINATE_MAX // _ACROSS for edge in (-1, _COLUMNS + 1))
_NORTH, _SOUTH = ((_TOP + edge) * COORDINATE_MAX // _DOWN for edge in (-1, _ROWS + 1))
STAMP_AREA: Final[Polygon] = ((_WEST, _NORTH), (_EAST, _NORTH), (_EAST, _SOUTH), (_WEST, _SOUTH))
"""The part of the picture that the stamp and its margin take up."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a picture says about itself."""

    frame_number: int  # 0 to 2**32 - 1, one more for each picture
    t_boot_ns: int  # nanoseconds of CLOCK_BOOTTIME


def burn_stamp(planes: Planes, stamp: Stamp) -> None:
    """Write ``stamp`` and its margin into ``planes`` in place."""
    payload = _PAYLOAD.pack(stamp.frame_number & 0xFFFFFFFF, stamp.t_boot_ns)
    payload += zlib.crc32(payload).to_bytes(4, "big")
    bits = np.unpackbits(np.frombuffer(payload, np.uint8)).reshape(_ROWS, _COLUMNS)
    height, width = planes.y.shape
    columns = _edges(_LEFT - 1, _COLUMNS + 2, _ACROSS, width)
    rows = _edges(_TOP - 1, _ROWS + 2, _DOWN, height)
    squares = np.where(np.pad(bits, 1), np.uint8(_WHITE), np.uint8(_BLACK))
    luma = np.repeat(np.repeat(squares, np.diff(rows), axis=0), np.diff(columns), axis=1)
    planes.y[rows[0] : rows[-1], columns[0] : columns[-1]] = luma
    for plane in (planes.u, planes.v):
        plane[rows[0] // 2 : -(-rows[-1] // 2), columns[0] // 2 : -(-columns[-1] // 2)] = NEUTRAL_UV


def read_stamp(y_plane: NDArray[np.uint8]) -> Stamp | None:
    """Read the stamp of a picture from its luma, shape (height, width), of any size; None if there is none.

    Readable down to a width of about 256 pixels of decoded H.264.
    """
    height, width = y_plane.shape
    columns = _edges(_LEFT, _COLUMNS, _ACROSS, width)
    rows = _edges(_TOP, _ROWS, _DOWN, height)
    bits = np.zeros((_ROWS, _COLUMNS), np.uint8)
    for row in range(_ROWS):
        for column in range(_COLUMNS):
            bits[row, column] = _square(y_plane, rows[row : row + 2], columns[column : column + 2]) > _MIDDLE
    data = np.packbits(bits).tobytes()
    payload, checksum = data[: _PAYLOAD.size], data[_PAYLOAD.size :]
    if zlib.crc32(payload).to_bytes(4, "big") != checksum:
        return None
    return Stamp(*_PAYLOAD.unpack(payload))


def _square(y_plane: NDArray[np.uint8], rows: list[int], columns: list[int]) -> float:
    """The mean luma of the middle half of one square, where neither neighbours nor ringing reach."""
    top, left = ((edges[0] * 3 + edges[1]) // 4 for edges in (rows, columns))
    bottom, right = (-(-(edges[0] + edges[1] * 3) // 4) for edges in (rows, columns))
    return float(y_plane[top : max(bottom, top + 1), left : max(right, left + 1)].mean())
