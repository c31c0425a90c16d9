"""Stands in for kms++, which PyPI does not have: picamera2 imports it for previews on a screen.

Only names that picamera2 looks up while it is imported; anything else is an AttributeError.
"""

from __future__ import annotations


class PixelFormat:
    """Formats by name."""

    RGB888 = "RGB888"
    BGR888 = "BGR888"
    XRGB8888 = "XRGB8888"
    XBGR8888 = "XBGR8888"
    YUV420 = "YUV420"
    YVU420 = "YVU420"
    NV12 = "NV12"


class Card:
    """There is no screen."""

    def __init__(self) -> None:
        raise RuntimeError("no screen here")


class DumbFramebuffer:
    """Never made, since there is no card."""
