from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Agency, Device, Owner, done

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Home:
    """A paired device that records, its owner, an agency that may ask, a stranger with keys of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.device = Device(directory)
        self.owner = Owner(directory / "owner", self.device)
        self.stranger = Owner(directory / "stranger", self.device, "Stranger")
        self.agency = Agency(directory / "agency", self.owner)
        self.agency_card = directory / "agency/card.json"


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """One home for all these tests; whatever is typed at it, it records when they are over."""
    home = Home(tmp_path_factory.mktemp("home"))
    with home.device as device:
        done(home.owner.pair())
        home.agency.join()
        device.wait_for("recording", lambda: device.camera()["records"])
        began, gaps = device.camera()["records"], len(device.entries("gap"))
        yield home
        device.wait_for("recording", lambda: device.camera()["records"] > began)
        assert len(device.entries("gap")) == gaps
