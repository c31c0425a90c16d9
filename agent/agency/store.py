"""The agency's store: one SQLite file (WAL) in a directory of mode 0700. Documents stand in it verbatim.

It keeps what was signed and when it came, and verifies nothing: whoever reads a document from here verifies
it again. A single-use reply key is wiped (``secure_delete``) as soon as it has no more work to do, and with
it the replies sealed to it. Another schema than `SCHEMA` is refused, never guessed.

============  ========================================================================================
table         a row is
============  ========================================================================================
operators     a person with a key of their own; ``badge`` is the newest one
households    an introduction, as imported last
routes        how a device is reached, if that was said at import
requests      what was asked, and how it stands; ``token`` once granted
decisions     every decision of a device, each once
offers        what was offered under a request; ``answer`` and ``ended`` once they came
receipts      proofs that an entry stands in a device's ledger
============  ========================================================================================
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from agent.consent.reasons import AgencyReason
from agent.consent.times import SECOND_NS
from agent.errors import ConfigError, IntegrityError, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

SCHEMA: Final = 1
FILE: Final = "agency.sqlite"
BUSY_S: Final = 5.0
LATE_WORD_NS: Final = 24 * 3600 * SECOND_NS
"""How long a device's last word on a request may take: it comes after the request's end."""

_TABLES: Final = f"""
CREATE TABLE agency (name TEXT NOT NULL) STRICT;
CREATE TABLE operators (number TEXT PRIMARY KEY, name TEXT NOT NULL, key_id TEXT NOT NULL UNIQUE,
    badge BLOB NOT NULL) STRICT;
CREATE TABLE households (id TEXT PRIMARY KEY, introduction BLOB NOT NULL,
    imported_ns INTEGER NOT NULL) STRICT;
CREATE TABLE routes (device TEXT PRIMARY KEY, route TEXT NOT NULL) STRICT;
CREATE TABLE requests (id TEXT PRIMARY KEY, device TEXT NOT NULL, operator TEXT NOT NULL,
    document BLOB NOT NULL, reply_key BLOB, issued_ns INTEGER NOT NULL, expires_ns INTEGER NOT NULL,
    status TEXT NOT NULL, token BLOB) STRICT;
CREATE TABLE decisions (id TEXT PRIMARY KEY, request TEXT NOT NULL REFERENCES requests,
    document BLOB NOT NULL, received_ns INTEGER NOT NULL) STRICT;
CREATE TABLE offers (id TEXT PRIMARY KEY, request TEXT NOT NULL REFERENCES requests, device TEXT NOT NULL,
    document BLOB NOT NULL, reply_key BLOB, issued_ns INTEGER NOT NULL,
    answer BLOB, answered_ns INTEGER, session TEXT, ended BLOB, ended_ns INTEGER) STRICT;
CREATE TABLE receipts (device TEXT NOT NULL, entry INTEGER NOT NULL, kind TEXT NOT NULL,
    session TEXT NOT NULL, document BLOB NOT NULL, received_ns INTEGER NOT NULL,
    PRIMARY KEY (device, entry)) STRICT;
PRAGMA user_version = {SCHEMA};
"""


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator; ``badge`` is the newest badge's envelope."""

    number: str
    name: str
    key_id: str
    badge: bytes


@dataclass(frozen=True, slots=True)
class RequestRow:
    """A request. Times in UTC nanoseconds; ``operator`` is the badge number it was asked under."""

    id: str
    device: str
    operator: str
    document: bytes
    reply_key: bytes | None
    issued_ns: int
    expires_ns: int
    status: AgencyReason
    token: bytes | None

    def status_at(self, now_ns: int) -> AgencyReason:
        """How it stands now: a request that nobody answered within its lifetime got no answer."""
        if self.status is AgencyReason.PENDING and now_ns >= self.expires_ns:
            return AgencyReason.NO_ANSWER
        return self.status


@dataclass(frozen=True, slots=True)
class OfferRow:
    """An offer and what became of it."""

    id: str
    request: str
    device: str
    document: bytes
    reply_key: bytes | None
    issued_ns: int
    answer: bytes | None
    session: str | None
    ended: bytes | None


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt, and which entry of which device's ledger it proves."""

    device: str
    entry: int
    kind: str
    session: str
    document: bytes
    received_ns: int


_REQUESTS: Final = (
    "SELECT id, device, operator, document, reply_key, issued_ns, expires_ns, status, token FROM requests "
)
_OFFERS: Final = (
    "SELECT id, request, device, document, reply_key, issued_ns, answer, session, ended FROM offers "
)
_RECEIPTS: Final = "SELECT device, entry, kind, session, document, received_ns FROM receipts "


class Store:
    """An open store; use it with ``with``. Another process may use the same one meanwhile."""

    def __init__(self, directory: Path, connection: sqlite3.Connection) -> None:
        # Called by `create` and `open` alone.
        self.directory = directory
        self._connection = connection

    @classmethod
    def create(cls, directory: Path, name: str) -> Store:
        """Make the directory and an empty store for the agency called ``name``.

        Raises:
            Refused: There is one already.
            StorageError: It cannot be made.
        """
        path = directory / FILE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as error:
            raise Refused(
                f"agency store {directory}: there is one already",
                reason="exists",
                hint="use it as it is, or name another directory: doorward agency --dir DIR init …",
            ) from error
        except OSError as error:
            raise StorageError(f"agency store {directory}: {error.strerror}") from error
        with _guarded(path):
            connection = _connect(path)
            connection.executescript(f"BEGIN IMMEDIATE; {_TABLES}; COMMIT;")
            connection.execute("INSERT INTO agency VALUES (?)", (name,))
        return cls(directory, connection)

    @classmethod
    def open(cls, directory: Path) -> Store:
        """Open the store in ``directory``.

        Raises:
            ConfigError: There is none.
            IntegrityError: It is damaged, or of another version.
            StorageError: It cannot be read.
        """
        path = directory / FILE
        if not path.is_file():
            raise ConfigError(
                f"agency store {directory}: there is none", hint="make one: doorward agency init --name NAME"
            )
        with _guarded(path):
            connection = _connect(path)
            (found,) = connection.execute("PRAGMA user_version").fetchone()
        if found != SCHEMA:
            connection.close()
            raise IntegrityError(
                f"agency store {directory}: of another version (got schema {found}, expected {SCHEMA})",
                hint="use the version of doorward that wrote it, or another --dir",
            )
        return cls(directory, connection)

    def __enter__(self) -> Self:
        """The store itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._connection.close()

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable at its end, or nothing."""
        with _guarded(self.directory / FILE):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        # STRICT tables keep the types, so a row may be taken for what it was written as.
        with _guarded(self.directory / FILE):
            return self._connection.execute(query, values).fetchall()

    # The agency and its operators

    @property
    def name(self) -> str:
        """The agency's name."""
        rows = self._rows("SELECT name FROM agency")
        if len(rows) != 1:
            raise IntegrityError(f"agency store {self.directory}: not made to the end")
        return str(rows[0][0])

    def operators(self) -> list[OperatorRow]:
        """All operators, by number."""
        rows = self._rows("SELECT number, name, key_id, badge FROM operators ORDER BY number")
        return [OperatorRow(*row) for row in rows]

    def put_operator(self, operator: OperatorRow) -> None:
        """Keep an operator, or a newer badge of one."""
        with self._change() as change:
            change.execute(
                "INSERT INTO operators VALUES (?, ?, ?, ?)"
                " ON CONFLICT (number) DO UPDATE SET badge = excluded.badge",
                (operator.number, operator.name, operator.key_id, operator.badge),
            )

    # Households

    def introductions(self) -> list[bytes]:
        """The envelopes of all introductions, oldest import first."""
        return [
            bytes(row[0])
            for row in self._rows("SELECT introduction FROM households ORDER BY imported_ns, id")
        ]

    def put_introduction(
        self, household: str, document: bytes, routes: dict[str, str], received_ns: int
    ) -> None:
        """Keep a household's introduction in place of an earlier one, and how its devices are reached."""
        with self._change() as change:
            change.execute(
                "INSERT OR REPLACE INTO households VALUES (?, ?, ?)", (household, document, received_ns)
            )
            for device, route in routes.items():
                change.execute("INSERT OR REPLACE INTO routes VALUES (?, ?)", (device, route))

    def route(self, device: str) -> str | None:
        """How ``device`` is reached, as `agent.agency.routes` writes it."""
        rows = self._rows("SELECT route FROM routes WHERE device = ?", device)
        return str(rows[0][0]) if rows else None

    # Requests

    def requests(self) -> list[RequestRow]:
        """All requests, newest first."""
        return [_request(row) for row in self._rows(_REQUESTS + "ORDER BY issued_ns DESC, id")]

    def request(self, name: str) -> RequestRow | None:
        """The request with this id, or None."""
        rows = self._rows(_REQUESTS + "WHERE id = ?", name)
        return _request(rows[0]) if rows else None

    def put_request(self, request: RequestRow) -> None:
        """Keep a request before it is sent. Reply keys are wiped a day after their requests have lapsed."""
        with self._change() as change:
            change.execute(
                "UPDATE requests SET reply_key = NULL WHERE expires_ns <= ?",
                (request.issued_ns - LATE_WORD_NS,),
            )
            change.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    request.id,
                    request.device,
                    request.operator,
                    request.document,
                    request.reply_key,
                    request.issued_ns,
                    request.expires_ns,
                    str(request.status),
                    request.token,
                ),
            )

    def drop_request(self, name: str) -> None:
        """Forget a request that nobody took; one that was decided stays."""
        with self._change() as change:
            change.execute(
                "DELETE FROM requests WHERE id = ? AND id NOT IN (SELECT request FROM decisions)", (name,)
            )

    def put_decision(
        self,
        name: str,
        document: bytes,
        *,
        request: str,
        status: AgencyReason,
        token: bytes | None,
        now_ns: int,
    ) -> bool:
        """Keep a decision; False, and nothing changes, if it is known.

        With a token, or when nobody answered in time, the request's reply key is wiped: nothing that comes
        later can undo that.
        """
        final = token is not None or status is AgencyReason.NO_ANSWER
        with self._change() as change:
            known = change.execute("SELECT 1 FROM decisions WHERE id = ?", (name,)).fetchone()
            if known:
                return False
            change.execute("INSERT INTO decisions VALUES (?, ?, ?, ?)", (name, request, document, now_ns))
            change.execute(
                "UPDATE requests SET status = ?, token = ?,"
                " reply_key = CASE WHEN ? THEN NULL ELSE reply_key END WHERE id = ?",
                (str(status), token, final, request),
            )
            return True

    # Offers

    def offer(self, name: str) -> OfferRow | None:
        """The offer with this id, or None."""
        rows = self._rows(_OFFERS + "WHERE id = ?", name)
        return OfferRow(*rows[0]) if rows else None

    def last_end(self, request: str) -> bytes | None:
        """The device's word on the end of the newest session under a request, or None."""
        rows = self._rows(
            "SELECT ended FROM offers WHERE request = ? AND session IS NOT NULL"
            " ORDER BY answered_ns DESC LIMIT 1",
            request,
        )
        return rows[0][0] if rows else None

    def put_offer(self, offer: OfferRow) -> None:
        """Keep an offer before it is sent."""
        with self._change() as change:
            change.execute(
                "INSERT INTO offers (id, request, device, document, reply_key, issued_ns)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (offer.id, offer.request, offer.device, offer.document, offer.reply_key, offer.issued_ns),
            )

    def put_answer(self, offer: str, document: bytes, receipt: ReceiptRow | None, now_ns: int) -> None:
        """Keep the one answer to an offer, with its receipt if it was granted; its reply key is wiped."""
        with self._change() as change:
            change.execute(
                "UPDATE offers SET answer = ?, answered_ns = ?, session = ?, reply_key = NULL WHERE id = ?",
                (document, now_ns, receipt.session if receipt else None, offer),
            )
            _put_receipt(change, receipt)

    def put_end(self, offer: str, document: bytes, receipt: ReceiptRow, now_ns: int) -> None:
        """Keep the device's word that the session under an offer is over."""
        with self._change() as change:
            change.execute(
                "UPDATE offers SET ended = ?, ended_ns = ? WHERE id = ?", (document, now_ns, offer)
            )
            _put_receipt(change, receipt)

    # Receipts

    def receipts(self) -> list[ReceiptRow]:
        """All receipts, oldest first."""
        rows = self._rows(_RECEIPTS + "ORDER BY received_ns, entry")
        return [ReceiptRow(*row) for row in rows]


def _put_receipt(change: sqlite3.Connection, receipt: ReceiptRow | None) -> None:
    if receipt is not None:
        change.execute(
            "INSERT OR REPLACE INTO receipts VALUES (?, ?, ?, ?, ?, ?)",
            (
                receipt.device,
                receipt.entry,
                receipt.kind,
                receipt.session,
                receipt.document,
                receipt.received_ns,
            ),
        )


def _request(row: tuple[Any, ...]) -> RequestRow:
    name, device, operator, document, reply_key, issued_ns, expires_ns, status, token = row
    if status not in {str(each) for each in AgencyReason}:
        raise IntegrityError(f"agency store: a request in an unknown state (got {str(status)[:40]!r})")
    reason = AgencyReason(status)
    return RequestRow(name, device, operator, document, reply_key, issued_ns, expires_ns, reason, token)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")
    return connection


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """SQLite's errors as ours: what is damaged apart from what just did not work."""
    try:
        yield
    except (sqlite3.OperationalError, sqlite3.InterfaceError) as error:
        raise StorageError(f"agency store {path.parent}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise IntegrityError(
            f"agency store {path.parent}: damaged ({error})", hint="put it back from a backup"
        ) from error
