"""What a new charter changes, in sentences: who gains what, who loses what.

Each sentence begins with ``+`` (somebody can do or see more), ``-`` (somebody can do or see less) or ``~``
(neither, or it depends). Whatever differs between two charters has its sentence: owners sign by these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agent.cli import sentences, words
from agent.cli.sentences import short_key
from agent.consent.charter import Ice, Rollback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from agent.consent.charter import Agency, CameraEntry, Charter, DailyKey, DailyLimits, Owner

    T = TypeVar("T")
    K = TypeVar("K")


def difference(before: Charter, after: Charter) -> list[str]:
    """Every difference between two charters of one household; empty if there is none but in order."""
    return [
        *_owners(before, after),
        *_thresholds(before, after),
        *_daily_limits(before.daily_limits, after.daily_limits),
        *_devices(before, after),
        *_cameras(before, after),
        *_agencies(before, after),
        *_rules(before, after),
        *_alarm(before, after),
        *_reach(before, after),
        *_trust(before, after),
    ]


def _matched(
    before: Iterable[T], after: Iterable[T], key: Callable[[T], K]
) -> tuple[list[T], list[T], list[tuple[T, T]]]:
    """Gone, new, and kept (as it was, as it is), by what makes one the same."""
    old, new = {key(each): each for each in before}, {key(each): each for each in after}
    return (
        [each for name, each in old.items() if name not in new],
        [each for name, each in new.items() if name not in old],
        [(old[name], each) for name, each in new.items() if name in old],
    )


def _owners(before: Charter, after: Charter) -> Iterator[str]:
    gone, new, kept = _matched(before.owners, after.owners, lambda owner: owner.root)
    for owner in new:
        yield (
            f"+ {owner.name} becomes an owner (root key {short_key(owner.root)}): decides with the others, "
            f"sees the ledger, opens what is recorded from now on."
        )
        yield from (f"  + {owner.name}'s {_key(key)}" for key in owner.daily)
    for owner in gone:
        yield (
            f"- {owner.name} (root key {short_key(owner.root)}) is no longer an owner: what {owner.name} "
            f"signed no longer counts. What {owner.name} could open before stays open to them."
        )
    for was, now in kept:
        yield from _owner(was, now)


def _owner(was: Owner, now: Owner) -> Iterator[str]:
    if was.name != now.name:
        yield f"~ Owner {was.name} is called {now.name}."
    if was.recovery != now.recovery:
        yield (
            f"~ {now.name}'s recovery key changes: the new one ({short_key(now.recovery)}) opens what is "
            f"recorded from now on, the old one ({short_key(was.recovery)}) only what was before."
        )
    gone, new, kept = _matched(was.daily, now.daily, lambda key: (key.signing, key.archive))
    for key in new:
        yield (
            f"+ {now.name} gains {_key(key)}: it decides within the daily limits and opens what is recorded "
            f"from now on."
        )
    for key in gone:
        yield (
            f"- {now.name} loses {_key(key)}: what it signed no longer counts. What it could open before "
            f"stays open to it."
        )
    for old, key in kept:
        if old.label != key.label:
            yield f"~ {now.name}'s key {short_key(key.signing)} is called {key.label} (was {old.label})."


def _key(key: DailyKey) -> str:
    return f"{key.label} (daily key {short_key(key.signing)}, archive key {short_key(key.archive)})"


def _thresholds(before: Charter, after: Charter) -> Iterator[str]:
    for was, now, old, new, what in (
        (before.granting, after.granting, len(before.owners), len(after.owners), "Letting something out"),
        (before.governing, after.governing, len(before.owners), len(after.owners), "Changing the charter"),
    ):
        if (was, old) != (now, new):
            # Fewer signatures, or more people who can give as many, is more power.
            mark = "~" if now == was else "-" if now > was else "+"
            yield f"{mark} {what} takes {now} of {new} owners (was {was} of {old})."


def _daily_limits(was: DailyLimits, now: DailyLimits) -> Iterator[str]:
    if was.max_seconds != now.max_seconds:
        mark = "+" if now.max_seconds > was.max_seconds else "-"
        length = words.length(now.max_seconds) if now.max_seconds else "nothing"
        yield f"{mark} Daily keys alone grant at most {length} (was {words.length(was.max_seconds)})."
    if was.standing != now.standing:
        yield (
            "+ Daily keys alone grant standing consents too."
            if now.standing
            else "- Daily keys alone grant no standing consents any more."
        )


def _devices(before: Charter, after: Charter) -> Iterator[str]:
    gone, new, kept = _matched(before.devices, after.devices, lambda device: device.signing)
    for device in new:
        yield f"+ Device {device.name} (key {words.fingerprint(device.key_id)}) belongs to the household."
    for device in gone:
        yield (
            f"- Device {device.name} (key {words.fingerprint(device.key_id)}) no longer belongs to the "
            f"household; it keeps what it has recorded."
        )
    for was, now in kept:
        if was.name != now.name:
            yield f"~ Device {was.name} is called {now.name}."


def _cameras(before: Charter, after: Charter) -> Iterator[str]:
    gone, new, kept = _matched(before.cameras, after.cameras, lambda camera: camera.name)
    for camera in new:
        yield f"+ Camera {camera.name} is added."
        yield from _camera(_emptied(camera), camera)
    for camera in gone:
        yield f"- Camera {camera.name} is removed: nothing of it can be shared."
    for was, now in kept:
        yield from _camera(was, now)


def _emptied(camera: CameraEntry) -> CameraEntry:
    """The camera as if nothing had been said of it, to tell a new one from."""
    return type(camera)(camera.name, camera.device, (), ())


def _camera(was: CameraEntry, now: CameraEntry) -> Iterator[str]:
    if was.device != now.device:
        yield f"~ Camera {now.name} belongs to the device with key {words.fingerprint(now.device)}."
    gone, new, kept = _matched(was.areas, now.areas, lambda area: area.name)
    for area in new:
        yield f"+ Of camera {now.name}, area {area.name} may be shared: {sentences.corners(area.polygon)}."
    for area in gone:
        yield f"- Of camera {now.name}, area {area.name} can no longer be shared."
    for old, area in kept:
        if old.polygon != area.polygon:
            yield (
                f"~ Of camera {now.name}, area {area.name} is {sentences.corners(area.polygon)} "
                f"(was {sentences.corners(old.polygon)})."
            )
    for polygon in _without(now.never, was.never):
        yield f"- Of camera {now.name}, this is never recorded or shown: {sentences.corners(polygon)}."
    for polygon in _without(was.never, now.never):
        yield (
            f"+ Of camera {now.name}, this is recorded and can be shown again: {sentences.corners(polygon)}."
        )


def _without(some: Sequence[T], others: Sequence[T]) -> list[T]:
    """What stands more often among ``some`` than among ``others``."""
    left = list(others)
    found = []
    for each in some:
        if each in left:
            left.remove(each)
        else:
            found.append(each)
    return found


def _agencies(before: Charter, after: Charter) -> Iterator[str]:
    gone, new, kept = _matched(before.agencies, after.agencies, lambda agency: agency.signing)
    for agency in new:
        yield (
            f"+ {agency.name} may ask (key {words.fingerprint(agency.key_id)}), "
            f"{sentences.agency_limits(agency)}."
        )
    for agency in gone:
        yield f"- {agency.name} may no longer ask, and what it was given no longer counts."
    for was, now in kept:
        yield from _agency(was, now)


def _agency(was: Agency, now: Agency) -> Iterator[str]:
    if was.name != now.name:
        yield f"~ {was.name} is called {now.name}."
    if was.seal != now.seal:
        yield f"~ What is told to {now.name} is sealed to another key ({short_key(now.seal)})."
    if was.max_seconds != now.max_seconds:
        mark = "+" if now.max_seconds > was.max_seconds else "-"
        yield (
            f"{mark} {now.name} may look at most {words.length(now.max_seconds)} at a time "
            f"(was {words.length(was.max_seconds)})."
        )
    if was.answers != now.answers:
        yield f"~ Without consent {now.name} hears '{now.answers}' (was '{was.answers}')."


def _rules(before: Charter, after: Charter) -> Iterator[str]:
    yield from (f"- New rule: {sentences.rule(each, after)}" for each in _without(after.rules, before.rules))
    yield from (
        f"+ No longer a rule: {sentences.rule(each, before)}" for each in _without(before.rules, after.rules)
    )


def _alarm(before: Charter, after: Charter) -> Iterator[str]:
    was, now = before.alarm_max_seconds, after.alarm_max_seconds
    if was == now:
        return
    mark = "+" if now > was else "-"
    yield f"{mark} {sentences.alarm(after)} (It was {words.length(was) if was else 'never'}.)"


def _reach(before: Charter, after: Charter) -> Iterator[str]:
    if before.ice is not after.ice:
        yield (
            "+ Pictures reach agencies directly as well: they learn the home's network address."
            if after.ice is Ice.ALL
            else "- Pictures reach agencies through a relay alone; there is none yet, so none reach them."
        )
    if before.post != after.post:
        if before.post:
            yield f"- The post at {before.post.host}, port {before.post.port} is no longer used."
        if after.post:
            yield (
                f"+ Messages go through the post at {after.post.host}, port {after.post.port}: whoever runs "
                f"it learns the home's address and on-line times."
            )
    gone, new, kept = _matched(before.witnesses, after.witnesses, lambda witness: witness.key)
    for witness in new:
        yield (
            f"+ Witness {witness.name} at {witness.url} (key {words.fingerprint(witness.key_id)}) vouches "
            f"that the ledger only grows: it learns the home's address and on-line times."
        )
    for witness in gone:
        yield f"- Witness {witness.name} no longer counts."
    for was, now in kept:
        if was != now:
            yield f"~ Witness {was.name} at {was.url} is {now.name} at {now.url}."


def _trust(before: Charter, after: Charter) -> Iterator[str]:
    if before.rollback is not after.rollback:
        first = sentences.trust(after)[0]
        yield f"{'+' if after.rollback is Rollback.WARN else '-'} {first}"
    if before.accept_plausible_time != after.accept_plausible_time:
        yield f"{'+' if after.accept_plausible_time else '-'} {sentences.trust(after)[1]}"
    if before.indicator_required != after.indicator_required:
        demands = "demands" if after.indicator_required else "no longer demands"
        yield f"~ The charter {demands} a working indicator; the device does in any case."
