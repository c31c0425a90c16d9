"""``usb:`` and ``usb:/dev/videoN`` - a USB camera through Video4Linux, MJPEG or raw.

Such cameras deliver no H.264 that can be relied on, so every picture is decoded, masked and encoded here.
"""

from __future__ import annotations

import errno
import fcntl
import struct
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av

from hal.camera import CameraError, CameraInfo
from hal.exposure import exposed_ns
from hal.feed import CaptureThread
from hal.picture_path import Controls, PicturePath, lores_size, plausible_fps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from av.container import InputContainer
    from av.video.stream import VideoStream

    from hal.camera import Polygon, Sink
    from hal.feed import Feed

_NS_PER_S: Final = 1_000_000_000
_BAD_PICTURES: Final = 30

# VIDIOC_QUERYCAP and struct v4l2_capability, linux/videodev2.h.
_QUERYCAP: Final = 0x80685600
_CAPABILITY: Final = struct.Struct("=16s32s32s3I12x")
_VIDEO_CAPTURE: Final = 0x00000001
_DEVICE_CAPS: Final = 0x80000000


def is_usb_capture(capability: bytes) -> bool:
    """Whether a ``struct v4l2_capability`` is that of a node of a USB device which captures video.

    A camera has further nodes for metadata, and a Raspberry Pi has some for codecs and scalers: none of
    these.
    """
    _driver, _card, bus, _version, of_device, of_node = _CAPABILITY.unpack(capability)
    return bus.startswith(b"usb-") and bool(
        (of_node if of_device & _DEVICE_CAPS else of_device) & _VIDEO_CAPTURE
    )


def usb_capture_devices() -> list[str]:
    """Paths of the USB capture devices that this process may open, lowest number first. Asks the hardware."""
    found = []
    nodes = [node for node in Path("/dev").glob("video*") if node.name.removeprefix("video").isdigit()]
    for node in sorted(nodes, key=lambda node: int(node.name.removeprefix("video"))):
        capability = bytearray(_CAPABILITY.size)
        try:
            with node.open("rb", buffering=0) as device:
                fcntl.ioctl(device, _QUERYCAP, capability)
        except OSError:
            continue  # Not ours to open, or no Video4Linux device: not a camera that could be used.
        if is_usb_capture(bytes(capability)):
            found.append(str(node))
    return found


def open_v4l2(device: str, options: dict[str, str]) -> InputContainer:
    """Open a Video4Linux device with FFmpeg."""
    return av.open(device, format="v4l2", options=options)


class UsbCamera:
    """The camera ``usb:``; see `hal.camera.Camera`.

    ``device`` None is the first one there is, looked for at each start. ``open_container`` opens a device
    by its path with FFmpeg's v4l2 options.
    """

    def __init__(
        self,
        device: str | None = None,
        uri: str | None = None,
        *,
        size: tuple[int, int] = (1280, 720),
        fps: float = 30.0,
        lores: tuple[int, int] | None = None,
        bitrate: int | None = None,
        open_container: Callable[[str, dict[str, str]], InputContainer] = open_v4l2,
    ) -> None:
        self._device, self._uri = device, uri or f"usb:{device or ''}"
        self._wanted_size, self._wanted_fps = size, fps
        self._wanted_lores, self._bitrate = lores, bitrate
        self._open_container = open_container
        self._controls = Controls()
        self._thread = CaptureThread(self._uri, self._capture)
        self._info: CameraInfo | None = None

    def start(self, sink: Sink) -> None:
        """See `hal.camera.Camera.start`."""
        self._thread.start(sink)

    def stop(self) -> None:
        """See `hal.camera.Camera.stop`."""
        self._thread.stop()

    def request_idr(self) -> None:
        """See `hal.camera.Camera.request_idr`; the next picture is one."""
        self._controls.request_idr()

    def set_never_mask(self, polygons: Sequence[Polygon]) -> None:
        """See `hal.camera.Camera.set_never_mask`."""
        self._controls.set_never_mask(polygons)

    def info(self) -> CameraInfo:
        """See `hal.camera.Camera.info`; known once it has been started."""
        if self._info is None:
            raise CameraError(f"{self._uri}: not opened yet", hint="start the camera first")
        return replace(self._info, codec=self._thread.codec)

    def _capture(self, feed: Feed) -> None:
        device = self._device
        if device is None:
            devices = usb_capture_devices()
            if not devices:
                raise CameraError("usb: no camera found", hint="plug one in, or use `synthetic:` for a trial")
            device = devices[0]
        with self._opened(device) as container:
            stream = container.streams.video[0]
            size = (stream.codec_context.width // 2 * 2, stream.codec_context.height // 2 * 2)
            fps = plausible_fps(float(stream.average_rate or self._wanted_fps))
            lores = lores_size(*size, self._wanted_lores)
            self._info = self._described(device, size, fps, lores)
            path = PicturePath(feed, self._controls, size=size, lores=lores, fps=fps, bitrate=self._bitrate)
            self._feed_from(container, stream, feed, path)

    def _opened(self, device: str) -> InputContainer:
        options = {
            "video_size": f"{self._wanted_size[0]}x{self._wanted_size[1]}",
            "framerate": f"{self._wanted_fps:g}",
        }
        try:
            try:
                return self._open_container(device, {**options, "input_format": "mjpeg"})
            except OSError as error:
                if error.errno not in {errno.EINVAL, errno.EIO}:
                    raise
                return self._open_container(device, options)  # A camera without MJPEG.
        except OSError as error:
            hints = {
                errno.ENOENT: "check that the camera is plugged in",
                errno.EACCES: "the user that runs doorward must be in the group `video`",
                errno.EBUSY: "another program uses the camera: stop it",
            }
            raise CameraError(
                f"{self._uri}: cannot open {device}: {error.strerror}",
                hint=hints.get(error.errno or 0, "check that it is a camera: `v4l2-ctl --list-devices`"),
            ) from error

    def _feed_from(
        self, container: InputContainer, stream: VideoStream, feed: Feed, path: PicturePath
    ) -> None:
        bad = 0
        gone = CameraError(f"{self._uri}: the camera is gone", hint="check that it is plugged in")
        try:
            for packet in container.demux(stream):
                if feed.closed.is_set():
                    return
                try:
                    frames = packet.decode()
                    bad = 0
                except av.InvalidDataError as error:
                    # The first pictures after opening, and any over a bad cable, may be cut short.
                    bad += 1
                    if bad > _BAD_PICTURES:
                        raise CameraError(f"{self._uri}: {bad} unreadable pictures in a row") from error
                    continue
                for frame in frames:
                    path.take(frame, exposed_ns(_stamp_ns(frame)))
        except OSError as error:
            raise gone from error
        raise gone

    def _described(
        self, device: str, size: tuple[int, int], fps: float, lores: tuple[int, int]
    ) -> CameraInfo:
        return CameraInfo(
            name=_card_name(device),
            uri=self._uri,
            width=size[0],
            height=size[1],
            fps=fps,
            lores_width=lores[0],
            lores_height=lores[1],
            codec=self._thread.codec,
            can_force_idr=True,
            masks_before_encoder=True,
            note="encoded in software",
        )


def _stamp_ns(frame: av.VideoFrame) -> int | None:
    """The driver's time stamp of a picture."""
    if frame.pts is None or frame.time_base is None:
        return None
    return int(frame.pts * frame.time_base * _NS_PER_S)


def _card_name(device: str) -> str:
    """What the driver calls the camera, else the device's path."""
    try:
        name = Path("/sys/class/video4linux") / Path(device).name / "name"
        return name.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return device
