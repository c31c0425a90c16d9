"""DSSE v1 envelopes with Ed25519: the only way a document of ours is signed or read.

An envelope is strict JSON ``{"payload", "payloadType", "signatures": [{"keyid", "sig"}]}`` of at most
`MAX_BYTES`. What is signed is the pre-authentication encoding of payload type and payload bytes, so a
signature for one kind of document never counts for another. Rules of `verify`, in order:

1. bounded strict JSON with the fields above (others are ignored, as DSSE demands; nobody reads them);
2. the payload type is the one the caller asks for, byte for byte;
3. each signature is tried against the keys the caller supplies and no others. The ``keyid`` in the envelope
   only decides which of them is tried first;
4. what comes back names every supplied key with a valid signature, once. Whether they are enough is the
   caller's question: thresholds count distinct owners, which this module knows nothing of.

Source: github.com/secure-systems-lab/dsse, envelope.md and protocol.md, version 1.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agent.consent import strict_json
from agent.errors import DocumentError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BYTES: Final = 64 * 1024
MAX_SIGNATURES: Final = 32
"""Bounds the work of a hostile envelope: each signature may be tried against every supplied key."""

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_SIGN_BIT: Final = 0x80
_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(y)
    for y in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""Encodings of the points of order 1, 2, 4 and 8, without the sign bit: under such a key anybody can sign."""


class PayloadType(StrEnum):
    """One media type per kind of document; a signature under one never counts for another."""

    CHARTER = "application/vnd.doorward.v0.charter+json"
    INTRODUCTION = "application/vnd.doorward.v0.introduction+json"
    TOKEN = "application/vnd.doorward.v0.token+json"
    REVOCATION = "application/vnd.doorward.v0.revocation+json"
    SHUTTER = "application/vnd.doorward.v0.shutter+json"
    ALARM = "application/vnd.doorward.v0.alarm+json"
    PAIRING = "application/vnd.doorward.v0.pairing+json"
    ACT = "application/vnd.doorward.v0.act+json"
    READ = "application/vnd.doorward.v0.read+json"
    BADGE = "application/vnd.doorward.v0.badge+json"
    REQUEST = "application/vnd.doorward.v0.request+json"
    DECISION = "application/vnd.doorward.v0.decision+json"
    OFFER = "application/vnd.doorward.v0.offer+json"
    ANSWER = "application/vnd.doorward.v0.answer+json"
    ENDED = "application/vnd.doorward.v0.ended+json"
    ACKNOWLEDGEMENT = "application/vnd.doorward.v0.acknowledgement+json"
    DESCRIPTOR = "application/vnd.doorward.v0.descriptor+json"
    CARD = "application/vnd.doorward.v0.card+json"
    BLOCK = "application/vnd.doorward.v0.block+json"
    OWNER_CARD = "application/vnd.doorward.v0.owner-card+json"
    DISMISSAL = "application/vnd.doorward.v0.dismissal+json"


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` returns: the signed bytes, and the ids of the supplied keys that signed them."""

    payload: bytes
    signers: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Signature:
    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class _Envelope:
    payload_type: str
    payload: bytes
    signatures: tuple[_Signature, ...]

    def encode(self) -> bytes:
        encoded = strict_json.dumps(
            {
                "payload": base64.b64encode(self.payload).decode("ascii"),
                "payloadType": self.payload_type,
                "signatures": [
                    {"keyid": each.keyid, "sig": base64.b64encode(each.sig).decode("ascii")}
                    for each in self.signatures
                ],
            }
        )
        if len(encoded) > MAX_BYTES:
            raise DocumentError(
                f"envelope: too large (got {len(encoded)} bytes, expected at most {MAX_BYTES})"
            )
        return encoded


def key_id(public: bytes) -> str:
    """The id of an Ed25519 key: ``sha256:`` and the hex SHA-256 of its 32 raw bytes."""
    return "sha256:" + sha256(public).hexdigest()


def short(key_id: str) -> str:
    """A key id as it stands in topics, paths and names of ledgers: its first 32 hex digits."""
    return key_id.removeprefix("sha256:")[:32]


def document_id(payload: bytes) -> str:
    """The id of a document: ``sha256:`` and the hex SHA-256 of its payload bytes."""
    return "sha256:" + sha256(payload).hexdigest()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """The bytes that DSSE v1 signs: ``DSSEv1 <length> <type> <length> <payload>``, lengths in bytes."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def is_usable_key(public: bytes) -> bool:
    """Whether ``public`` can stand for one signer: 32 bytes, and not a point of small order.

    Documents that introduce a key ask this before they accept it: its holder could otherwise say of any
    signature that anybody could have made it.
    """
    # Whether it is a point at all is not asked: under 32 bytes that are none, no signature verifies.
    return len(public) == KEY_BYTES and public[:-1] + bytes([public[-1] & ~_SIGN_BIT]) not in _SMALL_ORDER


def is_valid_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is a valid Ed25519 signature (RFC 8032) of ``message`` under a usable key."""
    if len(signature) != SIGNATURE_BYTES or not is_usable_key(public):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def sign(payload_type: str, payload: bytes, keys: Sequence[Ed25519PrivateKey]) -> bytes:
    """Sign ``payload`` as ``payload_type`` with every one of ``keys``; a key handed over twice signs once.

    Returns:
        The envelope as JSON bytes.

    Raises:
        DocumentError: The envelope would be larger than `MAX_BYTES`.
        SignatureError: No key, or more than `MAX_SIGNATURES`.
    """
    envelope = _Envelope(payload_type, payload, ())
    for key in keys:
        envelope = _signed(envelope, key)
    if not envelope.signatures:
        raise SignatureError("envelope: no key to sign with")
    return envelope.encode()


def add_signature(envelope: bytes, key: Ed25519PrivateKey) -> bytes:
    """Sign what ``envelope`` carries with one more key; signing again with the same key changes nothing.

    The signatures already there are kept as they are, unverified.

    Raises:
        DocumentError: Not an envelope, or too large afterwards.
        SignatureError: More than `MAX_SIGNATURES`.
    """
    return _signed(_parse(envelope), key).encode()


def verify(envelope: bytes, payload_type: str, keys: Mapping[str, bytes]) -> Verified:
    """Return the payload and which of ``keys`` signed it as ``payload_type``.

    ``keys`` maps key ids to raw public keys and holds only the keys of the role that signs this type of
    document. The caller must still check that ``signers`` reach the threshold of that role.

    Raises:
        DocumentError: Not an envelope of at most `MAX_BYTES`, or one of another payload type.
        SignatureError: None of ``keys`` signed it.
    """
    for name, public in keys.items():
        if name != key_id(public):
            raise RuntimeError("envelope: verify was called with a key under a wrong key id")
    parsed = _parse(envelope)
    if not payload_type or parsed.payload_type != payload_type:
        raise DocumentError(
            f"envelope: payload type (got {parsed.payload_type[:80]!r}, expected {str(payload_type)!r})"
        )
    message = pre_authentication_encoding(parsed.payload_type, parsed.payload)
    signers: set[str] = set()
    for signature in parsed.signatures:
        for name in sorted(keys, key=lambda name: name != signature.keyid):
            if is_valid_signature(keys[name], message, signature.sig):
                signers.add(name)
                break
    if not signers:
        raise SignatureError(
            f"envelope: no valid signature by a key that may sign it "
            f"(got {len(parsed.signatures)} signatures, expected one by any of {len(keys)} keys)"
        )
    return Verified(parsed.payload, frozenset(signers))


def unverified_payload(envelope: bytes) -> tuple[str, bytes]:
    """Return the claimed payload type and the payload, checked by NOBODY.

    Only for finding out which keys to hand to `verify`, and for showing a document before it is signed.

    Raises:
        DocumentError: Not an envelope of at most `MAX_BYTES`.
    """
    parsed = _parse(envelope)
    return parsed.payload_type, parsed.payload


def _signed(envelope: _Envelope, key: Ed25519PrivateKey) -> _Envelope:
    name = key_id(key.public_key().public_bytes_raw())
    others = tuple(each for each in envelope.signatures if each.keyid != name)
    if len(others) >= MAX_SIGNATURES:
        raise SignatureError(f"envelope: too many signatures (expected at most {MAX_SIGNATURES})")
    message = pre_authentication_encoding(envelope.payload_type, envelope.payload)
    return _Envelope(envelope.payload_type, envelope.payload, (*others, _Signature(name, key.sign(message))))


def _parse(data: bytes) -> _Envelope:
    value = strict_json.parse(data, limit=MAX_BYTES)
    if not isinstance(value, dict):
        raise DocumentError(f"envelope: not an object (got {type(value).__name__})")
    signatures = value.get("signatures")
    if not isinstance(signatures, list):
        raise DocumentError("envelope: signatures missing or not a list")
    if len(signatures) > MAX_SIGNATURES:
        raise DocumentError(
            f"envelope: too many signatures (got {len(signatures)}, expected at most {MAX_SIGNATURES})"
        )
    return _Envelope(
        _text(value, "payloadType"),
        _decode(_text(value, "payload"), "payload"),
        tuple(_parse_signature(each) for each in signatures),
    )


def _parse_signature(value: object) -> _Signature:
    if not isinstance(value, dict):
        raise DocumentError(f"envelope: signature is not an object (got {type(value).__name__})")
    keyid = _text(value, "keyid") if "keyid" in value else ""
    return _Signature(keyid, _decode(_text(value, "sig"), "signature"))


def _text(value: dict[str, object], field: str) -> str:
    text = value.get(field)
    if not isinstance(text, str):
        raise DocumentError(f"envelope: {field} missing or not text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DocumentError(f"envelope: {field} has half a surrogate pair") from error
    return text


def _decode(text: str, field: str) -> bytes:
    """Decode base64 of either alphabet, as DSSE demands, but padded and in its one canonical form."""
    url_safe = "-" in text or "_" in text
    try:
        data = base64.b64decode(text, altchars=b"-_" if url_safe else None, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError(f"envelope: {field} is not base64") from error
    encoded = base64.urlsafe_b64encode(data) if url_safe else base64.b64encode(data)
    if encoded.decode("ascii") != text:
        raise DocumentError(f"envelope: {field} is not base64 in canonical form")
    return data
