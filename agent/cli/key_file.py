"""An owner's key file: a daily key under a passphrase, and in clear who it belongs to.

The two private keys (Ed25519 signing, X25519 archive) are encrypted with AES-256-GCM under a key that scrypt
(RFC 7914) makes from the passphrase; everything in clear is associated data, so that nobody can put another
name or root key beside them. Beside the file stands ``<name>.seen``: the newest checkpoint of each device
that this client has seen, and the device keys it knows; nothing in it is secret.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent.consent import envelope, strict_json
from agent.consent.charter import DailyKey, Owner
from agent.consent.fields import Fields, encode_bytes
from agent.errors import DocumentError, DoorwardError, MalformedInput, Refused, StorageError

if TYPE_CHECKING:
    from pathlib import Path

VERSION: Final = 0
SCRYPT_N: Final = 2**16
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_PRIVATE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class PublicPart:
    """What the file says in clear: the owner as a charter names them."""

    name: str
    label: str
    root: bytes
    recovery: bytes
    signing: bytes
    archive: bytes

    @property
    def owner(self) -> Owner:
        """The owner for a charter, with this daily key."""
        return Owner(self.name, self.root, self.recovery, (DailyKey(self.label, self.signing, self.archive),))

    def to_json(self) -> dict[str, object]:
        """As it stands in the file."""
        return {
            "v": VERSION,
            "name": self.name,
            "label": self.label,
            "root": encode_bytes(self.root),
            "recovery": encode_bytes(self.recovery),
            "signing": encode_bytes(self.signing),
            "archive": encode_bytes(self.archive),
        }


@dataclass(frozen=True, slots=True)
class DailyKeys:
    """The private keys, opened."""

    signing: Ed25519PrivateKey
    archive: X25519PrivateKey

    @property
    def signing_id(self) -> str:
        """The signing key's id."""
        return envelope.key_id(self.signing.public_key().public_bytes_raw())


def make(path: Path, *, name: str, label: str, root: bytes, recovery: bytes, passphrase: str) -> PublicPart:
    """Make a daily key and write its file; never over an existing one.

    Raises:
        Refused: There is a file already.
        StorageError: It cannot be written.
    """
    signing, archive = Ed25519PrivateKey.generate(), X25519PrivateKey.generate()
    public = PublicPart(
        name,
        label,
        root,
        recovery,
        signing.public_key().public_bytes_raw(),
        archive.public_key().public_bytes_raw(),
    )
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_stretched(passphrase, salt)).encrypt(
        nonce,
        signing.private_bytes_raw() + archive.private_bytes_raw(),
        strict_json.dumps(public.to_json()),
    )
    value = {
        "public": public.to_json(),
        "salt": encode_bytes(salt),
        "nonce": encode_bytes(nonce),
        "sealed": encode_bytes(sealed),
    }
    _write_new(path, strict_json.dumps(value) + b"\n")
    return public


def _stretched(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase.encode())


def _write_new(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Refused(
            f"key file {path} exists already",
            reason="exists",
            hint="use it as it is, or name another with --key-file",
        ) from error
    except OSError as error:
        raise StorageError(f"key file {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class KeyFile:
    """A key file that was read; `open` needs the passphrase."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            DoorwardError: It is not there.
            MalformedInput: It is no key file.
        """
        self.path = path
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DoorwardError(
                f"key file {path}: {error.strerror}",
                hint="make your keys first: doorward owner init --name YOU",
            ) from error
        try:
            fields = Fields(strict_json.loads(data.strip()), "file")
            self.public = fields.record("public", _parse_public)
            self._salt = fields.data("salt", max_bytes=_SALT_BYTES)
            self._nonce = fields.data("nonce", max_bytes=_NONCE_BYTES)
            self._sealed = fields.data("sealed", max_bytes=_PRIVATE_BYTES + 16)
            fields.done()
        except DocumentError as error:
            raise MalformedInput(f"key file {path}: {error}") from error

    def open(self, passphrase: str) -> DailyKeys:
        """The private keys.

        Raises:
            MalformedInput: The passphrase is wrong, or the file was changed; which of both nobody can tell.
        """
        try:
            private = AESGCM(_stretched(passphrase, self._salt)).decrypt(
                self._nonce, self._sealed, strict_json.dumps(self.public.to_json())
            )
        except (InvalidTag, ValueError) as error:
            raise MalformedInput(
                f"key file {self.path}: wrong passphrase, or the file was changed"
            ) from error
        return DailyKeys(
            Ed25519PrivateKey.from_private_bytes(private[:32]),
            X25519PrivateKey.from_private_bytes(private[32:]),
        )


def _parse_public(value: object, where: str) -> PublicPart:
    fields = Fields(value, where)
    fields.integer("v", VERSION, VERSION)
    public = PublicPart(
        fields.text("name", max_chars=60),
        fields.text("label", max_chars=60),
        fields.key("root"),
        fields.key("recovery"),
        fields.key("signing"),
        fields.key("archive"),
    )
    fields.done()
    return public
