from __future__ import annotations

import subprocess
import sys

import pytest

from hal.camera import CameraError
from hal.detect import best_camera, open_camera
from hal.picamera2_camera import Picamera2Camera
from hal.replay_camera import ReplayCamera
from hal.synthetic_camera import SyntheticCamera
from hal.usb_camera import UsbCamera
from tests.hal.rig import Recorder


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("synthetic:", SyntheticCamera),
        ("synthetic:?size=640x480&fps=7.5", SyntheticCamera),
        ("file:clip.mp4", ReplayCamera),
        ("file:/a/b.mp4?loop=0", ReplayCamera),
        ("usb:", UsbCamera),
        ("usb:/dev/video2?size=1920x1080", UsbCamera),
        ("picamera2:", Picamera2Camera),
        ("picamera2:1?fps=25", Picamera2Camera),
    ],
)
def test_uri_names_its_kind_of_camera(uri: str, kind: type) -> None:
    assert isinstance(open_camera(uri), kind)


def test_settings_reach_the_camera() -> None:
    info = open_camera("synthetic:?size=640x480&fps=7.5", lores=(320, 240)).info()
    assert (info.width, info.height, info.fps) == (640, 480, 7.5)
    assert (info.lores_width, info.lores_height) == (320, 240)
    assert info.uri == "synthetic:?size=640x480&fps=7.5"


def test_lores_keeps_the_shape_of_main() -> None:
    info = open_camera("synthetic:?size=1024x768").info()
    assert (info.lores_width, info.lores_height) == (640, 480)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", r"unknown kind \(got nothing, expected one of synthetic:, file:, usb:, picamera2:\)"),
        ("webcam:", r"unknown kind \(got webcam:"),
        ("synthetic", "unknown kind"),
        ("SYNTHETIC:", "unknown kind"),
        ("synthetic:scene", "nothing stands after"),
        ("synthetic:?size=640", "expected WIDTHxHEIGHT"),
        ("synthetic:?size=-2x4", "expected WIDTHxHEIGHT"),
        ("synthetic:?size=641x480", "expected even"),
        ("synthetic:?size=99998x99998", "expected even, 128 to 4096"),
        ("synthetic:?fps=0", "expected pictures a second"),
        ("synthetic:?fps=nan", "expected pictures a second"),
        ("synthetic:?fps=500", "expected 1 to 120"),
        ("synthetic:?fps=5&fps=6", "once"),
        ("synthetic:?colour=red", "expected one of fps, size, once"),
        ("synthetic:?loop=1", "expected one of fps, size, once"),
        ("file:", "needs a path"),
        ("file:a.mp4?loop=yes", "expected 0 or 1"),
        ("picamera2:left", "takes a number"),
        ("picamera2:-1", "takes a number"),
    ],
)
def test_uri_that_makes_no_sense_is_refused_in_one_line(uri: str, message: str) -> None:
    with pytest.raises(CameraError, match=message) as refused:
        open_camera(uri)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("lores", [(321, 180), (320, 181), (0, 0), (1282, 720)])
def test_lores_that_cannot_be_is_refused(lores: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match="lores: size"):
        open_camera("synthetic:", lores=lores)


def test_best_camera_can_be_opened_by_its_name() -> None:
    open_camera(best_camera())


def test_importing_asks_no_hardware_and_loads_no_camera_library() -> None:
    code = (
        "import builtins, sys\n"
        "real = builtins.open\n"
        "def watched(path, *more, **named):\n"
        "    assert not str(path).startswith('/dev/video'), path\n"
        "    return real(path, *more, **named)\n"
        "builtins.open = watched\n"
        "import hal.detect\n"
        "hal.detect.open_camera('picamera2:')\n"
        "assert not {'picamera2', 'libcamera', 'cv2'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_picamera2_that_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match="picamera2: cannot be imported") as refused:
        open_camera("picamera2:").start(Recorder())
    assert "apt-get install -y python3-picamera2" in (refused.value.hint or "")
