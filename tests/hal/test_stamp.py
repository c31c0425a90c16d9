from __future__ import annotations

import av
import numpy as np
import pytest

from hal.camera import COORDINATE_MAX
from hal.h264_encoder import H264Encoder
from hal.planes import i420_planes
from hal.stamp import STAMP_AREA, Stamp, burn_stamp, read_stamp
from tests.hal.rig import decode, luma

STAMPS = [Stamp(0, 0), Stamp(2**32 - 1, 2**64 - 1), Stamp(1_234_567, 98_765_432_109_876)]


def stamped(
    stamp: Stamp, width: int = 1280, height: int = 720
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    i420 = np.random.default_rng(1).integers(0, 256, (height * 3 // 2, width), np.uint8)
    burn_stamp(i420_planes(i420), stamp)
    return i420


@pytest.mark.parametrize("stamp", STAMPS)
@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (640, 480), (640, 360), (256, 144)])
def test_stamp_is_read_back_at_every_size(stamp: Stamp, size: tuple[int, int]) -> None:
    assert read_stamp(stamped(stamp, *size)[: size[1]]) == stamp


@pytest.mark.parametrize("width", [1280, 640, 480, 320, 256])
def test_stamp_survives_low_bit_rate_h264_and_scaling(width: int) -> None:
    h264 = H264Encoder(width=1280, height=720, fps=30, bitrate=300_000)
    packets = [packet for n, stamp in enumerate(STAMPS) for packet in h264.encode(stamped(stamp), n)]
    for frame, stamp in zip(decode(packets), STAMPS, strict=True):
        scaled = frame.reformat(width=width, height=width * 9 // 16 // 2 * 2)
        assert read_stamp(luma(scaled)) == stamp


def test_no_stamp_is_none_and_not_a_guess() -> None:
    for picture in (
        np.zeros((360, 640), np.uint8),
        np.full((360, 640), 255, np.uint8),
        np.random.default_rng(2).integers(0, 256, (360, 640), np.uint8),
        np.zeros((2, 2), np.uint8),
    ):
        assert read_stamp(picture) is None


def test_stamp_with_one_wrong_square_is_none() -> None:
    i420 = stamped(STAMPS[2], 640, 360)
    i420[50:60, 20:30] = 255 - i420[50:60, 20:30]
    assert read_stamp(i420[:360]) is None


def test_stamp_stays_within_its_area() -> None:
    plain = np.random.default_rng(1).integers(0, 256, (540, 640), np.uint8)
    changed = stamped(STAMPS[2], 640, 360)[:360] != plain[:360]
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert STAMP_AREA[0][0] <= columns[0] * COORDINATE_MAX / 640
    assert (columns[-1] + 1) * COORDINATE_MAX / 640 <= STAMP_AREA[2][0] + 1
    assert STAMP_AREA[0][1] <= rows[0] * COORDINATE_MAX / 360 + 1
    assert (rows[-1] + 1) * COORDINATE_MAX / 360 <= STAMP_AREA[2][1] + 1


def test_decoded_video_frame_is_read_directly() -> None:
    frame = av.VideoFrame.from_ndarray(stamped(STAMPS[2], 640, 360), format="yuv420p")
    assert read_stamp(luma(frame)) == STAMPS[2]
