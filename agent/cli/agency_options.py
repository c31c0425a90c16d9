"""What the commands of an agency share: its open store, and the options that say how a device is reached."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import click

from agent.agency import identity as identities
from agent.agency.conversation import Conversation
from agent.agency.routes import http_route, post_route, read_route
from agent.agency.store import Store
from agent.errors import ConfigError, Refused
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agent.agency.identity import Identity
    from agent.agency.introductions import KnownDevice
    from agent.agency.routes import Route
    from agent.agency.store import RequestRow

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_DIRECTORY: Final = Path("~/.local/share/doorward-agency")
SHORT: Final = 16


@dataclass(frozen=True, slots=True)
class Office:
    """The agency while a command runs."""

    store: Store
    identity: Identity
    conversation: Conversation


@contextmanager
def office(directory: Path) -> Iterator[Office]:
    """The agency in ``directory``.

    Raises:
        ConfigError: There is none.
        IntegrityError, StorageError: Its store or keys are not as they should be.
    """
    with Store.open(directory) as store:
        identity = identities.load(store)
        yield Office(store, identity, Conversation(store, identity, wall_ns=clock.wall_ns))


def route_options(command: Callable[P, R]) -> Callable[P, R]:
    """``--via``, ``--post`` and the files for a post."""
    path = click.Path(path_type=Path)
    for option in (
        click.option("--key", type=path, help="The key of that certificate."),
        click.option("--cert", type=path, help="Our certificate, as the post signed it."),
        click.option("--ca", type=path, help="The authority that signed the post's certificate."),
        click.option("--post", metavar="HOST:PORT", help="The post (MQTT broker) that the device uses."),
        click.option(
            "--via",
            metavar="URL",
            help="The device's own address: https://HOST:PORT, pinned by what the device signs, "
            "or https://HOST:PORT#sha256=DIGITS.",
        ),
    ):
        command = option(command)
    return command


def chosen_route(options: dict[str, Any], devices: Sequence[KnownDevice]) -> dict[str, Route]:
    """The routes that the options name, by device id; empty when they name none.

    Raises:
        DoorwardError: The options contradict each other, or the device at that address is another one.
    """
    if options["via"] and options["post"]:
        raise ConfigError("--via and --post: expected one of them")
    if options["via"]:
        device, route = asyncio.run(http_route(options["via"], devices))
        return {device.key_id: route}
    if options["post"]:
        post = post_route(options["post"], options["ca"], options["cert"], options["key"])
        return {device.key_id: post for device in devices}
    if options["ca"] or options["cert"] or options["key"]:
        raise ConfigError("--ca, --cert and --key: go with --post HOST:PORT")
    return {}


def route_to(office_: Office, device: KnownDevice, options: dict[str, Any]) -> Route:
    """How to reach ``device``: as the options say, else as was said at import.

    Raises:
        ConfigError: Nobody ever said.
    """
    named = chosen_route(options, [device]).get(device.key_id)
    if named is not None:
        return named
    kept = office_.store.route(device.key_id)
    if kept is None:
        raise ConfigError(
            f"device {device.name}: how to reach it is not known", hint="say --via URL or --post HOST:PORT"
        )
    return read_route(kept)


def short(name: str) -> str:
    """An id as people type it."""
    return name.removeprefix("sha256:")[:SHORT]


def find_request(office_: Office, wanted: str) -> RequestRow:
    """The request whose id begins with what was typed.

    Raises:
        Refused: None, or several.
    """
    digits = wanted.removeprefix("sha256:").lower()
    found = [row for row in office_.store.requests() if row.id.removeprefix("sha256:").startswith(digits)]
    if len(found) != 1 or not digits:
        many = "several begin" if found else "none begins"
        raise Refused(
            f"request {wanted[:80]}: {many} with that", reason="unknown", hint="see: doorward agency requests"
        )
    return found[0]
