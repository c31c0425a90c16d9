from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.hal.rig import (
    BASELINE,
    KINDS,
    PICTURES,
    FileRig,
    Rig,
    SyntheticRig,
    UsbRig,
    scene_jpegs,
    write_clip,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def passthrough_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("clips") / "h264.mp4", "libx264", count=PICTURES, options=BASELINE
    )


@pytest.fixture(scope="session")
def reencode_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "mpeg4.avi", "mpeg4", count=PICTURES)


@pytest.fixture(scope="session")
def jpegs() -> list[bytes]:
    return scene_jpegs(PICTURES)


@pytest.fixture(scope="module", params=KINDS)
def rig(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    passthrough_clip: Path,
    reencode_clip: Path,
    jpegs: list[bytes],
) -> Rig:
    """One camera of each kind. It may be unplugged by the last test of a module only."""
    match request.param:
        case "synthetic":
            return SyntheticRig()
        case "file-passthrough":
            return FileRig("file-passthrough", passthrough_clip, tmp_path_factory.mktemp("camera"))
        case "file-reencode":
            return FileRig("file-reencode", reencode_clip, tmp_path_factory.mktemp("camera"))
        case "usb":
            return UsbRig(jpegs)
        case "picamera2":
            from tests.picamera2.virtual_camera import VirtualRig  # noqa: PLC0415 - needs the real picamera2

            return VirtualRig()
        case kind:
            raise AssertionError(f"no rig for {kind}")
