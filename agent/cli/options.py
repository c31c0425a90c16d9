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
from agent.local_client import LocalClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agent.cli.client import Signer
    from agent.cli.key_file import DailyKeys
    from agent.cli.recovery_code import RootKeys

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_KEY_FILE: Final = Path("~/.config/doorward/owner.json")


def door_options(command: Callable[P, R]) -> Callable[P, R]:
    """Which device, by which door, and as whom; every command that speaks to a device has them."""
    for option in (
        click.option(
            "--home",
            type=click.Path(path_type=Path),
            default=None,
            help="Where the agent on this machine keeps its state. [default: $DOORWARD_HOME or ./var]",
        ),
        click.option("--device", metavar="URL", help="A device elsewhere: https://HOST:PORT."),
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


@contextmanager
def opened(options: dict[str, Any], signer: Signer | None = None) -> Iterator[Client]:
    """The client that ``--home``, ``--device`` and ``--key-file`` name, for as long as the block runs.

    ``signer`` is who a remote device knows as its reader; without it, the daily key of ``--key-file``.

    Raises:
        Unreachable: Nobody is there.
        IntegrityError: Somebody else is.
    """
    seen = SeenFile(seen_path(options["key_file"]))
    if options.get("device"):
        # Here, because what it needs takes as long to import as all the rest, and most commands do without.
        from agent.cli.remote_door import RemoteOwnerDoor  # noqa: PLC0415 - see above

        door = RemoteOwnerDoor(
            options["device"],
            lambda: signer or daily_keys(options),
            seen,
            expected=options.get("device_key"),
        )
        yield Client(door, seen)
        return
    home = options.get("home") or config.default_home()
    with LocalClient(config.load(None, home=home.absolute()).door) as local:
        yield Client(local, seen)


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
    except OSError as error:
        raise MalformedInput(f"{what} file {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MalformedInput(f"{what} file {path}: not text") from error
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise MalformedInput(f"{what} file {path}: empty")
    return lines[0].strip()
