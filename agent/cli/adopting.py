"""The one way to a new charter: say what changes, sign, count, hand over or save for the other owners."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from agent.cli import collecting
from agent.cli.collecting import Collection
from agent.cli.differences import difference
from agent.cli.options import opened, root_keys
from agent.cli.six_words import six_words
from agent.consent import charter as charters
from agent.consent import envelope
from agent.consent.envelope import PayloadType
from agent.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.consent.charter import Charter


def adopt(
    options: dict[str, Any], change: Callable[[Charter], Charter], *, ask: bool = False
) -> Charter | None:
    """Make, sign and hand over the next version; ``change`` turns the current charter into it.

    The act is signed with the root key too, so that no key file is needed. ``ask`` asks before signing.

    Returns:
        The charter now in force, or None: the document was saved for other owners to sign.

    Raises:
        Refused: Nothing changes, or others must sign and nobody said where to save it.
        click.Abort: The person said no.
    """
    roots = root_keys(options)
    with opened(options, roots) as client:
        current, in_force = client.charter()
        changed = replace(change(current), version=current.version + 1, previous=current.id)
        payload = charters.payload_of(changed)
        following = charters.parse(payload)
        lines = difference(current, following)
        if not lines:
            raise Refused("nothing changes: the charter says so already", reason="unchanged")
        for line in lines:
            click.echo(f"  {line}")
        if ask:
            click.confirm("Sign this?", abort=True)
        signed = envelope.sign(PayloadType.CHARTER, payload, [roots.signing])
        click.echo(f"Six words, to compare with the other owners: {six_words(following.id)}")
        content = collecting.complete(Collection(signed, in_force), current, options, roots)
        if content is None:
            return None
        client.act(roots, [signed])
    click.echo(content.done)
    return following
