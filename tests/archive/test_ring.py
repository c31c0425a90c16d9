"""The ring: its budget, its order, and a disk that is full, broken, foreign or gone back in time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.archive import names
from agent.archive.index import Index
from agent.archive.names import PER_DIRECTORY, StoredSegment
from agent.archive.reading import ArchiveReader
from agent.archive.ring import MIN_BUDGET_BYTES, Ring
from agent.errors import ConfigError, Refused, StorageError
from tests.archive.recording import (
    SECOND,
    START_UTC,
    BrokenDisk,
    FullDisk,
    QuickFiles,
    ShortWrites,
    disk_usage,
    make_ring,
    sealed,
)

MEGABYTE = 2**20


def write(ring: Ring, size: int, *, start_utc_ns: int | None = None) -> StoredSegment:
    """A segment of ``size`` bytes in three writes, ten seconds long."""
    file = ring.begin(START_UTC + 10 * SECOND * len(ring.index) if start_utc_ns is None else start_utc_ns)
    file.append(bytes(size // 2))
    file.append(bytes(size // 4))
    return file.close(bytes(size - size // 2 - size // 4), 10 * SECOND)


def sequences(ring: Ring) -> list[int]:
    return [each.sequence for each in ring.index.between(None, None)]


class Watching(QuickFiles):
    """Notes the most bytes that were ever on the disk."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self.most = 0

    def reserve(self, descriptor: int, size: int) -> None:
        super().reserve(descriptor, size)
        self.most = max(self.most, disk_usage(self._root))

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> int:
        written = super().write_at(descriptor, data, offset)
        self.most = max(self.most, disk_usage(self._root))
        return written


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 700_000), min_size=5, max_size=25),
    budget=st.integers(MIN_BUDGET_BYTES, 4 * MEGABYTE),
    restarts=st.sets(st.integers(0, 24), max_size=3),
)
def test_budget_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], budget: int, restarts: set[int]
) -> None:
    root = tmp_path_factory.mktemp("ring") / "archive"
    files = Watching(root)
    ring = make_ring(root, budget=budget, files=files)
    for number, size in enumerate(sizes):
        if number in restarts:
            ring.close()
            ring = make_ring(root, budget=budget, files=files)
        write(ring, size)
    kept = sequences(ring)
    assert kept == list(range(len(sizes) - len(kept), len(sizes)))
    assert kept
    assert files.most <= budget
    ring.close()


def test_budget_holds_without_fallocate(tmp_path: Path) -> None:
    class NoReserve(Watching):
        def reserve(self, descriptor: int, size: int) -> None:
            raise OSError(errno.EOPNOTSUPP, f"descriptor {descriptor} of {size}")

    files = NoReserve(tmp_path)
    ring = make_ring(tmp_path / "archive", budget=3 * MEGABYTE, files=files)
    for _ in range(20):
        write(ring, 400_000)
    assert len(ring.index) >= 3
    assert files.most <= 3 * MEGABYTE
    ring.close()


def test_reserved_blocks_are_given_back_at_close(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive")
    segment = write(ring, 100_000)
    assert ring.path_of(segment).stat().st_blocks * 512 == names.occupied(100_000)
    assert ring.path_of(segment).stat().st_size == 100_000
    ring.close()


def test_budget_too_small_to_be_a_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too small"):
        make_ring(tmp_path / "archive", budget=MIN_BUDGET_BYTES - 1)


def test_oldest_goes_first_and_protected_stays(tmp_path: Path) -> None:
    first = (START_UTC, START_UTC + SECOND)
    ring = make_ring(tmp_path / "archive", budget=3 * MEGABYTE, files=QuickFiles(), protected=[first])
    for number in range(20):
        write(ring, 400_000, start_utc_ns=START_UTC + number * 10 * SECOND)
    kept = sequences(ring)
    assert kept[0] == 0
    assert kept[1:] == list(range(20 - len(kept) + 1, 20))
    ring.protect([])
    write(ring, 400_000)
    assert 0 not in sequences(ring)
    ring.close()


def test_protection_that_leaves_too_little_is_said_and_ends_with_it(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", budget=3 * MEGABYTE, files=QuickFiles(), protected=[(0, 2**62)])
    for _ in range(4):
        write(ring, 400_000)
    before = sequences(ring)
    with pytest.raises(StorageError, match="protected footage"):
        write(ring, 1_200_000)
    assert "protected" in (ring.status().problem or "")
    assert sequences(ring) == before
    ring.protect([])
    write(ring, 400_000)
    assert ring.status().problem is None
    ring.close()


def test_full_disk_is_overwritten_and_recording_goes_on(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    ring = make_ring(root, budget=100 * MEGABYTE, files=FullDisk(root, 3 * MEGABYTE))
    for _ in range(20):
        write(ring, 400_000)
    kept = sequences(ring)
    assert kept[-1] == 19
    assert len(kept) >= 3
    assert disk_usage(root) <= 3 * MEGABYTE
    ring.close()


def test_space_for_others_is_kept_free(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    ring = make_ring(root, budget=100 * MEGABYTE, keep_free=MEGABYTE, files=FullDisk(root, 4 * MEGABYTE))
    for _ in range(20):
        write(ring, 400_000)
    assert disk_usage(root) <= 3 * MEGABYTE
    assert len(ring.index) >= 3
    ring.close()


def test_disk_full_of_other_files_is_said_and_costs_no_footage_of_theirs(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    (root / "holiday.mp4").write_bytes(bytes(2 * MEGABYTE))
    ring = make_ring(root, budget=100 * MEGABYTE, files=FullDisk(root, 2 * MEGABYTE + 100_000))
    with pytest.raises(StorageError, match="other files"):
        write(ring, 400_000)
    assert (root / "holiday.mp4").stat().st_size == 2 * MEGABYTE
    ring.close()


def test_disk_that_always_says_full_does_not_cost_the_whole_archive(tmp_path: Path) -> None:
    disk = BrokenDisk()
    ring = make_ring(tmp_path / "archive", budget=32 * MEGABYTE, files=disk)
    for _ in range(90):
        write(ring, 1000)
    disk.code = errno.ENOSPC
    disk.fail("write_at", 10_000)
    with pytest.raises(StorageError, match="whatever is evicted"):
        write(ring, 1000)
    assert len(ring.index) == 26
    ring.close()


def test_short_writes_are_carried_on(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", files=ShortWrites())
    segment = write(ring, 5000)
    assert ring.path_of(segment).read_bytes() == bytes(5000)
    ring.close()


def test_second_writer_is_refused(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive")
    script = (
        "import sys, pathlib; from agent.archive.ring import Ring; from agent.errors import StorageError\n"
        "try: Ring(pathlib.Path(sys.argv[1]), budget_bytes=2**23, keep_free_bytes=0)\n"
        "except StorageError as error: print(error)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "archive")]
    answer = subprocess.run(
        command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=30
    )
    assert "another process records into it" in answer.stdout
    ring.close()
    make_ring(tmp_path / "archive").close()


def test_unusable_directory_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be used"):
        make_ring(tmp_path / "file")


def test_sequence_goes_on_after_a_restart_and_when_everything_was_evicted(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    ring = make_ring(root, files=QuickFiles())
    for _ in range(3):
        write(ring, 1000)
    ring.close()
    ring = make_ring(root, files=QuickFiles())
    assert write(ring, 1000).sequence == 3
    ring.close()


def test_directories_are_dropped_with_their_last_segment(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    ring = make_ring(root, budget=2 * MEGABYTE, files=QuickFiles())
    for _ in range(2 * PER_DIRECTORY + 10):
        write(ring, 10_000)
    assert sorted(path.name for path in (root / "segments").iterdir()) == ["00000001", "00000002"]
    ring.close()


def test_clock_that_jumps_changes_neither_order_nor_what_is_found(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    ring = make_ring(root, files=QuickFiles())
    hour = 3600 * SECOND
    starts = [
        0,
        10 * SECOND,
        20 * SECOND,
        -3 * hour,
        -3 * hour + 10 * SECOND,
        10 * 365 * 24 * hour,
        30 * SECOND,
    ]
    for start in starts:
        write(ring, 1000, start_utc_ns=START_UTC + start)
    for _ in range(2):
        assert sequences(ring) == list(range(len(starts)))
        found = ring.index.between(START_UTC + 5 * SECOND, START_UTC + 35 * SECOND)
        assert [each.sequence for each in found] == [0, 1, 2, 6]
        ring.close()
        ring = make_ring(root, files=QuickFiles())
        assert ring.index.wait(10)
    ring.close()


@settings(max_examples=60)
@given(
    segments=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 30)), max_size=40),
    removed=st.sets(st.integers(0, 39)),
    low=st.none() | st.integers(0, 300),
    high=st.none() | st.integers(0, 300),
)
def test_interval_is_found_as_by_looking_at_every_segment(
    segments: list[tuple[int, int]], removed: set[int], low: int | None, high: int | None
) -> None:
    stored = [
        StoredSegment(number, start * SECOND or None, length * SECOND, 1)
        for number, (start, length) in enumerate(segments)
    ]
    index = Index(0)
    half = len(stored) // 2
    index.add(stored[half:])
    index.between(1, 2)
    index.add(stored[:half])
    for number in removed:
        index.remove(number)
    margin = names.MILLISECOND_NS
    expected = [
        each
        for each in stored
        if each.sequence not in removed
        and (
            (low is None and high is None)
            or (
                each.start_utc_ns is not None
                and (low is None or each.start_utc_ns + each.duration_ns + margin > low * SECOND)
                and (high is None or each.start_utc_ns - margin < high * SECOND)
            )
        )
    ]
    found = index.between(None if low is None else low * SECOND, None if high is None else high * SECOND)
    assert list(found) == expected


@given(
    st.integers(0, 10**15 - 1),
    st.none() | st.integers(-(2**70), 2**70),
    st.integers(0, 10**16),
    st.integers(0, 10**10 - 1),
)
def test_every_name_we_write_is_one_we_read(
    sequence: int, start: int | None, duration: int, size: int
) -> None:
    segment = StoredSegment(sequence, start, duration, size)
    parsed = names.parse_closed(segment.name)
    assert parsed is not None
    assert (parsed.sequence, parsed.bytes, parsed.name) == (sequence, size, segment.name)
    assert names.parse_open(names.open_name(sequence, start)) == sequence
    assert names.parse_directory(names.directory_of(sequence)) == sequence // PER_DIRECTORY


@given(st.text(max_size=50))
def test_other_names_are_not_ours(name: str) -> None:
    assert names.parse_closed(name) is None
    assert names.parse_open(name) is None


class Held(QuickFiles):
    """Recovery stands still at an interrupted segment until released: a slow start."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def open_existing(self, path: Path) -> int:
        assert self.released.wait(20)
        return super().open_existing(path)


@pytest.mark.parametrize("was_indexing", [False, True])
def test_recording_goes_on_while_the_index_is_rebuilt_and_the_budget_holds(
    tmp_path: Path, was_indexing: bool
) -> None:
    root = tmp_path / "archive"
    budget = 4 * MEGABYTE
    ring = make_ring(root, budget=budget, files=QuickFiles())
    while not ring.status().evicted or ring._next < PER_DIRECTORY + 4:
        write(ring, 200_000 if ring._next > PER_DIRECTORY - 8 else 100)
    ring.close()
    assert not (root / "indexing").exists()
    if was_indexing:
        (root / "indexing").touch()
    interrupted = (
        root / "segments" / names.directory_of(PER_DIRECTORY) / names.open_name(ring._next, START_UTC)
    )
    interrupted.write_bytes(b"".join(sealed([b"x"], sequence=ring._next)))
    files = Held()
    ring = make_ring(root, budget=budget, files=files)
    for _ in range(6):
        write(ring, 200_000)
        assert not ring.status().is_indexed
        assert disk_usage(root) <= budget
    files.released.set()
    assert ring.index.wait(10)
    write(ring, 200_000)
    assert disk_usage(root) <= budget
    assert not (root / "indexing").exists()
    ring.close()


def test_foreign_files_are_set_aside_by_name_and_hurt_nobody(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    ring = make_ring(root, files=QuickFiles())
    kept = write(ring, 1000)
    ring.close()
    directory = ring.path_of(kept).parent
    (root / "segments" / "notes.txt").write_text("mine")
    (root / "segments" / "00000009x").mkdir()
    (directory / "photo.jpg").write_bytes(b"photo")
    (directory / "0000000001-0000000000000.open").write_bytes(b"not a segment at all")
    (directory / "0000000002-0000000000000-0000000-0000000001.seg").mkdir()
    (directory / "0000009999-0000000000000-0000000-0000000001.seg").write_bytes(b"x")  # not its directory
    (directory / f"{0:010d}-{5:013d}-{0:07d}-{1:010d}.seg").write_bytes(b"x")  # a second segment 0
    (directory / "0000000003-0000000000000.open").symlink_to("/etc/passwd")
    ring = make_ring(root, files=QuickFiles())
    assert ring.index.wait(10)
    assert {each.name for each in ring.status().set_aside} == {
        "notes.txt",
        "00000009x",
        "photo.jpg",
        "0000000001-0000000000000.open",
        "0000000002-0000000000000-0000000-0000000001.seg",
        "0000009999-0000000000000-0000000-0000000001.seg",
        kept.name if kept.name > f"{0:010d}-{5:013d}" else f"{0:010d}-{5:013d}-{0:07d}-{1:010d}.seg",
        "0000000003-0000000000000.open",
    }
    assert all(each.why for each in ring.status().set_aside)
    assert (root / "set-aside" / "photo.jpg").read_bytes() == b"photo"
    assert ring.status().problem is None
    write(ring, 1000)
    ring.close()
    ring = make_ring(root, files=QuickFiles())
    assert ring.index.wait(10)
    assert len(ring.status().set_aside) == 8
    assert len(ring.index) == 2
    ring.close()


def test_huge_foreign_file_does_not_push_the_footage_out(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    make_ring(root).close()
    with (root / "segments" / "huge").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 * MEGABYTE)
    ring = make_ring(root, budget=4 * MEGABYTE, files=QuickFiles())
    assert ring.index.wait(10)
    for _ in range(10):
        write(ring, 400_000)
    assert len(ring.index) >= 3
    ring.close()


def test_evicted_segment_reads_on_through_an_open_descriptor_and_is_then_refused(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", budget=2 * MEGABYTE, files=QuickFiles())
    reader = ArchiveReader(ring)
    first = write(ring, 400_000)
    assert [each.sequence for each in reader.list(None, None)] == [0]
    descriptor = reader.open_for_reading(first.sequence)
    for _ in range(6):
        write(ring, 400_000)
    assert os.pread(descriptor, 500_000, 0) == bytes(400_000)
    os.close(descriptor)
    with pytest.raises(Refused, match="no longer"):
        reader.open_for_reading(first.sequence)
    ring.path_of(ring.index.between(None, None)[0]).unlink()
    with pytest.raises(Refused):
        reader.read(reader.list(None, None)[0].sequence)
    assert reader.read(reader.list(None, None)[-1].sequence) == bytes(400_000)
    ring.close()
