"""Who the agency is and who works there: its keys, its card, its operators' keys and badges.

Private keys are raw bytes in files of mode 0600 beside the store, without a passphrase (in this version).
Whoever can read them can speak as the agency; a household that loses its trust revokes the agency.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.agency.store import OperatorRow, Store
from agent.agency.words import clock
from agent.consent import envelope
from agent.consent.charter import Agency, Answers
from agent.consent.envelope import PayloadType
from agent.consent.handshake import MAX_BADGE_NS, Badge, verify_badge
from agent.consent.introduction import Card
from agent.consent.times import SECOND_NS
from agent.errors import ConfigError, DocumentError, IntegrityError, Refused, StorageError

if TYPE_CHECKING:
    from pathlib import Path

BADGE_BACKDATED_NS: Final = 5 * 60 * SECOND_NS
"""A badge begins a little earlier than now: no device's clock agrees with ours to the second."""

_KEY_BYTES: Final = 32
_SIGNING: Final = "agency-signing"
_SEAL: Final = "agency-seal"
_OTHERS: Final = 0o077
_MAX_NAME: Final = 100
_MAX_PERSON: Final = 60
_MAX_NUMBER: Final = 20


@dataclass(frozen=True, slots=True)
class Identity:
    """The agency with its private keys."""

    name: str
    signing: Ed25519PrivateKey
    seal: X25519PrivateKey

    @property
    def agency(self) -> Agency:
        """As the functions that verify our own documents want it."""
        return Agency(
            self.name,
            self.signing.public_key().public_bytes_raw(),
            self.seal.public_key().public_bytes_raw(),
            Answers.PENDING,
            1,
        )

    @property
    def key_id(self) -> str:
        """The agency's id: the id of its signing key."""
        return self.agency.key_id

    def card(self) -> bytes:
        """The envelope of the agency's card, signed by itself."""
        own = self.agency
        card = Card(own.name, own.signing, own.seal)
        return envelope.sign(PayloadType.CARD, card.payload(), [self.signing])


@dataclass(frozen=True, slots=True)
class Operator:
    """A person at the desk: their key, and the badge that vouches for it."""

    key: Ed25519PrivateKey
    badge: Badge
    badge_envelope: bytes


def found(directory: Path, name: str) -> Store:
    """Make a new agency called ``name``: keys and an empty store.

    Raises:
        ConfigError: No name that documents can carry.
        Refused: There is an agency in ``directory`` already.
        StorageError: It cannot be written.
    """
    _check_text(name, "agency name", _MAX_NAME)
    store = Store.create(directory, name)
    _write_key(directory, _SIGNING, Ed25519PrivateKey.generate().private_bytes_raw())
    _write_key(directory, _SEAL, X25519PrivateKey.generate().private_bytes_raw())
    return store


def load(store: Store) -> Identity:
    """The agency whose store this is.

    Raises:
        IntegrityError: A key file is missing or damaged.
        StorageError: It cannot be read, or others can.
    """
    return Identity(
        store.name,
        Ed25519PrivateKey.from_private_bytes(_read_key(store.directory, _SIGNING)),
        X25519PrivateKey.from_private_bytes(_read_key(store.directory, _SEAL)),
    )


def give_badge(store: Store, identity: Identity, *, name: str, number: str, days: int, now_ns: int) -> Badge:
    """A new badge for the person with this number; their key is made with the first one and stays.

    Raises:
        ConfigError: No name or number that documents can carry, or more than seven days.
        Refused: The number belongs to somebody else.
    """
    _check_text(name, "operator", _MAX_PERSON)
    _check_text(number, "number", _MAX_NUMBER)
    most = MAX_BADGE_NS // (24 * 3600 * SECOND_NS)
    if not 1 <= days <= most:
        raise ConfigError(f"badge: days (got {days}, expected 1..{most})")
    known = next((each for each in store.operators() if each.number == number), None)
    if known is not None and known.name != name:
        raise Refused(
            f"badge number {number}: belongs to {known.name}",
            reason="exists",
            hint="give every operator a number of their own",
        )
    if known is None:
        key = Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes_raw()
        _write_key(store.directory, _key_file(envelope.key_id(public)), key.private_bytes_raw())
    else:
        public = _operator_key(store, known.key_id).public_key().public_bytes_raw()
    not_before_ns = (now_ns - BADGE_BACKDATED_NS) // SECOND_NS * SECOND_NS
    lifetime_ns = min(days * 24 * 3600 * SECOND_NS + BADGE_BACKDATED_NS, MAX_BADGE_NS)
    badge = Badge(identity.key_id, name, number, public, not_before_ns, not_before_ns + lifetime_ns)
    signed = envelope.sign(PayloadType.BADGE, badge.payload(), [identity.signing])
    badge = verify_badge(signed, identity.agency)
    store.put_operator(OperatorRow(number, name, badge.operator, signed))
    return badge


def operator(store: Store, identity: Identity, number: str | None, now_ns: int) -> Operator:
    """The operator with this badge number, or the only one there is.

    Raises:
        ConfigError: Nobody has that number, or there are several to choose from.
        Refused: Their badge is not valid now; no device would hear them.
        IntegrityError: What is stored is not what this agency signed.
    """
    row = _chosen(store, number)
    try:
        badge = verify_badge(row.badge, identity.agency)
    except DocumentError as error:
        raise IntegrityError(f"badge of {row.name}: {error}", hint="give them a new one") from error
    if not badge.not_before_ns <= now_ns < badge.not_after_ns:
        ends = clock(badge.not_after_ns, now_ns)
        raise Refused(
            f"badge of {badge.name}: not valid now (it ends {ends}, this computer says {clock(now_ns, 0)})",
            reason="bad-badge",
            hint=f"renew it: doorward agency badge --operator {badge.name!r} --number {badge.number}",
        )
    return Operator(_operator_key(store, row.key_id), badge, row.badge)


def _chosen(store: Store, number: str | None) -> OperatorRow:
    rows = store.operators()
    if number is not None:
        rows = [row for row in rows if row.number == number]
    if not rows:
        raise ConfigError(
            "operator: there is none" if number is None else f"operator: nobody has number {number[:40]}",
            hint="doorward agency badge --operator NAME --number N",
        )
    if len(rows) > 1:
        numbers = ", ".join(row.number for row in rows)
        raise ConfigError(f"operator: there are several (numbers {numbers})", hint="say which: --operator N")
    return rows[0]


def _operator_key(store: Store, key_id: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(_read_key(store.directory, _key_file(key_id)))


def _key_file(key_id: str) -> str:
    return f"operator-{envelope.short(key_id)}"


def _check_text(text: str, what: str, most: int) -> None:
    if not 0 < len(text) <= most or not text.isprintable():
        raise ConfigError(f"{what}: got {text[:40]!r}, expected one line of 1 to {most} characters")


def _write_key(directory: Path, name: str, data: bytes) -> None:
    """Written beside and renamed: the name appears with its content or not at all."""
    keys = directory / "keys"
    beside = keys / f"{name}.new"
    try:
        keys.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.rename(keys / name)
    except OSError as error:
        raise StorageError(f"key file {keys / name}: {error.strerror}") from error


def _read_key(directory: Path, name: str) -> bytes:
    path = directory / "keys" / name
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise IntegrityError(f"key file {path}: missing", hint="put it back from a backup") from error
    except OSError as error:
        raise StorageError(f"key file {path}: {error.strerror}") from error
    if mode & _OTHERS:
        raise StorageError(
            f"key file {path}: others can read it (mode {mode & 0o777:o}, expected 600)",
            hint=f"if nobody has: chmod 600 {path}",
        )
    if len(data) != _KEY_BYTES:
        raise IntegrityError(
            f"key file {path}: damaged (got {len(data)} bytes, expected {_KEY_BYTES})",
            hint="put it back from a backup",
        )
    return data
