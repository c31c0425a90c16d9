"""Checkpoints of a ledger: C2SP tlog-checkpoint in a C2SP signed note, Ed25519 only.

A checkpoint says "this ledger has so many entries and this root". A ledger signs no two that contradict each
other, so two that do are proof against it, in any hands.

Rules of `open_note`, in order: UTF-8 without control characters; the text ends at the last empty line; every
signature line is well-formed; lines of other keys are ignored; every line with our key's name and id must
verify, and there must be one. `verify` then asks for exactly three lines: the origin it expects, size, root.
Extension lines are refused: our ledgers write none, and nobody could audit them.

A text signed here never is a DSSE encoding (`agent.consent.envelope`), although one key signs both: the first
line of a checkpoint holds no space.

Source: c2sp.org/signed-note and c2sp.org/tlog-checkpoint, v1.0.0.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from agent.consent.envelope import is_valid_signature, short
from agent.consent.fields import decode_bytes, encode_bytes
from agent.consent.strict_json import MAX_INTEGER
from agent.errors import DocumentError, ProofError
from agent.ledger.merkle import HASH_BYTES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_CHARS: Final = 128 * 1024
MAX_SIGNATURES: Final = 16
"""Post-quantum cosignatures take 5 kB each; the specification demands that 16 signatures be accepted."""

ED25519: Final = 0x01
"""The signature type of a plain Ed25519 signature in a note."""

KEY_ID_BYTES: Final = 4
_SIZE: Final = re.compile(r"(?:0|[1-9][0-9]{0,15})\Z", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME: Final = re.compile(r"[^\s+\x00-\x1f]{1,200}\Z")
_DASH: Final = "\u2014"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """``size`` entries with this ``root`` (32 bytes) in the ledger called ``origin``."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{encode_bytes(self.root)}\n"


def origin_of(device: str) -> str:
    """The name of a device's ledger in its checkpoints; ``device`` is its key id."""
    return f"doorward/{short(device)}"


def note_key_id(name: str, public: bytes, kind: int = ED25519) -> bytes:
    """The four bytes that name a key in a note: a hint to tell keys apart, never a proof.

    ``kind`` is the signature type, so that one key may sign in two ways without being mistaken.
    """
    return sha256(name.encode("utf-8") + b"\n" + bytes([kind]) + public).digest()[:KEY_ID_BYTES]


def sign_note(text: str, name: str, private: Ed25519PrivateKey) -> str:
    """Sign ``text`` as a note with the key called ``name``.

    Raises:
        ProofError: No note can carry this text or this name.
    """
    _check_name(name, "key name")
    if not text.endswith("\n") or _CONTROL.search(text):
        raise ProofError("note: text must end its last line and hold no control characters")
    key_id = note_key_id(name, private.public_key().public_bytes_raw())
    return f"{text}\n{signature_line(name, key_id + private.sign(_encode(text)))}"


def signature_line(name: str, data: bytes) -> str:
    """One signature line of a note: ``data`` is the key's id and what it signed with.

    Raises:
        ProofError: No key can have this name.
    """
    _check_name(name, "key name")
    return f"{_DASH} {name} {encode_bytes(data)}\n"


def split_note(note: str) -> tuple[str, tuple[tuple[str, bytes], ...]]:
    """The text of a note, and who is said to have signed it: key name, and key id with signature.

    Nothing of it is verified.

    Raises:
        ProofError: Not a note.
    """
    if len(note) > MAX_CHARS:
        raise ProofError(f"note: too large (got {len(note)} characters, expected at most {MAX_CHARS})")
    if _CONTROL.search(note):
        raise ProofError("note: holds control characters")
    head, separator, tail = note.rpartition("\n\n")
    if not separator or not tail.endswith("\n"):
        raise ProofError("note: no signatures after an empty line")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise ProofError(f"note: too many signatures (got {len(lines)}, expected at most {MAX_SIGNATURES})")
    return head + "\n", tuple(_parse_signature(line) for line in lines)


def open_note(note: str, name: str, public: bytes) -> str:
    """Return the text of ``note`` if the key called ``name`` signed it.

    Raises:
        ProofError: Not a note, or not validly signed by this key.
    """
    text, signatures = split_note(note)
    message = _encode(text)
    expected_id = note_key_id(name, public)
    signed = False
    for signer, signature in signatures:
        if signer != name or signature[:KEY_ID_BYTES] != expected_id:
            continue
        if not is_valid_signature(public, message, signature[KEY_ID_BYTES:]):
            raise ProofError(f"note: the signature of {name[:80]} is not valid")
        signed = True
    if not signed:
        raise ProofError(f"note: not signed by {name[:80]} with key id {expected_id.hex()}")
    return text


def sign(checkpoint: Checkpoint, name: str, private: Ed25519PrivateKey) -> str:
    """Sign ``checkpoint`` as a note with the key called ``name``, by custom the origin itself.

    Raises:
        ProofError: Origin or name may not stand in a checkpoint.
    """
    _check_name(checkpoint.origin, "origin")
    if not 0 <= checkpoint.size <= MAX_INTEGER or len(checkpoint.root) != HASH_BYTES:
        raise ProofError(
            f"checkpoint: size or root (got {checkpoint.size} and {len(checkpoint.root)} bytes, "
            f"expected 0..2^53-1 and {HASH_BYTES} bytes)"
        )
    return sign_note(checkpoint.text(), name, private)


def verify(note: str, origin: str, name: str, public: bytes) -> Checkpoint:
    """Return the checkpoint of ``origin`` in ``note``, signed by the key called ``name``.

    Raises:
        ProofError: Not a checkpoint, of another ledger, or not validly signed by this key.
    """
    return read(open_note(note, name, public), origin)


def read(text: str, origin: str) -> Checkpoint:
    """Read the text of a note as a checkpoint of ``origin``; says nothing about signatures.

    Raises:
        ProofError: Not a checkpoint, or of another ledger.
    """
    lines = text[:-1].split("\n")
    if len(lines) != 3:  # noqa: PLR2004 - origin, size, root
        raise ProofError(f"checkpoint: lines (got {len(lines)}, expected 3)")
    if lines[0] != origin:
        raise ProofError(f"checkpoint: origin (got {lines[0][:80]!r}, expected {origin[:80]!r})")
    _check_name(origin, "origin")
    if not _SIZE.match(lines[1]) or int(lines[1]) > MAX_INTEGER:
        raise ProofError(f"checkpoint: size (got {lines[1][:40]!r}, expected a number up to 2^53-1)")
    root = _decode(lines[2], "checkpoint: root")
    if len(root) != HASH_BYTES:
        raise ProofError(f"checkpoint: root (got {len(root)} bytes, expected {HASH_BYTES})")
    return Checkpoint(origin, int(lines[1]), root)


def _parse_signature(line: str) -> tuple[str, bytes]:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH:  # noqa: PLR2004 - dash, name, signature
        raise ProofError(f"note: not a signature line (got {line[:40]!r})")
    _check_name(parts[1], "key name")
    signature = _decode(parts[2], "note: signature")
    if len(signature) <= KEY_ID_BYTES:
        raise ProofError(f"note: signature too short (got {len(signature)} bytes)")
    return parts[1], signature


def _check_name(name: str, subject: str) -> None:
    if not _NAME.match(name):
        raise ProofError(f"note: {subject} (got {name[:80]!r}, expected text without spaces and plus signs)")


def _decode(text: str, where: str) -> bytes:
    try:
        return decode_bytes(text, where)
    except DocumentError as error:
        raise ProofError(str(error)) from error


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ProofError("note: text with half a surrogate pair") from error
