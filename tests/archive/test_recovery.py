"""Recovery: what is whole is kept, what an interruption broke is cut off, what is not ours is moved."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.archive import names
from agent.archive.recovery import salvage
from agent.archive.segment import Provenance, open_segment
from agent.errors import SegmentError
from tests.archive.recording import (
    DAILY,
    DEVICE_KEY,
    SECOND,
    START_UTC,
    BrokenDisk,
    QuickFiles,
    make_ring,
    sealed,
    segment_paths,
)

if TYPE_CHECKING:
    from pathlib import Path

    from agent.archive.segment import OpenedSegment

CONTENTS = [b"first" * 50, b"second" * 40, b"third" * 60]
PARTS = sealed(CONTENTS, sequence=0)
SEGMENT = b"".join(PARTS)
OTHER = b"".join(sealed(CONTENTS, sequence=0))
BORDERS = [len(b"".join(PARTS[:count])) for count in range(len(PARTS) + 1)]


def interrupted(root: Path, data: bytes, sequence: int = 0) -> Path:
    """An archive whose writer died after ``data``."""
    make_ring(root, files=QuickFiles()).close()
    directory = root / "segments" / names.directory_of(sequence)
    directory.mkdir(exist_ok=True)
    path = directory / names.open_name(sequence, START_UTC)
    path.write_bytes(data)
    return path


def opened(path: Path) -> OpenedSegment:
    return open_segment(path, archive_keys=[DAILY], device_key=DEVICE_KEY, allow_unsigned=True)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, len(SEGMENT)),
    tail=st.sampled_from(
        [b"", bytes(1), bytes(5000), OTHER[BORDERS[2] :], OTHER, b"\xff" * 300, SEGMENT[-500:]]
    ),
)
def test_every_whole_record_is_kept_and_no_stale_byte_passes(
    tmp_path_factory: pytest.TempPathFactory, length: int, tail: bytes
) -> None:
    data = SEGMENT[:length] + tail
    good = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(data, SEGMENT, strict=False)))
    whole = sum(1 for border in BORDERS[3:-1] if border <= good)
    path = tmp_path_factory.mktemp("salvage") / names.open_name(0, START_UTC)
    path.write_bytes(data)
    try:
        stored = salvage(QuickFiles(), path)
    except SegmentError:
        assert good < BORDERS[1]  # not even the header is whole: nothing was ever acknowledged
        return
    assert not path.exists()
    if stored is None:
        assert whole == 0
        return
    assert path.with_name(stored.name).stat().st_size == stored.bytes
    segment = opened(path.with_name(stored.name))
    assert [each.data for each in segment.fragments] == CONTENTS[:whole]
    assert (segment.provenance is Provenance.SIGNED) == (good == len(SEGMENT))


def test_interrupted_segment_is_found_by_its_time_after_the_next_start(tmp_path: Path) -> None:
    interrupted(tmp_path / "archive", SEGMENT[: BORDERS[4] + 10])
    ring = make_ring(tmp_path / "archive")
    assert ring.index.wait(10)
    (stored,) = ring.index.between(START_UTC, START_UTC + SECOND)
    assert (stored.sequence, stored.duration_ns, stored.bytes) == (0, 2 * SECOND, BORDERS[4])
    assert opened(ring.path_of(stored)).provenance is Provenance.UNSIGNED
    assert ring.begin(None).sequence == 1
    ring.close()


def test_power_cut_between_footer_and_rename_keeps_the_signature(tmp_path: Path) -> None:
    interrupted(tmp_path / "archive", SEGMENT)
    ring = make_ring(tmp_path / "archive")
    assert ring.index.wait(10)
    ring.close()
    (path,) = segment_paths(tmp_path / "archive")
    assert opened(path).provenance is Provenance.SIGNED
    assert path.read_bytes() == SEGMENT


@pytest.mark.parametrize(
    "data", [b"", bytes(4096), SEGMENT[:20], SEGMENT[: BORDERS[1]], SEGMENT[: BORDERS[2]]]
)
def test_file_without_a_fragment_yet_is_removed_quietly(tmp_path: Path, data: bytes) -> None:
    path = interrupted(tmp_path / "archive", data)
    ring = make_ring(tmp_path / "archive")
    assert ring.index.wait(10)
    assert not path.exists()
    assert ring.status().set_aside == ()
    assert len(ring.index) == 0
    ring.close()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"foreign bytes", "not a segment"),
        (SEGMENT[:30] + b"\xff" + SEGMENT[31:], "damaged"),
        (b"".join(sealed(CONTENTS, sequence=5)), "another sequence"),
    ],
)
def test_file_that_cannot_be_recovered_is_set_aside_with_the_reason(
    tmp_path: Path, data: bytes, why: str
) -> None:
    path = interrupted(tmp_path / "archive", data)
    ring = make_ring(tmp_path / "archive")
    assert ring.index.wait(10)
    (set_aside,) = ring.status().set_aside
    assert why in set_aside.why
    assert (tmp_path / "archive" / "set-aside" / path.name).read_bytes() == data
    ring.close()


def test_disk_that_refuses_recovery_is_reported_and_recording_begins_all_the_same(tmp_path: Path) -> None:
    path = interrupted(tmp_path / "archive", SEGMENT[: BORDERS[4]])
    disk = BrokenDisk()
    disk.fail("rename")
    ring = make_ring(tmp_path / "archive", files=disk)
    assert ring.index.wait(10)
    assert "cannot be recovered" in (ring.status().problem or "")
    file = ring.begin(START_UTC)
    file.append(b"x")
    file.abandon()
    ring.close()
    assert path.exists()
    ring = make_ring(tmp_path / "archive", files=QuickFiles())
    assert ring.index.wait(10)
    assert ring.status().problem is None
    assert len(ring.index) == 1
    ring.close()
