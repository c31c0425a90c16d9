"""The ``doorward`` command."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from agent import __version__
from agent.arguments import say
from agent.errors import DoorwardError, MalformedInput

COMMANDS: Final = (
    *("run", "owner", "pair", "status", "archive", "charter", "consent", "shutter", "alarm", "sign"),
    *("hand-over", "ledger", "agency", "witness"),
)
"""Each stands in the module of its name and under its name there; a dash is an underscore in Python."""


class _Commands(click.Group):
    """Imports a command when it is named: revoking must not wait for all that an agency's program needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"agent.cli.{name}"), name)
        return command if isinstance(command, click.Command) else None


@click.command(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="doorward")
def doorward() -> None:
    """Doorward: your camera, and nobody looks without your signature.

    \b
    Begin:     doorward run                      start the agent here
               doorward owner init --name YOU    make your keys
               doorward pair --code CODE         make the device yours
    Look:      doorward status · doorward archive list · doorward archive export
    Set up:    doorward charter show · add-area · add-agency · introduce
    Decide:    doorward owner watch · doorward consent requests · grant · give · calendar · revoke
               doorward shutter close · doorward alarm raise
    Together:  doorward sign FILE · doorward hand-over FILE (where several owners must agree)
    Check:     doorward ledger show · verify · receipt

    Exit codes: 0 done, 1 refused or failed as told, 2 bad input, 3 cannot reach, 4 integrity broken.
    """  # noqa: D301 - click's marker is a real backspace


def main() -> None:
    """Run the command; every error is one line, perhaps a hint, and an exit code."""
    try:
        sys.exit(doorward.main(prog_name="doorward", standalone_mode=False) or 0)
    except DoorwardError as error:
        say(error)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _say_misused(error)
        sys.exit(MalformedInput.exit_code)
    except click.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)


def _say_misused(error: click.ClickException) -> None:
    """Click's word on a command line as we say things; a group without a command gets its help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and error.message == context.get_help():
        error.show()
        return
    text = " ".join(error.format_message().split()).rstrip(".")
    hint = f"see {context.command_path} --help" if context is not None else None
    say(MalformedInput(text[:1].lower() + text[1:], hint=hint))


if __name__ == "__main__":
    main()
