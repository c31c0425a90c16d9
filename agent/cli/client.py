"""An owner's client: one device through either door, acts signed, answers held against its memory."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from agent.consent import acts, charter, envelope
from agent.consent.acts import Act, Descriptor
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, data_item, decode_bytes
from agent.errors import DocumentError, IntegrityError, Refused
from agent.ledger.checkpoint import origin_of
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.cli.seen import Memory, SeenFile
    from agent.consent.acts import Acknowledgement
    from agent.consent.charter import Charter


class DoorClient(Protocol):
    """Either door."""

    def call(
        self, operation: Operation, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        """Perform one operation: its result and its bytes."""


class Signer(Protocol):
    """An owner's key that signs acts: daily or root."""

    @property
    def signing(self) -> Ed25519PrivateKey:
        """The private key."""

    @property
    def signing_id(self) -> str:
        """Its id."""


@dataclass(frozen=True, slots=True)
class Found:
    """The device at the other end of the door, as it describes itself, verified."""

    descriptor: Descriptor
    paired: bool
    cameras: tuple[str, ...]


class Client:
    """One device, for as long as a command runs."""

    def __init__(self, door: DoorClient, seen: SeenFile | None) -> None:
        self.door = door
        self.seen = seen

    def find(self) -> Found:
        """Ask the device who it is.

        Raises:
            IntegrityError: It is not who this client knows under that id.
        """
        result, blob = self.door.call(Operation.DEVICE)
        descriptor = acts.verify_descriptor(blob)
        cameras = result.get("cameras")
        names = tuple(str(each) for each in cameras) if isinstance(cameras, list) else ()
        return Found(descriptor, descriptor.household is not None, names)

    def need_memory(self, found: Found) -> Memory:
        """What this client knows of the device.

        Raises:
            Refused: It does not know it: pair first, or this key belongs to another household.
        """
        memory = self.seen.get(found.descriptor.device) if self.seen else None
        if memory is None:
            raise Refused(
                "this client does not know this device",
                reason="unknown",
                hint="pair with it, or use the key file that did: --key-file FILE",
            )
        return memory

    def challenge(self) -> bytes:
        """A fresh challenge of the device."""
        result, _ = self.door.call(Operation.CHALLENGE)
        fields = Fields(result, "challenge")
        return fields.data("challenge", max_bytes=acts.CHALLENGE_BYTES)

    def charter(self) -> tuple[Charter, bytes]:
        """The charter in force, as the device shows it, with its envelope.

        Signed versions are verified by whoever signs the next one: see `charter.verify_next`.
        """
        _, blob = self.door.call(Operation.CHARTER)
        kind, payload = envelope.unverified_payload(blob)
        if kind != PayloadType.CHARTER:
            raise DocumentError("device: what it calls its charter is none")
        parsed = charter.parse(payload)
        verified = envelope.verify(blob, PayloadType.CHARTER, parsed.root_keys())
        if len(parsed.owners_of(verified.signers)) < parsed.governing:
            raise IntegrityError("charter: the device shows one that its owners have not signed")
        return parsed, blob

    def act(self, keys: Signer, documents: Sequence[bytes]) -> Acknowledgement:
        """Hand documents to the device, now; its verified acknowledgement.

        Raises:
            DoorwardError: What the device says against it.
            IntegrityError: Its ledger is not the one this client has seen.
        """
        found = self.find()
        memory = self.need_memory(found)
        act = Act(
            id="",
            signer=keys.signing_id,
            device=found.descriptor.device,
            household=memory.household,
            challenge=self.challenge(),
            signed_at_ns=clock.wall_ns(),
            seen=memory.seen,
            documents=tuple(documents),
        )
        signed = envelope.sign(PayloadType.ACT, act.payload(), [keys.signing])
        _, blob = self.door.call(Operation.ACT, {}, signed)
        acknowledgement = acts.verify_acknowledgement(blob, memory.signing)
        expected = envelope.document_id(act.payload())
        if acknowledgement.act != expected:
            raise IntegrityError("acknowledgement: of another act")
        self.remember(found, memory.household, memory.signing, acknowledgement)
        return acknowledgement

    def remember(
        self, found: Found, household: str, signing: bytes, acknowledgement: Acknowledgement
    ) -> None:
        """Take the checkpoint of an acknowledgement into this client's memory.

        Raises:
            ProofError: It does not follow from what this client holds: the ledger was changed.
        """
        if self.seen is None:
            raise RuntimeError("client: no memory")
        device = found.descriptor.device
        self.seen.advance(
            device,
            household,
            signing,
            acknowledgement.checkpoint,
            origin_of(device),
            acknowledgement.consistency,
        )

    def advance(self, found: Found, household: str, signing: bytes) -> Memory:
        """Take the device's newest checkpoint into this client's memory, if it follows from what it holds.

        Raises:
            ProofError: It does not: the ledger was changed or rolled back.
        """
        if self.seen is None:
            raise RuntimeError("client: no memory to advance")
        device = found.descriptor.device
        # The remote door learns a newer checkpoint by itself when it opens: only then ask from there.
        self.door.call(Operation.CHECKPOINT)
        known = self.seen.get(device)
        result, _ = self.door.call(Operation.CONSISTENCY, {"old": max(1, known.size if known else 1)})
        fields = Fields(result, "consistency")
        proof = fields.items("proof", data_item)
        note = fields.multiline("checkpoint", max_chars=4096)
        return self.seen.advance(device, household, signing, note, origin_of(device), proof)


def nonce() -> bytes:
    """A fresh nonce for a document."""
    return secrets.token_bytes(16)


def entry_bytes(value: object, where: str) -> bytes:
    """The bytes of an entry as a device lists it."""
    if not isinstance(value, str):
        raise DocumentError(f"{where}: no entry")
    return decode_bytes(value, where)
