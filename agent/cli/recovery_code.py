"""The recovery code: 128 random bits on paper, from which an owner's root keys are made again.

Written as 26 characters of base32 (RFC 4648) and two check characters in groups of four. Root signing key and
recovery archive key come from it by HKDF-SHA256 (RFC 5869) with the labels below and no salt; the code itself
is never stored.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from agent.consent import envelope
from agent.errors import MalformedInput

SEED_BYTES: Final = 16
CODE_CHARS: Final = 26
CHECK_CHARS: Final = 2
GROUP: Final = 4
_ROOT_LABEL: Final = b"doorward/v0/owner-root"
_RECOVERY_LABEL: Final = b"doorward/v0/owner-recovery"


@dataclass(frozen=True, slots=True)
class RootKeys:
    """What the code gives: charter changes and recovery, and the key that opens every segment."""

    signing: Ed25519PrivateKey
    archive: X25519PrivateKey

    @property
    def public(self) -> bytes:
        """The root key as charters name it."""
        return self.signing.public_key().public_bytes_raw()

    @property
    def recovery(self) -> bytes:
        """The recovery archive key as charters name it."""
        return self.archive.public_key().public_bytes_raw()

    @property
    def signing_id(self) -> str:
        """The root key's id."""
        return envelope.key_id(self.public)


def new_seed() -> bytes:
    """Fresh random bits for a code."""
    return secrets.token_bytes(SEED_BYTES)


def _check(seed: bytes) -> str:
    return base64.b32encode(hashlib.sha256(b"doorward recovery code" + seed).digest())[:CHECK_CHARS].decode()


def written(seed: bytes) -> str:
    """The code as it stands on paper."""
    text = base64.b32encode(seed).decode().rstrip("=") + _check(seed)
    return "-".join(text[at : at + GROUP] for at in range(0, len(text), GROUP))


def read(text: str) -> bytes:
    """The seed behind a code as somebody typed it; case, spaces and dashes do not matter.

    Raises:
        MalformedInput: Not a recovery code, or a character is wrong.
    """
    plain = "".join(text.split()).replace("-", "").upper().replace("0", "O").replace("1", "I")
    if len(plain) != CODE_CHARS + CHECK_CHARS:
        raise MalformedInput(
            f"recovery code: wrong length (got {len(plain)} characters, expected {CODE_CHARS + CHECK_CHARS})"
        )
    try:
        seed = base64.b32decode(plain[:CODE_CHARS] + "======")
    except ValueError as error:  # binascii.Error is one; text that is not ASCII is another
        raise MalformedInput("recovery code: a character that does not occur in codes") from error
    if written(seed).replace("-", "") != plain:
        raise MalformedInput(
            "recovery code: its check characters do not fit", hint="a character was mistyped: compare again"
        )
    return seed


def keys_of(seed: bytes) -> RootKeys:
    """The keys that a code stands for."""
    return RootKeys(
        Ed25519PrivateKey.from_private_bytes(_derive(seed, _ROOT_LABEL)),
        X25519PrivateKey.from_private_bytes(_derive(seed, _RECOVERY_LABEL)),
    )


def _derive(seed: bytes, label: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt=None, info=label).derive(seed)
