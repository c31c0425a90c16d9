"""The share pipeline: one view of one camera, masked, captioned, encoded once for all permits that have it.

In order, for each picture: drop it if the view's frame rate is used up; stamp it with the permits that are
alive at this moment; mask; caption; encode; ask again which of the stamped permits are alive; deliver with
the numbers of those. A permit that joins later gets nothing that was masked before it joined, one that has
gone gets nothing that was masked while it was there. When a step fails the pipeline ends and says whose
permits it took along; a picture never goes out without a step.

No permit, no pipeline; no picture, no thread and no encoder.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

import av
import cv2

from agent.errors import Refused
from agent.media.caption import Caption
from agent.media.mask import ViewMask
from agent.seam import Unit
from hal.camera import CameraError
from hal.clock import boot_ns
from hal.h264_encoder import H264Encoder, default_bitrate

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from agent.permit import Live, Permit
    from hal.camera import CameraInfo, Frame, Packet

_NS_PER_S: Final = 1_000_000_000
_IDR_SPACING_NS: Final = 250_000_000
"""A wish for a key frame waits this long after the last one, so that many viewers cannot fill the line."""

_MIN_BITRATE: Final = 100_000


class SharePipeline:
    """Masks, captions and encodes one view in a thread of its own. Call it from any thread.

    Args:
        permit: The first permit; others with the same camera, view and caption may join by `add`.
        source: The camera whose ``lores`` pictures come in by `frame`.
        live: Asked for every picture, twice. Never called while a lock of this class is held.
        wall_text: The caption's time for a moment of exposure (nanoseconds of CLOCK_BOOTTIME).
        deliver: Takes each unit on the encoder's thread. It must return soon and must not wait for a thread
            that is inside `remove` or `close`.
        failed: Told once, on the encoder's thread, which permits ended because the pipeline broke, and why.

    Raises:
        Refused: This board cannot show the view as agreed.
    """

    def __init__(
        self,
        permit: Permit,
        source: CameraInfo,
        *,
        live: Live,
        wall_text: Callable[[int], str],
        deliver: Callable[[Unit], None],
        failed: Callable[[tuple[int, ...], str], None],
    ) -> None:
        view = permit.view
        if view.redaction:
            what = " and ".join(sorted(str(kind).replace("_", " ") for kind in view.redaction))
            raise Refused(
                f"view: this board cannot redact {what} yet",
                reason="unsupported",
                hint="grant a view without redaction, or none",
            )
        if view.max_fps < 1:
            raise Refused(f"view: frame rate (got {view.max_fps}, expected at least 1)", reason="unsupported")
        self._key = (permit.camera, view, permit.caption)
        self._live, self._wall_text = live, wall_text
        self._deliver, self._failed = deliver, failed
        self._fps = min(float(view.max_fps), source.fps)
        self._mask = ViewMask(view, source.lores_width, source.lores_height)
        self._caption = Caption(permit.caption, self._mask.width, self._mask.height)
        self._ceiling = default_bitrate(self._mask.width, self._mask.height, self._fps)
        self._encoder: H264Encoder | None = None  # the encoder thread's own
        self._last_key_ns = -_NS_PER_S  # likewise

        # Lock order: _delivery, then _state. _delivery is held while a unit is handed over.
        self._delivery = threading.RLock()
        self._state = threading.Condition()
        self._permits = {permit.number: permit}
        self._slot: tuple[NDArray[np.uint8], int] | None = None
        self._due_ns: int | None = None
        self._idr_wanted = True
        self._bitrate = self._ceiling
        self._ended = False
        self._thread: threading.Thread | None = None

    def fits(self, permit: Permit) -> bool:
        """Whether ``permit`` shows exactly what this pipeline encodes."""
        return (permit.camera, permit.view, permit.caption) == self._key

    @property
    def ended(self) -> bool:
        """Whether the last permit has gone, or the pipeline was closed or broke: nothing comes any more."""
        with self._state:
            return self._ended

    def add(self, permit: Permit) -> bool:
        """Let one more permit see what this pipeline encodes, from its next picture on, which will be an IDR.

        Returns:
            False if the pipeline has ended meanwhile: make another.
        """
        if not self.fits(permit):
            raise RuntimeError(f"permit {permit.number} shows something else than this pipeline")
        with self._state:
            if self._ended:
                return False
            self._permits[permit.number] = permit
            self._idr_wanted = True
            return True

    def remove(self, number: int) -> None:
        """Take a permit away. After the return no unit that names it is ever delivered."""
        with self._delivery:
            self._forget((number,))

    def request_idr(self) -> None:
        """Make the next picture an IDR, or the first one 250 ms after the last IDR."""
        with self._state:
            self._idr_wanted = True

    def set_bitrate(self, bits_per_s: int) -> None:
        """Aim at this rate from the next picture on, between 100 kbit/s and what the size deserves."""
        with self._state:
            self._bitrate = min(max(bits_per_s, _MIN_BITRATE), self._ceiling)

    def frame(self, frame: Frame) -> None:
        """Take a ``lores`` picture, on the camera's thread. Copies it and returns at once.

        A picture that is still waiting is replaced: a viewer would rather see the newer one.
        """
        with self._state:
            if self._ended or not self._in_time(frame.t_boot_ns):
                return
            self._slot = (frame.i420.copy(), frame.t_boot_ns)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="share", daemon=True)
                self._thread.start()
            self._state.notify()

    def close(self) -> None:
        """End every permit here. After the return nothing is delivered and the thread is gone."""
        with self._delivery, self._state:
            self._forget(tuple(self._permits))
            self._end()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _in_time(self, t_boot_ns: int) -> bool:
        """Keep the average at the view's rate or below; forgive jitter of a quarter period."""
        period = int(_NS_PER_S / self._fps)
        due = t_boot_ns if self._due_ns is None else self._due_ns
        if t_boot_ns < due - period // 4:
            return False
        self._due_ns = max(due, t_boot_ns - period // 2) + period
        return True

    def _forget(self, numbers: tuple[int, ...]) -> None:
        with self._state:
            for number in numbers:
                self._permits.pop(number, None)
            if not self._permits:
                self._end()

    def _end(self) -> None:
        with self._state:
            self._ended = True
            self._slot = None
            self._state.notify()

    def _run(self) -> None:
        why: str | None = "share pipeline: broken"
        try:
            self._encode_all()
            why = None
        except (CameraError, ValueError, OSError, MemoryError, av.FFmpegError, cv2.error) as error:
            why = f"share pipeline: {' '.join(str(error).split()) or type(error).__name__}"
        finally:
            # Also for an error that nobody expected: it goes on to the thread's excepthook, but the permits
            # must not stay behind as if somebody could still see something.
            with self._delivery, self._state:
                numbers = tuple(self._permits)
                self._permits.clear()
                self._end()
            if why is not None and numbers:
                self._failed(numbers, why)

    def _encode_all(self) -> None:
        while True:
            with self._state:
                while self._slot is None and not self._ended:
                    self._state.wait()
                if self._slot is None:
                    return
                i420, t_boot_ns = self._slot
                self._slot = None
            self._picture(i420, t_boot_ns)

    def _picture(self, i420: NDArray[np.uint8], t_boot_ns: int) -> None:
        stamped = self._stamp()
        if not stamped:
            return
        with self._state:
            bitrate = self._bitrate
            force_idr = self._idr_wanted and t_boot_ns - self._last_key_ns >= _IDR_SPACING_NS
            if force_idr:
                self._idr_wanted = False
        if self._encoder is None:
            self._encoder = H264Encoder(
                width=self._mask.width,
                height=self._mask.height,
                fps=self._fps,
                bitrate=bitrate,
                max_bitrate=self._ceiling,
            )
        self._encoder.set_bitrate(bitrate)
        picture = self._mask.apply(i420)
        self._caption.burn(picture, self._wall_text(t_boot_ns))
        for packet in self._encoder.encode(picture, t_boot_ns, force_idr=force_idr):
            if packet.key:
                self._last_key_ns = t_boot_ns
            self._hand_over(packet, stamped)

    def _stamp(self) -> tuple[int, ...]:
        """The permits that may see the picture about to be masked; the dead ones are forgotten."""
        now = boot_ns()
        with self._state:
            permits = tuple(self._permits.values())
        alive = tuple(
            permit.number for permit in permits if permit.ends_boot_ns > now and self._live(permit.number)
        )
        dead = tuple(permit.number for permit in permits if permit.number not in alive)
        if dead:
            self._forget(dead)
        return alive

    def _hand_over(self, packet: Packet, stamped: tuple[int, ...]) -> None:
        alive = [number for number in stamped if self._live(number)]
        with self._delivery:
            with self._state:
                now = boot_ns()
                numbers = tuple(
                    number
                    for number in alive
                    if number in self._permits and self._permits[number].ends_boot_ns > now
                )
            if numbers:
                unit = Unit(numbers, packet.key, packet.pts_90k, packet.t_boot_ns, packet.annexb)
                self._deliver(unit)
