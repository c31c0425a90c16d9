from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import CLIP, Agency, Device, Owner, done

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DISK_BYTES = 330_000_000
"""Beside the 200 MB that the archive leaves to others there is room for some minutes of the clip."""


class Home:
    """A paired device with two cameras on a small disk, its owner, and an agency that may ask.

    ``side`` is a camera whose file is missing at first: `plug_in` brings it, `unplug` takes it away.
    """

    def __init__(self, directory: Path) -> None:
        self._side = directory / "side.mp4"
        self._clip = directory / "short.mp4"
        subprocess.run(["ffmpeg", "-v", "error", "-t", "2", "-i", CLIP, "-c", "copy", self._clip], check=True)
        cameras = {"front": f"file:{CLIP}", "side": f"file:{self._side}"}
        self.device = Device(directory, cameras=cameras, budget="500MB", disk_bytes=DISK_BYTES)
        self.owner = Owner(directory / "owner", self.device)
        self.agency = Agency(directory / "agency", self.owner)

    def plug_in(self) -> None:
        self._side.hardlink_to(self._clip)

    def unplug(self) -> None:
        self._side.unlink()


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One home for all these tests: each leaves it as it found it, running and recording."""
    home = Home(tmp_path_factory.mktemp("home"))
    with home.device as device:
        done(home.owner.pair())
        home.agency.join()
        device.wait_for("recording", lambda: device.camera()["recording"])
        yield home


@pytest.fixture
def device(home: Home) -> Iterator[Device]:
    """The home's device, which records before and after."""
    found = home.device
    found.wait_for("net", lambda: found.status()["net"])
    yield found
    found.wait_for("recording", lambda: found.camera()["recording"])
    found.wait_for("net", lambda: found.status()["net"])
