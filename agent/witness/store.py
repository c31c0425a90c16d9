"""What a witness must never forget: its key, the logs it trusts, and the newest checkpoint it vouched for.

One SQLite file of mode 0600 holds all of it, so that a key without its memory cannot come about: a witness
whose memory is lost or put back from a copy could vouch for a second history, and is worse than none.

`Store.advance` checks and writes in one transaction that is on the disk before it returns (write-ahead log,
``synchronous=FULL``), over threads and processes alike.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.errors import IntegrityError, Refused, StorageError
from agent.ledger import cosignature, vkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FILE_NAME: Final = "witness.db"
MAX_LOGS: Final = 100_000
SCHEMA: Final = 0
_APPLICATION: Final = 0x44574974  # "DWIt"
_BUSY_S: Final = 10.0
_ALL: Final = "SELECT origin, key, size, root, note, at FROM logs ORDER BY origin"
_BY_ORIGIN: Final = "SELECT origin, key, size, root, note, at FROM logs WHERE origin = ?"
_BY_HASH: Final = "SELECT origin, key, size, root, note, at FROM logs WHERE hash = ?"
_TABLES: Final = """
CREATE TABLE witness (name TEXT NOT NULL, seed BLOB NOT NULL);
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    key BLOB NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    root BLOB,
    note TEXT,
    at INTEGER
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Held:
    """A trusted log, and the newest checkpoint of it that this witness vouched for.

    ``size`` is 0, ``root`` and ``note`` None before the first; ``at`` is in whole seconds since 1970.
    """

    origin: str
    key: bytes
    size: int
    root: bytes | None
    note: str | None
    at: int | None


class Store:
    """An open store. Safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the store at ``path``, which `create` made.

        Raises:
            Refused: There is none.
            IntegrityError: It is none of ours, or of another version.
            StorageError: It cannot be opened.
        """
        if not path.exists():
            raise Refused(
                f"no witness at {path.parent}",
                reason="unknown",
                hint="make one: doorward witness init --dir DIR --name NAME. If there was one here and its "
                "file is lost, do not make it anew under the same key: retire it",
            )
        self._lock = threading.Lock()
        with _mapped("open"):
            self._db = sqlite3.connect(
                f"file:{path}?mode=rw",
                uri=True,
                timeout=_BUSY_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            found = self._db.execute("PRAGMA application_id").fetchone()[0]
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if (found, version) != (_APPLICATION, SCHEMA):
                self._db.close()
                raise IntegrityError(f"witness {path}: another file, or of another version (got {version})")
            self.name, seed = self._db.execute("SELECT name, seed FROM witness").fetchone()
        self.private = Ed25519PrivateKey.from_private_bytes(seed)

    @staticmethod
    def create(path: Path, name: str) -> None:
        """Make a witness called ``name`` with a new key; never over an existing one.

        Raises:
            ProofError: No key in a note can have this name.
            Refused: There is one already.
            StorageError: It cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        cosignature.sign("", name, private, timestamp=1)  # refuses a name that no note can carry
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as error:
            raise Refused(f"witness {path} exists already", reason="exists") from error
        except OSError as error:
            raise StorageError(f"witness {path}: {error.strerror}") from error
        with _mapped("make"):
            db = sqlite3.connect(path, isolation_level=None)
            try:
                db.execute("PRAGMA journal_mode=WAL")
                db.execute("PRAGMA synchronous=FULL")
                db.executescript(f"BEGIN; {_TABLES}")
                db.execute("INSERT INTO witness VALUES (?, ?)", (name, private.private_bytes_raw()))
                db.execute(f"PRAGMA application_id={_APPLICATION}")
                db.execute(f"PRAGMA user_version={SCHEMA}")
                db.execute("COMMIT")
            finally:
                db.close()
        _sync_directory(path.parent)

    def close(self) -> None:
        """Close it; there is nothing to flush."""
        with self._lock:
            self._db.close()

    @property
    def public(self) -> bytes:
        """The raw public key."""
        return self.private.public_key().public_bytes_raw()

    @property
    def verifier_key(self) -> str:
        """Name and key in the line that people hand on."""
        return vkey.written(self.name, self.public, cosignature.KIND)

    def add_log(self, origin: str, key: bytes) -> None:
        """Trust the log called ``origin``, whose checkpoints ``key`` signs.

        Raises:
            Refused: It is trusted already, or there are too many.
            StorageError: It could not be written.
        """
        with self._transaction("add a log to") as db:
            if db.execute("SELECT count(*) FROM logs").fetchone()[0] >= MAX_LOGS:
                raise Refused(f"this witness has {MAX_LOGS} logs already", reason="full")
            known = db.execute("SELECT key FROM logs WHERE origin = ?", (origin,)).fetchone()
            if known is not None:
                same = "already" if known[0] == key else "with another key"
                raise Refused(f"log {origin} is trusted {same}", reason="exists")
            db.execute(
                "INSERT INTO logs (origin, hash, key) VALUES (?, ?, ?)", (origin, origin_hash(origin), key)
            )

    def log(self, origin: str) -> Held | None:
        """The trusted log called ``origin``, or None."""
        return self._one(_BY_ORIGIN, origin)

    def log_by_hash(self, digest: str) -> Held | None:
        """The trusted log whose origin has this `origin_hash`, or None."""
        return self._one(_BY_HASH, digest)

    def _one(self, query: str, value: str) -> Held | None:
        with self._lock, _mapped("read"):
            row = self._db.execute(query, (value,)).fetchone()
        return Held(*row) if row is not None else None

    def logs(self) -> list[Held]:
        """All trusted logs, by origin."""
        with self._lock, _mapped("read"):
            rows = self._db.execute(_ALL).fetchall()
        return [Held(*row) for row in rows]

    def advance(self, origin: str, step: Callable[[Held], Held]) -> Held:
        """Replace what is held of ``origin`` by what ``step`` makes of it; durable when this returns.

        ``step`` sees what is held at this very moment and nothing can come between; whatever it raises
        leaves all as it was.

        Raises:
            Refused: There is no such log.
            StorageError: It is not known to be durable: nobody may hear of it.
        """
        with self._transaction("write") as db:
            row = db.execute(_BY_ORIGIN, (origin,)).fetchone()
            if row is None:
                raise Refused(f"log {origin[:80]} is not trusted here", reason="unknown")
            after = step(Held(*row))
            db.execute(
                "UPDATE logs SET size = ?, root = ?, note = ?, at = ? WHERE origin = ?",
                (after.size, after.root, after.note, after.at, origin),
            )
        return after

    @contextmanager
    def _transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        with self._lock, _mapped(what):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _sync_directory(path: Path) -> None:
    """Make the new file's name durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise StorageError(f"witness {path}: {error.strerror}") from error
    finally:
        os.close(fd)


def origin_hash(origin: str) -> str:
    """How a log is named in the address of its newest checkpoint: SHA-256 of its origin, in hex."""
    return hashlib.sha256(origin.encode("utf-8")).hexdigest()


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StorageError(f"witness: cannot {what} its store ({error})") from error
