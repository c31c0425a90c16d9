"""The caption burnt into every shared picture: whose permit it is, and when.

A black strip over the lowest lines of the picture, written after the mask, so that it can hide something but
never reveal it. The time is never cut; a caption that is too long is, and says so with an ellipsis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from hal.planes import BLACK_Y, NEUTRAL_UV, i420_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_UNKNOWN: Final = "time unknown"

_WHITE_Y: Final = 235
_MIN_TEXT_PX: Final = 11
_HEIGHT_PER_TEXT: Final = 26  # 14 pixels at 360 lines
_WEIGHT: Final = 600
_SAMPLE_TIME: Final = "0000-00-00 00:00:00 UTC"


class Caption:
    """Writes one text and a changing time into pictures of one size. Not thread-safe.

    On one line if both fit, else on two. Characters outside the built-in font come out as question marks.
    """

    def __init__(self, text: str, width: int, height: int) -> None:
        self._width = width
        self._size = max(_MIN_TEXT_PX, round(height / _HEIGHT_PER_TEXT))
        self._font = cv2.FontFace("sans")
        self._text = "".join(character if character.isprintable() else " " for character in text)
        line = self._size * 3 // 2
        self._lines = 1 if self._measure(f"{self._text}   {_SAMPLE_TIME}") <= width - line else 2
        self._margin = line // 2
        self._line = line
        self.rows = min(height, self._lines * line + 4) // 2 * 2
        self._strip = np.full((self.rows, width), BLACK_Y, np.uint8)
        self._drawn: str | None = None

    def burn(self, i420: NDArray[np.uint8], time_text: str) -> None:
        """Overwrite the lowest `rows` lines of ``i420`` (height * 3 // 2, width) with text and time."""
        if time_text != self._drawn:
            self._draw(time_text)
            self._drawn = time_text
        planes = i420_planes(i420)
        planes.y[-self.rows :] = self._strip
        planes.u[-(self.rows // 2) :] = NEUTRAL_UV
        planes.v[-(self.rows // 2) :] = NEUTRAL_UV

    def _draw(self, time_text: str) -> None:
        self._strip[:] = BLACK_Y
        room = self._width - 2 * self._margin
        if self._lines == 1:
            time_width = self._measure(time_text)
            self._put(time_text, self._width - self._margin - time_width, 0)
            self._put(self._fitted(room - time_width - self._size), self._margin, 0)
        else:
            self._put(self._fitted(room), self._margin, 0)
            self._put(time_text, self._margin, 1)

    def _put(self, text: str, left: int, line: int) -> None:
        baseline = 2 + line * self._line + round(self._size * 1.1)
        cv2.putText(self._strip, text, (left, baseline), (_WHITE_Y,), self._font, self._size, _WEIGHT)

    def _measure(self, text: str) -> int:
        box = cv2.getTextSize((self._width, self._size * 2), text, (0, 0), self._font, self._size, _WEIGHT)
        return int(box[0]) + int(box[2])

    def _fitted(self, room: int) -> str:
        text = self._text
        if self._measure(text) <= room:
            return text
        while text and self._measure(text + "…") > room:
            text = text[:-1]
        return text + "…"
