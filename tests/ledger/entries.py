"""Entries and keys for the tests of the ledger."""

from __future__ import annotations

from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.consent.times import TimeQuality
from agent.ledger.entry import Entry, EntryKind, Stamp

ORIGIN = "doorward.example/ledger/0123456789abcdef"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PRIVATE.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def entry(number: int, kind: EntryKind = EntryKind.GAP, *, padding: int = 0) -> Entry:
    """An entry that can be told from every other number's."""
    return Entry(
        kind,
        Stamp(number, "00" * 16, None, None, TimeQuality.UNTRUSTED),
        sha256(str(number).encode()).digest()[:16],
        {"number": number, "padding": "x" * padding},
    )
