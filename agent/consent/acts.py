"""Documents between owners and a device: pairing, act, shutter, read; descriptor, acknowledgement back.

Timeless documents (charter, token, revocation, shutter) may be signed anywhere and collected over days. They
reach a device inside an ``act``: one owner's signature over a fresh challenge of that device, their own clock
(``signed_at``), the newest checkpoint their client holds (``seen``), and the documents. So an act cannot be
replayed, gives the device authenticated time, and tells it whether its ledger was rolled back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.consent import envelope, strict_json, times
from agent.consent.charter import verify_genesis
from agent.consent.envelope import PayloadType, Verified
from agent.consent.fields import Fields, data_item, encode_bytes
from agent.consent.token import NONCE_BYTES
from agent.errors import DocumentError, SignatureError

if TYPE_CHECKING:
    from agent.consent.charter import Charter

PAIRING_SENDER: Final = "owner"
"""Who a sealed pairing comes from, as HPKE binds it: nobody's key is known yet."""

PAIRING_TOPIC: Final = "pairing"
CHALLENGE_BYTES: Final = 16
ROOT_BYTES: Final = 32
MAX_DOCUMENTS: Final = 8
MAX_PROOF: Final = 64


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest checkpoint a client holds: tree size and root hash. Size 0 has seen nothing."""

    size: int
    root: bytes

    @classmethod
    def parse(cls, value: object, where: str) -> Seen:
        """Read it from an act.

        Raises:
            DocumentError: Malformed.
        """
        fields = Fields(value, where)
        seen = cls(fields.integer("size", 0, 2**53 - 1), fields.fixed("root", ROOT_BYTES))
        fields.done()
        return seen

    def to_json(self) -> dict[str, object]:
        """As it stands in an act."""
        return {"size": self.size, "root": encode_bytes(self.root)}


@dataclass(frozen=True, slots=True)
class Act:
    """One owner hands documents to one device, now."""

    id: str
    signer: str
    device: str
    household: str
    challenge: bytes
    signed_at_ns: int
    seen: Seen | None
    documents: tuple[bytes, ...]

    def payload(self) -> bytes:
        """The bytes that the owner signs."""
        value: dict[str, object] = {
            "from": self.signer,
            "to": self.device,
            "household": self.household,
            "challenge": encode_bytes(self.challenge),
            "signed_at": times.written(self.signed_at_ns),
            "documents": [encode_bytes(document) for document in self.documents],
        }
        if self.seen is not None:
            value["seen"] = self.seen.to_json()
        return strict_json.dumps(value)


def _signer(fields: Fields, signers: frozenset[str], where: str) -> str:
    """The ``from`` of a document must be the key that signed it."""
    signer = fields.key_id("from")
    if signer not in signers:
        raise SignatureError(f"{where}: not signed by the key it names")
    return signer


def verify_act(data: bytes, charter: Charter) -> Act:
    """An act by any one owner, root or daily key. The documents inside are not looked at.

    Raises:
        DocumentError: Malformed, or of another household.
        SignatureError: Not signed by a key of this household.
    """
    verified = envelope.verify(data, PayloadType.ACT, charter.owner_keys())
    fields = Fields(strict_json.loads(verified.payload), "act")
    act = Act(
        id=envelope.document_id(verified.payload),
        signer=_signer(fields, verified.signers, "act"),
        device=fields.key_id("to"),
        household=fields.key_id("household"),
        challenge=fields.fixed("challenge", CHALLENGE_BYTES),
        signed_at_ns=fields.time("signed_at"),
        seen=fields.record("seen", Seen.parse) if fields.has("seen") else None,
        documents=fields.items("documents", data_item, most=MAX_DOCUMENTS),
    )
    fields.done()
    if act.household != charter.household:
        raise DocumentError("act: of another household")
    return act


@dataclass(frozen=True, slots=True)
class Read:
    """One owner asks for sealed footage of one camera in [from_ns, to_ns), UTC nanoseconds; ledgered."""

    id: str
    signer: str
    device: str
    household: str
    challenge: bytes
    signed_at_ns: int
    camera: str
    from_ns: int
    to_ns: int

    def payload(self) -> bytes:
        """The bytes that the owner signs."""
        return strict_json.dumps(
            {
                "from": self.signer,
                "to": self.device,
                "household": self.household,
                "challenge": encode_bytes(self.challenge),
                "signed_at": times.written(self.signed_at_ns),
                "camera": self.camera,
                "begin": times.written(self.from_ns),
                "end": times.written(self.to_ns),
            }
        )


def verify_read(data: bytes, charter: Charter) -> Read:
    """A read by any one owner.

    Raises:
        DocumentError: Malformed, of another household, or of an interval that ends before it begins.
        SignatureError: Not signed by a key of this household.
    """
    verified = envelope.verify(data, PayloadType.READ, charter.owner_keys())
    fields = Fields(strict_json.loads(verified.payload), "read")
    read = Read(
        id=envelope.document_id(verified.payload),
        signer=_signer(fields, verified.signers, "read"),
        device=fields.key_id("to"),
        household=fields.key_id("household"),
        challenge=fields.fixed("challenge", CHALLENGE_BYTES),
        signed_at_ns=fields.time("signed_at"),
        camera=fields.name("camera"),
        from_ns=fields.time("begin"),
        to_ns=fields.time("end"),
    )
    fields.done()
    if read.household != charter.household:
        raise DocumentError("read: of another household")
    if read.to_ns <= read.from_ns:
        raise DocumentError("read: ends before it begins")
    return read


class ShutterState(StrEnum):
    """The privacy shutter: closed suspends all sharing."""

    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Shutter:
    """Closes the shutter (any one owner) or opens it (granting threshold)."""

    id: str
    household: str
    state: ShutterState
    nonce: bytes

    def payload(self) -> bytes:
        """The bytes that owners sign."""
        return strict_json.dumps(
            {
                "from": self.household,
                "to": "devices",
                "household": self.household,
                "state": str(self.state),
                "nonce": encode_bytes(self.nonce),
            }
        )


def verify_shutter(data: bytes, charter: Charter) -> Shutter:
    """A shutter document; opening needs the granting threshold, closing any one owner.

    Raises:
        DocumentError: Malformed, or of another household.
        SignatureError: Too few owners for opening.
    """
    fields, verified = _open_switch(data, PayloadType.SHUTTER, charter, "shutter")
    shutter = Shutter(
        id=envelope.document_id(verified.payload),
        household=charter.household,
        state=fields.choice("state", ShutterState),
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    if shutter.state is ShutterState.OPEN:
        _need_granting(verified, charter, "shutter: opening it")
    return shutter


class AlarmState(StrEnum):
    """The household's alarm: while it is on, consents given for that case count."""

    RAISED = "raised"
    CLEARED = "cleared"


class BlockState(StrEnum):
    """Whether an agency is heard at all."""

    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"


@dataclass(frozen=True, slots=True)
class Alarm:
    """Raises the alarm (granting threshold) or clears it (any one owner)."""

    id: str
    household: str
    state: AlarmState
    nonce: bytes

    def payload(self) -> bytes:
        """The bytes that owners sign."""
        return strict_json.dumps(
            {
                "from": self.household,
                "to": "devices",
                "household": self.household,
                "state": str(self.state),
                "nonce": encode_bytes(self.nonce),
            }
        )


@dataclass(frozen=True, slots=True)
class Block:
    """Blocks an agency (any one owner) or hears it again (granting threshold)."""

    id: str
    household: str
    agency: str
    state: BlockState
    nonce: bytes

    def payload(self) -> bytes:
        """The bytes that owners sign."""
        return strict_json.dumps(
            {
                "from": self.household,
                "to": "devices",
                "household": self.household,
                "agency": self.agency,
                "state": str(self.state),
                "nonce": encode_bytes(self.nonce),
            }
        )


@dataclass(frozen=True, slots=True)
class Dismissal:
    """An owner's "not now" to one request. Whoever asked hears nothing of it; a consent may still follow."""

    id: str
    household: str
    request: str
    nonce: bytes

    def payload(self) -> bytes:
        """The bytes that an owner signs."""
        return strict_json.dumps(
            {
                "from": self.household,
                "to": "devices",
                "household": self.household,
                "request": self.request,
                "nonce": encode_bytes(self.nonce),
            }
        )


def _open_switch(data: bytes, kind: PayloadType, charter: Charter, where: str) -> tuple[Fields, Verified]:
    """What shutter, alarm, block and dismissal share: by owners of this household, to its devices."""
    verified = envelope.verify(data, kind, charter.owner_keys())
    fields = Fields(strict_json.loads(verified.payload), where)
    household = fields.key_id("household")
    fields.constant("from", household)
    fields.constant("to", "devices")
    if household != charter.household:
        raise DocumentError(f"{where}: of another household")
    return fields, verified


def _need_granting(verified: Verified, charter: Charter, what: str) -> None:
    have = len(charter.owners_of(verified.signers))
    if have < charter.granting:
        raise SignatureError(f"{what}: too few owners (got {have}, expected {charter.granting})")


def verify_alarm(data: bytes, charter: Charter) -> Alarm:
    """An alarm document; raising needs the granting threshold, clearing any one owner.

    Raises:
        DocumentError: Malformed, or of another household.
        SignatureError: Too few owners for raising.
    """
    fields, verified = _open_switch(data, PayloadType.ALARM, charter, "alarm")
    alarm = Alarm(
        id=envelope.document_id(verified.payload),
        household=charter.household,
        state=fields.choice("state", AlarmState),
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    if alarm.state is AlarmState.RAISED:
        _need_granting(verified, charter, "alarm: raising it")
    return alarm


def verify_block(data: bytes, charter: Charter) -> Block:
    """A block document; blocking needs any one owner, unblocking the granting threshold.

    Raises:
        DocumentError: Malformed, or of another household.
        SignatureError: Too few owners for unblocking.
    """
    fields, verified = _open_switch(data, PayloadType.BLOCK, charter, "block")
    block = Block(
        id=envelope.document_id(verified.payload),
        household=charter.household,
        agency=fields.key_id("agency"),
        state=fields.choice("state", BlockState),
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    if block.state is BlockState.UNBLOCKED:
        _need_granting(verified, charter, "block: taking it back")
    return block


def verify_dismissal(data: bytes, charter: Charter) -> Dismissal:
    """A dismissal by any one owner.

    Raises:
        DocumentError: Malformed, or of another household.
        SignatureError: Nobody of the household signed it.
    """
    fields, verified = _open_switch(data, PayloadType.DISMISSAL, charter, "dismissal")
    dismissal = Dismissal(
        id=envelope.document_id(verified.payload),
        household=charter.household,
        request=fields.key_id("request"),
        nonce=fields.fixed("nonce", NONCE_BYTES),
    )
    fields.done()
    return dismissal


@dataclass(frozen=True, slots=True)
class Pairing:
    """An owner's client founds the household with a fresh device: the code it shows, the first charter."""

    signer: str
    device: str
    code: str
    challenge: bytes
    signed_at_ns: int
    charter: bytes

    def payload(self) -> bytes:
        """The bytes that the owner's root key signs."""
        return strict_json.dumps(
            {
                "from": self.signer,
                "to": self.device,
                "code": self.code,
                "challenge": encode_bytes(self.challenge),
                "signed_at": times.written(self.signed_at_ns),
                "charter": encode_bytes(self.charter),
            }
        )


def verify_pairing(data: bytes) -> tuple[Pairing, Charter]:
    """A pairing signed with a root key of the charter it brings, and that charter, verified.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by a root key of the charter inside, or that charter lacks signatures.
    """
    _, payload = envelope.unverified_payload(data)
    charter_envelope = Fields(strict_json.loads(payload), "pairing").data("charter", max_bytes=40 * 1024)
    charter = verify_genesis(charter_envelope)
    verified = envelope.verify(data, PayloadType.PAIRING, charter.root_keys())
    fields = Fields(strict_json.loads(verified.payload), "pairing")
    pairing = Pairing(
        signer=_signer(fields, verified.signers, "pairing"),
        device=fields.key_id("to"),
        code=fields.text("code", max_chars=20),
        challenge=fields.fixed("challenge", CHALLENGE_BYTES),
        signed_at_ns=fields.time("signed_at"),
        charter=fields.data("charter", max_bytes=40 * 1024),
    )
    fields.done()
    return pairing, charter


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a device says of itself, signed: its keys, and whose it is."""

    device: str
    signing: bytes
    seal: bytes
    tls_fingerprint: str | None  # sha256: of the certificate the HTTPS door shows
    household: str | None
    charter_version: int | None

    def payload(self) -> bytes:
        """The bytes that the device signs."""
        value: dict[str, object] = {
            "from": self.device,
            "to": "anyone",
            "signing": encode_bytes(self.signing),
            "seal": encode_bytes(self.seal),
        }
        if self.tls_fingerprint is not None:
            value["tls_fingerprint"] = self.tls_fingerprint
        if self.household is not None:
            value["household"] = self.household
            value["charter_version"] = self.charter_version
        return strict_json.dumps(value)


def verify_descriptor(data: bytes) -> Descriptor:
    """A descriptor signed by the very key it names. Whose key that is, its fingerprint tells people.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by the key inside.
    """
    _, payload = envelope.unverified_payload(data)
    signing = Fields(strict_json.loads(payload), "descriptor").key("signing")
    own_id = envelope.key_id(signing)
    verified = envelope.verify(data, PayloadType.DESCRIPTOR, {own_id: signing})
    fields = Fields(strict_json.loads(verified.payload), "descriptor")
    fields.constant("from", own_id)
    fields.constant("to", "anyone")
    fields.key("signing")
    paired = fields.has("household")
    descriptor = Descriptor(
        device=own_id,
        signing=signing,
        seal=fields.seal_key("seal"),
        tls_fingerprint=fields.key_id("tls_fingerprint") if fields.has("tls_fingerprint") else None,
        household=fields.key_id("household") if paired else None,
        charter_version=fields.integer("charter_version", 1, 2**31) if paired else None,
    )
    fields.done()
    return descriptor


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The device's word that an act is durable: where it stands in the ledger, and the newest checkpoint.

    ``learned_boot_us`` is the moment (microseconds of CLOCK_BOOTTIME) at which the device knew; from then on
    what it stops is stopped.
    """

    device: str
    owner: str
    household: str
    act: str
    entries: tuple[int, ...]
    checkpoint: str
    consistency: tuple[bytes, ...]  # from what the act had seen to the checkpoint; empty if nothing
    learned_boot_us: int

    def payload(self) -> bytes:
        """The bytes that the device signs."""
        return strict_json.dumps(
            {
                "from": self.device,
                "to": self.owner,
                "household": self.household,
                "re": self.act,
                "entries": list(self.entries),
                "checkpoint": self.checkpoint,
                "consistency": [encode_bytes(each) for each in self.consistency],
                "learned_boot_us": self.learned_boot_us,
            }
        )


def _entry_number(value: object, where: str) -> int:
    if type(value) is not int or value < 0:
        raise DocumentError(f"{where} (got {value!r}, expected an entry's number)")
    return value


def verify_acknowledgement(data: bytes, device: bytes) -> Acknowledgement:
    """An acknowledgement that the device with signing key ``device`` has signed.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by that device.
    """
    own_id = envelope.key_id(device)
    verified = envelope.verify(data, PayloadType.ACKNOWLEDGEMENT, {own_id: device})
    fields = Fields(strict_json.loads(verified.payload), "acknowledgement")
    fields.constant("from", own_id)
    acknowledgement = Acknowledgement(
        device=own_id,
        owner=fields.key_id("to"),
        household=fields.key_id("household"),
        act=fields.key_id("re"),
        entries=fields.items("entries", _entry_number),
        checkpoint=fields.multiline("checkpoint", max_chars=4096),
        consistency=fields.items("consistency", data_item, most=MAX_PROOF),
        learned_boot_us=fields.integer("learned_boot_us", 0, 2**53 - 1),
    )
    fields.done()
    return acknowledgement
