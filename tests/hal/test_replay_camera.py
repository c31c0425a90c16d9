from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import av
import pytest

from hal import annexb
from hal.camera import CameraError, CameraInfo
from hal.detect import open_camera
from hal.h264_encoder import H264Encoder
from tests.hal.rig import BASELINE, FPS, PICTURES, SIZE, Recorder, decode, scene_pictures, write_clip

if TYPE_CHECKING:
    from pathlib import Path


def play(uri: str, packets: int) -> tuple[CameraInfo, Recorder]:
    camera, seen = open_camera(uri), Recorder()
    camera.start(seen)
    seen.wait_packets(packets)
    info = camera.info()
    camera.stop()
    return info, seen


def slices(data: bytes) -> list[bytes]:
    return [unit for unit in annexb.nal_units(data) if annexb.nal_type(unit) in {1, annexb.NAL_IDR}]


def test_h264_that_complies_passes_through_bit_for_bit(passthrough_clip: Path) -> None:
    info, seen = play(f"file:{passthrough_clip}", 10)
    assert not info.can_force_idr
    assert not info.masks_before_encoder
    assert "never areas force a re-encode" in info.note
    with av.open(str(passthrough_clip)) as container:
        to_annexb = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
        source = [
            b"".join(bytes(part) for part in to_annexb.filter(packet))
            for packet in container.demux(video=0)
            if packet.size
        ]
    for packet, original in zip(seen.packets, source, strict=False):
        assert slices(packet.annexb) == slices(original)


@pytest.mark.parametrize("ending", [".h264", ".ts", ".mkv", ".mp4"])
def test_every_container_gives_parameter_sets_before_every_idr(tmp_path: Path, ending: str) -> None:
    clip = write_clip(tmp_path / f"clip{ending}", "libx264", count=8, options=BASELINE | {"g": "4"})
    info, seen = play(f"file:{clip}", 10)
    assert "passed through" in info.note
    keys = [packet for packet in seen.packets if packet.key]
    assert len(keys) >= 3
    assert all(annexb.parameter_sets(packet.annexb) for packet in keys)
    assert all(annexb.is_idr(packet.annexb) for packet in keys)
    decode(seen.packets)


def test_parameter_sets_that_come_only_once_are_repeated(tmp_path: Path) -> None:
    h264 = H264Encoder(width=SIZE[0], height=SIZE[1], fps=FPS, bitrate=1_000_000)
    with (tmp_path / "once.h264").open("wb") as raw:
        for number, picture in enumerate(scene_pictures(8)):
            (packet,) = h264.encode(picture, number, force_idr=number % 4 == 0)
            for unit in annexb.nal_units(packet.annexb):
                if number == 0 or annexb.nal_type(unit) not in {annexb.NAL_SPS, annexb.NAL_PPS}:
                    raw.write(b"\x00\x00\x00\x01" + unit)
    info, seen = play(f"file:{tmp_path}/once.h264", 10)
    assert "passed through" in info.note
    assert [number for number, packet in enumerate(seen.packets) if packet.key] == [0, 4, 8]
    assert all(annexb.parameter_sets(packet.annexb) for packet in seen.packets if packet.key)
    decode(seen.packets)


def test_loop_goes_on_in_time(passthrough_clip: Path) -> None:
    _, seen = play(f"file:{passthrough_clip}", 40)
    steps = [b.t_boot_ns - a.t_boot_ns for a, b in pairwise(seen.packets)]
    assert seen.packets[PICTURES].key
    assert steps[PICTURES - 1] == pytest.approx(1e9 / FPS, rel=0.1)
    assert all(a.pts_90k < b.pts_90k for a, b in pairwise(seen.packets))


def test_without_loop_the_end_is_a_failure(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.mp4", "libx264", count=6, options=BASELINE)
    camera, seen = open_camera(f"file:{clip}?loop=0"), Recorder()
    camera.start(seen)
    seen.wait(lambda seen: bool(seen.errors), "the end")
    assert "end of the video" in str(seen.errors[0])
    assert len(seen.packets) == 6


@pytest.mark.parametrize(
    ("codec", "ending", "options", "reason"),
    [
        ("libx264", ".mp4", {"bf": "2", "g": "30"}, "B-frames"),
        ("libx264", ".mp4", BASELINE | {"g": "200"}, "key frames are more than 2 s apart"),
        ("mpeg4", ".mp4", {}, "it is mpeg4, not H.264"),
        ("mjpeg", ".avi", {}, "it is mjpeg, not H.264"),
    ],
)
def test_video_that_breaks_the_promises_is_encoded_anew(
    tmp_path: Path, codec: str, ending: str, options: dict[str, str], reason: str
) -> None:
    clip = write_clip(tmp_path / f"clip{ending}", codec, count=70, options=options)
    info, seen = play(f"file:{clip}", 5)
    assert reason in info.note
    assert info.can_force_idr
    assert info.masks_before_encoder
    assert (info.width, info.height) == SIZE
    decode(seen.packets)


def test_never_area_on_a_passing_file_encodes_it_anew_until_the_area_is_gone(passthrough_clip: Path) -> None:
    camera, seen = open_camera(f"file:{passthrough_clip}"), Recorder()
    camera.start(seen)
    camera.set_never_mask([((0, 0), (2000, 0), (0, 2000))])
    assert camera.info().can_force_idr
    assert "never areas are set" in camera.info().note
    seen.wait_packets(10)
    camera.set_never_mask([])
    assert not camera.info().can_force_idr
    cleared = len(seen.packets)
    seen.wait_packets(cleared + 32)
    camera.stop()
    assert all(a.pts_90k < b.pts_90k for a, b in pairwise(seen.packets))
    decode(seen.packets)


def test_missing_file_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="no such file") as refused:
        open_camera(f"file:{tmp_path}/nothing.mp4").start(Recorder())
    assert refused.value.hint


@pytest.mark.parametrize("content", [b"", b"\x00" * 5000, b"not a video at all\n" * 100])
def test_file_that_is_no_video_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(CameraError, match="not a readable video") as refused:
        open_camera(f"file:{path}").start(Recorder())
    assert "\n" not in str(refused.value)


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="not a readable video"):
        open_camera(f"file:{tmp_path}").start(Recorder())


def test_video_cut_in_half_is_refused(tmp_path: Path, passthrough_clip: Path) -> None:
    path = tmp_path / "half.mp4"
    path.write_bytes(passthrough_clip.read_bytes()[: passthrough_clip.stat().st_size // 2])
    with pytest.raises(CameraError, match="not a readable video"):
        open_camera(f"file:{path}").start(Recorder())


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(CameraError, match="no video in it"):
        open_camera(f"file:{path}").start(Recorder())


def test_info_is_unknown_before_the_file_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="not looked at yet"):
        open_camera(f"file:{tmp_path}/clip.mp4").info()


def test_name_with_reserved_characters_is_reached_percent_encoded(tmp_path: Path) -> None:
    write_clip(tmp_path / "a?b%c.mp4", "libx264", count=4, options=BASELINE)
    info, _ = play(f"file:{tmp_path}/a%3Fb%25c.mp4", 1)
    assert info.name == "a?b%c.mp4"


def test_address_in_the_network_is_a_file_that_is_not_there() -> None:
    with pytest.raises(CameraError, match="no such file"):
        open_camera("file:http://127.0.0.1:9/clip.mp4").start(Recorder())


def test_playlist_leads_nowhere(tmp_path: Path) -> None:
    playlist = tmp_path / "clip.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"
    )
    with pytest.raises(CameraError):
        open_camera(f"file:{playlist}").start(Recorder())
