"""``doorward shutter``: the household's switch that suspends all sharing."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import collecting
from agent.cli.client import nonce
from agent.cli.collecting import save_option
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
    # Nothing is asked of the device first: what stops must not wait.
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        document = Shutter("", memory.household, ShutterState.CLOSED, nonce())
        client.act(keys, [envelope.sign(PayloadType.SHUTTER, document.payload(), [keys.signing])])
    click.echo("The shutter is closed: the device has acknowledged it, and shares nothing.")


@shutter.command("open")
@save_option
@door_options
def open_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Open it: consents that still stand count again. Takes as many owners as let something out."""
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        payload = Shutter("", memory.household, ShutterState.OPEN, nonce()).payload()
        if collecting.hand_over(client, PayloadType.SHUTTER, payload, options, keys) is None:
            return
    click.echo("The shutter is open.")
