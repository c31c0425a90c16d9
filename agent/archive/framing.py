"""The clear structure of a segment: preface, records, footer. PURE; needs no key (FORMAT.md sections 1 to 4).

What this module promises without keys: every byte lies under a CRC-32, records stand in the order of their
index, carry their segment's id and end with the one marked last. That is enough for recovery after a power
cut. It proves nothing about who wrote the bytes: that is what `agent.archive.segment` opens and verifies.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from agent.consent import strict_json
from agent.consent.fields import Fields, encode_bytes
from agent.consent.times import TimeQuality
from agent.errors import DocumentError, SegmentError, SegmentSpliced, SegmentTruncated

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION: Final = 0
ALGORITHM: Final = "aes-256-gcm"
MAGIC: Final = b"DWSEGv0\n"
RECORD_MAGIC: Final = b"DWRC"
FOOTER_MAGIC: Final = b"DWFT"
SEGMENT_ID_BYTES: Final = 16
PREFIX_BYTES: Final = 8
HASH_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
MAX_JSON_BYTES: Final = 64 * 1024
MAX_RECORDS: Final = 256
MAX_CIPHERTEXT_BYTES: Final = 32 * 1024 * 1024
MAX_SEGMENT_BYTES: Final = 256 * 1024 * 1024
MAX_RECIPIENTS: Final = 200
MAX_INTEGER: Final = strict_json.MAX_INTEGER

FLAG_LAST: Final = 1
FLAG_INIT: Final = 2

_U32: Final = struct.Struct(">I")
_CLEAR: Final = struct.Struct(
    ">4s8sIIQIII"
)  # magic, prefix, index, flags, offset, duration, length, body CRC
AUTHENTICATED_BYTES: Final = _CLEAR.size - _U32.size
"""The clear fields of a record that its encryption authenticates: all but the two checksums."""
RECORD_HEADER_BYTES: Final = _CLEAR.size + _U32.size
_FOOTER: Final = struct.Struct(">4s8sI")


@dataclass(frozen=True, slots=True)
class WallTime:
    """A moment on the wall clock as the device believed it; ``bound_ns`` is the error it allowed for."""

    utc_ns: int
    quality: TimeQuality
    bound_ns: int | None


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says of itself in the clear. Times are kept to the microsecond.

    ``start_wall`` is None when the device had no idea of the time. ``codec`` is RFC 6381.
    """

    device: str
    camera: str
    segment_id: bytes
    sequence: int
    start_boot_ns: int
    start_wall: WallTime | None
    codec: str

    def encode(self) -> bytes:
        """The header's strict JSON; its SHA-256 is the header hash."""
        wall = self.start_wall
        return strict_json.dumps(
            {
                "alg": ALGORITHM,
                "camera": self.camera,
                "codec": self.codec,
                "device": self.device,
                "segment": self.segment_id.hex(),
                "sequence": self.sequence,
                "start": None
                if wall is None
                else {
                    "bound_us": None if wall.bound_ns is None else wall.bound_ns // 1000,
                    "quality": str(wall.quality),
                    "utc_us": wall.utc_ns // 1000,
                },
                "start_boot_us": self.start_boot_ns // 1000,
                "version": VERSION,
            }
        )


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """The segment key sealed to one archive key."""

    recipient: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class ClearRecord:
    """One record as it stands in the file; ``offset_ns`` counts from the segment's start."""

    index: int
    is_last: bool
    offset_ns: int
    duration_ns: int
    clear: bytes
    ciphertext: bytes

    @property
    def authenticated(self) -> bytes:
        """The clear fields that the encryption authenticates."""
        return self.clear[:AUTHENTICATED_BYTES]

    def hash(self) -> bytes:
        """SHA-256 over the whole record as it stands in the file."""
        return sha256(self.clear + self.ciphertext).digest()


@dataclass(frozen=True, slots=True)
class Footer:
    """The signed end of a segment; `payload` is what the signature covers, behind its label."""

    payload: bytes
    signature: bytes
    header_hash: bytes
    wraps_hash: bytes
    records: tuple[tuple[bytes, bytes], ...]  # per record: salted plaintext hash, record hash


@dataclass(frozen=True, slots=True)
class ClearSegment:
    """What can be read of a segment without keys, up to the first problem.

    ``good_bytes`` is where the last good record (or the footer) ends: recovery cuts there. ``problem`` is
    None when the bytes end on a border, which says nothing of whether they are complete.
    """

    header: SegmentHeader
    header_hash: bytes
    wraps: tuple[WrappedKey, ...]
    wraps_hash: bytes
    records: tuple[ClearRecord, ...]
    footer: Footer | None
    good_bytes: int
    problem: SegmentError | None

    @property
    def is_complete(self) -> bool:
        """Whether the record marked last is there."""
        return bool(self.records) and self.records[-1].is_last

    @property
    def duration_ns(self) -> int:
        """From the segment's start to the end of its last good record."""
        return max((each.offset_ns + each.duration_ns for each in self.records), default=0)


def encode_preface(header: bytes, wraps: Sequence[WrappedKey]) -> tuple[bytes, bytes]:
    """Write everything before the first record.

    Returns:
        The bytes, and the hash of the wraps for the footer.
    """
    wrapped = strict_json.dumps(
        {"keys": [{"recipient": each.recipient, "sealed": encode_bytes(each.sealed)} for each in wraps]}
    )
    body = b"".join((MAGIC, _U32.pack(len(header)), header, _U32.pack(len(wrapped)), wrapped))
    return body + _U32.pack(zlib.crc32(body)), sha256(wrapped).digest()


def encode_authenticated(
    segment_id: bytes, index: int, *, is_last: bool, offset_us: int, duration_us: int, length: int
) -> bytes:
    """The clear fields of a record that its encryption authenticates; ``length`` is the ciphertext's."""
    flags = (FLAG_LAST if is_last else 0) | (FLAG_INIT if index == 0 else 0)
    return _CLEAR.pack(
        RECORD_MAGIC, segment_id[:PREFIX_BYTES], index, flags, offset_us, duration_us, length, 0
    )[:AUTHENTICATED_BYTES]


def encode_record(authenticated: bytes, ciphertext: bytes) -> bytes:
    """Put a record together; its two checksums are over the ciphertext and over the clear fields."""
    clear = authenticated + _U32.pack(zlib.crc32(ciphertext))
    return b"".join((clear, _U32.pack(zlib.crc32(clear)), ciphertext))


def encode_footer_payload(
    header: SegmentHeader, *, header_hash: bytes, wraps_hash: bytes, records: Sequence[tuple[bytes, bytes]]
) -> bytes:
    """The strict JSON that the device signs."""
    return strict_json.dumps(
        {
            "header": header_hash.hex(),
            "records": [[plain.hex(), record.hex()] for plain, record in records],
            "segment": header.segment_id.hex(),
            "version": VERSION,
            "wraps": wraps_hash.hex(),
        }
    )


def encode_footer(segment_id: bytes, payload: bytes, signature: bytes) -> bytes:
    """Put the footer together."""
    body = b"".join((_FOOTER.pack(FOOTER_MAGIC, segment_id[:PREFIX_BYTES], len(payload)), payload, signature))
    return body + _U32.pack(zlib.crc32(body))


def read_clear(data: bytes) -> ClearSegment:
    """Walk a segment without keys, up to the first thing that is wrong.

    Raises:
        SegmentTruncated: The bytes end within the preface.
        SegmentError: The preface is damaged or not ours: there is nothing to walk.
    """
    return _Walk(data).walk()


class _Walk:
    """One pass over the bytes of one segment."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def walk(self) -> ClearSegment:
        header_json, wraps_json = self._preface()
        header, wraps = _parse_header(header_json), _parse_wraps(wraps_json)
        records: list[ClearRecord] = []
        footer: Footer | None = None
        problem: SegmentError | None = None
        good = self._at
        try:
            while self._at < len(self._data) and footer is None:
                if self._data[self._at : self._at + 4] == FOOTER_MAGIC:
                    footer = self._footer(header, records)
                else:
                    records.append(self._record(header, records))
                good = self._at
        except SegmentError as error:
            problem = error
        if problem is None and self._at < len(self._data):
            problem = SegmentError(
                f"segment {header.sequence}: {len(self._data) - self._at} bytes after its footer"
            )
        return ClearSegment(
            header,
            sha256(header_json).digest(),
            wraps,
            sha256(wraps_json).digest(),
            tuple(records),
            footer,
            good,
            problem,
        )

    def _take(self, count: int, what: str) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise SegmentTruncated(
                f"segment: ends within its {what} (got {len(taken)} bytes, expected {count})"
            )
        self._at += count
        return taken

    def _length(self, most: int, what: str) -> int:
        length: int = _U32.unpack(self._take(_U32.size, what))[0]
        if not 0 < length <= most:
            raise SegmentError(f"segment: {what} length (got {length}, expected 1..{most})")
        return length

    def _preface(self) -> tuple[bytes, bytes]:
        magic = self._data[: len(MAGIC)]
        if magic != MAGIC[: len(magic)]:
            raise SegmentError("segment: not a segment of format v0")
        self._take(len(MAGIC), "first bytes")
        header = self._take(self._length(MAX_JSON_BYTES, "header"), "header")
        wraps = self._take(self._length(MAX_JSON_BYTES, "wrapped keys"), "wrapped keys")
        expected = zlib.crc32(self._data[: self._at])
        if _U32.unpack(self._take(_U32.size, "header"))[0] != expected:
            raise SegmentError("segment: header damaged (checksum)")
        return header, wraps

    def _record(self, header: SegmentHeader, before: list[ClearRecord]) -> ClearRecord:
        where = f"segment {header.sequence} record {len(before)}"
        clear = self._take(RECORD_HEADER_BYTES, "record")
        magic, prefix, index, flags, offset, duration, length, body_crc = _CLEAR.unpack_from(clear)
        if _U32.unpack_from(clear, _CLEAR.size)[0] != zlib.crc32(clear[: _CLEAR.size]):
            raise SegmentError(f"{where}: damaged (checksum of its clear fields)")
        if magic != RECORD_MAGIC or not 0 < length <= MAX_CIPHERTEXT_BYTES or index >= MAX_RECORDS:
            raise SegmentError(f"{where}: not a record of format v0")
        if prefix != header.segment_id[:PREFIX_BYTES]:
            raise SegmentSpliced(f"{where}: belongs to another segment (got {prefix.hex()}…)")
        if before and before[-1].is_last:
            raise SegmentSpliced(f"{where}: stands after the last record")
        if index != len(before):
            raise SegmentSpliced(f"{where}: out of order (got index {index})")
        allowed = (FLAG_INIT,) if index == 0 else (0, FLAG_LAST)
        if flags not in allowed:
            raise SegmentError(f"{where}: unknown flags (got {flags})")
        ciphertext = self._take(length, "record")
        if zlib.crc32(ciphertext) != body_crc:
            raise SegmentError(f"{where}: damaged (checksum of its content)")
        return ClearRecord(index, bool(flags & FLAG_LAST), offset * 1000, duration * 1000, clear, ciphertext)

    def _footer(self, header: SegmentHeader, records: list[ClearRecord]) -> Footer:
        where = f"segment {header.sequence} footer"
        start = self._at
        _, prefix, length = _FOOTER.unpack(self._take(_FOOTER.size, "footer"))
        if length > MAX_JSON_BYTES:
            raise SegmentError(f"{where}: too large (got {length}, expected at most {MAX_JSON_BYTES})")
        payload = self._take(length, "footer")
        signature = self._take(SIGNATURE_BYTES, "footer")
        expected = zlib.crc32(self._data[start : self._at])
        if _U32.unpack(self._take(_U32.size, "footer"))[0] != expected:
            raise SegmentError(f"{where}: damaged (checksum)")
        if prefix != header.segment_id[:PREFIX_BYTES]:
            raise SegmentSpliced(f"{where}: belongs to another segment (got {prefix.hex()}…)")
        footer = _parse_footer(payload, signature, header)
        if len(footer.records) > len(records):
            raise SegmentTruncated(
                f"{where}: records are missing (got {len(records)}, expected {len(footer.records)})"
            )
        if len(footer.records) < len(records) or not (records and records[-1].is_last):
            raise SegmentSpliced(f"{where}: names {len(footer.records)} of {len(records)} records")
        return footer


def _parse_header(data: bytes) -> SegmentHeader:
    try:
        fields = Fields(strict_json.loads(data), "segment header")
        fields.integer("version", VERSION, VERSION)
        fields.constant("alg", ALGORITHM)
        wall = fields.record("start", _parse_wall) if fields.has("start") else None
        header = SegmentHeader(
            device=fields.key_id("device"),
            camera=fields.name("camera"),
            segment_id=_hex(fields.text("segment"), SEGMENT_ID_BYTES, "segment header.segment"),
            sequence=fields.integer("sequence", 0, MAX_INTEGER),
            start_boot_ns=fields.integer("start_boot_us", 0, MAX_INTEGER) * 1000,
            start_wall=wall,
            codec=fields.text("codec", max_chars=64),
        )
        fields.done()
    except DocumentError as error:
        raise SegmentError(str(error)) from error
    return header


def _parse_wall(value: object, where: str) -> WallTime:
    fields = Fields(value, where)
    bound = fields.integer("bound_us", 0, MAX_INTEGER) * 1000 if fields.has("bound_us") else None
    wall = WallTime(
        fields.integer("utc_us", 0, MAX_INTEGER) * 1000, fields.choice("quality", TimeQuality), bound
    )
    fields.done()
    return wall


def _parse_wraps(data: bytes) -> tuple[WrappedKey, ...]:
    try:
        fields = Fields(strict_json.loads(data), "wrapped keys")
        wraps = fields.items("keys", _parse_wrap, most=MAX_RECIPIENTS)
        fields.done()
    except DocumentError as error:
        raise SegmentError(str(error)) from error
    return wraps


def _parse_wrap(value: object, where: str) -> WrappedKey:
    fields = Fields(value, where)
    wrap = WrappedKey(fields.key_id("recipient"), fields.data("sealed", max_bytes=2048))
    fields.done()
    return wrap


def _parse_footer(payload: bytes, signature: bytes, header: SegmentHeader) -> Footer:
    try:
        fields = Fields(strict_json.loads(payload), "segment footer")
        fields.integer("version", VERSION, VERSION)
        fields.constant("segment", header.segment_id.hex())
        footer = Footer(
            payload,
            signature,
            _hex(fields.text("header"), HASH_BYTES, "segment footer.header"),
            _hex(fields.text("wraps"), HASH_BYTES, "segment footer.wraps"),
            fields.items("records", _parse_hashes, most=MAX_RECORDS),
        )
        fields.done()
    except DocumentError as error:
        raise SegmentError(str(error)) from error
    return footer


def _parse_hashes(value: object, where: str) -> tuple[bytes, bytes]:
    match value:
        case [str(plain), str(record)]:
            return _hex(plain, HASH_BYTES, where), _hex(record, HASH_BYTES, where)
        case _:
            raise DocumentError(f"{where}: not two hashes")


def _hex(text: str, count: int, where: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise DocumentError(f"{where}: not hex") from error
    if len(data) != count or data.hex() != text:
        raise DocumentError(f"{where} (got {text[:40]!r}, expected {2 * count} hex digits)")
    return data
