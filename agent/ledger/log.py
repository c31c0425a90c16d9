"""The ledger on disk: append-only, one writer, durable when `Log.append` returns.

The directory holds ``signed`` (see `agent.ledger.signed`) and ``entries``: frames, one after another, each
written by one append and holding all its entries::

    ff 44 57 fe | index of the first entry (8) | number of entries (4) | body length (4) | body CRC-32 (4)
    | CRC-32 of the 24 bytes before it (4) || body: for each entry its length (4) and its bytes

Integers are big-endian. Two bytes of the magic occur in no UTF-8 text, so it stands inside no entry.

Opening is the only recovery, after a power cut as after any stop. A last frame that did not arrive whole was
never acknowledged and is cut off. Damage before it, or anything missing that a signed checkpoint covers, is
an `IntegrityError` that names the entry, and nothing on disk is changed. An entry whose append failed may yet
stand on the disk; then it is found once when the log is opened, and counts.

An append that fails leaves the log closed for appends until it is opened anew, for after a failed sync nobody
knows what the disk holds. A full disk alone, where nothing was synced, leaves it open. `RESERVE_BYTES` beyond
the end stay allocated, and only entries of `entry.RESTRAINING` may use them: on a full disk nothing new can
be shown, but a revocation can still be written.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from array import array
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from agent.errors import DocumentError, IntegrityError, LedgerError, StorageError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import merkle
from agent.ledger.checkpoint import Checkpoint
from agent.ledger.entry import RESTRAINING, Entry
from agent.ledger.files import DISK_FULL, DiskFile, File, sync_directory, write_all
from agent.ledger.receipt import Receipt
from agent.ledger.signed import SignedCheckpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RESERVE_BYTES: Final = 256 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
"""Bytes one append may write; bounds what a torn frame can be."""

_RESERVE_STEP: Final = 256 * 1024
_MAGIC: Final = b"\xffDW\xfe"
_HEADER: Final = struct.Struct(">4sQIII")
_WORD: Final = struct.Struct(">I")
_HEADER_BYTES: Final = _HEADER.size + _WORD.size


class Log:
    """An open ledger. Safe to use from several threads; what writes blocks until the disk has it."""

    def __init__(
        self, entries: File, signed: SignedCheckpoints, origin: str, private: Ed25519PrivateKey
    ) -> None:
        # Called by `open` alone, which recovers and hands over what `close` gives back.
        self._file = entries
        self._signed = signed
        self._origin = origin
        self._private = private
        self._resources = ExitStack()
        self._lock = threading.RLock()  # guards everything below
        self._tree = merkle.Tree()
        self._offsets = array("Q")
        self._lengths = array("I")
        self._end = 0  # of the last acknowledged frame, in bytes
        self._reserved_to = 0
        self._refusal: str | None = None  # why there are no more appends

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        origin: str,
        private: Ed25519PrivateKey,
        opener: Callable[[Path], File] = DiskFile,
    ) -> Log:
        """Open the ledger in ``directory``, recovering it; a directory that is not there is a new ledger.

        ``origin`` names the ledger in its checkpoints, which ``private`` signs.

        Raises:
            IntegrityError: What stands there is not what was written, or is another ledger's.
            LedgerError: Another process has it open, or the disk does not do what it should.
        """
        try:
            with ExitStack() as resources:
                if not directory.is_dir():
                    directory.mkdir(mode=0o700, parents=True)
                    sync_directory(directory.parent)
                # The lock is the directory's: it is held before any file is touched.
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                resources.callback(os.close, fd)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                slots = opener(directory / "signed")
                resources.callback(slots.close)
                entries = opener(directory / "entries")
                resources.callback(entries.close)
                os.fsync(fd)
                public = private.public_key().public_bytes_raw()
                log = cls(entries, SignedCheckpoints(slots, origin, public), origin, private)
                log._recover()
                log._resources = resources.pop_all()
        except BlockingIOError as error:
            raise LedgerError("ledger: another process has it open") from error
        except OSError as error:
            raise LedgerError(f"ledger: cannot be opened ({error.strerror})") from error
        except IntegrityError as error:
            error.hint = "it was changed outside doorward; sharing stays off until an owner has looked at it"
            raise
        return log

    def close(self) -> None:
        """Close the files and give up the lock. Nothing is written: every append was durable already."""
        with self._lock:
            self._refusal = "it is closed"
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Number of entries; all of them are durable."""
        return self._tree.size

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first ``size`` entries, over all if None.

        Raises:
            ProofError: There are not that many.
        """
        with self._lock:
            return self._tree.root(size)

    def append(self, entry: Entry) -> int:
        """Make ``entry`` durable and return its index.

        Raises:
            DocumentError: The entry cannot be written; nothing was.
            LedgerError: It is not known to be durable: what depends on it must not happen.
        """
        return self.append_many([entry])[0]

    def append_many(self, entries: Sequence[Entry]) -> range:
        """Make ``entries`` durable together, all or none, and return their indices.

        Raises:
            DocumentError: One of them cannot be written, or they are too large together; none was written.
            LedgerError: They are not known to be durable: what depends on them must not happen.
        """
        encoded = [entry.encode() for entry in entries]
        restraining = all(entry.kind in RESTRAINING for entry in entries)
        with self._lock:
            if self._refusal is not None:
                raise LedgerError(f"ledger: takes no entries ({self._refusal})")
            first = self._tree.size
            if encoded:
                frame = _frame(first, encoded)
                self._make_room(self._end + len(frame), restraining=restraining)
                self._write(frame)
                self._accept(encoded)
            return range(first, self._tree.size)

    def checkpoint(self) -> str:
        """Sign the present size and root; that it was signed is durable when this returns.

        Raises:
            LedgerError: It is not durable, so there is no checkpoint.
        """
        with self._lock:
            newest, size = self._signed.newest, self._tree.size
            if newest is not None and newest[0].size == size:
                return newest[1]
            checkpoint = Checkpoint(self._origin, size, self._tree.root())
            text = checkpoints.sign(checkpoint, self._origin, self._private)
            self._signed.note(checkpoint, text)
            return text

    def receipt(self, index: int) -> Receipt:
        """Prove entry ``index`` under the present checkpoint.

        Raises:
            ProofError: There is no such entry.
            LedgerError: There is no checkpoint, see `checkpoint`.
            StorageError: The entry cannot be read.
            IntegrityError: The entry is not what was written.
        """
        with self._lock:
            proof = self._tree.inclusion_proof(index)
            return Receipt(self.raw(index), index, tuple(proof), self.checkpoint())

    def consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Prove that the first ``old_size`` entries are a prefix of the first ``new_size``, of all if None.

        Raises:
            ProofError: No such sizes; 0 included.
        """
        with self._lock:
            return self._tree.consistency_proof(old_size, new_size)

    def checkpoint_after(self, old_size: int) -> tuple[str, list[bytes]]:
        """The present checkpoint, and the proof that it continues the first ``old_size`` entries.

        Raises:
            ProofError: No such size; 0 included.
            LedgerError: The checkpoint is not durable, so there is none.
        """
        with self._lock:
            return self.checkpoint(), self._tree.consistency_proof(old_size)

    def raw(self, index: int) -> bytes:
        """The bytes of entry ``index``, checked against the tree.

        Raises:
            ProofError: There is no such entry.
            StorageError: They cannot be read.
            IntegrityError: They are not what was written.
        """
        with self._lock:
            leaf = self._tree.leaf(index)
            try:
                data = self._file.read(self._offsets[index], self._lengths[index])
            except OSError as error:
                raise StorageError(f"ledger: entry {index} cannot be read ({error.strerror})") from error
        if merkle.leaf_hash(data) != leaf:
            raise IntegrityError(f"ledger: entry {index} is not what was written")
        return data

    def entries(self, start: int = 0) -> Iterator[tuple[int, Entry]]:
        """Yield index and entry from ``start`` up to the size when iteration begins.

        Raises:
            StorageError: One cannot be read.
            IntegrityError: One is not what was written, or a later version wrote it.
        """
        for index in range(start, self._tree.size):
            try:
                entry = Entry.parse(self.raw(index))
            except DocumentError as error:
                raise IntegrityError(f"ledger: entry {index} is not one we know ({error})") from error
            yield index, entry

    def _accept(self, encoded: Sequence[bytes]) -> None:
        """Count the frame that begins where the last one ended: it holds these entries and is durable."""
        offset = self._end + _HEADER_BYTES
        for data in encoded:
            offset += _WORD.size
            self._offsets.append(offset)
            self._lengths.append(len(data))
            self._tree.append(merkle.leaf_hash(data))
            offset += len(data)
        self._end = offset

    def _make_room(self, end: int, *, restraining: bool) -> None:
        """Keep the reserve allocated beyond ``end``; refuse what may not use it if that is impossible."""
        if end + RESERVE_BYTES <= self._reserved_to:
            return
        for wanted in (end + RESERVE_BYTES + _RESERVE_STEP, end + RESERVE_BYTES):
            try:
                self._file.reserve(wanted)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    # Not every file system can reserve. There the write itself says whether there is room;
                    # and if this was another fault, the write meets it too.
                    return
            else:
                self._reserved_to = wanted
                return
        if not restraining:
            raise LedgerError("ledger: disk full (what is left is kept for revocations)")

    def _write(self, frame: bytes) -> None:
        try:
            write_all(self._file, self._end, frame)
        except OSError as error:
            if error.errno not in DISK_FULL or not self._is_cut_back():
                self._refusal = f"a write failed: {error.strerror}"
            raise LedgerError(f"ledger: entry not written ({error.strerror})") from error
        try:
            self._file.sync()
        except OSError as error:
            self._refusal = f"a sync failed: {error.strerror}"
            raise LedgerError(f"ledger: entry not durable ({error.strerror})") from error

    def _is_cut_back(self) -> bool:
        """After a full disk, before any sync: is the file again exactly what was acknowledged?"""
        try:
            if self._file.size() > self._end:
                self._file.truncate(self._end)
        except OSError:
            return False
        return True

    def _recover(self) -> None:
        length = self._file.size()
        self._signed.load(is_new_ledger=length == 0)
        frame = b""
        while self._end < length:
            found = self._read_frame(length)
            if not found:
                self._check_torn(length)
                break
            frame = found
            self._accept(_split(frame, self._tree.size))
        # Nothing on disk may change before what was signed is found to hold.
        self._check_signed()
        if self._end < length:
            self._file.truncate(self._end)
        # If the last frame's sync failed in an earlier life of this process, its bytes may stand in the page
        # cache alone, where they look durable. Written again, they are.
        write_all(self._file, self._end - len(frame), frame)
        self._file.sync()
        self._make_room(self._end, restraining=True)

    def _read_frame(self, length: int) -> bytes:
        """Return the frame that begins where the last one ended; nothing if it is not whole."""
        index = self._tree.size
        header = self._file.read(self._end, _HEADER_BYTES)
        fields = _parse_header(header)
        if fields is None:
            return b""
        first, body_length, body_crc = fields
        if first != index:
            raise IntegrityError(f"ledger: entry {index} is missing (got entry {first} in its place)")
        if body_length > length - self._end - _HEADER_BYTES:
            return b""
        body = self._file.read(self._end + _HEADER_BYTES, body_length)
        return header + body if zlib.crc32(body) == body_crc else b""

    def _check_torn(self, length: int) -> None:
        """Do not take damage in the middle for a torn last frame.

        A frame was acknowledged before the next was begun: where any header follows, this is damage.
        """
        if length - self._end <= _HEADER_BYTES + MAX_BODY_BYTES:
            rest = self._file.read(self._end, length - self._end)
            at = rest.find(_MAGIC, 1)
            while at > 0 and _parse_header(rest[at : at + _HEADER_BYTES]) is None:
                at = rest.find(_MAGIC, at + 1)
            if at < 0:
                return
        raise IntegrityError(f"ledger: entry {self._tree.size} is damaged, and others follow it")

    def _check_signed(self) -> None:
        for checkpoint in self._signed.known:
            if checkpoint.size > self._tree.size:
                raise IntegrityError(
                    f"ledger: entry {self._tree.size} is missing or damaged "
                    f"(a checkpoint over {checkpoint.size} entries was signed)"
                )
            if checkpoint.root != self._tree.root(checkpoint.size):
                raise IntegrityError(
                    f"ledger: one of the first {checkpoint.size} entries is not what was signed"
                )


def _frame(first: int, encoded: Sequence[bytes]) -> bytes:
    body = b"".join(_WORD.pack(len(data)) + data for data in encoded)
    if len(body) > MAX_BODY_BYTES:
        raise DocumentError(
            f"ledger: entries too large together (got {len(body)} bytes, expected at most {MAX_BODY_BYTES})"
        )
    header = _HEADER.pack(_MAGIC, first, len(encoded), len(body), zlib.crc32(body))
    return header + _WORD.pack(zlib.crc32(header)) + body


def _parse_header(data: bytes) -> tuple[int, int, int] | None:
    """First index, body length and body CRC of a frame's header; None if it is none."""
    if len(data) != _HEADER_BYTES or _WORD.unpack_from(data, _HEADER.size)[0] != zlib.crc32(
        data[: _HEADER.size]
    ):
        return None
    magic, first, count, body_length, body_crc = _HEADER.unpack_from(data)
    if magic != _MAGIC or not count or body_length > MAX_BODY_BYTES:
        return None
    return first, body_length, body_crc


def _split(frame: bytes, index: int) -> list[bytes]:
    """Return the entries of a whole frame, the first of which is entry ``index``."""
    count = _HEADER.unpack_from(frame)[2]
    found: list[bytes] = []
    offset = _HEADER_BYTES
    while offset < len(frame) and len(found) < count:
        length = int.from_bytes(frame[offset : offset + _WORD.size], "big")
        offset += _WORD.size
        found.append(frame[offset : offset + length])
        offset += length
    if len(found) != count or offset != len(frame):
        raise IntegrityError(f"ledger: entry {index} stands in a frame that was never written like this")
    return found
