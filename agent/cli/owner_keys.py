"""``doorward owner card``, ``add-key``, ``recover``, ``join``: more keys, more owners, starting anew."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from agent.cli import key_file as key_files
from agent.cli import remote_door
from agent.cli.options import (
    DEFAULT_KEY_FILE,
    daily_keys,
    door_options,
    opened,
    passphrase,
    root_keys,
    root_options,
)
from agent.cli.seen import Memory
from agent.cli.words import fingerprint
from agent.consent import envelope
from agent.consent.charter import DailyKey
from agent.consent.envelope import PayloadType
from agent.consent.owner_card import OwnerCard, verify_owner_card
from agent.errors import DoorwardError, MalformedInput, Refused, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.cli.client import Signer
    from agent.cli.key_file import DailyKeys, PublicPart
    from agent.cli.recovery_code import RootKeys
    from agent.consent.charter import Charter

P = ParamSpec("P")
R = TypeVar("R")

NOTHING_SEEN = hashlib.sha256(b"").digest()
"""The root of a ledger without entries (RFC 6962)."""


def _device_key_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--device-key",
        metavar="DIGITS",
        help="Refuse any device but the one with this key, as its label or terminal shows it.",
    )(command)


def _card_out_option(command: Callable[P, R]) -> Callable[P, R]:
    return click.option(
        "--card-out",
        type=click.Path(path_type=Path),
        help="Where to write the new key's card. [default: beside the key file, named after it]",
    )(command)


@click.command("card")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file to write.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    default=DEFAULT_KEY_FILE,
    show_default=True,
    help="Your daily key.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A file with the passphrase of the key file; - reads it from standard input.",
)
@root_options
def card(out: Path, **options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Write your card: public keys alone, to give to the owners of a household that you are to join.

    It is signed with your root key and your daily key. Tell them your root key's digits by voice.
    """
    public = key_files.KeyFile(options["key_file"].expanduser()).public
    keys, roots = daily_keys(options), root_keys(options)
    write_card(out, public, keys, roots)
    click.echo(f"{out}: give this to an owner. They run: doorward charter add-owner {out.name}")
    click.echo(f"Tell them your root key's digits: {fingerprint(roots.signing_id)}")


def write_card(out: Path, public: PublicPart, keys: DailyKeys, roots: RootKeys) -> None:
    """Write the card of a daily key, checked as those who take it will check it.

    Raises:
        MalformedInput: The recovery code is of another owner than the key.
        StorageError: It cannot be written.
    """
    if roots.public != public.root:
        raise MalformedInput("recovery code: of another owner than the key file")
    daily = DailyKey(public.label, public.signing, public.archive)
    made = OwnerCard(public.name, public.root, public.recovery, daily)
    signed = envelope.sign(PayloadType.OWNER_CARD, made.payload(), [roots.signing, keys.signing])
    verify_owner_card(signed)
    path = out.expanduser()
    try:
        path.write_bytes(signed)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


@click.command("add-key")
@click.option("--name", required=True, help="How you are called in the household.")
@click.option("--label", required=True, help="How this key is called: phone, laptop.")
@click.option(
    "--key-file", type=click.Path(path_type=Path), required=True, help="The new file, on this computer."
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A file with the passphrase to use; - reads it from standard input.",
)
@_card_out_option
@root_options
def add_key(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Make a further daily key from your recovery code, for another phone or computer; no device is needed.

    It decides nothing until the charter names it: doorward charter add-key CARD.
    """
    _no_file_yet(options["key_file"])
    _make(options, root_keys(options), options["name"])


@click.command("recover")
@click.option("--label", default="this computer", show_default=True, help="How the new daily key is called.")
@_card_out_option
@_device_key_option
@door_options
@root_options
def recover(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Begin anew on a fresh machine, from the recovery code alone: a new daily key for a device you have.

    What the lost machine remembered of the device is lost with it: this one takes the ledger as it is now.
    Name a device elsewhere with --device URL and --device-key DIGITS.
    """
    _no_file_yet(options["key_file"])
    roots = root_keys(options)
    current = meet(options, roots)
    owner = next((each for each in current.owners if each.root == roots.public), None)
    if (
        owner is None
    ):  # unreachable while devices take acts of owners alone; a device may be anybody's program
        raise Refused("this recovery code is of no owner of this household", reason="not-an-owner")
    _make(options, roots, owner.name)
    click.echo("Take a lost key out: doorward charter remove-key OWNER LABEL")
    click.echo(
        "Footage from before opens with your recovery code: doorward archive export --recovery-code-file"
    )


@click.command("join")
@_device_key_option
@door_options
def join(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Begin to use a device whose charter names your key since an owner added you, or your new key.

    Name a device elsewhere with --device URL and --device-key DIGITS.
    """
    current = meet(options, daily_keys(options))
    names = ", ".join(owner.name for owner in current.owners)
    click.echo(f"You are an owner of this household: charter version {current.version}, owners {names}.")


def meet(options: dict[str, Any], signer: Signer) -> Charter:
    """Get to know a device of the signer's household: its ledger as it is now goes into this client's memory.

    Raises:
        Refused: Not paired, or its charter does not name the signer's key.
        IntegrityError: Another device than the one compared.
    """
    with opened(options, signer) as client:
        found = client.find()
        device, household = found.descriptor.device, found.descriptor.household
        if options.get("device_key"):
            remote_door.compare(options["device_key"], device)
        if household is None or client.seen is None:
            raise Refused("this device is not paired", reason="unpaired", hint="doorward pair --code CODE")
        fresh = client.seen.get(device) is None
        if fresh:
            client.seen.remember(device, Memory(found.descriptor.signing, household, 0, NOTHING_SEEN))
        try:
            client.act(signer, [])
        except DoorwardError as error:
            if fresh:
                client.seen.forget(device)
            if isinstance(error, MalformedInput):
                raise Refused(
                    f"the device does not take your key ({error})",
                    reason="not-an-owner",
                    hint="an owner adds you first: doorward charter add-owner CARD, or add-key CARD",
                ) from error
            raise
        current, _ = client.charter()
        memory = client.need_memory(found)
    if fresh:
        click.echo(f"Device {fingerprint(device)}", err=True)
        click.echo(
            f"WARNING: this client had seen nothing of it before. It takes the ledger as it is now "
            f"({memory.size} entries): if something was rolled back earlier, only a client or witness that "
            "has seen more can tell.",
            err=True,
        )
    return current


def _no_file_yet(path: Path) -> None:
    if path.expanduser().exists():
        raise Refused(f"key file {path} exists already", reason="exists", hint="name another with --key-file")


def _make(options: dict[str, Any], roots: RootKeys, name: str) -> None:
    """A new key file under the owner's root key, and its card."""
    path = options["key_file"].expanduser()
    secret = passphrase(options["passphrase_file"], "A passphrase for the new daily key", confirm=True)
    public = key_files.make(
        path,
        name=name,
        label=options["label"],
        root=roots.public,
        recovery=roots.recovery,
        passphrase=secret,
    )
    out = options["card_out"] or path.with_name(path.name + ".card")
    write_card(out, public, key_files.KeyFile(path).open(secret), roots)
    click.echo(f"The new daily key is in {path} (key {fingerprint(envelope.key_id(public.signing))}).")
    click.echo(f"It decides nothing until the charter names it: doorward charter add-key {out}")
