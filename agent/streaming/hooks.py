"""Every place where we reach behind aiortc's and aioice's public interface, each with its reason.

All of them replace something on one object, never on a class or module, so two connections in one process
cannot get into each other's way. tests/streaming/test_hooks.py holds each against the installed versions:
when an update moves a private name, that test says which. A connection here has exactly one transceiver.
"""

# ruff: noqa: SLF001 - the purpose of this file; no other file in agent touches a private name of these libraries
from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from aioice import TransportPolicy
from aioice.turn import TurnTransport
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, is_rtcp, unpack_remb_fci

if TYPE_CHECKING:
    from collections.abc import Callable

    from aioice import Candidate, Connection
    from aiortc import RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
    from aiortc.rtp import AnyRtcpPacket, RtpPacket


def _ice(connection: RTCPeerConnection) -> Connection:
    (transceiver,) = connection.getTransceivers()
    return transceiver.receiver.transport.transport._connection


def narrow_host_addresses(connection: RTCPeerConnection, addresses: tuple[str, ...]) -> None:
    """Gather host candidates on exactly these addresses. Call it after adding the transceiver.

    aioice offers every address of the machine and never 127.0.0.1, with no setting for either. Where the
    policy asks for no host addresses at all (relay), it stays at none.
    """
    ice = _ice(connection)
    if ice._transport_policy is not TransportPolicy.ALL:
        return
    gather = ice.get_component_candidates

    async def narrowed(component: int, addresses: list[str]) -> list[Candidate]:  # noqa: ARG001 - replaced
        return await gather(component, chosen)

    chosen = list(addresses)
    ice.get_component_candidates = narrowed  # type: ignore[assignment, method-assign]


def on_keyframe_wish(sender: RTCRtpSender, wish: Callable[[], None]) -> None:
    """Call ``wish`` for every PLI and FIR (RFC 4585, RFC 5104).

    aiortc only remembers them for its own encoder, and a track that yields packets has none.
    """
    sender._send_keyframe = wish  # type: ignore[method-assign]


def on_bitrate_estimate(sender: RTCRtpSender, estimate: Callable[[int], None]) -> None:
    """Call ``estimate`` with the bits per second of every REMB that is about this sender.

    aiortc hands them to its own encoder only (draft-alvestrand-rmcat-remb).
    """
    original = sender._handle_rtcp_packet

    async def heard(packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                bits_per_s, sources = unpack_remb_fci(packet.fci)
            except ValueError:
                return
            if sender._ssrc in sources:
                estimate(bits_per_s)
        await original(packet)

    sender._handle_rtcp_packet = heard  # type: ignore[method-assign]


def gate_rtp(sender: RTCRtpSender, may_leave: Callable[[], bool], left: Callable[[bytes], None]) -> None:
    """Ask ``may_leave`` before every RTP packet is encrypted and handed to the socket; tell ``left`` after.

    This is the last hook: new pictures, the rest of a picture half sent and answers to a NACK all come
    through it. RTCP passes, since it carries no picture and the BYE tells the other side at once.
    """
    transport = sender.transport
    original = transport._send_rtp

    async def gated(data: bytes) -> None:
        if is_rtcp(data):
            await original(data)
        elif may_leave():
            await original(data)
            left(data)

    transport._send_rtp = gated  # type: ignore[method-assign]


def drop_unsent(connection: RTCPeerConnection) -> None:
    """Throw away what went through the gate but still waits for its socket, so that nothing leaves later.

    Usually there is nothing. A full UDP socket or a slow TURN connection over TCP holds packets in asyncio's
    buffer, and TURN sends from tasks; closing such a transport would still flush them, aborting does not.
    """
    for protocol in _ice(connection)._protocols:
        transport: Any = protocol.transport
        if isinstance(transport, TurnTransport):
            for task in set(transport._TurnTransport__send_tasks):  # type: ignore[attr-defined]
                task.cancel()
            transport = transport._TurnTransport__inner_protocol.transport  # type: ignore[attr-defined]
        if transport.get_write_buffer_size():
            transport.abort()


class _AccessUnits(queue.Queue[Any]):
    """Stands where aiortc's decoder thread takes its work from, and leaves it only the end."""

    def __init__(self, take: Callable[[bytes, int], None]) -> None:
        super().__init__()
        self._take = take

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: ANN401, FBT001, FBT002 - queue.Queue's own signature
        if item is None:
            super().put(item, block, timeout)
        else:
            _, unit = item
            self._take(unit.data, unit.timestamp)


def take_access_units(receiver: RTCRtpReceiver, take: Callable[[bytes, int], None]) -> None:
    """Get every depacketised access unit (Annex B) with its RTP time from the first, instead of decoding it.

    aiortc decodes whatever it receives and offers pictures only; what was received would have to be encoded
    again to be kept, and a decoder would see bytes from outside. Call it before the connection starts.
    """
    receiver._RTCRtpReceiver__decoder_queue = _AccessUnits(take)  # type: ignore[attr-defined]


def on_rtp(receiver: RTCRtpReceiver, packet: Callable[[RtpPacket], None]) -> None:
    """Call ``packet`` for every RTP packet that arrives, before reordering."""
    original = receiver._handle_rtp_packet

    async def heard(arrived: RtpPacket, arrival_time_ms: int) -> None:
        packet(arrived)
        await original(arrived, arrival_time_ms=arrival_time_ms)

    receiver._handle_rtp_packet = heard  # type: ignore[assignment, method-assign]
