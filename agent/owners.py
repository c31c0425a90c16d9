"""What owners do to their device: pair, hand over signed documents, ask for footage.

Each act is verified whole before anything changes: signature, household, device, challenge, then every
document inside. What restrains acts in memory first, then becomes durable, then is acknowledged.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent import sealing
from agent.consent import acts, charter, envelope, token
from agent.consent.acts import Acknowledgement, AlarmState, BlockState, ShutterState
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.consent.reasons import DenialReason
from agent.consent.rules import Effect
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError, IntegrityError, LedgerError, Refused
from agent.gate import Restraint
from agent.ledger.entry import RESTRAINING, EntryKind
from agent.ledger.state import body_document
from agent.sealing import SealKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.challenges import Challenges
    from agent.consent.acts import Act, Alarm, Block, Dismissal, Read, Shutter
    from agent.consent.charter import Charter
    from agent.device_keys import DeviceKeys
    from agent.gate import Gate
    from agent.ledger.keeper import Keeper
    from agent.pairing import PairingCodes
    from agent.trusted_time import TrustedTime


KEY_BYTES_AT_ONCE: Final = 4 * 1024 * 1024
KEY_BYTES_AN_HOUR: Final = 2 * 1024 * 1024
"""What one owner's key may hand over, in bytes of acts and reads: thousands of them."""

_HOUR_NS: Final = 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class _Ready:
    """One verified document, ready to be recorded."""

    kind: EntryKind
    body: dict[str, object]
    restraints: tuple[Restraint, ...] = ()


def _parts(ready: list[_Ready]) -> list[list[tuple[EntryKind, dict[str, object]]]]:
    """What is written together: what takes away goes first and alone, for it may use the disk's reserve."""
    taking = [(each.kind, each.body) for each in ready if each.kind in RESTRAINING]
    others = [(each.kind, each.body) for each in ready if each.kind not in RESTRAINING]
    return [part for part in (taking, others) if part]


class Owners:
    """Takes owners' documents. ``changed`` is called after each act that changed the state."""

    def __init__(
        self,
        keeper: Keeper,
        gate: Gate,
        time: TrustedTime,
        keys: DeviceKeys,
        challenges: Challenges,
        codes: PairingCodes,
        *,
        boot_ns: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self._keeper = keeper
        self._gate = gate
        self._time = time
        self._keys = keys
        self._challenges = challenges
        self._codes = codes
        self._boot_ns = boot_ns
        self._changed = changed
        self._left: dict[str, tuple[float, int]] = {}  # by key: bytes, and since when (boot ns)

    async def pair(self, sealed: bytes) -> bytes:
        """Found the household: the acknowledgement's envelope.

        Raises:
            SealedMessageError, DocumentError: Not a pairing for this device.
            Refused: Already paired, or the code is wrong.
            LedgerError: It could not be made durable; the device stays unpaired.
        """
        opened = sealing.open_(
            SealKind.PAIRING,
            sender=acts.PAIRING_SENDER,
            recipient=self._keys.device,
            topic=acts.PAIRING_TOPIC,
            private=self._keys.seal,
            sealed=sealed,
        )
        pairing, first = acts.verify_pairing(opened)
        self._for_this_device(pairing.device, "pairing")
        if self._keeper.state.charter is not None:
            raise Refused(
                "this device belongs to a household already",
                reason="paired",
                hint="its owners can add you; a reset at the device makes it forget everything",
            )
        if self._keys.device not in {device.key_id for device in first.devices}:
            raise DocumentError("charter.devices: this device is not among them")
        issued = self._challenges.redeem(pairing.challenge)
        self._codes.redeem(pairing.code)
        self._anchor(pairing.signed_at_ns, issued)
        numbers = await asyncio.to_thread(
            self._keeper.record_many,
            [
                (EntryKind.PAIRED, body_document(pairing.charter, by=pairing.signer)),
                (EntryKind.CONFIRMED, {"by": pairing.signer, "size": 0}),
            ],
        )
        self._changed()
        own_id = envelope.document_id(envelope.unverified_payload(opened)[1])
        return self._acknowledge(pairing.signer, first, own_id, tuple(numbers), self._boot_ns(), 0)

    async def act(self, data: bytes) -> bytes:
        """Take an owner's documents: the acknowledgement's envelope.

        Raises:
            DocumentError, SignatureError: Something in it is wrong; nothing was changed.
            Refused: Its challenge is stale, or what it wants is not to be had.
            IntegrityError: The owner has seen more of the ledger than this device holds.
            LedgerError: It could not be made durable. What restrains is in force all the same.
        """
        current = self._need_charter()
        act = acts.verify_act(data, current)
        self._for_this_device(act.device, "act")
        issued = self._challenges.redeem(act.challenge)
        learned = self._boot_ns()
        self._anchor(act.signed_at_ns, issued)
        ready = self._confirm(act)
        try:
            ready += [self._verify(document, act, current) for document in act.documents]
        except DocumentError as error:
            await self._note_refused(act, error)
            raise
        self._refuse_mixed(ready)
        if ready:
            self._spend(act.signer, len(data), ready)
        # No `with`: a restraint whose document did not become durable must stay (see Gate.restrain).
        restrained = ExitStack()
        for each in ready:
            for restraint in each.restraints:
                restrained.enter_context(self._gate.restrain(restraint))
        numbers: list[int] = []
        try:
            for part in _parts(ready):
                numbers += await asyncio.to_thread(self._keeper.record_many, part)
        except DocumentError:
            # It does not follow from the state: another act came between. What was not written does not bind.
            restrained.close()
            raise
        restrained.close()
        self._gate.reconsider()
        self._changed()
        seen = act.seen.size if act.seen else 0
        return self._acknowledge(act.signer, current, act.id, tuple(numbers), learned, seen)

    async def read(self, data: bytes, *, may: Callable[[Read], object] = lambda _: None) -> Read:
        """An owner's signed read of footage, recorded; ``may`` refuses before that what is not to be had.

        Raises:
            DocumentError, SignatureError, Refused: As for `act`, or as ``may`` says. Nothing was recorded.
            LedgerError: It could not be recorded, so it is not served.
        """
        read = acts.verify_read(data, self._need_charter())
        self._for_this_device(read.device, "read")
        issued = self._challenges.redeem(read.challenge)
        self._anchor(read.signed_at_ns, issued)
        may(read)
        self._spend(read.signer, len(data))
        body = body_document(data, by=read.signer)
        await asyncio.to_thread(self._keeper.record, EntryKind.OWNER_READ, body)
        return read

    def _spend(self, signer: str, size: int, ready: Sequence[_Ready] = ()) -> None:
        """Bound what one key makes the ledger grow by: a stolen one must not push the archive off the disk.

        Raises:
            Refused: It has used up its share. What restrains is in force all the same, until the next start.
        """
        if self._has_left(signer, size):
            return
        for restraint in (restraint for each in ready for restraint in each.restraints):
            # What we do not hold needs no stopping, and would fill the memory instead of the disk.
            if restraint.token is None or restraint.token in self._keeper.state.tokens:
                self._gate.hold(restraint)
        raise Refused(
            "this key has handed over too much for now; what it stops is stopped until the device restarts",
            reason="too-much",
            hint="wait some minutes, or use another key",
        )

    def _has_left(self, signer: str, size: int) -> bool:
        now = self._boot_ns()
        left, since = self._left.get(signer, (float(KEY_BYTES_AT_ONCE), now))
        left = min(KEY_BYTES_AT_ONCE, left + KEY_BYTES_AN_HOUR * (now - since) / _HOUR_NS)
        has_left = left >= size
        self._left[signer] = (left - size if has_left else left), now
        return has_left

    def _need_charter(self) -> Charter:
        current = self._keeper.state.charter
        if current is None:
            raise Refused(
                "this device is not paired",
                reason="unpaired",
                hint="pair it first: doorward pair --code CODE",
            )
        return current

    def _for_this_device(self, device: str, where: str) -> None:
        if device != self._keys.device:
            raise DocumentError(
                f"{where}: for another device (got {device[:19]}…, expected {self._keys.device[:19]}…)"
            )

    def _anchor(self, signed_at_ns: int, issued_boot_ns: int) -> None:
        received = self._boot_ns()
        if self._time.owner_said(signed_at_ns, issued_boot_ns=issued_boot_ns, received_boot_ns=received):
            self._gate.end_all(DenialReason.TIME_UNTRUSTED)

    def _confirm(self, act: Act) -> list[_Ready]:
        """Hold what the owner's client has seen against our ledger."""
        if act.seen is None or not act.seen.size:
            return []  # who has seen nothing cannot tell whether something is missing
        log = self._keeper.log
        if act.seen.size > log.size or log.root(act.seen.size) != act.seen.root:
            self._gate.hold(Restraint(DenialReason.UNCONFIRMED_SINCE_BOOT))
            raise IntegrityError(
                f"ledger: this device holds less than you have seen, or something else "
                f"(it has {log.size} entries, you saw {act.seen.size})",
                hint="its card was swapped, copied back or changed; sharing is stopped. "
                "See 'doorward ledger verify'",
            )
        if self._keeper.state.confirmed_since_boot:
            return []
        return [_Ready(EntryKind.CONFIRMED, {"by": act.signer, "size": act.seen.size})]

    def _verify(self, document: bytes, act: Act, current: Charter) -> _Ready:
        kind, _ = envelope.unverified_payload(document)
        match kind:
            case PayloadType.CHARTER:
                following = charter.verify_next(document, current)
                if self._keys.device not in {device.key_id for device in following.devices}:
                    raise DocumentError("charter.devices: this device is not among them")
                return _Ready(EntryKind.CHARTER, body_document(document, by=act.signer))
            case PayloadType.TOKEN:
                self._check_token(token.verify(document, current))
                return _Ready(EntryKind.TOKEN, body_document(document, by=act.signer))
            case PayloadType.REVOCATION:
                revocation = token.verify_revocation(document, current)
                restraint = Restraint(DenialReason.TOKEN_REVOKED, revocation.token, revocation.agency)
                return _Ready(EntryKind.REVOCATION, body_document(document, by=act.signer), (restraint,))
            case PayloadType.DISMISSAL:
                self._check_dismissal(acts.verify_dismissal(document, current))
                return _Ready(EntryKind.DISMISSED, body_document(document, by=act.signer))
            case PayloadType.SHUTTER | PayloadType.ALARM | PayloadType.BLOCK:
                return self._verify_switch(kind, document, act, current)
            case _:
                raise DocumentError(f"act: a document that owners do not hand over (got {kind[:60]!r})")

    def _verify_switch(self, kind: str, document: bytes, act: Act, current: Charter) -> _Ready:
        """Shutter, alarm, block: what takes away restrains at once; each document switches once."""
        restraints: tuple[Restraint, ...] = ()
        switch: Shutter | Alarm | Block
        if kind == PayloadType.SHUTTER:
            entry, switch = EntryKind.SHUTTER, acts.verify_shutter(document, current)
            if switch.state is ShutterState.CLOSED:
                restraints = (Restraint(DenialReason.SHUTTER_CLOSED),)
        elif kind == PayloadType.BLOCK:
            entry, switch = EntryKind.BLOCKED, acts.verify_block(document, current)
            if switch.state is BlockState.BLOCKED:
                restraints = (Restraint(DenialReason.AGENCY_BLOCKED, agency=switch.agency),)
        else:
            entry, switch = EntryKind.ALARM, acts.verify_alarm(document, current)
            if switch.state is AlarmState.CLEARED:
                restraints = self._alarm_over(current)
            elif not current.alarm_max_seconds:
                raise DocumentError("alarm: the charter has none (alarm_max_seconds is 0)")
        if self._keeper.state.seen.get(switch.nonce) is not None:
            raise DocumentError(f"{entry}: this document has been used before")
        return _Ready(entry, body_document(document, by=act.signer), restraints)

    def _alarm_over(self, current: Charter) -> tuple[Restraint, ...]:
        """What ends with the alarm: everything, if a rule wants it, else the tokens that count only then."""
        if any(rule.effect is Effect.REQUIRE_ALARM for rule in current.rules):
            return (Restraint(DenialReason.RULE_REQUIRES_ALARM),)
        tokens = self._keeper.state.tokens.values()
        return tuple(
            Restraint(DenialReason.NEEDS_ALARM, held.token.id)
            for held in tokens
            if held.token.scope.needs_alarm
        )

    def _check_token(self, granted: token.Token) -> None:
        state = self._keeper.state
        if granted.device != self._keys.device:
            raise DocumentError("token: for another device")
        if state.charter is None or state.charter.agency(granted.agency) is None:
            raise DocumentError("token: for an agency that is not in the charter")
        if granted.id in state.standing.revoked:
            raise DocumentError("token: it was revoked before, and revocation is final")
        if granted.nonce in state.seen:
            raise DocumentError("token: it was handed over before")
        if granted.epoch != state.standing.epoch:
            raise DocumentError(
                f"token: signed for another epoch (got {granted.epoch}, expected {state.standing.epoch})"
            )
        now = self._time.now(self._boot_ns())
        if now is not None and now.earliest_ns >= granted.scope.not_after_ns:
            raise DocumentError("token: it has ended already")

    def _check_dismissal(self, dismissal: Dismissal) -> None:
        state = self._keeper.state
        if dismissal.request not in state.requests:
            raise DocumentError("dismissal: of a request that does not stand open")
        if dismissal.nonce in state.seen:
            raise DocumentError("dismissal: this document has been used before")

    def _refuse_mixed(self, ready: list[_Ready]) -> None:
        """A new charter comes alone: what else was in the act was verified against the old one."""
        kinds = [each.kind for each in ready if each.kind is not EntryKind.CONFIRMED]
        if EntryKind.CHARTER in kinds and len(kinds) > 1:
            raise DocumentError("act: a charter comes alone (got other documents beside it)")

    async def _note_refused(self, act: Act, error: DocumentError) -> None:
        """An owner's key signed the act, so what it brought is worth a line in the ledger."""
        names = [
            envelope.document_id(envelope.unverified_payload(document)[1])
            for document in act.documents
            if envelope.unverified_payload(document)[0] == PayloadType.TOKEN
        ]
        if names and self._has_left(act.signer, sum(map(len, act.documents))):
            body: dict[str, object] = {"documents": names, "by": act.signer, "why": str(error)}
            with suppress(LedgerError):  # it is refused all the same, and why is the better answer
                await asyncio.to_thread(self._keeper.record, EntryKind.TOKEN_REFUSED, body)

    def _acknowledge(
        self,
        owner: str,
        current: Charter,
        act: str,
        numbers: tuple[int, ...],
        learned_ns: int,
        seen: int,
    ) -> bytes:
        log = self._keeper.log
        checkpoint, proof = log.checkpoint_after(seen) if seen else (log.checkpoint(), [])
        acknowledgement = Acknowledgement(
            device=self._keys.device,
            owner=owner,
            household=current.household,
            act=act,
            entries=numbers,
            checkpoint=checkpoint,
            consistency=tuple(proof),
            learned_boot_us=learned_ns // 1000,
        )
        return envelope.sign(PayloadType.ACKNOWLEDGEMENT, acknowledgement.payload(), [self._keys.signing])


def challenge_json(challenge: bytes) -> dict[str, object]:
    """A challenge as the doors give it out."""
    return {"challenge": encode_bytes(challenge)}
