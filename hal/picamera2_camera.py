"""``picamera2:`` and ``picamera2:N`` - a Raspberry Pi camera module. The only module that imports picamera2.

picamera2 is imported when a camera is started or looked for, since it opens devices while it is imported.

One capture, two streams: ``main`` goes to the hardware's H.264 encoder where there is one (VC4: Pi Zero 2
to 4), else to `hal.h264_encoder`; ``lores`` to the sink. Never areas are burnt into both in picamera2's
pre-callback, which runs before either is used. An exception in that callback would end picamera2's capture
thread without a word, so none leaves it: the run fails, and with it closed no unmasked picture gets out.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av
from av.video.reformatter import VideoReformatter

from hal import annexb
from hal.camera import CameraError, CameraInfo, Frame, Packet
from hal.exposure import exposed_ns
from hal.feed import CaptureThread
from hal.h264_encoder import H264Encoder, default_bitrate, default_threads, ticks
from hal.picture_path import Controls, lores_size
from hal.planes import Planes, i420_planes, nv12_planes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.camera import Polygon, Sink
    from hal.feed import Feed

Untyped = Any
"""An object of picamera2, which has no types and is absent where this is checked."""

_HARDWARE_ENCODER: Final = Path("/dev/video11")
_US_PER_S: Final = 1_000_000
_NS_PER_US: Final = 1000
_REMEMBERED: Final = 64
_AV_FORMATS: Final = {"YUV420": "yuv420p", "NV12": "nv12"}


class EncoderChoice(StrEnum):
    """Which encoder ``main`` goes to."""

    AUTO = "auto"  # hardware where there is one
    HARDWARE = "hardware"
    SOFTWARE = "software"


def picamera2_camera_present() -> bool:
    """Whether picamera2 is installed and knows a camera that is not a USB camera. Asks the hardware."""
    if importlib.util.find_spec("picamera2") is None:
        return False
    try:
        from picamera2 import Picamera2  # type: ignore[import-not-found]  # noqa: PLC0415 - see above

        return any("/usb" not in camera["Id"] for camera in Picamera2.global_camera_info())
    except (ImportError, RuntimeError, OSError):
        return False  # libcamera or its Python binding is missing, or cannot start: no camera to be had.


def open_picamera2(number: int, kind: Untyped = None, **settings: Untyped) -> Untyped:
    """Open camera ``number`` with picamera2; ``kind`` is the class to make with ``settings``, else Picamera2.

    Raises:
        CameraError: picamera2 or the camera is missing, or the camera is in use.
    """
    try:
        from picamera2 import Picamera2  # noqa: PLC0415 - see above
    except (ImportError, OSError) as error:
        raise CameraError(
            f"picamera2: cannot be imported: {error}",
            hint="on Raspberry Pi OS: sudo apt-get install -y python3-picamera2, "
            "and a virtual environment with --system-site-packages",
        ) from error
    if number >= len(Picamera2.global_camera_info()):
        raise CameraError(
            f"picamera2: no camera number {number}",
            hint="check the ribbon cable; `rpicam-hello --list-cameras` shows what is there",
        )
    kind = kind or Picamera2
    device = kind.__new__(kind)
    try:
        device.__init__(number, **settings)
    except RuntimeError as error:
        # An object half made keeps its pipe, and a camera that is missing is tried for again and again.
        device.close()
        if not device.notifymeread.closed:
            device.notifymeread.close()
            os.close(device.notifyme_w)
        raise CameraError(
            f"picamera2: cannot open camera {number}: {error.__cause__ or error}",
            hint="another program may use the camera: stop it",
        ) from error
    return device


class Picamera2Camera:
    """The camera ``picamera2:``; see `hal.camera.Camera`. ``create`` opens one by its number."""

    def __init__(
        self,
        number: int = 0,
        uri: str | None = None,
        *,
        size: tuple[int, int] = (1920, 1080),
        fps: float = 30.0,
        lores: tuple[int, int] | None = None,
        bitrate: int | None = None,
        encoder: EncoderChoice = EncoderChoice.AUTO,
        create: Callable[[int], Untyped] = open_picamera2,
    ) -> None:
        self._number, self._uri = number, uri or f"picamera2:{number}"
        self._size, self._fps = size, fps
        self._lores = lores_size(*size, lores)
        self._bitrate, self._choice, self._create = bitrate, encoder, create
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
        """See `hal.camera.Camera.request_idr`; one of the next two pictures is one."""
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
        device = self._create(self._number)
        try:
            streams = self._configure(device)
            hardware = self._uses_hardware()
            bitrate = self._bitrate or default_bitrate(*self._size, self._fps)
            encoder = (_hardware_encoder if hardware else _software_encoder)(bitrate, self._fps)
            self._info = self._described(device, hardware=hardware)
            run = _Run(feed, self._controls, encoder, streams, self._uri)
            device.pre_callback = run.on_request
            device.start_encoder(encoder, _output(run), name="main")
            device.start()
            feed.closed.wait()
        except (RuntimeError, IndexError, KeyError, TypeError) as error:
            # What picamera2 raises for what it cannot do; it has no exceptions of its own.
            raise CameraError(f"{self._uri}: {error}") from error
        finally:
            # close() first ends picamera2's event thread and then stops the camera itself. stop() would ask
            # that thread to do it, and wait for ever if it is dead.
            if device.encoders:
                device.stop_encoder()
            device.close()

    def _configure(self, device: Untyped) -> dict[str, Untyped]:
        duration_us = int(_US_PER_S / self._fps)
        device.configure(
            device.create_video_configuration(
                main={"size": self._size, "format": "YUV420"},
                lores={"size": self._lores, "format": "YUV420"},
                controls={"FrameDurationLimits": (duration_us, duration_us)},
            )
        )
        streams: dict[str, Untyped] = device.camera_configuration()
        for name, size in (("main", self._size), ("lores", self._lores)):
            got = (streams[name]["size"], streams[name]["format"])
            if got[0] != size or got[1] not in _AV_FORMATS:
                raise CameraError(
                    f"{self._uri}: {name} (got {got[0][0]}x{got[0][1]} {got[1]}, "
                    f"expected {size[0]}x{size[1]} in {' or '.join(_AV_FORMATS)})",
                    hint="choose a size that the camera has",
                )
        return streams

    def _uses_hardware(self) -> bool:
        if self._choice is not EncoderChoice.AUTO:
            return self._choice is EncoderChoice.HARDWARE
        from picamera2.platform import (  # type: ignore[import-not-found]  # noqa: PLC0415 - see above
            Platform,
            get_platform,
        )

        # picamera2 says VC4 on every machine that it does not know, so look for the encoder too.
        return bool(get_platform() == Platform.VC4) and _HARDWARE_ENCODER.exists()

    def _described(self, device: Untyped, *, hardware: bool) -> CameraInfo:
        return CameraInfo(
            name=str(device.camera_properties.get("Model", "camera module")),
            uri=self._uri,
            width=self._size[0],
            height=self._size[1],
            fps=self._fps,
            lores_width=self._lores[0],
            lores_height=self._lores[1],
            codec=self._thread.codec,
            can_force_idr=True,
            masks_before_encoder=True,
            note="encoded in hardware" if hardware else "encoded in software",
        )


class _Run:
    """One run: what picamera2's threads call."""

    def __init__(
        self,
        feed: Feed,
        controls: Controls,
        encoder: Untyped,
        streams: dict[str, Untyped],
        uri: str,
    ) -> None:
        self._feed, self._controls, self._encoder = feed, controls, encoder
        self._streams, self._uri = streams, uri
        self._exposed: dict[int, int] = {}  # sensor time stamp in us -> CLOCK_BOOTTIME in ns
        self._epoch_ns: int | None = None
        self._last_pts = -1
        self._headers = b""

    def on_request(self, request: Untyped) -> None:
        """Mask both pictures of a request and hand ``lores`` over, before any encoder. Raises nothing."""
        try:
            self._take(request)
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self._feed.fail(CameraError(f"{self._uri}: a picture could not be masked: {error!r}"))

    def on_encoded(self, data: bytes, *, key: bool, timestamp_us: int) -> None:
        """Hand one access unit over; ``timestamp_us`` counts from the encoder's first. Raises nothing."""
        sensor_us = (self._encoder.firsttimestamp or 0) + timestamp_us
        # A picture that was not seen in `on_request` has not been masked.
        t_boot_ns = self._exposed.pop(sensor_us, None)
        if t_boot_ns is None:
            self._feed.fail(CameraError(f"{self._uri}: a picture went by its never areas"))
            return
        if key:
            self._headers = annexb.parameter_sets(data) or self._headers
            if not annexb.parameter_sets(data):
                data = self._headers + data
        if self._epoch_ns is None:
            self._epoch_ns = t_boot_ns
        self._last_pts = max(self._last_pts + 1, ticks(t_boot_ns - self._epoch_ns))
        self._feed.packet(Packet(data, key, self._last_pts, t_boot_ns))

    def _take(self, request: Untyped) -> None:
        sensor_ns = int(request.get_metadata()["SensorTimestamp"])
        t_boot_ns = exposed_ns(sensor_ns)
        never = self._controls.never
        if never:
            with _mapped(request, "main") as mapped:
                never.apply(_planes(mapped.array, self._streams["main"]))
        with _mapped(request, "lores") as mapped:
            planes = _planes(mapped.array, self._streams["lores"])
            never.apply(planes)
            self._feed.frame(Frame(planes.to_i420(), t_boot_ns))
        if self._controls.take_idr():
            self._encoder.force_key_frame()
        # Divided as picamera2 does it, as a float: after months of uptime // can give another number.
        self._exposed[int(sensor_ns / _NS_PER_US)] = t_boot_ns
        while len(self._exposed) > _REMEMBERED:
            del self._exposed[next(iter(self._exposed))]


def _mapped(request: Untyped, name: str) -> Untyped:
    """The buffer of one stream of a request as a flat array, for ``with``."""
    from picamera2 import MappedArray  # noqa: PLC0415 - see above

    return MappedArray(request, name, reshape=False)


def _planes(buffer: Untyped, stream: dict[str, Untyped]) -> Planes:
    """The planes of a stream's picture in its flat ``buffer``."""
    width, height = stream["size"]
    rows = height * 3 // 2
    picture = buffer[: rows * stream["stride"]].reshape(rows, stream["stride"])
    return i420_planes(picture, width) if stream["format"] == "YUV420" else nv12_planes(picture, width)


def _output(run: _Run) -> Untyped:
    """An Output of picamera2 that hands everything to ``run``."""
    from picamera2.outputs import Output  # type: ignore[import-not-found]  # noqa: PLC0415 - see above

    class FeedOutput(Output):  # type: ignore[misc]  # picamera2 is untyped
        def outputframe(
            self,
            frame: bytes,
            keyframe: bool = True,  # noqa: FBT001, FBT002 - picamera2's signature
            timestamp: int | None = None,
            packet: object = None,  # noqa: ARG002 - picamera2's signature
            audio: bool = False,  # noqa: ARG002, FBT001, FBT002 - picamera2's signature
        ) -> None:
            run.on_encoded(bytes(frame), key=keyframe, timestamp_us=timestamp or 0)

    return FeedOutput()


def _hardware_encoder(bitrate: int, fps: float) -> Untyped:
    """The encoder of VC4, constrained baseline with a key frame each second."""
    from picamera2.encoders.h264_encoder import (  # type: ignore[import-not-found]  # noqa: PLC0415 - see above
        H264Encoder as HardwareEncoder,
    )

    return HardwareEncoder(
        bitrate=bitrate, repeat=True, iperiod=round(fps), framerate=fps, profile="constrained baseline"
    )


def _software_encoder(bitrate: int, fps: float) -> Untyped:
    """`H264Encoder` as an encoder of picamera2.

    Not picamera2's own LibavH264Encoder: that one buffers as many pictures as it has threads, and its
    force_key_frame ends the capture thread with PyAV 14 and later.
    """
    from picamera2 import MappedArray  # noqa: PLC0415 - see above
    from picamera2.encoders import Encoder  # type: ignore[import-not-found]  # noqa: PLC0415 - see above

    class SoftwareEncoder(Encoder):  # type: ignore[misc]  # picamera2 is untyped
        def force_key_frame(self) -> None:
            self._idr_asked = True

        def _start(self) -> None:
            super()._start()
            self._idr_asked = False
            self._to_yuv420p = VideoReformatter()
            self._h264 = H264Encoder(
                width=self.width,
                height=self.height,
                fps=fps,
                bitrate=bitrate,
                threads=default_threads(self.width, self.height),
            )

        def _encode(self, stream: Untyped, request: Untyped) -> None:
            timestamp_us = self._timestamp(request)
            idr, self._idr_asked = self._idr_asked, False
            with MappedArray(request, stream) as mapped:
                picture = av.VideoFrame.from_numpy_buffer(
                    mapped.array, format=_AV_FORMATS[self.format], width=self.width
                )
                picture = self._to_yuv420p.reformat(picture, format="yuv420p")
                packets = self._h264.encode(picture, timestamp_us * _NS_PER_US, force_idr=idr)
            for packet in packets:
                self.outputframe(packet.annexb, packet.key, packet.t_boot_ns // _NS_PER_US)

    return SoftwareEncoder()
