"""``doorward consent test``: an owner's own examples of what should be allowed, held against a charter.

::

    zone: Europe/Madrid            # of the times below; this machine's if it is missing
    examples:
      - name: the control room may look at the street by day
        agency: Control Room
        camera: front
        at: mon 12:00              # or 2026-02-02 12:00
        expect: allow
      - name: nobody looks at night without an alarm
        agency: Control Room
        camera: front
        at: sat 23:30
        alarm: false
        expect: deny
        because: rule-requires-alarm

Each example asks `decide` itself. Unless it says otherwise somebody has asked for everything, and an owner
has consented to it: so what is tested is what the charter leaves.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent import zones
from agent.cli import hours, words
from agent.cli.foresight import asking, conditions
from agent.cli.named import agency_named
from agent.cli.options import door_options, json_option, opened
from agent.consent import decision as decisions
from agent.consent import times
from agent.consent.acts import ShutterState
from agent.consent.decision import Grant, Standing
from agent.consent.fields import Fields
from agent.consent.reasons import DenialReason
from agent.consent.rules import Mode, PurposeKind
from agent.consent.times import SECOND_NS, Interval, TimeQuality
from agent.consent.token import LARGEST_HEIGHT, MAX_SECONDS, Purpose, Scope, Terms, Token
from agent.consent.windows import Day
from agent.errors import ConfigError, DocumentError, MalformedInput, Refused
from hal import clock

if TYPE_CHECKING:
    from agent.consent.charter import Charter
    from agent.consent.decision import Decision

MAX_FILE_BYTES: Final = 256 * 1024
MOST_EXAMPLES: Final = 500
_YEAR_NS: Final = 366 * 24 * 3600 * SECOND_NS
_DAYS: Final = tuple(Day)


@dataclass(frozen=True, slots=True)
class Example:
    """One situation, and what the household should say to it."""

    name: str
    agency: str
    camera: str
    areas: tuple[str, ...]
    purpose: PurposeKind
    at_ns: int
    alarm: bool
    shutter: ShutterState
    blocked: bool
    consented: bool
    mode: Mode
    allow: bool
    because: DenialReason | None
    at_most: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one example; ``wrong`` is empty if it went as expected."""

    example: Example
    decision: Decision
    wrong: str


@click.command("test")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--charter",
    "draft",
    type=click.Path(path_type=Path),
    metavar="DRAFT",
    help="A draft instead of the charter in force: text as 'charter edit --stdout' prints it, edited.",
)
@door_options
@json_option
def test(file: Path, draft: Path | None, **options: Any) -> None:  # noqa: ANN401 - click's
    """Hold your own examples of what should be allowed and denied against your charter, or against a draft.

    \b
    doorward charter edit --stdout > draft     then edit the draft
    doorward consent test my-examples.yaml --charter draft
    doorward charter edit --file draft         signs it

    Exit code 1 if any example does not go as it says. An example file: docs/consent-examples.yaml.
    """  # noqa: D301 - click's marker is a real backspace
    with opened(options) as client:
        current, _ = client.charter()
    if draft is not None:
        current = read_draft(draft, current)
    outcomes = [check(example, current) for example in read_examples(file, current, clock.wall_ns())]
    failed = [outcome for outcome in outcomes if outcome.wrong]
    if options["as_json"]:
        words.print_json([_outcome_json(outcome) for outcome in outcomes])
    else:
        for outcome in outcomes:
            click.echo(f"{'FAIL' if outcome.wrong else 'ok  '}  {outcome.example.name}{outcome.wrong}")
    if failed:
        raise Refused(f"{len(failed)} of {len(outcomes)} examples do not go as they say", reason="examples")


def read_draft(path: Path, current: Charter) -> Charter:
    """A charter that nobody has signed yet, as 'charter edit' takes it.

    Raises:
        ConfigError: Not readable, or no charter; it names the line.
    """
    from agent.cli import charter_reading  # noqa: PLC0415 - most commands do without it

    return charter_reading.read(_bytes(path).decode("utf-8", errors="replace"), current, file=str(path))


def _bytes(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: too large (expected at most {MAX_FILE_BYTES} bytes)")
    return data


def _yaml(path: Path) -> object:
    import yaml  # noqa: PLC0415 - most commands do without it

    try:
        return yaml.safe_load(_bytes(path))
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not YAML{at}") from error


def read_examples(path: Path, current: Charter, now_ns: int) -> list[Example]:
    """The examples of a file. Days of the week mean the next such day after ``now_ns``.

    Raises:
        ConfigError: Not readable, or one that makes no sense; it names the example.
    """
    try:
        fields = Fields(_yaml(path), "file")
        zone_name = fields.text("zone", max_chars=60) if fields.has("zone") else hours.local_zone() or "UTC"
        zone = zones.load({zone_name}).get(zone_name)
        if zone is None:
            raise DocumentError(f"file.zone (got {zone_name!r}, which this machine does not know)")

        def one(value: object, where: str) -> Example:
            return _example(value, where, current, zone, now_ns)

        examples = list(fields.items("examples", one, most=MOST_EXAMPLES))
        fields.done()
    except (MalformedInput, Refused) as error:
        raise ConfigError(f"{path}: {error}") from error
    return examples


def _example(value: object, where: str, current: Charter, zone: dt.tzinfo, now_ns: int) -> Example:
    if isinstance(value, dict) and isinstance(value.get("at"), dt.datetime):
        value = {**value, "at": value["at"].isoformat(" ")}
    fields = Fields(value, where)
    camera = fields.name("camera")
    agency = agency_named(current, fields.text("agency", max_chars=100)).key_id
    expected = fields.text("expect", max_chars=60)
    if expected not in {"allow", "deny"}:
        raise DocumentError(f"{where}.expect (got {expected!r}, expected allow or deny)")

    def switch(name: str) -> bool:
        return fields.boolean(name) if fields.has(name) else False

    example = Example(
        name=fields.text("name", max_chars=200),
        agency=agency,
        camera=camera,
        areas=fields.items("areas", _name, most=64) if fields.has("areas") else (),
        purpose=fields.choice("purpose", PurposeKind) if fields.has("purpose") else PurposeKind.INCIDENT,
        at_ns=_moment(fields.text("at", max_chars=40), f"{where}.at", zone, now_ns),
        alarm=switch("alarm"),
        shutter=fields.choice("shutter", ShutterState) if fields.has("shutter") else ShutterState.OPEN,
        blocked=switch("blocked"),
        consented=fields.boolean("consented") if fields.has("consented") else True,
        mode=fields.choice("mode", Mode) if fields.has("mode") else Mode.LIVE,
        allow=expected == "allow",
        because=fields.choice("because", DenialReason) if fields.has("because") else None,
        at_most=fields.record("at_most", _at_most) if fields.has("at_most") else (),
    )
    fields.done()
    if (example.because is not None and example.allow) or (example.at_most and not example.allow):
        raise DocumentError(f"{where}: 'because' goes with deny, 'at_most' with allow")
    return example


def _name(value: object, where: str) -> str:
    return Fields({"name": value}, where).name("name")


def _at_most(value: object, where: str) -> tuple[tuple[str, int], ...]:
    fields = Fields(value, where)
    found = tuple(
        (name, fields.integer(name, 1, 2**31)) for name in ("seconds", "height", "fps") if fields.has(name)
    )
    fields.done()
    return found


def _moment(text: str, where: str, zone: dt.tzinfo, now_ns: int) -> int:
    """UTC nanoseconds of ``mon 12:00`` (the next one) or ``2026-02-02 12:00`` in a zone."""
    day, _, time = text.partition(" ")
    known = {str(each): number for number, each in enumerate(_DAYS)}
    try:
        if day.lower() not in known:
            return round(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()) * SECOND_NS
        today = dt.datetime.fromtimestamp(now_ns // SECOND_NS, zone).date()
        ahead = (known[day.lower()] - today.weekday() - 1) % 7 + 1
        chosen = dt.datetime.combine(today + dt.timedelta(days=ahead), dt.time.fromisoformat(time), zone)
        return round(chosen.timestamp()) * SECOND_NS
    except (ValueError, OverflowError) as error:
        raise DocumentError(
            f"{where} (got {text!r}, expected something like mon 12:00 or 2026-02-02 12:00)"
        ) from error


def check(example: Example, current: Charter) -> Outcome:
    """Decide one example under a charter."""
    decision = _decide(example, current)
    if isinstance(decision, Grant):
        said = {"seconds": decision.seconds, "height": decision.view.max_height, "fps": decision.view.max_fps}
        wrong = "" if example.allow else ": expected deny, and it would be allowed"
        for name, most in example.at_most:
            if said[name] > most:
                wrong += f": expected at most {most} {name}, got {said[name]}"
        return Outcome(example, decision, wrong)
    why = f"{decision.reason} ({words.reason(decision.reason)})"
    if example.allow:
        return Outcome(example, decision, f": expected allow, and it would be denied: {why}")
    if example.because not in {None, decision.reason}:
        return Outcome(example, decision, f": expected deny because of {example.because}, got {why}")
    return Outcome(example, decision, "")


def _decide(example: Example, current: Charter) -> Decision:
    camera = current.camera(example.camera)
    areas = tuple(area.name for area in camera.areas) if camera else ()
    device = camera.device if camera else current.devices[0].key_id
    at_ns = example.at_ns
    given = Token(
        id="sha256:" + "1" * 64,
        household=current.household,
        device=device,
        agency=example.agency,
        operators=(),
        re=None,
        purpose=Purpose(example.purpose, "EXAMPLE"),
        scope=Scope(
            mode=example.mode,
            cameras=(example.camera,),
            not_before_ns=at_ns - _YEAR_NS,
            not_after_ns=at_ns + _YEAR_NS,
            areas=areas,
            max_height=LARGEST_HEIGHT,
            max_fps=120,
            session_seconds=MAX_SECONDS,
            total_seconds=MAX_SECONDS,
            sessions=1000,
            viewers=64,
        ),
        terms=Terms(forwarding=False, analysis=False, retention_days=0),
        epoch=0,
        nonce=bytes(16),
    )
    asked = asking(given, begin_ns=at_ns, end_ns=at_ns + 24 * 3600 * SECOND_NS)
    loaded = zones.load(set(zones.named(current, [])))
    return decisions.decide(
        replace(asked, areas=example.areas),
        charter=current,
        tokens=[given] if example.consented else [],
        state=Standing(
            shutter=example.shutter,
            blocked=frozenset({example.agency} if example.blocked else ()),
            alarm_until_ns=at_ns + _YEAR_NS if example.alarm else 0,
        ),
        conditions=conditions(given, loaded),
        now=Interval(at_ns, at_ns, TimeQuality.AUTHENTICATED),
    )


def _outcome_json(outcome: Outcome) -> dict[str, object]:
    decision = outcome.decision
    said = "granted" if isinstance(decision, Grant) else str(decision.reason)
    return {
        "name": outcome.example.name,
        "at": times.written(outcome.example.at_ns),
        "ok": not outcome.wrong,
        "decision": said,
        "wrong": outcome.wrong.removeprefix(": "),
    }
