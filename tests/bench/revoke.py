"""From an owner's revocation reaching the device until the last RTP packet is handed to the socket.

Core's part (the owners' door, the gate, the ledger on a real disk) runs in a thread of its own, net's
sessions and the viewer in another, with real DTLS-SRTP over loopback between them. The clock starts before
the revocation's signatures are checked and its entry is written; packets go on leaving meanwhile. Pictures
keep coming after it, as from a core that does not stop: what ends them is net. Not in it is the seam's socket
between two processes.

``30fps``: as a viewer has it; most often no picture falls in between, and the figure is below 0. ``dense``: a
picture every 2 ms or so, which shows how long packets can leave at all. Both are held against 30 fps.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agent.consent.reasons import AgencyReason
from agent.ledger.files import DiskFile
from agent.seam import MessageKind
from hal.clock import boot_ns
from tests.bench.record import Record, percentile
from tests.ledger.disk import Disk
from tests.support.device import Box, Clock, FakeNet
from tests.support.household import BEN, NOON, Home
from tests.support.streams import Core, Sniffer, Watcher, device, feeding

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from agent.seam import Message

T = TypeVar("T")

FRAME_S: Final = 1 / 30
TARGET_MS: Final = 2 * FRAME_S * 1000
PACES: Final = {"30fps": FRAME_S, "dense": 0.002}
AFTER_S: Final = 5 * FRAME_S  # for how long packets are waited for


class RealClock(Clock):
    """The machine's own, at `NOON` when it is made."""

    def __init__(self) -> None:
        super().__init__()
        self._began = boot_ns()

    def __call__(self) -> int:
        return boot_ns()

    @property
    def wall_ns(self) -> int:
        return NOON + boot_ns() - self._began


class RealDisk(Disk):
    """The machine's own."""

    def open(self, path: Path) -> DiskFile:  # type: ignore[override]  # the same port, another disk
        return DiskFile(path)


class SessionsNet(FakeNet):
    """net's real sessions, in the thread of ``loop``."""

    def __init__(self, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._core = core
        self._loop = loop

    async def open(self, message: Message) -> bytes:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._open(message), self._loop))

    async def _open(self, message: Message) -> bytes:
        self._core.sessions.handle(message)
        return (await self._core.wait(MessageKind.ANSWER, message.integer("permit"))).blob

    def stop(self, permit: int) -> asyncio.Future[Message | None]:
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._close(permit), self._loop))

    async def _close(self, permit: int) -> Message | None:
        self._core.close(permit)
        return self._core.of(MessageKind.CLOSED, permit)[0]


class CoreThread:
    """A thread with an event loop, for core's part."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def run(*, trials: int = 50) -> Iterator[Record]:
    """The p50 and p99 over ``trials`` sessions. Below 0: the last packet had left before the device knew."""
    for name, every_s in PACES.items():
        found = [asyncio.run(_trial(random.Random(number), every_s)) for number in range(trials)]
        for percent in (50, 99):
            yield Record(
                bench=f"revoke/{name}/p{percent}",
                value=percentile(found, percent),
                unit=f"ms p{percent}",
                n=trials,
                spread=(min(found), max(found)),
                target=TARGET_MS,
            )


async def _trial(chance: random.Random, every_s: float) -> float:
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as directory:
        in_core = CoreThread()
        try:
            async with device() as core:
                box = Box(
                    Path(directory) / "ledger",
                    home=Home(changes={"ice": "all"}),
                    disk=RealDisk(),
                    clock=RealClock(),
                )
                box.net = box.sharing._net = SessionsNet(core, asyncio.get_running_loop())
                try:
                    return await _revoked_ms(box, core, in_core, chance, every_s)
                finally:
                    await in_core(box.settle())
                    box.close()
        finally:
            in_core.close()


async def _revoked_ms(
    box: Box, core: Core, in_core: CoreThread, chance: random.Random, every_s: float
) -> float:
    await in_core(box.pair())
    token = await in_core(box.grant())
    request = box.home.request()
    await in_core(box.ask(request))
    watcher = Watcher()
    try:
        offer = box.offer_now(request, token, sdp=(await watcher.receiver.offer()).decode())
        answer = await in_core(box.offer(offer))
        if answer is None or answer.status is not AgencyReason.GRANTED or answer.sdp is None:
            raise RuntimeError(f"revoke: there is no session to revoke (got {answer})")
        await watcher.receiver.accept(answer.sdp.encode())
        (session,) = box.gate.sessions()
        permit = session.permit.number
        act = box.signed_act(BEN.daily(), box.home.signed_revocation(token=token.id))
        async with feeding(core, permit, every_s=every_s):
            await watcher.wait(lambda: len(watcher.units) >= 5)
            sniffer = Sniffer(core, permit)
            await asyncio.sleep((1 + chance.random()) * FRAME_S)  # any moment between two pictures
            learned_ns = await in_core(_revoke(box, act))
            await asyncio.sleep(AFTER_S)
    finally:
        await watcher.receiver.close()
    if not sniffer.packets or box.gate.sessions():
        raise RuntimeError("revoke: nothing was sent before, or the session goes on")
    return (sniffer.packets[-1][0] - learned_ns) / 1e6


async def _revoke(box: Box, act: bytes) -> int:
    learned_ns = boot_ns()
    await box.owners.act(act)
    return learned_ns
