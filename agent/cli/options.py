"""Options that many commands share, and what they open: the door, the key file, the memory beside it."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from agent import config
from agent.cli import recovery_code
from agent.cli.client import Client
from agent.cli.key_file import KeyFile
from agent.cli.seen import SeenFile
from agent.errors import MalformedInput
from agent.link.remote import RemoteDoor
from agent.local_client import LocalClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.cli.client import DoorClient
    from agent.cli.key_file import DailyKeys
    from agent.cli.recovery_code import RootKeys
    from agent.operations import Operation

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_KEY_FILE: Final = Path("~/.config/doorward/owner.json")


class _Remote:
    """The remote door with the local door's manners."""

    def __init__(self, url: str, fingerprint: str | None) -> None:
        self._door = RemoteDoor(url, fingerprint=fingerprint)

    def call(
        self, operation: Operation, args: dict[str, object] | None = None, blob: bytes = b""
    ) -> tuple[dict[str, object], bytes]:
        return self._door.call_blocking(str(operation), args, blob)


def door_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--home`` and ``--device``: which device, by which door."""
    for option in (
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            default=None,
            help="Where the agent on this machine keeps its state. [default: $DOORWARD_HOME or ./var]",
        ),
        click.option("--device", metavar="URL", help="A device elsewhere: https://HOST:PORT."),
        click.option("--fingerprint", metavar="sha256:…", help="The certificate that URL must show."),
    ):
        command = option(command)
    return command


def key_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--key-file`` and ``--passphrase-file``."""
    for option in (
        click.option(
            "--key-file",
            type=click.Path(path_type=Path),
            default=DEFAULT_KEY_FILE,
            show_default=True,
            help="Your daily key.",
        ),
        click.option(
            "--passphrase-file",
            type=click.Path(path_type=Path, allow_dash=True),
            help="A file with the passphrase of the key file; - reads it from standard input.",
        ),
    ):
        command = option(command)
    return command


def root_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--recovery-code-file``: for acts that need the root key."""
    return click.option(
        "--recovery-code-file",
        type=click.Path(path_type=Path, allow_dash=True),
        help="A file with your recovery code; - reads it from standard input. Without it you are asked.",
    )(command)


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """``--json``: for scripts."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def owner_command(command: Callable[P, R]) -> Callable[P, R]:
    """All options of a command that an owner signs with a daily key."""
    return door_options(key_options(command))


@contextmanager
def opened(options: dict[str, Any]) -> Iterator[Client]:
    """The client that ``--home``, ``--device`` and ``--key-file`` name, for as long as the block runs.

    Raises:
        Unreachable: Nobody is there.
    """
    key_file = options.get("key_file")
    seen = SeenFile(seen_path(key_file)) if key_file is not None else None
    with _door(options) as door:
        yield Client(door, seen)


@contextmanager
def _door(options: dict[str, Any]) -> Iterator[DoorClient]:
    if options.get("device"):
        yield _Remote(options["device"], options.get("fingerprint"))
        return
    home = options.get("home") or config.default_home()
    with LocalClient(config.load(None, home=home.absolute()).door) as door:
        yield door


def seen_path(key_file: Path) -> Path:
    """The memory beside a key file."""
    expanded = key_file.expanduser()
    return expanded.with_name(expanded.name + ".seen")


def daily_keys(options: dict[str, Any]) -> DailyKeys:
    """Open the key file, asking for the passphrase unless a file has it.

    Raises:
        DoorwardError: No key file, or the wrong passphrase.
    """
    file = KeyFile(options["key_file"].expanduser())
    return file.open(passphrase(options.get("passphrase_file"), f"Passphrase of {file.path}"))


def passphrase(path: Path | None, prompt: str, *, confirm: bool = False) -> str:
    """A passphrase from a file, or from the person."""
    if path is not None:
        return _secret(path, "passphrase")
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))


def root_keys(options: dict[str, Any]) -> RootKeys:
    """The root keys from the recovery code, in a file or typed in; nothing of it is kept.

    Raises:
        MalformedInput: Not a recovery code.
    """
    path = options.get("recovery_code_file")
    code = (
        _secret(path, "recovery code") if path else click.prompt("Recovery code", hide_input=True, err=True)
    )
    return recovery_code.keys_of(recovery_code.read(str(code)))


def _secret(path: Path, what: str) -> str:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{what} file {path}: {error}") from error
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise MalformedInput(f"{what} file {path}: empty")
    return lines[0].strip()
