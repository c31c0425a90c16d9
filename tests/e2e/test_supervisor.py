"""What somebody at the terminal sees of starting and stopping."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.processes import Device, end, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path) as device:
        yield device


def test_second_agent_on_one_state_is_refused_at_once_and_the_first_goes_on(fresh: Device) -> None:
    second = subprocess.run(fresh.command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert "an agent is running already" in second.stderr
    assert second.stderr.count("\n") == 2, "an error and its hint"
    assert fresh.status()["net"]
    assert "turned away" not in fresh.log.read_text()


def test_start_over_a_door_that_a_power_cut_left_behind_greets_all_the_same(fresh: Device) -> None:
    fresh.stop()
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(fresh.home / "run/core.sock"))
    with fresh.log.open("w") as log:
        supervisor = subprocess.Popen(fresh.command, stdout=log, stderr=log, text=True)
    try:
        wait_for("the greeting", lambda: "Pairing code:" in fresh.log.read_text())
        assert "no agent at" not in fresh.log.read_text()
    finally:
        end(supervisor)
