"""Nothing stops recording: no clock in the year 2300, no ledger that is gone, no camera that flaps."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent import config
from agent.archive.intake import GapReason
from agent.archive.recorder import Gap
from agent.archive.writing import ClosedSegment, Origin
from agent.cameras import CameraStation
from agent.consent import times
from agent.consent.view import Redaction, View
from agent.core import SCHEMA_FILE, _check_schema, kept_going
from agent.errors import IntegrityError, Refused, StorageError
from agent.ledger.entry import EntryKind
from agent.permit import Audience, Permit
from agent.recording import MOST_IN_ONE, Recording
from agent.screens import Screens
from hal.camera import CameraInfo
from hal.clock import boot_ns
from hal.indicator import IndicatorState, SimulatedIndicator
from tests.archive.recording import (
    DEVICE,
    DEVICE_ID,
    QuickFiles,
    Recorded,
    make_ring,
    recorder,
    video,
)
from tests.attack.live import answers, running, spawn, until
from tests.ledger.disk import Fault
from tests.support.device import Box
from tests.support.household import BEN, STREET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from hal.camera import Polygon, Sink


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
    recording = Recording(loaded, box.home.keys, box.keeper, box.time, commit_s=0.1)
    yield recording
    recording.stop()


def closed(number: int) -> ClosedSegment:
    return ClosedSegment(number, f"{number:032x}", 0, None, 10**10, 1000, f"sha256:{number:064x}")


def committed(box: Box) -> list[int]:
    entries = box.entries(EntryKind.ARCHIVE)
    segments: list[list[Any]] = [entry.body["segments"] for entry in entries]  # type: ignore[misc]
    assert all(len(each) <= MOST_IN_ONE for each in segments)
    return sorted(segment["sequence"] for each in segments for segment in each)


async def until_committed(box: Box, count: int) -> None:
    async with asyncio.timeout(10):
        while len(committed(box)) < count:
            await asyncio.sleep(0.02)


async def flap(recording: Recording) -> None:
    while True:
        recording._note_gap("front", Gap(0, 10**9, GapReason.CAMERA, 1))
        await asyncio.sleep(0.03)


async def test_camera_that_fails_all_the_time_puts_off_no_commitment(box: Box, recording: Recording) -> None:
    for number in range(3000):  # more than one entry holds
        recording._note_closed("front", closed(number))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(recording.run()), group.create_task(flap(recording))]
        await until_committed(box, 3000)
        for task in tasks:
            task.cancel()
    assert committed(box) == list(range(3000))


async def test_segments_that_the_ledger_did_not_take_are_committed_to_later(
    box: Box, recording: Recording
) -> None:
    recording._note_closed("front", closed(1))
    box.disk.plan[len(box.disk.calls)] = Fault.FULL
    await recording.commit()
    assert committed(box) == []
    recording._note_closed("front", closed(2))
    await recording.commit()
    assert committed(box) == [1, 2]


@pytest.mark.parametrize("left", [b"", b"\n"])
def test_schema_file_that_a_power_cut_left_empty_is_written_again(tmp_path: Path, left: bytes) -> None:
    (tmp_path / SCHEMA_FILE).write_bytes(left)
    for _ in range(2):
        _check_schema(tmp_path)
    assert (tmp_path / SCHEMA_FILE).read_bytes() == b"0\n"


@pytest.mark.parametrize("found", [b"1\n", b"\xff\n", b"00"])
def test_schema_file_of_another_version_is_never_guessed_at(tmp_path: Path, found: bytes) -> None:
    (tmp_path / SCHEMA_FILE).write_bytes(found)
    with pytest.raises(IntegrityError, match="another version"):
        _check_schema(tmp_path)
    assert (tmp_path / SCHEMA_FILE).read_bytes() == found


def test_device_whose_clock_an_owner_sets_to_2300_and_whose_ledger_is_gone_records(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        live.pair()
        live.act(BEN.daily(), signed_at_ns=times.parse("2300-01-01T00:00:00Z", "when"))
        records = live.records()
        until("recording", lambda: live.records() > records)
        live.process.terminate()
        assert live.process.wait(10) == 0
        entries = live.directory / "state" / "ledger" / "entries"
        shutil.copy(entries, tmp_path / "kept")
        entries.unlink()
        entries.mkdir()
        live.process = spawn(live.directory, tmp_path / "config.yaml", live.log)
        until("core", lambda: answers(live.run / "core.sock"))
        until("recording", lambda: live.records() > 0)
        assert not live.status()["ledger"]["durable"]
        with pytest.raises(StorageError):
            live.act(BEN.daily())


class SlowCamera:
    """A camera that takes its time to start."""

    def __init__(self) -> None:
        self.starting, self.go = threading.Event(), threading.Event()
        self.masks: list[tuple[Polygon, ...]] = []
        self.started = threading.Event()

    def start(self, _sink: Sink) -> None:
        self.starting.set()
        assert self.go.wait(10)

    def stop(self) -> None:
        """Nothing to stop."""

    def request_idr(self) -> None:
        """It never delivers."""

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        self.masks.append(tuple(polygons))

    def info(self) -> CameraInfo:
        self.started.set()
        return CameraInfo("", "", 320, 240, 10, 320, 240, "avc1.42c01f", True, True)


async def test_never_area_adopted_while_the_camera_starts_holds_and_one_that_stays_costs_no_key_frame(
    recording: Recording,
) -> None:
    taker = recording._cameras["front"].station.recorder
    camera = SlowCamera()
    station = CameraStation("front", "slow:", lambda: camera, taker, boot_ns=boot_ns)
    station.start()
    assert camera.starting.wait(10)
    station.set_never_mask([STREET])
    camera.go.set()
    assert camera.started.wait(10)
    assert camera.masks[-1] == (STREET,)
    given = len(camera.masks)
    station.set_never_mask([STREET])
    assert len(camera.masks) == given
    station.set_never_mask([])
    assert camera.masks[given:] == [()]
    station.stop()


async def test_part_of_core_that_fails_ends_sharing_and_is_started_again() -> None:
    runs: list[str] = []

    async def part() -> None:
        runs.append("began")
        if len(runs) < 3:
            raise ValueError("a mistake")
        await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(kept_going(part, lambda: runs.append("ended")))
        async with asyncio.timeout(10):
            while len(runs) < 3:
                await asyncio.sleep(0.02)
        task.cancel()
    assert runs == ["began", "ended", "began"]


def test_error_that_nobody_expected_costs_the_writer_one_group_of_pictures(tmp_path: Path) -> None:
    told = Recorded([], [], [])
    ring = make_ring(tmp_path / "ring", files=QuickFiles())
    writer = recorder(ring, told)
    asked = iter([ZeroDivisionError, OverflowError])

    def wall(_t_boot_ns: int) -> None:
        if (error := next(asked, None)) is not None:
            raise error

    writer._origin = Origin("front", DEVICE_ID, DEVICE.sign, wall)
    writer.start()
    for packet in video(30):
        writer.packet(packet)
    assert writer.stop(30)
    assert sum(each.duration_ns for each in told.closed) >= 24 * 10**9
    assert told.gaps
    ring.close()


async def test_camera_that_throws_what_it_should_not_is_opened_again(recording: Recording) -> None:
    opened: list[SlowCamera] = []

    def open_camera() -> SlowCamera:
        camera = SlowCamera()
        opened.append(camera)
        if len(opened) == 1:
            raise ZeroDivisionError
        camera.go.set()
        return camera

    taker = recording._cameras["front"].station.recorder
    station = CameraStation("front", "odd:", open_camera, taker, boot_ns=boot_ns)
    station.start()
    until("the second try", lambda: len(opened) == 2 and opened[1].started.is_set())
    station.stop()


def test_no_core_dump_of_core_is_ever_written(tmp_path: Path) -> None:
    with running(tmp_path) as live:
        limits = (Path("/proc") / str(live.process.pid) / "limits").read_text().splitlines()
        (found,) = (line.split()[4:6] for line in limits if line.startswith("Max core file size"))
        assert found == ["1", "1"]


def test_light_goes_out_when_a_viewing_could_not_begin(tmp_path: Path) -> None:
    async def shown() -> IndicatorState:
        station: Any = CameraStation("front", "synthetic:", None, None, boot_ns=lambda: 0)  # type: ignore[arg-type]
        station._info = CameraInfo("", "", 320, 240, 10, 320, 240, "avc1.42c01f", True, True)
        light = SimulatedIndicator()
        screens = Screens(
            {"front": station},
            light,
            live=lambda _: True,
            wall_text=str,
            send=lambda _: None,
            failed=lambda _: None,
        )
        view = View((STREET,), frozenset({Redaction.FACES}), 240, 10)
        with pytest.raises(Refused):
            screens.show(Permit(1, "s", "front", view, "c", Audience.AGENCY, 2**60))
        screens.hide(1)
        return light.state

    assert asyncio.run(shown()) is IndicatorState.DARK
