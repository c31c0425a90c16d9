"""``doorward witness``: the small cosigning service that lets a household's ledger be held to its word."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.arguments import start_logging
from agent.cli import words
from agent.cli.options import json_option
from agent.consent import envelope
from agent.consent.fields import KEY_BYTES, decode_bytes, encode_bytes
from agent.consent.times import SECOND_NS
from agent.errors import ConfigError, MalformedInput
from agent.ledger import vkey
from agent.ledger.checkpoint import ED25519, origin_of
from agent.serving import serving
from agent.witness.service import Service
from agent.witness.store import FILE_NAME, Store
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_PORT = 8447
MAX_FILE_BYTES = 64 * 1024
log = logging.getLogger(__name__)


@click.group()
def witness() -> None:
    """Be a witness: vouch that households' ledgers only grow. You see sizes and roots, never entries."""


def _directory(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(path_type=Path),
        required=True,
        help="Where the witness keeps its key and its memory.",
    )(command)


def _store(directory: Path) -> Store:
    return Store(directory.expanduser() / FILE_NAME)


@witness.command("init")
@_directory
@click.option(
    "--name", required=True, help="What it is called in notes: a host and path, such as w.example/1."
)
def init(directory: Path, name: str) -> None:
    """Make a witness: a new key, and an empty memory beside it that must never be lost or put back."""
    path = directory.expanduser() / FILE_NAME
    Store.create(path, name)
    store = _store(directory)
    click.echo(f"Witness {name}, in {path}.")
    click.echo(f"  its key, for households:  {store.verifier_key}")
    click.echo("Next: doorward witness add-log --dir … KEY, then doorward witness serve --dir …")
    click.echo("Never restore this file from a backup, and never run two copies of it.")
    store.close()


@witness.command("add-log")
@click.argument("key")
@_directory
def add_log(key: str, directory: Path) -> None:
    """Vouch for one more ledger.

    KEY is the line that 'doorward charter add-witness' shows to the household, a device's public key in
    base64, or a file with one such line.
    """
    origin, public = _log_key(key)
    store = _store(directory)
    store.add_log(origin, public)
    store.close()
    click.echo(f"{origin} is trusted: key {words.fingerprint(envelope.key_id(public))}")


def _log_key(text: str) -> tuple[str, bytes]:
    path = Path(text).expanduser()
    try:
        if path.is_file():
            text = path.read_text(encoding="utf-8")[:MAX_FILE_BYTES]
    except (OSError, UnicodeDecodeError) as error:
        raise MalformedInput(f"{path}: {error}") from error
    text = text.strip()
    if len(text) == len(encode_bytes(bytes(KEY_BYTES))):
        public = decode_bytes(text, "key")
        # Through the line, so that one check stands for both ways.
        text = vkey.written(origin_of(envelope.key_id(public)), public, ED25519)
    return vkey.parse(text, ED25519)


@witness.command("show")
@_directory
@json_option
def show(directory: Path, *, as_json: bool) -> None:
    """Show the witness's key and every ledger it vouches for."""
    store = _store(directory)
    held = store.logs()
    if as_json:
        logs = [{"origin": each.origin, "size": each.size, "at": each.at, "note": each.note} for each in held]
        words.print_json(
            {
                "name": store.name,
                "key": encode_bytes(store.public),
                "verifier_key": store.verifier_key,
                "logs": logs,
            }
        )
    else:
        click.echo(f"Witness {store.name}")
        click.echo(f"  key {store.verifier_key}")
        for each in held:
            when = f"last {words.local_time(each.at * SECOND_NS)}" if each.at is not None else "never yet"
            click.echo(f"  {each.origin}  {each.size} entries, {when}")
        if not held:
            click.echo("  no ledgers yet: doorward witness add-log --dir … KEY")
    store.close()


@witness.command("serve")
@_directory
@click.option("--listen", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65_535), default=DEFAULT_PORT, show_default=True)
@click.option(
    "--tls",
    type=(click.Path(path_type=Path), click.Path(path_type=Path)),
    metavar="CERT KEY",
    help="Serve HTTPS with these PEM files. Without it: plain HTTP, on this machine alone, behind a proxy.",
)
def serve(directory: Path, listen: str, port: int, tls: tuple[Path, Path] | None) -> None:
    """Vouch for ledgers until told to stop."""
    start_logging()
    context = _tls(*tls) if tls else None
    store = _store(directory)
    try:
        asyncio.run(_serve(store, listen, port, context))
    finally:
        store.close()


def _tls(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate.expanduser(), key.expanduser())
    except OSError as error:
        raise ConfigError(f"tls files {certificate}, {key}: {error.strerror or error}") from error
    return context


async def _serve(store: Store, listen: str, port: int, tls: ssl.SSLContext | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service = Service(store, wall_ns=clock.wall_ns, boot_ns=clock.boot_ns)
    async with serving(service.application(), host=listen, port=port, tls=tls) as address:
        log.info("witness %s on %s port %d, %d ledgers", store.name, *address, len(store.logs()))
        await stop.wait()
