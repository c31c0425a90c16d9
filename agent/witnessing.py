"""The device's side of its witnesses: has a third party seen more of this ledger than the device holds?

At each start, and then every `CADENCE_S` whatever goes on in the house, each witness of the charter is shown
the newest checkpoint, with the proof that it continues the one it vouched for last (c2sp.org/tlog-witness).
core has no network: net carries the requests, and can read them, hold them back and lie about the answers.

1. A cosignature counts if the charter's key made it over the very checkpoint that was sent. The first one
   after a start confirms the ledger (design section 5) and is written down as it came; later ones are kept in
   memory alone.
2. It tells the time as well: the newest entry of the checkpoint has a random salt, so nobody could have
   vouched for it before that entry was made. An old cosignature is one over another checkpoint.
3. A witness that holds more than the device, or another history, stops all sharing until the next start.
   That is what a card that was copied back looks like, and a second device that runs on a copy of this one.
   A lying net or witness can cause it too: then nothing is shared, which it could have had anyway.
4. A witness that knows less than it vouched for gets a proof from there, and is reported: its memory is not
   worth what it was.

Which size a witness vouched for last stands in its entries; what it was since then is forgotten at a start,
and the witness says it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from agent.consent import times
from agent.consent.reasons import DenialReason
from agent.consent.times import SECOND_NS
from agent.errors import DoorwardError, IntegrityError, ProofError, Refused, Unreachable
from agent.gate import Restraint
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature, submission
from agent.ledger.entry import Entry, EntryKind
from agent.ledger.submission import Submission
from agent.seam import Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.consent.charter import Witness
    from agent.gate import Gate
    from agent.ledger.checkpoint import Checkpoint
    from agent.ledger.keeper import Keeper
    from agent.trusted_time import TrustedTime

CADENCE_S: Final = 600.0
FIRST_RETRY_S: Final = 1.0
"""Until the first answer after a start; each further try waits twice as long, `CADENCE_S` at most."""

ANSWER_S: Final = 30.0
TRIES: Final = 3
"""Requests in one round: a witness may name the size it holds, and be asked again from there."""

_OK: Final = 200
_CONFLICT: Final = 409
_UNPROVEN: Final = 422
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """What is known of one witness since the start."""

    size: int | None = None  # None: what the ledger says
    note: str | None = None  # the newest checkpoint it cosigned
    timestamp: int | None = None
    trouble: str | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes


class Witnessing:
    """Asks the charter's witnesses. Everything on core's event loop.

    ``send`` hands a message to net and says whether net is there; ``confirmed`` is awaited after every
    cosignature, since what was pending may be granted now.
    """

    def __init__(
        self,
        keeper: Keeper,
        gate: Gate,
        time: TrustedTime,
        *,
        origin: str,
        device_key: bytes,
        boot_id: str,
        boot_ns: Callable[[], int],
        send: Callable[[Message], bool],
        confirmed: Callable[[], Awaitable[None]],
    ) -> None:
        self._keeper = keeper
        self._gate = gate
        self._time = time
        self._origin = origin
        self._device_key = device_key
        self._boot_id = boot_id
        self._boot_ns = boot_ns
        self._send = send
        self._confirmed = confirmed
        self._known: dict[str, _Known] = {}
        self._answers: dict[int, asyncio.Future[_Answer]] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self.rollback: str | None = None
        """Why nothing is shared until the next start: a witness has seen more, or something else."""

    # What others may know

    def status(self) -> list[dict[str, object]]:
        """The charter's witnesses, and how it stands with each, for owners."""
        found: list[dict[str, object]] = []
        for witness in self._witnesses():
            known = self._of(witness)
            stamp = known.timestamp
            found.append(
                {
                    "name": witness.name,
                    "url": witness.url,
                    "size": known.size if known.size is not None else self._remembered(witness),
                    "cosigned_at": times.written(stamp * SECOND_NS) if stamp is not None else None,
                    "trouble": known.trouble,
                }
            )
        return found

    def newest(self) -> str | None:
        """The newest checkpoint that witnesses cosigned since the start, with all their signatures."""
        newest, size = None, 0
        for witness in self._witnesses():
            known = self._of(witness)
            if known.note is None or known.size is None or known.size < size:
                continue
            if known.size > size:
                newest, size = known.note, known.size
            elif newest is not None:
                newest += known.note.rpartition("\n\n")[2].partition("\n")[2]  # all but our own signature
        return newest

    def charter_changed(self) -> None:
        """Ask new witnesses at once; forget those that are gone."""
        self._changed.set()

    def answered(self, message: Message) -> None:
        """What a witness said, as net brought it (``witness-in``).

        Raises:
            WireError: net did not say what it should.
        """
        future = self._answers.get(message.integer("number"))
        if future is not None and not future.done():
            future.set_result(_Answer(message.integer("status"), message.blob))

    # The rounds

    async def run(self) -> None:
        """Keep a loop for each witness of the charter. Never returns."""
        loops: dict[Witness, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = set(self._witnesses())
                for gone in loops.keys() - wanted:
                    loops.pop(gone).cancel()
                for new in wanted - loops.keys():
                    loops[new] = group.create_task(self._keep(new))
                self._known = {key: each for key, each in self._known.items() if key in _ids(wanted)}
                await self._changed.wait()

    async def _keep(self, witness: Witness) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self.ask(witness)
            known = self._of(witness)
            if known.timestamp is None:
                due = loop.time() + min(CADENCE_S, FIRST_RETRY_S * 2 ** (known.failures - 1))
            else:
                due = max(due + CADENCE_S, loop.time())
            await asyncio.sleep(due - loop.time())

    async def ask(self, witness: Witness) -> None:
        """One round with one witness; whatever comes of it stands in `status`."""
        known = self._of(witness)
        try:
            await self._round(witness, known)
        except DoorwardError as error:
            known.failures = min(known.failures + 1, 32)
            if known.trouble != str(error):
                log.warning("witness %s: %s", witness.name, error)
            known.trouble = str(error)

    async def _round(self, witness: Witness, known: _Known) -> None:
        remembered = known.size if known.size is not None else self._remembered(witness)
        old, less = remembered, False
        for _ in range(TRIES):
            submitted, checkpoint = await asyncio.to_thread(self._submission, old)
            answer = await self._post(witness, submitted)
            if answer.status == _OK:
                await self._vouched(witness, known, submitted, checkpoint, answer.body)
                if less:
                    known.trouble = (
                        f"it had vouched for {remembered} entries and knew of {old} alone: "
                        "its memory was lost or put back"
                    )
                return
            if answer.status == _CONFLICT:
                held = submission.parse_size(answer.body)
                if held > checkpoint.size:
                    self._behind(witness, f"has vouched for {held} entries, more", checkpoint)
                if held == old == checkpoint.size:
                    # An older reading of the specification answers so where it says 422 now.
                    self._behind(witness, "has vouched for other entries", checkpoint)
                less = less or held < remembered
                old = held
            elif answer.status == _UNPROVEN and old:
                self._behind(witness, "has vouched for other entries", checkpoint)
            else:
                raise _refused(answer.status)
        raise ProofError("names another size each time it is asked")

    def _behind(self, witness: Witness, what: str, checkpoint: Checkpoint) -> NoReturn:
        """A witness has seen more of this ledger, or something else: nothing is shared any more.

        Raises:
            IntegrityError: Always.
        """
        why = f"{what} than the {checkpoint.size} that this device holds"
        if self.rollback is None:
            self.rollback = f"witness {witness.name} {why}"
            self._gate.hold(Restraint(DenialReason.UNCONFIRMED_SINCE_BOOT))
            log.error("%s; sharing is stopped, recording goes on", self.rollback)
        raise IntegrityError(why)

    def _submission(self, old: int) -> tuple[Submission, Checkpoint]:
        """The newest checkpoint for a witness that holds ``old`` entries. Blocks on the disk."""
        ledger = self._keeper.log
        note, proof = ledger.checkpoint_after(old) if old else (ledger.checkpoint(), [])
        checkpoint = checkpoints.verify(note, self._origin, self._origin, self._device_key)
        return Submission(old, tuple(proof), note), checkpoint

    async def _post(self, witness: Witness, submitted: Submission) -> _Answer:
        self._number += 1
        number = self._number
        future: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        fields: dict[str, object] = {"number": number, "url": f"{witness.url}/add-checkpoint"}
        try:
            if not self._send(Message(MessageKind.WITNESS_OUT, fields, submitted.encode())):
                raise Unreachable("the network process is down")
            answer = await asyncio.wait_for(future, ANSWER_S)
        except TimeoutError as error:
            raise Unreachable(f"no answer in {ANSWER_S:g} s") from error
        finally:
            del self._answers[number]
        if not answer.status:
            raise Unreachable("cannot be reached")
        return answer

    async def _vouched(
        self, witness: Witness, known: _Known, submitted: Submission, checkpoint: Checkpoint, body: bytes
    ) -> None:
        received = self._boot_ns()
        try:
            lines = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ProofError("cosignature: not UTF-8") from error
        note = cosignature.added(submitted.note, lines, witness.name, witness.key)
        said = cosignature.verify(note, self._origin, witness.name, witness.key)
        if said.checkpoint != checkpoint:
            raise ProofError("cosignature: over another checkpoint than was sent")
        known.size, known.note, known.timestamp = checkpoint.size, note, said.timestamp
        known.failures, known.trouble = 0, None
        if not self._tell_time(said.timestamp, checkpoint.size, received):
            known.trouble = "its clock contradicts what is known of the time; only its signature counts"
        if self.rollback is None and not self._keeper.state.confirmed_since_boot:
            entry: dict[str, object] = {"by": witness.key_id, "size": checkpoint.size, "note": note}
            await asyncio.to_thread(self._keeper.record, EntryKind.CONFIRMED, entry)
            log.info("witness %s confirms %d entries", witness.name, checkpoint.size)
        self._gate.reconsider()
        await self._confirmed()

    def _tell_time(self, timestamp: int, size: int, received_boot_ns: int) -> bool:
        made = Entry.parse(self._keeper.log.raw(size - 1)).time
        if made.boot != self._boot_id:
            return True  # nothing can be concluded, and nothing is wrong
        return self._time.witness_said(
            timestamp * SECOND_NS, made_boot_ns=made.t_boot_ns, received_boot_ns=received_boot_ns
        )

    def _witnesses(self) -> tuple[Witness, ...]:
        charter = self._keeper.state.charter
        return charter.witnesses if charter is not None else ()

    def _remembered(self, witness: Witness) -> int:
        return self._keeper.state.witnessed.get(witness.key_id, 0)

    def _of(self, witness: Witness) -> _Known:
        return self._known.setdefault(witness.key_id, _Known())


def _ids(witnesses: set[Witness]) -> set[str]:
    return {witness.key_id for witness in witnesses}


def _refused(status: int) -> DoorwardError:
    why = {
        403: "does not know this device's key for this ledger",
        404: "does not know this ledger yet",
        429: "was asked too often",
    }
    if status in why:
        return Refused(f"{why[status]} ({status})", reason="witness")
    return Unreachable(f"answers with status {status}")
