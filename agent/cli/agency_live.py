"""``doorward agency ask``, ``requests`` and ``watch``: the conversation, for an operator and for scripts."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agent.agency import identity as identities
from agent.agency import watching as watchings
from agent.agency.client import Line
from agent.agency.client import ask as ask_device
from agent.agency.conversation import Wanted, check_wanted
from agent.agency.introductions import all_devices, find_device
from agent.agency.routes import HttpRoute, read_route
from agent.agency.words import duration, granted, hint
from agent.agency.words import words as reason_words
from agent.cli import words
from agent.cli.agency_options import Office, find_request, office, route_options, route_to, short
from agent.cli.options import json_option
from agent.cli.times import parse_duration
from agent.consent.reasons import AgencyReason
from agent.consent.rules import PurposeKind
from agent.consent.token import Purpose
from agent.errors import DoorwardError, Refused, Unreachable
from agent.streaming.ice import Ice, IcePolicy
from hal import clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agent.agency.conversation import Decided
    from agent.agency.introductions import KnownDevice
    from agent.agency.routes import Route
    from agent.agency.store import RequestRow
    from agent.agency.watching import Watched, Watching
    from agent.consent.token import Token

FETCH_S: Final = 3.0
"""How long ``requests --fetch`` listens to each link."""


def _event(name: str, **fields: object) -> None:
    """One line of JSON, at once: scripts wait for it."""
    words.print_json({"event": name, **fields})


@click.group("ask")
def ask() -> None:
    """Ask a household to let you look."""


@ask.command("live")
@click.option("--device", "device_name", required=True, help="The device, by name or id.")
@click.option("--camera", required=True, help="The camera, by name.")
@click.option(
    "--purpose",
    type=click.Choice([str(each) for each in PurposeKind]),
    default=str(PurposeKind.INCIDENT),
    show_default=True,
    help="Why.",
)
@click.option("--reference", required=True, help="Your case number; it stands in clear in the request.")
@click.option("--for", "length", default="15m", show_default=True, help="How long you want to look.")
@click.option(
    "--area", "areas", multiple=True, help="Only this named area; repeatable. [default: as allowed]"
)
@click.option("--max-height", type=click.IntRange(1, 2160), default=480, show_default=True, help="Lines.")
@click.option(
    "--max-fps", type=click.IntRange(1, 120), default=30, show_default=True, help="Pictures a second."
)
@click.option("--lifetime", default="10m", show_default=True, help="How long the owners have to answer.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the owners' answer.")
@click.option("--operator", "number", help="Who asks, by badge number. [default: the only one there is]")
@route_options
@json_option
@click.pass_obj
def live(directory: Path, /, *, wait: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Ask to look live. Exit code 1 if the answer is no, or none comes in time.

    With --json one object a line: {"event": "asked", "request": …}, then {"event": "decided", …}.
    A device asked over its own address keeps a late answer for a day.

    \b
    Example: doorward agency ask live --device front-door --camera front --reference 2026-1184 \\
                 --for 5m --area door
    """  # noqa: D301 - click's marker is a real backspace
    wanted = Wanted(
        camera=options["camera"],
        purpose=Purpose(PurposeKind(options["purpose"]), options["reference"]),
        seconds=parse_duration(options["length"]),
        max_height=options["max_height"],
        max_fps=options["max_fps"],
        areas=tuple(options["areas"]),
        lifetime_s=parse_duration(options["lifetime"]),
    )
    with office(directory) as opened:
        device = find_device(opened.store, options["device_name"])
        check_wanted(wanted, device)
        operator = identities.operator(opened.store, opened.identity, options["number"], clock.wall_ns())
        route = route_to(opened, device, options)

        def told(request: str, status: AgencyReason) -> None:
            if status is not AgencyReason.PENDING:
                return
            if as_json:
                _event("asked", request=request, status=str(status))
            else:
                click.echo(f"{short(request)}  {reason_words(status)}")
                if wait:
                    most = options["lifetime"]
                    click.echo(
                        f"    waiting for the owners, at most {most}; Ctrl-C leaves the request standing"
                    )

        async def run() -> Decided:
            transport = route.transport(opened.identity.key_id, device.key_id)
            async with Line(opened.conversation, transport, _heard(opened, device, route)) as line:
                return await ask_device(
                    line, opened.conversation, operator, device, wanted, wait=wait, told=told
                )

        decided = asyncio.run(run())
    _say_decided(decided, wanted, wait=wait, as_json=as_json)


def _heard(opened: Office, device: KnownDevice, route: Route) -> list[KnownDevice]:
    """Whom to listen to: a post delivers for all devices at once, and what comes for others must be kept."""
    return [device] if isinstance(route, HttpRoute) else all_devices(opened.store)


def _say_decided(decided: Decided, wanted: Wanted, *, wait: bool, as_json: bool) -> None:
    """The last word.

    Raises:
        Refused: It is not yes; without ``wait``, pending is what was asked for.
    """
    if as_json:
        until_ns = decided.token.scope.not_after_ns if decided.token else None
        _event(
            "decided",
            request=decided.request,
            status=str(decided.status),
            token=decided.token.id if decided.token else None,
            until_ns=until_ns,
        )
    elif decided.token is not None:
        click.echo(f"{short(decided.request)}  {_granted(decided.token, wanted.seconds)}")
        click.echo(f"    {_allowed(decided.token)}")
        click.echo(f"    watch: doorward agency watch --request {short(decided.request)}")
    if decided.token is None and (wait or decided.status is not AgencyReason.PENDING):
        raise Refused(reason_words(decided.status), reason=str(decided.status), hint=hint(decided.status))


def _granted(token: Token, seconds: int) -> str:
    return granted(token.scope.not_after_ns, min(seconds, token.scope.session_seconds), clock.wall_ns())


def _allowed(token: Token) -> str:
    """What is seen, and what may not be done with it."""
    scope, terms = token.scope, token.terms
    return "; ".join(
        (
            f"areas {', '.join(scope.areas) or 'none'}",
            "may be passed on" if terms.forwarding else "may not be passed on",
            "machine analysis allowed" if terms.analysis else "no machine analysis",
            f"keep {terms.retention_days} days at most" if terms.retention_days else "keep nothing",
        )
    )


@click.command("requests")
@click.option("--fetch", is_flag=True, help="Look first whether answers have come.")
@json_option
@click.pass_obj
def requests(directory: Path, *, fetch: bool, as_json: bool) -> None:
    """List what was asked and how it stands, newest first."""
    now_ns = clock.wall_ns()
    with office(directory) as opened:
        if fetch:
            asyncio.run(_fetch(opened))
        devices = {device.key_id: device for device in all_devices(opened.store)}
        rows = opened.store.requests()
        found = [(row, opened.conversation.request_of(row)) for row in rows]
        tokens = {row.id: opened.conversation.token_of(row.token) for row in rows if row.token is not None}
        ends = {
            row.id: opened.conversation.last_end(devices[row.device], row)
            for row in rows
            if row.device in devices
        }
    if as_json:
        words.print_json(
            [
                {
                    "request": row.id,
                    "device": row.device,
                    "camera": request.camera,
                    "purpose": request.purpose.to_json(),
                    "operator": row.operator,
                    "status": str(row.status_at(now_ns)),
                    "issued_ns": row.issued_ns,
                    "expires_ns": row.expires_ns,
                    "token": tokens[row.id].id if row.id in tokens else None,
                    "until_ns": tokens[row.id].scope.not_after_ns if row.id in tokens else None,
                    "last_session": str(ends[row.id]) if ends.get(row.id) else None,
                }
                for row, request in found
            ]
        )
        return
    if not found:
        click.echo("Nothing was asked yet.")
    for row, request in found:
        token = tokens.get(row.id)
        state = _granted(token, request.seconds) if token else reason_words(row.status_at(now_ns))
        end = ends.get(row.id)
        seen = f"; last session {reason_words(end)}" if end else ""
        click.echo(f"{short(row.id)}  {state}{seen}")
        name = devices[row.device].name if row.device in devices else short(row.device)
        click.echo(
            f"    {name}, camera {request.camera}: "
            f"{request.purpose.kind} {request.purpose.reference}, asked by number {row.operator} "
            f"at {words.local_time(row.issued_ns)}"
        )


async def _fetch(opened: Office) -> None:
    """Listen a moment to every link that is known."""
    links: dict[str, list[KnownDevice]] = {}
    for device in all_devices(opened.store):
        text = opened.store.route(device.key_id)
        if text is not None:
            links.setdefault(text, []).append(device)
    async with asyncio.TaskGroup() as group:
        for text, devices in links.items():
            group.create_task(_listen(opened, read_route(text), devices))


async def _listen(opened: Office, route: Route, devices: list[KnownDevice]) -> None:
    try:
        transport = route.transport(opened.identity.key_id, devices[0].key_id)
        async with Line(opened.conversation, transport, devices) as line:
            await asyncio.sleep(FETCH_S)
            troubles = list(line.trouble().values())
    except DoorwardError as error:
        troubles = [error]
    for trouble in troubles:
        click.echo(f"doorward: warning: {trouble}", err=True)


@click.command("watch")
@click.option(
    "--request", "request_id", required=True, help="A granted request, by the first digits of its id."
)
@click.option("--save", type=click.Path(path_type=Path), help="Keep what is shown in a new MP4 file.")
@click.option("--for", "length", help="Leave after so long. [default: when the device ends it]")
@click.option("--ice-address", "addresses", multiple=True, help="Use only this address of ours; repeatable.")
@route_options
@json_option
@click.pass_obj
def watch(directory: Path, /, *, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Watch under a granted request until it ends; Ctrl-C leaves.

    Only what the token's terms allow may be done with the file. With --json one object a line:
    {"event": "watching", "session": …}, then {"event": "ended", "reason": …}. Times in it are nanoseconds of
    this machine's CLOCK_BOOTTIME. Exit code 0 whoever ended it, 3 if the connection was lost.

    \b
    Example: doorward agency watch --request 3fa1c09b --save out.mp4 --for 60s
    """  # noqa: D301 - click's marker is a real backspace
    seconds = parse_duration(options["length"]) if options["length"] else None
    save: Path | None = options["save"].expanduser() if options["save"] else None
    ice = Ice(IcePolicy.ALL, (), tuple(options["addresses"]) or None)
    with office(directory) as opened:
        row = find_request(opened, options["request_id"])
        device = find_device(opened.store, row.device)
        route = route_to(opened, device, options)
        watched = asyncio.run(_watch(opened, row, device, route, ice, save, seconds, as_json=as_json))
    _say_watched(watched, as_json=as_json)


async def _watch(
    opened: Office,
    row: RequestRow,
    device: KnownDevice,
    route: Route,
    ice: Ice,
    save: Path | None,
    seconds: int | None,
    *,
    as_json: bool,
) -> Watched:
    now_ns = clock.wall_ns()
    operator = identities.operator(opened.store, opened.identity, row.operator, now_ns)
    transport = route.transport(opened.identity.key_id, device.key_id)
    async with (
        Line(opened.conversation, transport, _heard(opened, device, route)) as line,
        _leaving() as stop,
    ):
        row = await watchings.granted_request(line, opened.conversation, device, row, now_ns)

        def told(begun: Watching) -> None:
            if as_json:
                _event(
                    "watching",
                    request=row.id,
                    offer=begun.offer,
                    session=begun.session,
                    seconds=begun.seconds,
                    entry=begun.entry,
                )
                return
            click.echo(f"watching: session {begun.session}, at most {duration(begun.seconds)}")
            if row.token is not None:
                token = opened.conversation.token_of(row.token)
                click.echo(f"    {_allowed(token)}")
                if save is not None and not token.terms.retention_days:
                    click.echo(f"    the owners let you keep nothing: delete {save} when you have watched")
            click.echo("    Ctrl-C leaves")

        return await watchings.watch(
            line,
            opened.conversation,
            operator,
            device,
            row,
            ice=ice,
            save=save,
            seconds=seconds,
            stop=stop,
            told=told,
        )


@contextlib.asynccontextmanager
async def _leaving() -> AsyncIterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C ends the program at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def leave() -> None:
        stop.set()
        for number in numbers:
            loop.remove_signal_handler(number)

    for number in numbers:
        loop.add_signal_handler(number, leave)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _say_watched(watched: Watched, *, as_json: bool) -> None:
    """The report.

    Raises:
        Unreachable: The connection was lost.
    """
    if as_json:
        _event("ended", **watched.to_json())
    else:
        received = watched.received
        first, last = received.first_rtp_boot_ns, received.last_rtp_boot_ns
        lasted = f"{(last - first) / 1e9:.1f} s" if first is not None and last is not None else "no time"
        click.echo(watchings.reason_words(watched.reason))
        click.echo(f"    {received.frames} pictures, {words.size(received.payload_bytes)} in {lasted}")
        if watched.file is not None:
            click.echo(f"    saved to {watched.file}")
        proof = f"start is entry {watched.watching.entry}, verified"
        if watched.ended is None:
            click.echo(f"    receipts: {proof}; that of the end has not come yet")
        else:
            click.echo(
                f"    receipts: {proof}; end is entry {watched.end_entry}, verified "
                f"({watched.ended.frames} pictures sent)"
            )
    if watched.reason == watchings.LOST:
        raise Unreachable("connection lost", hint="watch again under the same request while it is granted")
