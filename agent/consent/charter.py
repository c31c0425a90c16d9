"""The household's root document: who decides, who may ask, what there is to see, what always holds.

A charter is versioned. Version 1 is signed by every owner it names (nobody else could have agreed to it);
version n+1 must follow n exactly and reach the governing threshold of both, by root keys, counted in
distinct owners (as TUF's root rotates). The household's id is the document id of version 1.

Thresholds: ``granting`` owners sign what lets something out; ``governing`` owners, with root keys, sign what
changes the household. Any single owner may narrow: revoke, close the shutter, block.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.consent import envelope, strict_json
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes, polygon_item, show
from agent.consent.rules import Rule
from agent.errors import DocumentError, SignatureError

if TYPE_CHECKING:
    from hal.camera import Polygon

SELF: Final = "self"
"""What version 1 writes for the household's id, which is the id of these very bytes."""

DAY_S: Final = 24 * 3600

_KEY_NAME: Final = re.compile(r"[^\s+]{1,100}\Z")
_WITNESS_URL: Final = re.compile(
    r"(?:https://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])|http://(?:127\.0\.0\.1|\[::1\]))"
    r"(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~-]{1,100}){0,8}\Z",
    re.ASCII,
)


class Answers(StrEnum):
    """What an agency hears without a usable token."""

    PENDING = "pending"
    DENIED = "denied"


class Ice(StrEnum):
    """How media may reach an agency: through the charter's relay alone, or directly as well."""

    RELAY = "relay"
    ALL = "all"


class Rollback(StrEnum):
    """After a boot: wait for somebody who holds a checkpoint, or share at once and only warn."""

    CONFIRM = "confirm"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class DailyKey:
    """A key in a phone or computer: ``signing`` (Ed25519) decides within limits, ``archive`` opens."""

    label: str
    signing: bytes
    archive: bytes


@dataclass(frozen=True, slots=True)
class Owner:
    """A person of the household. ``root`` and ``recovery`` come from the recovery code on paper."""

    name: str
    root: bytes
    recovery: bytes
    daily: tuple[DailyKey, ...]


@dataclass(frozen=True, slots=True)
class Device:
    """One appliance of the household, by its signing key."""

    name: str
    signing: bytes

    @property
    def key_id(self) -> str:
        """The id of its signing key."""
        return envelope.key_id(self.signing)


@dataclass(frozen=True, slots=True)
class Agency:
    """An outside body the household has agreed to hear, by keys whose fingerprint was compared."""

    name: str
    signing: bytes
    seal: bytes
    answers: Answers
    max_seconds: int

    @property
    def key_id(self) -> str:
        """The id of its signing key."""
        return envelope.key_id(self.signing)


@dataclass(frozen=True, slots=True)
class NamedArea:
    """A part of a camera's picture that tokens may name."""

    name: str
    polygon: Polygon


@dataclass(frozen=True, slots=True)
class CameraEntry:
    """One camera: its device, what must never be seen, and the areas that may be shared."""

    name: str
    device: str
    never: tuple[Polygon, ...]
    areas: tuple[NamedArea, ...]

    def area(self, name: str) -> Polygon | None:
        """The polygon of a named area, or None."""
        return next((area.polygon for area in self.areas if area.name == name), None)


@dataclass(frozen=True, slots=True)
class Post:
    """The MQTT broker between device and agencies; it learns the home's address and on-line times."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Witness:
    """A third party that cosigns the ledger's checkpoints; it learns the home's address and on-line times.

    ``name`` is its key's name in notes, ``key`` an Ed25519 public key, ``url`` its submission prefix
    (c2sp.org/tlog-witness), https but on the machine itself.
    """

    name: str
    key: bytes
    url: str

    @property
    def key_id(self) -> str:
        """The id of its key."""
        return envelope.key_id(self.key)


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """What daily keys may grant without a root key."""

    max_seconds: int
    standing: bool


@dataclass(frozen=True, slots=True)
class Charter:
    """A parsed charter. Whether it is in force is said by `verify_genesis` and `verify_next`."""

    id: str
    household: str  # resolved: never SELF
    version: int
    previous: str | None
    owners: tuple[Owner, ...]
    granting: int
    governing: int
    daily_limits: DailyLimits
    devices: tuple[Device, ...]
    agencies: tuple[Agency, ...]
    cameras: tuple[CameraEntry, ...]
    rules: tuple[Rule, ...]
    post: Post | None
    ice: Ice
    rollback: Rollback
    accept_plausible_time: bool
    indicator_required: bool
    alarm_max_seconds: int = 0  # how long a raised alarm counts; 0: never
    witnesses: tuple[Witness, ...] = ()

    def root_keys(self) -> dict[str, bytes]:
        """Root keys by key id."""
        return {envelope.key_id(owner.root): owner.root for owner in self.owners}

    def owner_keys(self) -> dict[str, bytes]:
        """Root and daily signing keys by key id."""
        keys = self.root_keys()
        for owner in self.owners:
            keys.update({envelope.key_id(key.signing): key.signing for key in owner.daily})
        return keys

    def archive_keys(self) -> dict[str, bytes]:
        """Every key a segment is wrapped for, by key id: recovery keys and daily archive keys."""
        keys: dict[str, bytes] = {}
        for owner in self.owners:
            keys[envelope.key_id(owner.recovery)] = owner.recovery
            keys.update({envelope.key_id(key.archive): key.archive for key in owner.daily})
        return keys

    def owners_of(self, signers: frozenset[str]) -> frozenset[str]:
        """The distinct owners, by root key id, behind these signing keys."""
        found = set()
        for owner in self.owners:
            keys = {envelope.key_id(owner.root), *(envelope.key_id(key.signing) for key in owner.daily)}
            if keys & signers:
                found.add(envelope.key_id(owner.root))
        return frozenset(found)

    def agency(self, key_id: str) -> Agency | None:
        """The agency with this key id, or None."""
        return next((agency for agency in self.agencies if agency.key_id == key_id), None)

    def witness(self, key_id: str) -> Witness | None:
        """The witness with this key id, or None."""
        return next((witness for witness in self.witnesses if witness.key_id == key_id), None)

    def camera(self, name: str) -> CameraEntry | None:
        """The camera of this name, or None."""
        return next((camera for camera in self.cameras if camera.name == name), None)


def _daily(value: object, where: str) -> DailyKey:
    fields = Fields(value, where)
    key = DailyKey(fields.text("label", max_chars=60), fields.key("signing"), fields.seal_key("archive"))
    fields.done()
    return key


def _owner(value: object, where: str) -> Owner:
    fields = Fields(value, where)
    owner = Owner(
        fields.text("name", max_chars=60),
        fields.key("root"),
        fields.seal_key("recovery"),
        fields.items("daily", _daily, most=16),
    )
    fields.done()
    return owner


def _device(value: object, where: str) -> Device:
    fields = Fields(value, where)
    device = Device(fields.name("name"), fields.key("signing"))
    fields.done()
    return device


def _agency(value: object, where: str) -> Agency:
    fields = Fields(value, where)
    agency = Agency(
        fields.text("name", max_chars=100),
        fields.key("signing"),
        fields.seal_key("seal"),
        fields.choice("answers", Answers),
        fields.integer("max_seconds", 1, 30 * DAY_S),
    )
    fields.done()
    return agency


def _area(value: object, where: str) -> NamedArea:
    fields = Fields(value, where)
    area = NamedArea(fields.name("name"), fields.record("polygon", polygon_item))
    fields.done()
    return area


def _camera(value: object, where: str) -> CameraEntry:
    fields = Fields(value, where)
    camera = CameraEntry(
        fields.name("name"),
        fields.key_id("device"),
        fields.items("never", polygon_item, most=64),
        fields.items("areas", _area, most=64),
    )
    fields.done()
    return camera


def _post(value: object, where: str) -> Post:
    fields = Fields(value, where)
    post = Post(fields.text("host", max_chars=253), fields.integer("port", 1, 65_535))
    fields.done()
    return post


def _witness(value: object, where: str) -> Witness:
    fields = Fields(value, where)
    name = fields.text("name", max_chars=100)
    if not _KEY_NAME.match(name):
        raise DocumentError(f"{where}.name (got {show(name)}, expected text without spaces and plus signs)")
    key = fields.key("key")
    url = fields.text("url", max_chars=500)
    if not _WITNESS_URL.match(url):
        raise DocumentError(f"{where}.url (got {show(url)}, expected https://HOST[:PORT][/PATH])")
    fields.done()
    return Witness(name, key, url)


def _limits(value: object, where: str) -> DailyLimits:
    fields = Fields(value, where)
    limits = DailyLimits(fields.integer("max_seconds", 0, 30 * DAY_S), fields.boolean("standing"))
    fields.done()
    return limits


def parse(payload: bytes) -> Charter:
    """Read a charter's payload; says nothing about signatures.

    Raises:
        DocumentError: Not a charter, or one that contradicts itself.
    """
    fields = Fields(strict_json.loads(payload), "charter")
    fields.constant("from", "owners")
    fields.constant("to", "devices")
    version = fields.integer("version", 1, 2**31)
    own_id = envelope.document_id(payload)
    if version == 1:
        fields.constant("household", SELF)
        household, previous = own_id, None
    else:
        household, previous = fields.key_id("household"), fields.key_id("previous")
    charter = Charter(
        id=own_id,
        household=household,
        version=version,
        previous=previous,
        owners=fields.items("owners", _owner, most=16),
        granting=fields.integer("granting", 1, 16),
        governing=fields.integer("governing", 1, 16),
        daily_limits=fields.record("daily_limits", _limits),
        devices=fields.items("devices", _device, most=64),
        agencies=fields.items("agencies", _agency, most=64),
        cameras=fields.items("cameras", _camera, most=64),
        rules=fields.items("rules", Rule.parse, most=64),
        post=fields.record("post", _post) if fields.has("post") else None,
        ice=fields.choice("ice", Ice),
        rollback=fields.choice("rollback", Rollback),
        accept_plausible_time=fields.boolean("accept_plausible_time"),
        indicator_required=fields.boolean("indicator_required"),
        alarm_max_seconds=fields.integer("alarm_max_seconds", 0, 30 * DAY_S)
        if fields.has("alarm_max_seconds")
        else 0,
        witnesses=fields.items("witnesses", _witness, most=8) if fields.has("witnesses") else (),
    )
    fields.done()
    _check(charter)
    return charter


def _check(charter: Charter) -> None:
    """Refuse what no signature can make sensible."""
    count = len(charter.owners)
    if not count:
        raise DocumentError("charter.owners: nobody (expected at least one owner)")
    for name, threshold in (("granting", charter.granting), ("governing", charter.governing)):
        if threshold > count:
            raise DocumentError(f"charter.{name} (got {threshold}, expected at most the {count} owners)")
    if not charter.devices:
        raise DocumentError("charter.devices: none (expected at least one)")
    signing = [owner.root for owner in charter.owners]
    signing += [key.signing for owner in charter.owners for key in owner.daily]
    signing += [device.signing for device in charter.devices]
    signing += [agency.signing for agency in charter.agencies]
    signing += [witness.key for witness in charter.witnesses]
    if not all(envelope.is_usable_key(key) for key in signing):
        raise DocumentError("charter: a signing key is no usable Ed25519 key")
    everywhere = list(signing)
    everywhere += [owner.recovery for owner in charter.owners]
    everywhere += [key.archive for owner in charter.owners for key in owner.daily]
    everywhere += [agency.seal for agency in charter.agencies]
    if len(set(everywhere)) != len(everywhere):
        raise DocumentError("charter: a public key stands twice (expected each once)")
    if len({witness.name for witness in charter.witnesses}) != len(charter.witnesses):
        raise DocumentError("charter.witnesses: a name stands twice")
    _check_cameras(charter)


def _check_cameras(charter: Charter) -> None:
    names = [camera.name for camera in charter.cameras]
    if len(set(names)) != len(names):
        raise DocumentError("charter.cameras: a name stands twice")
    devices = {device.key_id for device in charter.devices}
    for camera in charter.cameras:
        if camera.device not in devices:
            raise DocumentError(f"charter.cameras: {camera.name} belongs to no device of this household")
        areas = [area.name for area in camera.areas]
        if len(set(areas)) != len(areas):
            raise DocumentError(f"charter.cameras: {camera.name} names an area twice")


def verify_genesis(data: bytes) -> Charter:
    """Version 1, signed with the root key of every owner it names.

    Raises:
        DocumentError: Not a first charter.
        SignatureError: An owner's root signature is missing.
    """
    kind, payload = envelope.unverified_payload(data)
    if kind != PayloadType.CHARTER:
        raise DocumentError(f"charter: another kind of document (got {kind[:60]!r})")
    charter = parse(payload)
    if charter.version != 1:
        raise DocumentError(f"charter: not a first one (got version {charter.version}, expected 1)")
    verified = envelope.verify(data, PayloadType.CHARTER, charter.root_keys())
    missing = len(charter.owners) - len(charter.owners_of(verified.signers))
    if missing:
        raise SignatureError(
            f"charter: {missing} of {len(charter.owners)} owners have not signed with their root key"
        )
    return charter


def verify_alone(data: bytes) -> Charter:
    """A charter of any version that the governing threshold of its own owners has signed.

    That it follows from an earlier one is not known: enough to tell to whom a household seals its footage,
    and for nothing else.

    Raises:
        DocumentError: Not a charter.
        SignatureError: Too few of its owners signed.
    """
    kind, payload = envelope.unverified_payload(data)
    if kind != PayloadType.CHARTER:
        raise DocumentError(f"charter: another kind of document (got {kind[:60]!r})")
    charter = parse(payload)
    _need_governing(data, charter)
    return charter


def _need_governing(data: bytes, side: Charter) -> None:
    verified = envelope.verify(data, PayloadType.CHARTER, side.root_keys())
    have = len(side.owners_of(verified.signers))
    if have < side.governing:
        raise SignatureError(
            f"charter: signatures by version {side.version}'s owners "
            f"(got {have}, expected {side.governing} with root keys)"
        )


def verify_next(data: bytes, current: Charter) -> Charter:
    """The version after ``current``, at the governing threshold of both.

    Raises:
        DocumentError: Not the next version of this household's charter.
        SignatureError: Too few owners signed, by the old charter or by the new one.
    """
    kind, payload = envelope.unverified_payload(data)
    if kind != PayloadType.CHARTER:
        raise DocumentError(f"charter: another kind of document (got {kind[:60]!r})")
    charter = parse(payload)
    if charter.household != current.household:
        raise DocumentError("charter: of another household")
    if charter.version != current.version + 1 or charter.previous != current.id:
        raise DocumentError(
            f"charter: does not follow the one in force (got version {charter.version}, "
            f"expected {current.version + 1} after {current.id[:19]}…)"
        )
    for side in (current, charter):
        _need_governing(data, side)
    return charter


def to_json(charter: Charter) -> dict[str, object]:
    """The charter as the JSON object that `parse` reads, for an owner to edit into the next version."""
    value: dict[str, object] = {
        "from": "owners",
        "to": "devices",
        "version": charter.version,
        "household": SELF if charter.version == 1 else charter.household,
        "owners": [owner_json(owner) for owner in charter.owners],
        "granting": charter.granting,
        "governing": charter.governing,
        "daily_limits": {
            "max_seconds": charter.daily_limits.max_seconds,
            "standing": charter.daily_limits.standing,
        },
        "devices": [
            {"name": device.name, "signing": encode_bytes(device.signing)} for device in charter.devices
        ],
        "agencies": [agency_json(agency) for agency in charter.agencies],
        "cameras": [camera_json(camera) for camera in charter.cameras],
        "rules": [rule.to_json() for rule in charter.rules],
        "ice": str(charter.ice),
        "rollback": str(charter.rollback),
        "accept_plausible_time": charter.accept_plausible_time,
        "indicator_required": charter.indicator_required,
    }
    if charter.previous is not None:
        value["previous"] = charter.previous
    if charter.alarm_max_seconds:
        value["alarm_max_seconds"] = charter.alarm_max_seconds
    if charter.post is not None:
        value["post"] = {"host": charter.post.host, "port": charter.post.port}
    if charter.witnesses:
        value["witnesses"] = [witness_json(witness) for witness in charter.witnesses]
    return value


def payload_of(charter: Charter) -> bytes:
    """The bytes that owners sign; `parse` reads an equal charter from them, but for ids that follow."""
    return strict_json.dumps(to_json(charter))


def owner_json(owner: Owner) -> dict[str, object]:
    """An owner as it stands in a charter."""
    return {
        "name": owner.name,
        "root": encode_bytes(owner.root),
        "recovery": encode_bytes(owner.recovery),
        "daily": [
            {
                "label": key.label,
                "signing": encode_bytes(key.signing),
                "archive": encode_bytes(key.archive),
            }
            for key in owner.daily
        ],
    }


def agency_json(agency: Agency) -> dict[str, object]:
    """An agency as it stands in a charter."""
    return {
        "name": agency.name,
        "signing": encode_bytes(agency.signing),
        "seal": encode_bytes(agency.seal),
        "answers": str(agency.answers),
        "max_seconds": agency.max_seconds,
    }


def witness_json(witness: Witness) -> dict[str, object]:
    """A witness as it stands in a charter."""
    return {"name": witness.name, "key": encode_bytes(witness.key), "url": witness.url}


def camera_json(camera: CameraEntry) -> dict[str, object]:
    """A camera as it stands in a charter."""
    return {
        "name": camera.name,
        "device": camera.device,
        "never": [[list(corner) for corner in polygon] for polygon in camera.never],
        "areas": [
            {"name": area.name, "polygon": [list(corner) for corner in area.polygon]} for area in camera.areas
        ],
    }
