"""``doorward agency``: the agency's own program, and its set-up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from agent.agency import identity as identities
from agent.agency import introductions
from agent.agency.routes import read_route
from agent.agency.words import clock as clock_words
from agent.cli import words
from agent.cli.agency_live import ask, requests, watch
from agent.cli.agency_options import DEFAULT_DIRECTORY, chosen_route, office, route_options, short
from agent.cli.agency_receipts import receipt, receipts
from agent.cli.options import json_option
from agent.consent import envelope
from agent.consent.fields import encode_bytes
from agent.errors import ConfigError, StorageError
from hal import clock


@click.group()
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="Where this agency keeps its keys and its store.",
)
@click.pass_context
def agency(context: click.Context, directory: Path) -> None:
    """Ask households to look, watch what they allow, keep the proof.

    \b
    Begin:   doorward agency init --name "NAME"
             doorward agency badge --operator "NAME" --number 17
             doorward agency card --out card.json          give it to the household
             doorward agency import introduction.json --via https://192.0.2.7:8443
    Look:    doorward agency ask live --device front-door --camera front --reference 2026-1184
             doorward agency watch --request ID --save out.mp4
    Prove:   doorward agency receipts --verify

    Private keys lie unencrypted in files that only this account can read; put --dir on an encrypted disk.
    """  # noqa: D301 - click's marker is a real backspace
    context.obj = directory.expanduser()


@agency.command("init")
@click.option("--name", required=True, help="The agency's name, as households see it.")
@json_option
@click.pass_obj
def init(directory: Path, name: str, *, as_json: bool) -> None:
    """Make the agency's keys and an empty store.

    \b
    Example: doorward agency init --name "NAME"
    """  # noqa: D301 - click's marker is a real backspace
    with identities.found(directory, name) as store:
        identity = identities.load(store)
    if as_json:
        words.print_json({"agency": identity.key_id, "name": name, "directory": str(directory)})
        return
    click.echo(f"{name}: ready in {directory}")
    click.echo(f"  key {words.fingerprint(identity.key_id)}")
    click.echo('Next: doorward agency badge --operator "NAME" --number N')


@agency.command("card")
@click.option("--out", type=click.Path(path_type=Path), help="Write the card to a new file.")
@json_option
@click.pass_obj
def card(directory: Path, out: Path | None, *, as_json: bool) -> None:
    """Show the agency's card, for households to put into their charter.

    Households compare the digits of the key by telephone or in person. The link name is what a post's
    operator puts into our certificate as its common name.

    \b
    Example: doorward agency card --out card.json
    """  # noqa: D301 - click's marker is a real backspace
    with office(directory) as opened:
        identity = opened.identity
    signed = identity.card()
    if out is not None:
        write_new(out, signed + b"\n")
    link_name = envelope.short(identity.key_id)
    if as_json:
        words.print_json(
            {
                "name": identity.name,
                "agency": identity.key_id,
                "link_name": link_name,
                "card": encode_bytes(signed),
            }
        )
        return
    click.echo(identity.name)
    click.echo(f"  key       {words.fingerprint(identity.key_id)}")
    click.echo(f"  link name {link_name}")
    if out is not None:
        click.echo(f"Card written to {out}. The household compares the key, then:")
        click.echo(f"  doorward charter add-agency {out}")


@agency.command("badge")
@click.option("--operator", "name", required=True, help="The person's name; the household sees it.")
@click.option("--number", required=True, help="The number on their badge.")
@click.option("--days", type=click.IntRange(1, 7), default=7, show_default=True, help="How long it is valid.")
@json_option
@click.pass_obj
def badge(directory: Path, name: str, number: str, days: int, *, as_json: bool) -> None:
    """Give an operator a badge, or a new one before the old one ends.

    \b
    Example: doorward agency badge --operator "NAME" --number 17
    """  # noqa: D301 - click's marker is a real backspace
    now_ns = clock.wall_ns()
    with office(directory) as opened:
        given = identities.give_badge(
            opened.store, opened.identity, name=name, number=number, days=days, now_ns=now_ns
        )
    if as_json:
        words.print_json(
            {
                "operator": given.operator,
                "name": given.name,
                "number": given.number,
                "not_before_ns": given.not_before_ns,
                "not_after_ns": given.not_after_ns,
            }
        )
        return
    click.echo(f"{name}, number {number}: badge valid until {clock_words(given.not_after_ns, now_ns)}")


@agency.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--replace", is_flag=True, help="Take it although the owners we knew have not signed it.")
@route_options
@json_option
@click.pass_obj
def import_(directory: Path, /, file: Path, *, replace: bool, as_json: bool, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Take a household's introduction, and how its device is reached.

    Compare the owners' keys with what the household shows you ('doorward charter show' there): an
    introduction says of itself whose it is. Nothing is kept unless all of it is right.

    \b
    Examples: doorward agency import introduction.json --via https://192.0.2.7:8443
              doorward agency import introduction.json --post post.example:8883 \\
                  --ca post-ca.pem --cert us.pem --key us.key
    """  # noqa: D301 - click's marker is a real backspace
    try:
        with file.expanduser().open("rb") as opened_file:
            document = opened_file.read(envelope.MAX_BYTES + 2).strip()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    now_ns = clock.wall_ns()
    with office(directory) as opened:
        introduction = introductions.check_import(
            document, opened.store, opened.identity.key_id, now_ns, replace=replace
        )
        devices = introductions.devices_of(introduction)
        routes = {device: route.to_text() for device, route in chosen_route(options, devices).items()}
        opened.store.put_introduction(introduction.household, document, routes, now_ns)
    if as_json:
        words.print_json({"household": introduction.household, "devices": [each.key_id for each in devices]})
        return
    click.echo(f"Household {envelope.short(introduction.household)}: kept. Compare with the household:")
    for root in introductions.root_fingerprints(introduction):
        click.echo(f"  owner's root key {words.fingerprint(root)}")
    for device in devices:
        click.echo(f"  device {device.name}   {words.fingerprint(device.key_id)}")
        for camera in device.cameras():
            click.echo(f"    camera {camera}: areas {', '.join(device.areas(camera)) or 'none'}")


@agency.command("households")
@json_option
@click.pass_obj
def households(directory: Path, *, as_json: bool) -> None:
    """List the households we know, their devices and cameras, and how they are reached."""
    now_ns = clock.wall_ns()
    with office(directory) as opened:
        found = [
            (each, [(device, opened.store.route(device.key_id)) for device in introductions.devices_of(each)])
            for each in introductions.all_introductions(opened.store)
        ]
    if as_json:
        words.print_json(
            [
                {
                    "household": each.household,
                    "granting": each.granting,
                    "owners": len(each.deciders),
                    "not_after_ns": each.not_after_ns,
                    "devices": [
                        {
                            "device": device.key_id,
                            "name": device.name,
                            "cameras": {camera: list(device.areas(camera)) for camera in device.cameras()},
                            "route": read_route(route).shown if route else None,
                        }
                        for device, route in devices
                    ],
                }
                for each, devices in found
            ]
        )
        return
    if not found:
        click.echo("No household has introduced itself. Give them our card: doorward agency card --out FILE")
    for each, devices in found:
        state = "until" if now_ns < each.not_after_ns else "ENDED"
        ends = clock_words(each.not_after_ns, now_ns)
        click.echo(f"household {envelope.short(each.household)}  {state} {ends}")
        click.echo(f"    {each.granting} of {len(each.deciders)} owners decide")
        for device, route in devices:
            reached = read_route(route).shown if route else "not known how to reach it"
            click.echo(f"    device {device.name} ({short(device.key_id)}) at {reached}")
            for camera in device.cameras():
                click.echo(f"      camera {camera}: areas {', '.join(device.areas(camera)) or 'none'}")


def write_new(path: Path, data: bytes) -> None:
    """Write a file that does not exist yet.

    Raises:
        StorageError: It cannot be written, or exists.
    """
    try:
        with path.expanduser().open("xb") as file:
            file.write(data)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}", hint="name another file") from error


for command in (ask, requests, watch, receipts, receipt):
    agency.add_command(command)
