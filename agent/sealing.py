"""HPKE (RFC 9180) as Doorward uses it: base mode, X25519, HKDF-SHA256, AES-256-GCM, single shot.

One table of labels (`SealKind`) says what may be sealed. The ``info`` of every message binds label, sender,
recipient and topic, so that bytes sealed for one purpose open for no other. Base mode proves nothing about
the sender: what is inside is signed, or is a key that only its reader needs.

``info`` is the strict JSON array ``["doorward/v0/<kind>", sender, recipient, topic]`` (compact, UTF-8).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from agent.consent import strict_json
from agent.errors import SealedMessageError

_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
PUBLIC_KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = 32 + 16
"""A sealed message is the 32-byte encapsulated key, the ciphertext, and a 16-byte tag."""


class SealKind(StrEnum):
    """What may be sealed, and so the table of labels."""

    SEGMENT_KEY = "segment-key"  # device -> an owner's archive key; topic: segment id and header hash
    STATEMENT = "statement"  # device -> owners: free text kept beside the ledger; topic: its salted hash
    PAIRING = "pairing"  # an owner's client -> a fresh device: the pairing code and the first charter
    TO_DEVICE = "to-device"  # agency -> device, first contact: the device's long-lived seal key
    REPLY = "reply"  # device -> the single-use key carried in the message it answers
    TO_AGENCY = "to-agency"  # device -> agency's seal key: news that answers no message (a session's end)


def _info(kind: SealKind, sender: str, recipient: str, topic: str) -> bytes:
    return strict_json.dumps([f"doorward/v0/{kind}", sender, recipient, topic])


def seal(
    kind: SealKind, *, sender: str, recipient: str, topic: str, public: bytes, plaintext: bytes | bytearray
) -> bytes:
    """Seal ``plaintext`` to the raw X25519 key ``public``; only its owner opens it, only for this purpose.

    Raises:
        SealedMessageError: ``public`` is not a usable X25519 key.
    """
    try:
        key = X25519PublicKey.from_public_bytes(public)
        return bytes(_SUITE.encrypt(plaintext, key, _info(kind, sender, recipient, topic)))
    except ValueError as error:
        raise SealedMessageError(f"sealing key: unusable ({error})") from error


def open_(
    kind: SealKind, *, sender: str, recipient: str, topic: str, private: X25519PrivateKey, sealed: bytes
) -> bytes:
    """Open what `seal` made for exactly this kind, sender, recipient and topic.

    Raises:
        SealedMessageError: Damaged, made for another key, or for another purpose; which of these HPKE does
            not tell.
    """
    if len(sealed) < OVERHEAD_BYTES:
        raise SealedMessageError(
            f"sealed message: too short (got {len(sealed)} bytes, expected at least {OVERHEAD_BYTES})"
        )
    try:
        return bytes(_SUITE.decrypt(sealed, private, _info(kind, sender, recipient, topic)))
    except (InvalidTag, ValueError) as error:
        raise SealedMessageError(
            f"sealed message: does not open as {kind} from {sender} to {recipient}"
        ) from error
