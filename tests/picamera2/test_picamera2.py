"""What only the real picamera2 can show: how it fails, and that we notice."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hal.camera import CameraError
from hal.detect import best_camera, open_camera
from hal.never_mask import NeverMask
from hal.picamera2_camera import EncoderChoice, Picamera2Camera, open_picamera2
from tests.hal.rig import FPS, LORES, SIZE, Recorder
from tests.picamera2.virtual_camera import VirtualPicamera2, VirtualRig

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.planes import Planes

pytestmark = pytest.mark.picamera2


def camera(create: Callable[[int], Any], encoder: EncoderChoice = EncoderChoice.SOFTWARE) -> Picamera2Camera:
    return Picamera2Camera(0, size=SIZE, fps=FPS, lores=LORES, encoder=encoder, create=create)


def virtual(number: int) -> Any:
    return open_picamera2(number, VirtualPicamera2, unplugged=threading.Event())


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def assert_camera_is_free() -> None:
    again, seen = VirtualRig().camera(), Recorder()
    again.start(seen)
    seen.wait_packets(1)
    again.stop()


def test_best_camera_is_the_camera_module() -> None:
    assert best_camera() == "picamera2:"


def test_camera_number_that_is_not_there_is_refused_with_a_hint() -> None:
    with pytest.raises(CameraError, match="no camera number 7") as refused:
        open_camera("picamera2:7").start(Recorder())
    assert refused.value.hint


def test_camera_that_picamera2_cannot_open_is_refused_in_one_line_and_left_free() -> None:
    # The virtual pipeline has no raw stream, which picamera2 itself insists on.
    with pytest.raises(CameraError, match="picamera2: cannot open camera 0") as refused:
        open_camera("picamera2:0").start(Recorder())
    assert "\n" not in str(refused.value)
    assert_camera_is_free()


def test_camera_in_use_is_refused() -> None:
    one, seen = VirtualRig().camera(), Recorder()
    one.start(seen)
    try:
        with pytest.raises(CameraError, match="cannot open camera 0"):
            VirtualRig().camera().start(Recorder())
        seen.wait_packets(len(seen.packets) + 2)
    finally:
        one.stop()


def test_retrying_a_camera_that_cannot_be_opened_uses_nothing_up() -> None:
    camera = open_camera("picamera2:0")
    before = 0
    for attempt in range(6):
        with pytest.raises(CameraError):
            camera.start(Recorder())
        if attempt == 0:
            before = open_descriptors()
    assert open_descriptors() == before


def test_starting_and_stopping_uses_nothing_up() -> None:
    camera = VirtualRig().camera()
    before = 0
    for attempt in range(5):
        seen = Recorder()
        camera.start(seen)
        seen.wait_packets(2)
        camera.stop()
        if attempt == 1:
            before = open_descriptors()
    assert open_descriptors() == before


def test_size_that_the_camera_has_not_is_refused() -> None:
    other = Picamera2Camera(
        0, size=(1000, 600), fps=FPS, lores=LORES, encoder=EncoderChoice.SOFTWARE, create=virtual
    )
    with pytest.raises(CameraError, match="expected 1000x600"):
        other.start(Recorder())
    assert_camera_is_free()


def test_missing_hardware_encoder_is_refused_and_the_camera_left_free() -> None:
    with pytest.raises(CameraError, match="/dev/video11"):
        camera(virtual, EncoderChoice.HARDWARE).start(Recorder())
    assert_camera_is_free()


def test_encoder_is_chosen_by_what_is_there() -> None:
    chosen, seen = camera(virtual, EncoderChoice.AUTO), Recorder()
    chosen.start(seen)
    chosen.stop()
    assert chosen.info().note == "encoded in software"
    assert chosen.info().name == "Virtual camera"


class BrokenMask(NeverMask):
    """Fails at the third picture."""

    def __init__(self) -> None:
        super().__init__([((0, 0), (1, 0), (0, 1))])
        self.applied = 0

    def apply(self, planes: Planes) -> None:
        self.applied += 1
        if self.applied > 4:
            raise MemoryError("no room for a mask")
        super().apply(planes)


def test_no_picture_leaves_once_masking_fails() -> None:
    broken, seen = camera(virtual), Recorder()
    broken._controls._never = BrokenMask()
    broken.start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    broken.stop()
    assert "could not be masked" in str(seen.errors[0])
    assert len(seen.packets) <= 2
    assert_camera_is_free()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_death_of_picamera2s_own_thread_is_noticed_and_the_camera_released() -> None:
    def with_a_mistake(number: int) -> Any:
        device = virtual(number)
        taken = 0

        def raise_later(_request: Any) -> None:
            nonlocal taken
            taken += 1
            if taken == 5:
                raise ZeroDivisionError

        device.post_callback = raise_later
        return device

    dying, seen = camera(with_a_mistake), Recorder()
    dying.start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the failure")
    dying.stop()
    assert "stalled" in str(seen.errors[0])
    assert_camera_is_free()
