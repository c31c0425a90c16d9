"""What cameras there are, and the one parser of camera URIs. Calls that ask the hardware, never at import.

| URI | camera |
|---|---|
| ``synthetic:`` | a computed scene |
| ``file:PATH`` | a video played in real time |
| ``usb:`` or ``usb:/dev/videoN`` | a USB camera |
| ``picamera2:`` or ``picamera2:N`` | a Raspberry Pi camera module, by number |

After ``?`` come settings: ``size=WxH`` and ``fps=N`` (not for ``file:``), ``loop=0`` or ``1`` (``file:``
only), for example ``synthetic:?size=640x480&fps=10``. A ``?``, ``%`` or ``#`` within a path is
percent-encoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from hal.camera import CameraError
from hal.picamera2_camera import Picamera2Camera, picamera2_camera_present
from hal.replay_camera import ReplayCamera
from hal.synthetic_camera import SyntheticCamera
from hal.usb_camera import UsbCamera, usb_capture_devices

if TYPE_CHECKING:
    from hal.camera import Camera

SYNTHETIC: Final = "synthetic:"

_SIZE: Final = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")
_FPS: Final = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3})?")
_SETTINGS: Final = {
    "synthetic": frozenset({"size", "fps"}),
    "file": frozenset({"loop"}),
    "usb": frozenset({"size", "fps"}),
    "picamera2": frozenset({"size", "fps"}),
}


def best_camera() -> str:
    """The URI of the best camera there is now: picamera2, else USB, else the synthetic scene."""
    if picamera2_camera_present():
        return "picamera2:"
    devices = usb_capture_devices()
    return f"usb:{devices[0]}" if devices else SYNTHETIC


def open_camera(uri: str, *, lores: tuple[int, int] | None = None, bitrate: int | None = None) -> Camera:
    """Make the camera that ``uri`` names, without touching any device.

    Args:
        uri: See this module.
        lores: Width and height of ``lores``, even; None for main's shape at up to 640 wide.
        bitrate: Bits per second of ``main`` where it is encoded here; None for what suits its size.

    Raises:
        CameraError: Not a camera URI, or a setting is unknown or out of range.
    """
    named = _parse(uri)
    match named.scheme:
        case "synthetic":
            if named.rest:
                raise CameraError(f"camera: nothing stands after `synthetic:` (got {named.rest})")
            size, fps = named.size or (1280, 720), named.fps or 15.0
            return SyntheticCamera(uri, size=size, fps=fps, lores=lores, bitrate=bitrate)
        case "file":
            if not named.rest:
                raise CameraError("camera: `file:` needs a path", hint="for example file:walkway.mp4")
            return ReplayCamera(Path(named.rest), uri, loop=named.loop, lores=lores, bitrate=bitrate)
        case "usb":
            size, fps = named.size or (1280, 720), named.fps or 30.0
            return UsbCamera(named.rest or None, uri, size=size, fps=fps, lores=lores, bitrate=bitrate)
        case _:
            if named.rest and not (named.rest.isascii() and named.rest.isdigit()):
                raise CameraError(f"camera: `picamera2:` takes a number (got {named.rest})")
            size, fps = named.size or (1920, 1080), named.fps or 30.0
            number = int(named.rest or "0")
            return Picamera2Camera(number, uri, size=size, fps=fps, lores=lores, bitrate=bitrate)


@dataclass(frozen=True, slots=True)
class _Named:
    """A camera URI, taken apart."""

    scheme: str
    rest: str  # between the scheme and the settings, decoded
    size: tuple[int, int] | None
    fps: float | None
    loop: bool


def _parse(uri: str) -> _Named:
    scheme, colon, tail = uri.partition(":")
    if not colon or scheme not in _SETTINGS:
        known = ", ".join(f"{name}:" for name in _SETTINGS)
        raise CameraError(f"camera: unknown kind (got {uri or 'nothing'}, expected one of {known})")
    rest, _, query = tail.partition("?")
    settings: dict[str, str] = {}
    for setting in query.split("&") if query else ():
        name, _, value = setting.partition("=")
        if name not in _SETTINGS[scheme] or name in settings:
            known = ", ".join(sorted(_SETTINGS[scheme]))
            raise CameraError(f"camera: setting of {scheme} (got {setting}, expected one of {known}, once)")
        settings[name] = value
    return _Named(
        scheme,
        unquote(rest),
        _size(settings.get("size")),
        _fps(settings.get("fps")),
        _loop(settings.get("loop", "1")),
    )


def _size(value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = _SIZE.fullmatch(value)
    if match is None:
        raise CameraError(f"camera: size (got {value}, expected WIDTHxHEIGHT, for example 1280x720)")
    return int(match[1]), int(match[2])


def _fps(value: str | None) -> float | None:
    if value is None:
        return None
    if _FPS.fullmatch(value) is None or not float(value):
        raise CameraError(f"camera: fps (got {value}, expected pictures a second, for example 15)")
    return float(value)


def _loop(value: str) -> bool:
    if value not in {"0", "1"}:
        raise CameraError(f"camera: loop (got {value}, expected 0 or 1)")
    return value == "1"
