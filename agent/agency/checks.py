"""What the agency checks of a device's word before it believes or shows anything. Pure.

Who signed was verified before (`agent.consent.handshake`). Here: is it about what we asked, did enough owners
sign the token, and does the ledger hold what the device says it holds. All of it raises `DocumentError` or
`ProofError`, one line each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.consent import envelope
from agent.consent import token as tokens
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes
from agent.consent.reasons import AgencyReason
from agent.errors import DocumentError, ProofError, SignatureError
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import EntryKind
from agent.ledger.receipt import Receipt

if TYPE_CHECKING:
    from agent.agency.introductions import KnownDevice
    from agent.consent.handshake import Answer, Decision, Ended, Offer, Request
    from agent.consent.token import Token
    from agent.ledger.entry import Entry

_MAX_COUNT = 2**53 - 1


def addressed(reply: Decision | Answer | Ended, agency: str, device: KnownDevice) -> None:
    """Whether it is to us, and from the household that the device belongs to.

    Raises:
        DocumentError: It is not.
    """
    if reply.agency != agency:
        raise DocumentError("to another agency")
    if reply.household != device.introduction.household:
        raise DocumentError("of another household")


def token_of(decision: Decision, request: Request, device: KnownDevice) -> Token | None:
    """The token that a decision carries, which there is if and only if it grants.

    Raises:
        DocumentError: One too many or too few, or not for what was asked.
        SignatureError: Fewer distinct owners signed it than grant.
    """
    if (decision.status is AgencyReason.GRANTED) != (decision.token is not None):
        raise DocumentError(f"{decision.status} {'without' if decision.token is None else 'with'} a token")
    if decision.token is None:
        return None
    introduction = device.introduction
    verified = envelope.verify(decision.token, PayloadType.TOKEN, introduction.signing_keys())
    have = introduction.distinct(verified.signers)
    if have < introduction.granting:
        raise SignatureError(f"token: too few owners (got {have}, expected {introduction.granting})")
    token = tokens.parse(verified.payload)
    expectations = (
        ("household", token.household == introduction.household),
        ("device", token.device == device.key_id),
        ("agency", token.agency == request.agency),
        ("operator", not token.operators or request.badge.operator in token.operators),
        ("request", token.re in {None, request.id}),
        ("purpose", token.purpose == request.purpose),
        ("mode", token.scope.mode is request.mode),
        ("camera", request.camera in token.scope.cameras),
    )
    for what, fits in expectations:
        if not fits:
            raise DocumentError(f"token: for another {what}")
    return token


def start_of(answer: Answer, offer: Offer, document: bytes, request: Request, device: KnownDevice) -> Receipt:
    """The receipt of a granted answer: the ledger holds our very offer as the start of this session.

    ``document`` is the offer's envelope as we sent it.

    Raises:
        ProofError: It does not.
    """
    receipt = Receipt.parse(answer.receipt or b"")
    entry = receipt.verify(device.signing, origin_of(device.key_id))
    _expect_kind(entry, EntryKind.SESSION_START)
    expected: dict[str, object] = {
        "offer": encode_bytes(document),
        "offer_id": offer.id,
        "request": request.id,
        "token": offer.token,
        "agency": request.agency,
        "operator": offer.badge.operator,
        "camera": request.camera,
        "session": answer.session,
    }
    _expect(entry, expected)
    seconds = _number(entry, "seconds")
    if (answer.permit_seconds or 0) > seconds:
        raise ProofError(
            f"receipt: permit longer than recorded (got {answer.permit_seconds} s, expected {seconds} s)"
        )
    return receipt


def end_of(ended: Ended, session: str, start: int, device: KnownDevice) -> Receipt:
    """The receipt of a session's end: the ledger holds that end, of that session, with those counts.

    ``start`` is the number of the entry that began the session.

    Raises:
        ProofError: It does not.
    """
    if ended.session != session:
        raise ProofError(f"receipt: of another session (got {ended.session[:40]!r}, expected {session!r})")
    receipt = Receipt.parse(ended.receipt)
    entry = receipt.verify(device.signing, origin_of(device.key_id))
    _expect_kind(entry, EntryKind.SESSION_END)
    _expect(
        entry,
        {
            "start": start,
            "frames": ended.frames,
            "bytes": ended.sent_bytes,
            "status": str(ended.status),
        },
    )
    return receipt


def _expect_kind(entry: Entry, kind: EntryKind) -> None:
    if entry.kind is not kind:
        raise ProofError(f"receipt: of another kind of entry (got {entry.kind}, expected {kind})")


def _expect(entry: Entry, expected: dict[str, object]) -> None:
    for name, value in expected.items():
        # Type and value: in Python True equals 1, and neither is the other in a document.
        found = entry.body.get(name)
        if type(found) is not type(value) or found != value:
            raise ProofError(f"receipt: the entry holds another {name.replace('_', ' ')}")


def _number(entry: Entry, name: str) -> int:
    try:
        return Fields(entry.body, "receipt").integer(name, 0, _MAX_COUNT)
    except DocumentError as error:
        raise ProofError(str(error)) from error
