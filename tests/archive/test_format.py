"""FORMAT.md, read by code that knows nothing else: struct, zlib, json and the primitives."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from agent.archive.segment import open_segment
from tests.archive.recording import DAILY, DEVICE_ID, DEVICE_KEY, START_BOOT, START_UTC, recipient, sealed


def expand(key: bytes, info: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), 32, info).derive(key)


def segment_key(header: dict[str, Any], header_hash: bytes, wraps: dict[str, Any]) -> bytes:
    own = "sha256:" + sha256(DAILY.public_key().public_bytes_raw()).hexdigest()
    sealed_key = next(base64.b64decode(each["sealed"]) for each in wraps["keys"] if each["recipient"] == own)
    assert len(sealed_key) == 80
    topic = f"{header['segment']}/{header_hash.hex()}"
    info = json.dumps(["doorward/v0/segment-key", header["device"], own, topic], separators=(",", ":"))
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    return suite.decrypt(sealed_key, DAILY, info.encode())


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")


def read(data: bytes) -> tuple[dict[str, Any], list[bytes], str]:
    """Header, plaintexts, and the footer hash of a segment, by the letter of FORMAT.md."""
    reader = Reader(data)
    assert reader.take(8) == b"DWSEGv0\n"
    header_json = reader.take(reader.number())
    wraps_json = reader.take(reader.number())
    assert reader.number() == zlib.crc32(data[: reader.at - 4])
    header, header_hash = json.loads(header_json), sha256(header_json).digest()
    key = segment_key(header, header_hash, json.loads(wraps_json))
    plaintexts: list[bytes] = []
    expected: list[list[str]] = []
    while data[reader.at : reader.at + 4] == b"DWRC":
        clear = reader.take(44)
        _, prefix, index, flags, _, _, length, body_crc, crc = struct.unpack(">4s8sIIQIIII", clear)
        body = reader.take(length)
        assert (prefix.hex(), index) == (header["segment"][:16], len(plaintexts))
        assert (body_crc, crc) == (zlib.crc32(body), zlib.crc32(clear[:40]))
        record_key = expand(key, b"doorward/v0/record-key\0" + clear[12:16] + bytes([flags & 1]))
        plaintext = AESGCM(record_key).decrypt(bytes(12), body, header_hash + clear[:36])
        salt = expand(record_key, b"doorward/v0/record-salt\0")
        commitment = sha256(b"doorward/v0/record-plaintext\0" + salt + plaintext).hexdigest()
        expected.append([commitment, sha256(clear + body).hexdigest()])
        plaintexts.append(plaintext)
    assert flags & 1
    start = reader.at
    assert reader.take(12) == b"DWFT" + bytes.fromhex(header["segment"])[:8]
    payload = reader.take(reader.number())
    signed = b"doorward/v0/segment-footer\0" + payload
    Ed25519PublicKey.from_public_bytes(DEVICE_KEY).verify(reader.take(64), signed)
    assert reader.number() == zlib.crc32(data[start : reader.at - 4])
    assert reader.at == len(data)
    assert json.loads(payload) == {
        "version": 0,
        "segment": header["segment"],
        "header": header_hash.hex(),
        "wraps": sha256(wraps_json).hexdigest(),
        "records": expected,
    }
    return header, plaintexts, "sha256:" + sha256(signed).hexdigest()


def test_segment_is_what_format_md_says() -> None:
    data = b"".join(sealed([b"one", b"two" * 1000]))
    header, plaintexts, footer_hash = read(data)
    assert plaintexts == [b"init", b"one", b"two" * 1000]
    assert set(header.pop("segment")) <= set("0123456789abcdef")
    assert header == {
        "version": 0,
        "alg": "aes-256-gcm",
        "device": DEVICE_ID,
        "camera": "front",
        "sequence": 7,
        "start_boot_us": START_BOOT // 1000,
        "start": {"utc_us": START_UTC // 1000, "quality": "plausible", "bound_us": 1_000_000},
        "codec": "avc1.42c00a",
    }
    opened = open_segment(data, archive_keys=[DAILY], device_key=DEVICE_KEY, allow_unsigned=False)
    assert opened.footer_hash == footer_hash
    assert recipient(DAILY).key_id.encode() in data
