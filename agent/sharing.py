"""Answering agencies: requests and offers in, decisions and answers out, sessions from first frame to last.

Everything that comes from outside takes one path: label, HPKE, DSSE, strict JSON, bounded, signature before
content. Strangers get silence. An agency of the charter gets an answer that says no more than `AgencyReason`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from agent import parcel
from agent.consent import envelope, handshake, times
from agent.consent.charter import Answers
from agent.consent.decision import Denial, Grant
from agent.consent.envelope import PayloadType, short
from agent.consent.fields import encode_bytes
from agent.consent.handshake import Answer, Decision, Ended
from agent.consent.reasons import AgencyReason, DenialReason, for_agency, for_ended
from agent.consent.strict_json import MAX_INTEGER
from agent.errors import DocumentError, DoorwardError, LedgerError, MalformedInput, Refused, WireError
from agent.ledger.entry import EntryKind
from agent.parcel import Parcel, seal_documents
from agent.sealing import SealKind
from agent.seam import Message, MessageKind
from agent.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.consent.charter import Agency
    from agent.consent.handshake import Badge, Offer, Request
    from agent.device_keys import DeviceKeys
    from agent.gate import EndedSession, Gate
    from agent.ledger.keeper import Keeper
    from agent.net_link import NetLink
    from agent.permit import Permit
    from agent.screens import Screens
    from agent.trusted_time import TrustedTime

STORED_ANSWER_NS: Final = 30 * times.SECOND_NS
STORED_MOST: Final = 256
MESSAGES_A_MINUTE: Final = 30
"""Requests and offers of one operator; what comes beyond is counted and told ``busy``, not entered."""

OPERATOR_AT_ONCE: Final = 60
AGENCY_AT_ONCE: Final = 240
"""Beyond a minute: so many requests and offers at once, and half as many more an hour. An agency can badge as
many operators as it likes; this bounds what all of them together make the ledger grow by."""

PENDING_MOST: Final = 64
"""Requests of one agency that wait at the same time."""

ASKING_MOST: Final = 1024
MINUTE_NS: Final = 60 * times.SECOND_NS
HOUR_NS: Final = 3600 * times.SECOND_NS
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    """An answer kept for a moment, for a message that comes twice."""

    reply: bytes
    at_boot_ns: int


class Sharing:
    """Takes agencies' messages and runs their sessions. Everything on core's event loop."""

    def __init__(
        self,
        keeper: Keeper,
        gate: Gate,
        time: TrustedTime,
        keys: DeviceKeys,
        net: NetLink,
        screens: Screens,
        *,
        boot_ns: Callable[[], int],
        spawn: Callable[[Coroutine[None, None, None]], None],
    ) -> None:
        self._keeper = keeper
        self._gate = gate
        self._time = time
        self._keys = keys
        self._net = net
        self._screens = screens
        self._boot_ns = boot_ns
        self._spawn = spawn
        self._stored: OrderedDict[str, _Stored] = OrderedDict()
        self._asked: dict[str, list[int]] = {}
        self._left: dict[str, tuple[float, int]] = {}  # by operator and agency
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()  # by nonce
        self._granted: set[str] = set()  # requests whose agency has been told
        self._lapsed: set[str] = set()  # those whose agency was told that nobody answered
        self._asked_now = asyncio.Event()
        self.waiting = Waiting(keeper, gate, time, boot_ns)
        self.strangers = 0
        self.over_rate = 0

    # In

    async def message(self, agency_name: str, data: bytes) -> bytes | None:
        """Take one sealed message that claims to come from an agency; the sealed reply, or None for silence.

        Whatever is wrong with it, it raises nothing and changes nothing but counters.
        """
        agency = self._agency(agency_name)
        if agency is None:
            self.strangers += 1
            return None
        try:
            documents = Parcel.parse(data).open(
                sender=agency.key_id, recipient=self._keys.device, private=self._keys.seal
            )
            reply = None
            for document in documents:
                reply = await self._document(agency, document) or reply
        except MalformedInput as error:
            self.strangers += 1
            log.info("a message that claims to be of %s was dropped: %s", short(agency.key_id), error)
            return None
        return reply

    def _agency(self, name: str) -> Agency | None:
        charter = self._keeper.state.charter
        if charter is None:
            return None
        return next((each for each in charter.agencies if short(each.key_id) == name), None)

    async def _document(self, agency: Agency, document: bytes) -> bytes | None:
        kind, payload = envelope.unverified_payload(document)
        own_id = envelope.document_id(payload)
        if kind == PayloadType.REQUEST:
            request = handshake.verify_request(document, agency)
            return await self._once(
                own_id,
                request,
                lambda: self._request(agency, request, document),
                lambda: self._decision(request, AgencyReason.BUSY, None),
            )
        if kind == PayloadType.OFFER:
            offer = handshake.verify_offer(document, agency)
            return await self._once(
                own_id,
                offer,
                lambda: self._offer(agency, offer, document),
                lambda: self._refusal(agency, offer, DenialReason.TOO_MANY_VIEWERS),
            )
        raise DocumentError(f"message: a document that agencies do not send (got {kind[:60]!r})")

    async def _once(
        self,
        own_id: str,
        asked: Request | Offer,
        answer: Callable[[], Coroutine[None, None, bytes]],
        busy: Callable[[], bytes],
    ) -> bytes:
        """The same document gets the same answer for a while; a nonce used before gets none.

        Documents with one nonce take turns: a message that arrives twice at once is answered once.
        """
        charter = self._keeper.state.need_charter()
        if (asked.device, asked.household) != (self._keys.device, charter.household):
            raise DocumentError("message: for another device or household")
        turn = self._turns.setdefault(asked.nonce, asyncio.Lock())
        async with turn:
            stored = self._stored.get(own_id)
            if stored is not None and self._boot_ns() - stored.at_boot_ns < STORED_ANSWER_NS:
                return stored.reply
            user = self._keeper.state.seen.get(asked.nonce)
            # What is known already counts against nobody: whoever carries messages can send them again.
            if user != own_id and self._too_often(asked.badge):
                self.over_rate += 1
                return busy()
            if user is not None and user != own_id:
                await self._note_nonce(own_id, user)
                raise DocumentError("message: its nonce stands in another document")
            reply = await answer()
            self._stored[own_id] = _Stored(reply, self._boot_ns())
            while len(self._stored) > STORED_MOST:
                self._stored.popitem(last=False)
            return reply

    async def _note_nonce(self, own_id: str, user: str) -> None:
        body: dict[str, object] = {"request": own_id, "reason": "nonce-reused", "first": user}
        await self._record(EntryKind.DECISION, body)

    async def _record(self, kind: EntryKind, body: dict[str, object]) -> bool:
        try:
            await asyncio.to_thread(self._keeper.record, kind, body)
        except LedgerError as error:
            log.warning("ledger: %s", error)
            return False
        return True

    # Requests

    async def _request(self, agency: Agency, request: Request, document: bytes) -> bytes:
        if request.id in self._keeper.state.requests or self._keeper.state.seen.get(request.nonce):
            # Known, and older than its stored answer: whatever was decided then is not decided again.
            return self._decision(request, AgencyReason.STALE_REQUEST, None)
        decision = self._gate.decide(request)
        if isinstance(decision, Denial) and decision.reason in _NOT_WORTH_KEEPING:
            return self._decision(request, for_agency(decision.reason, silent=_silent(agency)), None)
        if self._pending(agency.key_id) >= PENDING_MOST:
            self.over_rate += 1
            return self._decision(request, AgencyReason.BUSY, None)
        body: dict[str, object] = {"agency": agency.key_id, "document": encode_bytes(document)}
        recorded = await self._record(EntryKind.REQUEST, body)
        self.waiting.arrived(request, recorded=recorded)
        self._asked_now.set()
        if not recorded:
            return self._decision(request, _silent(agency), None)
        return await self._decided(agency, request)

    def _pending(self, agency: str) -> int:
        now = self._time.now(self._boot_ns())
        return sum(
            held.request.agency == agency and (now is None or held.request.expires_at_ns > now.earliest_ns)
            for held in self._keeper.state.requests.values()
        )

    def _too_often(self, badge: Badge) -> bool:
        now = self._boot_ns()
        if self._left_of(badge.agency, AGENCY_AT_ONCE, now) < 1:
            return True  # before its operators are looked at, of which there may be any number
        if len(self._asked) > ASKING_MOST:
            self._asked = {name: at for name, at in self._asked.items() if now - at[-1] < MINUTE_NS}
        recent = [at for at in self._asked.get(badge.operator, []) if now - at < MINUTE_NS]
        self._asked[badge.operator] = [*recent, now][-MESSAGES_A_MINUTE:]
        left = self._left_of(badge.operator, OPERATOR_AT_ONCE, now)
        if len(recent) >= MESSAGES_A_MINUTE or left < 1:
            return True
        self._left[badge.operator] = left - 1, now
        self._left[badge.agency] = self._left_of(badge.agency, AGENCY_AT_ONCE, now) - 1, now
        if len(self._left) > ASKING_MOST:  # who has not asked for two hours has everything left
            self._left = {name: had for name, had in self._left.items() if now - had[1] < 2 * HOUR_NS}
        return False

    def _left_of(self, name: str, at_once: int, now: int) -> float:
        """How much somebody may still ask; what they used grows again with time."""
        left, since = self._left.get(name, (float(at_once), now))
        return min(at_once, left + at_once / 2 * (now - since) / HOUR_NS)

    async def _decided(self, agency: Agency, request: Request) -> bytes:
        """Decide, write the decision down, and put it into words for the agency."""
        decision = self._gate.decide(request)
        reason = "granted" if isinstance(decision, Grant) else str(decision.reason)
        recorded = await self._record(EntryKind.DECISION, {"request": request.id, "reason": reason})
        held = self._keeper.state.tokens.get(decision.token or "") if isinstance(decision, Grant) else None
        if held is not None and recorded:
            self._granted.add(request.id)
            return self._decision(request, AgencyReason.GRANTED, held.envelope)
        silent = _silent(agency)
        status = for_agency(decision.reason, silent=silent) if isinstance(decision, Denial) else silent
        return self._decision(request, status, None)

    def _decision(self, request: Request, status: AgencyReason, token: bytes | None) -> bytes:
        decision = Decision(
            id="",
            device=self._keys.device,
            agency=request.agency,
            household=request.household,
            request=request.id,
            status=status,
            token=token,
        )
        signed = envelope.sign(PayloadType.DECISION, decision.payload(), [self._keys.signing])
        return seal_documents(
            SealKind.REPLY,
            [signed],
            sender=self._keys.device,
            recipient=request.agency,
            topic=request.id,
            public=request.reply_key,
        )

    async def owners_acted(self) -> None:
        """After an owner's act: tell agencies whose pending requests are granted now."""
        for held in list(self._keeper.state.requests.values()):
            charter = self._keeper.state.charter
            agency = charter.agency(held.request.agency) if charter else None
            if agency is None or held.request.id in self._granted:
                continue
            if isinstance(self._gate.decide(held.request), Grant):
                self._send(agency, await self._decided(agency, held.request))

    async def lapse(self) -> None:
        """Tell agencies of requests that nobody answered in time, and write it down.

        The same word by the same way in every case; an agency that hears ``denied`` at once has heard it.
        While net is away nobody could be told: then it waits.
        """
        if not self._net.connected:
            return
        for request in self.waiting.due():
            charter = self._keeper.state.charter
            agency = charter.agency(request.agency) if charter else None
            if request.id not in self._lapsed:
                self._lapsed.add(request.id)
                if agency is not None and _silent(agency) is AgencyReason.PENDING:
                    self._send(agency, self._decision(request, AgencyReason.NO_ANSWER, None))
            body: dict[str, object] = {"request": request.id, "reason": str(DenialReason.LAPSED)}
            if self._keeper.durable and await self._record(EntryKind.DECISION, body):
                self._lapsed.discard(request.id)
            self.waiting.gone(request.id)

    async def run(self) -> None:
        """Let requests lapse when they do; sleep without cost while none waits. Never returns."""
        while True:
            self._asked_now.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self.waiting.next_end_s()):
                    await self._asked_now.wait()
            await self.lapse()

    # Offers

    async def _offer(self, agency: Agency, offer: Offer, document: bytes) -> bytes:
        held = self._keeper.state.requests.get(offer.request)
        if held is None or _asker(held.request) != _asker(offer):
            return self._refusal(agency, offer, DenialReason.REQUEST_STALE)
        now = self._time.now(self._boot_ns())
        if now is None:
            return self._refusal(agency, offer, DenialReason.TIME_UNTRUSTED)
        is_fresh = offer.issued_at_ns <= now.latest_ns < offer.expires_at_ns
        if not is_fresh or offer.nonce in self._keeper.state.seen:
            return self._refusal(agency, offer, DenialReason.REQUEST_STALE)
        try:
            permit = await self._gate.open(held.request, offer, document)
        except Refused as error:
            reason = DenialReason(error.reason)
            await self._record(EntryKind.DECISION, {"offer": offer.id, "reason": str(reason)})
            return self._refusal(agency, offer, reason)
        except LedgerError as error:
            log.warning("ledger: %s", error)
            return self._refusal(agency, offer, DenialReason.LEDGER_UNAVAILABLE)
        return await self._begin(agency, offer, permit)

    async def _begin(self, agency: Agency, offer: Offer, permit: Permit) -> bytes:
        """Show: the permit is made, the start is durable; from here on every failure ends the session."""
        try:
            self._screens.show(permit)
            sdp = await self._net.open(self._open_message(offer, permit))
            if not self._gate.live(permit.number):
                # It was taken away while net was at it: the same to the agency as if it had never been.
                return self._refusal(agency, offer, DenialReason.NO_TOKEN)
            receipt = self._keeper.log.receipt(permit.number).to_json()
            answer = Answer(
                id="",
                device=self._keys.device,
                agency=agency.key_id,
                household=offer.household,
                offer=offer.id,
                status=AgencyReason.GRANTED,
                session=permit.session,
                sdp=sdp.decode("utf-8"),
                permit_seconds=max(0, permit.ends_boot_ns - self._boot_ns()) // times.SECOND_NS,
                receipt=receipt,
            )
            return self._answer(agency, offer, answer)
        except (DoorwardError, UnicodeDecodeError) as error:
            log.warning("session %s could not begin: %s", permit.session, error)
            unsupported = isinstance(error, Refused)
            reason = DenialReason.UNSUPPORTED if unsupported else DenialReason.MEDIA_FAILED
            self._gate.end(permit.number, reason)
            return self._refusal(agency, offer, reason)

    def _open_message(self, offer: Offer, permit: Permit) -> Message:
        charter = self._keeper.state.need_charter()
        fields: dict[str, object] = {
            "permit": permit.number,
            "ends_boot_ns": permit.ends_boot_ns,
            "ice": {"policy": str(charter.ice), "servers": []},
        }
        return Message(MessageKind.OPEN, fields, offer.sdp.encode("utf-8"))

    def _refusal(self, agency: Agency, offer: Offer, reason: DenialReason) -> bytes:
        answer = Answer(
            id="",
            device=self._keys.device,
            agency=agency.key_id,
            household=offer.household,
            offer=offer.id,
            status=for_agency(reason, silent=_silent(agency)),
        )
        return self._answer(agency, offer, answer)

    def _answer(self, agency: Agency, offer: Offer, answer: Answer) -> bytes:
        signed = envelope.sign(PayloadType.ANSWER, answer.payload(), [self._keys.signing])
        return seal_documents(
            SealKind.REPLY,
            [signed],
            sender=self._keys.device,
            recipient=agency.key_id,
            topic=offer.id,
            public=offer.reply_key,
        )

    # Ends

    def ended(self, ended: EndedSession) -> None:
        """A session is over (the gate's `on_end`): nothing more is encoded for it or sent, from now on."""
        number = ended.session.permit.number
        self._screens.hide(number)
        self._net.stop(number)
        self._spawn(self._finish(ended))

    async def _finish(self, ended: EndedSession) -> None:
        """Wait for net's word, write the end down, tell the agency."""
        session = ended.session
        closed = await self._net.stopped(session.permit.number)
        frames, sent_bytes = _sent(closed)
        number = await self._gate.record_end(ended, frames=frames, sent_bytes=sent_bytes)
        log.info("session %s ended: %s", session.permit.session, ended.reason)
        charter = self._keeper.state.charter
        agency = charter.agency(session.request.agency) if charter else None
        if agency is None or number is None:
            return
        news = Ended(
            id="",
            device=self._keys.device,
            agency=agency.key_id,
            household=session.request.household,
            offer=session.offer.id,
            session=session.permit.session,
            status=for_ended(ended.reason),
            frames=frames,
            sent_bytes=sent_bytes,
            receipt=self._keeper.log.receipt(number).to_json(),
        )
        signed = envelope.sign(PayloadType.ENDED, news.payload(), [self._keys.signing])
        sealed = seal_documents(
            SealKind.TO_AGENCY,
            [signed],
            sender=self._keys.device,
            recipient=agency.key_id,
            topic=parcel.LINK_TOPIC,
            public=agency.seal,
        )
        self._send(agency, sealed)

    def _send(self, agency: Agency, sealed: bytes) -> None:
        fields: dict[str, object] = {"agency": short(agency.key_id), "re": None}
        self._net.send(Message(MessageKind.LINK_OUT, fields, sealed))


_NOT_WORTH_KEEPING: Final = frozenset({DenialReason.BADGE_EXPIRED, DenialReason.REQUEST_STALE})
"""The asker's own mistakes, told in clear words. All that is told in silence is kept alike."""


def _asker(asked: Request | Offer) -> tuple[str, str]:
    return asked.badge.agency, asked.badge.operator


def _sent(closed: Message | None) -> tuple[int, int]:
    """Frames and bytes as net says: a claim, which must not keep a session's end out of the ledger."""
    if closed is None:
        return 0, 0
    try:
        frames, sent_bytes = closed.integer("frames"), closed.integer("bytes")
    except WireError as error:
        log.warning("seam: %s", error)
        return 0, 0
    return min(max(0, frames), MAX_INTEGER), min(max(0, sent_bytes), MAX_INTEGER)


def _silent(agency: Agency) -> AgencyReason:
    return AgencyReason.DENIED if agency.answers is Answers.DENIED else AgencyReason.PENDING
