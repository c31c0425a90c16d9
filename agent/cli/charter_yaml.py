"""A charter as YAML that people edit: explained, keys short and beside names. Read back by `charter_reading`.

Only what people may change stands in it. Household, version and the version before follow from the charter in
force; full public keys are taken from it, found by the short ones, so a key can be dropped here and a new one
comes in only by its card (``doorward charter add-owner``, ``add-key``, ``add-agency``). Witnesses are the one
exception: their key is a line that they publish.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, TypeVar

from agent.cli import sentences
from agent.cli.sentences import short_key
from agent.consent import envelope
from agent.ledger import cosignature, vkey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agent.consent.charter import Agency, CameraEntry, Charter, Device, Owner, Witness
    from agent.consent.rules import Rule, When

T = TypeVar("T")

CAPS: Final = ("height", "fps", "viewers")
_PLAIN: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9 _.-]*[A-Za-z0-9])?\Z", re.ASCII)


def written(current: Charter) -> str:
    """The charter in force, to edit."""
    household, version = envelope.short(current.household), current.version
    parts: tuple[tuple[str, list[str]], ...] = (
        (f"The charter of household {household}, version {version}.\n{_INTRODUCTION}", []),
        (_EDITS, [f"edits: {made_from(current)}"]),
        (_THRESHOLDS, [f"granting: {current.granting}", f"governing: {current.governing}"]),
        (_LIMITS, _limits_lines(current)),
        (_OWNERS, _list("owners", current.owners, _owner_lines)),
        ("The household's devices.", _list("devices", current.devices, _device_lines)),
        (_CAMERAS, _list("cameras", current.cameras, lambda each: _camera_lines(each, current))),
        (_AGENCIES, _list("agencies", current.agencies, _agency_lines)),
        (_RULES, _list("rules", current.rules, lambda each: _rule_lines(each, current))),
        (_ALARM, [f"alarm_max: {_time(current.alarm_max_seconds)}"]),
        (_REACH, [f"ice: {current.ice}", f"post: {_post(current)}"]),
        (_WITNESSES, _list("witnesses", current.witnesses, _witness_lines)),
        (_ROLLBACK, [f"rollback: {current.rollback}"]),
        (_TIME, [f"accept_plausible_time: {_yes(value=current.accept_plausible_time)}"]),
        (_INDICATOR, [f"indicator_required: {_yes(value=current.indicator_required)}"]),
    )
    text = ""
    for comment, lines in parts:
        text += "".join(f"# {line}\n" for line in comment.splitlines())
        text += "".join(f"{line}\n" for line in lines) + "\n"
    return text.rstrip("\n") + "\n"


_INTRODUCTION: Final = """\
Change what should be different, save, and close. You see what changes before you sign.
TIME is like 90s, 15m, 1h, 7d. Keys are shown short; new ones come in by card, with
'doorward charter add-owner', 'add-key' and 'add-agency'. Take a part out to remove it."""
_EDITS: Final = "What this text was made from. Leave it as it is."
_THRESHOLDS: Final = """\
How many owners together let something out (consents, opening the shutter, raising the alarm,
unblocking), and how many, with their recovery codes, change this charter. Any one owner may take away."""
_LIMITS: Final = """\
What daily keys may grant without a recovery code: the longest (none: nothing), and whether standing
consents too."""
_OWNERS: Final = """\
Who decides. 'key' is the root key, from the recovery code; 'daily' are phones and computers."""
_CAMERAS: Final = """\
What there is to see. 'never' is blacked out before recording, for everybody; 'areas' are the parts that
consents may name. Corners are x,y from the top left, 0..10000 of width and height:
'0,0 5000,0 5000,10000 0,10000' is the left half."""
_AGENCIES: Final = """\
Who may ask. 'max' is the longest they look at a time; 'answers' is what they hear when nobody has
consented: pending (as if nobody had answered yet) or denied."""
_RULES: Final = """\
Standing rules; they bind whatever a consent says, and can only narrow. 'effect' is deny, cap (with
seconds TIME, height, fps, viewers) or require-alarm. 'when' says when it applies, 'unless' when not; in
them: agencies, purposes (incident, standing, drill), modes (live, footage), alarm (on, off), hours with
their zone. For example:
  - effect: deny
    when: {hours: [mon-fri 22:00-06:00, sat sun 00:00-24:00], zone: Europe/Madrid}
    unless: {alarm: on}"""
_ALARM: Final = "How long a raised alarm counts, as TIME; none: there is no alarm."
_REACH: Final = """\
How pictures reach agencies: all is directly, which tells them the home's network address; relay is
through a relay alone, and none can be named yet. 'post' is the broker that carries messages, as
HOST:PORT, or none; whoever runs it learns the home's address and on-line times."""
_WITNESSES: Final = """\
Who vouches that the ledger only grows; they learn the home's address and on-line times. 'key' is the
line that the witness publishes."""
_ROLLBACK: Final = """\
After each start: confirm (sharing waits until an owner or a witness confirms the ledger) or warn (share
at once; a card that was copied back can bring back what you revoked)."""
_TIME: Final = "Whether standing consents count under network time that nobody vouches for."
_INDICATOR: Final = "Whether the charter demands that the indicator works. The device does in any case."


def _limits_lines(current: Charter) -> list[str]:
    limits = current.daily_limits
    return [
        "daily_limits:",
        f"  max: {_time(limits.max_seconds)}",
        f"  standing: {_yes(value=limits.standing)}",
    ]


def _device_lines(device: Device) -> list[str]:
    return [f"name: {device.name}", f"key: {short_key(device.signing)}"]


def _witness_lines(witness: Witness) -> list[str]:
    return [f"key: {vkey.written(witness.name, witness.key, cosignature.KIND)}", f"url: {witness.url}"]


def _post(current: Charter) -> str:
    return f"{current.post.host}:{current.post.port}" if current.post else "none"


def made_from(current: Charter) -> str:
    """What stands in the text for the charter it was made from."""
    return f"version {current.version}, {current.id.removeprefix('sha256:')[:16]}"


def _list(name: str, items: Iterable[T], lines: Callable[[T], list[str]]) -> list[str]:
    found = []
    for item in items:
        first, *others = lines(item)
        found += [f"  - {first}", *(f"    {line}" for line in others)]
    return [f"{name}:", *found] if found else [f"{name}: none"]


def _text(text: str) -> str:
    """Text as YAML: plain where nothing in it means anything to YAML, else quoted (JSON is YAML)."""
    return text if _PLAIN.match(text) else json.dumps(text, ensure_ascii=False)


def _yes(*, value: bool) -> str:
    return "yes" if value else "no"


def _time(seconds: int) -> str:
    if not seconds:
        return "none"
    text, left = "", seconds
    for unit, size in (("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        text += f"{count}{unit}" if count else ""
    return text


def _owner_lines(owner: Owner) -> list[str]:
    lines = [f"name: {_text(owner.name)}", f"key: {short_key(owner.root)}"]
    return lines + _list(
        "daily",
        owner.daily,
        lambda key: [f"label: {_text(key.label)}", f"key: {short_key(key.signing)}"],
    )


def _camera_lines(camera: CameraEntry, current: Charter) -> list[str]:
    named = [device for device in current.devices if device.key_id == camera.device]
    same = [device for device in current.devices if named and device.name == named[0].name]
    device = named[0].name if len(same) == 1 else camera.device.removeprefix("sha256:")
    areas = [f"  {_quoted(area.name)}: {sentences.corners(area.polygon)}" for area in camera.areas]
    return [
        f"name: {camera.name}",
        f"device: {device}",
        *_list("never", camera.never, lambda polygon: [sentences.corners(polygon)]),
        *(["areas:", *areas] if areas else ["areas: none"]),
    ]


def _quoted(name: str) -> str:
    return name if _PLAIN.match(name) else json.dumps(name)


def _agency_lines(agency: Agency) -> list[str]:
    return [
        f"name: {_text(agency.name)}",
        f"key: {short_key(agency.signing)}",
        f"max: {_time(agency.max_seconds)}",
        f"answers: {agency.answers}",
    ]


def _rule_lines(rule: Rule, current: Charter) -> list[str]:
    value = rule.to_json()
    lines = [f"effect: {rule.effect}"]
    if "seconds" in value:
        lines.append(f"seconds: {_time(rule.caps.seconds)}")
    lines += [f"{name}: {value[name]}" for name in CAPS if name in value]
    if "when" in value:
        lines += ["when:", *(f"  {line}" for line in _when_lines(rule.when, current))]
    if rule.unless is not None:
        lines += ["unless:", *(f"  {line}" for line in _when_lines(rule.unless, current))]
    return lines


def _when_lines(when: When, current: Charter) -> list[str]:
    lines = []
    if when.agencies:
        names = [_agency_word(key_id, current) for key_id in when.agencies]
        lines.append(f"agencies: [{', '.join(names)}]")
    if when.purposes:
        lines.append(f"purposes: [{', '.join(when.purposes)}]")
    if when.modes:
        lines.append(f"modes: [{', '.join(when.modes)}]")
    if when.alarm is not None:
        lines.append(f"alarm: {'on' if when.alarm else 'off'}")
    if when.hours is not None:
        windows = [sentences.window(each) for each in when.hours.windows]
        lines += [f"hours: [{', '.join(windows)}]", f"zone: {when.hours.zone}"]
    return lines


def _agency_word(key_id: str, current: Charter) -> str:
    """An agency in a rule: by name where one has it, else by its whole key."""
    names = [agency.name for agency in current.agencies if agency.key_id == key_id]
    same = [agency for agency in current.agencies if names and agency.name == names[0]]
    return json.dumps(names[0], ensure_ascii=False) if len(same) == 1 else json.dumps(key_id)
