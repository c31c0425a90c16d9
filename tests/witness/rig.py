"""Witnesses for tests: real services on loopback, and a device in memory that asks them."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agent.consent.fields import encode_bytes
from agent.consent.times import SECOND_NS
from agent.ledger import checkpoint as checkpoints
from agent.ledger import merkle
from agent.ledger.checkpoint import Checkpoint
from agent.ledger.submission import Submission
from agent.link.witness_post import Answered, post
from agent.seam import Message, MessageKind
from agent.serving import serving
from agent.witness.service import Service
from agent.witness.store import FILE_NAME, Store
from agent.witnessing import Witnessing
from tests.ledger.entries import ORIGIN, PRIVATE
from tests.support.device import Box, HeldDisk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from agent.consent.charter import Witness
    from tests.ledger.disk import Disk

NAME = "witness.example/w1"
START_NS = 1_769_860_800 * SECOND_NS


class Times:
    """The clocks of a witness."""

    def __init__(self) -> None:
        self.wall_ns = START_NS
        self.boot_ns = SECOND_NS

    def advance(self, seconds: float) -> None:
        self.wall_ns += round(seconds * SECOND_NS)
        self.boot_ns += round(seconds * SECOND_NS)


class Running:
    """A running witness."""

    def __init__(self, store: Store, url: str) -> None:
        self.store = store
        self.url = url

    def to_json(self) -> dict[str, Any]:
        """As it stands in a charter."""
        return {"name": self.store.name, "key": encode_bytes(self.store.public), "url": self.url}

    async def submit(self, submitted: Submission | bytes) -> Answered:
        body = submitted if isinstance(submitted, bytes) else submitted.encode()
        return await post(f"{self.url}/add-checkpoint", body)


def made(directory: Path, name: str = NAME) -> Store:
    Store.create(directory / FILE_NAME, name)
    return Store(directory / FILE_NAME)


@asynccontextmanager
async def running(
    store: Store, *, wall_ns: Callable[[], int], boot_ns: Callable[[], int], port: int = 0
) -> AsyncIterator[Running]:
    service = Service(store, wall_ns=wall_ns, boot_ns=boot_ns)
    async with serving(service.application(), host="127.0.0.1", port=port, tls=None) as address:
        yield Running(store, f"http://127.0.0.1:{address[1]}")


class Book:
    """A ledger of numbered leaves that signs any size it is asked for; ``salt`` makes another history."""

    def __init__(self, *, salt: str = "", origin: str = ORIGIN, private: Ed25519PrivateKey = PRIVATE) -> None:
        self.origin = origin
        self.private = private
        self._salt = salt
        self.tree = merkle.Tree()
        self.grow(64)

    def grow(self, count: int, salt: str | None = None) -> None:
        for _ in range(count):
            text = f"{self._salt if salt is None else salt}{self.tree.size}"
            self.tree.append(merkle.leaf_hash(text.encode()))

    def checkpoint(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, self.tree.root(size))

    def note(self, size: int) -> str:
        return checkpoints.sign(self.checkpoint(size), self.origin, self.private)

    def submission(self, old: int, size: int) -> Submission:
        proof = self.tree.consistency_proof(old, size) if old else []
        return Submission(old, tuple(proof), self.note(size))


class Watched:
    """A device in memory that asks its witnesses through net, which is a real POST or something worse."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.there = True
        self.carry: Callable[[str, bytes], Awaitable[Answered | None]] = post
        self.asked: list[tuple[str, bytes]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.witnessing = Witnessing(
            box.keeper,
            box.gate,
            box.time,
            origin=checkpoints.origin_of(box.home.keys.device),
            device_key=box.home.keys.signing_public,
            boot_id="00" * 16,
            boot_ns=box.clock,
            send=self._send,
            confirmed=box.sharing.owners_acted,
        )

    def _send(self, message: Message) -> bool:
        assert message.kind is MessageKind.WITNESS_OUT
        if self.there:
            task = asyncio.get_running_loop().create_task(self._bring(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self.there

    async def _bring(self, message: Message) -> None:
        url = message.text("url")
        self.asked.append((url, message.blob))
        answered = await self.carry(url, message.blob)
        if answered is not None:
            fields: dict[str, object] = {"number": message.integer("number"), "status": answered.status}
            self.witnessing.answered(Message(MessageKind.WITNESS_IN, fields, answered.body))

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        return self.box.keeper.state.need_charter().witnesses

    async def ask(self, number: int = 0) -> dict[str, Any]:
        """One round with one witness; how it stands with it afterwards."""
        await self.witnessing.ask(self.witnesses[number])
        return dict(self.witnessing.status()[number])

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Let it ask by itself while the block runs."""
        task = asyncio.get_running_loop().create_task(self.witnessing.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def copied(disk: Disk) -> HeldDisk:
    """The card, copied as it is now."""
    copy = HeldDisk()
    for name, content in disk.files.items():
        copy.files[name] = type(content)(
            bytearray(content.durable), bytearray(content.cached), content.reserved
        )
    return copy


async def until(what: str, holds: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(0.01)
