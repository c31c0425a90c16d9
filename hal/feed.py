"""One run of a camera, between the threads that capture and the sink that is fed.

Keeps the promises of `hal.camera` that every camera shares: nothing reaches the sink after `Feed.close`
returns, `Sink.failed` comes at most once and last, a camera that falls silent has failed, and a sink that
raises in spite of its contract does not take the capture down.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Final

import av

from hal import annexb
from hal.camera import CameraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.camera import Frame, Packet, Sink

_log = logging.getLogger(__name__)

STALL_S: Final = 5.0
"""A camera without a packet for this long has stalled."""

START_S: Final = 15.0
"""A camera without a first packet for this long after `start` cannot be started."""

JOIN_S: Final = 5.0
"""How long `CaptureThread.stop` waits for a driver that does not answer; the feed is closed long before."""


UNKNOWN_CODEC: Final = "avc1.42c01f"
"""What a camera says before its first packet: constrained baseline."""


class Feed:
    """Hands pictures of one run to one sink. Thread-safe; calls of the sink never overlap.

    ``subject`` begins the messages of its errors. A sink may stop its camera from within a call.
    """

    def __init__(self, sink: Sink, subject: str, *, stall_s: float = STALL_S) -> None:
        self._stall_s = stall_s
        self._sink = sink
        self._subject = subject
        self._lock = threading.RLock()
        self._first = threading.Event()
        self._error: CameraError | None = None
        self._inside: int | None = None
        self._sink_raised = False
        self._last_packet_s = 0.0
        self.codec = UNKNOWN_CODEC
        """RFC 6381 name of what is handed over."""
        self.closed = threading.Event()
        """Set once nothing more goes out: captures end when they see it."""

    def packet(self, packet: Packet) -> None:
        """Hand over one access unit."""
        with self._lock:
            if not self.closed.is_set():
                self._last_packet_s = time.monotonic()
                if packet.key:
                    self.codec = annexb.codec_name(packet.annexb) or self.codec
                self._first.set()
                self._guarded(lambda: self._sink.packet(packet))

    def frame(self, frame: Frame) -> None:
        """Hand over one raw picture."""
        with self._lock:
            if not self.closed.is_set():
                self._guarded(lambda: self._sink.frame(frame))

    def fail(self, error: CameraError) -> None:
        """End the run with ``error``, unless it has ended; before the first packet `wait_first` raises it."""
        with self._lock:
            if self.closed.is_set():
                return
            self.closed.set()
            if self._first.is_set():
                self._guarded(lambda: self._sink.failed(error))
            else:
                self._error = error
                self._first.set()

    def close(self) -> None:
        """End the run; after it no sink call runs or comes, but for one that this is called from."""
        with self._lock:
            self.closed.set()
            self._first.set()

    def is_inside(self) -> bool:
        """Whether the caller is called from the sink."""
        return self._inside == threading.get_ident()

    def wait_first(self) -> None:
        """Wait for the first packet.

        Raises:
            CameraError: The run failed before it, or none came within `START_S`.
        """
        if not self._first.wait(START_S):
            self.fail(CameraError(f"{self._subject}: no picture within {START_S:.0f} s of the start"))
        if self._error is not None:
            raise self._error

    def watch(self) -> None:
        """Fail the run once no packet has come for ``stall_s``. Returns when the run has ended."""
        while not self.closed.wait(self._stall_s / 5):
            if self._first.is_set() and time.monotonic() - self._last_packet_s > self._stall_s:
                self.fail(
                    CameraError(
                        f"{self._subject}: stalled, no picture for {self._stall_s:g} s",
                        hint="check the camera's cable and power supply",
                    )
                )

    def _guarded(self, call: Callable[[], None]) -> None:
        self._inside = threading.get_ident()
        try:
            call()
        except Exception:  # noqa: BLE001 - the contract forbids it, and a capture thread must not die of it
            if not self._sink_raised:
                self._sink_raised = True
                _log.exception("%s: its sink raised; told only once", self._subject)
        finally:
            self._inside = None


class CaptureThread:
    """The thread on which one camera captures, and the one that watches it.

    ``capture`` opens the device, feeds the `Feed` until ``feed.closed`` is set, and releases the device. It
    raises CameraError, OSError, ValueError or one of PyAV's errors when it cannot go on; returning while the
    feed is open is a failure too.
    """

    def __init__(self, subject: str, capture: Callable[[Feed], None]) -> None:
        self._subject = subject
        self._capture = capture
        self._lock = threading.Lock()
        self._feed: Feed | None = None
        self._threads: tuple[threading.Thread, ...] = ()

    @property
    def codec(self) -> str:
        """RFC 6381 name of what the last run handed over."""
        return self._feed.codec if self._feed is not None else UNKNOWN_CODEC

    def start(self, sink: Sink) -> None:
        """Start capturing for ``sink``; returns once the first packet has been handed over.

        Raises:
            CameraError: It runs already, or cannot start.
        """
        with self._lock:
            if self._feed is not None and not self._feed.closed.is_set():
                raise CameraError(f"{self._subject}: already started")
            self._join()
            feed = self._feed = Feed(sink, self._subject)
            self._threads = (
                threading.Thread(
                    target=self._run, args=(feed,), name=f"capture {self._subject}", daemon=True
                ),
                threading.Thread(target=feed.watch, name=f"watch {self._subject}", daemon=True),
            )
            for thread in self._threads:
                thread.start()
        try:
            feed.wait_first()
        except CameraError:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop capturing; no sink call follows its return. Within a sink call it only closes the feed."""
        feed = self._feed
        if feed is None:
            return
        feed.close()
        if feed.is_inside():
            return
        with self._lock:
            self._join()

    def _join(self) -> None:
        for thread in self._threads:
            thread.join(JOIN_S)

    def _run(self, feed: Feed) -> None:
        # Whatever is not caught here is our own mistake: it goes to the thread hook, and the run is over too.
        error = CameraError(f"{self._subject}: capture broke off")
        try:
            self._capture(feed)
            error = CameraError(f"{self._subject}: ended by itself")
        except CameraError as raised:
            error = raised
        except (OSError, ValueError, av.FFmpegError) as raised:
            error = CameraError(f"{self._subject}: {raised}")
        finally:
            feed.fail(error)
