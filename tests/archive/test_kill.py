"""kill -9 of a real writer on a real disk: nothing acknowledged is lost, everything left opens."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from pathlib import Path

from agent.archive.segment import open_segment
from tests.archive.recording import DAILY, DEVICE_KEY, disk_usage, make_ring, wait_until

KILLS = 8
SEED = 5
BUDGET = 3 * 2**20
CHECKOUT = Path(__file__).parents[2]


def killed_writer(root: Path, notes: Path, seed: int, after_s: float) -> int:
    """Run the writer, kill it ``after_s`` after its first new record; returns the most bytes on disk seen."""
    before = notes.stat().st_size if notes.exists() else 0
    command = [
        sys.executable,
        "-m",
        "tests.archive.kill_writer",
        str(root),
        str(notes),
        str(BUDGET),
        str(seed),
    ]
    with subprocess.Popen(command, cwd=CHECKOUT) as writer:
        try:
            wait_until(lambda: notes.exists() and notes.stat().st_size > before, 30)
            assert writer.poll() is None
            threading.Event().wait(after_s)
            most = disk_usage(root)
        finally:
            writer.kill()
    return max(most, disk_usage(root))


def test_kills_lose_no_acknowledged_record_and_leave_nothing_unreadable(tmp_path: Path) -> None:
    root, notes = tmp_path / "archive", tmp_path / "acknowledged"
    chance = random.Random(SEED)
    for kill in range(KILLS):
        most = killed_writer(root, notes, SEED + kill, chance.uniform(0.0, 0.4))
        assert most <= BUDGET
        assert len(list(root.rglob("*.open"))) <= 1
    ring = make_ring(root, budget=BUDGET)
    assert ring.index.wait(10)
    assert ring.status().set_aside == ()
    assert ring.status().problem is None
    found: set[tuple[int, int]] = set()
    for stored in ring.index.between(None, None):
        segment = open_segment(
            ring.path_of(stored), archive_keys=[DAILY], device_key=DEVICE_KEY, allow_unsigned=True
        )
        assert segment.header.sequence == stored.sequence
        found |= {(stored.sequence, index) for index in range(1, len(segment.fragments) + 1)}
    oldest = ring.index.between(None, None)[0].sequence
    acknowledged = [tuple(map(int, line.split())) for line in notes.read_text().splitlines()]
    assert len(acknowledged) > 10 * KILLS
    assert oldest > 0  # the ring went round
    assert [each for each in acknowledged if each[0] >= oldest and each not in found] == []
    assert disk_usage(root) <= BUDGET
    ring.close()
