"""Cosignatures: a witness's word that a checkpoint continues everything it saw before, and when it said so.

A cosignature is one more signature line in a checkpoint's note. What is signed is ``cosignature/v1``, the
line ``time`` with the whole seconds since 1970, and the checkpoint's text. The key's name is not signed: one
key serves one witness.

What stands after the key id is 8 bytes of time, big-endian, and 64 bytes of Ed25519. Such a text never is a
DSSE encoding or a checkpoint: it begins with another line.

Source: c2sp.org/tlog-cosignature (Ed25519 alone; ML-DSA-44 lines of other keys are passed over).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent.envelope import is_valid_signature
from agent.errors import ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.checkpoint import KEY_ID_BYTES, note_key_id, signature_line, split_note

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.ledger.checkpoint import Checkpoint

KIND: Final = 0x04
"""The signature type of a timestamped Ed25519 cosignature in a note."""

MAX_TIMESTAMP: Final = 2**33
"""The year 2242. The specification allows 2^63 - 1 and lets verifiers refuse the future; nanoseconds of a
later time would not fit where we write them."""

_TIME_BYTES: Final = 8
_BODY_BYTES: Final = _TIME_BYTES + 64


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A checkpoint, and the moment (whole seconds since 1970 UTC) at which a witness vouched for it."""

    checkpoint: Checkpoint
    timestamp: int


def sign(text: str, name: str, private: Ed25519PrivateKey, *, timestamp: int) -> str:
    """The signature line of the witness called ``name`` over the text of a checkpoint.

    Raises:
        ProofError: No witness can have this name, or no cosignature this time.
    """
    if not 0 < timestamp <= MAX_TIMESTAMP:
        raise ProofError(f"cosignature: time (got {timestamp}, expected 1..{MAX_TIMESTAMP})")
    signature = private.sign(_message(text, timestamp))
    key_id = note_key_id(name, private.public_key().public_bytes_raw(), KIND)
    return signature_line(name, key_id + timestamp.to_bytes(_TIME_BYTES, "big") + signature)


def verify(note: str, origin: str, name: str, public: bytes) -> Cosignature:
    """Return what the witness called ``name`` vouches for in ``note``, a checkpoint of ``origin``.

    Whether the log itself signed the note is for `agent.ledger.checkpoint.verify` to say. Of several
    cosignatures of one witness the newest counts; all must be valid.

    Raises:
        ProofError: Not a checkpoint of this ledger, or not validly cosigned by this witness.
    """
    text, signatures = split_note(note)
    expected_id = note_key_id(name, public, KIND)
    newest = 0
    for signer, data in signatures:
        if signer != name or data[:KEY_ID_BYTES] != expected_id:
            continue
        newest = max(newest, _verified_time(text, name, public, data[KEY_ID_BYTES:]))
    if not newest:
        raise ProofError(f"checkpoint: not cosigned by {name[:80]} with key id {expected_id.hex()}")
    return Cosignature(checkpoints.read(text, origin), newest)


def added(note: str, lines: str, name: str, public: bytes) -> str:
    """The note with those of ``lines`` that have this witness's key id; lines of other keys are dropped.

    Raises:
        ProofError: These are no signature lines.
    """
    _, signatures = split_note(f"\n\n{lines}")
    expected_id = note_key_id(name, public, KIND)
    kept = [
        signature_line(signer, data)
        for signer, data in signatures
        if signer == name and data[:KEY_ID_BYTES] == expected_id
    ]
    return note + "".join(kept)


def _verified_time(text: str, name: str, public: bytes, body: bytes) -> int:
    if len(body) != _BODY_BYTES:
        raise ProofError(f"cosignature: length (got {len(body)} bytes, expected {_BODY_BYTES})")
    timestamp = int.from_bytes(body[:_TIME_BYTES], "big")
    if not 0 < timestamp <= MAX_TIMESTAMP:
        raise ProofError(f"cosignature: time (got {timestamp}, expected 1..{MAX_TIMESTAMP})")
    if not is_valid_signature(public, _message(text, timestamp), body[_TIME_BYTES:]):
        raise ProofError(f"cosignature: the signature of {name[:80]} is not valid")
    return timestamp


def _message(text: str, timestamp: int) -> bytes:
    try:
        return f"cosignature/v1\ntime {timestamp}\n{text}".encode()
    except UnicodeEncodeError as error:
        raise ProofError("note: text with half a surrogate pair") from error
