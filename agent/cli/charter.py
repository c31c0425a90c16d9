"""``doorward charter``: the household's root document, changed by owners' root keys alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import sentences, words
from agent.cli.adopting import adopt
from agent.cli.charter_agencies import add_agency, introduce, remove_agency
from agent.cli.charter_cameras import add_area, never
from agent.cli.charter_edit import edit
from agent.cli.charter_owners import add_key, add_owner, remove_key, remove_owner
from agent.cli.charter_reading import parse_post
from agent.cli.charter_witness import add_witness, remove_witness
from agent.cli.collecting import Collection, save_option
from agent.cli.options import door_options, json_option, opened, root_options
from agent.cli.six_words import six_words
from agent.cli.times import parse_duration
from agent.consent import charter as charters
from agent.consent import envelope
from agent.consent.charter import Ice, Rollback
from agent.errors import MalformedInput

if TYPE_CHECKING:
    from agent.consent.charter import Charter


@click.group()
def charter() -> None:
    """Who decides, who may ask, and what there is to see. Changes need your recovery code.

    Where several owners must agree, add --save FILE to a change and pass the file round: doorward sign FILE,
    then doorward hand-over FILE.
    """


for command in (edit, add_owner, remove_owner, add_key, remove_key):
    charter.add_command(command)
for command in (add_agency, remove_agency, introduce, add_area, never, add_witness, remove_witness):
    charter.add_command(command)


@charter.command("show")
@door_options
@json_option
def show(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Show the charter in force, in sentences: every key that decides or opens, every rule."""
    with opened(options) as client:
        current, _ = client.charter()
    if options["as_json"]:
        words.print_json(charters.to_json(current))
        return
    for line in sentences.charter(current):
        click.echo(line)
    click.echo(f"Its six words: {six_words(current.id)}")


@charter.command("words")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@door_options
def words_(file: Path | None, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Six words of the charter in force, or of the document in FILE; owners compare them by voice.

    Equal words mean that your clients see the same document, word for word and key for key.
    """
    if file is not None:
        _, payload = envelope.unverified_payload(Collection.load(file).document)
        click.echo(six_words(envelope.document_id(payload)))
        return
    with opened(options) as client:
        current, _ = client.charter()
    click.echo(six_words(current.id))


@charter.command("set")
@click.option(
    "--ice",
    type=click.Choice([str(each) for each in Ice]),
    help="How pictures reach agencies: 'all' is directly, which tells them your home's network address; "
    "'relay' is through a relay alone, and none can be named yet.",
)
@click.option("--post", metavar="HOST:PORT", help="The MQTT broker that carries messages; 'none' for none.")
@click.option("--granting", type=click.IntRange(1, 16), help="How many owners let something out.")
@click.option("--governing", type=click.IntRange(1, 16), help="How many owners change the charter.")
@click.option(
    "--daily-max", metavar="TIME", help="The longest that daily keys grant alone; 'none' for never."
)
@click.option("--daily-standing", type=click.BOOL, help="Whether daily keys grant standing consents alone.")
@click.option("--alarm-max", metavar="TIME", help="How long a raised alarm counts; 'none' for no alarm.")
@click.option(
    "--rollback",
    type=click.Choice([str(each) for each in Rollback]),
    help="After a start: wait until somebody confirms the ledger, or only warn.",
)
@click.option(
    "--accept-plausible-time",
    type=click.BOOL,
    help="Whether standing consents count under network time that nobody vouches for.",
)
@save_option
@door_options
@root_options
def set_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Change a number or a choice; TIME is like 90s, 15m, 1h, 7d, BOOLEAN yes or no."""
    changes = _changes(options)
    if not changes and options["daily_max"] is None and options["daily_standing"] is None:
        raise MalformedInput("set: nothing to change", hint="see --help")

    def change(current: Charter) -> Charter:
        limits = current.daily_limits
        if options["daily_max"] is not None:
            limits = replace(limits, max_seconds=_length(options["daily_max"]))
        if options["daily_standing"] is not None:
            limits = replace(limits, standing=options["daily_standing"])
        return replace(current, daily_limits=limits, **changes)

    adopt(options, change)


def _changes(options: dict[str, Any]) -> dict[str, Any]:
    """The fields of a charter that were given, by name."""
    changes = {
        name: options[name]
        for name in ("granting", "governing", "accept_plausible_time")
        if options[name] is not None
    }
    if options["ice"] is not None:
        changes["ice"] = Ice(options["ice"])
    if options["post"] is not None:
        changes["post"] = parse_post(options["post"])
    if options["alarm_max"] is not None:
        changes["alarm_max_seconds"] = _length(options["alarm_max"])
    if options["rollback"] is not None:
        changes["rollback"] = Rollback(options["rollback"])
    return changes


def _length(text: str) -> int:
    return 0 if text == "none" else parse_duration(text)
