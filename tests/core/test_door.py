"""The local door: one operation after the other, and every wrong one answered in a line."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent import seam
from agent.consent.times import SECOND_NS
from agent.door import MOST_CONNECTIONS, LocalDoor, answer
from agent.errors import (
    ConfigError,
    DoorwardError,
    IntegrityError,
    LedgerError,
    MalformedInput,
    Refused,
    StorageError,
    TransientError,
    Unreachable,
)
from agent.operations import NEEDS, Call, Door, Operation, Reply, error_from_json, error_to_json
from agent.reads import LIFETIME_NS, MOST, Handles
from agent.seam import Message, MessageKind
from tests.support.device import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Echo:
    """Operations that say what they were asked, or fail as told."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    async def perform(self, call: Call) -> Reply:
        self.calls.append(call)
        if call.args.get("fail"):
            raise Refused("no", reason="secret", hint="ask nicely")
        if call.args.get("large"):
            return Reply({}, bytes(seam.MAX_FRAME_BYTES))
        return Reply({"name": str(call.operation)}, call.blob)


def asked(name: object = "status", **fields: Any) -> Message:
    return Message(MessageKind.OPERATION, {"id": 1, "name": name, **fields}, b"blob")


@asynccontextmanager
async def door(path: Path, operations: Echo) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(LocalDoor(path, operations).run())
        async with asyncio.timeout(5):
            while not path.exists():
                await asyncio.sleep(0.01)
        yield
        serving.cancel()


async def test_operations_are_answered_one_after_the_other(tmp_path: Path) -> None:
    echo = Echo()
    async with door(tmp_path / "door", echo):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
        for name in ("status", "device", "challenge"):
            writer.write(seam.encode(asked(name)))
        for name in ("status", "device", "challenge"):
            reply = await asyncio.wait_for(seam.read(reader), 5)
            assert reply == Message(MessageKind.REPLY, {"id": 1, "result": {"name": name}}, b"blob")
        writer.close()
        await writer.wait_closed()
    assert {call.door for call in echo.calls} == {Door.LOCAL}


WRONG = [
    asked("nothing"),
    asked(7),
    asked(None),
    asked("status\n" * 100),
    asked(args=[]),
    asked(args="x"),
    asked(handle=7),
    Message(MessageKind.OPEN, {"id": 1}),
    Message(MessageKind.REPLY, {"id": 1, "name": "status"}),
    Message(MessageKind.OPERATION),
    asked(args={"fail": True}),
]


@pytest.mark.parametrize("message", WRONG)
async def test_wrong_operation_is_answered_with_one_line_and_no_reason(message: Message) -> None:
    reply = await answer(Echo(), message, Door.REMOTE)
    error = reply.fields["error"]
    assert isinstance(error, dict)
    assert error["message"].isprintable()
    assert "secret" not in str(reply)
    assert isinstance(error_from_json(error), MalformedInput | Refused)


@pytest.mark.parametrize("data", [b"\xff" * 8, b"\0\0\0\x08\0\0\0\x04nullxxxx", seam.encode(asked())[:-1]])
async def test_broken_frame_ends_its_connection_alone(tmp_path: Path, data: bytes) -> None:
    async with door(tmp_path / "door", Echo()):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
        writer.write(data)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
        writer.write(seam.encode(asked(args={"large": True})))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
        writer.write(seam.encode(asked()))
        assert await asyncio.wait_for(seam.read(reader), 5) is not None
        writer.close()
        await writer.wait_closed()


async def test_connection_beyond_the_most_is_turned_away(tmp_path: Path) -> None:
    async with door(tmp_path / "door", Echo()):
        writers = []
        for _ in range(MOST_CONNECTIONS):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
            writer.write(seam.encode(asked()))
            await asyncio.wait_for(seam.read(reader), 5)
            writers.append(writer)
        reader, writer = await asyncio.open_unix_connection(tmp_path / "door")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        for each in (*writers, writer):
            each.close()
            await each.wait_closed()


def test_every_operation_says_what_it_needs() -> None:
    assert set(NEEDS) == set(Operation)


def test_errors_cross_a_door_with_their_kind_line_and_hint() -> None:
    for error, kind in [
        (ConfigError("a", hint="b"), MalformedInput),
        (IntegrityError("a", hint="b"), IntegrityError),
        (LedgerError("a", hint="b"), StorageError),
        (Unreachable("a", hint="b"), TransientError),
        (DoorwardError("a", hint="b"), DoorwardError),
    ]:
        crossed = error_from_json(error_to_json(error))
        assert (type(crossed), str(crossed), crossed.hint) == (kind, "a", "b")
        assert crossed.exit_code == error.exit_code
    refused = error_from_json(error_to_json(Refused("a", reason="secret")))
    assert isinstance(refused, Refused)
    assert refused.reason == ""
    assert isinstance(error_from_json(None), DoorwardError)
    assert isinstance(error_from_json({"kind": 7, "hint": 7}), DoorwardError)


def test_handle_is_good_for_a_quarter_of_an_hour_and_for_what_was_read() -> None:
    clock = Clock()
    handles = Handles(clock)
    name = handles.give("front", frozenset({1, 2}))
    assert handles.get(name).sequences == {1, 2}
    for wrong in (None, "", name[:-1], name.upper() + "x"):
        with pytest.raises(Refused):
            handles.get(wrong)
    clock.ns += LIFETIME_NS
    handles.get(name)
    clock.ns += SECOND_NS
    with pytest.raises(Refused):
        handles.get(name)


def test_oldest_handle_goes_first() -> None:
    handles = Handles(Clock())
    names = [handles.give("front", frozenset({number})) for number in range(MOST + 1)]
    with pytest.raises(Refused):
        handles.get(names[0])
    assert handles.get(names[1]).sequences == {1}
