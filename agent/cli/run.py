"""``doorward run``: the agent in the foreground, where there is no systemd."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="Configuration file (YAML). Without it: the best camera found, state under the home.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where state lives. [default: $DOORWARD_HOME or ./var]",
)
def run(config_file: Path | None, home: Path | None) -> None:
    """Start the agent here, in the foreground: core, net, and what restarts them."""
    options = []
    if config_file:
        options += ["--config", str(config_file)]
    if home:
        options += ["--home", str(home)]
    os.execv(sys.executable, [sys.executable, "-m", "agent.supervisor", *options])  # noqa: S606 - ourselves
