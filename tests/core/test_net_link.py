"""core's end of the seam: a net that does not stop is killed, and a lost seam ends everything."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent import seam
from agent.errors import Unreachable, WireError
from agent.net_link import STOP_S, NetLink, peer_of
from agent.seam import Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SILENT_NET = """
import socket, sys, time
seam = socket.socket(socket.AF_UNIX)
seam.connect(sys.argv[1])
print("there", flush=True)
while True:
    if sys.argv[2] == "reads" and not seam.recv(65536):
        break
    if sys.argv[2] != "reads":
        time.sleep(1)
"""
"""A net that is alive, connected, and does not do what it is told."""


class Core:
    """What the link tells core."""

    def __init__(self, path: Path) -> None:
        self.messages: list[Message] = []
        self.connected = asyncio.Event()
        self.lost = asyncio.Event()
        self.on_message: Any = None
        self.path = path
        self.link = NetLink(
            path, on_message=self._message, on_connected=self.connected.set, on_lost=self.lost.set
        )

    async def _message(self, message: Message) -> None:
        self.messages.append(message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Core]:
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(self.link.run())
            async with asyncio.timeout(5):
                while not self.path.exists():
                    await asyncio.sleep(0.01)
            yield self
            serving.cancel()


class Net:
    """net's end, as a plain connection of this process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, core: Core) -> Net:
        net = cls(*await asyncio.open_unix_connection(core.path))
        await asyncio.wait_for(core.connected.wait(), 5)
        return net

    def send(self, kind: MessageKind, blob: bytes = b"", **fields: object) -> None:
        self.writer.write(seam.encode(Message(kind, dict(fields), blob)))

    async def receive(self) -> Message:
        message = await asyncio.wait_for(seam.read(self.reader), 5)
        assert message is not None
        return message

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def child(core: Core, how: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SILENT_NET, str(core.path), how, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 10) == b"there\n"
    await asyncio.wait_for(core.connected.wait(), 5)
    return process


OPEN = Message(MessageKind.OPEN, {"permit": 5}, b"offer")


async def test_offer_is_answered_and_stop_acknowledged(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        opening = asyncio.gather(core.link.open(OPEN))
        assert await net.receive() == OPEN
        net.send(MessageKind.ANSWER, b"answer", permit=5)
        (answer,) = await opening
        assert answer == b"answer"
        stopping = core.link.stop(5)
        assert core.link.stop(5) is stopping
        assert (await net.receive()).kind is MessageKind.CLOSE
        net.send(MessageKind.CLOSED, permit=5, frames=9, bytes=1)
        closed = await core.link.stopped(5)
        assert closed is not None
        assert closed.integer("frames") == 9
        await net.close()


async def test_refused_offer_is_an_error_and_late_answers_are_nobodys(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        opening = asyncio.gather(core.link.open(OPEN), return_exceptions=True)
        await net.receive()
        net.send(MessageKind.ANSWER_FAILED, permit=5, why="busy")
        (error,) = await opening
        assert isinstance(error, WireError)
        net.send(MessageKind.ANSWER, b"late", permit=5)
        net.send(MessageKind.ANSWER, b"never asked", permit=6)
        net.send(MessageKind.IDR, permit=5)
        async with asyncio.timeout(5):
            while not core.messages:
                await asyncio.sleep(0.01)
        assert [message.kind for message in core.messages] == [MessageKind.IDR]
        await net.close()


async def test_viewer_that_went_by_itself_is_reported(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        net.send(MessageKind.CLOSED, permit=8, frames=1, bytes=1)
        async with asyncio.timeout(5):
            while not core.messages:
                await asyncio.sleep(0.01)
        assert core.messages[0].integer("permit") == 8
        await net.close()


async def test_net_that_ignores_a_stop_is_killed_within_a_second(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        process = await child(core, "reads")
        began = asyncio.get_running_loop().time()
        assert await core.link.stopped(5) is None
        assert asyncio.get_running_loop().time() - began < STOP_S + 1
        assert await asyncio.wait_for(process.wait(), 5) == -signal.SIGKILL
        await asyncio.wait_for(core.lost.wait(), 5)
        assert not core.link.connected


async def test_net_that_reads_nothing_is_killed_before_it_fills_the_memory(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        process = await child(core, "sleeps")
        unit = Message(MessageKind.UNIT, {}, bytes(1024 * 1024))
        for _ in range(6):
            core.link.send(unit)
        assert await asyncio.wait_for(process.wait(), 5) == -signal.SIGKILL
        await asyncio.wait_for(core.lost.wait(), 5)


async def test_lost_seam_tells_core_and_everybody_who_waits(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        waiting = asyncio.gather(core.link.open(OPEN), core.link.stopped(7), return_exceptions=True)
        await net.receive()
        await net.receive()
        await net.close()
        error, closed = await asyncio.wait_for(waiting, 5)
        assert isinstance(error, Unreachable)
        assert closed is None
        assert core.lost.is_set()
        assert await core.link.stopped(8) is None
        with pytest.raises(Unreachable):
            await core.link.open(OPEN)
        core.link.send(OPEN)  # goes nowhere
        core.connected.clear()
        again = await Net.connect(core)
        assert core.link.connected
        await again.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 8,
        b"\0\0\0\x10\0\0\0\x02{}",
        seam.encode(Message(MessageKind.CLOSED, {"permit": "5"})),
        seam.encode(Message(MessageKind.ANSWER, {})),
        seam.encode(Message(MessageKind.CLOSED, {"permit": 5}))[:-1],
    ],
)
async def test_broken_frame_loses_the_seam(tmp_path: Path, data: bytes) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        net.writer.write(data)
        net.writer.write_eof()
        await asyncio.wait_for(core.lost.wait(), 5)
        assert not core.link.connected
        await net.close()


async def test_second_process_at_the_seam_is_turned_away(tmp_path: Path) -> None:
    async with Core(tmp_path / "seam").running() as core:
        net = await Net.connect(core)
        reader, writer = await asyncio.open_unix_connection(core.path)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert core.link.connected
        assert not core.lost.is_set()
        pid, _ = peer_of(net.writer.get_extra_info("socket"))
        assert pid > 0
        await net.close()
