"""What an owner's client remembers of each device: its key, and the newest checkpoint it has seen.

Held against every answer, this is how a household notices that a card was copied back. A file beside the key
file; losing it loses the memory and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent import strict_json
from agent.consent.acts import Seen
from agent.consent.fields import Fields, encode_bytes
from agent.errors import DocumentError, IntegrityError, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import merkle

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_BYTES: Final = 1024 * 1024
HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Memory:
    """One device as this client knows it."""

    signing: bytes
    household: str
    size: int
    root: bytes

    @property
    def seen(self) -> Seen:
        """As it stands in acts."""
        return Seen(self.size, self.root)


def _root(data: bytes) -> bytes:
    """Of another length it would pass for a ledger that was changed, and frighten people."""
    if len(data) != HASH_BYTES:
        raise DocumentError(f"root: got {len(data)} bytes, expected {HASH_BYTES}")
    return data


class SeenFile:
    """The file of all memories, by device id."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._memories: dict[str, Memory] = {}
        if path.exists():
            self._read()

    def _read(self) -> None:
        try:
            value = strict_json.loads(self._path.read_bytes(), limit=MAX_BYTES)
            if not isinstance(value, dict):
                raise DocumentError("not an object")
            for device, each in value.items():
                fields = Fields(each, device)
                self._memories[device] = Memory(
                    fields.key("signing"),
                    fields.key_id("household"),
                    fields.integer("size", 0, 2**53 - 1),
                    _root(fields.data("root", max_bytes=HASH_BYTES)),
                )
                fields.done()
        except (DocumentError, OSError) as error:
            raise IntegrityError(
                f"memory {self._path}: {error}",
                hint="remove it to begin anew; what this client had seen is then forgotten",
            ) from error

    def get(self, device: str) -> Memory | None:
        """What is known of a device, or None."""
        return self._memories.get(device)

    def items(self) -> list[tuple[str, Memory]]:
        """Every device this client knows, by id."""
        return list(self._memories.items())

    def remember(self, device: str, memory: Memory) -> None:
        """Keep it, durably.

        Raises:
            StorageError: It cannot be written.
        """
        self._memories[device] = memory
        self._write()

    def forget(self, device: str) -> None:
        """Know nothing of it any more, durably.

        Raises:
            StorageError: It cannot be written.
        """
        self._memories.pop(device, None)
        self._write()

    def _write(self) -> None:
        value = {
            name: {
                "signing": encode_bytes(each.signing),
                "household": each.household,
                "size": each.size,
                "root": encode_bytes(each.root),
            }
            for name, each in self._memories.items()
        }
        beside = self._path.with_name(self._path.name + ".new")
        try:
            beside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(strict_json.dumps(value))
                file.flush()
                os.fsync(file.fileno())
            beside.rename(self._path)
        except OSError as error:
            raise StorageError(f"memory {self._path}: {error.strerror}") from error

    def advance(
        self, device: str, household: str, signing: bytes, note: str, origin: str, proof: Sequence[bytes]
    ) -> Memory:
        """Take a newer checkpoint, if it is signed and follows from the one we hold.

        Raises:
            ProofError: It is not signed by the device, or does not follow: the ledger was changed.
        """
        checkpoint = checkpoints.verify(note, origin, origin, signing)
        known = self.get(device)
        if known is not None and known.size:
            merkle.verify_consistency(known.size, checkpoint.size, proof, known.root, checkpoint.root)
        memory = Memory(signing, household, checkpoint.size, checkpoint.root)
        self.remember(device, memory)
        return memory
