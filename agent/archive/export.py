"""Sealed segments to ordinary MP4 files, on the owner's side. No re-encoding; cut at GOP borders.

A client's module: it needs archive keys, and nothing of the ring or the recorder. What it promises:

- every fragment that overlaps the interval is in the file, no other; times inside count from its first frame;
- nothing is written over, and no file appears under its name before it is whole;
- what is not signed by the device, and where nothing was recorded, stands in the report;
- another resolution or codec setting begins another, numbered file.

Gaps are closed in the file (players stumble over hours of nothing) and named in the report.
"""

from __future__ import annotations

import datetime as dt
import errno
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import av.error

from agent.archive.segment import OpenedFragment, OpenedSegment, Provenance, open_segment
from agent.errors import Refused, SegmentError, SegmentSpliced, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from av.container import InputContainer
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_CLOCK_HZ: Final = 90_000
_TIME_BASE: Final = Fraction(1, _CLOCK_HZ)
_MIN_GAP_NS: Final = 500_000_000
_MAX_STEP: Final = _CLOCK_HZ
_DEFAULT_STEP: Final = _CLOCK_HZ // 30


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One MP4 file and the stretch of UTC nanoseconds that it shows."""

    path: Path
    frames: int
    start_utc_ns: int
    end_utc_ns: int


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one provenance; ``reason`` says why it is unsigned."""

    start_utc_ns: int
    end_utc_ns: int
    provenance: Provenance
    reason: str | None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export holds. ``gaps`` are stretches (start, end) within it without a recording.

    ``undated`` counts segments left out because the device had no time when it recorded them.
    """

    files: tuple[ExportedFile, ...]
    spans: tuple[Span, ...]
    gaps: tuple[tuple[int, int], ...]
    undated: int

    @property
    def frames(self) -> int:
        """Pictures in all files."""
        return sum(each.frames for each in self.files)


def export(
    segments: Iterable[bytes | Path],
    *,
    archive_keys: Sequence[X25519PrivateKey],
    device_key: bytes,
    out: Path,
    from_utc_ns: int | None = None,
    to_utc_ns: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda _count, _until_utc_ns: None,
) -> ExportReport:
    """Write the stretch [from, to) of ``segments`` (in order of sequence) to ``out``.

    ``device_key`` is the raw Ed25519 key the owner knows the device by. ``progress`` hears the number of
    segments done and the UTC nanoseconds reached. A second file of other parameters than the first is called
    ``<stem>-2<suffix>``, and so on. On any error nothing is left behind.

    Raises:
        SealedMessageError: None of the keys opens a segment.
        SegmentError: A segment is damaged, changed, or of another device.
        Refused: Nothing was recorded in this stretch, or a file is in the way (reasons ``not_recorded``,
            ``file_exists``).
        StorageError: Something cannot be read or written.
    """
    job = _Export(out, overwrite=overwrite)
    try:
        _feed(job, segments, archive_keys, device_key, (from_utc_ns, to_utc_ns), progress)
        return job.finish()
    except OSError as error:
        raise StorageError(f"export {out.name}: cannot be written ({error.strerror})") from error
    finally:
        job.discard()


def _feed(
    job: _Export,
    segments: Iterable[bytes | Path],
    archive_keys: Sequence[X25519PrivateKey],
    device_key: bytes,
    interval: tuple[int | None, int | None],
    progress: Callable[[int, int], None],
) -> None:
    newest = -1
    for count, source in enumerate(segments, 1):
        opened = open_segment(source, archive_keys=archive_keys, device_key=device_key, allow_unsigned=True)
        if opened.header.sequence <= newest:
            raise SegmentSpliced(f"segment {opened.header.sequence}: comes after segment {newest}")
        newest = opened.header.sequence
        until = job.add(opened, *interval)
        progress(count, until)


class _Export:
    """The files of one export while they are written."""

    def __init__(self, out: Path, *, overwrite: bool) -> None:
        self._out = out
        self._overwrite = overwrite
        self._parts: list[_Part] = []
        self._spans: list[Span] = []
        self._gaps: list[tuple[int, int]] = []
        self._undated = 0
        self._until = 0
        self._refuse_existing(out)

    def add(self, opened: OpenedSegment, from_utc_ns: int | None, to_utc_ns: int | None) -> int:
        """Take what of a segment lies within [from, to); returns the UTC nanoseconds reached."""
        if opened.header.start_wall is None:
            self._undated += 1
            return self._until
        wanted = [
            (start, each)
            for each in opened.fragments
            if (start := each.start_utc_ns) is not None
            and (from_utc_ns is None or start + each.duration_ns > from_utc_ns)
            and (to_utc_ns is None or start < to_utc_ns)
        ]
        if not wanted:
            return self._until
        start, (last_start, last) = wanted[0][0], wanted[-1]
        end = last_start + last.duration_ns
        if self._until and start - self._until >= _MIN_GAP_NS:
            self._gaps.append((self._until, start))
        with _reading(opened, [each for _, each in wanted]) as source:
            self._part_for(source, start).copy(source, end)
        self._note_span(Span(start, end, opened.provenance, opened.reason))
        self._until = end
        return end

    def finish(self) -> ExportReport:
        """Give the files their names.

        Raises:
            Refused: There is nothing to name, or a name is taken.
        """
        if not self._parts:
            hint = "recorded before the device knew the time" if self._undated else None
            raise Refused("export: nothing was recorded in this interval", reason="not_recorded", hint=hint)
        for part in self._parts:
            part.close()
        for part in self._parts:
            self._refuse_existing(part.path)
        files = tuple(part.publish() for part in self._parts)
        self._parts = []
        return ExportReport(files, tuple(self._spans), tuple(self._gaps), self._undated)

    def discard(self) -> None:
        """Remove what was not finished. Harmless after `finish`."""
        for part in self._parts:
            part.discard()

    def _part_for(self, source: InputContainer, start_utc_ns: int) -> _Part:
        parameters = bytes(source.streams.video[0].codec_context.extradata or b"")
        if not self._parts or self._parts[-1].parameters != parameters:
            number = len(self._parts) + 1
            path = self._out if number == 1 else self._out.with_stem(f"{self._out.stem}-{number}")
            self._parts.append(_Part(path, source, parameters, start_utc_ns))
        return self._parts[-1]

    def _note_span(self, span: Span) -> None:
        before = self._spans[-1] if self._spans else None
        if (
            before is not None
            and (before.provenance, before.reason) == (span.provenance, span.reason)
            and span.start_utc_ns - before.end_utc_ns < _MIN_GAP_NS
        ):
            span = Span(before.start_utc_ns, span.end_utc_ns, span.provenance, span.reason)
            self._spans.pop()
        self._spans.append(span)

    def _refuse_existing(self, path: Path) -> None:
        if not self._overwrite and os.path.lexists(path):
            raise Refused(
                f"export: {path.name} is there already", reason="file_exists", hint="choose another name"
            )


class _Part:
    """One MP4 file, under a temporary name until it is whole."""

    def __init__(self, path: Path, source: InputContainer, parameters: bytes, start_utc_ns: int) -> None:
        self.path = path
        self.parameters = parameters
        self._temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
        self._start = self._end = start_utc_ns
        self._frames = 0
        self._next = 0  # where the next frame goes, in ticks of 90 kHz
        self._last_in: int | None = None
        self._step = _DEFAULT_STEP
        try:
            descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"export {path.name}: cannot be written ({error.strerror})") from error
        os.close(descriptor)
        try:
            self._open(source, start_utc_ns)
        except av.error.FFmpegError as error:
            self._temporary.unlink(missing_ok=True)
            raise _failed(path, error) from error

    def _open(self, source: InputContainer, start_utc_ns: int) -> None:
        # By name, not through a Python file: "faststart" reads the file back from a second handle.
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "faststart"})
        moment = dt.datetime.fromtimestamp(start_utc_ns // 10**9, tz=dt.UTC)
        self._container.metadata["creation_time"] = moment.isoformat()
        self._stream = self._container.add_stream_from_template(source.streams.video[0])
        self._stream.time_base = _TIME_BASE

    def copy(self, source: InputContainer, end_utc_ns: int) -> None:
        """Append every frame of ``source``; time goes on where it stood, across any gap."""
        try:
            for packet in source.demux(video=0):
                if packet.dts is None or packet.time_base is None:
                    continue  # the end of the stream
                at = round(packet.dts * packet.time_base * _CLOCK_HZ)
                step = at - self._last_in if self._last_in is not None else 0
                if 0 < step <= _MAX_STEP:
                    self._step = step
                elif self._last_in is not None:
                    step = self._step  # a gap, or another start of the camera
                self._last_in = at
                self._next += step
                packet.time_base = _TIME_BASE
                packet.pts = packet.dts = self._next
                packet.duration = self._step
                packet.stream = self._stream
                self._container.mux(packet)
                self._frames += 1
        except (av.error.FFmpegError, ValueError) as error:
            raise _failed(self.path, error) from error
        self._end = end_utc_ns

    def close(self) -> None:
        """Finish the file and put it on stable storage.

        Raises:
            StorageError: The disk does not take it.
        """
        try:
            self._container.close()
        except av.error.FFmpegError as error:
            raise _failed(self.path, error) from error
        descriptor = os.open(self._temporary, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def publish(self) -> ExportedFile:
        """Give the file its name."""
        self._temporary.replace(self.path)
        return ExportedFile(self.path, self._frames, self._start, self._end)

    def discard(self) -> None:
        """Remove the unfinished file."""
        try:
            self._container.close()
        except av.error.FFmpegError:
            pass  # it goes away anyhow
        finally:
            self._temporary.unlink(missing_ok=True)


def _failed(path: Path, error: Exception) -> StorageError | SegmentError:
    """Whose fault it is: the disk's, or that of the pictures."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
    if isinstance(error, av.error.FFmpegError) and error.errno in full:
        return StorageError(f"export {path.name}: cannot be written ({error.strerror})")
    return SegmentError(f"export {path.name}: pictures cannot be muxed ({error})")


@contextmanager
def _reading(opened: OpenedSegment, fragments: Sequence[OpenedFragment]) -> Iterator[InputContainer]:
    data = io.BytesIO(b"".join((opened.init, *(each.data for each in fragments))))
    try:
        container = av.open(data, "r", format="mp4")
    except av.error.FFmpegError as error:
        raise SegmentError(f"segment {opened.header.sequence}: holds no playable video") from error
    with container:
        if not container.streams.video:
            raise SegmentError(f"segment {opened.header.sequence}: holds no video")
        yield container
