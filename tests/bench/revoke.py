"""From an owner's revocation reaching the device until the last RTP packet is handed to the socket.

One process: the owners' door, the gate, the ledger on a real disk, net's sessions that send real DTLS-SRTP
over loopback. The clock starts before the revocation's signatures are checked and its entry is written.
Pictures go on coming at 30 fps after it, as from a core that does not stop: what ends them is net. Not in it
is the seam's passage from one process to the other.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
    from collections.abc import Iterator

    from agent.seam import Message

FRAME_S: Final = 1 / 30
TARGET_MS: Final = 2 * FRAME_S * 1000
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
    """net's real sessions in this process."""

    def __init__(self, core: Core) -> None:
        super().__init__()
        self._core = core

    async def open(self, message: Message) -> bytes:
        self._core.sessions.handle(message)
        return (await self._core.wait(MessageKind.ANSWER, message.integer("permit"))).blob

    def stop(self, permit: int) -> asyncio.Future[Message | None]:
        self._core.close(permit)
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        future.set_result(self._core.of(MessageKind.CLOSED, permit)[0])
        return future


def run(*, trials: int = 50) -> Iterator[Record]:
    """The p50 and p99 over ``trials`` sessions; 0 where no packet followed."""
    found = [asyncio.run(_trial(random.Random(number))) for number in range(trials)]
    for percent in (50, 99):
        yield Record(
            bench=f"revoke/p{percent}",
            value=percentile(found, percent),
            unit=f"ms p{percent}",
            n=trials,
            spread=(min(found), max(found)),
            target=TARGET_MS,
        )


async def _trial(chance: random.Random) -> float:
    with tempfile.TemporaryDirectory(prefix="doorward-bench-") as directory:
        async with device() as core:
            box = Box(
                Path(directory) / "ledger",
                home=Home(changes={"ice": "all"}),
                disk=RealDisk(),
                clock=RealClock(),
            )
            box.net = box.sharing._net = SessionsNet(core)
            try:
                return await _revoked_ms(box, core, chance)
            finally:
                await box.settle()
                box.close()


async def _revoked_ms(box: Box, core: Core, chance: random.Random) -> float:
    await box.pair()
    token = await box.grant()
    request = box.home.request()
    await box.ask(request)
    watcher = Watcher()
    try:
        offer = box.offer_now(request, token, sdp=(await watcher.receiver.offer()).decode())
        answer = await box.offer(offer)
        if answer is None or answer.status is not AgencyReason.GRANTED or answer.sdp is None:
            raise RuntimeError(f"revoke: there is no session to revoke (got {answer})")
        await watcher.receiver.accept(answer.sdp.encode())
        (session,) = box.gate.sessions()
        permit = session.permit.number
        async with feeding(core, permit, every_s=FRAME_S):
            await watcher.wait(lambda: len(watcher.units) >= 5)
            sniffer = Sniffer(core, permit)
            await asyncio.sleep((1 + chance.random()) * FRAME_S)  # any moment between two pictures
            revocation = box.home.signed_revocation(token=token.id)
            act = box.signed_act(BEN.daily(), revocation)
            learned_ns = boot_ns()
            await box.owners.act(act)
            await asyncio.sleep(AFTER_S)
    finally:
        await watcher.receiver.close()
    if not sniffer.packets or box.gate.sessions():
        raise RuntimeError("revoke: nothing was sent before, or the session goes on")
    return max(0.0, (sniffer.packets[-1][0] - learned_ns) / 1e6)
