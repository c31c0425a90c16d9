"""``doorward consent``: who asks, what they may see, and taking it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent.cli import words
from agent.cli.block import block, unblock
from agent.cli.client import nonce
from agent.cli.examples import test
from agent.cli.giving import give, grant
from agent.cli.named import agency_named, pick, picked_token, requests_of, short
from agent.cli.options import daily_keys, door_options, json_option, opened
from agent.cli.week import calendar
from agent.consent import envelope, times
from agent.consent.acts import Dismissal
from agent.consent.envelope import PayloadType
from agent.consent.token import Revocation
from agent.errors import MalformedInput
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from agent.cli.client import Client
    from agent.consent.acts import Acknowledgement
SOON_S = 300
"""A request that lapses within this many seconds is flagged."""


@click.group()
def consent() -> None:
    """Who asks to see your camera, what you allow, and taking it back."""


for command in (grant, give, calendar, test, block, unblock):
    consent.add_command(command)


@consent.command("requests")
@door_options
@json_option
def requests(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """List what agencies have asked and how it stands."""
    with opened(options) as client:
        found = requests_of(client)
        shared = _shared_areas(client) if found else {}
    if options["as_json"]:
        words.print_json(found)
        return
    if not found:
        click.echo("Nobody has asked.")
    for each in found:
        purpose = each["purpose"]
        click.echo(f"{short(each['id'])}  {_standing(each)}")
        click.echo(f"    {each['agency_name']}, {each['operator']}, badge {each['badge']}, asks to see")
        areas = ", ".join(each["areas"]) or "whatever area you allow"
        click.echo(
            f"    camera {each['camera']} ({areas}), {each['mode']}, up to {words.length(each['seconds'])}"
        )
        lapses = words.written_time(each["expires_at"])
        click.echo(f"    for: {purpose['kind']}, {purpose['reference']}; lapses {lapses}")
        if each["standing"] in {"waiting", "dismissed"}:
            chosen = each["areas"] or shared.get(each["camera"]) or ["NAME"]
            asked = " ".join(f"--area {area}" for area in chosen)
            click.echo(
                f"    allow: doorward consent grant --request {short(each['id'])} "
                f"--for {_typed(each['seconds'])} {asked}"
            )


def _standing(each: dict[str, Any]) -> str:
    """How a request stands, with how long it still waits."""
    left = each["lapses_in_s"]
    if each["standing"] == "waiting" and left is not None:
        near = ", SOON" if left <= SOON_S else ""
        return f"waits for you: {words.reason(each['decision'])}; lapses in {words.length(left)}{near}"
    if each["standing"] == "dismissed":
        return f"you said not now; {words.reason(each['decision'])}"
    return words.reason(each["decision"])


def _typed(seconds: int) -> str:
    """A duration as it can be typed."""
    return f"{seconds}s" if seconds % 60 else f"{seconds // 60}m"


def _shared_areas(client: Client) -> dict[str, list[str]]:
    """The areas that each camera has, by name."""
    current, _ = client.charter()
    return {camera.name: [area.name for area in camera.areas] for camera in current.cameras}


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
        click.echo(f"{short(each['id'])}  {name}, {state}{watching}")
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
        each, _ = picked_token(client, token_id)
        _, blob = client.door.call(Operation.CONSENT, {"id": each["id"]})
    _, payload = envelope.unverified_payload(blob)
    click.echo(payload.decode())


@consent.command("explain")
@click.argument("request_id")
@door_options
@json_option
def explain(request_id: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Explain how a request would be decided now: each rule, and the one that decides."""
    with opened(options) as client:
        each = pick(requests_of(client), request_id, "request", "see 'doorward consent requests'")
        found, _ = client.door.call(Operation.EXPLAIN, {"request": each["id"]})
    if options["as_json"]:
        words.print_json(found)
        return
    for line in explained(found):
        click.echo(line)


def explained(found: dict[str, Any]) -> list[str]:
    """Each rule in order, under what it was held against, and the one that decided."""
    listed = found.get("steps")
    steps = listed if isinstance(listed, list) else []
    lines = []
    subject = None
    for step in steps:
        if step["subject"] != subject:
            subject = step["subject"]
            lines.append("The household:" if subject == "household" else f"Consent {short(subject)}:")
        lines.append(f"  {'yes' if step['holds'] else 'NO '}  {step['rule']}")
    decided = found.get("decision")
    because = next((step["rule"] for step in reversed(steps) if step["reason"] == decided), None)
    lines.append(f"So: {words.reason(decided)}." + (f" It was decided by: {because}." if because else ""))
    return lines


@consent.command("dismiss")
@click.argument("request_id")
@door_options
def dismiss(request_id: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Say "not now" to a request. Whoever asked cannot tell it from silence; you may still allow it."""
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        each = pick(requests_of(client), request_id, "request", "see 'doorward consent requests'")
        document = Dismissal("", memory.household, each["id"], nonce())
        client.act(keys, [envelope.sign(PayloadType.DISMISSAL, document.payload(), [keys.signing])])
    click.echo("Not now. They hear nothing of it; when the request lapses they hear that nobody answered.")


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
            token=picked_token(client, token_id)[0]["id"] if token_id else None,
            agency=agency_named(client.charter()[0], options["agency"]).key_id if options["agency"] else None,
            nonce=nonce(),
        )
        acknowledgement = client.act(
            keys, [envelope.sign(PayloadType.REVOCATION, document.payload(), [keys.signing])]
        )
    _say_stopped(acknowledgement, as_json=options["as_json"])


def _say_stopped(acknowledgement: Acknowledgement, *, as_json: bool) -> None:
    if as_json:
        words.print_json(
            {
                "entries": list(acknowledgement.entries),
                "learned_boot_us": acknowledgement.learned_boot_us,
            }
        )
        return
    click.echo(f"Stopped: the device has acknowledged it (ledger entry {acknowledgement.entries[0]}).")
