"""What somebody tries who has kept every message: hand them over again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent import config, parcel
from agent.cli.client import Client
from agent.cli.key_file import KeyFile
from agent.cli.options import seen_path
from agent.cli.seen import SeenFile
from agent.consent import acts
from agent.consent.envelope import short
from agent.consent.fields import decode_bytes
from agent.errors import DoorwardError
from agent.link.http import HttpTransport
from agent.local_client import LocalClient
from agent.operations import Operation
from agent.parcel import seal_documents
from agent.sealing import SealKind

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Heard:
    """What the device said to replays."""

    token_refused: bool
    token_words: str
    granted: bool


def replay(directory: Path, device: str, port: int, entries: list[dict[str, Any]]) -> Heard:
    """Hand the recorded token over in a fresh act, and send the recorded request again."""
    by_kind = {entry["kind"]: entry for entry in entries}
    token = decode_bytes(by_kind["token"]["body"]["document"], "token")
    request = by_kind["request"]["body"]
    words = _hand_over(directory, token)
    before = _grants(entries)
    asyncio.run(_send(directory, device, port, request))
    with LocalClient(config.load(None, home=directory / "device").door) as door:
        result, _ = door.call(Operation.ENTRIES, {"start": len(entries), "count": 200})
    found = result.get("entries")
    fresh = [decode_bytes(each["entry"], "entry") for each in found] if isinstance(found, list) else []
    granted = any(b'"granted"' in entry or b'"session-start"' in entry for entry in fresh)
    return Heard(bool(words), words, granted or before != 1)


def _grants(entries: list[dict[str, Any]]) -> int:
    return sum(
        1 for entry in entries if entry["kind"] == "decision" and entry["body"].get("reason") == "granted"
    )


def _hand_over(directory: Path, token: bytes) -> str:
    """The owner's own client, made to hand the old token over; what the device says against it."""
    path = directory / "owner.json"
    keys = KeyFile(path).open((directory / "passphrase").read_text().strip())
    with LocalClient(config.load(None, home=directory / "device").door) as door:
        client = Client(door, SeenFile(seen_path(path)))
        try:
            client.act(keys, [token])
        except DoorwardError as error:
            return str(error)
    return ""


async def _send(directory: Path, device: str, port: int, request: dict[str, Any]) -> None:
    """Seal the recorded request anew, as whoever saw it could, and send it to the device's own door."""
    with LocalClient(config.load(None, home=directory / "device").door) as door:
        _, blob = door.call(Operation.DEVICE)
    descriptor = acts.verify_descriptor(blob)
    sealed = seal_documents(
        SealKind.TO_DEVICE,
        [decode_bytes(request["document"], "request")],
        sender=request["agency"],
        recipient=device,
        topic=parcel.LINK_TOPIC,
        public=descriptor.seal,
    )
    transport = HttpTransport(
        f"https://127.0.0.1:{port}",
        short(request["agency"]),
        device=short(device),
        fingerprint=descriptor.tls_fingerprint,
    )
    async with transport:
        await transport.send(short(device), sealed)
