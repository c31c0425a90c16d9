"""``doorward charter``: the household's root document, changed by owners' root keys alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from agent.cli import words
from agent.cli.options import (
    daily_keys,
    door_options,
    json_option,
    opened,
    root_keys,
    root_options,
)
from agent.cli.times import parse_duration
from agent.consent import charter as charters
from agent.consent import envelope, introduction, strict_json, times
from agent.consent.charter import Agency, Answers, Ice, NamedArea, Rollback, Witness
from agent.consent.envelope import PayloadType
from agent.consent.fields import decode_bytes, polygon_item
from agent.consent.introduction import verify_card
from agent.errors import ConfigError, MalformedInput, Refused, StorageError
from agent.ledger import cosignature, vkey
from agent.ledger.checkpoint import ED25519, origin_of
from hal import clock

if TYPE_CHECKING:
    from agent.consent.charter import Charter

INTRODUCTION_DAYS = 365
MAX_FILE_BYTES = 64 * 1024


@click.group()
def charter() -> None:
    """Who decides, who may ask, and what there is to see. Changes need your recovery code."""


@charter.command("show")
@door_options
@json_option
@click.option("--yaml", "as_yaml", is_flag=True, help="Print YAML, to edit and hand to 'charter apply'.")
def show(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show the charter in force."""
    with opened(options) as client:
        current, _ = client.charter()
    if options["as_json"]:
        words.print_json(charters.to_json(current))
    elif options["as_yaml"]:
        click.echo(yaml.safe_dump(charters.to_json(current), sort_keys=False, allow_unicode=True), nl=False)
    else:
        for line in sentences(current):
            click.echo(line)


def sentences(current: Charter) -> list[str]:
    """A charter in sentences, every key that can decide or open included."""
    lines = [f"Charter version {current.version} of household {envelope.short(current.household)}."]
    count = len(current.owners)
    lines.append(f"{current.granting} of {count} owners together let something out.")
    lines.append(f"{current.governing} of {count} owners together, with recovery codes, change this charter.")
    limit = words.length(current.daily_limits.max_seconds)
    lines.append(f"A daily key alone grants at most {limit} and no standing consents.")
    for owner in current.owners:
        lines.append(f"Owner {owner.name}: root key {words.fingerprint(envelope.key_id(owner.root))}")
        lines += [
            f"  {key.label}: daily key {words.fingerprint(envelope.key_id(key.signing))}"
            for key in owner.daily
        ]
    lines += [f"Device {device.name}: key {words.fingerprint(device.key_id)}" for device in current.devices]
    for camera in current.cameras:
        areas = ", ".join(area.name for area in camera.areas) or "none, so nothing can be shared"
        lines.append(f"Camera {camera.name}: areas that may be shared: {areas};")
        lines.append(f"  {len(camera.never)} areas are never recorded or shown.")
    for agency in current.agencies:
        lines.append(f"{agency.name} may ask: key {words.fingerprint(agency.key_id)},")
        lines.append(
            f"  at most {words.length(agency.max_seconds)} at a time; without consent it hears "
            f"'{agency.answers}'."
        )
    if not current.agencies:
        lines.append("No agency may ask.")
    direct = "through the household's relay alone" if current.ice is Ice.RELAY else "directly as well"
    lines.append(f"Pictures reach agencies {direct}.")
    if current.ice is Ice.ALL:
        lines.append("  They learn the home's network address.")
    if current.post:
        lines.append(f"Messages go through the post at {current.post.host}, port {current.post.port};")
        lines.append("  whoever runs it learns the home's address and on-line times.")
    lines += _witness_sentences(current)
    lines.append(f"{len(current.rules)} standing rules.")
    return lines


def _witness_sentences(current: Charter) -> list[str]:
    lines = []
    for witness in current.witnesses:
        lines.append(f"Witness {witness.name} vouches that the ledger only grows: key")
        lines.append(f"  {words.fingerprint(witness.key_id)}, asked every ten minutes at {witness.url};")
        lines.append("  whoever runs it learns the home's address, on-line times, and how many entries there")
        lines.append("  are, never what stands in them.")
    if current.rollback is Rollback.WARN:
        lines.append("After a start sharing does not wait for anybody to confirm the ledger:")
        lines.append("  a card that was copied back brings back what you revoked, until somebody notices.")
    elif not current.witnesses:
        lines.append("After a start nothing is shared until an owner's client has confirmed the ledger:")
        lines.append("  there is no witness to do so.")
    return lines


def _adopt(options: dict[str, Any], change: Any) -> Charter:  # noqa: ANN401 - a function of a charter
    """Make, sign and hand over the next version; ``change`` turns the current charter into it."""
    keys = daily_keys(options)
    roots = root_keys(options)
    with opened(options) as client:
        current, _ = client.charter()
        following: Charter = replace(change(current), version=current.version + 1, previous=current.id)
        payload = charters.payload_of(following)
        charters.parse(payload)
        _say_difference(current, following)
        signed = envelope.sign(PayloadType.CHARTER, payload, [roots.signing])
        checked = charters.verify_next(signed, current)
        client.act(keys, [signed])
    click.echo(f"Charter version {checked.version} is in force.")
    return checked


def _say_difference(current: Charter, following: Charter) -> None:
    before, after = sentences(current)[1:], sentences(following)[1:]
    gone = [line for line in before if line not in after]
    new = [line for line in after if line not in before]
    for line in gone:
        click.echo(f"  - {line.strip()}")
    for line in new:
        click.echo(f"  + {line.strip()}")


@charter.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@door_options
@root_options
def apply(file: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Adopt a charter edited by hand: take it with 'charter show --yaml', edit, apply."""
    try:
        data = file.expanduser().read_bytes()
        value = yaml.safe_load(data[:MAX_FILE_BYTES])
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}: not YAML{at}") from error

    def change(current: Charter) -> Charter:
        if not isinstance(value, dict):
            raise ConfigError(f"{file}: not a charter")
        edited = {
            **value,
            "version": current.version + 1,
            "previous": current.id,
            "household": current.household,
        }
        return charters.parse(strict_json.dumps(edited))

    _adopt(options, change)


@charter.command("add-agency")
@click.argument("card", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "compared",
    metavar="DIGITS",
    help="The agency's key as they told you by phone or in person. Without it you are asked.",
)
@click.option("--max", "most", default="15m", show_default=True, help="The longest they may look at a time.")
@click.option(
    "--answers",
    type=click.Choice([str(each) for each in Answers]),
    default=str(Answers.PENDING),
    show_default=True,
    help="What they hear when nobody has consented.",
)
@door_options
@root_options
def add_agency(card: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Let an agency ask. Compare its key's digits out of band: nobody can do that for you."""
    try:
        found = verify_card(card.expanduser().read_bytes().strip())
    except OSError as error:
        raise MalformedInput(f"{card}: {error.strerror}") from error
    click.echo(f"{found.name}")
    click.echo(f"  key {words.fingerprint(found.agency)}")
    _compare(options["compared"], found.agency)
    agency = Agency(
        found.name,
        found.signing,
        found.seal,
        Answers(options["answers"]),
        parse_duration(options["most"]),
    )

    def change(current: Charter) -> Charter:
        if current.agency(agency.key_id):
            raise Refused(f"{agency.name} is in your charter already", reason="exists")
        return replace(current, agencies=(*current.agencies, agency))

    following = _adopt(options, change)
    if following.ice is Ice.RELAY:
        _warn_relay()
    click.echo(f'Next: doorward charter introduce --agency "{agency.name}" --out introduction.json')


def _warn_relay() -> None:
    """Pictures through a relay alone need one, and no charter can name one yet."""
    click.echo(
        "They may ask, but no picture can reach them yet: only a relay may carry it, and there is none."
    )
    click.echo("To let it go directly, which tells them your home's network address:")
    click.echo("  doorward charter set --ice all")


def _compare(typed: str | None, key_id: str) -> None:
    """The digits as the agency told them, at least sixteen of them."""
    enough = 16
    if typed is None:
        typed = str(click.prompt("Type the first 16 digits of the key as they told you"))
    digits = "".join(typed.split()).removeprefix("sha256:").lower()
    if len(digits) < enough or not key_id.removeprefix("sha256:").startswith(digits):
        raise Refused(
            "that is not the key on this card",
            reason="fingerprint",
            hint="do not add it; ask the agency for its card again",
        )


@charter.command("add-witness")
@click.argument("name")
@click.argument("key")
@click.argument("url")
@door_options
@root_options
def add_witness(name: str, key: str, url: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Let a third party vouch that your ledger only grows.

    NAME and KEY are as the witness tells them: KEY is its verifier key (NAME+…+…) or a public key in base64.
    URL is where it listens, https://HOST[:PORT][/PATH]. It learns your home's address and on-line times.
    """
    witness = Witness(name, _witness_key(name, key), url.rstrip("/"))

    def change(current: Charter) -> Charter:
        if current.witness(witness.key_id):
            raise Refused(f"{name} is in your charter already", reason="exists")
        return replace(current, witnesses=(*current.witnesses, witness))

    adopted = _adopt(options, change)
    click.echo("Next: give the witness this line, so that it vouches for your ledger:")
    for device in adopted.devices:
        click.echo(f"  {vkey.written(origin_of(device.key_id), device.signing, ED25519)}")


def _witness_key(name: str, key: str) -> bytes:
    if "+" not in key or not key.startswith(f"{name}+"):
        return decode_bytes(key, "key")
    return vkey.parse(key, cosignature.KIND)[1]


@charter.command("add-area")
@click.argument("camera")
@click.argument("name")
@click.argument("corners")
@door_options
@root_options
def add_area(camera: str, name: str, corners: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Name a part of CAMERA's picture that may be shared.

    CORNERS are 'x,y x,y x,y …', each 0..10000 of width and height from the top left:
    'doorward charter add-area front door "0,0 5000,0 5000,10000 0,10000"' is the left half.
    """
    polygon = _polygon(corners)

    def change(current: Charter) -> Charter:
        entry = current.camera(camera)
        if entry is None:
            known = ", ".join(each.name for each in current.cameras)
            raise Refused(f"no camera {camera} (there is {known})", reason="unknown")
        areas = (*(each for each in entry.areas if each.name != name), NamedArea(name, polygon))
        cameras = tuple(
            replace(each, areas=areas) if each.name == camera else each for each in current.cameras
        )
        return replace(current, cameras=cameras)

    _adopt(options, change)


@charter.command("never")
@click.argument("camera")
@click.argument("corners")
@door_options
@root_options
def never(camera: str, corners: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Black out a part of CAMERA's picture for ever: before recording, before anybody, owners included."""
    polygon = _polygon(corners)

    def change(current: Charter) -> Charter:
        if current.camera(camera) is None:
            raise Refused(f"no camera {camera}", reason="unknown")
        cameras = tuple(
            replace(each, never=(*each.never, polygon)) if each.name == camera else each
            for each in current.cameras
        )
        return replace(current, cameras=cameras)

    _adopt(options, change)


def _polygon(corners: str) -> Any:  # noqa: ANN401 - hal.camera.Polygon
    try:
        points = [[int(part) for part in corner.split(",")] for corner in corners.split()]
    except ValueError as error:
        raise MalformedInput(f"corners: got {corners[:60]!r}, expected 'x,y x,y x,y'") from error
    return polygon_item(points, "corners")


@charter.command("set")
@click.option(
    "--ice",
    type=click.Choice([str(each) for each in Ice]),
    help="How pictures reach agencies: 'all' is directly, which tells them your home's network address; "
    "'relay' is through a relay alone, and none can be named yet.",
)
@click.option("--post", metavar="HOST:PORT", help="The MQTT broker that carries messages; 'none' for none.")
@door_options
@root_options
def set_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Change how the device reaches agencies."""
    if options["ice"] is None and options["post"] is None:
        raise MalformedInput("set: nothing to change", hint="see --help")

    def change(current: Charter) -> Charter:
        changed = current
        if options["ice"]:
            changed = replace(changed, ice=Ice(options["ice"]))
        if options["post"]:
            changed = replace(changed, post=_post(options["post"]))
        return changed

    _adopt(options, change)


def _post(text: str) -> charters.Post | None:
    if text == "none":
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise MalformedInput(f"post: got {text[:60]!r}, expected HOST:PORT or none")
    return charters.Post(host, int(port))


@charter.command("introduce")
@click.option("--agency", required=True, metavar="NAME", help="Which agency of the charter.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to hand to them.")
@door_options
@root_options
def introduce(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Write the introduction that lets an agency check your household's documents. It names no person."""
    roots = root_keys(options)
    with opened(options) as client:
        current, _ = client.charter()
        found = client.find()
        matching = [each for each in current.agencies if options["agency"] in (each.name, each.key_id)]
        if len(matching) != 1:
            known = ", ".join(each.name for each in current.agencies) or "none"
            raise Refused(
                f"no agency {options['agency']} (there is {known})",
                reason="unknown",
                hint="take one in first: doorward charter add-agency CARD",
            )
        written = introduction.of_charter(
            current,
            matching[0].key_id,
            {found.descriptor.device: found.descriptor.seal},
            clock.wall_ns() + INTRODUCTION_DAYS * charters.DAY_S * times.SECOND_NS,
        )
    signed = envelope.sign(PayloadType.INTRODUCTION, written.payload(), [roots.signing])
    introduction.verify_introduction(signed)
    out: Path = options["out"].expanduser()
    try:
        out.write_bytes(signed)
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror}") from error
    click.echo(f"{out}: hand this to {matching[0].name}. They import it: doorward agency import {out.name}")
    click.echo("They compare with you what 'doorward charter show' says of your root key and your device.")
