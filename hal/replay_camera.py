"""``file:PATH`` - a recorded video played in real time, over and over, as if a camera saw it now.

H.264 that already is what `hal.camera.Packet` promises goes through as it is; everything else is encoded
anew, and so is H.264 while never areas are set. `ReplayCamera.info` says which.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import av
from av.bitstream import BitStreamFilterContext

from hal import annexb
from hal.camera import CameraError, CameraInfo, Packet
from hal.clock import boot_ns
from hal.feed import CaptureThread
from hal.picture_path import Controls, PicturePath, lores_size, plausible_fps

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from hal.camera import Polygon, Sink
    from hal.feed import Feed

MAX_KEY_FRAME_DISTANCE_S: Final = 2.0
"""Key frames further apart make fragments too long to lose and viewers wait too long."""

_NS_PER_S: Final = 1_000_000_000
_LATE_NS: Final = 200_000_000
_BAD_PICTURES: Final = 30


@dataclass(frozen=True, slots=True)
class _Clip:
    """What `_inspect` found in the file."""

    size: tuple[int, int]  # even, pixels
    fps: float
    headers: bytes  # SPS and PPS, Annex B
    reencode_because: str | None  # None: passes through


class ReplayCamera:
    """The camera ``file:``; see `hal.camera.Camera`.

    At the end of the file it begins again, or fails if ``loop`` is false.
    """

    def __init__(
        self,
        path: Path,
        uri: str | None = None,
        *,
        loop: bool = True,
        lores: tuple[int, int] | None = None,
        bitrate: int | None = None,
    ) -> None:
        self._path, self._uri = path, uri or f"file:{path}"
        self._loop, self._wanted_lores, self._bitrate = loop, lores, bitrate
        self._controls = Controls()
        self._thread = CaptureThread(self._uri, self._capture)
        self._clip: _Clip | None = None

    def start(self, sink: Sink) -> None:
        """See `hal.camera.Camera.start`; looks through the whole file first."""
        self._thread.start(sink)

    def stop(self) -> None:
        """See `hal.camera.Camera.stop`."""
        self._thread.stop()

    def request_idr(self) -> None:
        """See `hal.camera.Camera.request_idr`; ignored while the file passes through."""
        self._controls.request_idr()

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """See `hal.camera.Camera.set_never_mask`; while there are any, the file is encoded anew."""
        self._controls.set_never_mask(polygons)

    def info(self) -> CameraInfo:
        """See `hal.camera.Camera.info`; known once it has been started."""
        clip = self._clip
        if clip is None:
            raise CameraError(f"{self._uri}: not looked at yet", hint="start the camera first")
        reencode_because = clip.reencode_because
        if reencode_because is None and self._controls.never:
            reencode_because = "never areas are set"
        lores = lores_size(*clip.size, self._wanted_lores)
        return CameraInfo(
            name=self._path.name,
            uri=self._uri,
            width=clip.size[0],
            height=clip.size[1],
            fps=clip.fps,
            lores_width=lores[0],
            lores_height=lores[1],
            codec=self._thread.codec,
            can_force_idr=reencode_because is not None,
            masks_before_encoder=clip.reencode_because is not None,
            note=f"encoded anew: {reencode_because}"
            if reencode_because
            else "passed through as recorded; never areas force a re-encode",
        )

    def _capture(self, feed: Feed) -> None:
        clip = self._clip = _inspect(self._path, self._uri)
        path = PicturePath(
            feed,
            self._controls,
            size=clip.size,
            lores=lores_size(*clip.size, self._wanted_lores),
            fps=clip.fps,
            bitrate=self._bitrate,
        )
        start_ns = boot_ns()
        in_step = False  # whether the last picture handed over passed through, so that the next one can
        while True:
            played_ns = 0
            for picture in _pictures(self._path, self._uri, clip):
                late_ns = boot_ns() - start_ns - picture.at_ns
                if late_ns > _LATE_NS:
                    start_ns += late_ns  # Too slow, or asleep: go on from here instead of rushing.
                due_ns = start_ns + picture.at_ns
                if feed.closed.wait(max(0, due_ns - boot_ns()) / _NS_PER_S):
                    return
                in_step = picture.annexb is not None and not self._controls.never and (in_step or picture.key)
                encoded = None
                if in_step and picture.annexb is not None:
                    encoded = Packet(picture.annexb, picture.key, path.pts_90k(due_ns), due_ns)
                path.take(picture.frame, due_ns, encoded=encoded)
                played_ns = picture.at_ns
            if not self._loop:
                raise CameraError(f"{self._uri}: end of the video")
            start_ns += played_ns + int(_NS_PER_S / clip.fps)


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture of the file."""

    frame: av.VideoFrame
    at_ns: int  # since the beginning of the file, grows
    key: bool
    annexb: bytes | None  # its access unit, if the clip passes through


def _open(path: Path, uri: str) -> tuple[InputContainer, VideoStream]:
    try:
        # Named as a file and held to files: FFmpeg would take `http://…` and playlists out into the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except FileNotFoundError as error:
        raise CameraError(f"{uri}: no such file", hint="give the path of a video file") from error
    except (OSError, ValueError, av.FFmpegError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CameraError(f"{uri}: not a readable video ({reason})", hint="check it with ffprobe") from error
    if not container.streams.video:
        container.close()
        raise CameraError(f"{uri}: no video in it (got {len(container.streams)} other streams)")
    return container, container.streams.video[0]


def _inspect(path: Path, uri: str) -> _Clip:
    """Find out what the file is and whether every access unit keeps the promises of `Packet`.

    Raises:
        CameraError: It is missing, no video, or its first picture does not decode.
    """
    container, stream = _open(path, uri)
    with container:
        context = stream.codec_context
        size = (context.width // 2 * 2, context.height // 2 * 2)
        fps = plausible_fps(float(stream.average_rate or stream.guessed_rate or 0))
        reason = None
        if context.name != "h264":
            reason = f"it is {context.name}, not H.264"
        elif context.pix_fmt not in {"yuv420p", "yuvj420p"}:
            reason = f"its pictures are {context.pix_fmt}, not 8-bit 4:2:0"
        elif size != (context.width, context.height):
            reason = f"its size is odd ({context.width}x{context.height})"
        headers = b""
        if reason is None:
            reason, headers = _order_of(container, stream, fps)
    clip = _Clip(size, fps, headers, reason)
    with contextlib.closing(_pictures(path, uri, clip)) as pictures:
        if next(pictures, None) is None:
            raise CameraError(f"{uri}: no picture in it", hint="check it with ffprobe")
    return clip


def _order_of(container: InputContainer, stream: VideoStream, fps: float) -> tuple[str | None, bytes]:
    """Why the file's access units cannot pass through (None if they can), and its parameter sets."""
    to_annexb = BitStreamFilterContext("h264_mp4toannexb", stream)
    headers = annexb.parameter_sets(stream.codec_context.extradata or b"")
    last_s, last_key_s = float("-inf"), None
    for packet in container.demux(stream):
        if not packet.size:
            continue
        at_s = _seconds(packet, last_s, fps)
        data = b"".join(bytes(part) for part in to_annexb.filter(packet))
        headers = headers or annexb.parameter_sets(data)
        if at_s <= last_s:
            return "its pictures are not stored in the order they are shown in (B-frames)", headers
        if annexb.is_idr(data):
            last_key_s = at_s
        if last_key_s is None or not headers:
            return "it does not begin with a key frame and its parameter sets", headers
        if at_s - last_key_s > MAX_KEY_FRAME_DISTANCE_S:
            return f"its key frames are more than {MAX_KEY_FRAME_DISTANCE_S:g} s apart", headers
        last_s = at_s
    return None, headers


def _seconds(timed: av.Packet[VideoStream] | av.VideoFrame, last_s: float, fps: float) -> float:
    """When a packet or frame is shown; files without time stamps (raw H.264) count pictures."""
    if timed.pts is not None and timed.time_base is not None:
        return float(timed.pts * timed.time_base)
    return last_s + 1 / fps if last_s > float("-inf") else 0.0


def _pictures(path: Path, uri: str, clip: _Clip) -> Generator[_Picture]:
    """Decode the file once from its beginning.

    Raises:
        CameraError: It cannot be opened any more, or many pictures in a row do not decode.
    """
    container, stream = _open(path, uri)
    with container:
        to_annexb = None if clip.reencode_because else BitStreamFilterContext("h264_mp4toannexb", stream)
        first_s, last_s, bad = None, float("-inf"), 0
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
                bad = 0
            except av.InvalidDataError as error:
                bad += 1
                if bad > _BAD_PICTURES:
                    raise CameraError(f"{uri}: does not decode ({error.strerror})") from error
                continue
            unit = _unit(packet, to_annexb, clip.headers) if to_annexb and packet.size else None
            for frame in frames:
                at_s = _seconds(frame, last_s, clip.fps)
                if at_s <= last_s:
                    continue
                first_s, last_s = at_s if first_s is None else first_s, at_s
                key = unit is not None and annexb.is_idr(unit)
                yield _Picture(frame, int((at_s - first_s) * _NS_PER_S), key, unit)


def _unit(packet: av.Packet[VideoStream], to_annexb: BitStreamFilterContext, headers: bytes) -> bytes:
    """The access unit in ``packet`` as Annex B, parameter sets before every IDR. Uses the packet up."""
    unit = b"".join(bytes(part) for part in to_annexb.filter(packet))
    if annexb.is_idr(unit) and not annexb.parameter_sets(unit):
        return headers + unit
    return unit
