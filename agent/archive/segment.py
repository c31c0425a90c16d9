"""Sealing and opening segments. PURE. FORMAT.md has the bytes; `agent.archive.framing` the clear structure.

Writing: `SegmentSealer` draws a fresh segment key, wraps it for every archive key, encrypts each record under
a key of its own and signs hashes of all of them. The key is gone when the segment is closed; from then on
the device cannot open what it wrote.

Opening (`open_segment`), in order; the first rule that fails raises:

1. every byte lies under a good checksum, records are in order and of this segment (framing);
2. the last record and the footer are there, unless the caller accepts what an interruption left;
3. the segment names the device whose key the caller trusts, and the footer is that device's signature over
   this header, these wraps and these records, in this number;
4. the segment key opens from a wrap with one of the caller's archive keys;
5. each record authenticates under its own key, header and clear fields;
6. each plaintext is the one whose salted hash the device signed.

What has no footer passes 3 and 6 unproven and is labelled `Provenance.UNSIGNED`, never silently.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from agent import sealing
from agent.archive import framing
from agent.archive.framing import (
    MAX_CIPHERTEXT_BYTES,
    MAX_RECIPIENTS,
    MAX_RECORDS,
    MAX_SEGMENT_BYTES,
    ClearRecord,
    ClearSegment,
    SegmentHeader,
    WallTime,
    WrappedKey,
    read_clear,
)
from agent.consent.envelope import is_valid_signature, key_id
from agent.errors import SealedMessageError, SegmentError, SegmentTruncated, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

__all__ = [
    "ClearSegment",
    "OpenedFragment",
    "OpenedSegment",
    "Provenance",
    "Recipient",
    "SegmentHeader",
    "SegmentSealer",
    "WallTime",
    "footer_message",
    "open_segment",
    "read_clear",
]

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
SEGMENT_ID_BYTES: Final = framing.SEGMENT_ID_BYTES
MAX_PLAINTEXT_BYTES: Final = MAX_CIPHERTEXT_BYTES - TAG_BYTES

_RECORD_KEY: Final = b"doorward/v0/record-key\0"
_RECORD_SALT: Final = b"doorward/v0/record-salt\0"
_PLAINTEXT: Final = b"doorward/v0/record-plaintext\0"
_FOOTER: Final = b"doorward/v0/segment-footer\0"
_NONCE: Final = bytes(12)
"""Every record key encrypts one record once, so the nonce may be constant (NIST SP 800-38D, 8.3)."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """An archive key that segments are sealed to: a raw X25519 public key."""

    public: bytes

    @property
    def key_id(self) -> str:
        """``sha256:`` and the hex SHA-256 of the raw key."""
        return key_id(self.public)


class Provenance(StrEnum):
    """Whether the device's signature proves that these are the pictures it recorded."""

    SIGNED = "signed"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class OpenedFragment:
    """One decrypted fMP4 fragment (``moof`` and ``mdat`` of one GOP)."""

    data: bytes
    start_boot_ns: int
    start_utc_ns: int | None
    duration_ns: int


@dataclass(frozen=True, slots=True)
class OpenedSegment:
    """A decrypted segment. ``init`` and any run of fragments in order make a playable file.

    ``reason`` says why the provenance is unsigned; None when it is signed. ``footer_hash`` is what the
    ledger commits to; None without a footer.
    """

    header: SegmentHeader
    init: bytes
    fragments: tuple[OpenedFragment, ...]
    provenance: Provenance
    reason: str | None
    footer_hash: str | None


def footer_message(payload: bytes) -> bytes:
    """The bytes that the device signs; the label keeps them from ever being another signed thing."""
    return _FOOTER + payload


class SegmentSealer:
    """Seals one segment, record by record, and then signs it.

    Each call returns bytes that the caller writes in order; a write that failed is retried with the same
    bytes, or the segment is abandoned: nothing is encrypted twice under one key. Not thread-safe.
    """

    def __init__(self, header: SegmentHeader, recipients: Sequence[Recipient]) -> None:
        """Draw the segment key and wrap it for every recipient.

        Raises:
            SealedMessageError: A recipient's key is unusable.
        """
        if not 0 < len(recipients) <= MAX_RECIPIENTS:
            raise RuntimeError(f"segment: {len(recipients)} recipients, expected 1..{MAX_RECIPIENTS}")
        if len(header.segment_id) != SEGMENT_ID_BYTES:
            raise RuntimeError("segment: id of the wrong length")
        self.header = header
        encoded = header.encode()
        self._header_hash = sha256(encoded).digest()
        self._key = bytearray(os.urandom(KEY_BYTES))
        self._index = 0
        self._is_complete = False
        self._is_forgotten = False
        self._hashes: list[tuple[bytes, bytes]] = []
        try:
            wraps = [
                _wrap(header, self._header_hash, each, self._key)
                for each in dict.fromkeys(recipients)  # the same key twice is one recipient
            ]
        except SealedMessageError:
            self.forget()
            raise
        self.preface, self._wraps_hash = framing.encode_preface(encoded, wraps)

    def seal_init(self, init: bytes) -> bytes:
        """Seal the fMP4 initialisation segment as record 0."""
        if self._index:
            raise RuntimeError("segment: the initialisation segment comes first")
        return self._seal(init, is_last=False, offset_ns=0, duration_ns=0)

    def seal_fragment(self, data: bytes, *, offset_ns: int, duration_ns: int, is_last: bool) -> bytes:
        """Seal the next fragment; ``offset_ns`` counts from the segment's start."""
        if not self._index:
            raise RuntimeError("segment: the initialisation segment comes first")
        return self._seal(data, is_last=is_last, offset_ns=offset_ns, duration_ns=duration_ns)

    @property
    def records_left(self) -> int:
        """How many more records this segment takes."""
        return MAX_RECORDS - self._index

    def close(self, sign: Callable[[bytes], bytes]) -> tuple[bytes, str]:
        """Sign the complete segment and forget its key.

        Returns:
            The footer's bytes, and its hash for the ledger.
        """
        self.forget()
        if not self._is_complete:
            raise RuntimeError("segment: closed before its last record")
        payload = framing.encode_footer_payload(
            self.header, header_hash=self._header_hash, wraps_hash=self._wraps_hash, records=self._hashes
        )
        signature = sign(footer_message(payload))
        return framing.encode_footer(self.header.segment_id, payload, signature), _footer_hash(payload)

    def forget(self) -> None:
        """Zero the segment key. Harmless when repeated."""
        self._key[:] = bytes(len(self._key))
        self._is_forgotten = True

    def _seal(self, plaintext: bytes, *, is_last: bool, offset_ns: int, duration_ns: int) -> bytes:
        if self._is_forgotten or self._is_complete or self._index >= MAX_RECORDS:
            raise RuntimeError("segment: sealed after its end")
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise RuntimeError(f"segment: record too large ({len(plaintext)} bytes)")
        index, self._index = self._index, self._index + 1  # consumed whatever happens from here
        self._is_complete = is_last
        key = bytearray(KEY_BYTES)
        try:
            _record_key(self._key, index, is_last=is_last, into=key)
            authenticated = framing.encode_authenticated(
                self.header.segment_id,
                index,
                is_last=is_last,
                offset_us=offset_ns // 1000,
                duration_us=duration_ns // 1000,
                length=len(plaintext) + TAG_BYTES,
            )
            ciphertext = AESGCM(key).encrypt(_NONCE, plaintext, self._header_hash + authenticated)
            plaintext_hash = _plaintext_hash(key, plaintext)
        finally:
            key[:] = bytes(KEY_BYTES)
        record = framing.encode_record(authenticated, ciphertext)
        self._hashes.append((plaintext_hash, sha256(record).digest()))
        return record


def open_segment(
    source: bytes | Path,
    *,
    archive_keys: Sequence[X25519PrivateKey],
    device_key: bytes,
    allow_unsigned: bool,
) -> OpenedSegment:
    """Open and verify a segment, by the rules at the top of this module.

    ``device_key`` is the raw Ed25519 key the caller knows the device by. ``allow_unsigned`` accepts what an
    interruption left, labelled; without it such a segment is refused as truncated.

    Raises:
        SegmentTruncated: Its end is missing.
        SegmentSpliced: Records were reordered, removed from the middle or brought in from elsewhere.
        SegmentError: Damaged, changed, or signed by another device.
        SealedMessageError: None of ``archive_keys`` opens it.
        StorageError: The file cannot be read.
    """
    clear = read_clear(_read(source))
    _require_whole(clear, allow_unsigned=allow_unsigned)
    _verify_footer(clear, device_key)
    key = _unwrap(clear, archive_keys)
    plaintexts = [_open_record(clear, record, key) for record in clear.records]
    wall = clear.header.start_wall
    fragments = tuple(
        OpenedFragment(
            plaintext,
            clear.header.start_boot_ns + record.offset_ns,
            None if wall is None else wall.utc_ns + record.offset_ns,
            record.duration_ns,
        )
        for record, plaintext in zip(clear.records[1:], plaintexts[1:], strict=True)
    )
    signed = clear.footer is not None
    return OpenedSegment(
        clear.header,
        plaintexts[0],
        fragments,
        Provenance.SIGNED if signed else Provenance.UNSIGNED,
        None if signed else "ends without the device's signature: the recording was interrupted",
        _footer_hash(clear.footer.payload) if clear.footer is not None else None,
    )


def _read(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            data = file.read(MAX_SEGMENT_BYTES + 1)
    except OSError as error:
        raise StorageError(f"segment {source.name}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_SEGMENT_BYTES:
        raise SegmentError(f"segment {source.name}: too large (expected at most {MAX_SEGMENT_BYTES} bytes)")
    return data


def _require_whole(clear: ClearSegment, *, allow_unsigned: bool) -> None:
    if clear.problem is not None:
        raise clear.problem
    where = f"segment {clear.header.sequence}"
    if len(clear.records) <= 1:
        raise SegmentTruncated(f"{where}: ends before its first fragment")
    if allow_unsigned:
        return
    if not clear.is_complete:
        raise SegmentTruncated(f"{where}: ends before its last record (got {len(clear.records)} records)")
    if clear.footer is None:
        raise SegmentTruncated(f"{where}: ends before its signed footer")


def _verify_footer(clear: ClearSegment, device_key: bytes) -> None:
    where = f"segment {clear.header.sequence}"
    if clear.header.device != key_id(device_key):
        raise SegmentError(
            f"{where}: of another device (got {clear.header.device}, expected {key_id(device_key)})"
        )
    footer = clear.footer
    if footer is None:
        return
    if not is_valid_signature(device_key, footer_message(footer.payload), footer.signature):
        raise SegmentError(f"{where}: footer not signed by the device")
    if footer.header_hash != clear.header_hash or footer.wraps_hash != clear.wraps_hash:
        raise SegmentError(f"{where}: header is not the one the device signed")
    for record, (_, expected) in zip(clear.records, footer.records, strict=True):
        if record.hash() != expected:
            raise SegmentError(f"{where} record {record.index}: not the one the device signed")


def _unwrap(clear: ClearSegment, archive_keys: Sequence[X25519PrivateKey]) -> bytes:
    own = {key_id(each.public_key().public_bytes_raw()): each for each in archive_keys}
    for wrap in clear.wraps:
        if wrap.recipient in own:
            key = sealing.open_(
                sealing.SealKind.SEGMENT_KEY,
                sender=clear.header.device,
                recipient=wrap.recipient,
                topic=_topic(clear.header, clear.header_hash),
                private=own[wrap.recipient],
                sealed=wrap.sealed,
            )
            if len(key) != KEY_BYTES:
                raise SegmentError(f"segment {clear.header.sequence}: wrapped key of the wrong length")
            return key
    raise SealedMessageError(
        f"segment {clear.header.sequence}: sealed to {len(clear.wraps)} archive keys, none of them yours",
        hint="a daily key opens what came after it; the recovery code opens all: --recovery-code-file FILE",
    )


def _open_record(clear: ClearSegment, record: ClearRecord, segment_key: bytes) -> bytes:
    where = f"segment {clear.header.sequence} record {record.index}"
    key = bytearray(KEY_BYTES)
    _record_key(segment_key, record.index, is_last=record.is_last, into=key)
    try:
        plaintext = AESGCM(key).decrypt(_NONCE, record.ciphertext, clear.header_hash + record.authenticated)
    except InvalidTag as error:
        raise SegmentError(f"{where}: does not authenticate: changed, or of another segment") from error
    if clear.footer is not None:
        expected, _ = clear.footer.records[record.index]
        if not hmac.compare_digest(_plaintext_hash(key, plaintext), expected):
            raise SegmentError(f"{where}: content is not what the device signed")
    return plaintext


def _wrap(header: SegmentHeader, header_hash: bytes, recipient: Recipient, key: bytearray) -> WrappedKey:
    sealed = sealing.seal(
        sealing.SealKind.SEGMENT_KEY,
        sender=header.device,
        recipient=recipient.key_id,
        topic=_topic(header, header_hash),
        public=recipient.public,
        plaintext=key,
    )
    return WrappedKey(recipient.key_id, sealed)


def _topic(header: SegmentHeader, header_hash: bytes) -> str:
    return f"{header.segment_id.hex()}/{header_hash.hex()}"


def _record_key(segment_key: bytes | bytearray, index: int, *, is_last: bool, into: bytearray) -> None:
    info = _RECORD_KEY + index.to_bytes(4, "big") + bytes([is_last])
    HKDFExpand(hashes.SHA256(), KEY_BYTES, info).derive_into(segment_key, into)


def _plaintext_hash(record_key: bytearray, plaintext: bytes) -> bytes:
    """Salted from the record key: who may open the record can check it, nobody else can guess it."""
    salt = HKDFExpand(hashes.SHA256(), KEY_BYTES, _RECORD_SALT).derive(record_key)
    return sha256(_PLAINTEXT + salt + plaintext).digest()


def _footer_hash(payload: bytes) -> str:
    return "sha256:" + sha256(footer_message(payload)).hexdigest()
