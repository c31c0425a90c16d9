"""The agency's side of a live stream: offers to receive one H.264 video, and hands out what arrives.

Nothing is decoded here. Access units go to the caller and, if wished, into a file, bit for bit as the device
encoded them. aiortc completes a picture when the first packet of the next one arrives, so every unit comes
one frame later than it could, and the very last picture of a stream never comes.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError

from agent.errors import DocumentError, StorageError, Unreachable
from agent.streaming import hooks
from agent.streaming.recording import Mp4Recording
from agent.streaming.session_description import LIBRARY_ERRORS, check_answer
from agent.streaming.viewer import h264_preferences
from hal.annexb import is_idr
from hal.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aiortc.rtp import RtpPacket

    from agent.streaming.ice import Ice


@dataclass(frozen=True, slots=True)
class ReceivedUnit:
    """One access unit as it came: Annex B, 90 kHz ticks since the first, arrival on CLOCK_BOOTTIME."""

    annexb: bytes
    key: bool
    pts_90k: int
    t_boot_ns: int


@dataclass(slots=True)
class Received:
    """What has come in so far. Times are nanoseconds of our CLOCK_BOOTTIME, None before the first."""

    frames: int = 0
    key_frames: int = 0
    packets: int = 0
    payload_bytes: int = 0
    connected_boot_ns: int | None = None
    first_rtp_boot_ns: int | None = None
    first_frame_boot_ns: int | None = None
    last_rtp_boot_ns: int | None = None

    def to_json(self) -> dict[str, int | None]:
        """For ``--json``: the fields by name."""
        return asdict(self)


class Receiver:
    """One peer connection that only receives. Use it once: `offer`, `accept`, `closed`.

    Args:
        ice: Ways that the connection may take.
        unit: Called on the event loop with every access unit; must return soon.
    """

    def __init__(self, ice: Ice, *, unit: Callable[[ReceivedUnit], None] | None = None) -> None:
        self.received = Received()
        self._unit = unit
        self._recording: Mp4Recording | None = None
        self._ended = asyncio.Event()
        self._why = ""
        self._connection = RTCPeerConnection(ice.configuration())
        transceiver = self._connection.addTransceiver("video", direction="recvonly")
        transceiver.setCodecPreferences(h264_preferences())
        if ice.addresses is not None:
            hooks.narrow_host_addresses(self._connection, ice.addresses)
        hooks.take_access_units(transceiver.receiver, self._on_unit)
        hooks.on_rtp(transceiver.receiver, self._on_rtp)
        self._connection.on("connectionstatechange", self._on_state)

    async def offer(self) -> bytes:
        """The SDP to sign and send: exactly one recvonly video, H.264 only, all candidates in it.

        Raises:
            Unreachable: There is no address of ours that the other side could use.
        """
        try:
            await self._connection.setLocalDescription()
        except OSError as error:
            raise Unreachable(f"offer: cannot be made: {error}") from error
        local = self._connection.localDescription.sdp
        if "a=candidate:" not in local:
            raise Unreachable("offer: no address of this machine to offer")
        return local.encode()

    async def accept(self, answer: bytes) -> None:
        """Apply a verified answer; connecting follows by itself.

        Raises:
            DocumentError: It is no answer to this offer, or more than one video that sends.
        """
        text = check_answer(answer)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        except (
            *LIBRARY_ERRORS,
            InternalError,
            InvalidAccessError,
            InvalidStateError,
            OperationError,
        ) as error:
            raise DocumentError(
                f"answer: does not fit the offer ({type(error).__name__}: {error})"
            ) from error

    def save(self, path: Path) -> None:
        """Keep what comes from the next key frame on in an MP4 file, which `close` finishes.

        A disk that fails is a reason to end; `closed` says so.
        """
        self._recording = Mp4Recording(path)

    async def closed(self) -> str:
        """Wait for the end and say which: ``device`` ended it, the connection was ``lost``, or we ``left``.

        Or what went wrong with the file that `save` was told to write.
        """
        await self._ended.wait()
        return self._why

    async def close(self) -> None:
        """Leave, and finish the file. Harmless when the stream has ended already.

        Raises:
            StorageError: The file's end cannot be written.
        """
        self._end("left")
        await self._connection.close()
        if self._recording is not None:
            self._recording.close()

    def _end(self, why: str) -> None:
        if not self._ended.is_set():
            self._why = why
            self._ended.set()

    def _on_state(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self.received.connected_boot_ns = boot_ns()
        elif state == "failed":
            self._end("lost")
        elif state == "closed":
            self._end("device")

    def _on_rtp(self, packet: RtpPacket) -> None:
        now = boot_ns()
        received = self.received
        received.packets += 1
        received.payload_bytes += len(packet.payload)
        received.last_rtp_boot_ns = now
        if received.first_rtp_boot_ns is None:
            received.first_rtp_boot_ns = now

    def _on_unit(self, annexb: bytes, pts_90k: int) -> None:
        now = boot_ns()
        key = is_idr(annexb)
        self.received.frames += 1
        self.received.key_frames += key
        if self.received.first_frame_boot_ns is None:
            self.received.first_frame_boot_ns = now
        if self._recording is not None:
            try:
                self._recording.add(annexb, pts_90k, key=key)
            except StorageError as error:
                self._recording = None
                self._end(str(error))
        if self._unit is not None:
            self._unit(ReceivedUnit(annexb, key, pts_90k, now))
