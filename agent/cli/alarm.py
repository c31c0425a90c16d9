"""``doorward alarm``: while it is on, what the household has consented to for that case counts."""

from __future__ import annotations

from typing import Any

import click

from agent.cli import collecting, words
from agent.cli.client import nonce
from agent.cli.collecting import save_option
from agent.cli.options import daily_keys, door_options, opened
from agent.consent import envelope
from agent.consent.acts import Alarm, AlarmState
from agent.consent.envelope import PayloadType
from agent.errors import Refused


@click.group()
def alarm() -> None:
    """Raise the household's alarm, or clear it. Consents given for the alarm count only while it is on."""


@alarm.command("raise")
@save_option
@door_options
def raise_(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Raise it: consents given for the alarm count from now on. Takes as many owners as let something out.

    It ends by itself after the time that the charter says.
    """
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        current, _ = client.charter()
        if not current.alarm_max_seconds:
            raise Refused(
                "your household has no alarm",
                reason="no-alarm",
                hint="say how long one may count: doorward charter set --alarm-max 2h",
            )
        payload = Alarm("", memory.household, AlarmState.RAISED, nonce()).payload()
        if collecting.hand_over(client, PayloadType.ALARM, payload, options, keys) is None:
            return
    click.echo(f"The alarm is raised, for {words.length(current.alarm_max_seconds)} at most.")
    click.echo("To end it before: doorward alarm clear")


@alarm.command("clear")
@door_options
def clear(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Clear it: whoever watches because of it stops now. Any one owner may."""
    # Nothing is asked of the device first: what stops must not wait.
    keys = daily_keys(options)
    with opened(options, keys) as client:
        memory = client.need_memory(client.find())
        document = Alarm("", memory.household, AlarmState.CLEARED, nonce())
        client.act(keys, [envelope.sign(PayloadType.ALARM, document.payload(), [keys.signing])])
    click.echo("The alarm is cleared: the device has acknowledged it.")
