"""The documents between an agency's operator and a device: badge, request, decision, offer, answer, ended.

The order (design section 3): ``request`` -> ``decision`` (pending, or granted with the token) -> ``offer``
(accepts the token's terms word for word) -> ``answer`` (or a refusal) -> … -> ``ended``. With a token at hand
request and offer travel together.

``from`` and ``to`` are key ids. Documents of the agency are signed with the operator's key; the badge inside
is the agency's signature on that key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent import envelope, sdp, strict_json, times
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes, key_id_item, name_item
from agent.consent.footage import Stretch
from agent.consent.reasons import AgencyReason
from agent.consent.rules import Mode
from agent.consent.token import MAX_BYTES as MAX_TOKEN_BYTES
from agent.consent.token import NONCE_BYTES, Purpose, Terms
from agent.errors import DocumentError

if TYPE_CHECKING:
    from agent.consent.charter import Agency

MAX_BADGE_NS: Final = 7 * 24 * 3600 * times.SECOND_NS
MAX_REQUEST_NS: Final = 24 * 3600 * times.SECOND_NS
MAX_OFFER_NS: Final = 30 * times.SECOND_NS
MAX_BADGE_BYTES: Final = 1536
MAX_DOCUMENT_BYTES: Final = 48 * 1024


@dataclass(frozen=True, slots=True)
class Badge:
    """The agency's signature on a named person's key, valid at most seven days."""

    agency: str
    name: str
    number: str
    key: bytes
    not_before_ns: int
    not_after_ns: int

    @property
    def operator(self) -> str:
        """The operator's key id."""
        return envelope.key_id(self.key)

    def payload(self) -> bytes:
        """The bytes that the agency signs."""
        return strict_json.dumps(
            {
                "from": self.agency,
                "to": self.operator,
                "name": self.name,
                "number": self.number,
                "key": encode_bytes(self.key),
                "not_before": times.written(self.not_before_ns),
                "not_after": times.written(self.not_after_ns),
            }
        )


def verify_badge(data: bytes, agency: Agency) -> Badge:
    """A badge that ``agency`` has signed; whether it is valid now is `decide`'s question.

    Raises:
        DocumentError: Not a badge of this agency, or valid for more than seven days.
        SignatureError: The agency did not sign it.
    """
    verified = envelope.verify(data, PayloadType.BADGE, {agency.key_id: agency.signing})
    fields = Fields(strict_json.loads(verified.payload), "badge")
    fields.constant("from", agency.key_id)
    key = fields.key("key")
    fields.constant("to", envelope.key_id(key))
    badge = Badge(
        agency=agency.key_id,
        name=fields.text("name", max_chars=60),
        number=fields.text("number", max_chars=20),
        key=key,
        not_before_ns=fields.time("not_before"),
        not_after_ns=fields.time("not_after"),
    )
    fields.done()
    if not envelope.is_usable_key(key):
        raise DocumentError("badge.key: no usable Ed25519 key")
    if not 0 < badge.not_after_ns - badge.not_before_ns <= MAX_BADGE_NS:
        raise DocumentError("badge: validity (expected more than nothing and at most 7 days)")
    return badge


@dataclass(frozen=True, slots=True)
class Request:
    """What an operator asks: one camera, why, how much. It carries no SDP."""

    id: str
    badge: Badge
    badge_envelope: bytes
    device: str
    household: str
    mode: Mode
    camera: str
    purpose: Purpose
    seconds: int
    max_height: int
    max_fps: int
    areas: tuple[str, ...]  # empty: whatever the token allows
    tokens: tuple[str, ...]
    issued_at_ns: int
    expires_at_ns: int
    nonce: bytes
    reply_key: bytes  # X25519, single use
    footage: Stretch | None = None  # there if and only if the mode is footage

    @property
    def agency(self) -> str:
        """The agency's key id."""
        return self.badge.agency

    def payload(self) -> bytes:
        """The bytes that the operator signs."""
        value: dict[str, object] = {
            "from": self.badge.operator,
            "to": self.device,
            "household": self.household,
            "agency": self.agency,
            "badge": encode_bytes(self.badge_envelope),
            "mode": str(self.mode),
            "camera": self.camera,
            "purpose": self.purpose.to_json(),
            "seconds": self.seconds,
            "max_height": self.max_height,
            "max_fps": self.max_fps,
            "areas": list(self.areas),
            "tokens": list(self.tokens),
            "issued_at": times.written(self.issued_at_ns),
            "expires_at": times.written(self.expires_at_ns),
            "nonce": encode_bytes(self.nonce),
            "reply_key": encode_bytes(self.reply_key),
        }
        if self.footage is not None:
            value["footage"] = self.footage.to_json()
        return strict_json.dumps(value)


@dataclass(frozen=True, slots=True)
class Offer:
    """The WebRTC offer under a decision. Cites the request and the token, and repeats the token's terms."""

    id: str
    badge: Badge
    badge_envelope: bytes
    device: str
    household: str
    request: str
    token: str
    terms: Terms
    sdp: str
    issued_at_ns: int
    expires_at_ns: int
    nonce: bytes
    reply_key: bytes

    def payload(self) -> bytes:
        """The bytes that the operator signs."""
        return strict_json.dumps(
            {
                "from": self.badge.operator,
                "to": self.device,
                "household": self.household,
                "agency": self.badge.agency,
                "badge": encode_bytes(self.badge_envelope),
                "re": self.request,
                "token": self.token,
                "terms": self.terms.to_json(),
                "sdp": self.sdp,
                "issued_at": times.written(self.issued_at_ns),
                "expires_at": times.written(self.expires_at_ns),
                "nonce": encode_bytes(self.nonce),
                "reply_key": encode_bytes(self.reply_key),
            }
        )


@dataclass(frozen=True, slots=True)
class _Opened:
    fields: Fields
    id: str
    badge: Badge
    badge_envelope: bytes


def _open_operator_document(data: bytes, kind: PayloadType, agency: Agency, where: str) -> _Opened:
    """Signature before content: the badge names the key, the agency vouches for the badge."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise DocumentError(f"{where}: too large (got {len(data)} bytes, expected {MAX_DOCUMENT_BYTES})")
    _, payload = envelope.unverified_payload(data)
    unverified = Fields(strict_json.loads(payload), where)
    badge_envelope = unverified.data("badge", max_bytes=MAX_BADGE_BYTES)
    badge = verify_badge(badge_envelope, agency)
    verified = envelope.verify(data, kind, {badge.operator: badge.key})
    fields = Fields(strict_json.loads(verified.payload), where)
    fields.constant("from", badge.operator)
    fields.constant("agency", agency.key_id)
    fields.constant("badge", encode_bytes(badge_envelope))
    return _Opened(fields, envelope.document_id(verified.payload), badge, badge_envelope)


def _check_lifetime(issued_ns: int, expires_ns: int, most_ns: int, where: str) -> None:
    if not 0 < expires_ns - issued_ns <= most_ns:
        raise DocumentError(
            f"{where}: lifetime (got {(expires_ns - issued_ns) // times.SECOND_NS} s, "
            f"expected 1..{most_ns // times.SECOND_NS} s)"
        )


def verify_request(data: bytes, agency: Agency) -> Request:
    """A request that an operator with a badge of ``agency`` has signed.

    Raises:
        DocumentError: Malformed, with a lifetime beyond 24 hours, or for footage without saying which.
        SignatureError: Badge or request is not signed as it should be.
    """
    opened = _open_operator_document(data, PayloadType.REQUEST, agency, "request")
    fields = opened.fields
    mode = fields.choice("mode", Mode)
    request = Request(
        id=opened.id,
        badge=opened.badge,
        badge_envelope=opened.badge_envelope,
        device=fields.key_id("to"),
        household=fields.key_id("household"),
        mode=mode,
        camera=fields.name("camera"),
        purpose=fields.record("purpose", Purpose.parse),
        seconds=fields.integer("seconds", 1, 30 * 24 * 3600),
        max_height=fields.integer("max_height", 1, 2160),
        max_fps=fields.integer("max_fps", 1, 120),
        areas=fields.items("areas", name_item, most=64),
        tokens=fields.items("tokens", key_id_item, most=16),
        issued_at_ns=fields.time("issued_at"),
        expires_at_ns=fields.time("expires_at"),
        nonce=fields.fixed("nonce", NONCE_BYTES),
        reply_key=fields.seal_key("reply_key"),
        footage=fields.record("footage", Stretch.parse) if mode is Mode.FOOTAGE else None,
    )
    fields.done()
    _check_lifetime(request.issued_at_ns, request.expires_at_ns, MAX_REQUEST_NS, "request")
    return request


def verify_offer(data: bytes, agency: Agency) -> Offer:
    """An offer that an operator with a badge of ``agency`` has signed, its SDP checked.

    Raises:
        DocumentError: Malformed, living longer than 30 s, or with SDP that wants more than to receive video.
        SignatureError: Badge or offer is not signed as it should be.
    """
    opened = _open_operator_document(data, PayloadType.OFFER, agency, "offer")
    fields = opened.fields
    offer = Offer(
        id=opened.id,
        badge=opened.badge,
        badge_envelope=opened.badge_envelope,
        device=fields.key_id("to"),
        household=fields.key_id("household"),
        request=fields.key_id("re"),
        token=fields.key_id("token"),
        terms=fields.record("terms", Terms.parse),
        sdp=fields.multiline("sdp", max_chars=sdp.MAX_CHARS),
        issued_at_ns=fields.time("issued_at"),
        expires_at_ns=fields.time("expires_at"),
        nonce=fields.fixed("nonce", NONCE_BYTES),
        reply_key=fields.seal_key("reply_key"),
    )
    fields.done()
    _check_lifetime(offer.issued_at_ns, offer.expires_at_ns, MAX_OFFER_NS, "offer")
    sdp.check_offer(offer.sdp)
    return offer


@dataclass(frozen=True, slots=True)
class Decision:
    """The device's word on a request. ``token`` is the token's envelope when granted."""

    id: str
    device: str
    agency: str
    household: str
    request: str
    status: AgencyReason
    token: bytes | None

    def payload(self) -> bytes:
        """The bytes that the device signs."""
        value: dict[str, object] = {
            "from": self.device,
            "to": self.agency,
            "household": self.household,
            "re": self.request,
            "status": str(self.status),
        }
        if self.token is not None:
            value["token"] = encode_bytes(self.token)
        return strict_json.dumps(value)


@dataclass(frozen=True, slots=True)
class Answer:
    """The device's answer to an offer: SDP, the permit's end, and the receipt of what the ledger holds."""

    id: str
    device: str
    agency: str
    household: str
    offer: str
    status: AgencyReason
    session: str | None = None
    sdp: str | None = None
    permit_seconds: int | None = None
    receipt: bytes | None = None

    def payload(self) -> bytes:
        """The bytes that the device signs."""
        value: dict[str, object] = {
            "from": self.device,
            "to": self.agency,
            "household": self.household,
            "re": self.offer,
            "status": str(self.status),
        }
        if self.status is AgencyReason.GRANTED:
            value["session"] = self.session
            value["sdp"] = self.sdp
            value["permit_seconds"] = self.permit_seconds
            value["receipt"] = encode_bytes(self.receipt or b"")
        return strict_json.dumps(value)


@dataclass(frozen=True, slots=True)
class Ended:
    """The device's word that a session is over: why, how much was sent, and the receipt of its end."""

    id: str
    device: str
    agency: str
    household: str
    offer: str
    session: str
    status: AgencyReason
    frames: int
    sent_bytes: int
    receipt: bytes

    def payload(self) -> bytes:
        """The bytes that the device signs."""
        return strict_json.dumps(
            {
                "from": self.device,
                "to": self.agency,
                "household": self.household,
                "re": self.offer,
                "session": self.session,
                "status": str(self.status),
                "frames": self.frames,
                "bytes": self.sent_bytes,
                "receipt": encode_bytes(self.receipt),
            }
        )


def _open_device_document(data: bytes, kind: PayloadType, device: bytes, where: str) -> tuple[Fields, str]:
    verified = envelope.verify(data, kind, {envelope.key_id(device): device})
    fields = Fields(strict_json.loads(verified.payload), where)
    fields.constant("from", envelope.key_id(device))
    return fields, envelope.document_id(verified.payload)


def verify_decision(data: bytes, device: bytes) -> Decision:
    """A decision that the device with signing key ``device`` has signed.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by that device.
    """
    fields, own_id = _open_device_document(data, PayloadType.DECISION, device, "decision")
    decision = Decision(
        id=own_id,
        device=envelope.key_id(device),
        agency=fields.key_id("to"),
        household=fields.key_id("household"),
        request=fields.key_id("re"),
        status=fields.choice("status", AgencyReason),
        token=fields.data("token", max_bytes=MAX_TOKEN_BYTES) if fields.has("token") else None,
    )
    fields.done()
    return decision


def verify_answer(data: bytes, device: bytes) -> Answer:
    """An answer that the device with signing key ``device`` has signed.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by that device.
    """
    fields, own_id = _open_device_document(data, PayloadType.ANSWER, device, "answer")
    status = fields.choice("status", AgencyReason)
    granted = status is AgencyReason.GRANTED
    answer = Answer(
        id=own_id,
        device=envelope.key_id(device),
        agency=fields.key_id("to"),
        household=fields.key_id("household"),
        offer=fields.key_id("re"),
        status=status,
        session=fields.text("session", max_chars=40) if granted else None,
        sdp=fields.multiline("sdp", max_chars=sdp.MAX_CHARS) if granted else None,
        permit_seconds=fields.integer("permit_seconds", 0, 2**31) if granted else None,
        receipt=fields.data("receipt", max_bytes=48 * 1024) if granted else None,
    )
    fields.done()
    return answer


def verify_ended(data: bytes, device: bytes) -> Ended:
    """News of a session's end that the device with signing key ``device`` has signed.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by that device.
    """
    fields, own_id = _open_device_document(data, PayloadType.ENDED, device, "ended")
    ended = Ended(
        id=own_id,
        device=envelope.key_id(device),
        agency=fields.key_id("to"),
        household=fields.key_id("household"),
        offer=fields.key_id("re"),
        session=fields.text("session", max_chars=40),
        status=fields.choice("status", AgencyReason),
        frames=fields.integer("frames", 0, 2**53 - 1),
        sent_bytes=fields.integer("bytes", 0, 2**53 - 1),
        receipt=fields.data("receipt", max_bytes=48 * 1024),
    )
    fields.done()
    return ended
