"""``doorward sign``: reading and signing a document that another owner passed on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import collecting
from agent.cli.collecting import Collection
from agent.cli.options import daily_keys, door_options, opened, root_keys, root_options
from agent.cli.six_words import six_words
from agent.consent import envelope
from agent.errors import Refused, Unreachable

if TYPE_CHECKING:
    from agent.cli.client import Signer
    from agent.cli.collecting import Content
    from agent.consent.charter import Charter


@click.command("sign")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Sign without asking; for scripts.")
@door_options
@root_options
def sign(file: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Read what another owner wants signed, in sentences, and add your signature to the file.

    It shows what the document does, who has signed and who is missing. Charters and introductions take your
    recovery code, everything else your daily key. Nothing happens until the file is handed to the device:
    doorward hand-over FILE.
    """
    collection = Collection.load(file)
    current = _charter_for(collection, options)
    content = collecting.read(collection.document, current)
    _show(content, collection)
    if content.standing(collection.document)[0]:
        click.echo(f"Enough owners have signed. Next: doorward hand-over {file}")
        return
    if not options["yes"]:
        click.confirm("Sign it?", abort=True)
    by_root = content.by_root or options["recovery_code_file"]
    signer: Signer = root_keys(options) if by_root else daily_keys(options)
    collecting.needs_owner(content, signer)
    signed = replace(collection, document=envelope.add_signature(collection.document, signer.signing))
    signed.save(file, new=False)
    enough, standing = content.standing(signed.document)
    click.echo(f"{file}: {standing}")
    if enough:
        click.echo(f"Next: doorward hand-over {file}")
    else:
        click.echo(f"Next: give it to one of them: doorward sign {file}")


def _charter_for(collection: Collection, options: dict[str, Any]) -> Charter:
    """The charter to read and count by: the device's, if it is of this household and can be asked."""
    carried = collection.in_force()
    try:
        with opened(options) as client:
            current, _ = client.charter()
    except (Unreachable, Refused):
        if options["device"]:
            raise
    else:
        if current.household == carried.household:
            return current
    click.echo(
        "No device of this household was asked: names and thresholds are as the file says. Compare the six "
        f"words of its charter with another owner: {six_words(carried.id)}",
        err=True,
    )
    return carried


def _show(content: Content, collection: Collection) -> None:
    for line in content.lines:
        click.echo(line)
    _, payload = envelope.unverified_payload(collection.document)
    click.echo(f"Six words, to compare with the other owners: {six_words(envelope.document_id(payload))}")
    click.echo(f"Signed by {content.standing(collection.document)[1]}")
