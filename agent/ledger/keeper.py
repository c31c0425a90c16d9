"""The one writer of the ledger: makes entries, holds them against the state, makes them durable.

`record` returns when the entry is durable and the state holds it. An entry that does not follow from the
state is refused before it is written: it would close the ledger for good at the next start. When the disk
refuses, `durable` turns false until an entry goes through again: sharing stops, recording does not notice.
"""

from __future__ import annotations

import secrets
import threading
from typing import TYPE_CHECKING

from agent.consent import charter as charters
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

    def __init__(
        self,
        log: Log | None,
        stamp: Callable[[], Stamp],
        *,
        state: State | None = None,
        trouble: str | None = None,
    ) -> None:
        """Fold what ``log`` holds; see `without_ledger` for the case that there is none.

        Raises:
            IntegrityError: An entry does not follow, or its documents do not verify.
        """
        self._log = log
        self.state = state if state is not None else State()
        self._stamp = stamp
        self._lock = threading.Lock()
        self._broken = trouble
        for index, entry in log.entries() if log is not None else ():
            self.state.apply(index, entry)

    @classmethod
    def without_ledger(cls, trouble: str, last_charter: bytes, stamp: Callable[[], Stamp]) -> Keeper:
        """A keeper whose ledger cannot be used: it records nothing, so nothing can be shared.

        It knows the household by ``last_charter``, the copy that core keeps for this case alone, so that
        footage can still be sealed to its owners.

        Raises:
            DocumentError: That copy is no charter that its own owners have signed.
        """
        state = State(charter=charters.verify_alone(last_charter), charter_envelope=last_charter)
        return cls(None, stamp, state=state, trouble=trouble)

    @property
    def log(self) -> Log:
        """The log itself, for proofs.

        Raises:
            LedgerError: It cannot be used.
        """
        if self._log is None:
            raise LedgerError(f"{self._broken}", hint="recording goes on; sharing stays off")
        return self._log

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
        log = self.log
        with self._lock:
            stamp = self._stamp()
            entries = [Entry(kind, stamp, secrets.token_bytes(SALT_BYTES), body) for kind, body in items]
            following = self.state.after(entries)
            try:
                numbers = log.append_many(entries)
            except LedgerError as error:
                self._broken = str(error)
                raise
            self._broken = None
            following.settle(self.state)
            self.state = following
            return numbers
