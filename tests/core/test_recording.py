"""What of the recording the ledger learns, when it does not take it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent import config
from agent.archive.intake import GapReason
from agent.archive.recorder import Gap
from agent.ledger.entry import EntryKind
from agent.recording import Recording
from tests.ledger.disk import Fault
from tests.support.device import Box

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Box]:
    box = Box(tmp_path / "ledger")
    await box.pair()
    yield box
    box.close()


@pytest.fixture
async def recording(box: Box, tmp_path: Path) -> AsyncIterator[Recording]:
    loaded = config.load(None, home=tmp_path)
    loaded.state.mkdir()
    recording = Recording(loaded, box.home.keys, box.keeper, box.time)
    yield recording
    recording.stop()


def gap(second: int) -> Gap:
    return Gap(second * 10**9, (second + 1) * 10**9, GapReason.STORAGE, 0)


def written(box: Box) -> list[object]:
    return [entry.body["start_boot_us"] for entry in box.entries(EntryKind.GAP)]


async def test_gap_that_a_full_disk_kept_out_of_the_ledger_is_written_later(
    box: Box, recording: Recording
) -> None:
    """A full disk makes gaps and keeps them out of the ledger at once: just these must not be lost."""
    for second in (1, 2):
        recording._note_gap("front", gap(second))
    box.disk.plan[len(box.disk.calls)] = Fault.FULL
    await recording.commit()
    await recording.commit()
    assert sorted(map(str, written(box))) == ["1000000", "2000000"]
    await recording.commit()
    assert len(written(box)) == 2


async def test_gap_that_ends_as_the_device_stops_is_written(box: Box, recording: Recording) -> None:
    recording._note_gap("front", gap(3))
    await recording.commit()
    assert written(box) == [3_000_000]
