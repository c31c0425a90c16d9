"""Holds each private name that agent.streaming.hooks relies on against the installed aiortc and aioice."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

from aioice.turn import TurnTransport
from aiortc import RTCPeerConnection
from aiortc.rtcrtpreceiver import RTCRtpReceiver
from aiortc.rtcrtpsender import RTCRtpSender
from aiortc.rtp import RTCP_PSFB_FIR, RTCP_PSFB_PLI, RtcpPsfbPacket

from agent.streaming import hooks
from agent.streaming.ice import Ice, IcePolicy, IceServer
from agent.streaming.track import PacketTrack
from tests.support.streams import LOOPBACK

if TYPE_CHECKING:
    from aioice import Connection


def connection_of(ice: Ice) -> RTCPeerConnection:
    connection = RTCPeerConnection(ice.configuration())
    connection.addTransceiver(PacketTrack(), direction="sendonly")
    return connection


def ice_of(connection: RTCPeerConnection) -> Connection:
    return connection.getTransceivers()[0].receiver.transport.transport._connection


async def test_every_kind_of_picture_loss_calls_the_keyframe_wish() -> None:
    connection = connection_of(Ice(IcePolicy.ALL))
    sender = connection.getSenders()[0]
    wishes: list[int] = []
    hooks.on_keyframe_wish(sender, lambda: wishes.append(1))
    hooks.on_bitrate_estimate(sender, lambda _: None)
    for kind in (RTCP_PSFB_PLI, RTCP_PSFB_FIR):
        await sender._handle_rtcp_packet(RtcpPsfbPacket(fmt=kind, ssrc=1, media_ssrc=sender._ssrc))
    assert len(wishes) == 2
    await connection.close()


def test_pictures_repeats_and_rtcp_all_go_through_the_gated_method() -> None:
    for method in (RTCRtpSender._run_rtp, RTCRtpSender._retransmit, RTCRtpSender._send_rtcp):
        assert "self.transport._send_rtp(" in inspect.getsource(method)
    assert "self._send_keyframe()" in inspect.getsource(RTCRtpSender._handle_rtcp_packet)


async def test_gate_lets_rtcp_pass_and_asks_for_everything_else() -> None:
    connection = connection_of(Ice(IcePolicy.ALL))
    sender = connection.getSenders()[0]
    socket: list[bytes] = []
    left: list[bytes] = []
    open_ = [True]

    async def to_socket(data: bytes) -> None:
        socket.append(data)

    sender.transport._send_rtp = to_socket  # type: ignore[method-assign]
    hooks.gate_rtp(sender, lambda: open_[0], left.append)
    rtp, rtcp = bytes([0x80, 96]) + bytes(10), bytes([0x80, 200]) + bytes(10)
    await sender.transport._send_rtp(rtp)
    open_[0] = False
    await sender.transport._send_rtp(rtp)
    await sender.transport._send_rtp(rtcp)
    assert socket == [rtp, rtcp]
    assert left == [rtp]
    await connection.close()


async def test_host_addresses_are_exactly_the_chosen_ones() -> None:
    connection = connection_of(Ice(IcePolicy.ALL))
    hooks.narrow_host_addresses(connection, LOOPBACK)
    ice = ice_of(connection)
    await ice.gather_candidates()
    assert [candidate.host for candidate in ice.local_candidates] == ["127.0.0.1"]
    await connection.close()


async def test_relay_policy_offers_no_host_address_even_with_chosen_ones() -> None:
    server = IceServer(("turn:127.0.0.1:9?transport=tcp",), "u", "c")
    connection = connection_of(Ice(IcePolicy.RELAY, (server,)))
    hooks.narrow_host_addresses(connection, LOOPBACK)
    ice = ice_of(connection)
    await ice.gather_candidates()
    assert ice.local_candidates == []
    assert ice.turn_server == ("127.0.0.1", 9)
    assert (ice.turn_username, ice.turn_password, ice.turn_transport) == ("u", "c", "tcp")
    await connection.close()


async def test_no_server_means_none_and_not_the_library_s_default() -> None:
    connection = connection_of(Ice(IcePolicy.ALL))
    assert ice_of(connection).stun_server is None
    assert ice_of(connection).turn_server is None
    await connection.close()


class FullSocket:
    """A transport that still holds packets, as asyncio's do when the kernel takes no more."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def abort(self) -> None:
        self.aborted = True


class Holder:
    """Stands for a protocol of aioice, of which only the transport matters."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport


async def test_packets_that_wait_for_a_socket_or_a_relay_are_thrown_away() -> None:
    connection = connection_of(Ice(IcePolicy.ALL))
    full, idle, relay_socket = FullSocket(1), FullSocket(0), FullSocket(7)
    relay = TurnTransport(Holder(relay_socket))  # type: ignore[arg-type]
    never = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    relay._TurnTransport__send_tasks.add(never)  # type: ignore[attr-defined]
    protocols = ice_of(connection)._protocols
    protocols += [Holder(full), Holder(idle), Holder(relay)]  # type: ignore[list-item]

    hooks.drop_unsent(connection)

    assert (full.aborted, idle.aborted, relay_socket.aborted) == (True, False, True)
    await asyncio.wait([never])
    assert never.cancelled()
    protocols.clear()
    await connection.close()


async def test_access_units_come_out_and_the_decoder_s_thread_still_ends() -> None:
    connection = RTCPeerConnection(Ice(IcePolicy.ALL).configuration())
    receiver = connection.addTransceiver("video", direction="recvonly").receiver
    units: list[tuple[bytes, int]] = []
    hooks.take_access_units(receiver, lambda data, pts: units.append((data, pts)))
    waiting = receiver._RTCRtpReceiver__decoder_queue  # type: ignore[attr-defined]
    waiting.put(("codec", type("Unit", (), {"data": b"x", "timestamp": 7})()))
    waiting.put(None)
    assert waiting.get_nowait() is None
    assert units == [(b"x", 7)]
    source = inspect.getsource(RTCRtpReceiver)
    assert "self.__decoder_queue.put((codec, encoded_frame))" in source
    assert "self.__decoder_queue.put(None)" in source
    await connection.close()
