"""The ``doorward`` command."""

from __future__ import annotations

import sys

import click

from agent import __version__
from agent.arguments import say
from agent.cli.agency import agency
from agent.cli.archive import archive
from agent.cli.charter import charter
from agent.cli.consent import consent
from agent.cli.ledger import ledger
from agent.cli.owner import owner
from agent.cli.pair import pair
from agent.cli.run import run
from agent.cli.shutter import shutter
from agent.cli.status import status
from agent.cli.witness import witness
from agent.errors import DoorwardError

BAD_INPUT = 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="doorward")
def doorward() -> None:
    """Doorward: your camera, and nobody looks without your signature.

    \b
    Begin:     doorward run                      start the agent here
               doorward owner init --name YOU    make your keys
               doorward pair --code CODE         make the device yours
    Look:      doorward status · doorward archive list · doorward archive export
    Set up:    doorward charter show · add-area · add-agency · introduce
    Decide:    doorward consent requests · grant · revoke · doorward shutter close
    Check:     doorward ledger show · verify · receipt

    Exit codes: 0 done, 1 refused or failed as told, 2 bad input, 3 cannot reach, 4 integrity broken.
    """  # noqa: D301 - click's marker is a real backspace


for command in (run, owner, pair, status, archive, charter, consent, shutter, ledger, agency, witness):
    doorward.add_command(command)


def main() -> None:
    """Run the command; every error is one line, perhaps a hint, and an exit code."""
    try:
        sys.exit(doorward.main(standalone_mode=False) or 0)
    except DoorwardError as error:
        say(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except click.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
