from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

from agent.errors import DocumentError, StorageError
from agent.seam import MessageKind
from agent.streaming.recording import Mp4Recording
from agent.streaming.session_description import check_offer
from hal.clock import boot_ns
from hal.h264_encoder import H264Encoder
from tests.support.pictures import decoded, textured
from tests.support.streams import Watcher, device, feeding, watching

if TYPE_CHECKING:
    from pathlib import Path


def units(count: int) -> list[tuple[bytes, bool, int]]:
    encoder = H264Encoder(width=320, height=180, fps=30, bitrate=1_000_000, gop_s=0.2)
    return [
        (packet.annexb, packet.key, packet.pts_90k)
        for number in range(count)
        for packet in encoder.encode(textured(320, 180, seed=number % 3), number * 33_333_334)
    ]


def pictures_in(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


async def test_saved_file_holds_the_received_pictures_without_another_encode(tmp_path: Path) -> None:
    async with device() as core, watching(core, 5) as watcher:
        watcher.receiver.save(tmp_path / "out.mp4")
        async with feeding(core, 5):
            await watcher.wait(lambda: len(watcher.units) >= 30)
        core.close(5)
        assert await watcher.receiver.closed() == "device"
        received = watcher.receiver.received
    expected, saved = decoded(watcher.units), pictures_in(tmp_path / "out.mp4")
    assert len(saved) == received.frames == len(watcher.units)
    for mine, theirs in zip(expected, saved, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 320, 180)
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    assert times[0] == 0
    assert all(one < two for one, two in pairwise(times))


async def test_statistics_tell_when_the_first_and_the_last_packet_came() -> None:
    started = boot_ns()
    async with device() as core, watching(core, 5) as watcher:
        assert watcher.receiver.received.to_json()["first_rtp_boot_ns"] is None
        async with feeding(core, 5):
            await watcher.wait(lambda: len(watcher.units) >= 10)
        core.close(5)
        await watcher.receiver.closed()
        received = watcher.receiver.received
        sent = core.of(MessageKind.CLOSED, 5)[0]
    at = received.to_json()
    assert all(value is not None for value in at.values())
    order = [
        started,
        at["connected_boot_ns"],
        at["first_rtp_boot_ns"],
        at["first_frame_boot_ns"],
        at["last_rtp_boot_ns"],
        boot_ns(),
    ]
    assert order == sorted(order, key=lambda value: value or 0)
    assert received.packets >= received.frames >= 10
    assert received.key_frames >= 1
    assert sent.integer("frames") == received.frames + 1  # the last one is never completed by a successor


async def test_offer_is_what_the_device_takes() -> None:
    watcher = Watcher()
    offer = await watcher.receiver.offer()
    assert check_offer(offer).splitlines() == offer.decode().splitlines()
    await watcher.receiver.close()


@pytest.mark.parametrize("edit", [b"", b"v=0", ("sendonly", "sendrecv"), ("a=setup:active\r\n", "")])
async def test_answer_that_is_not_one_sending_video_is_refused(edit: bytes | tuple[str, str]) -> None:
    async with device() as core:
        watcher = Watcher()
        core.open(5, await watcher.receiver.offer())
        answer = (await core.wait(MessageKind.ANSWER, 5)).blob
        bad = edit if isinstance(edit, bytes) else answer.decode().replace(*edit).encode()
        with pytest.raises(DocumentError, match=r"^answer: "):
            await watcher.receiver.accept(bad)
        await watcher.receiver.close()


async def test_answer_to_another_offer_is_refused() -> None:
    async with device() as core:
        watcher, other = Watcher(), Watcher()
        core.open(5, await watcher.receiver.offer())
        answer = (await core.wait(MessageKind.ANSWER, 5)).blob
        with pytest.raises(DocumentError, match=r"^answer: does not fit"):
            await other.receiver.accept(answer)
        await watcher.receiver.close()
        await other.receiver.close()


async def test_leaving_says_so_and_leaving_twice_is_harmless() -> None:
    async with device() as core:
        async with watching(core, 5) as watcher:
            pass
        assert await watcher.receiver.closed() == "left"
        await watcher.receiver.close()


async def test_disk_that_fails_ends_the_stream_with_the_reason(tmp_path: Path) -> None:
    async with device() as core, watching(core, 5) as watcher:
        watcher.receiver.save(tmp_path / "missing" / "out.mp4")
        async with feeding(core, 5):
            assert "missing" in await watcher.receiver.closed()


def test_recording_begins_with_a_key_frame_and_without_one_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    recording = Mp4Recording(path)
    for annexb, key, pts in units(12)[1:4]:
        recording.add(annexb, pts, key=key)
    recording.close()
    assert not path.exists()
    for annexb, key, pts in units(12)[1:]:
        recording.add(annexb, pts, key=key)
    recording.close()
    recording.close()
    assert len(pictures_in(path)) == recording.frames == 6


def test_recording_cut_off_by_a_crash_still_plays(tmp_path: Path) -> None:
    path, cut = tmp_path / "out.mp4", tmp_path / "cut.mp4"
    recording = Mp4Recording(path)
    for annexb, key, pts in units(40):
        recording.add(annexb, pts, key=key)
    cut.write_bytes(path.read_bytes())  # as a crash would leave it
    recording.close()
    assert len(pictures_in(cut)) >= 20


def test_recording_of_rubbish_is_an_error_of_ours(tmp_path: Path) -> None:
    recording = Mp4Recording(tmp_path / "out.mp4")
    with pytest.raises(StorageError, match=r"out\.mp4"):
        recording.add(b"\x00\x00\x01\x65rubbish", 0, key=True)
    recording.close()
