"""``doorward charter add-owner``, ``remove-owner``, ``add-key``, ``remove-key``: who decides, with what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from agent.cli import words
from agent.cli.adopting import adopt
from agent.cli.charter_agencies import compare, read_card
from agent.cli.collecting import save_option
from agent.cli.options import door_options, root_options
from agent.cli.sentences import short_key
from agent.consent import envelope
from agent.consent.owner_card import verify_owner_card
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.consent.charter import Charter, DailyKey, Owner

P = ParamSpec("P")
R = TypeVar("R")


def _threshold_options(command: Callable[P, R]) -> Callable[P, R]:
    for name, what in (("--governing", "change the charter"), ("--granting", "let something out")):
        command = click.option(
            name,
            type=click.IntRange(1, 16),
            help=f"How many owners together {what} from then on. [default: as it is]",
        )(command)
    return command


def _thresholds(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in ("granting", "governing") if options[name] is not None}


@click.command("add-owner")
@click.argument("card", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "compared",
    metavar="DIGITS",
    help="The new owner's root key as they told you. Without it you are asked.",
)
@_threshold_options
@save_option
@door_options
@root_options
def add_owner(card: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Make somebody an owner, by the card that they gave you (doorward owner card).

    Compare the digits of their root key with them: nobody can do that for you. Where the new thresholds need
    their signature too, save the document and let them sign it.
    """
    found = verify_owner_card(read_card(card))
    root_id = envelope.key_id(found.root)
    click.echo(f"{found.name}")
    click.echo(f"  root key {words.fingerprint(root_id)}")
    compare(options["compared"], root_id)

    def change(current: Charter) -> Charter:
        if any(owner.root == found.root for owner in current.owners):
            raise Refused(
                f"{found.name} is an owner already", reason="exists", hint="for another key: add-key"
            )
        if any(owner.name == found.name for owner in current.owners):
            raise Refused(f"there is an owner called {found.name} already", reason="exists")
        return replace(current, owners=(*current.owners, found.owner), **_thresholds(options))

    if adopt(options, change):
        click.echo("Next, on their computer: doorward owner join")


@click.command("remove-owner")
@click.argument("name")
@_threshold_options
@save_option
@door_options
@root_options
def remove_owner(name: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Make somebody no owner any more. What they signed no longer counts, if it needed them.

    They keep what they could open before, and cannot be made to forget it. Introductions name owners' keys:
    give agencies new ones.
    """

    def change(current: Charter) -> Charter:
        gone = _owner(current, name)
        left = tuple(owner for owner in current.owners if owner != gone)
        if not left:
            raise Refused("a household needs an owner", reason="last-owner")
        return replace(current, owners=left, **_thresholds(options))

    adopt(options, change)


@click.command("add-key")
@click.argument("card", type=click.Path(path_type=Path))
@save_option
@door_options
@root_options
def add_key(card: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Let another phone or computer of an owner decide, by its card (doorward owner add-key).

    The card is signed with the root key of its owner, so nothing needs comparing. The new key opens what is
    recorded from then on.
    """
    found = verify_owner_card(read_card(card))

    def change(current: Charter) -> Charter:
        owner = next((each for each in current.owners if each.root == found.root), None)
        if owner is None:
            raise Refused(
                f"the card's root key is of no owner (it says {found.name})",
                reason="unknown",
                hint="a new owner: doorward charter add-owner CARD",
            )
        if owner.recovery != found.recovery:
            raise Refused("the card's recovery key is another than the owner's", reason="recovery-key")
        if any(key.signing == found.daily.signing for key in owner.daily):
            raise Refused(f"{owner.name} has that key already", reason="exists")
        return _with_daily(current, owner, (*owner.daily, found.daily))

    adopt(options, change)


@click.command("remove-key")
@click.argument("owner")
@click.argument("label")
@save_option
@door_options
@root_options
def remove_key(owner: str, label: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Let a phone or computer of OWNER decide no more; LABEL is its label or the first digits of its key."""

    def change(current: Charter) -> Charter:
        found = _owner(current, owner)
        gone = _daily(found, label)
        return _with_daily(current, found, tuple(key for key in found.daily if key != gone))

    adopt(options, change)


def _owner(current: Charter, name: str) -> Owner:
    matching = [owner for owner in current.owners if name in (owner.name, envelope.key_id(owner.root))]
    if len(matching) != 1:
        known = ", ".join(owner.name for owner in current.owners)
        raise Refused(f"owner {name}: not one of your charter (there is {known})", reason="unknown")
    return matching[0]


def _daily(owner: Owner, label: str) -> DailyKey:
    digits = "".join(label.split()).removeprefix("sha256:").lower()
    matching = [key for key in owner.daily if key.label == label]
    if len(matching) != 1:
        matching = [
            key
            for key in owner.daily
            if digits and envelope.key_id(key.signing).removeprefix("sha256:").startswith(digits)
        ]
    if len(matching) != 1:
        known = ", ".join(f"{key.label} ({short_key(key.signing)})" for key in owner.daily)
        raise Refused(
            f"key {label}: not one of {owner.name}'s (there is {known or 'none'})", reason="unknown"
        )
    return matching[0]


def _with_daily(current: Charter, owner: Owner, daily: tuple[DailyKey, ...]) -> Charter:
    owners = tuple(replace(each, daily=daily) if each == owner else each for each in current.owners)
    return replace(current, owners=owners)
