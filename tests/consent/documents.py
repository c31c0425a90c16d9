"""Every kind of document: a valid one, who signs it, how it is read, and which fields may be left out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent.consent import acts, charter, envelope, handshake, introduction, owner_card, token
from agent.consent.acts import (
    Acknowledgement,
    AlarmState,
    BlockState,
    Descriptor,
    Pairing,
    Seen,
    ShutterState,
)
from agent.consent.envelope import PayloadType
from agent.consent.footage import MaxAge, Stretch
from agent.consent.handshake import Answer, Decision, Ended
from agent.consent.introduction import Card
from agent.consent.reasons import AgencyReason
from agent.consent.rules import Mode
from agent.consent.windows import Day, Weekly, Window
from tests.support.household import (
    ANN,
    BEN,
    HOUR_NS,
    NOON,
    POLICE,
    SDP,
    Home,
    device_keys,
    ed,
    nonce,
    public,
    sign,
    x,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NIGHTS = Weekly("Europe/Madrid", (Window((Day.FRI, Day.SAT), 22 * 60, 6 * 60),))
HOME = Home(
    changes={
        "post": {"host": "post.example", "port": 8883},
        "alarm_max_seconds": 3600,
        "rules": [
            {
                "effect": "cap",
                "when": {
                    "agencies": [POLICE.key_id],
                    "purposes": ["incident"],
                    "modes": ["live"],
                    "alarm": False,
                    "hours": NIGHTS.to_json(),
                },
                "unless": {"alarm": True},
                "seconds": 600,
                "height": 720,
                "fps": 15,
                "viewers": 2,
            }
        ],
    }
)
CHARTER = HOME.charter()
AGENCY = CHARTER.agencies[0]
BOX = device_keys()
TOKEN = HOME.token(re="sha256:" + "1" * 64, scope={"needs_alarm": True, "windows": NIGHTS})
REQUEST = HOME.request(areas=("street",), tokens=(TOKEN.id,))
OFFER = HOME.offer(REQUEST, TOKEN)
STRETCH = Stretch(NOON - 2 * HOUR_NS, NOON - HOUR_NS)
FOOTAGE_TOKEN = HOME.token(scope={"mode": Mode.FOOTAGE, "footage": STRETCH})
RECENT_TOKEN = HOME.token(scope={"mode": Mode.FOOTAGE, "footage": MaxAge(3600)})
FOOTAGE_REQUEST = HOME.request(mode=Mode.FOOTAGE, footage=STRETCH)


@dataclass(frozen=True)
class Kind:
    """One kind of document. ``optional`` holds paths of fields that may be missing."""

    name: str
    type: PayloadType
    payload: bytes
    signers: tuple[Ed25519PrivateKey, ...]
    read: Callable[[bytes], Any]
    optional: frozenset[str] = frozenset()
    unread: frozenset[str] = (
        frozenset()
    )  # fields whose change makes another valid document of the same signer

    @property
    def signed(self) -> bytes:
        return sign(self.type, self.payload, *self.signers)

    def resigned(self, value: Any) -> bytes:
        """Changed, and signed by those who should sign it."""
        return sign(self.type, json.dumps(value).encode(), *self.signers)

    @property
    def value(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.payload)
        return value


_CHARTER = frozenset(
    {"post", "alarm_max_seconds", "rules[0].when", "rules[0].unless"}
    | {f"rules[0].when.{name}" for name in ("agencies", "purposes", "modes", "alarm", "hours")}
    | {f"rules[0].{name}" for name in ("seconds", "height", "fps", "viewers")}
)
_SCOPE = frozenset(
    f"scope.{name}"
    for name in (
        "areas",
        "redaction",
        "max_height",
        "max_fps",
        "session_seconds",
        "total_seconds",
        "sessions",
        "viewers",
        "needs_alarm",
        "windows",
    )
)
ACT = HOME.act(nonce("challenge"), ANN.daily(), HOME.signed_token(), seen=Seen(3, bytes(32)))
READ = HOME.read(nonce("challenge"), BEN.daily())
PAIRING: Pairing = HOME.pairing("ABCD-EFGH", nonce("challenge"))
DECISION = Decision(
    "", BOX.device, POLICE.key_id, HOME.household, REQUEST.id, AgencyReason.GRANTED, HOME.signed_token()
)
ANSWER = Answer(
    "", BOX.device, POLICE.key_id, HOME.household, OFFER.id, AgencyReason.GRANTED, "s1", SDP, 60, b"receipt"
)
ENDED = Ended(
    "",
    BOX.device,
    POLICE.key_id,
    HOME.household,
    OFFER.id,
    "s1",
    AgencyReason.ENDED_EXPIRED,
    30,
    4000,
    b"receipt",
)
DESCRIPTOR = Descriptor(
    BOX.device, BOX.signing_public, BOX.seal_public, "sha256:" + "ab" * 32, HOME.household, 1
)
ACKNOWLEDGEMENT = Acknowledgement(
    BOX.device,
    ACT.signer,
    HOME.household,
    envelope.document_id(ACT.payload()),
    (4, 5),
    "a\nb\n",
    (bytes(32),),
    17,
)
CARD = Card("Control Room", public(POLICE.signing), public(POLICE.seal))
INTRODUCTION = introduction.of_charter(CHARTER, POLICE.key_id, {BOX.device: BOX.seal_public}, NOON + HOUR_NS)
SHUTTER = acts.Shutter("", HOME.household, ShutterState.OPEN, nonce("shutter"))
ALARM = acts.Alarm("", HOME.household, AlarmState.RAISED, nonce("alarm"))
BLOCK = acts.Block("", HOME.household, POLICE.key_id, BlockState.BLOCKED, nonce("block"))
DISMISSAL = acts.Dismissal("", HOME.household, REQUEST.id, nonce("dismissal"))
OWNER_CARD = owner_card.OwnerCard(
    "Ben",
    public(BEN.root),
    public(x("Ben recovery")),
    charter.DailyKey("phone", public(BEN.daily()), public(x("Ben daily 0"))),
)
REVOKE_ONE = HOME.revocation(token=TOKEN.id)
REVOKE_AGENCY = HOME.revocation(agency=POLICE.key_id)

KINDS = [
    Kind(
        "charter",
        PayloadType.CHARTER,
        charter.payload_of(CHARTER),
        (ANN.root, BEN.root),
        charter.verify_genesis,
        _CHARTER,
    ),
    Kind(
        "next charter",
        PayloadType.CHARTER,
        json.dumps(HOME.next_json(CHARTER)).encode(),
        (ANN.root, BEN.root),
        lambda data: charter.verify_next(data, CHARTER),
        _CHARTER,
    ),
    Kind(
        "token",
        PayloadType.TOKEN,
        TOKEN.payload(),
        (ANN.daily(),),
        lambda data: token.verify(data, CHARTER),
        _SCOPE | {"re", "purpose.statement"},
    ),
    Kind(
        "token for footage",
        PayloadType.TOKEN,
        FOOTAGE_TOKEN.payload(),
        (ANN.daily(),),
        lambda data: token.verify(data, CHARTER),
        _SCOPE | {"purpose.statement", "scope.footage"},
    ),
    Kind(
        "token for recent footage",
        PayloadType.TOKEN,
        RECENT_TOKEN.payload(),
        (ANN.daily(),),
        lambda data: token.verify(data, CHARTER),
        _SCOPE | {"purpose.statement", "scope.footage"},
    ),
    Kind(
        "revocation of a token",
        PayloadType.REVOCATION,
        REVOKE_ONE.payload(),
        (BEN.daily(),),
        lambda data: token.verify_revocation(data, CHARTER),
        frozenset({"token"}),
    ),
    Kind(
        "revocation of an agency",
        PayloadType.REVOCATION,
        REVOKE_AGENCY.payload(),
        (BEN.daily(),),
        lambda data: token.verify_revocation(data, CHARTER),
        frozenset({"agency"}),
    ),
    Kind(
        "shutter",
        PayloadType.SHUTTER,
        SHUTTER.payload(),
        (BEN.root,),
        lambda data: acts.verify_shutter(data, CHARTER),
    ),
    Kind(
        "alarm",
        PayloadType.ALARM,
        ALARM.payload(),
        (BEN.root,),
        lambda data: acts.verify_alarm(data, CHARTER),
    ),
    Kind(
        "block",
        PayloadType.BLOCK,
        BLOCK.payload(),
        (BEN.root,),
        lambda data: acts.verify_block(data, CHARTER),
    ),
    Kind(
        "owner card",
        PayloadType.OWNER_CARD,
        OWNER_CARD.payload(),
        (BEN.root, BEN.daily()),
        owner_card.verify_owner_card,
    ),
    Kind(
        "dismissal",
        PayloadType.DISMISSAL,
        DISMISSAL.payload(),
        (BEN.daily(),),
        lambda data: acts.verify_dismissal(data, CHARTER),
    ),
    Kind(
        "act",
        PayloadType.ACT,
        ACT.payload(),
        (ANN.daily(),),
        lambda data: acts.verify_act(data, CHARTER),
        frozenset({"seen"}),
    ),
    Kind(
        "read", PayloadType.READ, READ.payload(), (BEN.daily(),), lambda data: acts.verify_read(data, CHARTER)
    ),
    Kind("pairing", PayloadType.PAIRING, PAIRING.payload(), (ANN.root,), acts.verify_pairing),
    Kind(
        "badge",
        PayloadType.BADGE,
        POLICE.badge().payload(),
        (POLICE.signing,),
        lambda data: handshake.verify_badge(data, AGENCY),
    ),
    Kind(
        "request",
        PayloadType.REQUEST,
        REQUEST.payload(),
        (ed("Kim"),),
        lambda data: handshake.verify_request(data, AGENCY),
        frozenset({"purpose.statement"}),
    ),
    Kind(
        "request for footage",
        PayloadType.REQUEST,
        FOOTAGE_REQUEST.payload(),
        (ed("Kim"),),
        lambda data: handshake.verify_request(data, AGENCY),
    ),
    Kind(
        "offer",
        PayloadType.OFFER,
        OFFER.payload(),
        (ed("Kim"),),
        lambda data: handshake.verify_offer(data, AGENCY),
    ),
    Kind(
        "decision",
        PayloadType.DECISION,
        DECISION.payload(),
        (BOX.signing,),
        lambda data: handshake.verify_decision(data, BOX.signing_public),
        frozenset({"token"}),
    ),
    Kind(
        "answer",
        PayloadType.ANSWER,
        ANSWER.payload(),
        (BOX.signing,),
        lambda data: handshake.verify_answer(data, BOX.signing_public),
    ),
    Kind(
        "ended",
        PayloadType.ENDED,
        ENDED.payload(),
        (BOX.signing,),
        lambda data: handshake.verify_ended(data, BOX.signing_public),
    ),
    Kind(
        "descriptor",
        PayloadType.DESCRIPTOR,
        DESCRIPTOR.payload(),
        (BOX.signing,),
        acts.verify_descriptor,
        frozenset({"tls_fingerprint"}),
    ),
    Kind(
        "acknowledgement",
        PayloadType.ACKNOWLEDGEMENT,
        ACKNOWLEDGEMENT.payload(),
        (BOX.signing,),
        lambda data: acts.verify_acknowledgement(data, BOX.signing_public),
    ),
    Kind("card", PayloadType.CARD, CARD.payload(), (POLICE.signing,), introduction.verify_card),
    Kind(
        "introduction",
        PayloadType.INTRODUCTION,
        INTRODUCTION.payload(),
        (ANN.root, BEN.root),
        introduction.verify_introduction,
    ),
]

MADE: dict[str, Any] = {
    "token": TOKEN,
    "revocation of a token": REVOKE_ONE,
    "revocation of an agency": REVOKE_AGENCY,
    "shutter": SHUTTER,
    "alarm": ALARM,
    "block": BLOCK,
    "owner card": OWNER_CARD,
    "dismissal": DISMISSAL,
    "token for footage": FOOTAGE_TOKEN,
    "token for recent footage": RECENT_TOKEN,
    "request for footage": FOOTAGE_REQUEST,
    "act": ACT,
    "read": READ,
    "badge": POLICE.badge(),
    "request": REQUEST,
    "offer": OFFER,
    "decision": DECISION,
    "answer": ANSWER,
    "ended": ENDED,
    "descriptor": DESCRIPTOR,
    "acknowledgement": ACKNOWLEDGEMENT,
    "card": CARD,
    "introduction": INTRODUCTION,
}
"""What `Kind.read` must give back, but for ids, which follow from the bytes."""


def expected(kind: Kind) -> Any:
    made = MADE[kind.name]
    return replace(made, id=envelope.document_id(kind.payload)) if hasattr(made, "id") else made
