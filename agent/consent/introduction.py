"""What an agency and a household may know of each other before anything is asked.

A *card* is the agency's: name and keys, signed by itself; owners compare its fingerprint out of band and put
it into the charter. An *introduction* is the household's: owners' decision keys, thresholds, devices and the
names of cameras and areas, so that the agency can check the household's documents. It names no person.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.consent import envelope, strict_json, times
from agent.consent.charter import Device
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes, name_item
from agent.errors import DocumentError, SignatureError

if TYPE_CHECKING:
    from agent.consent.charter import Charter


@dataclass(frozen=True, slots=True)
class Card:
    """An agency's own word on its keys."""

    name: str
    signing: bytes
    seal: bytes

    @property
    def agency(self) -> str:
        """The id of its signing key, whose digits people compare."""
        return envelope.key_id(self.signing)

    def payload(self) -> bytes:
        """The bytes that the agency signs."""
        return strict_json.dumps(
            {
                "from": self.agency,
                "to": "anyone",
                "name": self.name,
                "signing": encode_bytes(self.signing),
                "seal": encode_bytes(self.seal),
            }
        )


def verify_card(data: bytes) -> Card:
    """A card signed by the very key it names.

    Raises:
        DocumentError: Malformed.
        SignatureError: Not signed by the key inside.
    """
    _, payload = envelope.unverified_payload(data)
    signing = Fields(strict_json.loads(payload), "card").key("signing")
    own_id = envelope.key_id(signing)
    verified = envelope.verify(data, PayloadType.CARD, {own_id: signing})
    fields = Fields(strict_json.loads(verified.payload), "card")
    fields.constant("from", own_id)
    fields.constant("to", "anyone")
    fields.key("signing")
    card = Card(fields.text("name", max_chars=100), signing, fields.seal_key("seal"))
    fields.done()
    return card


@dataclass(frozen=True, slots=True)
class Decider:
    """One owner as an agency knows them: keys, no name."""

    root: bytes
    daily: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """One camera as an agency knows it: its device and the names of its areas."""

    name: str
    device: str
    areas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IntroducedDevice:
    """A device with the seal key for first contact."""

    device: Device
    seal: bytes


@dataclass(frozen=True, slots=True)
class Introduction:
    """What one agency may know of a household."""

    household: str
    agency: str
    deciders: tuple[Decider, ...]
    granting: int
    governing: int
    devices: tuple[IntroducedDevice, ...]
    cameras: tuple[Shown, ...]
    not_after_ns: int

    def payload(self) -> bytes:
        """The bytes that owners sign with their root keys."""
        return strict_json.dumps(
            {
                "from": self.household,
                "to": self.agency,
                "household": self.household,
                "deciders": [
                    {
                        "root": encode_bytes(decider.root),
                        "daily": [encode_bytes(key) for key in decider.daily],
                    }
                    for decider in self.deciders
                ],
                "granting": self.granting,
                "governing": self.governing,
                "devices": [
                    {
                        "name": each.device.name,
                        "signing": encode_bytes(each.device.signing),
                        "seal": encode_bytes(each.seal),
                    }
                    for each in self.devices
                ],
                "cameras": [
                    {"name": camera.name, "device": camera.device, "areas": list(camera.areas)}
                    for camera in self.cameras
                ],
                "not_after": times.written(self.not_after_ns),
            }
        )

    def device(self, key_id: str) -> IntroducedDevice | None:
        """The device with this key id, or None."""
        return next((each for each in self.devices if each.device.key_id == key_id), None)

    def signing_keys(self) -> dict[str, bytes]:
        """Every key that decides, by key id."""
        keys = {}
        for decider in self.deciders:
            for key in (decider.root, *decider.daily):
                keys[envelope.key_id(key)] = key
        return keys

    def distinct(self, signers: frozenset[str]) -> int:
        """How many distinct owners stand behind these keys."""
        return sum(
            1
            for decider in self.deciders
            if signers & {envelope.key_id(key) for key in (decider.root, *decider.daily)}
        )


def of_charter(charter: Charter, agency: str, seals: dict[str, bytes], not_after_ns: int) -> Introduction:
    """What this charter would tell ``agency``; ``seals`` holds the devices' seal keys by device key id."""
    return Introduction(
        household=charter.household,
        agency=agency,
        deciders=tuple(
            Decider(owner.root, tuple(key.signing for key in owner.daily)) for owner in charter.owners
        ),
        granting=charter.granting,
        governing=charter.governing,
        devices=tuple(
            IntroducedDevice(device, seals[device.key_id])
            for device in charter.devices
            if device.key_id in seals
        ),
        cameras=tuple(
            Shown(camera.name, camera.device, tuple(area.name for area in camera.areas))
            for camera in charter.cameras
        ),
        not_after_ns=not_after_ns,
    )


def _key(value: object, where: str) -> bytes:
    fields = Fields({"key": value}, where)
    return fields.key("key")


def _decider(value: object, where: str) -> Decider:
    fields = Fields(value, where)
    decider = Decider(fields.key("root"), fields.items("daily", _key, most=16))
    fields.done()
    return decider


def _introduced(value: object, where: str) -> IntroducedDevice:
    fields = Fields(value, where)
    introduced = IntroducedDevice(Device(fields.name("name"), fields.key("signing")), fields.seal_key("seal"))
    fields.done()
    return introduced


def _shown(value: object, where: str) -> Shown:
    fields = Fields(value, where)
    shown = Shown(fields.name("name"), fields.key_id("device"), fields.items("areas", name_item, most=64))
    fields.done()
    return shown


def parse_introduction(payload: bytes) -> Introduction:
    """Read an introduction's payload; says nothing about signatures.

    Raises:
        DocumentError: Not an introduction, or one that names a key twice.
    """
    fields = Fields(strict_json.loads(payload), "introduction")
    household = fields.key_id("household")
    fields.constant("from", household)
    introduction = Introduction(
        household=household,
        agency=fields.key_id("to"),
        deciders=fields.items("deciders", _decider, most=16),
        granting=fields.integer("granting", 1, 16),
        governing=fields.integer("governing", 1, 16),
        devices=fields.items("devices", _introduced, most=64),
        cameras=fields.items("cameras", _shown, most=64),
        not_after_ns=fields.time("not_after"),
    )
    fields.done()
    keys = [key for decider in introduction.deciders for key in (decider.root, *decider.daily)]
    if len(set(keys)) != len(keys):
        raise DocumentError("introduction: a public key stands twice (expected each once)")
    return introduction


def verify_introduction(data: bytes) -> Introduction:
    """An introduction signed by the governing threshold of the owners it names.

    It vouches for itself; whose household it is, an agency knows from who handed it over.

    Raises:
        DocumentError: Malformed.
        SignatureError: Too few of its owners signed with root keys.
    """
    kind, payload = envelope.unverified_payload(data)
    if kind != PayloadType.INTRODUCTION:
        raise DocumentError(f"introduction: another kind of document (got {kind[:60]!r})")
    introduction = parse_introduction(payload)
    roots = {envelope.key_id(decider.root): decider.root for decider in introduction.deciders}
    verified = envelope.verify(data, PayloadType.INTRODUCTION, roots)
    have = introduction.distinct(verified.signers)
    if have < introduction.governing:
        raise SignatureError(
            f"introduction: too few owners (got {have}, expected {introduction.governing} with root keys)"
        )
    return introduction
