"""The agency's half of the conversation with devices: what goes out is built here, what comes in is judged.

How a message is judged, in order:

1. its label names an open message of ours to that very device (or news), and it opens with that one's key;
2. the device of the introduction signed it. What fails up to here is anybody's noise: `MalformedInput`,
   nothing changes, the conversation goes on;
3. it is addressed to us, answers what it says it answers, and proves what it claims (`agent.agency.checks`).
   What fails here the device itself has signed: `IntegrityError`, and nothing is shown.

Each message counts once: a decision by its id, an answer because its key is wiped with the first one.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent import parcel
from agent.agency import checks
from agent.agency.introductions import need_current
from agent.agency.store import OfferRow, ReceiptRow, RequestRow
from agent.consent import envelope, handshake
from agent.consent.envelope import PayloadType
from agent.consent.handshake import MAX_OFFER_NS, MAX_REQUEST_NS, Offer, Request
from agent.consent.reasons import AgencyReason
from agent.consent.rules import Mode
from agent.consent.times import SECOND_NS
from agent.consent.token import NONCE_BYTES
from agent.consent.token import parse as parse_token
from agent.errors import ConfigError, DocumentError, IntegrityError, MalformedInput, Refused
from agent.ledger.entry import EntryKind
from agent.ledger.receipt import Receipt
from agent.parcel import Parcel
from agent.sealing import SealKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.agency.identity import Identity, Operator
    from agent.agency.introductions import KnownDevice
    from agent.agency.store import Store
    from agent.consent.handshake import Answer, Ended
    from agent.consent.token import Purpose, Token

MAX_SECONDS: Final = 30 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an operator asks for. ``areas`` empty: whatever the owners agree to."""

    camera: str
    purpose: Purpose
    seconds: int
    max_height: int
    max_fps: int
    areas: tuple[str, ...]
    lifetime_s: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A sealed message for a device, and the id of the document inside."""

    id: str
    device: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Decided:
    """A verified decision on the request with this id."""

    request: str
    status: AgencyReason
    token: Token | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A verified answer to the offer with this id; ``entry`` is where the ledger holds the start."""

    offer: str
    answer: Answer
    entry: int | None


@dataclass(frozen=True, slots=True)
class Over:
    """Verified news that the session under the offer with this id has ended."""

    offer: str
    ended: Ended
    entry: int


News = Decided | Answered | Over


class Conversation:
    """One agency's conversations with all its devices, over whatever link."""

    def __init__(self, store: Store, identity: Identity, *, wall_ns: Callable[[], int]) -> None:
        self._store = store
        self._identity = identity
        self._agency = identity.agency
        self._wall_ns = wall_ns

    # Out

    def ask(self, operator: Operator, device: KnownDevice, wanted: Wanted) -> Outgoing:
        """A request to look live, kept and ready to send.

        Raises:
            ConfigError: The device has no such camera or area, or a number is out of range.
            Refused: The household's introduction has lapsed.
        """
        now_ns = self._now_ns()
        need_current(device.introduction, now_ns)
        check_wanted(wanted, device)
        reply_key = X25519PrivateKey.generate()
        request = Request(
            id="",
            badge=operator.badge,
            badge_envelope=operator.badge_envelope,
            device=device.key_id,
            household=device.introduction.household,
            mode=Mode.LIVE,
            camera=wanted.camera,
            purpose=wanted.purpose,
            seconds=wanted.seconds,
            max_height=wanted.max_height,
            max_fps=wanted.max_fps,
            areas=wanted.areas,
            tokens=(),
            issued_at_ns=now_ns,
            expires_at_ns=now_ns + wanted.lifetime_s * SECOND_NS,
            nonce=secrets.token_bytes(NONCE_BYTES),
            reply_key=reply_key.public_key().public_bytes_raw(),
        )
        document = envelope.sign(PayloadType.REQUEST, request.payload(), [operator.key])
        request = handshake.verify_request(document, self._agency)
        row = RequestRow(
            id=request.id,
            device=device.key_id,
            operator=operator.badge.number,
            document=document,
            reply_key=reply_key.private_bytes_raw(),
            issued_ns=request.issued_at_ns,
            expires_ns=request.expires_at_ns,
            status=AgencyReason.PENDING,
            token=None,
        )
        self._store.put_request(row)
        return self._outgoing(request.id, document, device)

    def offer(self, operator: Operator, device: KnownDevice, row: RequestRow, sdp: str) -> Outgoing:
        """An offer under a granted request, accepting the token's terms word for word; kept, ready to send.

        Raises:
            Refused: The request is not granted, or another operator asked.
        """
        request = self.request_of(row)
        if row.token is None:
            raise Refused("request: not granted", reason=str(row.status))
        if request.badge.operator != operator.badge.operator:
            raise Refused(
                f"request: asked by number {request.badge.number}, not {operator.badge.number}",
                reason="operator",
                hint="the one who asked watches",
            )
        now_ns = self._now_ns()
        reply_key = X25519PrivateKey.generate()
        token = self.token_of(row.token)
        offer = Offer(
            id="",
            badge=operator.badge,
            badge_envelope=operator.badge_envelope,
            device=device.key_id,
            household=device.introduction.household,
            request=request.id,
            token=token.id,
            terms=token.terms,
            sdp=sdp,
            issued_at_ns=now_ns,
            expires_at_ns=now_ns + MAX_OFFER_NS,
            nonce=secrets.token_bytes(NONCE_BYTES),
            reply_key=reply_key.public_key().public_bytes_raw(),
        )
        document = envelope.sign(PayloadType.OFFER, offer.payload(), [operator.key])
        offer = handshake.verify_offer(document, self._agency)
        self._store.put_offer(
            OfferRow(
                id=offer.id,
                request=request.id,
                device=device.key_id,
                document=document,
                reply_key=reply_key.private_bytes_raw(),
                issued_ns=offer.issued_at_ns,
                answer=None,
                session=None,
                ended=None,
            )
        )
        return self._outgoing(offer.id, document, device)

    def _outgoing(self, name: str, document: bytes, device: KnownDevice) -> Outgoing:
        sealed = parcel.seal_documents(
            SealKind.TO_DEVICE,
            [document],
            sender=self._identity.key_id,
            recipient=device.key_id,
            topic=parcel.LINK_TOPIC,
            public=device.seal,
        )
        return Outgoing(name, device.key_id, sealed)

    def _now_ns(self) -> int:
        """Now, as documents write it."""
        return self._wall_ns() // SECOND_NS * SECOND_NS

    # What is kept

    def again(self, row: RequestRow) -> RequestRow:
        """The same request as it stands now."""
        return self._need_request(row.id)

    def forget(self, request: str) -> None:
        """Drop a request that never left."""
        self._store.drop_request(request)

    def request_of(self, row: RequestRow) -> Request:
        """A kept request, verified again.

        Raises:
            IntegrityError: It is not what was signed.
        """
        try:
            return handshake.verify_request(row.document, self._agency)
        except DocumentError as error:
            raise IntegrityError(f"agency store: request {row.id[:19]}…: {error}") from error

    def token_of(self, document: bytes) -> Token:
        """A kept token; its signatures were verified before it was kept.

        Raises:
            IntegrityError: It is none.
        """
        try:
            return parse_token(envelope.unverified_payload(document)[1])
        except DocumentError as error:
            raise IntegrityError(f"agency store: {error}") from error

    def last_end(self, device: KnownDevice, row: RequestRow) -> AgencyReason | None:
        """How the newest session under a kept request ended; None if there was none, or it has not.

        Raises:
            IntegrityError: What is kept is not what the device signed.
        """
        document = self._store.last_end(row.id)
        if document is None:
            return None
        try:
            return handshake.verify_ended(document, device.signing).status
        except DocumentError as error:
            raise IntegrityError(f"agency store: {error}") from error

    # In

    def receive(self, device: KnownDevice, data: bytes) -> News | None:
        """Take what came from ``device`` over a link; None if it says nothing new.

        Raises:
            MalformedInput: Not for us, not from that device, or an answer to nothing that is open.
            IntegrityError: The device signed something that does not hold. It was not kept.
            StorageError: It could not be kept.
        """
        sealed = Parcel.parse(data)
        if sealed.kind is SealKind.TO_AGENCY and sealed.topic == parcel.LINK_TOPIC:
            return self._news(device, sealed)
        if sealed.kind is not SealKind.REPLY:
            raise MalformedInput(f"message: a kind that devices do not send to agencies (got {sealed.kind})")
        request = self._store.request(sealed.topic)
        if request is not None and request.device == device.key_id and request.reply_key is not None:
            return self._decision(device, request, self._open(device, sealed, request.reply_key))
        offer = self._store.offer(sealed.topic)
        if offer is not None and offer.device == device.key_id and offer.reply_key is not None:
            return self._answer(device, offer, self._open(device, sealed, offer.reply_key))
        raise MalformedInput("message: answers nothing that is open")

    def _open(self, device: KnownDevice, sealed: Parcel, key: bytes) -> bytes:
        private = X25519PrivateKey.from_private_bytes(key)
        return _only(sealed.open(sender=device.key_id, recipient=self._identity.key_id, private=private))

    def _decision(self, device: KnownDevice, row: RequestRow, document: bytes) -> Decided | None:
        decision = handshake.verify_decision(document, device.signing)
        request = self.request_of(row)
        try:
            checks.addressed(decision, self._identity.key_id, device)
            if decision.request != row.id:
                raise DocumentError("on another request")
            token = checks.token_of(decision, request, device)
        except MalformedInput as error:
            raise _broken_word(device, "decision", error) from error
        new = self._store.put_decision(
            decision.id,
            document,
            request=row.id,
            status=decision.status,
            token=decision.token,
            now_ns=self._wall_ns(),
        )
        return Decided(row.id, decision.status, token) if new else None

    def _answer(self, device: KnownDevice, row: OfferRow, document: bytes) -> Answered:
        answer = handshake.verify_answer(document, device.signing)
        receipt = None
        try:
            checks.addressed(answer, self._identity.key_id, device)
            if answer.offer != row.id:
                raise DocumentError("to another offer")
            if answer.status is AgencyReason.GRANTED:
                offer = handshake.verify_offer(row.document, self._agency)
                request = self.request_of(self._need_request(row.request))
                receipt = checks.start_of(answer, offer, row.document, request, device)
        except MalformedInput as error:
            raise _broken_word(device, "answer", error) from error
        kept = self._receipt_row(receipt, EntryKind.SESSION_START, answer.session or "", device)
        self._store.put_answer(row.id, document, kept, self._wall_ns())
        return Answered(row.id, answer, receipt.index if receipt else None)

    def _news(self, device: KnownDevice, sealed: Parcel) -> Over | None:
        document = _only(
            sealed.open(sender=device.key_id, recipient=self._identity.key_id, private=self._identity.seal)
        )
        ended = handshake.verify_ended(document, device.signing)
        row = self._store.offer(ended.offer)
        if row is None or row.device != device.key_id or row.answer is None or row.session is None:
            raise MalformedInput("news: of a session that we do not know")
        if row.ended is not None:
            return None
        start = handshake.verify_answer(row.answer, device.signing)
        try:
            checks.addressed(ended, self._identity.key_id, device)
            entry = Receipt.parse(start.receipt or b"").index
            receipt = checks.end_of(ended, row.session, entry, device)
        except MalformedInput as error:
            raise _broken_word(device, "end", error) from error
        kept = self._receipt_row(receipt, EntryKind.SESSION_END, ended.session, device)
        if kept is not None:
            self._store.put_end(row.id, document, kept, self._wall_ns())
        return Over(row.id, ended, receipt.index)

    def _need_request(self, name: str) -> RequestRow:
        row = self._store.request(name)
        if row is None:
            raise IntegrityError("agency store: an offer without its request")
        return row

    def _receipt_row(
        self, receipt: Receipt | None, kind: EntryKind, session: str, device: KnownDevice
    ) -> ReceiptRow | None:
        if receipt is None:
            return None
        return ReceiptRow(
            device.key_id, receipt.index, str(kind), session, receipt.to_json(), self._wall_ns()
        )


def check_wanted(wanted: Wanted, device: KnownDevice) -> None:
    """Tell the operator what the device would only drop.

    Raises:
        ConfigError: It has no such camera or area, or a number is out of range.
    """
    known = device.areas(wanted.camera)
    for area in wanted.areas:
        if area not in known:
            raise ConfigError(
                f"area {area[:40]}: not one of camera {wanted.camera} (it has {', '.join(known) or 'none'})"
            )
    limits = (
        ("for", wanted.seconds, MAX_SECONDS),
        ("lifetime", wanted.lifetime_s, MAX_REQUEST_NS // SECOND_NS),
        ("max-height", wanted.max_height, 2160),
        ("max-fps", wanted.max_fps, 120),
    )
    for name, value, most in limits:
        if not 1 <= value <= most:
            raise ConfigError(f"--{name} (got {value}, expected 1..{most})")


def _only(documents: tuple[bytes, ...]) -> bytes:
    if len(documents) != 1:
        raise MalformedInput(f"message: documents (got {len(documents)}, expected 1)")
    return documents[0]


def _broken_word(device: KnownDevice, what: str, error: MalformedInput) -> IntegrityError:
    return IntegrityError(
        f"device {device.name}: its signed {what} does not hold: {error}",
        hint="nothing was shown or kept; tell the household",
    )
