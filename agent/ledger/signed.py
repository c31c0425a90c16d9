"""Which checkpoints this ledger has signed: noted durably before anybody sees one.

A ledger that signs two histories looks like a liar, whatever the cause. So the newest two checkpoints stand
in a file of two slots, written in turn, and a ledger that no longer reaches what it signed does not open.

A slot is 1 KiB: CRC-32 of the text (4 bytes, big-endian), its length (4), the text of the signed note, zeros.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from agent.errors import IntegrityError, LedgerError, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger.files import write_all

if TYPE_CHECKING:
    from agent.ledger.checkpoint import Checkpoint
    from agent.ledger.files import File

_SLOTS: Final = 2
_SLOT_BYTES: Final = 1024
_HEAD: Final = struct.Struct(">II")


class SignedCheckpoints:
    """The newest checkpoints signed by the key ``public`` for the ledger called ``origin``."""

    def __init__(self, file: File, origin: str, public: bytes) -> None:
        self._file = file
        self._origin = origin
        self._public = public
        self._next = 0
        self.newest: tuple[Checkpoint, str] | None = None
        self.known: tuple[Checkpoint, ...] = ()

    def load(self, *, is_new_ledger: bool) -> None:
        """Read the slots; those of a ledger without entries are made.

        Raises:
            IntegrityError: Missing, damaged, or signed by another key or for another ledger.
            OSError: The disk does not do what it should.
        """
        if self._file.size() < _SLOTS * _SLOT_BYTES:
            if not is_new_ledger:
                raise IntegrityError("ledger: its signed checkpoints are missing")
            write_all(self._file, 0, bytes(_SLOTS * _SLOT_BYTES))
            self._file.sync()
        damaged = 0
        for number in range(_SLOTS):
            slot = self._file.read(number * _SLOT_BYTES, _SLOT_BYTES)
            if not any(slot):
                continue
            crc, length = _HEAD.unpack_from(slot)
            data = slot[_HEAD.size : _HEAD.size + length]
            if len(data) != length or zlib.crc32(data) != crc:
                damaged += 1
                continue
            self._accept(number, self._verified(data))
        if damaged == _SLOTS:
            # One slot can be torn by a power cut. The other is not written before that one is good again.
            raise IntegrityError("ledger: its signed checkpoints are damaged")
        if self.newest is not None:
            # It may stand in the page cache alone, after a sync that failed: see `agent.ledger.log`.
            self._write(1 - self._next, self.newest[1])

    def note(self, checkpoint: Checkpoint, text: str) -> None:
        """Make it durable that ``checkpoint`` was signed as ``text``; only then may anybody see it.

        Raises:
            LedgerError: It is not durable. The slot that holds the newest good one was not touched.
        """
        number = self._next
        try:
            self._write(number, text)
        except OSError as error:
            raise LedgerError(f"ledger: checkpoint not durable ({error.strerror})") from error
        self._accept(number, (checkpoint, text))

    def _write(self, number: int, text: str) -> None:
        data = text.encode("utf-8")
        if len(data) > _SLOT_BYTES - _HEAD.size:
            raise RuntimeError("ledger: the origin is too long for a slot")
        slot = (_HEAD.pack(zlib.crc32(data), len(data)) + data).ljust(_SLOT_BYTES, b"\0")
        write_all(self._file, number * _SLOT_BYTES, slot)
        self._file.sync()

    def _accept(self, number: int, signed: tuple[Checkpoint, str]) -> None:
        self.known = (*self.known, signed[0])[-_SLOTS:]
        if self.newest is None or signed[0].size >= self.newest[0].size:
            self.newest = signed
            self._next = (number + 1) % _SLOTS

    def _verified(self, data: bytes) -> tuple[Checkpoint, str]:
        try:
            text = data.decode("utf-8")
            return checkpoints.verify(text, self._origin, self._origin, self._public), text
        except (UnicodeDecodeError, ProofError) as error:
            raise IntegrityError(f"ledger: holds a checkpoint that is not its own ({error})") from error
