"""``doorward pair``: make a fresh device yours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from agent import sealing
from agent.cli import remote_door
from agent.cli.key_file import KeyFile
from agent.cli.options import door_options, opened, root_keys, root_options
from agent.cli.words import fingerprint
from agent.consent import acts, charter, envelope
from agent.consent.acts import Pairing
from agent.consent.charter import CameraEntry, Charter, DailyLimits, Device, Ice, Rollback
from agent.consent.envelope import PayloadType
from agent.errors import MalformedInput, Refused
from agent.operations import Operation
from agent.sealing import SealKind
from hal import clock

if TYPE_CHECKING:
    from agent.cli.client import Found
    from agent.consent.charter import Owner

CODE_CHARS = 8
DAILY_SECONDS = 3600


@click.command()
@click.option("--code", help="The pairing code that the device shows.")
@click.option("--new-code", is_flag=True, help="On the box: make the device show a new pairing code.")
@click.option("--name", default="doorward", show_default=True, help="What to call the device (a-z, 0-9, -).")
@click.option(
    "--device-key",
    metavar="DIGITS",
    help="Refuse any device but the one with this key, as its label or terminal shows it.",
)
@door_options
@root_options
def pair(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Found your household with a fresh device. It begins to record at once, sealed to your keys alone.

    Needs the pairing code that the device shows, your key file, and your recovery code (the first charter
    is signed with your root key).
    """
    if options["new_code"]:
        with opened(options) as client:
            result, _ = client.door.call(Operation.NEW_CODE)
        click.echo(f"Pairing code: {result.get('code')}  (good for ten minutes, once)")
        return
    if not options["code"]:
        raise MalformedInput("pair: no code", hint="doorward pair --code CODE, or --new-code on the box")
    code = _code(options["code"])
    file = KeyFile(options["key_file"].expanduser())
    with opened(options) as client:
        found = client.find()
        if options["device_key"]:
            remote_door.compare(options["device_key"], found.descriptor.device)
        if found.paired:
            raise Refused(
                "this device belongs to a household already",
                reason="paired",
                hint="its owners can add you; a reset at the device makes it forget everything",
            )
        roots = root_keys(options)
        if roots.signing.public_key().public_bytes_raw() != file.public.root:
            raise MalformedInput("recovery code: of another owner than the key file")
        first = _first_charter(file.public.owner, found, options["name"])
        signed = envelope.sign(PayloadType.CHARTER, first, [roots.signing])
        pairing = Pairing(
            signer=envelope.key_id(file.public.root),
            device=found.descriptor.device,
            code=code,
            challenge=client.challenge(),
            signed_at_ns=clock.wall_ns(),
            charter=signed,
        )
        sealed = sealing.seal(
            SealKind.PAIRING,
            sender=acts.PAIRING_SENDER,
            recipient=found.descriptor.device,
            topic=acts.PAIRING_TOPIC,
            public=found.descriptor.seal,
            plaintext=envelope.sign(PayloadType.PAIRING, pairing.payload(), [roots.signing]),
        )
        _, blob = client.door.call(Operation.PAIR, {}, sealed)
        acknowledgement = acts.verify_acknowledgement(blob, found.descriptor.signing)
        client.remember(found, envelope.document_id(first), found.descriptor.signing, acknowledgement)
    click.echo("Paired. The device is yours and records, sealed to your keys.")
    click.echo(f"  device     {fingerprint(found.descriptor.device)}")
    click.echo(f"  cameras    {', '.join(found.cameras)}")
    click.echo("Nobody sees anything: no agency is in your charter. Next: doorward status")


def _code(typed: str) -> str:
    """The code as the device made it. One of another length costs no try, and no recovery code typed in."""
    plain = "".join(typed.split()).replace("-", "").upper()
    if len(plain) != CODE_CHARS:
        raise MalformedInput(f"pairing code: got {len(plain)} characters, expected {CODE_CHARS}")
    return f"{plain[: CODE_CHARS // 2]}-{plain[CODE_CHARS // 2 :]}"


def _first_charter(owner: Owner, found: Found, name: str) -> bytes:
    """Version 1: one owner, one device, its cameras, and nobody who may ask."""
    first = Charter(
        id="",
        household=charter.SELF,
        version=1,
        previous=None,
        owners=(owner,),
        granting=1,
        governing=1,
        daily_limits=DailyLimits(DAILY_SECONDS, standing=False),
        devices=(Device(name, found.descriptor.signing),),
        agencies=(),
        cameras=tuple(CameraEntry(camera, found.descriptor.device, (), ()) for camera in found.cameras),
        rules=(),
        post=None,
        ice=Ice.RELAY,
        rollback=Rollback.CONFIRM,
        accept_plausible_time=False,
        indicator_required=False,
    )
    return charter.payload_of(first)
