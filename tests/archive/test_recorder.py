"""The recorder: from packets to signed segments, and what it does when something is in its way."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.archive.intake import Break, GapReason, Idle, Intake
from agent.archive.muxer import parameter_sets
from agent.archive.recorder import Recorder
from agent.archive.segment import Provenance, Recipient, open_segment
from agent.errors import LedgerError, SegmentError
from tests.archive.recording import (
    DAILY,
    DEVICE,
    DEVICE_ID,
    DEVICE_KEY,
    FPS,
    OWNERS,
    RECOVERY,
    SECOND,
    START_BOOT,
    BrokenDisk,
    QuickFiles,
    Recorded,
    make_ring,
    recipient,
    record,
    recorder,
    segment_paths,
    video,
    wait_until,
    wall,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.archive.ring import Ring
    from agent.archive.segment import OpenedSegment
    from agent.archive.writing import ClosedSegment
    from hal.camera import Packet


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def ring(root: Path) -> Iterator[Ring]:
    ring = make_ring(root, files=QuickFiles())
    yield ring
    ring.close()


def opened(path: Path) -> OpenedSegment:
    return open_segment(path, archive_keys=[DAILY], device_key=DEVICE_KEY, allow_unsigned=True)


def test_video_becomes_signed_segments_of_ten_seconds_and_nothing_is_lost(root: Path, ring: Ring) -> None:
    told = record(ring, video(25))
    segments = [opened(path) for path in segment_paths(root)]
    assert [len(each.fragments) for each in segments] == [10, 10, 5]
    assert all(each.provenance is Provenance.SIGNED for each in segments)
    assert [each.header.sequence for each in segments] == [0, 1, 2]
    assert [each.footer_hash for each in segments] == [each.footer_hash for each in told.closed]
    starts = [each.start_boot_ns for segment in segments for each in segment.fragments]
    assert starts == [START_BOOT + second * SECOND for second in range(25)]
    assert told.gaps == []
    assert len(told.acknowledged) == 25


def test_closed_segment_tells_the_ledger_what_it_is(root: Path, ring: Ring) -> None:
    (closed,) = record(ring, video(3)).closed
    (path,) = segment_paths(root)
    assert closed.bytes == path.stat().st_size
    assert closed.duration_ns == 3 * SECOND
    assert closed.start_wall == wall(START_BOOT)
    assert path.name == f"0000000000-{1_790_000_000_000}-0003000-{closed.bytes:010d}.seg"


def test_new_recipient_gets_the_next_gop_and_not_the_last(root: Path, ring: Ring) -> None:
    packets = video(4)
    asked: list[int] = []

    def recipients() -> tuple[Recipient, ...]:
        asked.append(1)
        return OWNERS if len(asked) > 2 else OWNERS[:1]

    record(ring, packets, recipients)
    segments = [opened(path) for path in segment_paths(root)]
    assert [len(each.fragments) for each in segments] == [2, 2]
    late = segment_paths(root)[1]
    assert open_segment(late, archive_keys=[RECOVERY], device_key=DEVICE_KEY, allow_unsigned=False).fragments


def test_nobody_to_seal_to_means_nothing_recorded_and_no_gap(root: Path, ring: Ring) -> None:
    told = record(ring, video(3), tuple)
    assert segment_paths(root) == []
    assert told == Recorded([], [], [])


def test_first_packets_before_a_key_frame_are_left_out(root: Path, ring: Ring) -> None:
    told = record(ring, video(2)[5:])
    assert sum(len(opened(path).fragments) for path in segment_paths(root)) == 1
    assert told.gaps == []


def test_another_resolution_begins_another_segment(root: Path, ring: Ring) -> None:
    record(ring, video(2) + video(2, at_s=2, size=(96, 64)))
    first, second = (opened(path) for path in segment_paths(root))
    assert len(first.fragments) == len(second.fragments) == 2
    assert first.init != second.init


def test_camera_that_starts_anew_begins_another_segment_and_a_gap_is_told(root: Path, ring: Ring) -> None:
    told = record(ring, video(2) + video(2, at_s=7, pts_s=0))
    assert [len(opened(path).fragments) for path in segment_paths(root)] == [2, 2]
    (gap,) = told.gaps
    assert (gap.start_boot_ns, gap.end_boot_ns) == (START_BOOT + 2 * SECOND, START_BOOT + 7 * SECOND)
    assert gap.reason is GapReason.CAMERA


def test_interruption_makes_the_last_gop_durable_at_once(root: Path, ring: Ring) -> None:
    told = Recorded([], [], [])
    closed = threading.Event()
    writer = recorder(ring, told)
    writer._on_segment_closed = lambda _: closed.set()
    writer.start()
    packets = video(1)
    for packet in packets[:20]:
        writer.packet(packet)
    writer.interrupt(GapReason.CAMERA, packets[20].t_boot_ns)
    assert closed.wait(10)
    wait_until(lambda: writer.status().gap is GapReason.CAMERA)
    assert writer.stop()


def test_writer_that_cannot_keep_up_drops_to_a_key_frame_and_says_so(root: Path, ring: Ring) -> None:
    told = Recorded([], [], [])
    intake = Intake(max_span_ns=3 * SECOND)
    writer = recorder(ring, told, intake=intake)
    for packet in video(6):  # nobody takes them yet
        writer.packet(packet)
    assert writer.status().gap is GapReason.OVERFLOW
    writer.start()
    wait_until(lambda: not intake.bytes)
    for packet in video(2, at_s=6):
        writer.packet(packet)
    assert writer.stop()
    (gap,) = told.gaps
    assert gap.reason is GapReason.OVERFLOW
    assert gap.end_boot_ns == START_BOOT + 6 * SECOND
    assert abs(gap.start_boot_ns - (START_BOOT + 3 * SECOND)) <= SECOND // FPS + 1
    assert gap.dropped_packets >= 3 * FPS - 2
    fragments = [each for path in segment_paths(root) for each in opened(path).fragments]
    assert fragments[-1].start_boot_ns == START_BOOT + 7 * SECOND


def test_camera_that_falls_silent_leaves_its_last_gop_on_the_disk(root: Path, ring: Ring) -> None:
    class Impatient(Intake):
        def take(self, timeout_s: float) -> Packet | Break | Idle | None:
            return super().take(timeout_s / 100)

    told = Recorded([], [], [])
    writer = recorder(ring, told, intake=Impatient())
    writer.start()
    for packet in video(1)[:10]:
        writer.packet(packet)
    wait_until(lambda: writer.status().gap is GapReason.CAMERA)
    (segment,) = (opened(path) for path in segment_paths(root))
    assert segment.provenance is Provenance.SIGNED
    for packet in video(1, at_s=1):
        writer.packet(packet)
    assert writer.stop()
    assert [gap.end_boot_ns for gap in told.gaps] == [START_BOOT + SECOND]


def test_camera_without_key_frames_is_cut_off_before_it_fills_the_memory(root: Path, ring: Ring) -> None:
    packets = [replace(each, key=each.key and not number) for number, each in enumerate(video(22))]
    told = record(ring, packets + video(1, at_s=22))
    first, second = (opened(path) for path in segment_paths(root))
    assert [len(first.fragments), len(second.fragments)] == [1, 1]
    assert first.fragments[0].duration_ns >= 20 * SECOND
    assert [gap.reason for gap in told.gaps] == [GapReason.NO_KEY_FRAME]


def test_queue_never_holds_more_than_its_bytes() -> None:
    intake = Intake(max_bytes=10_000)
    key = replace(video(1)[0], annexb=bytes(3_000))
    for number in range(50):
        intake.put(replace(key, t_boot_ns=number, pts_90k=number))
        assert intake.bytes <= 10_000


@pytest.mark.parametrize("call", ["create", "write_at", "sync", "rename", "sync_directory"])
def test_failing_disk_costs_a_gap_and_recording_goes_on(root: Path, call: str) -> None:
    disk = BrokenDisk()
    ring = make_ring(root, files=disk)
    told = Recorded([], [], [])
    writer = recorder(ring, told)
    disk.fail(call)
    writer.start()
    for packet in video(16):
        writer.packet(packet)
    assert writer.stop()
    ring.close()
    assert disk.failing[call] == 0
    fragments = [each for path in segment_paths(root) for each in opened(path).fragments]
    acknowledged = {each.start_boot_ns for each in told.acknowledged}
    assert acknowledged <= {each.start_boot_ns for each in fragments}
    assert fragments[-1].start_boot_ns == START_BOOT + 15 * SECOND
    if call != "rename":
        assert [gap.reason for gap in told.gaps] == [GapReason.STORAGE]
    assert not list(root.rglob("*.open"))


def test_failed_write_leaves_what_was_acknowledged_readable(root: Path) -> None:
    disk = BrokenDisk()
    ring = make_ring(root, files=disk)
    told = Recorded([], [], [])
    writer = recorder(ring, told)
    done = threading.Event()
    writer._on_record = lambda each: done.set() if each.index == 3 else None
    writer.start()
    for packet in video(4):
        writer.packet(packet)
    assert done.wait(10)
    disk.fail("write_at", 1)
    for packet in video(4, at_s=4):
        writer.packet(packet)
    assert writer.stop()
    ring.close()
    first, *_ = (opened(path) for path in segment_paths(root))
    assert first.provenance is Provenance.UNSIGNED
    assert len(first.fragments) == 3


def test_key_frame_without_parameter_sets_ends_the_segment_signed(root: Path, ring: Ring) -> None:
    packets = video(3)
    bare = replace(packets[2 * FPS], annexb=b"\0\0\0\1\x65" + bytes(20))
    told = record(ring, [*packets[: 2 * FPS], bare, *packets[2 * FPS + 1 :], *video(1, at_s=3)])
    segments = [opened(path) for path in segment_paths(root)]
    assert [len(each.fragments) for each in segments] == [2, 1]
    assert all(each.provenance is Provenance.SIGNED for each in segments)
    (gap,) = told.gaps
    assert gap.end_boot_ns - gap.start_boot_ns == SECOND


def test_ledger_that_fails_does_not_stop_recording(root: Path, ring: Ring) -> None:
    def refuse(_: ClosedSegment) -> None:
        raise LedgerError("ledger: not durable")

    writer = Recorder(
        ring,
        camera_name="front",
        device_id=DEVICE_ID,
        sign=DEVICE.sign,
        recipients=lambda: [recipient(DAILY)],
        wall=lambda _: None,
        on_segment_closed=refuse,
        on_gap=lambda _: None,
        intake=Intake(max_span_ns=10**18),
    )
    writer.start()
    for packet in video(12):
        writer.packet(packet)
    assert writer.stop()
    assert writer.status().problem == "ledger: not durable"
    assert sum(len(opened(path).fragments) for path in segment_paths(root)) == 12


def test_device_without_any_time_records_undated(root: Path, ring: Ring) -> None:
    writer = Recorder(
        ring,
        camera_name="front",
        device_id=DEVICE_ID,
        sign=DEVICE.sign,
        recipients=lambda: OWNERS,
        wall=lambda _: None,
        on_segment_closed=lambda _: None,
        on_gap=lambda _: None,
    )
    writer.start()
    for packet in video(1):
        writer.packet(packet)
    assert writer.stop()
    (segment,) = (opened(path) for path in segment_paths(root))
    assert segment.header.start_wall is None
    assert segment.fragments[0].start_utc_ns is None


def test_nothing_on_the_disk_shows_pictures_or_opens_without_an_owner(root: Path, ring: Ring) -> None:
    packets = video(12)
    record(ring, packets)
    parameters = parameter_sets(packets[0].annexb)
    markers = (b"moof", b"mdat", b"ftyp", b"avcC", b"x264", parameters[4:12], packets[0].annexb[-32:])
    found = [path for path in root.rglob("*") if path.is_file()]
    assert len(found) >= 2
    for path in found:
        assert not any(marker in path.read_bytes() for marker in markers), path


def test_packet_without_a_start_code_has_no_parameter_sets() -> None:
    for data in (b"", b"\0\0\1", b"\0\0\0\1\x67", b"garbage"):
        with pytest.raises(SegmentError):
            parameter_sets(data)
