"""``doorward shutter``: the household's switch that suspends all sharing."""

from __future__ import annotations

from typing import Any

import click

from agent.cli.client import nonce
from agent.cli.options import daily_keys, door_options, opened
from agent.consent import envelope
from agent.consent.acts import Shutter, ShutterState
from agent.consent.envelope import PayloadType


@click.group()
def shutter() -> None:
    """Suspend all sharing, or allow it again. Recording goes on either way."""


@shutter.command("close")
@door_options
def close(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Close it: whoever watches stops watching now. Any one owner may."""
    _send(options, ShutterState.CLOSED)
    click.echo("The shutter is closed: the device has acknowledged it, and shares nothing.")


@shutter.command("open")
@door_options
def open_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Open it: consents that still stand count again."""
    _send(options, ShutterState.OPEN)
    click.echo("The shutter is open.")


def _send(options: dict[str, Any], state: ShutterState) -> None:
    keys = daily_keys(options)
    with opened(options) as client:
        memory = client.need_memory(client.find())
        document = Shutter("", memory.household, state, nonce())
        client.act(keys, [envelope.sign(PayloadType.SHUTTER, document.payload(), [keys.signing])])
