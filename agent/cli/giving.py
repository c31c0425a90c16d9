"""Consents that owners give: in answer to a request, or prepared for what may come.

Both ways make one token and hand it over the same way: signed with the daily key where the charter's daily
limits allow it, else with the recovery code; passed round as a file where one owner is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import collecting, hours, sentences, words
from agent.cli.client import nonce
from agent.cli.collecting import save_option
from agent.cli.named import agency_named, pick, requests_of, short
from agent.cli.options import daily_keys, door_options, json_option, opened, root_keys, root_options
from agent.cli.times import parse_duration, parse_moment
from agent.consent import envelope, times, token
from agent.consent.envelope import PayloadType
from agent.consent.footage import FootageScope, MaxAge, Stretch
from agent.consent.rules import Mode, PurposeKind
from agent.consent.token import Purpose, Scope, Terms, Token
from agent.errors import MalformedInput, SignatureError
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.cli.client import Client, Signer
    from agent.consent.charter import Charter

BEGUN_NS: Final = 30 * times.SECOND_NS
"""A consent begins a little before it is signed, so that the device's idea of the time need not be exact."""

NOTHING_KEPT: Final = Terms(forwarding=False, analysis=False, retention_days=0)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is shown: seconds at a time and altogether, times, viewers at once, size."""

    session_seconds: int
    total_seconds: int
    sessions: int
    viewers: int
    max_height: int
    max_fps: int


def of_request(
    asked: dict[str, Any], areas: Sequence[str], seconds: int, limits: Limits, current: Charter
) -> Token:
    """A consent that answers one request and no other, from now on; see `hand_over`."""
    now_ns = clock.wall_ns() // times.SECOND_NS * times.SECOND_NS
    purpose = asked["purpose"]
    stretch = asked.get("footage")
    return Token(
        id="",
        household="",
        device="",
        agency=asked["agency"],
        operators=(),
        re=asked["id"],
        purpose=Purpose(PurposeKind(purpose["kind"]), purpose["reference"], purpose.get("statement")),
        scope=Scope(
            mode=Mode(asked["mode"]),
            cameras=(asked["camera"],),
            not_before_ns=now_ns - BEGUN_NS,
            not_after_ns=_end(now_ns, seconds, current),
            areas=tuple(areas),
            max_height=limits.max_height,
            max_fps=limits.max_fps,
            session_seconds=limits.session_seconds,
            total_seconds=limits.total_seconds,
            sessions=limits.sessions,
            viewers=limits.viewers,
            footage=Stretch.parse(stretch, "request") if stretch else None,
        ),
        terms=NOTHING_KEPT,
        epoch=0,
        nonce=nonce(),
    )


def _end(begin_ns: int, seconds: int, current: Charter) -> int:
    """The end of what begins now; what exceeds the daily limit by no more than `BEGUN_NS` is cut to it."""
    end_ns = begin_ns + seconds * times.SECOND_NS
    limit_ns = begin_ns - BEGUN_NS + current.daily_limits.max_seconds * times.SECOND_NS
    return limit_ns if limit_ns < end_ns <= limit_ns + BEGUN_NS else end_ns


def addressed(client: Client, granted: Token) -> Token:
    """The same for the household and device at the other end of the door, in its present epoch."""
    found = client.find()
    memory = client.need_memory(found)
    result, _ = client.door.call(Operation.CONSENTS)
    epoch = int(str(result.get("epoch", 0)))
    made = replace(granted, household=memory.household, device=found.descriptor.device, epoch=epoch)
    return token.parse(made.payload())


def beyond_daily_keys(granted: Token, current: Charter) -> str | None:
    """Why daily keys are not enough for it, in one line; None if they are."""
    try:
        token.check_daily_limits(granted, current)
    except SignatureError as error:
        return str(error)
    return None


def check_areas(current: Charter, cameras: Sequence[str], areas: Sequence[str]) -> None:
    """Every area must be one of each of the cameras.

    Raises:
        MalformedInput: One is not.
    """
    for camera in cameras:
        entry = current.camera(camera)
        if entry is None:
            known = ", ".join(each.name for each in current.cameras)
            raise MalformedInput(f"camera {camera}: not in your charter (there is {known})")
        names = [area.name for area in entry.areas]
        for area in areas:
            if area not in names:
                known = ", ".join(names) or "none"
                raise MalformedInput(
                    f"area {area}: camera {camera} has none of that name (it has {known})",
                    hint="draw one: doorward charter add-area CAMERA NAME 'x,y x,y x,y'",
                )


def _options(*more: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Options that are put on a command one after the other."""

    def put_on(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(more):
            command = option(command)
        return command

    return put_on


_size_and_terms = _options(
    click.option(
        "--max-height",
        type=click.IntRange(1, token.LARGEST_HEIGHT),
        default=480,
        show_default=True,
        help="The largest picture, in lines.",
    ),
    click.option(
        "--max-fps", type=click.IntRange(1, 120), default=15, show_default=True, help="Pictures a second."
    ),
    click.option(
        "--viewers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many at once."
    ),
    click.option("--forwarding", is_flag=True, help="They may pass it on to their media server."),
    click.option("--analysis", is_flag=True, help="They may analyse it by machine, faces included."),
    click.option(
        "--retention-days",
        type=click.IntRange(0, 36_500),
        default=0,
        show_default=True,
        help="How long they may keep what they saw; 0: they may keep nothing.",
    ),
)


def _terms(options: dict[str, Any]) -> Terms:
    return Terms(options["forwarding"], options["analysis"], options["retention_days"])


@click.command("grant")
@click.option("--request", "request_id", required=True, help="The request, by the first digits of its id.")
@click.option("--for", "length", default="15m", show_default=True, help="How long: 90s, 15m, 1h.")
@click.option("--area", "areas", multiple=True, required=True, help="A named area of the camera; repeatable.")
@click.option(
    "--sessions",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many times they may begin to watch.",
)
@_size_and_terms
@door_options
@root_options
@save_option
@json_option
def grant(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Allow what was asked: these areas of this camera, to this agency, for so long.

    Only the named areas are shown; everything else is blacked out before it leaves the device.
    """
    seconds = parse_duration(options["length"])
    keys = daily_keys(options)
    with opened(options, keys) as client:
        asked = pick(requests_of(client), options["request_id"], "request", "see 'doorward consent requests'")
        current, _ = client.charter()
        check_areas(current, [asked["camera"]], options["areas"])
        limits = Limits(
            seconds,
            seconds,
            options["sessions"],
            options["viewers"],
            options["max_height"],
            options["max_fps"],
        )
        granted = of_request(asked, options["areas"], seconds, limits, current)
        granted = addressed(client, replace(granted, terms=_terms(options)))
        if not _hand_over(client, granted, current, options, keys):
            return
    if options["as_json"]:
        return
    until = words.local_time(granted.scope.not_after_ns)
    click.echo(f"Allowed until {until}: {asked['agency_name']} may see {', '.join(options['areas'])}.")
    click.echo(f"To stop it at any time: doorward consent revoke {short(granted.id)}")


@click.command("give")
@click.option("--agency", required=True, metavar="NAME", help="To which agency of the charter.")
@click.option(
    "--purpose",
    type=click.Choice([str(each) for each in PurposeKind]),
    required=True,
    help="What for; a request must name the same.",
)
@click.option(
    "--reference", required=True, help="The reference a request must name: a case, a place, a drill."
)
@click.option("--camera", "cameras", multiple=True, required=True, help="Which camera; repeatable.")
@click.option(
    "--area", "areas", multiple=True, required=True, help="A named area of the cameras; repeatable."
)
@click.option("--from", "begin", default="now", show_default=True, help="From when on: a time, now or +1h.")
@click.option("--to", "end", help="Until when: a time, or +7d.")
@click.option("--for", "length", help="How long instead: 15m, 1h, 30d.")
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="'DAYS HH:MM-HH:MM'",
    help="Only at these hours; repeatable.",
)
@click.option("--zone", help="The time zone of the windows, such as Europe/Madrid. [default: this machine's]")
@click.option("--alarm", is_flag=True, help="It counts only while your alarm is on.")
@click.option("--session", default="15m", show_default=True, help="How long at a time.")
@click.option(
    "--sessions",
    type=click.IntRange(1, 1_000_000),
    default=5,
    show_default=True,
    help="How many times they may begin to watch.",
)
@click.option("--total", help="How long altogether. [default: as many sessions of full length]")
@click.option("--mode", type=click.Choice([str(each) for each in Mode]), default="live", show_default=True)
@click.option("--footage-from", help="With --mode footage: recorded from when on…")
@click.option("--footage-to", help="… until when.")
@click.option("--footage-age", help="With --mode footage: recorded not longer ago than this, such as 24h.")
@_size_and_terms
@click.option("--yes", is_flag=True, help="Sign without asking; for scripts.")
@door_options
@root_options
@save_option
@json_option
def give(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Allow in advance what nobody has asked for yet: standing consents, a known incident, a drill.

    A request that fits is then granted at once, without asking you. What goes beyond the daily limits of your
    charter, standing consents above all, is signed with your recovery code.

    \b
    doorward consent give --agency "Control Room" --purpose standing --reference GATE \\
        --camera front --area street --for 30d --window "mon-fri 08:00-18:00" --zone Europe/Madrid
    """  # noqa: D301 - click's marker is a real backspace
    scope = _scope(options)
    with opened(options) as client:
        current, _ = client.charter()
        agency = agency_named(current, options["agency"])
        check_areas(current, options["cameras"], options["areas"])
        granted = addressed(
            client,
            Token(
                id="",
                household="",
                device="",
                agency=agency.key_id,
                operators=(),
                re=None,
                purpose=Purpose(PurposeKind(options["purpose"]), options["reference"]),
                scope=scope,
                terms=_terms(options),
                epoch=0,
                nonce=nonce(),
            ),
        )
        for line in sentences.consent(granted, current):
            click.echo(line, err=options["as_json"])
        if not options["yes"]:
            click.confirm("Sign it?", abort=True, err=True)
        if not _hand_over(client, granted, current, options, None):
            return
    if not options["as_json"]:
        click.echo(f"What it allows in the next days: doorward consent calendar {short(granted.id)}")
        click.echo(f"To stop it at any time: doorward consent revoke {short(granted.id)}")


def _hand_over(
    client: Client, granted: Token, current: Charter, options: dict[str, Any], keys: Signer | None
) -> bool:
    """Sign it with the key it takes and hand it over; False if it was saved for the other owners."""
    why = beyond_daily_keys(granted, current)
    if why is not None:
        click.echo(f"This needs your recovery code: {why.removeprefix('token: ')}.", err=True)
        signer: Signer = root_keys(options)
    else:
        signer = keys or daily_keys(options)
    said = collecting.hand_over(client, PayloadType.TOKEN, granted.payload(), options, signer)
    if said is not None and options["as_json"]:
        own_id = envelope.document_id(granted.payload())
        words.print_json({"token": own_id, "entries": list(said.entries)})
    return said is not None


def _scope(options: dict[str, Any]) -> Scope:
    """The scope that the options of ``give`` describe.

    Raises:
        MalformedInput, ConfigError: They contradict each other.
    """
    now_ns = clock.wall_ns() // times.SECOND_NS * times.SECOND_NS
    begin_ns = now_ns - BEGUN_NS if options["begin"] == "now" else parse_moment(options["begin"], now_ns)
    if (options["end"] is None) is (options["length"] is None):
        raise MalformedInput("give: until when? (expected --to TIME or --for LENGTH)")
    if options["end"]:
        end_ns = parse_moment(options["end"], now_ns)
    else:
        end_ns = begin_ns + parse_duration(options["length"]) * times.SECOND_NS
    if end_ns <= max(begin_ns, now_ns):
        raise MalformedInput("give: it would end before it begins, or before now")
    session = min(parse_duration(options["session"]), (end_ns - begin_ns) // times.SECOND_NS)
    total = parse_duration(options["total"]) if options["total"] else session * options["sessions"]
    return Scope(
        mode=Mode(options["mode"]),
        cameras=options["cameras"],
        not_before_ns=begin_ns // times.SECOND_NS * times.SECOND_NS,
        not_after_ns=end_ns // times.SECOND_NS * times.SECOND_NS,
        areas=options["areas"],
        max_height=options["max_height"],
        max_fps=options["max_fps"],
        session_seconds=session,
        total_seconds=min(total, token.MAX_SECONDS),
        sessions=options["sessions"],
        viewers=options["viewers"],
        needs_alarm=options["alarm"],
        windows=hours.weekly(options["windows"], options["zone"]),
        footage=_footage(options, now_ns),
    )


def _footage(options: dict[str, Any], now_ns: int) -> FootageScope | None:
    begin, end, age = options["footage_from"], options["footage_to"], options["footage_age"]
    said = bool(age) + bool(begin or end)
    if options["mode"] != Mode.FOOTAGE:
        if said:
            raise MalformedInput("give: footage options without --mode footage")
        return None
    if said != 1 or bool(begin) is not bool(end):
        raise MalformedInput(
            "give: which footage? (expected --footage-from with --footage-to, or --footage-age)"
        )
    if age:
        return MaxAge(parse_duration(age))
    second = times.SECOND_NS
    return Stretch(
        parse_moment(begin, now_ns) // second * second, parse_moment(end, now_ns) // second * second
    )
