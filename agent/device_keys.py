"""The device's own keys: Ed25519 for signing, X25519 for first contact. Made at first start, never shown.

Two files of raw private bytes, mode 0600, in a directory of mode 0700. Written whole or not at all: a power
cut during first start leaves a device that simply makes its keys at the next one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.consent import envelope
from agent.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class DeviceKeys:
    """Private keys of one device."""

    signing: Ed25519PrivateKey
    seal: X25519PrivateKey

    @property
    def signing_public(self) -> bytes:
        """The raw public signing key."""
        return self.signing.public_key().public_bytes_raw()

    @property
    def seal_public(self) -> bytes:
        """The raw public seal key."""
        return self.seal.public_key().public_bytes_raw()

    @property
    def device(self) -> str:
        """The device's id: the id of its signing key."""
        return envelope.key_id(self.signing_public)


def load_or_make(directory: Path) -> DeviceKeys:
    """The keys in ``directory``, made now if there are none.

    Raises:
        IntegrityError: A key file is damaged. It is not replaced: a device with a new key is another device.
        StorageError: They cannot be read or written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing = _load_or_make(
            directory / "signing", lambda: Ed25519PrivateKey.generate().private_bytes_raw()
        )
        seal = _load_or_make(directory / "seal", lambda: X25519PrivateKey.generate().private_bytes_raw())
    except OSError as error:
        raise StorageError(f"device keys: {error.filename}: {error.strerror}") from error
    return DeviceKeys(
        Ed25519PrivateKey.from_private_bytes(signing), X25519PrivateKey.from_private_bytes(seal)
    )


def _load_or_make(path: Path, make: Callable[[], bytes]) -> bytes:
    if not path.exists():
        write_whole(path, make())
    data = path.read_bytes()
    if len(data) != _KEY_BYTES:
        raise IntegrityError(
            f"device keys: {path.name} is damaged (got {len(data)} bytes, expected {_KEY_BYTES})",
            hint="put the state directory back from where it was, or remove it whole and pair anew",
        )
    return data


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, sync, rename, sync the directory: the name appears with its content or not at all.

    Raises:
        OSError: It could not be written.
    """
    beside = path.with_suffix(".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
