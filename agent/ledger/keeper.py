"""The one writer of the ledger: makes entries, holds them against the state, makes them durable.

`record` returns when the entry is durable and the state holds it. An entry that does not follow from the
state is refused before it is written: it would close the ledger for good at the next start. When the disk
refuses, `durable` turns false until an entry goes through again: sharing stops, recording does not notice.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from agent.errors import LedgerError
from agent.ledger.entry import SALT_BYTES, Entry, EntryKind, Stamp
from agent.ledger.state import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.ledger.log import Log


class Keeper:
    """Log and state, kept together. `record` may be called from any thread, one at a time inside.

    ``state`` is replaced by each record, never changed: who reads it twice may read two states.
    """

    def __init__(self, log: Log, stamp: Callable[[], Stamp]) -> None:
        self.log = log
        self.state = State()
        self._stamp = stamp
        self._lock = threading.Lock()
        self._broken: str | None = None
        for index, entry in log.entries():
            self.state.apply(index, entry)

    @property
    def durable(self) -> bool:
        """Whether the next entry can be expected to become durable."""
        return self._broken is None

    @property
    def trouble(self) -> str | None:
        """Why not, in one line."""
        return self._broken

    def record(self, kind: EntryKind, body: dict[str, object]) -> int:
        """Append one entry; its number.

        Raises:
            LedgerError: It is not durable.
            DocumentError: It does not follow from the state, or cannot be written; nothing was.
        """
        return self.record_many([(kind, body)])[0]

    def record_many(self, items: Sequence[tuple[EntryKind, dict[str, object]]]) -> range:
        """Append several entries that become durable together; their numbers.

        Raises:
            LedgerError: None of them counts before the next start.
            DocumentError: One does not follow from the state, or cannot be written; nothing was.
        """
        with self._lock:
            stamp = self._stamp()
            entries = [Entry(kind, stamp, secrets.token_bytes(SALT_BYTES), body) for kind, body in items]
            following = self.state.after(entries)
            try:
                numbers = self.log.append_many(entries)
            except LedgerError as error:
                self._broken = str(error)
                raise
            self._broken = None
            following.settle(self.state)
            self.state = following
            return numbers
