"""A real core process of one's own, and a net that does whatever a taken-over net might do."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import yaml

from agent import sealing, seam
from agent.consent import acts, envelope, handshake
from agent.consent.envelope import PayloadType, short
from agent.consent.fields import Fields
from agent.consent.times import SECOND_NS
from agent.device_keys import load_or_make
from agent.errors import Unreachable
from agent.ledger.entry import Entry
from agent.local_client import LocalClient
from agent.operations import Operation
from agent.parcel import Parcel, seal_documents
from agent.sealing import SealKind
from agent.seam import Message, MessageKind
from hal import clock
from tests.support.household import HOUR_NS, POLICE, Home, nonce, sign, signed_offer, signed_request, x

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.consent.acts import Acknowledgement
    from agent.consent.handshake import Offer, Request
    from agent.consent.token import Token

DEADLINE_S: Final = 20.0


def now_ns() -> int:
    """UTC, in whole seconds, as documents write it."""
    return clock.wall_ns() // SECOND_NS * SECOND_NS


def until(what: str, holds: Callable[[], object], seconds: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


class Live:
    """One core process, and the household it belongs to."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.directory = home
        self.run = home / "run"
        self.home = Home(
            keys=load_or_make(home / "state" / "keys"),
            changes={"ice": "all", "accept_plausible_time": True},
        )

    def call(self, operation: Operation, blob: bytes = b"", **args: object) -> tuple[dict[str, Any], bytes]:
        with LocalClient(self.run / "core.sock") as door:
            return door.call(operation, args, blob)

    def status(self) -> dict[str, Any]:
        return self.call(Operation.STATUS)[0]

    def records(self) -> int:
        """Records of the archive that are durable."""
        return int(self.status()["cameras"][0]["records"])

    def challenge(self) -> bytes:
        return Fields(self.call(Operation.CHALLENGE)[0], "challenge").fixed("challenge", acts.CHALLENGE_BYTES)

    def pair(self) -> None:
        code = self.call(Operation.NEW_CODE)[0]["code"]
        pairing = self.home.pairing(code, self.challenge(), signed_at_ns=now_ns())
        sealed = sealing.seal(
            SealKind.PAIRING,
            sender=acts.PAIRING_SENDER,
            recipient=self.home.keys.device,
            topic=acts.PAIRING_TOPIC,
            public=self.home.keys.seal_public,
            plaintext=sign(PayloadType.PAIRING, pairing.payload(), self.home.people[0].root),
        )
        self.call(Operation.PAIR, sealed)
        until("recording", lambda: self.records() > 0)

    def act(self, key: Ed25519PrivateKey, *documents: bytes, **changes: Any) -> Acknowledgement:
        changes.setdefault("signed_at_ns", now_ns())
        act = self.home.act(self.challenge(), key, *documents, **changes)
        _, signed = self.call(Operation.ACT, sign(PayloadType.ACT, act.payload(), key))
        return acts.verify_acknowledgement(signed, self.home.keys.signing_public)

    def grant(self, name: str = "token", **scope: Any) -> Token:
        owner = self.home.people[0]
        lasts = {"not_before_ns": now_ns() - 60 * SECOND_NS, "not_after_ns": now_ns() + HOUR_NS // 2}
        made = self.home.token(nonce=nonce(name), scope={**lasts, "sessions": 100, **scope})
        self.act(owner.daily(), sign(PayloadType.TOKEN, made.payload(), owner.root))
        return made

    def entries(self) -> list[Entry]:
        found: list[Entry] = []
        while True:
            result, _ = self.call(Operation.ENTRIES, start=len(found), count=200)
            found += [
                Entry.parse(Fields(each, "entry").data("entry", max_bytes=2**18))
                for each in result["entries"]
            ]
            if len(found) >= result["size"]:
                return found

    # What an operator's machine makes

    def request(self, name: str = "request", **changes: Any) -> Request:
        lasts = {"issued_at_ns": now_ns() - SECOND_NS, "expires_at_ns": now_ns() + HOUR_NS}
        badge: dict[str, Any] = {"not_before_ns": now_ns() - HOUR_NS, "not_after_ns": now_ns() + 24 * HOUR_NS}
        made = self.home.request(name=name, **{**lasts, **changes})
        made = replace(made, badge=POLICE.badge(**badge), badge_envelope=POLICE.signed_badge(**badge), id="")
        return replace(made, id=envelope.document_id(made.payload()))

    def offer(self, request: Request, granted: Token, name: str = "offer", **changes: Any) -> Offer:
        lasts = {"issued_at_ns": now_ns() - SECOND_NS, "expires_at_ns": now_ns() + 28 * SECOND_NS}
        made = self.home.offer(request, granted, name=name, **{**lasts, **changes})
        made = replace(made, badge=request.badge, badge_envelope=request.badge_envelope, id="")
        return replace(made, id=envelope.document_id(made.payload()))

    def sealed(self, *documents: bytes) -> bytes:
        return seal_documents(
            SealKind.TO_DEVICE,
            documents,
            sender=POLICE.key_id,
            recipient=self.home.keys.device,
            topic="link",
            public=self.home.keys.seal_public,
        )

    def asked(self, request: Request, offer: Offer) -> bytes:
        return self.sealed(signed_request(request), signed_offer(offer))

    def answer(self, reply: bytes, name: str = "offer") -> handshake.Answer:
        (document,) = Parcel.parse(reply).open(
            sender=self.home.keys.device, recipient=POLICE.key_id, private=x(f"{name} reply")
        )
        return handshake.verify_answer(document, self.home.keys.signing_public)


def spawn(home: Path, config: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "agent.core", "--config", str(config), "--home", str(home)],
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": "."},
        )


@contextmanager
def running(directory: Path) -> Iterator[Live]:
    """A core that is up, unpaired, with a small synthetic camera."""
    config = directory / "config.yaml"
    cameras = {"front": {"uri": "synthetic:?size=320x240&fps=10", "lores": "320x240"}}
    config.write_text(yaml.safe_dump({"cameras": cameras, "archive": {"budget": "50MB"}}))
    home, log = directory / "home", directory / "core.log"
    process = spawn(home, config, log)
    until("core", lambda: process.poll() is None and answers(home / "run" / "core.sock"))
    live = Live(home, process, log)
    try:
        yield live
    finally:
        live.process.terminate()
        try:
            live.process.wait(10)
        except subprocess.TimeoutExpired:
            live.process.kill()
            live.process.wait()


def answers(door: Path) -> bool:
    try:
        with LocalClient(door) as client:
            client.call(Operation.STATUS)
    except Unreachable:
        return False
    return True


RELAY: Final = """
import os, select, socket, sys
seam = socket.socket(socket.AF_UNIX)
seam.connect(sys.argv[1])
while True:
    ready, _, _ = select.select([0, seam], [], [])
    for source in ready:
        data = os.read(0, 65536) if source == 0 else seam.recv(65536)
        if not data:
            sys.exit()
        seam.sendall(data) if source == 0 else os.write(1, data)
"""


class FakeNet:
    """net's end of the seam, in a process of its own, since core kills it. It sends what the test likes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process, self.reader, self.writer = process, process.stdout, process.stdin

    @classmethod
    async def connect(cls, live: Live) -> FakeNet:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-c", RELAY, str(live.run / "seam.sock")),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        net = cls(process)
        await net.receive(MessageKind.SETTINGS)
        return net

    def send(self, kind: MessageKind, blob: bytes = b"", **fields: object) -> None:
        self.writer.write(seam.encode(Message(kind, fields, blob)))

    def link_in(self, number: int, sealed: bytes) -> None:
        self.send(MessageKind.LINK_IN, sealed, id=number, agency=short(POLICE.key_id))

    async def receive(self, *kinds: MessageKind, seconds: float = 10.0) -> Message:
        """The next message, of these kinds if any are named."""
        async with asyncio.timeout(seconds):
            while True:
                message = await seam.read(self.reader)
                assert message is not None, "core has closed the seam"
                if not kinds or message.kind in kinds:
                    return message

    async def until_closed(self, seconds: float = 10.0) -> list[Message]:
        """What still comes until core closes the seam."""
        found = []
        async with asyncio.timeout(seconds):
            while (message := await seam.read(self.reader)) is not None:
                found.append(message)
            await self.process.wait()
        return found

    async def close(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
