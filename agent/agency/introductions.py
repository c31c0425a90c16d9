"""The households the agency knows, each by an introduction that its owners signed.

An introduction vouches for itself. Who handed it over, and that the owners' fingerprints are theirs, a person
checks at import. From then on the household's own keys guard it: a later one must be signed by the owners of
the one before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.agency.words import clock
from agent.consent import envelope
from agent.consent.envelope import PayloadType
from agent.consent.introduction import verify_introduction
from agent.errors import ConfigError, DocumentError, IntegrityError, Refused, SignatureError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.agency.store import Store
    from agent.consent.introduction import Introduction

_SHORTEST_PREFIX: Final = 6


@dataclass(frozen=True, slots=True)
class KnownDevice:
    """A device, and the introduction that says whose it is."""

    introduction: Introduction
    name: str
    key_id: str
    signing: bytes
    seal: bytes

    def cameras(self) -> list[str]:
        """The names of its cameras."""
        return [camera.name for camera in self.introduction.cameras if camera.device == self.key_id]

    def areas(self, camera: str) -> tuple[str, ...]:
        """The names of a camera's areas.

        Raises:
            ConfigError: It has no such camera.
        """
        for each in self.introduction.cameras:
            if each.device == self.key_id and each.name == camera:
                return each.areas
        names = ", ".join(self.cameras()) or "none"
        raise ConfigError(f"camera {camera[:40]}: not one of {self.name} (it has {names})")


def devices_of(introduction: Introduction) -> list[KnownDevice]:
    """The devices that an introduction names."""
    return [
        KnownDevice(introduction, each.device.name, each.device.key_id, each.device.signing, each.seal)
        for each in introduction.devices
    ]


def all_introductions(store: Store) -> list[Introduction]:
    """Every introduction in the store, verified again.

    Raises:
        IntegrityError: One is not what was imported.
    """
    try:
        return [verify_introduction(document) for document in store.introductions()]
    except DocumentError as error:
        raise IntegrityError(f"agency store: {error}", hint="import the introduction again") from error


def all_devices(store: Store) -> list[KnownDevice]:
    """Every device of every household."""
    return [device for each in all_introductions(store) for device in devices_of(each)]


def find_device(store: Store, wanted: str) -> KnownDevice:
    """The device of this name, id, or beginning of an id.

    Raises:
        ConfigError: None, or more than one.
    """
    devices = all_devices(store)
    found = [device for device in devices if device.name == wanted]
    digits = wanted.removeprefix("sha256:")
    if not found and len(digits) >= _SHORTEST_PREFIX:
        found = [device for device in devices if device.key_id.removeprefix("sha256:").startswith(digits)]
    if len(found) != 1:
        number = "several" if found else "none"
        raise ConfigError(
            f"device {wanted[:80]}: {number} by that name or id",
            hint="doorward agency households lists them",
        )
    return found[0]


def need_current(introduction: Introduction, now_ns: int) -> None:
    """Refuse to work with an introduction that has lapsed.

    Raises:
        Refused: It has.
    """
    if now_ns >= introduction.not_after_ns:
        raise Refused(
            f"introduction of household {envelope.short(introduction.household)[:8]}: "
            f"ended {clock(introduction.not_after_ns, now_ns)}",
            reason="lapsed",
            hint="ask the household for a new one: doorward agency import FILE",
        )


def check_import(document: bytes, store: Store, agency: str, now_ns: int, *, replace: bool) -> Introduction:
    """An introduction that may be kept: for us, current, and in nobody's way. Keeps nothing.

    Raises:
        DocumentError, SignatureError: No introduction, not signed by the owners it names, or not for us.
        Refused: It has lapsed; or it would take over a household or a device that we know, unsigned by the
            owners we know, and ``replace`` does not say that a person has checked.
    """
    introduction = verify_introduction(document)
    if introduction.agency != agency:
        raise DocumentError(
            f"introduction: for another agency (got {introduction.agency[:19]}…, expected {agency[:19]}…)"
        )
    need_current(introduction, now_ns)
    devices = {device.key_id for device in devices_of(introduction)}
    for known in all_introductions(store):
        if known.household == introduction.household:
            if not replace:
                _check_succession(document, known)
        elif devices & {device.key_id for device in devices_of(known)}:
            raise Refused(
                "introduction: names a device that belongs to another household "
                f"({envelope.short(known.household)[:8]})",
                reason="taken",
                hint="one of the two is forged; ask both households",
            )
    return introduction


def _check_succession(document: bytes, known: Introduction) -> None:
    roots = {envelope.key_id(decider.root): decider.root for decider in known.deciders}
    try:
        have = known.distinct(envelope.verify(document, PayloadType.INTRODUCTION, roots).signers)
    except SignatureError:
        have = 0
    if have < known.governing:
        raise Refused(
            f"introduction: a known household with other owners "
            f"(got {have} signatures of the owners we know, expected {known.governing})",
            reason="taken",
            hint="ask the household in person; if it is theirs: doorward agency import --replace FILE",
        )


def root_fingerprints(introduction: Introduction) -> Iterable[str]:
    """The ids of the owners' root keys, for comparing in person."""
    return [envelope.key_id(decider.root) for decider in introduction.deciders]
