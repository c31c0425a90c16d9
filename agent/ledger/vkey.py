"""Verifier keys: a key's name, a checksum and the key in one line that people can hand to each other.

``<name>+<8 hex digits>+<base64 of the signature type and the public key>``. The digits are the key's id in
notes; they catch slips of the hand, no more. What makes a key the right one is where the line came from.

Source: c2sp.org/signed-note, "Verifier keys"; Ed25519 alone.
"""

from __future__ import annotations

from typing import Final

from agent.consent.envelope import is_usable_key
from agent.consent.fields import KEY_BYTES, decode_bytes, encode_bytes
from agent.errors import MalformedInput
from agent.ledger.checkpoint import note_key_id

MAX_CHARS: Final = 300


def written(name: str, public: bytes, kind: int) -> str:
    """The line for the Ed25519 key called ``name`` that signs in the way of ``kind``."""
    return f"{name}+{note_key_id(name, public, kind).hex()}+{encode_bytes(bytes([kind]) + public)}"


def parse(text: str, kind: int) -> tuple[str, bytes]:
    """Name and raw public key of a line of signature type ``kind``.

    Raises:
        MalformedInput: Not such a line, or mistyped.
    """
    parts = text.split("+", 2)  # base64 may hold plus signs, a name may not
    if len(text) > MAX_CHARS or len(parts) != 3:  # noqa: PLR2004 - name, id, key
        raise MalformedInput(f"verifier key: got {text[:60]!r}, expected NAME+8 hex digits+BASE64")
    name, digits, encoded = parts
    data = decode_bytes(encoded, "verifier key")
    if len(data) != 1 + KEY_BYTES or data[0] != kind:
        raise MalformedInput(f"verifier key {name[:60]}: another kind of key (expected Ed25519, type {kind})")
    public = data[1:]
    if note_key_id(name, public, kind).hex() != digits:
        raise MalformedInput(
            f"verifier key {name[:60]}: name, digits and key do not belong together", hint="copy it again"
        )
    if not is_usable_key(public):
        raise MalformedInput(f"verifier key {name[:60]}: no usable Ed25519 key")
    return name, public
