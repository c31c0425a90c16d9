"""The consent token: the owners' signed permission to one agency for one device. And its revocation.

A missing field takes the narrowest meaning: no areas show nothing, no ``viewers`` means one, no
``max_height`` the smallest picture. A token is accepted once, at the granting threshold; daily keys alone
grant within the charter's daily limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.consent import envelope, strict_json, times
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, choice_item, encode_bytes, key_id_item, name_item
from agent.consent.footage import parse_scope
from agent.consent.rules import Mode, PurposeKind
from agent.consent.view import Redaction
from agent.consent.windows import Weekly
from agent.errors import DocumentError, SignatureError

if TYPE_CHECKING:
    from agent.consent.charter import Charter
    from agent.consent.footage import FootageScope

MAX_BYTES: Final = 32 * 1024
"""Of a token's envelope, so that a decision can carry it to the agency."""

MAX_SECONDS: Final = 366 * 24 * 3600
SMALLEST_HEIGHT: Final = 240
LARGEST_HEIGHT: Final = 2160
NONCE_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why: a kind, a short reference in clear (a case number), and the salted hash of a longer statement."""

    kind: PurposeKind
    reference: str
    statement: str | None = None

    @classmethod
    def parse(cls, value: object, where: str) -> Purpose:
        """Read it from a document.

        Raises:
            DocumentError: Malformed.
        """
        fields = Fields(value, where)
        purpose = cls(
            fields.choice("kind", PurposeKind),
            fields.text("reference", max_chars=60),
            fields.key_id("statement") if fields.has("statement") else None,
        )
        fields.done()
        return purpose

    def to_json(self) -> dict[str, object]:
        """As it stands in documents."""
        value: dict[str, object] = {"kind": str(self.kind), "reference": self.reference}
        if self.statement is not None:
            value["statement"] = self.statement
        return value


@dataclass(frozen=True, slots=True)
class Terms:
    """What the agency promises by using the token; it repeats them word for word in every offer."""

    forwarding: bool
    analysis: bool
    retention_days: int

    @classmethod
    def parse(cls, value: object, where: str) -> Terms:
        """Read them from a document.

        Raises:
            DocumentError: Malformed.
        """
        fields = Fields(value, where)
        terms = cls(
            fields.boolean("forwarding"),
            fields.boolean("analysis"),
            fields.integer("retention_days", 0, 36_500),
        )
        fields.done()
        return terms

    def to_json(self) -> dict[str, object]:
        """As they stand in documents."""
        return {
            "forwarding": self.forwarding,
            "analysis": self.analysis,
            "retention_days": self.retention_days,
        }


@dataclass(frozen=True, slots=True)
class Scope:
    """What the token shows, when, how much of it, and to how many. Times are UTC nanoseconds."""

    mode: Mode
    cameras: tuple[str, ...]
    not_before_ns: int
    not_after_ns: int
    areas: tuple[str, ...] = ()
    redaction: frozenset[Redaction] = frozenset()
    max_height: int = SMALLEST_HEIGHT
    max_fps: int = 1
    session_seconds: int = 0
    total_seconds: int = 0
    sessions: int = 1
    viewers: int = 1
    needs_alarm: bool = False
    windows: Weekly | None = None  # None: at any hour
    footage: FootageScope | None = None  # of mode footage; None: nothing

    @classmethod
    def parse(cls, value: object, where: str) -> Scope:
        """Read it from a token.

        Raises:
            DocumentError: Malformed, or a window that ends before it begins.
        """
        fields = Fields(value, where)

        def number(name: str, low: int, high: int, missing: int) -> int:
            return fields.integer(name, low, high) if fields.has(name) else missing

        session_seconds = number("session_seconds", 0, MAX_SECONDS, 0)
        scope = cls(
            mode=fields.choice("mode", Mode),
            cameras=fields.items("cameras", name_item, most=64),
            not_before_ns=fields.time("not_before"),
            not_after_ns=fields.time("not_after"),
            areas=fields.items("areas", name_item, most=64) if fields.has("areas") else (),
            redaction=frozenset(fields.items("redaction", choice_item(Redaction), most=2))
            if fields.has("redaction")
            else frozenset(),
            max_height=number("max_height", 1, LARGEST_HEIGHT, SMALLEST_HEIGHT),
            max_fps=number("max_fps", 1, 120, 1),
            session_seconds=session_seconds,
            total_seconds=number("total_seconds", 0, MAX_SECONDS, session_seconds),
            sessions=number("sessions", 1, 1_000_000, 1),
            viewers=number("viewers", 1, 64, 1),
            needs_alarm=fields.boolean("needs_alarm") if fields.has("needs_alarm") else False,
            windows=fields.record("windows", Weekly.parse) if fields.has("windows") else None,
            footage=fields.record("footage", parse_scope) if fields.has("footage") else None,
        )
        fields.done()
        if scope.not_after_ns <= scope.not_before_ns:
            raise DocumentError(f"{where}: ends before it begins")
        if not scope.cameras:
            raise DocumentError(f"{where}.cameras: none (expected at least one)")
        if scope.footage is not None and scope.mode is not Mode.FOOTAGE:
            raise DocumentError(f"{where}.footage: of a token for {scope.mode}")
        return scope

    def to_json(self) -> dict[str, object]:
        """As it stands in a token."""
        value: dict[str, object] = {
            "mode": str(self.mode),
            "cameras": list(self.cameras),
            "not_before": times.written(self.not_before_ns),
            "not_after": times.written(self.not_after_ns),
            "areas": list(self.areas),
            "redaction": sorted(str(each) for each in self.redaction),
            "max_height": self.max_height,
            "max_fps": self.max_fps,
            "session_seconds": self.session_seconds,
            "total_seconds": self.total_seconds,
            "sessions": self.sessions,
            "viewers": self.viewers,
            "needs_alarm": self.needs_alarm,
        }
        if self.windows is not None:
            value["windows"] = self.windows.to_json()
        if self.footage is not None:
            value["footage"] = self.footage.to_json()
        return value


@dataclass(frozen=True, slots=True)
class Token:
    """A parsed consent token. Only `verify` makes one that counts."""

    id: str
    household: str
    device: str
    agency: str
    operators: tuple[str, ...]  # key ids; empty: every operator with a badge of the agency
    re: str | None
    purpose: Purpose
    scope: Scope
    terms: Terms
    epoch: int
    nonce: bytes

    def payload(self) -> bytes:
        """The bytes that owners sign."""
        value: dict[str, object] = {
            "from": self.household,
            "to": self.agency,
            "household": self.household,
            "device": self.device,
            "operators": list(self.operators),
            "purpose": self.purpose.to_json(),
            "scope": self.scope.to_json(),
            "terms": self.terms.to_json(),
            "epoch": self.epoch,
            "nonce": encode_bytes(self.nonce),
        }
        if self.re is not None:
            value["re"] = self.re
        return strict_json.dumps(value)


def parse(payload: bytes) -> Token:
    """Read a token's payload; says nothing about signatures.

    Raises:
        DocumentError: Not a token.
    """
    fields = Fields(strict_json.loads(payload), "token")
    household = fields.key_id("household")
    fields.constant("from", household)
    token = Token(
        id=envelope.document_id(payload),
        household=household,
        device=fields.key_id("device"),
        agency=fields.key_id("to"),
        operators=fields.items("operators", key_id_item, most=64),
        re=fields.key_id("re") if fields.has("re") else None,
        purpose=fields.record("purpose", Purpose.parse),
        scope=fields.record("scope", Scope.parse),
        terms=fields.record("terms", Terms.parse),
        epoch=fields.integer("epoch", 0, 2**31),
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    return token


def verify(data: bytes, charter: Charter) -> Token:
    """A token that this household's owners have granted.

    Checked in this order: the document, the household, the signatures against the granting threshold in
    distinct owners, then, where fewer root keys than the threshold signed, the daily limits.

    Raises:
        DocumentError: Not a token of this household, or too large.
        SignatureError: Too few owners, or more than daily keys may grant.
    """
    if len(data) > MAX_BYTES:
        raise DocumentError(f"token: too large (got {len(data)} bytes, expected at most {MAX_BYTES})")
    verified = envelope.verify(data, PayloadType.TOKEN, charter.owner_keys())
    token = parse(verified.payload)
    if token.household != charter.household:
        raise DocumentError("token: of another household")
    have = len(charter.owners_of(verified.signers))
    if have < charter.granting:
        raise SignatureError(f"token: too few owners (got {have}, expected {charter.granting})")
    by_root = verified.signers & charter.root_keys().keys()
    if len(charter.owners_of(by_root)) < charter.granting:
        check_daily_limits(token, charter)
    return token


def check_daily_limits(token: Token, charter: Charter) -> None:
    """Refuse what daily keys alone may not grant.

    Raises:
        SignatureError: More than the charter's daily limits; it needs root keys.
    """
    limits = charter.daily_limits
    if token.purpose.kind is PurposeKind.STANDING and not limits.standing:
        raise SignatureError("token: a standing token needs root keys (the charter's daily limit)")
    seconds = (token.scope.not_after_ns - token.scope.not_before_ns) // times.SECOND_NS
    if seconds > limits.max_seconds:
        raise SignatureError(
            f"token: too long for daily keys (got {seconds} s, expected at most {limits.max_seconds} s)"
        )


@dataclass(frozen=True, slots=True)
class Revocation:
    """Takes back one token, everything given to an agency, or everything. Any one owner may."""

    id: str
    household: str
    token: str | None
    agency: str | None
    nonce: bytes

    @property
    def everything(self) -> bool:
        """Whether it is about all agencies."""
        return self.token is None and self.agency is None

    def payload(self) -> bytes:
        """The bytes that an owner signs."""
        value: dict[str, object] = {
            "from": self.household,
            "to": "devices",
            "household": self.household,
            "nonce": encode_bytes(self.nonce),
        }
        if self.token is not None:
            value["token"] = self.token
        if self.agency is not None:
            value["agency"] = self.agency
        return strict_json.dumps(value)


def verify_revocation(data: bytes, charter: Charter) -> Revocation:
    """A revocation by any one owner.

    Raises:
        DocumentError: Not a revocation of this household.
        SignatureError: Nobody of the household signed it.
    """
    verified = envelope.verify(data, PayloadType.REVOCATION, charter.owner_keys())
    fields = Fields(strict_json.loads(verified.payload), "revocation")
    household = fields.key_id("household")
    fields.constant("from", household)
    fields.constant("to", "devices")
    revocation = Revocation(
        id=envelope.document_id(verified.payload),
        household=household,
        token=fields.key_id("token") if fields.has("token") else None,
        agency=fields.key_id("agency") if fields.has("agency") else None,
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    if revocation.household != charter.household:
        raise DocumentError("revocation: of another household")
    if revocation.token is not None and revocation.agency is not None:
        raise DocumentError("revocation: names a token and an agency (expected one of them, or neither)")
    return revocation
