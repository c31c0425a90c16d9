"""``doorward charter add-witness``, ``remove-witness``: who vouches that the ledger only grows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from agent.cli.adopting import adopt
from agent.cli.collecting import save_option
from agent.cli.options import door_options, root_options
from agent.consent.charter import Witness
from agent.consent.fields import decode_bytes
from agent.errors import Refused
from agent.ledger import cosignature, vkey
from agent.ledger.checkpoint import ED25519, origin_of

if TYPE_CHECKING:
    from agent.consent.charter import Charter


@click.command("add-witness")
@click.argument("name")
@click.argument("key")
@click.argument("url")
@save_option
@door_options
@root_options
def add_witness(name: str, key: str, url: str, **options: Any) -> None:  # noqa: ANN401 - click's
    """Let a third party vouch that your ledger only grows.

    NAME and KEY are as the witness tells them: KEY is its verifier key (NAME+…+…) or a public key in base64.
    URL is where it listens, https://HOST[:PORT][/PATH]. It learns your home's address, when the device is
    on-line, and how many entries the ledger has, never what stands in them.
    """
    witness = Witness(name, _key(name, key), url.rstrip("/"))

    def change(current: Charter) -> Charter:
        if current.witness(witness.key_id):
            raise Refused(f"{name} is in your charter already", reason="exists")
        return replace(current, witnesses=(*current.witnesses, witness))

    adopted = adopt(options, change)
    if adopted is None:
        return
    click.echo("Next: give the witness this line, so that it vouches for your ledger:")
    for device in adopted.devices:
        click.echo(f"  {vkey.written(origin_of(device.key_id), device.signing, ED25519)}")


def _key(name: str, text: str) -> bytes:
    if text.startswith(f"{name}+"):
        return vkey.parse(text, cosignature.KIND)[1]
    return decode_bytes(text, "key")


@click.command("remove-witness")
@click.argument("name")
@save_option
@door_options
@root_options
def remove_witness(name: str, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Take a witness out: it no longer counts, and is no longer asked."""

    def change(current: Charter) -> Charter:
        left = tuple(each for each in current.witnesses if name not in (each.name, each.key_id))
        if len(left) == len(current.witnesses):
            known = ", ".join(each.name for each in current.witnesses) or "none"
            raise Refused(f"witness {name}: not in your charter (there is {known})", reason="unknown")
        return replace(current, witnesses=left)

    adopt(options, change)
