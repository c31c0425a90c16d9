"""One viewer of one permit: a peer connection that sends, a queue, and a gate before the socket.

Life: negotiate, connect, feed, end. `Viewer.shut` is the end from whatever side it comes. It acts at once:
the gate closes, the queue is emptied, what still waits for the socket is thrown away, and only then the end
is reported. So when the report leaves, no RTP packet can. Taking the connection down comes after that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.exceptions import InternalError, InvalidAccessError, InvalidStateError, OperationError

from agent.errors import DocumentError, Unreachable
from agent.streaming import hooks
from agent.streaming.session_description import LIBRARY_ERRORS, check_offer
from agent.streaming.track import PacketTrack
from hal.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiortc.rtcrtpparameters import RTCRtpCodecCapability

    from agent.seam import Unit
    from agent.streaming.ice import Ice

IDR_SPACING_S: Final = 0.5
"""At most so often a viewer's lost pictures become a wish to core; the wish waits, it is not lost."""

BITRATE_SPACING_NS: Final = 1_000_000_000
_OVERFLOWS: Final = 3
_OVERFLOW_WINDOW_NS: Final = 10_000_000_000
_NS_PER_S: Final = 1_000_000_000


class End(StrEnum):
    """Why a viewer has gone, as ``closed`` says it."""

    CLOSED = "closed"  # core said so
    EXPIRED = "expired"  # the permit's end
    GONE = "gone"  # the other side took the connection down
    LOST = "lost"  # the other side does not answer any more, or the handshake failed
    UNREACHABLE = "unreachable"  # it never connected
    BUSY = "busy"  # it takes less than we send
    SEAM_LOST = "seam-lost"


@dataclass(slots=True)
class Sent:
    """What has left for one viewer: pictures, bytes of RTP with repeats, moment of the last packet."""

    frames: int = 0
    rtp_bytes: int = 0
    last_boot_ns: int = 0
    _last_picture: int | None = None

    def count(self, packet: bytes, now: int) -> None:
        """Count one RTP packet (RFC 3550); a picture is complete with the packet that has the marker."""
        self.rtp_bytes += len(packet)
        self.last_boot_ns = now
        picture = int.from_bytes(packet[4:8])
        newer = self._last_picture is None or 0 < (picture - self._last_picture) % 2**32 < 2**31
        if packet[1] & 0x80 and newer:
            self._last_picture = picture
            self.frames += 1


def h264_preferences() -> list[RTCRtpCodecCapability]:
    """Constrained baseline, then baseline, in packetization mode 1, and no other codec.

    They have to be set before the remote description: without them, VP8 is agreed on and H.264 is packed as
    VP8.
    """
    codecs = RTCRtpSender.getCapabilities("video").codecs
    return sorted(
        (codec for codec in codecs if codec.mimeType == "video/H264"),
        key=lambda codec: codec.parameters.get("profile-level-id") != "42e01f",
    )


class Viewer:
    """One peer connection under one permit.

    Args:
        permit: Its number.
        ends_boot_ns: Its end, CLOCK_BOOTTIME; watched here too, whatever core says or does not say.
        ice: Ways that the connection may take.
        connect_timeout_ns: From the answer until the connection has to stand.
        wish_idr: Called when the viewer needs a key frame, at most every `IDR_SPACING_S`.
        estimate: Called with what the viewer says it can take, bits per second, at most once a second.
        ended: Called exactly once, synchronously, when nothing can leave any more.
    """

    def __init__(
        self,
        permit: int,
        ends_boot_ns: int,
        ice: Ice,
        *,
        connect_timeout_ns: int,
        wish_idr: Callable[[int], None],
        estimate: Callable[[int, int], None],
        ended: Callable[[Viewer, End], None],
    ) -> None:
        self.permit = permit
        self.sent = Sent()
        self._ends_boot_ns = ends_boot_ns
        self._wish_idr, self._estimate, self._ended = wish_idr, estimate, ended
        self._shut = asyncio.Event()
        self._connected = False
        self._connect_timeout_ns = connect_timeout_ns
        self._connect_by_ns = 0
        self._overflows: list[int] = []
        self._estimated_ns = 0
        self._idr_wished_s: float | None = None
        self._idr_timer: asyncio.TimerHandle | None = None
        self._track = PacketTrack()
        self._connection = RTCPeerConnection(ice.configuration())
        transceiver = self._connection.addTransceiver(self._track, direction="sendonly")
        transceiver.setCodecPreferences(h264_preferences())
        if ice.addresses is not None:
            hooks.narrow_host_addresses(self._connection, ice.addresses)
        hooks.gate_rtp(transceiver.sender, self._may_leave, self._left)
        hooks.on_keyframe_wish(transceiver.sender, self._want_idr)
        hooks.on_bitrate_estimate(transceiver.sender, self._on_estimate)
        self._connection.on("connectionstatechange", self._on_state)

    async def answer(self, offer: bytes) -> bytes:
        """Apply the offer, gather candidates, return the SDP of the answer; connecting follows by itself.

        Raises:
            DocumentError: The offer is not one recvonly H.264 video.
            Unreachable: There is no address of ours that the other side could use.
        """
        text = check_offer(offer)
        try:
            await self._connection.setRemoteDescription(RTCSessionDescription(text, "offer"))
            await self._connection.setLocalDescription()
        except (
            *LIBRARY_ERRORS,
            InternalError,
            InvalidAccessError,
            InvalidStateError,
            OperationError,
        ) as error:
            raise DocumentError(f"offer: cannot be answered ({type(error).__name__}: {error})") from error
        except OSError as error:
            raise Unreachable(f"offer: cannot be answered: {error}") from error
        local = self._connection.localDescription.sdp
        if "a=candidate:" not in local:
            raise Unreachable("offer: no address of this device to answer with")
        self._connect_by_ns = boot_ns() + self._connect_timeout_ns
        return local.encode()

    async def watch(self) -> None:
        """Return when the viewer is shut; shut it at the permit's end, or if it never connects."""
        while not self._shut.is_set():
            deadline = self._ends_boot_ns
            if not self._connected:
                deadline = min(deadline, self._connect_by_ns)
            try:
                # The timer may be early against CLOCK_BOOTTIME, so the loop looks again.
                async with asyncio.timeout(max(0.001, (deadline - boot_ns()) / _NS_PER_S)):
                    await self._shut.wait()
            except TimeoutError:
                now = boot_ns()
                if now >= self._ends_boot_ns:
                    self.shut(End.EXPIRED)
                elif now >= self._connect_by_ns and not self._connected:
                    self.shut(End.UNREACHABLE)

    def put(self, unit: Unit) -> None:
        """Queue one access unit for this viewer; one that is not connected yet gets none."""
        if not self._connected or self._shut.is_set() or self._track.put(unit):
            return
        now = boot_ns()
        self._overflows = [at for at in self._overflows if now - at < _OVERFLOW_WINDOW_NS] + [now]
        if len(self._overflows) >= _OVERFLOWS:
            self.shut(End.BUSY)
        else:
            self._want_idr()

    def shut(self, why: End) -> None:
        """End it now: after the return no RTP packet leaves. Harmless when it has ended already."""
        if self._shut.is_set():
            return
        self._shut.set()
        self._track.end()
        if self._idr_timer is not None:
            self._idr_timer.cancel()
        hooks.drop_unsent(self._connection)
        self._ended(self, why)

    async def close(self) -> None:
        """Take the connection down; `shut` comes first."""
        await self._connection.close()

    def _may_leave(self) -> bool:
        return not self._shut.is_set() and boot_ns() < self._ends_boot_ns

    def _left(self, packet: bytes) -> None:
        self.sent.count(packet, boot_ns())

    def _on_state(self) -> None:
        state = self._connection.connectionState
        if state == "connected":
            self._connected = True
            self._want_idr()
        elif state == "failed":
            self.shut(End.LOST if self._connected else End.UNREACHABLE)
        elif state == "closed":
            self.shut(End.GONE)

    def _want_idr(self) -> None:
        if self._shut.is_set() or self._idr_timer is not None:
            return
        now = asyncio.get_running_loop().time()
        since = IDR_SPACING_S if self._idr_wished_s is None else now - self._idr_wished_s
        if since >= IDR_SPACING_S:
            self._idr_wished_s = now
            self._wish_idr(self.permit)
        else:
            self._idr_timer = asyncio.get_running_loop().call_later(IDR_SPACING_S - since, self._idr_due)

    def _idr_due(self) -> None:
        self._idr_timer = None
        self._idr_wished_s = None
        self._want_idr()

    def _on_estimate(self, bits_per_s: int) -> None:
        now = boot_ns()
        if not self._shut.is_set() and now - self._estimated_ns >= BITRATE_SPACING_NS:
            self._estimated_ns = now
            self._estimate(self.permit, bits_per_s)
