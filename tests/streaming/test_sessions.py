from __future__ import annotations

import asyncio
import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, RtcpRtpfbPacket, pack_remb_fci

from agent.errors import WireError
from agent.seam import Message, MessageKind
from agent.streaming.ice import Ice, IcePolicy, read_ice
from agent.streaming.viewer import End
from hal.clock import boot_ns
from tests.support.pictures import correlation, decoded, textured
from tests.support.streams import Core, Sniffer, Watcher, device, feeding, watching

if TYPE_CHECKING:
    from aiortc import RTCRtpReceiver

HOUR_NS = 3_600 * 10**9
FRAME_NS = 33_333_334


def rtp_receiver(watcher: Watcher) -> RTCRtpReceiver:
    return watcher.receiver._connection.getReceivers()[0]


def ssrc_of(core: Core, permit: int) -> int:
    return core.sessions._viewers[permit]._connection.getSenders()[0]._ssrc


async def test_first_frame_arrives_is_what_core_encoded_and_decodes() -> None:
    async with device() as core, watching(core, 5) as watcher, feeding(core, 5):
        await core.wait(MessageKind.IDR, 5)
        await watcher.wait(lambda: len(watcher.units) >= 12)
        pictures = decoded(watcher.units)
    assert len(pictures) == len(watcher.units)
    assert max(correlation(pictures[-1], textured(320, 180, seed=seed)) for seed in range(5)) > 0.9


async def test_offer_and_answer_hold_one_h264_video_and_only_the_addresses_that_may_be_used() -> None:
    async with device() as core, watching(core, 5) as watcher:
        offer = watcher.receiver._connection.localDescription.sdp
        answer = core.of(MessageKind.ANSWER, 5)[0].blob.decode()
    for text, direction in ((offer, "recvonly"), (answer, "sendonly")):
        assert re.findall(r"^m=.*", text, re.MULTILINE)[0].startswith("m=video ")
        assert text.count("m=") == 1
        assert f"a={direction}" in text
        assert set(re.findall(r"a=rtpmap:\d+ (\w+)/", text)) == {"H264"}
        assert {line.split()[4] for line in text.splitlines() if line.startswith("a=candidate")} == {
            "127.0.0.1"
        }


async def test_picture_loss_becomes_one_wish_for_a_key_frame_and_a_flood_becomes_two_a_second() -> None:
    async with device() as core, watching(core, 5) as watcher, feeding(core, 5):
        await watcher.wait(lambda: bool(watcher.units))
        wished, keys = len(core.of(MessageKind.IDR)), watcher.keys
        started = boot_ns()
        while boot_ns() - started < 700_000_000:
            await rtp_receiver(watcher)._send_rtcp_pli(ssrc_of(core, 5))
            await asyncio.sleep(0.02)
        await watcher.wait(lambda: watcher.keys > keys)
        assert 1 <= len(core.of(MessageKind.IDR)) - wished <= 1 + (boot_ns() - started) / 500_000_000


async def test_close_is_acknowledged_at_once_and_nothing_leaves_after_it() -> None:
    async with device() as core, watching(core, 5) as watcher, feeding(core, 5, every_s=0.001):
        await watcher.wait(lambda: len(watcher.units) >= 20)
        sniffer = Sniffer(core, 5)
        sender = core.sessions._viewers[5]._connection.getSenders()[0]
        history = sender._RTCRtpSender__rtp_history  # type: ignore[attr-defined]
        await watcher.wait(lambda: len(watcher.units) >= 60)
        kept = [packet.sequence_number for packet in history.values()]

        core.close(5)
        (closed,) = core.of(MessageKind.CLOSED, 5)  # inside the call, not some time later
        left = len(sniffer.packets)
        for number in kept[-40:]:
            await sender._retransmit(number)
        assert await watcher.receiver.closed() == "device"

    assert left > 20
    assert len(sniffer.packets) == left
    assert closed.text("why") == "closed"
    assert closed.integer("last_boot_ns") >= sniffer.packets[-1][0]
    assert closed.integer("bytes") > sum(len(packet) for _, packet in sniffer.packets) * 0.9
    assert closed.integer("frames") >= 39


async def test_answers_to_nacks_stop_with_the_permit_too() -> None:
    async with device() as core, watching(core, 5) as watcher, feeding(core, 5):
        await watcher.wait(lambda: len(watcher.units) >= 5)
        sniffer = Sniffer(core, 5)
        sender = core.sessions._viewers[5]._connection.getSenders()[0]
        number = max(sender._RTCRtpSender__rtp_history)  # type: ignore[attr-defined]
        packet = sender._RTCRtpSender__rtp_history[number]  # type: ignore[attr-defined]
        nack = RtcpRtpfbPacket(fmt=1, ssrc=1, media_ssrc=sender._ssrc, lost=[packet.sequence_number])

        await sender._handle_rtcp_packet(nack)
        assert any(data[2:4] == packet.sequence_number.to_bytes(2) for _, data in sniffer.packets)

        core.sessions._viewers[5]._ends_boot_ns = boot_ns()
        left = len(sniffer.packets)
        await sender._handle_rtcp_packet(nack)
        assert len(sniffer.packets) == left


async def test_permit_that_ends_is_ended_here_even_if_core_says_nothing() -> None:
    async with device() as core, watching(core, 5, ends_in_ns=600_000_000) as watcher, feeding(core, 5):
        ends = core.sessions._viewers[5]._ends_boot_ns
        await watcher.wait(lambda: bool(watcher.units))
        sniffer = Sniffer(core, 5)
        closed = await core.wait(MessageKind.CLOSED, 5)
        assert await watcher.receiver.closed() == "device"
    assert closed.text("why") == "expired"
    assert sniffer.packets
    # The gate asks the clock for each packet; between it and here a busy machine may stop us for a while.
    assert sniffer.packets[-1][0] <= ends + FRAME_NS
    assert closed.integer("last_boot_ns") <= ends + FRAME_NS


async def test_unit_goes_to_exactly_the_permits_it_names() -> None:
    async with device() as core, watching(core, 5) as five, watching(core, 6) as six:
        await core.wait(MessageKind.IDR, 5)
        await core.wait(MessageKind.IDR, 6)
        sniffer = Sniffer(core, 6)
        async with feeding(core, 5, 99):
            await five.wait(lambda: len(five.units) >= 10)
            assert sniffer.packets == []
        core.idr_wanted = True
        async with feeding(core, 6, 7):
            await six.wait(lambda: len(six.units) >= 3)
        had = len(five.units)
        core.unit()  # names nobody
    assert len(decoded(six.units)) == len(six.units)  # it starts with a key frame, though five's did not
    assert len(five.units) <= had + 1


async def test_viewer_that_joins_late_starts_with_a_key_frame() -> None:
    async with device() as core, watching(core, 5) as five, feeding(core, 5, 6):
        await five.wait(lambda: len(five.units) >= 10)
        async with watching(core, 6) as six:
            await six.wait(lambda: bool(six.units))
    assert len(decoded(six.units[:1])) == 1


async def test_viewer_whose_socket_stalls_holds_up_nobody_and_ends_as_busy() -> None:
    async with device() as core, watching(core, 5) as five, watching(core, 6) as six:
        async with feeding(core, 5, 6, every_s=0.002):
            await five.wait(lambda: bool(five.units))
            await six.wait(lambda: bool(six.units))
            never = asyncio.Event()

            async def stalled(data: bytes) -> None:
                await never.wait()

            core.sessions._viewers[6]._connection.getSenders()[0].transport._send_rtp = stalled  # type: ignore[method-assign]
            had = len(five.units)
            closed = await core.wait(MessageKind.CLOSED, 6)
            assert closed.text("why") == "busy"
            assert len(core.of(MessageKind.IDR, 6)) >= 2  # it was given its chances
            await five.wait(lambda: len(five.units) > had + 60)
            never.set()
        assert core.of(MessageKind.CLOSED, 5) == []


async def test_lost_seam_ends_every_viewer_at_once() -> None:
    async with device() as core, watching(core, 5) as five, watching(core, 6) as six, feeding(core, 5, 6):
        await five.wait(lambda: bool(five.units))
        await six.wait(lambda: bool(six.units))
        sniffers = [Sniffer(core, 5), Sniffer(core, 6)]
        core.sessions.close_all()
        left = [len(sniffer.packets) for sniffer in sniffers]
        assert {message.text("why") for message in core.of(MessageKind.CLOSED)} == {"seam-lost"}
        assert len(core.of(MessageKind.CLOSED)) == 2
        assert await five.receiver.closed() == await six.receiver.closed() == "device"
        assert [len(sniffer.packets) for sniffer in sniffers] == left


async def test_a_device_that_stops_takes_its_viewers_down() -> None:
    async with device() as core, feeding(core, 5):
        watcher_context = watching(core, 5)
        watcher = await watcher_context.__aenter__()
        await watcher.wait(lambda: bool(watcher.units))
    assert core.of(MessageKind.CLOSED, 5)[0].text("why") == "seam-lost"
    assert await watcher.receiver.closed() == "device"
    await watcher_context.__aexit__(None, None, None)


async def test_viewer_that_leaves_is_reported() -> None:
    async with device() as core, feeding(core, 5):
        async with watching(core, 5) as watcher:
            await watcher.wait(lambda: len(watcher.units) > 3)
        closed = await core.wait(MessageKind.CLOSED, 5)
        core.close(5)  # crosses the report: answered with the same
        again = await core.wait(MessageKind.CLOSED, 5, count=2)
    assert closed.text("why") == "gone"
    assert again == closed
    assert closed.integer("frames") >= 3


async def test_viewer_that_never_connects_is_ended() -> None:
    async with device(connect_timeout_ns=200_000_000) as core:
        watcher = Watcher()
        core.open(5, await watcher.receiver.offer())
        await core.wait(MessageKind.ANSWER, 5)
        closed = await core.wait(MessageKind.CLOSED, 5)
        await watcher.receiver.close()
    assert closed.text("why") == "unreachable"
    assert (closed.integer("frames"), closed.integer("bytes"), closed.integer("last_boot_ns")) == (0, 0, 0)


async def test_close_that_overtakes_the_answer_leaves_no_viewer_behind() -> None:
    async with device() as core:
        watcher = Watcher()
        core.open(5, await watcher.receiver.offer())
        core.close(5)
        assert core.of(MessageKind.CLOSED, 5)[0].text("why") == "closed"
        core.open(6, await watcher.receiver.offer())
        await core.wait(MessageKind.ANSWER, 6)
        assert core.of(MessageKind.ANSWER, 5) == []
        await watcher.receiver.close()


async def test_places_and_permit_numbers_are_given_out_once() -> None:
    async with device(max_viewers=1) as core, watching(core, 5):
        watcher = Watcher()
        offer = await watcher.receiver.offer()
        core.open(5, offer)
        assert "has a viewer already" in core.of(MessageKind.ANSWER_FAILED, 5)[0].text("why")
        core.open(6, offer)
        assert "busy" in core.of(MessageKind.ANSWER_FAILED, 6)[0].text("why")
        core.close(5)
        core.open(5, offer)  # a permit that has ended stays ended
        assert len(core.of(MessageKind.ANSWER_FAILED, 5)) == 2
        core.open(6, offer)
        await core.wait(MessageKind.ANSWER, 6)
        await watcher.receiver.close()


async def test_close_for_a_permit_that_never_was_is_acknowledged() -> None:
    async with device() as core:
        core.close(77)
        assert core.of(MessageKind.CLOSED, 77)[0].integer("frames") == 0


async def test_what_the_viewer_can_take_is_reported_at_most_once_a_second() -> None:
    async with device() as core, watching(core, 5) as watcher, feeding(core, 5):
        await watcher.wait(lambda: bool(watcher.units))
        had = len(core.of(MessageKind.BITRATE))
        core.sessions._viewers[5]._estimated_ns = 0
        for bits in (321_000, 123_000):
            fci = pack_remb_fci(bits, [ssrc_of(core, 5)])
            remb = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci)
            await rtp_receiver(watcher)._send_rtcp(remb)
        await core.wait(MessageKind.BITRATE, 5, count=had + 1)
    rates = [message.integer("bits_per_s") for message in core.of(MessageKind.BITRATE)]
    assert rates[had] == pytest.approx(321_000, rel=0.01)
    assert len(rates) == had + 1


async def make_offer(*kinds: str, direction: str = "recvonly", channel: bool = False) -> bytes:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        connection.addTransceiver(kind, direction=direction)
    if channel:
        connection.createDataChannel("x")
    offer = await connection.createOffer()
    await connection.close()
    return offer.sdp.encode()


@pytest.mark.parametrize(
    ("kinds", "direction", "channel"),
    [
        (["video"], "sendrecv", False),
        (["video"], "sendonly", False),
        (["video"], "inactive", False),
        (["video"], "recvonly", True),
        ([], "recvonly", True),
        (["audio"], "recvonly", False),
        (["video", "audio"], "recvonly", False),
        (["video", "video"], "recvonly", False),
    ],
)
async def test_offer_that_would_send_us_anything_is_refused(
    kinds: list[str], direction: str, channel: bool
) -> None:
    offer = await make_offer(*kinds, direction=direction, channel=channel)
    async with device() as core:
        core.open(5, offer)
        why = (await core.wait(MessageKind.ANSWER_FAILED, 5)).text("why")
        assert core.of(MessageKind.ANSWER) == core.of(MessageKind.CLOSED) == []
        assert core.sessions._viewers == {}
    assert re.match(r"offer[.a-z]*: ", why)
    assert "\n" not in why


EDITS = {
    "no h264": (r"H264", "VP8"),
    "no fingerprint": (r"a=fingerprint:.*\r\n", ""),
    "no setup": (r"a=setup:.*\r\n", ""),
    "bad setup": (r"a=setup:.*\r\n", "a=setup:sideways\r\n"),
    "no user": (r"a=ice-ufrag:.*\r\n", ""),
    "no mux": (r"a=rtcp-mux\r\n", ""),
    "foreign bundle": (r"a=group:BUNDLE 0", "a=group:BUNDLE 0 1"),
    "payload no number": (r"m=video 9 (\S+) \d+", r"m=video 9 \1 x"),
    "forbidden payload": (r"m=video 9 (\S+) \d+", r"m=video 9 \1 72"),
    "codec of nobody": (r"a=rtpmap:\d+", "a=rtpmap:3"),
    "short candidate": (r"a=setup", "a=candidate:1\r\na=setup"),
    "many candidates": (r"a=setup", "a=candidate:1 1 udp 1 1.2.3.4 5 typ host\r\n" * 33 + "a=setup"),
    "control": (r"s=-", "s=\x00"),
    "hidden section": (r"a=mid:0", "a=mid:0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel"),
    "section after another line end": (r"a=mid:0", "a=mid:0\u2028m=audio 9 UDP/TLS/RTP/SAVPF 0"),
    "second direction": (r"a=recvonly", "a=recvonly\r\na=sendrecv"),
}


@pytest.mark.parametrize("name", EDITS)
async def test_tampered_offer_is_refused_in_one_line(name: str) -> None:
    pattern, replacement = EDITS[name]
    original = (await make_offer("video")).decode()
    edited = re.sub(pattern, replacement, original)
    assert edited != original
    async with device() as core:
        core.open(5, edited.encode())
        why = (await core.wait(MessageKind.ANSWER_FAILED, 5)).text("why")
    assert why.startswith("offer")
    assert "\n" not in why


@pytest.mark.parametrize("blob", [b"", b"\xff\xfe", b"v=0", b"v=0\r\n" * 5_000, b"{}"])
async def test_rubbish_is_no_offer(blob: bytes) -> None:
    async with device() as core:
        core.open(5, blob)
        assert (await core.wait(MessageKind.ANSWER_FAILED, 5)).text("why").startswith("offer")


async def test_offer_cut_anywhere_never_opens_a_viewer_or_breaks_the_others() -> None:
    offer = await make_offer("video")
    cuts = range(0, len(offer) - 2, 97)
    async with device(max_viewers=1_000) as core:
        for number, cut in enumerate(cuts):
            core.open(number, offer[:cut])
        for number, cut in enumerate(cuts):
            async with asyncio.timeout(10):
                while not (core.of(MessageKind.ANSWER_FAILED, number) or core.of(MessageKind.ANSWER, number)):
                    core.changed.clear()
                    await core.changed.wait()
            if core.of(MessageKind.ANSWER, number):
                assert b"a=setup:actpass" in offer[:cut]  # nothing needed was cut off


async def test_mdns_names_are_dropped_and_cost_no_time() -> None:
    async with device() as core:
        watcher = Watcher()
        offer = (await watcher.receiver.offer()).decode()
        line = "a=candidate:7 1 udp 2113937151 0f0e0d0c-1111-4111-8111-222222222222.local 50000 typ host\r\n"
        started = boot_ns()
        core.open(5, offer.replace("a=candidate", line + "a=candidate", 1).encode())
        answer = await core.wait(MessageKind.ANSWER, 5)
        assert boot_ns() - started < 900_000_000  # aioice waits a second for each name
        await watcher.receiver.accept(answer.blob)
        async with feeding(core, 5):
            await watcher.wait(lambda: bool(watcher.units))
        await watcher.receiver.close()


def test_no_server_is_asked_that_was_not_named() -> None:
    assert Ice(IcePolicy.ALL).configuration().iceServers == []


async def test_relay_that_does_not_answer_never_falls_back_to_our_own_address() -> None:
    async with device() as core:
        offer = await make_offer("video")
        url = "turn:127.0.0.1:9?transport=tcp"
        core.open(
            5,
            offer,
            ice={"policy": "relay", "servers": [{"urls": [url], "username": "u", "credential": "c"}]},
        )
        assert "no address" in (await core.wait(MessageKind.ANSWER_FAILED, 5)).text("why")
        core.open(6, offer, ice={"policy": "relay", "servers": []})
        assert "turn server" in (await core.wait(MessageKind.ANSWER_FAILED, 6)).text("why")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"policy": "any", "servers": []},
        {"policy": "all", "servers": {}},
        {"policy": "all", "servers": [{"urls": "stun:x"}]},
        {"policy": "all", "servers": [{"urls": ["http://x"]}]},
        {"policy": "all", "servers": [{"urls": ["turn:x"], "username": 1}]},
        {"policy": "all", "servers": [], "extra": 1},
        {"policy": "relay", "servers": [{"urls": ["stun:x"]}]},
        {"policy": "all", "servers": [{"urls": ["stun:x"]}] * 9},
    ],
)
def test_ice_settings_that_are_not_clear_are_refused(value: object) -> None:
    with pytest.raises(WireError, match=r"^open message: "):
        read_ice(value)


async def test_message_that_is_not_for_sessions_or_lacks_a_field_is_an_error() -> None:
    async with device() as core:
        for message in (
            Message(MessageKind.HELLO, {"pid": 1}),
            Message(MessageKind.OPEN, {"permit": 1}),
            Message(MessageKind.UNIT, {"permits": ["1"]}),
            Message(MessageKind.CLOSE),
        ):
            with pytest.raises(WireError):
                core.sessions.handle(message)
        assert core.messages == []


async def test_stream_shows_within_its_target_and_is_over_within_two_frames() -> None:
    first_ms: list[float] = []
    close_ms: list[float] = []
    async with device() as core:
        for permit in range(5, 10):
            async with feeding(core, permit, every_s=1 / 30):
                started = boot_ns()
                async with watching(core, permit) as watcher:
                    await watcher.wait(lambda watcher=watcher: bool(watcher.units))  # type: ignore[misc]
                    first = watcher.receiver.received.first_frame_boot_ns
                    assert first is not None
                    first_ms.append((first - started) / 1e6)
                    sniffer = Sniffer(core, permit)
                    await watcher.wait(lambda: len(sniffer.packets) > 5)  # noqa: B023 - waited for right here
                    decided = boot_ns()
                    core.close(permit)
                    await watcher.receiver.closed()
                    last = watcher.receiver.received.last_rtp_boot_ns
                    assert last is not None
                    close_ms.append((last - decided) / 1e6)
                    assert sniffer.packets[-1][0] <= decided
    assert np.median(first_ms) < 700
    assert max(close_ms) < 2 * FRAME_NS / 1e6


def test_reasons_are_a_closed_set() -> None:
    assert [str(why) for why in End] == [
        "closed", "expired", "gone", "lost", "unreachable", "busy", "seam-lost",
    ]  # fmt: skip
    assert all(one != two for one, two in pairwise(End))
