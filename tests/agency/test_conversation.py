"""The conversation against devices and brokers that cheat, with the real documents and nothing of core."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.agency.conversation import Answered, Decided, Over, Wanted
from agent.agency.introductions import find_device
from agent.agency.store import Store
from agent.consent import envelope, handshake
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.consent.handshake import Answer, Decision, Ended, Offer, Request
from agent.consent.reasons import AgencyReason
from agent.consent.rules import PurposeKind
from agent.consent.token import Purpose, Terms
from agent.errors import ConfigError, IntegrityError, MalformedInput, Refused
from agent.ledger.entry import EntryKind
from agent.ledger.state import body_document
from agent.streaming.receiver import Receiver
from tests.agency.conftest import introduced
from tests.agency.home import Household
from tests.support.streams import ICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.agency.conversation import Outgoing
    from agent.agency.identity import Operator
    from agent.agency.introductions import KnownDevice
    from agent.cli.agency_options import Office
    from agent.consent.token import Token
    from agent.ledger.keeper import Keeper
    from agent.ledger.receipt import Receipt

WANTED = Wanted("front", Purpose(PurposeKind.INCIDENT, "2026-1184"), 60, 480, 30, ("door",), 600)


def one_offer() -> str:
    async def offered() -> bytes:
        receiver = Receiver(ICE)
        try:
            return await receiver.offer()
        finally:
            await receiver.close()

    return asyncio.run(offered()).decode()


class Talk:
    """One conversation, with the device's answers made by hand."""

    def __init__(
        self, office: Office, operator: Operator, household: Household, device: KnownDevice, keeper: Keeper
    ) -> None:
        self.office = office
        self.operator = operator
        self.household = household
        self.device = device
        self.keeper = keeper
        self.sdp = one_offer()
        self.asked = office.conversation.ask(operator, device, WANTED)
        self.request: Request = handshake.verify_request(
            household.open(self.asked.sealed, self.agency), office.identity.agency
        )

    @property
    def agency(self) -> str:
        return self.office.identity.key_id

    def receive(self, sealed: bytes) -> object:
        return self.office.conversation.receive(self.device, sealed)

    def status(self) -> AgencyReason:
        row = self.office.store.request(self.request.id)
        assert row is not None
        return row.status

    # What the device says

    def decision(self, said: AgencyReason, token: bytes | None = None, **changes: Any) -> Decision:
        decision = Decision(
            "",
            self.household.device,
            self.agency,
            self.request.household,
            self.request.id,
            said,
            token,
        )
        return replace(decision, **changes)

    def decided(self, decision: Decision, key: Ed25519PrivateKey | None = None) -> bytes:
        signed = envelope.sign(PayloadType.DECISION, decision.payload(), [key or self.household.keys.signing])
        return self.household.reply(
            signed, re=self.request.id, agency=self.agency, public=self.request.reply_key
        )

    def grant(self) -> Token:
        """The device says yes, with a token that the owners have signed."""
        token = self.household.token(self.request)
        signed = self.household.sign_token(token)
        self.keeper.record(EntryKind.REQUEST, {"agency": self.agency, "document": self._document()})
        self.keeper.record(EntryKind.TOKEN, body_document(signed, by="test"))
        news = self.receive(self.decided(self.decision(AgencyReason.GRANTED, signed)))
        assert isinstance(news, Decided)
        assert news.status is AgencyReason.GRANTED
        return replace(token, id=envelope.document_id(token.payload()))

    def _document(self) -> str:
        row = self.office.store.request(self.request.id)
        assert row is not None
        return encode_bytes(row.document)

    def offer(self) -> tuple[Outgoing, Offer, bytes]:
        row = self.office.store.request(self.request.id)
        assert row is not None
        outgoing = self.office.conversation.offer(self.operator, self.device, row, self.sdp)
        document = self.household.open(outgoing.sealed, self.agency)
        return outgoing, handshake.verify_offer(document, self.office.identity.agency), document

    def begin(self, offer: Offer, document: bytes, **changes: Any) -> Receipt:
        """The device records the start of a session; the receipt."""
        body: dict[str, object] = {
            "request": self.request.id,
            "offer": encode_bytes(document),
            "offer_id": offer.id,
            "nonce": encode_bytes(offer.nonce),
            "agency": self.agency,
            "operator": offer.badge.operator,
            "token": offer.token,
            "session": "5f3a9c01",
            "camera": "front",
            "seconds": 60,
            **changes,
        }
        return self.keeper.log.receipt(self.keeper.record(EntryKind.SESSION_START, body))

    def answer(self, offer: Offer, receipt: bytes, **changes: Any) -> Answer:
        answer = Answer(
            "",
            self.household.device,
            self.agency,
            offer.household,
            offer.id,
            AgencyReason.GRANTED,
            "5f3a9c01",
            self.sdp.replace("recvonly", "sendonly"),
            58,
            receipt,
        )
        return replace(answer, **changes)

    def answered(self, offer: Offer, answer: Answer, key: Ed25519PrivateKey | None = None) -> bytes:
        signed = envelope.sign(PayloadType.ANSWER, answer.payload(), [key or self.household.keys.signing])
        return self.household.reply(signed, re=offer.id, agency=self.agency, public=offer.reply_key)

    def ended(self, offer: Offer, start: int, **changes: Any) -> bytes:
        """The device records the end and says so; ``changes`` are lies in what it says."""
        body: dict[str, object] = {
            "start": start,
            "seconds": 10,
            "frames": 300,
            "bytes": 90_000,
            "status": "ended_by_owner",
        }
        number = self.keeper.record(EntryKind.SESSION_END, body)
        ended = Ended(
            "",
            self.household.device,
            self.agency,
            offer.household,
            offer.id,
            "5f3a9c01",
            AgencyReason.ENDED_BY_OWNER,
            300,
            90_000,
            self.keeper.log.receipt(number).to_json(),
        )
        told = replace(ended, **changes)
        return self.household.news(
            self.household.sign(PayloadType.ENDED, told.payload()), self.office.identity.agency
        )


@pytest.fixture
def talk(
    tmp_path: Path, office: Office, operator: Operator, household: Household, device: KnownDevice
) -> Iterator[Talk]:
    keeper = household.ledger(tmp_path / "ledger")
    with keeper.log:
        yield Talk(office, operator, household, device, keeper)


def test_granted_answered_and_ended_conversation_leaves_two_receipts(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    receipt = talk.begin(offer, document)
    answered = talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))
    assert isinstance(answered, Answered)
    assert answered.entry == receipt.index
    over = talk.receive(talk.ended(offer, receipt.index))
    assert isinstance(over, Over)
    assert over.ended.frames == 300
    kinds = [(row.kind, row.session) for row in talk.office.store.receipts()]
    assert kinds == [("session-start", "5f3a9c01"), ("session-end", "5f3a9c01")]


def test_pending_may_become_granted_and_nothing_undoes_that(talk: Talk) -> None:
    pending = talk.decided(talk.decision(AgencyReason.PENDING))
    assert isinstance(talk.receive(pending), Decided)
    assert talk.receive(pending) is None
    denied = talk.decided(talk.decision(AgencyReason.DENIED))
    talk.grant()
    with pytest.raises(MalformedInput, match="answers nothing that is open"):
        talk.receive(denied)
    assert talk.status() is AgencyReason.GRANTED


def test_decision_of_another_device_key_is_dropped(talk: Talk) -> None:
    forged = talk.decided(talk.decision(AgencyReason.DENIED), Ed25519PrivateKey.generate())
    with pytest.raises(MalformedInput, match="no valid signature"):
        talk.receive(forged)
    assert talk.status() is AgencyReason.PENDING


def test_decision_signed_by_the_agency_s_own_operator_is_dropped(talk: Talk) -> None:
    with pytest.raises(MalformedInput):
        talk.receive(talk.decided(talk.decision(AgencyReason.DENIED), talk.operator.key))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"request": "sha256:" + 64 * "0"}, "on another request"),
        ({"household": "sha256:" + 64 * "0"}, "of another household"),
        ({"agency": "sha256:" + 64 * "0"}, "to another agency"),
        ({"status": AgencyReason.GRANTED}, "granted without a token"),
    ],
)
def test_decision_that_is_not_about_our_request_is_refused(
    talk: Talk, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(IntegrityError, match=why):
        talk.receive(talk.decided(talk.decision(AgencyReason.PENDING, **changes)))
    assert talk.status() is AgencyReason.PENDING


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"re": "sha256:" + 64 * "0"}, "request"),
        ({"device": "sha256:" + 64 * "0"}, "device"),
        ({"operators": ("sha256:" + 64 * "0",)}, "operator"),
        ({"purpose": Purpose(PurposeKind.DRILL, "2026-1184")}, "purpose"),
        ({"agency": "sha256:" + 64 * "0"}, "agency"),
    ],
)
def test_token_for_something_else_is_refused(talk: Talk, changes: dict[str, Any], why: str) -> None:
    signed = talk.household.sign_token(talk.household.token(talk.request, **changes))
    with pytest.raises(IntegrityError, match=f"for another {why}"):
        talk.receive(talk.decided(talk.decision(AgencyReason.GRANTED, signed)))
    assert talk.status() is AgencyReason.PENDING


def test_token_that_no_owner_signed_is_refused(talk: Talk) -> None:
    signed = talk.household.sign_token(talk.household.token(talk.request), [talk.household.keys.signing])
    with pytest.raises(IntegrityError, match="no valid signature"):
        talk.receive(talk.decided(talk.decision(AgencyReason.GRANTED, signed)))


def test_token_of_one_owner_with_two_keys_does_not_reach_two_owners(
    office: Office, operator: Operator
) -> None:
    household = introduced(office, Household(owners=2, granting=2))
    device = find_device(office.store, household.device)
    asked = office.conversation.ask(operator, device, WANTED)
    request = handshake.verify_request(
        household.open(asked.sealed, office.identity.key_id), office.identity.agency
    )
    one = [household.roots[0], household.daily[0]]
    signed = household.sign_token(household.token(request), one)
    decision = Decision(
        "", device.key_id, request.agency, request.household, request.id, AgencyReason.GRANTED, signed
    )
    reply = household.reply(
        household.sign(PayloadType.DECISION, decision.payload()),
        re=request.id,
        agency=request.agency,
        public=request.reply_key,
    )
    with pytest.raises(IntegrityError, match=r"too few owners \(got 1, expected 2\)"):
        office.conversation.receive(device, reply)


def test_answer_whose_entry_holds_another_offer_is_refused_and_nothing_is_kept(talk: Talk) -> None:
    talk.grant()
    _, first, first_document = talk.offer()
    _, offer, _ = talk.offer()
    receipt = talk.begin(first, first_document)
    with pytest.raises(IntegrityError, match="the entry holds another offer"):
        talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))
    assert talk.office.store.receipts() == []
    kept = talk.office.store.offer(offer.id)
    assert kept is not None
    assert kept.answer is None


@pytest.mark.parametrize("name", ["offer_id", "request", "operator", "camera", "session", "agency"])
def test_answer_whose_entry_tells_another_story_is_refused(talk: Talk, name: str) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    other = {
        "camera": "back",
        "session": "00000000",
    }.get(name, "sha256:" + 64 * "0")
    receipt = talk.begin(offer, document, **{name: other})
    with pytest.raises(IntegrityError, match=f"another {name.replace('_', ' ')}"):
        talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))


def test_answer_that_promises_more_than_the_ledger_holds_is_refused(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    answer = talk.answer(offer, talk.begin(offer, document).to_json(), permit_seconds=61)
    with pytest.raises(IntegrityError, match="permit longer than recorded"):
        talk.receive(talk.answered(offer, answer))


def test_answer_with_the_receipt_of_another_entry_is_refused(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    talk.begin(offer, document)
    with pytest.raises(IntegrityError, match=r"another kind of entry \(got boot"):
        talk.receive(talk.answered(offer, talk.answer(offer, talk.keeper.log.receipt(0).to_json())))


def test_any_flipped_byte_of_the_proof_is_refused(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    receipt = talk.begin(offer, document)
    flipped = bytes([receipt.entry[-2] ^ 1])
    forgeries = [
        replace(receipt, entry=receipt.entry[:-2] + flipped + receipt.entry[-1:]),
        replace(receipt, index=receipt.index - 1),
        replace(receipt, proof=(bytes(32), *receipt.proof[1:])),
        replace(receipt, checkpoint=receipt.checkpoint.replace(f"\n{receipt.index + 1}\n", "\n99\n")),
    ]
    for forged in forgeries:
        assert forged != receipt
        with pytest.raises(IntegrityError):
            talk.receive(talk.answered(offer, talk.answer(offer, forged.to_json())))
    assert isinstance(talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json()))), Answered)


def test_receipt_of_a_ledger_that_another_key_signs_is_refused(talk: Talk, tmp_path: Path) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    other = Household()
    other.found(talk.office.identity.agency)
    mine, talk.keeper = talk.keeper, other.ledger(tmp_path / "other")
    with talk.keeper.log:
        number = talk.keeper.record(
            EntryKind.ARCHIVE, {"offer": encode_bytes(document), "session": "5f3a9c01"}
        )
        receipt = talk.keeper.log.receipt(number)
    talk.keeper = mine
    with pytest.raises(IntegrityError, match="not signed by doorward/"):
        talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))


def test_replayed_answer_counts_for_nothing(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    sealed = talk.answered(offer, talk.answer(offer, talk.begin(offer, document).to_json()))
    assert isinstance(talk.receive(sealed), Answered)
    with pytest.raises(MalformedInput, match="answers nothing that is open"):
        talk.receive(sealed)
    _, second, _ = talk.offer()
    relabelled = sealed.replace(offer.id.encode(), second.id.encode(), 1)
    with pytest.raises(MalformedInput, match="does not open"):
        talk.receive(relabelled)


def test_swapped_sdp_is_dropped_whoever_seals_it(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    answer = talk.answer(offer, talk.begin(offer, document).to_json())
    signed = envelope.sign(PayloadType.ANSWER, answer.payload(), [talk.household.keys.signing])
    swapped = replace(answer, sdp=(answer.sdp or "").replace("127.0.0.1", "127.0.0.9"))
    forged = signed.replace(encode_bytes(answer.payload()).encode(), encode_bytes(swapped.payload()).encode())
    assert forged != signed
    sealed = talk.household.reply(forged, re=offer.id, agency=talk.agency, public=offer.reply_key)
    with pytest.raises(MalformedInput, match="no valid signature"):
        talk.receive(sealed)


@pytest.mark.parametrize(
    "status", [AgencyReason.PENDING, AgencyReason.BUSY, AgencyReason.STALE_REQUEST, AgencyReason.UNSUPPORTED]
)
def test_refused_offer_is_kept_as_such_without_a_receipt(talk: Talk, status: AgencyReason) -> None:
    talk.grant()
    _, offer, _ = talk.offer()
    answer = Answer("", talk.household.device, talk.agency, offer.household, offer.id, status)
    news = talk.receive(talk.answered(offer, answer))
    assert isinstance(news, Answered)
    assert news.answer.status is status
    assert news.entry is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"frames": 299}, "another frames"),
        ({"sent_bytes": 1}, "another bytes"),
        ({"session": "00000000"}, "of another session"),
        ({"status": AgencyReason.ENDED_EXPIRED}, "holds another status"),
        ({"household": "sha256:" + 64 * "0"}, "of another household"),
    ],
)
def test_end_that_its_receipt_does_not_prove_is_refused(
    talk: Talk, changes: dict[str, Any], why: str
) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    receipt = talk.begin(offer, document)
    talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))
    with pytest.raises(IntegrityError, match=why):
        talk.receive(talk.ended(offer, receipt.index, **changes))
    kept = talk.office.store.offer(offer.id)
    assert kept is not None
    assert kept.ended is None


def test_end_of_an_unknown_session_and_a_second_end_change_nothing(talk: Talk) -> None:
    talk.grant()
    _, offer, document = talk.offer()
    receipt = talk.begin(offer, document)
    news = talk.ended(offer, receipt.index)
    with pytest.raises(MalformedInput, match="do not know"):
        talk.receive(news)
    talk.receive(talk.answered(offer, talk.answer(offer, receipt.to_json())))
    assert isinstance(talk.receive(news), Over)
    assert talk.receive(news) is None


def test_empty_reflected_or_cut_message_is_dropped(talk: Talk) -> None:
    with pytest.raises(MalformedInput):
        talk.receive(b"")
    with pytest.raises(MalformedInput):
        talk.receive(talk.asked.sealed)
    with pytest.raises(MalformedInput):
        talk.receive(talk.decided(talk.decision(AgencyReason.PENDING))[:-1])


def test_conversation_goes_on_after_a_restart(talk: Talk) -> None:
    token = talk.household.sign_token(talk.household.token(talk.request))
    with Store.open(talk.office.store.directory) as store:
        row = store.request(talk.request.id)
        assert row is not None
        assert row.reply_key is not None
        again = type(talk.office.conversation)(store, talk.office.identity, wall_ns=lambda: 0)
        news = again.receive(talk.device, talk.decided(talk.decision(AgencyReason.GRANTED, token)))
        assert isinstance(news, Decided)
        row = store.request(talk.request.id)
        assert row is not None
        assert row.reply_key is None
        assert row.token == token
        assert store.operators()[0].number == "17"


def test_offer_repeats_the_token_s_terms_and_only_the_asker_may_make_it(
    talk: Talk, operator: Operator
) -> None:
    row = talk.office.store.request(talk.request.id)
    assert row is not None
    with pytest.raises(Refused, match="not granted"):
        talk.office.conversation.offer(operator, talk.device, row, talk.sdp)
    token = talk.grant()
    _, offer, _ = talk.offer()
    assert (offer.token, offer.terms) == (token.id, Terms(forwarding=False, analysis=False, retention_days=0))
    row = talk.office.store.request(talk.request.id)
    assert row is not None
    other = replace(operator, badge=replace(operator.badge, key=bytes(32)))
    with pytest.raises(Refused, match="asked by number 17"):
        talk.office.conversation.offer(other, talk.device, row, talk.sdp)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"camera": "back"}, "it has front"),
        ({"areas": ("garden",)}, "it has door"),
        ({"lifetime_s": 24 * 3600 + 1}, "lifetime"),
        ({"seconds": 0}, "for"),
    ],
)
def test_request_that_the_device_could_only_drop_is_told_before_it_is_sent(
    talk: Talk, changes: dict[str, Any], why: str
) -> None:
    wanted = replace(WANTED, **changes)
    with pytest.raises(ConfigError, match=why):
        talk.office.conversation.ask(talk.operator, talk.device, wanted)
    assert len(talk.office.store.requests()) == 1
