"""The light that tells the people in front of the camera that somebody is looking.

Lit whenever anyone views, owners included. Only `Indicator.show` changes it, and no setting turns it off.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from hal.camera import CameraError

if TYPE_CHECKING:
    from pathlib import Path


class IndicatorState(StrEnum):
    """What the light says. An agency's viewing outranks an owner's when both view."""

    DARK = "dark"
    OWNER_VIEWING = "owner-viewing"  # steady
    AGENCY_VIEWING = "agency-viewing"  # blinking


class Indicator(Protocol):
    """One light."""

    def show(self, state: IndicatorState) -> None:
        """Show ``state`` until the next call; returns once it is shown.

        Raises:
            CameraError: The light cannot be driven: nobody may view then.
        """


class SimulatedIndicator:
    """A light for machines without one: the state is in `state`, and in a file if one is given."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.state = IndicatorState.DARK

    def show(self, state: IndicatorState) -> None:
        """See `Indicator.show`."""
        if self._path is not None:
            try:
                self._path.write_text(f"{state.value}\n", encoding="ascii")
            except OSError as error:
                raise CameraError(f"indicator: cannot write {self._path}: {error.strerror}") from error
        self.state = state
