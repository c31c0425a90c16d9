"""A household for tests: people, their keys, a device, an agency, and every document they sign to each other.

All keys follow from names, so that documents are the same in every run. Each builder gives the usual, valid
document; keyword arguments change fields of it. Times are around `NOON`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.consent import charter as charters
from agent.consent import envelope, handshake, strict_json, times, token
from agent.consent.acts import (
    Act,
    Block,
    BlockState,
    Dismissal,
    Pairing,
    Read,
    Seen,
    Shutter,
    ShutterState,
)
from agent.consent.envelope import PayloadType
from agent.consent.fields import encode_bytes
from agent.consent.handshake import Badge, Offer, Request
from agent.consent.rules import Mode, PurposeKind
from agent.consent.times import SECOND_NS
from agent.consent.token import Purpose, Revocation, Scope, Terms, Token
from agent.device_keys import DeviceKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.consent.charter import Charter

NOON = times.parse("2026-01-31T12:00:00Z", "noon")
HOUR_NS = 3600 * SECOND_NS
STREET = ((0, 0), (5000, 0), (5000, 10_000), (0, 10_000))
PATH = ((5000, 0), (10_000, 0), (10_000, 10_000))
SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=recvonly
a=mid:0
a=rtpmap:96 H264/90000
""".replace("\n", "\r\n")
TERMS = Terms(forwarding=False, analysis=False, retention_days=30)


def ed(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(f"ed {name}".encode()).digest())


def x(name: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(sha256(f"x {name}".encode()).digest())


def public(private: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def id_of(private: Ed25519PrivateKey) -> str:
    return envelope.key_id(public(private))


def nonce(name: str) -> bytes:
    return sha256(f"nonce {name}".encode()).digest()[:16]


def sign(kind: PayloadType, payload: bytes | dict[str, Any], *keys: Ed25519PrivateKey) -> bytes:
    data = payload if isinstance(payload, bytes) else strict_json.dumps(payload)
    return envelope.sign(kind, data, keys)


@dataclass(frozen=True)
class Person:
    """An owner with a root key and daily keys."""

    name: str
    daily_keys: int = 1

    @property
    def root(self) -> Ed25519PrivateKey:
        return ed(f"{self.name} root")

    def daily(self, number: int = 0) -> Ed25519PrivateKey:
        return ed(f"{self.name} daily {number}")

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "root": encode_bytes(public(self.root)),
            "recovery": encode_bytes(public(x(f"{self.name} recovery"))),
            "daily": [
                {
                    "label": f"phone {number}",
                    "signing": encode_bytes(public(self.daily(number))),
                    "archive": encode_bytes(public(x(f"{self.name} daily {number}"))),
                }
                for number in range(self.daily_keys)
            ],
        }


@dataclass(frozen=True)
class Body:
    """An agency, with operators by name."""

    name: str
    answers: str = "pending"
    max_seconds: int = 3600

    @property
    def signing(self) -> Ed25519PrivateKey:
        return ed(f"{self.name} signing")

    @property
    def seal(self) -> X25519PrivateKey:
        return x(f"{self.name} seal")

    @property
    def key_id(self) -> str:
        return id_of(self.signing)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "signing": encode_bytes(public(self.signing)),
            "seal": encode_bytes(public(self.seal)),
            "answers": self.answers,
            "max_seconds": self.max_seconds,
        }

    def badge(self, operator: str = "Kim", **changes: Any) -> Badge:
        usual = Badge(
            agency=self.key_id,
            name=operator,
            number="7",
            key=public(ed(operator)),
            not_before_ns=NOON - HOUR_NS,
            not_after_ns=NOON + 24 * HOUR_NS,
        )
        return replace(usual, **changes)

    def signed_badge(self, operator: str = "Kim", **changes: Any) -> bytes:
        return sign(PayloadType.BADGE, self.badge(operator, **changes).payload(), self.signing)


def device_keys(name: str = "box") -> DeviceKeys:
    return DeviceKeys(ed(f"{name} device"), x(f"{name} device"))


ANN = Person("Ann", daily_keys=2)
BEN = Person("Ben")
POLICE = Body("Control Room")
OTHER_BODY = Body("Fire Brigade", answers="denied")


@dataclass(frozen=True)
class Home:
    """Who signs the charter and what stands in it."""

    people: Sequence[Person] = (ANN, BEN)
    bodies: Sequence[Body] = (POLICE, OTHER_BODY)
    keys: DeviceKeys = field(default_factory=device_keys)
    changes: dict[str, Any] = field(default_factory=dict)

    def to_json(self, **changes: Any) -> dict[str, Any]:
        usual: dict[str, Any] = {
            "from": "owners",
            "to": "devices",
            "version": 1,
            "household": "self",
            "owners": [person.to_json() for person in self.people],
            "granting": 1,
            "governing": len(self.people),
            "daily_limits": {"max_seconds": 3600, "standing": False},
            "devices": [{"name": "box", "signing": encode_bytes(self.keys.signing_public)}],
            "agencies": [body.to_json() for body in self.bodies],
            "cameras": [
                {
                    "name": "front",
                    "device": self.keys.device,
                    "never": [],
                    "areas": [
                        {"name": "street", "polygon": [list(corner) for corner in STREET]},
                        {"name": "path", "polygon": [list(corner) for corner in PATH]},
                    ],
                }
            ],
            "rules": [],
            "ice": "relay",
            "rollback": "confirm",
            "accept_plausible_time": False,
            "indicator_required": True,
        }
        return {**usual, **self.changes, **changes}

    def signed_charter(self, *signers: Ed25519PrivateKey, **changes: Any) -> bytes:
        keys = signers or tuple(person.root for person in self.people)
        return sign(PayloadType.CHARTER, self.to_json(**changes), *keys)

    def charter(self, **changes: Any) -> Charter:
        return charters.verify_genesis(self.signed_charter(**changes))

    def next_json(self, current: Charter, **changes: Any) -> dict[str, Any]:
        after = {
            "version": current.version + 1,
            "household": current.household,
            "previous": current.id,
        }
        return self.to_json(**{**after, **changes})

    def signed_next(self, current: Charter, *signers: Ed25519PrivateKey, **changes: Any) -> bytes:
        keys = signers or tuple(person.root for person in self.people)
        return sign(PayloadType.CHARTER, self.next_json(current, **changes), *keys)

    @property
    def household(self) -> str:
        return self.charter().household

    # What owners sign

    def scope(self, **changes: Any) -> Scope:
        usual = Scope(
            mode=Mode.LIVE,
            cameras=("front",),
            not_before_ns=NOON - 60 * SECOND_NS,
            not_after_ns=NOON - 60 * SECOND_NS + HOUR_NS,
            areas=("street",),
            max_height=480,
            max_fps=10,
            session_seconds=60,
            total_seconds=120,
            sessions=3,
            viewers=1,
        )
        return replace(usual, **changes)

    def token(self, *, scope: dict[str, Any] | None = None, **changes: Any) -> Token:
        usual = Token(
            id="",
            household=self.household,
            device=self.keys.device,
            agency=POLICE.key_id,
            operators=(),
            re=None,
            purpose=Purpose(PurposeKind.INCIDENT, "CASE-1"),
            scope=self.scope(**(scope or {})),
            terms=TERMS,
            epoch=0,
            nonce=nonce("token"),
        )
        made = replace(usual, **changes)
        return replace(made, id=envelope.document_id(made.payload()))

    def signed_token(
        self, *signers: Ed25519PrivateKey, scope: dict[str, Any] | None = None, **changes: Any
    ) -> bytes:
        keys = signers or (ANN.daily(),)
        return sign(PayloadType.TOKEN, self.token(scope=scope, **changes).payload(), *keys)

    def revocation(self, **changes: Any) -> Revocation:
        usual = Revocation("", self.household, None, None, nonce("revocation"))
        return replace(usual, **changes)

    def signed_revocation(self, *signers: Ed25519PrivateKey, **changes: Any) -> bytes:
        return sign(
            PayloadType.REVOCATION, self.revocation(**changes).payload(), *(signers or (BEN.daily(),))
        )

    def signed_shutter(
        self, state: ShutterState, *signers: Ed25519PrivateKey, name: str = "shutter", **changes: Any
    ) -> bytes:
        shutter = replace(Shutter("", self.household, state, nonce(f"{name} {state}")), **changes)
        return sign(PayloadType.SHUTTER, shutter.payload(), *(signers or (ANN.daily(),)))

    def signed_dismissal(self, request: Request, *signers: Ed25519PrivateKey, **changes: Any) -> bytes:
        usual = Dismissal("", self.household, request.id, nonce(f"dismissal {request.id}"))
        return sign(PayloadType.DISMISSAL, replace(usual, **changes).payload(), *(signers or (BEN.daily(),)))

    def signed_block(
        self, state: BlockState, *signers: Ed25519PrivateKey, body: Body = POLICE, name: str = "block"
    ) -> bytes:
        block = Block("", self.household, body.key_id, state, nonce(f"{name} {state}"))
        return sign(PayloadType.BLOCK, block.payload(), *(signers or (ANN.daily(),)))

    def act(self, challenge: bytes, key: Ed25519PrivateKey, *documents: bytes, **changes: Any) -> Act:
        usual = Act(
            id="",
            signer=id_of(key),
            device=self.keys.device,
            household=self.household,
            challenge=challenge,
            signed_at_ns=NOON,
            seen=None,
            documents=documents,
        )
        return replace(usual, **changes)

    def pairing(self, code: str, challenge: bytes, **changes: Any) -> Pairing:
        usual = Pairing(
            signer=id_of(ANN.root),
            device=self.keys.device,
            code=code,
            challenge=challenge,
            signed_at_ns=NOON,
            charter=self.signed_charter(),
        )
        return replace(usual, **changes)

    def read(self, challenge: bytes, key: Ed25519PrivateKey, **changes: Any) -> Read:
        usual = Read(
            id="",
            signer=id_of(key),
            device=self.keys.device,
            household=self.household,
            challenge=challenge,
            signed_at_ns=NOON,
            camera="front",
            from_ns=NOON - HOUR_NS,
            to_ns=NOON,
        )
        return replace(usual, **changes)

    # What an agency's operator signs

    def request(
        self, *, body: Body = POLICE, operator: str = "Kim", name: str = "request", **changes: Any
    ) -> Request:
        usual = Request(
            id="",
            badge=body.badge(operator),
            badge_envelope=body.signed_badge(operator),
            device=self.keys.device,
            household=self.household,
            mode=Mode.LIVE,
            camera="front",
            purpose=Purpose(PurposeKind.INCIDENT, "CASE-1"),
            seconds=60,
            max_height=720,
            max_fps=30,
            areas=(),
            tokens=(),
            issued_at_ns=NOON,
            expires_at_ns=NOON + HOUR_NS,
            nonce=nonce(name),
            reply_key=public(x(f"{name} reply")),
        )
        made = replace(usual, **changes)
        return replace(made, id=envelope.document_id(made.payload()))

    def offer(
        self,
        request: Request,
        granted: Token,
        *,
        body: Body = POLICE,
        operator: str = "Kim",
        name: str = "offer",
        **changes: Any,
    ) -> Offer:
        usual = Offer(
            id="",
            badge=body.badge(operator),
            badge_envelope=body.signed_badge(operator),
            device=self.keys.device,
            household=self.household,
            request=request.id,
            token=granted.id,
            terms=granted.terms,
            sdp=SDP,
            issued_at_ns=NOON,
            expires_at_ns=NOON + 30 * SECOND_NS,
            nonce=nonce(name),
            reply_key=public(x(f"{name} reply")),
        )
        made = replace(usual, **changes)
        return replace(made, id=envelope.document_id(made.payload()))


def signed_request(request: Request, operator: str = "Kim") -> bytes:
    return sign(PayloadType.REQUEST, request.payload(), ed(operator))


def signed_offer(offer: Offer, operator: str = "Kim") -> bytes:
    return sign(PayloadType.OFFER, offer.payload(), ed(operator))


def verified_request(home: Home, charter: Charter, **changes: Any) -> Request:
    """A request as the device holds it: signed, parsed, verified."""
    body = changes.get("body", POLICE)
    agency = charter.agency(body.key_id)
    assert agency is not None
    return handshake.verify_request(
        signed_request(home.request(**changes), changes.get("operator", "Kim")), agency
    )


def verified_token(home: Home, charter: Charter, *signers: Ed25519PrivateKey, **changes: Any) -> Token:
    return token.verify(home.signed_token(*signers, **changes), charter)


SEEN_NOTHING = Seen(0, sha256(b"").digest())
