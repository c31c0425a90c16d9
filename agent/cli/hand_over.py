"""``doorward hand-over``: a document that enough owners have signed goes to the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli import collecting
from agent.cli.collecting import Collection
from agent.cli.options import daily_keys, door_options, opened, root_keys, root_options
from agent.consent.envelope import PayloadType
from agent.errors import Refused

if TYPE_CHECKING:
    from agent.cli.client import Signer


@click.command("hand-over")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="For an introduction: the file to hand to the agency.",
)
@door_options
@root_options
def hand_over(file: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Hand a document that enough owners have signed to the device; any one owner may.

    Your daily key says who hands it over, or your recovery code if you give its file. An introduction goes to
    the agency instead: --out writes the file for it.
    """
    collection = Collection.load(file)
    signer: Signer = root_keys(options) if options["recovery_code_file"] else daily_keys(options)
    with opened(options, signer) as client:
        current, _ = client.charter()
        content = collecting.read(collection.document, current)
        enough, standing = content.standing(collection.document)
        if not enough:
            raise Refused(standing, reason="too-few", hint=f"they sign it first: doorward sign {file}")
        content.verify(collection.document)
        for line in content.lines:
            click.echo(line)
        if content.kind is PayloadType.INTRODUCTION:
            collecting.write_introduction(options["out"], collection.document)
        else:
            client.act(signer, [collection.document])
    click.echo(content.done)
