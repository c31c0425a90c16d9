"""What `hal.camera` promises, checked on every kind of camera there is."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from hal import annexb
from hal.camera import Camera, CameraError, CameraInfo, Frame, Packet
from hal.clock import boot_ns
from hal.never_mask import rasterise
from hal.stamp import read_stamp
from tests.hal.rig import CAN_VANISH, FPS, LORES, PICTURES, SIZE, Recorder, Rig, decode, luma

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av
    from numpy.typing import NDArray

TICKS_PER_NS = 90_000 / 1e9

# A triangle and a bar in the part of the scene that is nowhere dark, away from the stamp.
TRIANGLE = ((4500, 4500), (7500, 4600), (5000, 9000))
BAR = ((8000, 1000), (9000, 1000), (9000, 3000), (8000, 3000))


@dataclass
class Session:
    """One undisturbed run and everything seen in it; an IDR was asked for after packet ``asked_after``."""

    info: CameraInfo
    seen: Recorder
    started_ns: int
    asked_after: int
    frames: list[av.VideoFrame]


@pytest.fixture(scope="module")
def session(rig: Rig) -> Session:
    camera, seen = rig.camera(), Recorder()
    started_ns = boot_ns()
    camera.start(seen)
    try:
        seen.wait_packets(10)
        asked_after = len(seen.packets)
        camera.request_idr()
        seen.wait_packets(34)
        info = camera.info()
    finally:
        camera.stop()
    return Session(info, seen, started_ns, asked_after, decode(seen.packets))


@pytest.fixture
def camera(rig: Rig) -> Iterator[Camera]:
    camera = rig.camera()
    yield camera
    camera.stop()


def test_first_packet_is_a_key_frame(session: Session) -> None:
    assert session.seen.packets[0].key


def test_key_means_an_idr_behind_its_parameter_sets(session: Session) -> None:
    for packet in session.seen.packets:
        assert packet.key == annexb.is_idr(packet.annexb)
        if packet.key:
            types = [annexb.nal_type(unit) for unit in annexb.nal_units(packet.annexb)]
            assert types.index(annexb.NAL_SPS) < types.index(annexb.NAL_PPS) < types.index(annexb.NAL_IDR)


def test_a_fragment_never_gets_long(session: Session) -> None:
    keys = [packet.pts_90k for packet in session.seen.packets if packet.key]
    keys.append(session.seen.packets[-1].pts_90k)
    assert max(b - a for a, b in pairwise(keys)) <= 2 * 90_000


def test_time_stamps_grow_and_begin_at_nought(session: Session) -> None:
    pts = [packet.pts_90k for packet in session.seen.packets]
    assert pts[0] == 0
    assert all(a < b for a, b in pairwise(pts))


def test_both_clocks_of_a_packet_agree(session: Session) -> None:
    first = session.seen.packets[0]
    for packet in session.seen.packets:
        assert abs(packet.pts_90k - (packet.t_boot_ns - first.t_boot_ns) * TICKS_PER_NS) <= 2


def test_exposure_lies_shortly_before_arrival(session: Session) -> None:
    for packet, came_ns in zip(session.seen.packets, session.seen.came_ns, strict=True):
        assert session.started_ns - 1_000_000_000 <= packet.t_boot_ns <= came_ns
        assert came_ns - packet.t_boot_ns < 1_000_000_000
    for frame in session.seen.frames:
        assert frame.t_boot_ns <= frame.came_ns


def test_pictures_come_at_the_stated_rate(session: Session) -> None:
    times = [packet.t_boot_ns for packet in session.seen.packets]
    rate = (len(times) - 1) * 1e9 / (times[-1] - times[0])
    assert session.info.fps == pytest.approx(FPS, rel=0.05)
    assert 0.5 * FPS < rate < 1.2 * FPS


def test_main_decodes_to_the_stated_size_without_delay(session: Session) -> None:
    assert (session.info.width, session.info.height) == SIZE
    assert len(session.frames) == len(session.seen.packets)
    assert {(frame.width, frame.height) for frame in session.frames} == {SIZE}


def test_main_has_the_stated_codec(session: Session) -> None:
    assert annexb.codec_name(session.seen.packets[0].annexb) == session.info.codec


def test_lores_has_the_stated_even_size(session: Session) -> None:
    assert (session.info.lores_width, session.info.lores_height) == LORES
    assert {frame.i420.shape for frame in session.seen.frames} == {(LORES[1] * 3 // 2, LORES[0])}


def test_main_and_lores_of_one_moment_show_the_same_picture(session: Session) -> None:
    lores = {frame.t_boot_ns: frame.stamp for frame in session.seen.frames}
    for packet, frame in zip(session.seen.packets, session.frames, strict=True):
        stamp = read_stamp(luma(frame))
        assert stamp is not None
        assert lores[packet.t_boot_ns] == stamp


def test_no_picture_comes_twice_and_none_is_swapped(rig: Rig, session: Session) -> None:
    numbers = [
        stamp.frame_number for frame in session.frames if (stamp := read_stamp(luma(frame))) is not None
    ]
    shown = [number for number, _ in groupby(numbers)]
    steps = [(b - a) % PICTURES for a, b in pairwise(shown)]
    assert all(0 < step < PICTURES // 2 for step in steps), numbers
    assert max(len(list(same)) for _, same in groupby(numbers)) <= rig.repeats, numbers


def test_idr_comes_when_asked_for_where_the_camera_says_it_can(session: Session) -> None:
    soon = session.seen.packets[session.asked_after : session.asked_after + 4]
    if session.info.can_force_idr:
        assert any(packet.key for packet in soon)
    else:
        keys = [index for index, packet in enumerate(session.seen.packets) if packet.key]
        assert all(b - a == FPS for a, b in pairwise(keys))


def test_stop_ends_all_calls(camera: Camera) -> None:
    seen = Recorder()
    camera.start(seen)
    seen.wait_packets(2)
    camera.stop()
    calls = seen.calls()
    camera.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("capture")]
    assert seen.calls() == calls
    assert not seen.errors


def test_stop_before_start_is_harmless(camera: Camera) -> None:
    camera.stop()


def test_start_after_stop_begins_afresh(camera: Camera) -> None:
    for _ in range(2):
        seen = Recorder()
        camera.start(seen)
        seen.wait_packets(3)
        camera.stop()
        assert seen.packets[0].key
        assert seen.packets[0].pts_90k == 0
        decode(seen.packets)


def test_second_start_is_refused_and_disturbs_nothing(camera: Camera) -> None:
    seen, other = Recorder(), Recorder()
    camera.start(seen)
    with pytest.raises(CameraError, match="already started"):
        camera.start(other)
    seen.wait_packets(len(seen.packets) + 2)
    assert not other.calls()


class RaisingSink(Recorder):
    def packet(self, packet: Packet) -> None:
        super().packet(packet)
        raise RuntimeError("a sink that breaks its promise")

    def frame(self, frame: Frame) -> None:
        super().frame(frame)
        raise RuntimeError("a sink that breaks its promise")


def test_sink_that_raises_does_not_stop_the_camera(camera: Camera) -> None:
    seen = RaisingSink()
    camera.start(seen)
    seen.wait_packets(5)
    assert len(seen.frames) >= 5


class StoppingSink(Recorder):
    def __init__(self, camera: Camera) -> None:
        super().__init__()
        self._camera = camera

    def packet(self, packet: Packet) -> None:
        super().packet(packet)
        if len(self.packets) == 3:
            self._camera.stop()


def test_sink_may_stop_its_camera(camera: Camera) -> None:
    seen = StoppingSink(camera)
    camera.start(seen)
    seen.wait(lambda seen: len(seen.packets) == 3, "3 packets")
    camera.stop()
    assert len(seen.packets) == 3
    again = Recorder()
    camera.start(again)
    again.wait_packets(1)


def covered(width: int, height: int, margin: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The pixels further inside the never areas than ``margin``, and those further outside."""
    area = rasterise(TRIANGLE, width, height) | rasterise(BAR, width, height)
    inside, near = area.copy(), area.copy()
    for _ in range(margin):
        inside = ~_grown(~inside)
        near = _grown(near)
    return inside, ~near


def _grown(area: NDArray[np.bool_]) -> NDArray[np.bool_]:
    grown = area.copy()
    grown[1:] |= area[:-1]
    grown[:-1] |= area[1:]
    grown[:, 1:] |= area[:, :-1]
    grown[:, :-1] |= area[:, 1:]
    return grown


def assert_flat_inside_only(y_plane: NDArray[np.uint8], *, decoded: bool) -> None:
    height, width = y_plane.shape
    # The encoder smears a sharp edge over the blocks on it; the raw picture has no such excuse.
    inside, outside = covered(width, height, margin=16 if decoded else 2)
    assert inside.sum() > 1000
    assert np.abs(y_plane[inside].astype(int) - 16).max() <= (6 if decoded else 0)
    right = outside[:, width * 2 // 5 :]  # the stamp on the left is black itself
    assert (y_plane[:, width * 2 // 5 :][right] > 40).all()


def test_never_areas_are_flat_in_both_pictures_and_nothing_else_is(camera: Camera) -> None:
    camera.set_never_mask([TRIANGLE, BAR])
    seen = Recorder()
    camera.start(seen)
    seen.wait_packets(8)
    camera.stop()
    for frame in decode(seen.packets):
        assert_flat_inside_only(luma(frame), decoded=True)
    for lores in seen.frames:
        assert_flat_inside_only(lores.i420[: LORES[1]], decoded=False)


def test_never_area_set_while_running_holds_from_the_next_picture(camera: Camera) -> None:
    seen = Recorder()
    camera.start(seen)
    seen.wait_packets(5)
    camera.set_never_mask([TRIANGLE, BAR])
    set_ns = boot_ns()
    seen.wait(lambda seen: seen.packets[-1].t_boot_ns > set_ns + 200_000_000, "pictures after the mask")
    camera.stop()
    masked = [
        frame
        for packet, frame in zip(seen.packets, decode(seen.packets), strict=True)
        if packet.t_boot_ns > set_ns
    ]
    assert masked
    for frame in masked:
        assert_flat_inside_only(luma(frame), decoded=True)
    assert any(frame.t_boot_ns > set_ns for frame in seen.frames)
    for lores in seen.frames:
        if lores.t_boot_ns > set_ns:
            assert_flat_inside_only(lores.i420[: LORES[1]], decoded=False)


def test_malformed_never_area_is_refused_and_the_old_ones_stay(camera: Camera) -> None:
    camera.set_never_mask([TRIANGLE, BAR])
    for malformed in (((0, 0), (1, 1)), ((0, 0), (10_001, 0), (0, 5))):
        with pytest.raises(CameraError, match="never area"):
            camera.set_never_mask([malformed])
    seen = Recorder()
    camera.start(seen)
    seen.wait_packets(1)
    assert_flat_inside_only(seen.frames[0].i420[: LORES[1]], decoded=False)


@pytest.mark.parametrize("rig", CAN_VANISH, indirect=True)
def test_camera_that_goes_away_fails_once_and_cannot_be_started(rig: Rig, camera: Camera) -> None:
    seen = Recorder()
    camera.start(seen)
    seen.wait_packets(3)
    rig.unplug()
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    calls = seen.calls()
    assert len(seen.errors) == 1
    assert "\n" not in str(seen.errors[0])
    camera.stop()
    assert seen.calls() == calls
    with pytest.raises(CameraError):
        camera.start(Recorder())
