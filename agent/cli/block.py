"""``doorward consent block`` and ``unblock``: whether an agency is heard at all."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import collecting
from agent.cli.client import nonce
from agent.cli.collecting import save_option
from agent.cli.named import agency_named
from agent.cli.options import daily_keys, door_options, opened
from agent.consent.acts import Block, BlockState
from agent.consent.envelope import PayloadType


@click.command("block")
@click.argument("agency", metavar="AGENCY")
@door_options
def block(agency: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Block an agency: it sees nothing, whatever it was given, and whoever watches stops now.

    Any one owner may. The agency is not told: it hears what it hears when nobody has answered. What it was
    given is not taken back; 'doorward consent revoke --agency' does that for good.
    """
    if _send(options, agency, BlockState.BLOCKED):
        click.echo(f"{agency} is blocked: the device has acknowledged it.")
        click.echo(f'To hear it again: doorward consent unblock "{agency}"')


@click.command("unblock")
@click.argument("agency", metavar="AGENCY")
@save_option
@door_options
def unblock(agency: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Hear a blocked agency again. Consents that it still has count again, so it takes as many owners."""
    if _send(options, agency, BlockState.UNBLOCKED):
        click.echo(f"{agency} is heard again.")


def _send(options: dict[str, Any], agency: str, state: BlockState) -> bool:
    """Sign it and hand it over; False if it was saved for the other owners."""
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        current, _ = client.charter()
        key_id = agency_named(current, agency).key_id
        payload = Block("", memory.household, key_id, state, nonce()).payload()
        return collecting.hand_over(client, PayloadType.BLOCK, payload, options, keys) is not None
