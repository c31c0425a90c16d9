"""Keeping one camera going: open, feed, notice that it is gone, try again for ever.

Its thread owns the camera. Packets go to the recorder, raw frames to whoever watches now (share pipelines);
both happen on the camera's own thread and return at once. A camera that fails or stalls is stopped and
opened again with growing pauses, and `status` says so in words a person can act on.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.archive.intake import GapReason
from hal.camera import CameraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.archive.recorder import Recorder
    from hal.camera import Camera, CameraInfo, Frame, Packet, Polygon

STALL_NS: Final = 10_000_000_000
"""A camera that has not delivered a packet for so long has stalled."""

CHECK_S: Final = 1.0
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """One camera as `doorward status` shows it."""

    name: str
    uri: str
    delivering: bool
    info: CameraInfo | None
    problem: str | None
    hint: str | None
    attempts: int


class CameraStation:
    """One camera, its recorder, and those who watch. `watch` and `unwatch` from any thread."""

    def __init__(
        self,
        name: str,
        uri: str,
        open_camera: Callable[[], Camera],
        recorder: Recorder,
        *,
        boot_ns: Callable[[], int],
    ) -> None:
        self.name = name
        self.recorder = recorder
        self._uri = uri
        self._open_camera = open_camera
        self._boot_ns = boot_ns
        self._watchers: tuple[Callable[[Frame], None], ...] = ()
        self._watching = threading.Lock()
        self._never: tuple[Polygon, ...] = ()
        self._camera: Camera | None = None
        self._info: CameraInfo | None = None
        self._last_packet_ns: int | None = None
        self._error: CameraError | None = None
        self._attempts = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"camera-{name}", daemon=True)

    def start(self) -> None:
        """Start recording and keep the camera going until `stop`."""
        self.recorder.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop the camera, close the segment. Harmless when never started."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        self.recorder.stop()

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """What must never be seen, from now on and after every restart of the camera."""
        if self._never == tuple(polygons):
            return  # each change costs a key frame
        self._never = tuple(polygons)
        camera = self._camera
        if camera is not None:
            camera.set_never_mask(self._never)

    def watch(self, take: Callable[[Frame], None]) -> None:
        """Hand every raw frame to ``take`` as well; it copies what it keeps and returns at once."""
        with self._watching:
            self._watchers = (*self._watchers, take)

    def unwatch(self, take: Callable[[Frame], None]) -> None:
        """No longer hand frames to ``take``. Harmless if it did not watch."""
        with self._watching:
            self._watchers = tuple(each for each in self._watchers if each != take)

    def request_idr(self) -> None:
        """Ask the camera for a key frame."""
        camera = self._camera
        if camera is not None:
            camera.request_idr()

    @property
    def delivering(self) -> bool:
        """Whether pictures are coming in."""
        last = self._last_packet_ns
        return last is not None and self._boot_ns() - last < STALL_NS

    @property
    def info(self) -> CameraInfo | None:
        """What the camera is, once it has been opened."""
        return self._info

    def status(self) -> CameraStatus:
        """A snapshot for people."""
        error = self._error
        return CameraStatus(
            name=self.name,
            uri=self._uri,
            delivering=self.delivering,
            info=self._info,
            problem=str(error) if error else None,
            hint=error.hint if error else None,
            attempts=self._attempts,
        )

    # hal.camera.Sink, on the camera's thread

    def packet(self, packet: Packet) -> None:
        """Take one encoded access unit of ``main``."""
        self._last_packet_ns = self._boot_ns()
        self._error = None
        self._attempts = 0
        self.recorder.packet(packet)

    def frame(self, frame: Frame) -> None:
        """Take one raw ``lores`` picture."""
        for take in self._watchers:
            take(frame)

    def failed(self, error: CameraError) -> None:
        """The camera has stopped by itself."""
        self._error = error
        self._wake.set()

    # The station's own thread

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping:
            if self._serve_at_all():
                pause_s = FIRST_PAUSE_S
            self.recorder.interrupt(GapReason.CAMERA, self._boot_ns())
            if not self._stopping:
                self._wake.wait(pause_s)
                self._wake.clear()
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    def _serve_at_all(self) -> bool:
        try:
            return self._serve()
        except Exception:
            # A mistake of ours, or what a driver throws. The camera is opened again, as after any other.
            log.exception("camera %s", self.name)
            self._error = CameraError(f"camera {self.name}: an error nobody expected; see the log")
            return False

    def _serve(self) -> bool:
        """Run the camera until it fails, stalls or `stop`; whether it ever delivered."""
        self._last_packet_ns = None
        try:
            camera = self._open_camera()
            camera.set_never_mask(self._never)
            camera.start(self)
        except CameraError as error:
            self._error = error
            self._attempts += 1
            return False
        self._camera = camera
        try:
            camera.set_never_mask(self._never)  # again: it may have changed while the camera was starting
            self._info = camera.info()
            self._wake.clear()
            self._watch_over()
        except CameraError as error:
            self._error = error
        finally:
            self._camera = None
            camera.stop()
        delivered = self._last_packet_ns is not None
        self._last_packet_ns = None
        self._attempts += 1
        return delivered

    def _watch_over(self) -> None:
        began_ns = self._boot_ns()
        while not self._stopping and not self._wake.wait(CHECK_S):
            last = self._last_packet_ns or began_ns
            if self._boot_ns() - last >= STALL_NS:
                self._error = CameraError(
                    f"camera {self.name}: no picture for {STALL_NS // 1_000_000_000} s",
                    hint="it is restarted; if it stays so, check its cable and power",
                )
                return
