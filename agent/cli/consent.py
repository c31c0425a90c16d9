"""``doorward consent``: who asks, what they may see, and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli import words
from agent.cli.client import nonce
from agent.cli.options import daily_keys, door_options, json_option, opened
from agent.cli.times import parse_duration
from agent.consent import envelope, times, token
from agent.consent.envelope import PayloadType
from agent.consent.rules import Mode, PurposeKind
from agent.consent.token import Purpose, Revocation, Scope, Terms, Token
from agent.errors import MalformedInput, Refused
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from agent.cli.client import Client
    from agent.consent.acts import Acknowledgement

BEGUN_NS = 30 * times.SECOND_NS
"""A consent begins a little before it is signed, so that the device's idea of the time need not be exact."""

SHORT = 16


@click.group()
def consent() -> None:
    """Who asks to see your camera, what you allow, and taking it back."""


def _requests(client: Client) -> list[dict[str, Any]]:
    result, _ = client.door.call(Operation.REQUESTS)
    found = result.get("requests")
    return found if isinstance(found, list) else []


def _pick(found: list[dict[str, Any]], wanted: str, what: str, hint: str) -> dict[str, Any]:
    """The one whose id begins with what was typed."""
    digits = wanted.removeprefix("sha256:").lower()
    matching = [each for each in found if str(each["id"]).removeprefix("sha256:").startswith(digits)]
    if len(matching) != 1 or not digits:
        many = "several begin" if matching else "none begins"
        raise Refused(f"{what} {wanted}: {many} with that", reason="unknown", hint=hint)
    return matching[0]


def _short(name: object) -> str:
    return str(name).removeprefix("sha256:")[:SHORT]


@consent.command("requests")
@door_options
@json_option
def requests(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """List what agencies have asked and how it stands."""
    with opened(options) as client:
        found = _requests(client)
        shared = _shared_areas(client) if found else {}
    if options["as_json"]:
        words.print_json(found)
        return
    if not found:
        click.echo("Nobody has asked.")
    for each in found:
        purpose = each["purpose"]
        click.echo(f"{_short(each['id'])}  {words.reason(each['decision'])}")
        click.echo(f"    {each['agency_name']}, {each['operator']}, badge {each['badge']}, asks to see")
        areas = ", ".join(each["areas"]) or "whatever area you allow"
        click.echo(
            f"    camera {each['camera']} ({areas}), {each['mode']}, up to {words.length(each['seconds'])}"
        )
        lapses = words.written_time(each["expires_at"])
        click.echo(f"    for: {purpose['kind']}, {purpose['reference']}; lapses {lapses}")
        if each["decision"] != "granted":
            chosen = each["areas"] or shared.get(each["camera"]) or ["NAME"]
            asked = " ".join(f"--area {area}" for area in chosen)
            click.echo(
                f"    allow: doorward consent grant --request {_short(each['id'])} "
                f"--for {_typed(each['seconds'])} {asked}"
            )


def _typed(seconds: int) -> str:
    """A duration as it can be typed."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def _shared_areas(client: Client) -> dict[str, list[str]]:
    """The areas that each camera has, by name."""
    current, _ = client.charter()
    return {camera.name: [area.name for area in camera.areas] for camera in current.cameras}


@consent.command("grant")
@click.option("--request", "request_id", required=True, help="The request, by the first digits of its id.")
@click.option("--for", "length", default="15m", show_default=True, help="How long: 90s, 15m, 1h.")
@click.option("--area", "areas", multiple=True, required=True, help="A named area of the camera; repeatable.")
@click.option(
    "--max-height",
    type=click.IntRange(1, token.LARGEST_HEIGHT),
    default=480,
    show_default=True,
    help="The largest picture, in lines.",
)
@click.option(
    "--max-fps", type=click.IntRange(1, 120), default=15, show_default=True, help="Pictures a second."
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="How many times they may begin to watch.",
)
@click.option("--viewers", type=click.IntRange(1, 64), default=1, show_default=True, help="How many at once.")
@click.option("--forwarding", is_flag=True, help="They may pass it on to their media server.")
@click.option("--analysis", is_flag=True, help="They may analyse it by machine, faces included.")
@click.option(
    "--retention-days",
    type=click.IntRange(0, 36_500),
    default=0,
    show_default=True,
    help="How long they may keep what they saw; 0: they may keep nothing.",
)
@door_options
@json_option
def grant(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Allow what was asked: these areas of this camera, to this agency, for so long.

    Only the named areas are shown; everything else is blacked out before it leaves the device.
    """
    seconds = parse_duration(options["length"])
    keys = daily_keys(options)
    with opened(options) as client:
        found = client.find()
        memory = client.need_memory(found)
        asked = _pick(_requests(client), options["request_id"], "request", "see 'doorward consent requests'")
        _check_areas(client, asked["camera"], options["areas"])
        result, _ = client.door.call(Operation.CONSENTS)
        now = clock.wall_ns() // times.SECOND_NS * times.SECOND_NS
        purpose = asked["purpose"]
        granted = Token(
            id="",
            household=memory.household,
            device=found.descriptor.device,
            agency=asked["agency"],
            operators=(),
            re=asked["id"],
            purpose=Purpose(PurposeKind(purpose["kind"]), purpose["reference"], purpose.get("statement")),
            scope=Scope(
                mode=Mode(asked["mode"]),
                cameras=(asked["camera"],),
                not_before_ns=now - BEGUN_NS,
                not_after_ns=now + seconds * times.SECOND_NS,
                areas=tuple(options["areas"]),
                max_height=options["max_height"],
                max_fps=options["max_fps"],
                session_seconds=seconds,
                total_seconds=seconds,
                sessions=options["sessions"],
                viewers=options["viewers"],
            ),
            terms=Terms(options["forwarding"], options["analysis"], options["retention_days"]),
            epoch=int(str(result.get("epoch", 0))),
            nonce=nonce(),
        )
        payload = granted.payload()
        acknowledgement = client.act(keys, [envelope.sign(PayloadType.TOKEN, payload, [keys.signing])])
    own_id = envelope.document_id(payload)
    if options["as_json"]:
        words.print_json({"token": own_id, "entries": list(acknowledgement.entries)})
        return
    until = words.local_time(granted.scope.not_after_ns)
    click.echo(f"Allowed until {until}: {asked['agency_name']} may see {', '.join(options['areas'])}.")
    click.echo(f"To stop it at any time: doorward consent revoke {_short(own_id)}")


def _check_areas(client: Client, camera: str, areas: tuple[str, ...]) -> None:
    current, _ = client.charter()
    entry = current.camera(camera)
    known = [area.name for area in entry.areas] if entry else []
    for area in areas:
        if area not in known:
            raise MalformedInput(
                f"area {area}: camera {camera} has none of that name (it has {', '.join(known) or 'none'})",
                hint="draw one: doorward charter add-area CAMERA NAME 'x,y x,y x,y'",
            )


@consent.command("list")
@door_options
@json_option
def list_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """List what you have allowed and what has been used of it."""
    with opened(options) as client:
        found, _ = client.door.call(Operation.CONSENTS)
        tokens = found.get("tokens")
        current = client.charter()[0] if tokens else None
    if options["as_json"]:
        words.print_json(found)
        return
    if not isinstance(tokens, list) or not tokens or current is None:
        click.echo("You have allowed nothing.")
        return
    now_ns = clock.wall_ns()
    for each in tokens:
        scope = each["scope"]
        end = words.written_time(scope["not_after"])
        over = times.parse(scope["not_after"], "time") <= now_ns
        state = "revoked" if each["revoked"] else f"ended {end}" if over else f"until {end}"
        watching = ", WATCHING NOW" if each["watching"] else ""
        agency = current.agency(each["agency"])
        name = agency.name if agency else "an agency that is no longer in your charter"
        click.echo(f"{_short(each['id'])}  {name}, {state}{watching}")
        click.echo(
            f"    {each['purpose']['reference']}: {', '.join(scope['areas'])} of "
            f"{', '.join(scope['cameras'])}, {scope['max_height']} lines, {scope['max_fps']}/s"
        )
        click.echo(
            f"    used {each['sessions_used']} of {scope['sessions']} sessions, "
            f"{each['seconds_used']} of {scope['total_seconds']} s"
        )


@consent.command("show")
@click.argument("token_id")
@door_options
def show(token_id: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show a consent as it was signed (JSON)."""
    with opened(options) as client:
        each = _picked_token(client, token_id)
        _, blob = client.door.call(Operation.CONSENT, {"id": each["id"]})
    _, payload = envelope.unverified_payload(blob)
    click.echo(payload.decode())


def _picked_token(client: Client, token_id: str) -> dict[str, Any]:
    result, _ = client.door.call(Operation.CONSENTS)
    tokens = result.get("tokens")
    found = tokens if isinstance(tokens, list) else []
    return _pick(found, token_id, "consent", "see 'doorward consent list'")


@consent.command("explain")
@click.argument("request_id")
@door_options
@json_option
def explain(request_id: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Explain how a request would be decided now: each rule, and the one that decides."""
    with opened(options) as client:
        each = _pick(_requests(client), request_id, "request", "see 'doorward consent requests'")
        found, _ = client.door.call(Operation.EXPLAIN, {"request": each["id"]})
    if options["as_json"]:
        words.print_json(found)
        return
    steps = found.get("steps")
    for step in steps if isinstance(steps, list) else []:
        mark = "yes" if step["holds"] else "NO "
        subject = "" if step["subject"] == "household" else f"  (consent {_short(step['subject'])})"
        click.echo(f"  {mark}  {step['rule']}{subject}")
    click.echo(f"So: {words.reason(found.get('decision'))}.")


@consent.command("revoke")
@click.argument("token_id", required=False)
@click.option("--agency", metavar="NAME", help="Take back everything given to this agency.")
@click.option("--all", "everything", is_flag=True, help="Take back everything given to anybody.")
@door_options
@json_option
def revoke(token_id: str | None, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Take consent back: one by its id, an agency's, or all. It is final, and whoever watches stops now."""
    if sum(bool(each) for each in (token_id, options["agency"], options["everything"])) != 1:
        raise MalformedInput("revoke: what? (expected one consent, --agency NAME, or --all)")
    keys = daily_keys(options)
    with opened(options) as client:
        memory = client.need_memory(client.find())
        document = Revocation(
            id="",
            household=memory.household,
            token=_picked_token(client, token_id)["id"] if token_id else None,
            agency=_agency(client, options["agency"]) if options["agency"] else None,
            nonce=nonce(),
        )
        acknowledgement = client.act(
            keys, [envelope.sign(PayloadType.REVOCATION, document.payload(), [keys.signing])]
        )
    _say_stopped(acknowledgement, as_json=options["as_json"])


def _agency(client: Client, name: str) -> str:
    current, _ = client.charter()
    matching = [each for each in current.agencies if name in (each.name, each.key_id)]
    if len(matching) != 1:
        known = ", ".join(each.name for each in current.agencies) or "none"
        raise Refused(f"agency {name}: not in your charter (there is {known})", reason="unknown")
    return matching[0].key_id


def _say_stopped(acknowledgement: Acknowledgement, *, as_json: bool) -> None:
    if as_json:
        words.print_json(
            {
                "entries": list(acknowledgement.entries),
                "learned_boot_us": acknowledgement.learned_boot_us,
            }
        )
        return
    click.echo(f"Stopped: the device has acknowledged it (ledger entry {acknowledgement.entries[-1]}).")
