from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hal.camera import CameraError
from hal.indicator import IndicatorState, SimulatedIndicator

if TYPE_CHECKING:
    from pathlib import Path


def test_light_is_dark_until_told_otherwise() -> None:
    assert SimulatedIndicator().state is IndicatorState.DARK


def test_shown_state_can_be_seen_from_outside(tmp_path: Path) -> None:
    indicator = SimulatedIndicator(tmp_path / "light")
    for state in IndicatorState:
        indicator.show(state)
        assert (tmp_path / "light").read_text() == f"{state.value}\n"
        assert indicator.state is state


def test_light_that_cannot_be_driven_is_an_error_and_stays_as_it_was(tmp_path: Path) -> None:
    indicator = SimulatedIndicator(tmp_path / "missing" / "light")
    with pytest.raises(CameraError, match="indicator: cannot write"):
        indicator.show(IndicatorState.AGENCY_VIEWING)
    assert indicator.state is IndicatorState.DARK
