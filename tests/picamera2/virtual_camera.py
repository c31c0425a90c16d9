"""The real picamera2 on libcamera's virtual pipeline, which plays the synthetic scene.

What the virtual pipeline lacks is made up for here, and only here: it has no raw stream, writes NV12 plane by
plane, and completes a request the moment it is queued.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any

import libcamera  # type: ignore[import-not-found]
from picamera2 import Picamera2  # type: ignore[import-not-found]
from picamera2.allocators.dmaallocator import DmaAllocator  # type: ignore[import-not-found]

from hal.picamera2_camera import EncoderChoice, Picamera2Camera, open_picamera2
from tests.hal.rig import FPS, LORES, SIZE

if TYPE_CHECKING:
    from hal.camera import Camera


class TwoPlaneAllocator(DmaAllocator):  # type: ignore[misc]
    """Gives each NV12 buffer its two planes; picamera2 hands each over as one, which Pi pipelines take."""

    mapped_buffers: dict[Any, Any]

    def allocate(self, libcamera_config: Any, use_case: Any) -> None:
        super().allocate(libcamera_config, use_case)
        whole, self.mapped_buffers = self.mapped_buffers, {}
        for stream_config in libcamera_config:
            luma_bytes = stream_config.stride * stream_config.size.height
            split = []
            for buffer in self.frame_buffers[stream_config.stream]:
                planes = []
                for offset, length in ((0, luma_bytes), (luma_bytes, stream_config.frame_size - luma_bytes)):
                    plane = libcamera.FrameBuffer.Plane()
                    plane.fd, plane.offset, plane.length = buffer.planes[0].fd, offset, length
                    planes.append(plane)
                two_planes = libcamera.FrameBuffer(planes)
                # libcamera may have duplicated the descriptor; picamera2 finds its memory by it.
                self.libcamera_fds.append(two_planes.planes[0].fd)
                self.mapped_buffers_used.setdefault(two_planes.planes[0].fd, False)
                self.mapped_buffers[two_planes] = whole[buffer]
                split.append(two_planes)
            self.frame_buffers[stream_config.stream] = split


class PacedCamera:
    """A libcamera.Camera that queues one request every 1/fps s, and none while it is unplugged.

    Unpaced, time stamps would lie microseconds apart.
    """

    def __init__(self, camera: Any, fps: float, unplugged: threading.Event) -> None:
        self._camera, self._interval_s, self._unplugged = camera, 1 / fps, unplugged
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._pump = threading.Thread()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def __eq__(self, other: object) -> bool:
        return bool(self._camera == other)

    def __hash__(self) -> int:
        return hash(self._camera)

    def start(self, *controls: Any) -> None:
        self._camera.start(*controls)
        self._stopping.clear()
        self._pump = threading.Thread(target=self._run, name="paced camera", daemon=True)
        self._pump.start()

    def stop(self) -> None:
        self._stopping.set()
        self._pump.join()
        while not self._waiting.empty():
            self._waiting.get()
        self._camera.stop()

    def queue_request(self, request: Any) -> int:
        self._waiting.put(request)
        return 0

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stopping.is_set():
            try:
                request = self._waiting.get(timeout=0.05)
            except queue.Empty:
                continue
            due_s = max(due_s + self._interval_s, time.monotonic())
            self._stopping.wait(due_s - time.monotonic())
            while self._unplugged.is_set() and not self._stopping.is_set():
                self._stopping.wait(0.05)
            if not self._stopping.is_set():
                self._camera.queue_request(request)


class VirtualPicamera2(Picamera2):  # type: ignore[misc]
    """picamera2 on the virtual pipeline."""

    camera: Any

    def __init__(self, number: int, *, unplugged: threading.Event) -> None:
        self._unplugged = unplugged
        super().__init__(number, allocator=TwoPlaneAllocator())

    def _initialize_camera(self) -> None:
        super()._initialize_camera()
        self.camera = PacedCamera(self.camera, FPS, self._unplugged)

    def _get_raw_modes(self) -> list[dict[str, Any]]:
        formats = self.camera.generate_configuration([libcamera.StreamRole.VideoRecording]).at(0).formats
        return [
            {"format": str(pixel_format), "size": (size.width, size.height)}
            for pixel_format in formats.pixel_formats
            for size in formats.sizes(pixel_format)
        ]


class VirtualRig:
    """Unplugged, it delivers nothing any more, as a camera with a loose ribbon cable."""

    kind = "picamera2"
    repeats = 4  # the virtual pipeline's own doing

    def __init__(self) -> None:
        self._unplugged = threading.Event()

    def camera(self) -> Camera:
        return Picamera2Camera(
            0,
            size=SIZE,
            fps=FPS,
            lores=LORES,
            encoder=EncoderChoice.SOFTWARE,
            create=lambda number: open_picamera2(number, VirtualPicamera2, unplugged=self._unplugged),
        )

    def unplug(self) -> None:
        self._unplugged.set()
