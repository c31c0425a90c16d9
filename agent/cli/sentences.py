"""What owners decide about, in sentences: rules, consents, and everything else an owner can sign.

Whoever signs reads these sentences, so they leave nothing out: each names what it lets out, to whom, and by
which key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.cli import words
from agent.consent import envelope
from agent.consent.charter import Answers, Ice, Rollback
from agent.consent.footage import Stretch
from agent.consent.rules import UNLIMITED, Effect, When
from agent.consent.windows import Day

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.consent.acts import Alarm, Block, Shutter
    from agent.consent.charter import Agency, CameraEntry, Charter, DailyLimits
    from agent.consent.introduction import Introduction
    from agent.consent.rules import Rule
    from agent.consent.token import Revocation, Token
    from agent.consent.windows import Weekly, Window
    from hal.camera import Polygon

_DAY_MINUTES: Final = 24 * 60
_DAYS: Final = tuple(Day)


def short_key(public: bytes) -> str:
    """A public key as sentences name it: the first 16 digits of its id."""
    return words.fingerprint(envelope.key_id(public))[:19]


def clock(minute: int) -> str:
    """A minute of the local day as people write it."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def days(chosen: Sequence[Day]) -> str:
    """Days of the week: a run of three or more as ``mon-fri``, others one by one, all of them ``daily``."""
    if len(chosen) == len(_DAYS):
        return "daily"
    numbers = sorted(_DAYS.index(day) for day in chosen)
    first, last = numbers[0], numbers[-1]
    if len(numbers) > 2 and last - first == len(numbers) - 1:  # noqa: PLR2004 - two days are no run
        return f"{_DAYS[first]}-{_DAYS[last]}"
    return " ".join(str(_DAYS[number]) for number in numbers)


def window(each: Window) -> str:
    """One window, as ``mon-fri 22:00-06:00``."""
    return f"{days(each.days)} {clock(each.from_minute)}-{clock(each.to_minute)}"


def hours(weekly: Weekly) -> str:
    """When it holds, and in which zone's clock."""
    return f"{', '.join(window(each) for each in weekly.windows)} ({weekly.zone})"


def corners(polygon: Polygon) -> str:
    """A polygon as ``x,y x,y x,y``."""
    return " ".join(f"{x},{y}" for x, y in polygon)


def listed(parts: Sequence[str], word: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"


def agency_name(key_id: str, charter: Charter) -> str:
    """An agency by the name the charter gives it, or by its key."""
    found = charter.agency(key_id)
    return found.name if found else f"an agency with key {words.fingerprint(key_id)}"


def agency_with_key(key_id: str, charter: Charter) -> str:
    """An agency by name and key, as a person compares it."""
    found = charter.agency(key_id)
    name = found.name if found else "an agency that is not in your charter"
    return f"{name} (key {words.fingerprint(key_id)})"


# Rules


def rule(each: Rule, charter: Charter) -> str:
    """A standing rule in one sentence."""
    text = _who_sees_what(each, charter)
    if text.startswith("an "):  # an agency that has no name here
        text = f"A{text[1:]}"
    for condition in _conditions(each.when):
        text += f" {condition}"
    if each.unless is not None:
        unless = " and ".join(_unless(each.unless, charter))
        text += f", unless {unless}"
    return f"{text}."


def _who_sees_what(each: Rule, charter: Charter) -> str:
    names = [agency_name(key_id, charter) for key_id in each.when.agencies]
    if not names and each.effect is Effect.DENY:
        return "No agency sees anything"
    verb = "see" if len(names) > 1 else "sees"
    return f"{listed(names) if names else 'Every agency'} {verb} {_effect(each)}"


def _effect(each: Rule) -> str:
    if each.effect is Effect.DENY:
        return "nothing"
    if each.effect is Effect.REQUIRE_ALARM:
        return "something only while your alarm is on"
    caps = each.caps
    parts = []
    if caps.seconds != UNLIMITED:
        parts.append(f"{words.length(caps.seconds)} at a time")
    if caps.height != UNLIMITED:
        parts.append(f"{caps.height} lines")
    if caps.fps != UNLIMITED:
        parts.append(f"{caps.fps} pictures a second")
    if caps.viewers != UNLIMITED:
        parts.append(f"{words.count(caps.viewers, 'viewer', 'viewers')} at once")
    return f"at most {', '.join(parts)}"


def _conditions(when: When) -> list[str]:
    parts = []
    if when.modes:
        parts.append(f"of what is {listed([_MODES[str(mode)] for mode in when.modes], 'or')}")
    if when.purposes:
        parts.append(f"for {listed([_PURPOSES[str(purpose)] for purpose in when.purposes], 'or')}")
    if when.alarm is not None:
        parts.append(f"while the alarm is {'on' if when.alarm else 'off'}")
    if when.hours is not None:
        parts.append(f"at {hours(when.hours)}")
    return parts


def _unless(when: When, charter: Charter) -> list[str]:
    parts = []
    if when.agencies:
        parts.append(f"it is {listed([agency_name(each, charter) for each in when.agencies], 'or')}")
    if when.purposes:
        parts.append(f"it is for {listed([_PURPOSES[str(each)] for each in when.purposes], 'or')}")
    if when.modes:
        parts.append(f"it is {listed([_MODES[str(mode)] for mode in when.modes], 'or')}")
    if when.alarm is not None:
        parts.append(f"the alarm is {'on' if when.alarm else 'off'}")
    if when.hours is not None:
        parts.append(f"it is {hours(when.hours)}")
    return parts


_PURPOSES: Final = {"incident": "an incident", "standing": "a standing consent", "drill": "a drill"}
_MODES: Final = {"live": "live", "footage": "recorded"}


# The charter


def charter(current: Charter) -> list[str]:
    """A charter in sentences, every key that can decide or open included."""
    lines = [f"Charter version {current.version} of household {envelope.short(current.household)}."]
    lines += [granting(current), governing(current), daily_limits(current.daily_limits)]
    for owner in current.owners:
        lines.append(f"Owner {owner.name}: root key {words.fingerprint(envelope.key_id(owner.root))}")
        lines += [
            f"  {key.label}: daily key {words.fingerprint(envelope.key_id(key.signing))}"
            for key in owner.daily
        ]
    lines += [f"Device {device.name}: key {words.fingerprint(device.key_id)}" for device in current.devices]
    for camera in current.cameras:
        lines += camera_lines(camera)
    for agency in current.agencies:
        lines.append(f"{agency.name} may ask: key {words.fingerprint(agency.key_id)},")
        lines.append(f"  {agency_limits(agency)}.")
    if not current.agencies:
        lines.append("No agency may ask.")
    lines += [rule(each, current) for each in current.rules] or ["There are no standing rules."]
    lines += [alarm(current), *reach(current), *trust(current)]
    return lines


def granting(current: Charter) -> str:
    """How many let something out."""
    count = f"{current.granting} of {len(current.owners)} owners together"
    return f"{count} let something out, open the shutter, raise the alarm, unblock an agency."


def governing(current: Charter) -> str:
    """How many change the charter."""
    count = f"{current.governing} of {len(current.owners)} owners together"
    return f"{count}, with recovery codes, change this charter."


def daily_limits(limits: DailyLimits) -> str:
    """What daily keys may do by themselves."""
    standing = "and standing consents" if limits.standing else "and no standing consents"
    if not limits.max_seconds:
        return "Daily keys alone grant nothing: each consent needs recovery codes."
    return f"Daily keys alone grant at most {words.length(limits.max_seconds)} {standing}."


def camera_lines(camera: CameraEntry) -> list[str]:
    """A camera: what may be shared of it, and what is never seen."""
    areas = ", ".join(area.name for area in camera.areas) or "none, so nothing can be shared"
    blacked = f"{len(camera.never)} areas are" if len(camera.never) != 1 else "1 area is"
    return [
        f"Camera {camera.name}: areas that may be shared: {areas};",
        f"  {blacked} never recorded or shown.",
    ]


def agency_limits(agency: Agency) -> str:
    """What an agency may, and what it hears."""
    said = "nobody answered" if agency.answers is Answers.PENDING else "it was denied"
    return (
        f"at most {words.length(agency.max_seconds)} at a time; without consent it hears "
        f"'{agency.answers}' (as if {said})"
    )


def alarm(current: Charter) -> str:
    """What the household's alarm can do."""
    if not current.alarm_max_seconds:
        return "There is no alarm: consents given for the alarm never count."
    return f"A raised alarm counts for {words.length(current.alarm_max_seconds)} at most."


def reach(current: Charter) -> list[str]:
    """How agencies are reached, and who learns what by it."""
    if current.ice is Ice.ALL:
        lines = ["Pictures reach agencies directly as well; they learn the home's network address."]
    else:
        lines = ["Pictures reach agencies through a relay alone; there is none yet, so none reach them."]
    if current.post:
        lines.append(
            f"Messages go through the post at {current.post.host}, port {current.post.port}; "
            f"whoever runs it learns the home's address and on-line times."
        )
    else:
        lines.append("There is no post: agencies reach the device at its own address alone.")
    for witness in current.witnesses:
        lines.append(
            f"Witness {witness.name} at {witness.url} vouches that the ledger only grows "
            f"(key {words.fingerprint(witness.key_id)}); it learns the home's address, on-line times, and "
            f"how many entries there are, never what stands in them."
        )
    return lines


def trust(current: Charter) -> list[str]:
    """What the device does in doubt."""
    if current.rollback is Rollback.CONFIRM:
        whom = "or a witness" if current.witnesses else "(there is no witness)"
        first = f"After each start sharing waits until an owner's client {whom} confirms the ledger."
    else:
        first = (
            "After each start the device shares at once and only warns: a card that was copied back "
            "brings back what you revoked, until somebody notices."
        )
    if current.accept_plausible_time:
        second = "Standing consents count under network time, which whoever controls the network can shift."
    else:
        second = "Standing consents count only while the device knows the time for certain."
    # Whatever the charter says of it: the device demands it in any case.
    return [first, second, "Nobody may watch unless the indicator works."]


# Everything else that owners sign


def consent(token: Token, current: Charter) -> list[str]:
    """A consent token."""
    scope, terms = token.scope, token.terms
    areas = listed(scope.areas) if scope.areas else "no area, so nothing"
    lines = [
        f"Consent for {agency_with_key(token.agency, current)}:",
        (
            f"  {_MODES[str(scope.mode)]} pictures of {listed(scope.cameras)} ({areas}), at most "
            f"{scope.max_height} lines, {scope.max_fps} pictures a second"
        ),
        f"  from {words.local_time(scope.not_before_ns)} until {words.local_time(scope.not_after_ns)}",
        (
            f"  at most {words.length(scope.session_seconds)} at a time, {words.length(scope.total_seconds)} "
            f"altogether, {words.count(scope.sessions, 'session', 'sessions')}, "
            f"{words.count(scope.viewers, 'viewer', 'viewers')} at once"
        ),
        f"  for {_PURPOSES[str(token.purpose.kind)]}, reference {token.purpose.reference}",
    ]
    if scope.windows is not None:
        lines.append(f"  only at {hours(scope.windows)}")
    if scope.needs_alarm:
        lines.append("  only while your alarm is on")
    if isinstance(scope.footage, Stretch):
        begin, end = words.local_time(scope.footage.begin_ns), words.local_time(scope.footage.end_ns)
        lines.append(f"  recorded from {begin} until {end}")
    elif scope.footage is not None:
        lines.append(f"  recorded at most {words.length(scope.footage.seconds)} before they ask")
    if scope.redaction:
        lines.append(f"  with {listed(sorted(str(each) for each in scope.redaction))} made unrecognisable")
    if token.operators:
        lines.append(f"  only {len(token.operators)} named operators")
    if token.re is not None:
        lines.append(f"  in answer to one request ({token.re.removeprefix('sha256:')[:16]}) and no other")
    allowed = [
        name
        for name, given in (("pass it on", terms.forwarding), ("analyse it by machine", terms.analysis))
        if given
    ]
    may = f"may {listed(allowed)}" if allowed else "may neither pass it on nor analyse it by machine"
    lines.append(f"  they {may}, and keep it for {terms.retention_days} days")
    return lines


def revocation(taken: Revocation, current: Charter) -> list[str]:
    """A revocation."""
    if taken.token is not None:
        return [f"Takes back consent {taken.token.removeprefix('sha256:')[:16]} for good."]
    if taken.agency is not None:
        return [f"Takes back everything given to {agency_with_key(taken.agency, current)}."]
    return ["Takes back everything given to anybody."]


def switch(switched: Shutter | Alarm | Block, current: Charter) -> list[str]:
    """The shutter, the alarm, a block."""
    agency = getattr(switched, "agency", None)
    sentence = {
        "open": "Opens the privacy shutter: consents that still stand count again.",
        "closed": "Closes the privacy shutter: nothing is shared.",
        "raised": f"Raises the alarm for at most {words.length(current.alarm_max_seconds)}: consents given "
        "for the alarm count.",
        "cleared": "Clears the alarm.",
    }
    if agency is None:
        return [sentence[str(switched.state)]]
    named = agency_with_key(agency, current)
    if str(switched.state) == "blocked":
        return [f"Blocks {named}: it sees nothing, whatever it was given."]
    return [f"Unblocks {named}: consents that it still has count again."]


def introduction(written: Introduction, current: Charter) -> list[str]:
    """An introduction."""
    cameras = [f"{each.name} ({', '.join(each.areas) or 'no areas'})" for each in written.cameras]
    return [
        f"Introduces your household to {agency_with_key(written.agency, current)}.",
        (
            f"  It learns the public keys of {words.count(len(written.deciders), 'owner', 'owners')} "
            f"without names, your "
            f"{words.count(len(written.devices), 'device', 'devices')}, and the names of cameras and areas: "
            f"{listed(cameras) if cameras else 'none'}."
        ),
        f"  It counts until {words.local_time(written.not_after_ns)}.",
    ]
