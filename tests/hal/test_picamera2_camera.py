"""The parts of the picamera2 camera that are ours alone; the rest needs the real one (tests/picamera2)."""

from __future__ import annotations

from dataclasses import dataclass

from hal import annexb
from hal.feed import Feed
from hal.picamera2_camera import _Run
from hal.picture_path import Controls
from tests.hal.rig import Recorder

HEADERS = bytes.fromhex("000000016742c01f0000000168ce3c80")
IDR = bytes.fromhex("0000000165b80004")


@dataclass
class Encoder:
    """Says when its first picture was taken, as every encoder of picamera2 does."""

    firsttimestamp: int = 5_000_000  # us


def run(seen: Recorder, exposed: dict[int, int]) -> _Run:
    running = _Run(Feed(seen, "test camera"), Controls(), Encoder(), {}, "picamera2:0")
    running._exposed.update(exposed)
    return running


def test_time_stamp_of_the_encoder_finds_the_moment_of_exposure() -> None:
    seen = Recorder()
    running = run(seen, {5_000_000: 70_000_000_000, 5_033_333: 70_033_333_000})
    running.on_encoded(HEADERS + IDR, key=True, timestamp_us=0)
    running.on_encoded(IDR, key=False, timestamp_us=33_333)
    assert [packet.t_boot_ns for packet in seen.packets] == [70_000_000_000, 70_033_333_000]
    assert [packet.pts_90k for packet in seen.packets] == [0, 2999]


def test_key_frame_that_lost_its_parameter_sets_gets_them_back() -> None:
    seen = Recorder()
    running = run(seen, {5_000_000: 10**9, 6_000_000: 2 * 10**9})
    running.on_encoded(HEADERS + IDR, key=True, timestamp_us=0)
    running.on_encoded(IDR, key=True, timestamp_us=1_000_000)
    assert annexb.parameter_sets(seen.packets[1].annexb) == HEADERS


def test_picture_that_was_never_offered_to_the_mask_does_not_leave() -> None:
    seen = Recorder()
    running = run(seen, {5_000_000: 10**9, 5_033_333: 2 * 10**9})
    running.on_encoded(HEADERS + IDR, key=True, timestamp_us=0)
    running.on_encoded(IDR, key=False, timestamp_us=20_000)
    running.on_encoded(IDR, key=False, timestamp_us=33_333)
    assert len(seen.packets) == 1
    assert "went by its never areas" in str(seen.errors[0])


def test_request_that_makes_no_sense_ends_the_run_and_raises_nothing() -> None:
    seen = Recorder()
    running = run(seen, {5_000_000: 10**9})
    running.on_encoded(HEADERS + IDR, key=True, timestamp_us=0)
    running.on_request(object())
    assert "could not be masked" in str(seen.errors[0])
