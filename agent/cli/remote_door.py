"""An owner's way to a device elsewhere: HTTPS, pinned to what the device itself signs, never to an authority.

The certificate is whatever the device says in its signed description; the description is believed if this
client knows the device, or if its key is the one the owner compared (``--device-key``). Reading needs a
handle that one signed act without documents opens; it is asked for when the first read needs it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.cli.words import fingerprint
from agent.consent import acts, envelope
from agent.consent.acts import Act
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields
from agent.errors import IntegrityError, MalformedInput, Refused
from agent.ledger.checkpoint import origin_of
from agent.link.remote import RemoteDoor, certificate_fingerprint
from agent.operations import NEEDS, Needs, Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.cli.client import Signer
    from agent.cli.seen import SeenFile
    from agent.consent.acts import Descriptor


SHOWN_DIGITS: Final = 32
"""How many digits of a key people are shown, and compare."""


class RemoteOwnerDoor:
    """The operations of one device over its HTTPS door (`agent.cli.client.DoorClient`)."""

    def __init__(self, url: str, keys: Callable[[], Signer], seen: SeenFile, *, expected: str | None) -> None:
        """``keys`` is called once something must be signed; ``expected`` is the device key that was compared.

        Raises:
            Unreachable: Nobody answers at ``url``.
            IntegrityError: Not the device that this client knows, or another certificate than it signs for.
            Refused: An unknown device, and nothing to know it by.
        """
        shown = asyncio.run(certificate_fingerprint(url))
        self._door = RemoteDoor(url, fingerprint=shown)
        self._keys = keys
        self._seen = seen
        self._handle: str | None = None
        _, blob = self._door.call_blocking(str(Operation.DEVICE))
        self._descriptor = _believed(acts.verify_descriptor(blob), shown, seen, expected)

    def call(
        self, operation: Operation, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        """Perform one operation: its result and its bytes."""
        args = dict(args or {})
        if NEEDS[operation] is Needs.READER:
            args["handle"] = self._handle or self._enter()
        return self._door.call_blocking(str(operation), args, blob)

    def _enter(self) -> str:
        """Sign an act that brings nothing; the device knows then who reads, and what its reader has seen."""
        keys = self._keys()
        memory = self._seen.get(self._descriptor.device)
        if memory is None:
            raise Refused(
                "this client does not know this device",
                reason="unknown",
                hint="pair with it, or use the key file that did: --key-file FILE",
            )
        result, _ = self._door.call_blocking(str(Operation.CHALLENGE))
        act = Act(
            id="",
            signer=keys.signing_id,
            device=self._descriptor.device,
            household=memory.household,
            challenge=Fields(result, "challenge").data("challenge", max_bytes=acts.CHALLENGE_BYTES),
            signed_at_ns=clock.wall_ns(),
            seen=memory.seen,
            documents=(),
        )
        signed = envelope.sign(PayloadType.ACT, act.payload(), [keys.signing])
        result, blob = self._door.call_blocking(str(Operation.SESSION), {}, signed)
        said = acts.verify_acknowledgement(blob, memory.signing)
        device = self._descriptor.device
        self._seen.advance(
            device, memory.household, memory.signing, said.checkpoint, origin_of(device), said.consistency
        )
        self._handle = Fields(result, "session").text("handle", max_chars=64)
        return self._handle


def compare(typed: str, device: str) -> None:
    """Hold a device's key against the one that a person compared: all its digits, or the 32 that are shown.

    Raises:
        MalformedInput: Fewer digits than that.
        IntegrityError: Another device.
    """
    digits = "".join(typed.split()).removeprefix("sha256:").lower()
    if len(digits) < SHOWN_DIGITS:
        raise MalformedInput(f"device key: got {len(digits)} digits, expected {SHOWN_DIGITS}")
    if not device.removeprefix("sha256:").startswith(digits):
        raise IntegrityError(
            f"this is another device (its key is {fingerprint(device)})",
            hint="compare with the key on its label or terminal; do not go on with it",
        )


def _believed(descriptor: Descriptor, shown: str, seen: SeenFile, expected: str | None) -> Descriptor:
    """The description, if it is of the device we mean and of the certificate it came with."""
    if expected is not None:
        compare(expected, descriptor.device)
    if expected is None and seen.get(descriptor.device) is None:
        raise Refused(
            f"this client does not know the device at this address "
            f"(its key is {fingerprint(descriptor.device)})",
            reason="unknown",
            hint="compare that key with its label or terminal, then: doorward pair --device-key 'DIGITS' …",
        )
    if descriptor.tls_fingerprint != shown:
        raise IntegrityError(
            f"the device signs for another certificate than was shown "
            f"(got {shown[:19]}…, expected {str(descriptor.tls_fingerprint)[:19]}…)",
            hint="somebody stands between you and the device",
        )
    return descriptor
