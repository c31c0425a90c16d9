"""``doorward owner``: an owner's keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from agent.cli import key_file as key_files
from agent.cli import recovery_code
from agent.cli.options import DEFAULT_KEY_FILE, passphrase
from agent.cli.owner_keys import add_key, card, join, recover, write_card
from agent.cli.watch import watch
from agent.cli.words import fingerprint
from agent.consent import envelope
from agent.errors import MalformedInput, Refused, StorageError

TYPED_BACK = 2
"""How many groups of the recovery code must be typed back."""


@click.group()
def owner() -> None:
    """Your own keys, made here and kept by you; and your inbox."""


owner.add_command(watch)


for command in (card, add_key, recover, join):
    owner.add_command(command)


@owner.command("init")
@click.option("--name", required=True, help="How you are called in the household.")
@click.option("--label", default="this computer", show_default=True, help="How this daily key is called.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    default=DEFAULT_KEY_FILE,
    show_default=True,
    help="The file with your daily key.",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path, allow_dash=True),
    help="A file with the passphrase to use; - reads it from standard input.",
)
@click.option(
    "--recovery-code-out",
    type=click.Path(path_type=Path),
    help="Write the recovery code to this new file instead of showing it (for scripts).",
)
@click.option(
    "--card-out",
    type=click.Path(path_type=Path),
    help="Write your card too, to join a household that exists already.",
)
def init(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Make your keys: a recovery code for paper, and a daily key under a passphrase.

    The recovery code makes your root key, which alone can change the household, add phones and recover
    everything. It is shown once and kept nowhere. The daily key is in the key file.
    """
    path = options["key_file"].expanduser()
    if path.exists():
        raise Refused(f"key file {path} exists already", reason="exists", hint="name another with --key-file")
    seed = recovery_code.new_seed()
    code = recovery_code.written(seed)
    if options["recovery_code_out"]:
        _write_code(options["recovery_code_out"].expanduser(), code)
    else:
        _show_code(code)
    root = recovery_code.keys_of(seed)
    secret = passphrase(options["passphrase_file"], "A passphrase for your daily key", confirm=True)
    public = key_files.make(
        path,
        name=options["name"],
        label=options["label"],
        root=root.public,
        recovery=root.recovery,
        passphrase=secret,
    )
    click.echo(f"Your daily key is in {path} (key {fingerprint(envelope.key_id(public.signing))}).")
    if options["card_out"]:
        write_card(options["card_out"], public, key_files.KeyFile(path).open(secret), root)
        click.echo(f"Your card is in {options['card_out']}: give it to an owner of the household.")
        click.echo(f"Tell them your root key's digits: {fingerprint(root.signing_id)}")
        return
    click.echo("Next: pair with your device: doorward pair --code CODE")


def _show_code(code: str) -> None:
    click.echo("Your recovery code. Write it on paper now; it is shown once and kept nowhere:\n")
    click.echo(f"    {code}\n")
    groups = code.split("-")
    wanted = "-".join(groups[-TYPED_BACK:])
    click.echo("Whoever has it can change your household and open every recording; without it a lost phone")
    click.echo("or computer cannot be replaced.")
    for _ in range(3):
        typed = str(click.prompt(f"Type its last {TYPED_BACK} groups from your paper"))
        if "".join(typed.upper().split()).replace("-", "") == wanted.replace("-", ""):
            return
        click.echo("That is not it. Look at your paper, then at the code above.")
    raise MalformedInput("the recovery code was not typed back", hint="nothing was made; begin again")


def _write_code(path: Path, code: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise StorageError(f"recovery code file {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(code + "\n")


@owner.command("show")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    default=DEFAULT_KEY_FILE,
    show_default=True,
    help="The file with your daily key.",
)
def show(key_file: Path) -> None:
    """Show whose key file this is; no passphrase needed, nothing secret shown."""
    public = key_files.KeyFile(key_file.expanduser()).public
    click.echo(f"{public.name}, {public.label}")
    click.echo(f"  root key   {fingerprint(envelope.key_id(public.root))}")
    click.echo(f"  daily key  {fingerprint(envelope.key_id(public.signing))}")
