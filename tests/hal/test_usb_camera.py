from __future__ import annotations

import errno
import os
import struct

import pytest

from hal.camera import CameraError
from hal.clock import boot_ns
from hal.exposure import exposed_ns
from hal.usb_camera import UsbCamera, is_usb_capture
from tests.hal.rig import SIZE, Recorder, UsbRig

CAPTURE, METADATA, M2M, DEVICE_CAPS = 0x1, 0x00800000, 0x00008000, 0x80000000


def capability(bus: bytes, of_device: int, of_node: int) -> bytes:
    return struct.pack("=16s32s32s3I12x", b"driver", b"card", bus, 0x60100, of_device, of_node)


@pytest.mark.parametrize(
    ("bus", "of_device", "of_node", "expected"),
    [
        (b"usb-0000:01:00.0-1.2", CAPTURE | METADATA | DEVICE_CAPS, CAPTURE, True),
        (b"usb-0000:01:00.0-1.2", CAPTURE | METADATA | DEVICE_CAPS, METADATA, False),
        (b"usb-3f980000.usb-1.3", CAPTURE, 0, True),
        (b"platform:bcm2835-codec", M2M | DEVICE_CAPS, M2M, False),
        (b"platform:3f801000.csi", CAPTURE | DEVICE_CAPS, CAPTURE, False),
    ],
    ids=["camera", "its metadata", "old kernel", "codec", "ribbon camera"],
)
def test_only_nodes_of_usb_cameras_that_capture_count(
    bus: bytes, of_device: int, of_node: int, *, expected: bool
) -> None:
    assert is_usb_capture(capability(bus, of_device, of_node)) is expected


@pytest.mark.parametrize(
    ("number", "hint"),
    [(errno.ENOENT, "plugged in"), (errno.EACCES, "group `video`"), (errno.EBUSY, "another program")],
)
def test_device_that_does_not_open_is_refused_with_what_to_do(number: int, hint: str) -> None:
    def refuse(_device: str, _options: dict[str, str]) -> None:
        raise OSError(number, os.strerror(number))

    camera = UsbCamera("/dev/video7", open_container=refuse)  # type: ignore[arg-type]  # it never returns
    with pytest.raises(CameraError, match="usb:/dev/video7: cannot open /dev/video7") as refused:
        camera.start(Recorder())
    assert hint in (refused.value.hint or "")


def test_real_opener_refuses_a_node_that_is_not_there() -> None:
    with pytest.raises(CameraError, match="cannot open /dev/doorward-none"):
        UsbCamera("/dev/doorward-none").start(Recorder())


def test_real_opener_refuses_a_node_that_is_no_camera() -> None:
    with pytest.raises(CameraError, match="cannot open /dev/null"):
        UsbCamera("/dev/null").start(Recorder())


def test_camera_without_mjpeg_is_asked_for_raw_pictures(jpegs: list[bytes]) -> None:
    rig = UsbRig(jpegs)

    def open_raw_only(device: str, options: dict[str, str]) -> object:
        container = rig._open(device, options)
        if "input_format" in options:
            container.close()
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return container

    camera = UsbCamera(rig.device, size=SIZE, open_container=open_raw_only)  # type: ignore[arg-type]
    seen = Recorder()
    camera.start(seen)
    camera.stop()
    assert [("input_format" in options) for options in rig.asked] == [True, False]
    assert rig.asked[1]["video_size"] == f"{SIZE[0]}x{SIZE[1]}"


def test_pictures_cut_short_by_the_bus_are_left_out(jpegs: list[bytes]) -> None:
    torn = [jpegs[0], *(jpeg[:200] for jpeg in jpegs[1:4]), *jpegs[4:20]]
    camera, seen = UsbRig(torn).camera(), Recorder()
    camera.start(seen)
    seen.wait_packets(12)
    camera.stop()
    numbers = [frame.stamp.frame_number for frame in seen.frames if frame.stamp]
    assert numbers[0] == 0
    assert {1, 2, 3}.isdisjoint(numbers)


def test_believable_stamp_is_the_moment_of_exposure() -> None:
    now_ns = boot_ns()
    assert exposed_ns(now_ns - 30_000_000) == now_ns - 30_000_000


@pytest.mark.parametrize("stamp_ns", [None, 0, -5, 10**18, 1_700_000_000 * 10**9])
def test_stamp_of_another_clock_is_not_believed(stamp_ns: int | None) -> None:
    before_ns = boot_ns()
    assert before_ns <= exposed_ns(stamp_ns) <= boot_ns()
