from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hal import annexb
from hal.camera import CameraError
from hal.h264_encoder import H264Encoder, ticks
from tests.hal.rig import decode, scene_pictures

if TYPE_CHECKING:
    from hal.camera import Packet

NS = 1_000_000_000
START_NS = 5_000 * NS


def encoder(
    *,
    width: int = 640,
    height: int = 360,
    bitrate: int = 800_000,
    max_bitrate: int | None = None,
    epoch_ns: int | None = None,
) -> H264Encoder:
    return H264Encoder(
        width=width, height=height, fps=30, bitrate=bitrate, max_bitrate=max_bitrate, epoch_ns=epoch_ns
    )


def encode_noise(h264: H264Encoder, numbers: range) -> list[Packet]:
    """Pictures that need all the bits they can get."""
    noise = np.random.default_rng(7)
    packets = []
    for number in numbers:
        picture = noise.integers(60, 200, (540, 640), np.uint8)
        picture[360:] = 128
        packets += h264.encode(picture, START_NS + number * NS // 30)
    return packets


def bits_per_second(packets: list[Packet]) -> float:
    return sum(len(packet.annexb) for packet in packets) * 8 * 30 / len(packets)


def test_each_picture_gives_its_access_unit_at_once() -> None:
    h264 = encoder()
    for number, picture in enumerate(scene_pictures(5)):
        t_boot_ns = START_NS + number * NS // 30
        (packet,) = h264.encode(picture, t_boot_ns)
        assert packet.t_boot_ns == t_boot_ns
        assert packet.pts_90k == ticks(number * NS // 30)
    assert h264.close() == []


def test_stream_is_constrained_baseline_without_reordering() -> None:
    h264 = encoder()
    packets = [
        packet for number, picture in enumerate(scene_pictures(8)) for packet in h264.encode(picture, number)
    ]
    name = annexb.codec_name(packets[0].annexb)
    assert name is not None
    assert name.startswith("avc1.42c0")
    decode(packets)


def test_idr_comes_with_the_picture_it_was_asked_for() -> None:
    h264 = encoder()
    keys = [
        packet.key
        for number, picture in enumerate(scene_pictures(12))
        for packet in h264.encode(picture, START_NS + number * NS // 30, force_idr=number in {5, 6})
    ]
    assert [number for number, key in enumerate(keys) if key] == [0, 5, 6]


@pytest.mark.parametrize("fps", [30, 7])
def test_gop_is_a_second_whatever_rate_the_camera_really_has(fps: int) -> None:
    h264 = encoder()
    picture = next(scene_pictures(1))
    packets = [packet for n in range(fps * 3) for packet in h264.encode(picture, START_NS + n * NS // fps)]
    keys = [packet.t_boot_ns for packet in packets if packet.key]
    assert len(keys) == 3
    assert all(abs(b - a - NS) < NS // fps for a, b in pairwise(keys))


def test_scene_cut_causes_no_idr() -> None:
    h264 = encoder()
    pictures = [np.full((540, 640), value, np.uint8) for value in (30, 30, 220, 220)]
    packets = [packet for n, picture in enumerate(pictures) for packet in h264.encode(picture, n * NS // 30)]
    assert [packet.key for packet in packets] == [True, False, False, False]


def test_time_stamps_grow_when_the_clock_stands_still_or_goes_back() -> None:
    h264 = encoder()
    times = [START_NS, START_NS, START_NS - NS, START_NS + NS]
    pts = [packet.pts_90k for t in times for packet in h264.encode(next(scene_pictures(1)), t)]
    assert pts == [0, 1, 2, 90_000]


def test_following_encoder_goes_on_in_the_same_time() -> None:
    h264 = encoder(epoch_ns=START_NS)
    (packet,) = h264.encode(next(scene_pictures(1)), START_NS + 2 * NS)
    assert packet.pts_90k == 180_000
    assert packet.key


def test_bit_rate_follows_down_and_up_to_the_ceiling_without_an_idr() -> None:
    h264 = encoder(bitrate=1_000_000, max_bitrate=2_000_000)
    encode_noise(h264, range(30))
    h264.set_bitrate(600_000)
    low = encode_noise(h264, range(30, 90))
    h264.set_bitrate(9_000_000)
    high = encode_noise(h264, range(90, 150))
    assert bits_per_second(low[30:]) < 800_000
    assert 1_400_000 < bits_per_second(high[30:]) < 2_400_000
    for packets in (low, high):
        keys = [n for n, packet in enumerate(packets) if packet.key]
        assert all(b - a == 30 for a, b in pairwise(keys))


def test_still_scene_costs_a_fraction_of_the_bit_rate() -> None:
    h264 = encoder(bitrate=4_000_000)
    picture = next(scene_pictures(1))
    packets = [packet for n in range(60) for packet in h264.encode(picture, n * NS // 30)]
    assert bits_per_second(packets) < 1_000_000


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((360, 640), np.uint8)[:358],
        np.zeros((540, 638), np.uint8),
        np.zeros((270, 320), np.uint8),
        np.zeros((360, 640, 3), np.uint8),
    ],
    ids=["cut short", "narrow", "half the size", "rgb"],
)
def test_picture_of_another_shape_is_refused(
    picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
) -> None:
    with pytest.raises(CameraError, match="h264 encoder"):
        encoder().encode(picture, 0)


@pytest.mark.parametrize("size", [(641, 360), (640, 361), (0, 0), (-2, 2)])
def test_size_that_cannot_be_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(CameraError, match="expected even numbers"):
        encoder(width=size[0], height=size[1])
