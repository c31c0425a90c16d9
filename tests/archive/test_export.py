"""Export: MP4 files that ordinary players open, exact at GOP borders, and what the report owns up to."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import av
import pytest

from agent.archive.export import ExportReport, export
from agent.archive.muxer import FragmentMuxer, StreamTemplate
from agent.archive.segment import Provenance
from agent.errors import Refused, SealedMessageError, SegmentError, SegmentSpliced, StorageError
from tests.archive.recording import (
    DAILY,
    DEVICE_KEY,
    FPS,
    SECOND,
    START_UTC,
    STRANGER,
    QuickFiles,
    make_ring,
    record,
    sealed,
    segment_paths,
    video,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey


@pytest.fixture
def recorded(tmp_path: Path) -> list[Path]:
    """Twenty-five seconds in three segments."""
    ring = make_ring(tmp_path / "archive", files=QuickFiles())
    record(ring, video(25))
    ring.close()
    return segment_paths(tmp_path / "archive")


def exported(
    segments: Iterable[bytes | Path],
    out: Path,
    *,
    between: tuple[int, int] | None = None,
    keys: tuple[X25519PrivateKey, ...] = (DAILY,),
) -> ExportReport:
    low, high = (None, None) if between is None else (START_UTC + between[0], START_UTC + between[1])
    return export(
        segments, archive_keys=keys, device_key=DEVICE_KEY, out=out, from_utc_ns=low, to_utc_ns=high
    )


def probed(path: Path) -> dict[str, str]:
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert done.stderr == b""
    stream: dict[str, str] = json.loads(done.stdout)["streams"][0]
    return stream


def test_whole_archive_becomes_one_file_that_plays(recorded: list[Path], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = export(
        recorded,
        archive_keys=[DAILY],
        device_key=DEVICE_KEY,
        out=tmp_path / "out.mp4",
        progress=lambda count, until: seen.append((count, until)),
    )
    stream = probed(tmp_path / "out.mp4")
    assert int(stream["nb_read_frames"]) == report.frames == 25 * FPS
    assert float(stream["duration"]) == pytest.approx(25.0, abs=0.05)
    assert float(stream["start_time"]) == 0
    assert stream["codec_name"] == "h264"
    (span,) = report.spans
    assert span.provenance is Provenance.SIGNED
    assert (span.start_utc_ns, report.gaps, report.undated) == (START_UTC, (), 0)
    assert [count for count, _ in seen] == [1, 2, 3]
    assert seen[-1][1] == report.files[0].end_utc_ns == START_UTC + 25 * SECOND
    head = (tmp_path / "out.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # plays while it is still being fetched


def test_interval_is_rounded_out_to_gops_and_no_further(recorded: list[Path], tmp_path: Path) -> None:
    report = exported(recorded, tmp_path / "out.mp4", between=(8 * SECOND + 1, 12 * SECOND))
    assert report.frames == int(probed(tmp_path / "out.mp4")["nb_read_frames"]) == 4 * FPS
    (file,) = report.files
    assert (file.start_utc_ns, file.end_utc_ns) == (START_UTC + 8 * SECOND, START_UTC + 12 * SECOND)


def test_pictures_are_the_ones_recorded(recorded: list[Path], tmp_path: Path) -> None:
    exported(recorded, tmp_path / "out.mp4", between=(10 * SECOND, 11 * SECOND))
    with av.open(str(tmp_path / "out.mp4")) as container:
        greys = [int(frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    assert len(greys) == FPS
    assert greys == sorted(greys)
    assert max(greys) - min(greys) > 100


def test_wrong_key_writes_nothing(recorded: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(SealedMessageError, match="none of them yours"):
        exported(recorded, tmp_path / "out" / "a.mp4", keys=(STRANGER,))
    assert list((tmp_path / "out").iterdir()) == []


def test_damage_half_way_leaves_nothing_behind(recorded: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    damaged = bytearray(recorded[2].read_bytes())
    damaged[-300] ^= 1
    with pytest.raises(SegmentError):
        exported([*recorded[:2], bytes(damaged)], tmp_path / "out" / "a.mp4")
    assert list((tmp_path / "out").iterdir()) == []


def test_existing_file_is_not_written_over_unless_told(recorded: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("mine")
    with pytest.raises(Refused, match=r"out\.mp4 is there already"):
        exported(recorded, out)
    assert out.read_text() == "mine"
    export(recorded, archive_keys=[DAILY], device_key=DEVICE_KEY, out=out, overwrite=True)
    assert int(probed(out)["nb_read_frames"]) == 25 * FPS


def test_interval_without_a_recording_is_said(recorded: list[Path], tmp_path: Path) -> None:
    with pytest.raises(Refused, match="nothing was recorded"):
        exported(recorded, tmp_path / "out.mp4", between=(100 * SECOND, 200 * SECOND))
    with pytest.raises(Refused, match="nothing was recorded"):
        exported([], tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_directory_that_is_not_there_is_one_clear_error(recorded: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        exported(recorded, tmp_path / "no" / "out.mp4")


def test_segment_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read"):
        exported([tmp_path / "gone.seg"], tmp_path / "out.mp4")


def test_segments_out_of_order_are_refused(recorded: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SegmentSpliced, match="comes after"):
        exported(recorded[::-1], tmp_path / "out.mp4")


def test_gap_is_closed_in_the_file_and_named_in_the_report(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", files=QuickFiles())
    record(ring, video(2) + video(3, at_s=60, pts_s=0))
    ring.close()
    report = exported(segment_paths(tmp_path / "archive"), tmp_path / "out.mp4")
    assert report.gaps == ((START_UTC + 2 * SECOND, START_UTC + 60 * SECOND),)
    assert [(each.start_utc_ns - START_UTC) // SECOND for each in report.spans] == [0, 60]
    stream = probed(tmp_path / "out.mp4")
    assert int(stream["nb_read_frames"]) == 5 * FPS
    assert float(stream["duration"]) == pytest.approx(5.0, abs=0.1)


def test_interrupted_segment_is_exported_and_labelled(recorded: list[Path], tmp_path: Path) -> None:
    whole = recorded[1].read_bytes()
    cut = whole[: whole.rindex(b"DWFT")]
    report = exported([recorded[0], cut, recorded[2]], tmp_path / "out.mp4")
    assert [each.provenance for each in report.spans] == ["signed", "unsigned", "signed"]
    assert "interrupted" in (report.spans[1].reason or "")
    assert int(probed(tmp_path / "out.mp4")["nb_read_frames"]) == 25 * FPS


def test_another_resolution_begins_a_numbered_file(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", files=QuickFiles())
    record(ring, video(2) + video(3, at_s=2, size=(96, 64)))
    ring.close()
    report = exported(segment_paths(tmp_path / "archive"), tmp_path / "out.mp4")
    assert [each.path.name for each in report.files] == ["out.mp4", "out-2.mp4"]
    assert [each.frames for each in report.files] == [2 * FPS, 3 * FPS]
    assert [int(probed(each.path)["width"]) for each in report.files] == [64, 96]


def test_numbered_file_in_the_way_leaves_no_half_export(tmp_path: Path) -> None:
    ring = make_ring(tmp_path / "archive", files=QuickFiles())
    record(ring, video(1) + video(1, at_s=1, size=(96, 64)))
    ring.close()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a-2.mp4").write_text("mine")
    with pytest.raises(Refused, match=r"a-2\.mp4"):
        exported(segment_paths(tmp_path / "archive"), tmp_path / "out" / "a.mp4")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-2.mp4"]


def test_segment_that_holds_no_video_is_refused_not_a_crash(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match="no playable video"):
        exported([b"".join(sealed([b"not a fragment"]))], tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_any_run_of_fragments_behind_the_init_plays(tmp_path: Path) -> None:
    packets = video(5, pts_s=1000)
    muxer = FragmentMuxer(StreamTemplate(packets[0]))
    fragments = [each for packet in packets if (each := muxer.add(packet))]
    last = muxer.finish()
    assert last is not None
    fragments.append(last)
    assert [each.frames for each in fragments] == [FPS] * 5
    (tmp_path / "run.mp4").write_bytes(muxer.init + fragments[2].data + fragments[3].data)
    stream = probed(tmp_path / "run.mp4")
    assert int(stream["nb_read_frames"]) == 2 * FPS
    assert float(stream["start_time"]) == pytest.approx(1002.0)
    assert stream["time_base"] == "1/90000"
