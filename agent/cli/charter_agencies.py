"""``doorward charter add-agency``, ``remove-agency``, ``introduce``: who may ask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import collecting, words
from agent.cli.adopting import adopt
from agent.cli.collecting import Collection, save_option, write_introduction
from agent.cli.named import agency_named
from agent.cli.options import door_options, opened, root_keys, root_options
from agent.cli.times import parse_duration
from agent.consent import charter as charters
from agent.consent import envelope, introduction, times
from agent.consent.charter import Agency, Answers, Ice
from agent.consent.envelope import PayloadType
from agent.consent.introduction import verify_card
from agent.errors import MalformedInput, Refused
from hal import clock

if TYPE_CHECKING:
    from agent.consent.charter import Charter

INTRODUCTION_DAYS = 365
ENOUGH_DIGITS = 16


@click.command("add-agency")
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
@save_option
@door_options
@root_options
def add_agency(card: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Let an agency ask. Compare its key's digits out of band: nobody can do that for you."""
    found = verify_card(read_card(card))
    click.echo(f"{found.name}")
    click.echo(f"  key {words.fingerprint(found.agency)}")
    compare(options["compared"], found.agency)
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

    following = adopt(options, change)
    if following is None:
        return
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


@click.command("remove-agency")
@click.argument("name")
@save_option
@door_options
@root_options
def remove_agency(name: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Let an agency ask no longer; what it was given no longer counts, and whoever watches stops now."""

    def change(current: Charter) -> Charter:
        gone = agency_named(current, name)
        return replace(current, agencies=tuple(each for each in current.agencies if each != gone))

    adopt(options, change)


def read_card(card: Path) -> bytes:
    """A card's envelope from its file.

    Raises:
        MalformedInput: It cannot be read.
    """
    try:
        with card.expanduser().open("rb") as file:
            return file.read(envelope.MAX_BYTES + 1).strip()
    except OSError as error:
        raise MalformedInput(f"{card}: {error.strerror}") from error


def compare(typed: str | None, key_id: str) -> None:
    """The digits as their holder told them, at least sixteen of them; asked for if they were not given.

    Raises:
        Refused: They are of another key, or too few.
    """
    if typed is None:
        typed = str(click.prompt(f"Type the first {ENOUGH_DIGITS} digits of the key as they told you"))
    digits = "".join(typed.split()).removeprefix("sha256:").lower()
    if len(digits) < ENOUGH_DIGITS or not key_id.removeprefix("sha256:").startswith(digits):
        raise Refused(
            "that is not the key on this card",
            reason="fingerprint",
            hint="do not add it; ask for the card again",
        )


@click.command("introduce")
@click.option("--agency", required=True, metavar="NAME", help="Which agency of the charter.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to hand to them.")
@save_option
@door_options
@root_options
def introduce(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Write the introduction that lets an agency check your household's documents. It names no person."""
    roots = root_keys(options)
    with opened(options, roots) as client:
        current, in_force = client.charter()
        found = client.find()
        agency = agency_named(current, options["agency"])
        written = introduction.of_charter(
            current,
            agency.key_id,
            {found.descriptor.device: found.descriptor.seal},
            clock.wall_ns() + INTRODUCTION_DAYS * charters.DAY_S * times.SECOND_NS,
        )
    signed = envelope.sign(PayloadType.INTRODUCTION, written.payload(), [roots.signing])
    if collecting.complete(Collection(signed, in_force), current, options, roots) is None:
        return
    write_introduction(options["out"], signed)
    out: Path = options["out"]
    click.echo(f"{out}: hand this to {agency.name}. They import it: doorward agency import {out.name}")
    click.echo("They compare with you what 'doorward charter show' says of your root key and your device.")
