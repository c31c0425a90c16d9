from __future__ import annotations

import asyncio

import pytest

from agent.errors import ConfigError, Unreachable
from agent.link.backoff import Backoff
from agent.link.inbox import MAX_BYTES, MAX_BYTES_PER_DEVICE, MAX_MESSAGES_PER_DEVICE, Inbox


def device(number: int) -> str:
    return f"{number:032x}"


async def rest(inbox: Inbox, name: str) -> list[bytes]:
    return [sealed async for sealed in inbox.read(name)]


async def test_a_device_that_floods_loses_its_newest_and_no_other_device_loses_any() -> None:
    inbox = Inbox()
    inbox.put(device(1), b"mine")
    for index in range(MAX_MESSAGES_PER_DEVICE + 10):
        inbox.put(device(2), b"%d" % index)
    assert inbox.dropped == 10
    inbox.close()
    assert await rest(inbox, device(1)) == [b"mine"]
    assert await rest(inbox, device(2)) == [b"%d" % index for index in range(MAX_MESSAGES_PER_DEVICE)]


async def test_many_devices_together_stay_within_the_bound_and_the_quiet_one_keeps_its_message() -> None:
    inbox = Inbox()
    inbox.put(device(0), b"quiet")
    half = bytes(MAX_BYTES_PER_DEVICE // 2)
    noisy = 2 * MAX_BYTES // len(half)
    for index in range(noisy):
        inbox.put(device(1 + index // 2), half)
    inbox.close()
    assert await rest(inbox, device(0)) == [b"quiet"]
    kept = sum([len(await rest(inbox, device(1 + index))) for index in range(noisy // 2)])
    assert kept * len(half) <= MAX_BYTES
    assert inbox.dropped == noisy - kept


async def test_a_waiting_reader_wakes_for_its_message_and_for_the_end() -> None:
    inbox = Inbox()
    async with asyncio.TaskGroup() as group, asyncio.timeout(5):
        reading = group.create_task(rest(inbox, device(1)))
        await asyncio.sleep(0)
        inbox.put(device(2), b"for another")
        inbox.put(device(1), b"one")
        await asyncio.sleep(0)
        inbox.close()
    assert reading.result() == [b"one"]


async def test_an_error_reaches_the_reader_after_what_came_before_it() -> None:
    inbox = Inbox()
    inbox.put(device(1), b"before")
    inbox.close(Unreachable("gone"))
    reader = inbox.read(device(1))
    assert await anext(reader) == b"before"
    with pytest.raises(Unreachable, match="gone"):
        await anext(reader)


def test_backoff_doubles_up_to_its_cap_with_full_jitter() -> None:
    delays = [[0.0] * 12 for _ in range(200)]
    for run in delays:
        backoff = Backoff(1, 60)
        run[:] = [backoff.failed() for _ in range(12)]
    for attempt in range(12):
        bound = min(60, 2**attempt)
        column = [run[attempt] for run in delays]
        assert 0 <= min(column) < bound * 0.2
        assert bound * 0.8 < max(column) <= bound


def test_backoff_forgets_only_after_a_connection_that_stood() -> None:
    backoff = Backoff(1, 60)
    for _ in range(100_000 // 1000):
        backoff.failed()
    backoff.stood(59)
    assert backoff.failures == 100
    backoff.stood(61)
    assert backoff.failures == 0
    assert backoff.failed() <= 1


@pytest.mark.parametrize(("first", "cap"), [(0, 1), (-1, 1), (2, 1)])
def test_backoff_that_would_hammer_is_refused(first: float, cap: float) -> None:
    with pytest.raises(ConfigError):
        Backoff(first, cap)
