"""A recorder that is killed: records as fast as the disk takes it and notes every acknowledged record.

Arguments: archive directory, file for the acknowledgements, budget in bytes, seed. Runs until killed.
"""

from __future__ import annotations

import os
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.archive.intake import Intake
from agent.archive.recorder import Recorder
from agent.archive.ring import Ring
from tests.archive.recording import (
    DEVICE,
    DEVICE_ID,
    OWNERS,
    SECOND,
    START_BOOT,
    one_second,
    wait_until,
    wall,
)

if TYPE_CHECKING:
    from agent.archive.writing import Acknowledged
    from hal.camera import Packet


def packets_of_second(second: int, randomness: random.Random) -> list[Packet]:
    """One GOP; filler (NAL type 12) behind the key frame makes it as large as chance wants."""
    filler = b"\0\0\0\1\x0c" + b"\xff" * randomness.choice([10, 3_000, 40_000, 200_000]) + b"\x80"
    return [
        replace(
            each,
            annexb=each.annexb + filler if each.key else each.annexb,
            pts_90k=each.pts_90k + second * 90_000,
            t_boot_ns=each.t_boot_ns + START_BOOT + second * SECOND,
        )
        for each in one_second()
    ]


def main(root: Path, acknowledgements: Path, budget: int, seed: int) -> None:
    """Record until killed."""
    notes = os.open(acknowledgements, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(record: Acknowledged) -> None:
        os.write(notes, f"{record.sequence} {record.index}\n".encode())

    recorder = Recorder(
        Ring(root, budget_bytes=budget, keep_free_bytes=0),
        camera_name="front",
        device_id=DEVICE_ID,
        sign=DEVICE.sign,
        recipients=lambda: OWNERS,
        wall=wall,
        on_segment_closed=lambda _: None,
        on_gap=lambda gap: sys.exit(f"gap: {gap}"),
        on_record=note,
        intake=Intake(max_span_ns=10**18),
    )
    recorder.start()
    randomness = random.Random(seed)
    for second in range(10**6):
        for packet in packets_of_second(second, randomness):
            recorder.packet(packet)
        wait_until(lambda: recorder.status().queued_bytes < 400_000)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
