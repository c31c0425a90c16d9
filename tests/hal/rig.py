"""One rig per kind of camera: all look at the same synthetic scene, whatever way its pictures take."""

from __future__ import annotations

import errno
import io
import os
import threading
import time
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import av
import numpy as np
import pytest

from hal.clock import boot_ns
from hal.detect import open_camera
from hal.stamp import Stamp, read_stamp
from hal.synthetic_camera import SyntheticScene
from hal.usb_camera import UsbCamera

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _pytest.mark.structures import ParameterSet
    from av.container import InputContainer
    from numpy.typing import NDArray

    from hal.camera import Camera, CameraError, Frame, Packet

REAL_PICAMERA2 = "DOORWARD_TEST_PICAMERA2" in os.environ
"""Set by tests/picamera2/run.sh, where the real picamera2 is installed."""

CAN_VANISH: list[str | ParameterSet] = ["file-passthrough", "file-reencode", "usb"]
if REAL_PICAMERA2:
    CAN_VANISH.append(pytest.param("picamera2", marks=pytest.mark.picamera2))
KINDS = ["synthetic", *CAN_VANISH]

SIZE = (640, 360)
LORES = (320, 180)
FPS = 30
PICTURES = 30  # in a recorded scene: a second, so that tests see it begin again

_DEADLINE_S = 20.0


@dataclass
class Seen:
    """A frame that was copied, and when it came."""

    i420: NDArray[np.uint8]
    t_boot_ns: int
    came_ns: int

    @property
    def stamp(self) -> Stamp | None:
        return read_stamp(self.i420[: self.i420.shape[0] * 2 // 3])


@dataclass
class Recorder:
    """A sink that keeps everything and lets a test wait for it."""

    packets: list[Packet] = field(default_factory=list)
    frames: list[Seen] = field(default_factory=list)
    errors: list[CameraError] = field(default_factory=list)
    came_ns: list[int] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def packet(self, packet: Packet) -> None:
        with self.changed:
            self.packets.append(packet)
            self.came_ns.append(boot_ns())
            self.changed.notify_all()

    def frame(self, frame: Frame) -> None:
        with self.changed:
            assert frame.i420.shape == (frame.height * 3 // 2, frame.width)
            self.frames.append(Seen(frame.i420.copy(), frame.t_boot_ns, boot_ns()))
            self.changed.notify_all()

    def failed(self, error: CameraError) -> None:
        with self.changed:
            self.errors.append(error)
            self.changed.notify_all()

    def calls(self) -> int:
        return len(self.packets) + len(self.frames) + len(self.errors)

    def wait(self, condition: Callable[[Recorder], bool], what: str) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), _DEADLINE_S):
                raise AssertionError(
                    f"{what}: not within {_DEADLINE_S:.0f} s "
                    f"({len(self.packets)} packets, {len(self.frames)} frames, {self.errors})"
                )

    def wait_packets(self, count: int) -> None:
        self.wait(lambda seen: len(seen.packets) >= count or bool(seen.errors), f"{count} packets")
        assert not self.errors, self.errors


def decode(packets: list[Packet]) -> list[av.VideoFrame]:
    """Decode access units one by one; each must give its picture at once."""
    decoder = av.VideoCodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = []
    for packet in packets:
        got = decoder.decode(av.Packet(packet.annexb))
        assert len(got) == 1, f"an access unit gave {len(got)} pictures"
        frames += got
    return frames


def luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return np.asarray(frame.to_ndarray(format="yuv420p")[: frame.height], dtype=np.uint8)


def scene_pictures(count: int) -> Iterator[NDArray[np.uint8]]:
    scene = SyntheticScene(*SIZE, FPS)
    return (scene.draw(number, number * 1_000_000_000 // FPS) for number in range(count))


def write_clip(path: Path, codec: str, *, count: int, options: dict[str, str] | None = None) -> Path:
    """Write the scene as a video file; the ending chooses the container."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options or {})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 4_000_000
        for number, picture in enumerate(scene_pictures(count)):
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame = frame.reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


BASELINE = {"preset": "ultrafast", "profile": "baseline", "g": "30", "x264-params": "scenecut=0"}


class Rig(Protocol):
    """A camera to test and what can be done to it from outside."""

    kind: str
    repeats: int  # how many pictures in a row the source may show of one moment of the scene

    def camera(self) -> Camera: ...

    def unplug(self) -> None: ...


class SyntheticRig:
    """Cannot be unplugged."""

    kind = "synthetic"
    repeats = 1

    def camera(self) -> Camera:
        return open_camera(f"synthetic:?size={SIZE[0]}x{SIZE[1]}&fps={FPS}", lores=LORES)

    def unplug(self) -> None:
        raise AssertionError("there is nothing to unplug")


class FileRig:
    """A file of its own, so that it can vanish."""

    repeats = 1

    def __init__(self, kind: str, clip: Path, folder: Path) -> None:
        self.kind = kind
        self._path = folder / f"{kind}{clip.suffix}"
        self._path.write_bytes(clip.read_bytes())

    def camera(self) -> Camera:
        return open_camera(f"file:{self._path}", lores=LORES)

    def unplug(self) -> None:
        self._path.unlink()


class MjpegDevice(io.RawIOBase):
    """What a USB camera's node gives: one JPEG after the other in real time, until it is unplugged."""

    def __init__(self, jpegs: list[bytes], unplugged: threading.Event) -> None:
        super().__init__()
        self._jpegs, self._unplugged = jpegs, unplugged
        self._started_s: float | None = None
        self._number, self._rest = 0, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._rest:
            self._started_s = self._started_s or time.monotonic()
            due_s = self._started_s + self._number / FPS
            if self._unplugged.wait(max(0.0, due_s - time.monotonic())):
                raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
            self._rest = self._jpegs[self._number % len(self._jpegs)]
            self._number += 1
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


class UsbRig:
    kind = "usb"
    repeats = 1
    device = "/dev/video0"

    def __init__(self, jpegs: list[bytes]) -> None:
        self._jpegs = jpegs
        self._unplugged = threading.Event()
        self.asked: list[dict[str, str]] = []

    def camera(self) -> Camera:
        return UsbCamera(self.device, size=SIZE, fps=FPS, lores=LORES, open_container=self._open)

    def unplug(self) -> None:
        self._unplugged.set()

    def _open(self, device: str, options: dict[str, str]) -> InputContainer:
        assert device == self.device
        self.asked.append(options)
        if self._unplugged.is_set():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        # No analysis of the stream's length and rate: it would swallow seconds of pictures.
        return av.open(
            MjpegDevice(self._jpegs, self._unplugged),
            "r",
            format="mjpeg",
            options={"framerate": str(FPS), "probesize": "32", "analyzeduration": "0"},
        )


def scene_jpegs(count: int) -> list[bytes]:
    """The scene as a list of JPEGs."""
    context = av.VideoCodecContext.create("mjpeg", "w")
    context.width, context.height = SIZE
    context.pix_fmt = "yuvj420p"
    context.time_base = Fraction(1, FPS)
    context.options = {"qmin": "2", "qmax": "4"}
    jpegs = []
    for picture in scene_pictures(count):
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p").reformat(format="yuvj420p")
        jpegs += [bytes(packet) for packet in context.encode(frame)]
    return jpegs
