"""The command line's remote door against the device's real API."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from agent.console.tls import lan_tls
from agent.errors import (
    ConfigError,
    DoorwardError,
    IntegrityError,
    LedgerError,
    MalformedInput,
    Refused,
    SignatureError,
    StorageError,
    TransientError,
    Unreachable,
)
from agent.link.remote import RemoteDoor, certificate_fingerprint
from tests.support.doors import DEVICE, Door, door

if TYPE_CHECKING:
    from pathlib import Path


def remote(at: Door) -> RemoteDoor:
    return RemoteDoor(at.url, fingerprint=at.tls.fingerprint)


async def test_every_operation_arrives_with_its_arguments_and_bytes(tmp_path: Path) -> None:
    calls: list[tuple[str, dict[str, object], bytes]] = [
        ("device", {}, b""),
        ("challenge", {"for": "read"}, b""),
        ("challenge", {}, b""),
        ("pair", {}, b"\x00sealed\xff"),
        ("act", {}, b'{"payload":"x"}'),
        ("read", {}, b'{"payload":"y"}'),
        ("status", {"handle": "abc-DEF_123"}, b""),
    ]
    async with door(tmp_path) as at:
        for name, args, blob in calls:
            assert await remote(at).call(name, args, blob) == ({"done": True}, b"")
        assert at.core.operations == calls


async def test_results_with_bytes_come_back_whole(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        at.core.answer = ({"name": "späte Wörter", "list": [1, {"a": None}]}, bytes(range(256)) * 4096)
        assert await remote(at).call("read", {}, b"{}") == at.core.answer


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (MalformedInput("token: too short (got 1)", hint="write more"), MalformedInput),
        (SignatureError("token: one signature is missing"), MalformedInput),
        (Refused("shutter: closed", reason="shutter_closed", hint="open it"), Refused),
        (TransientError("core: starting"), TransientError),
        (Unreachable("core: away"), TransientError),
        (IntegrityError("ledger: root differs"), IntegrityError),
        (StorageError("disk: full"), StorageError),
        (LedgerError("ledger: not durable"), StorageError),
    ],
)
async def test_errors_cross_the_door_with_kind_text_hint_and_exit_code(
    tmp_path: Path, raised: DoorwardError, kind: type[DoorwardError]
) -> None:
    async with door(tmp_path) as at:
        at.core.error = raised
        with pytest.raises(kind) as caught:
            await remote(at).call("act", {}, b"{}")
    assert str(raised) in str(caught.value)
    assert caught.value.hint == raised.hint
    assert caught.value.exit_code == raised.exit_code
    assert "shutter_closed" not in str(caught.value)


async def test_control_characters_of_a_hostile_device_never_reach_the_terminal(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        at.core.error = MalformedInput("bad \x1b[2J\nline", hint="\x07ring")
        with pytest.raises(MalformedInput) as caught:
            await remote(at).call("device")
    assert str(caught.value).isprintable()
    assert str(caught.value.hint).isprintable()


async def test_operations_and_handles_that_do_not_exist_never_leave(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        for name, args in (
            ("shell", {}),
            ("openapi.json", {"handle": "abc"}),
            ("../act", {"handle": "abc"}),
            ("a?b", {"handle": "abc"}),
            ("status", {}),
            ("status", {"handle": 1}),
            ("status", {"handle": "a b"}),
            ("status", {"handle": "a\r\nX: y"}),
        ):
            with pytest.raises(MalformedInput):
                await remote(at).call(name, dict(args))
        assert at.core.operations == []


async def test_another_certificate_nobody_and_nothing_are_told_apart(tmp_path: Path) -> None:
    other = lan_tls(tmp_path / "other", DEVICE)
    async with door(tmp_path) as at:
        with pytest.raises(IntegrityError, match="another certificate") as caught:
            await RemoteDoor(at.url, fingerprint=other.fingerprint).call("device")
        assert at.tls.fingerprint in str(caught.value)
        authority = tmp_path / "other-ca.pem"
        authority.write_bytes(other.authority_pem)
        with pytest.raises(IntegrityError, match="not from the authority"):
            await RemoteDoor(at.url, ca=authority).call("device")
        assert at.core.operations == []
    with pytest.raises(Unreachable, match="device at https://127"):
        await remote(at).call("device")
    with pytest.raises(ConfigError, match="authority file"):
        await RemoteDoor(at.url, ca=tmp_path / "gone.pem").call("device")


async def test_a_device_that_does_not_answer_in_time_is_unreachable(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        at.core.hold = asyncio.Event()
        with pytest.raises(Unreachable, match=r"no answer in 0\.2 s"):
            await RemoteDoor(at.url, fingerprint=at.tls.fingerprint, timeout_s=0.2).call("device")


async def test_first_contact_reads_the_fingerprint_and_pins_it(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        fingerprint = await certificate_fingerprint(at.url)
        assert fingerprint == at.tls.fingerprint
        assert (await RemoteDoor(at.url, fingerprint=fingerprint).call("device"))[0] == {"done": True}
    with pytest.raises(Unreachable):
        await certificate_fingerprint(at.url)
    with pytest.raises(ConfigError):
        await certificate_fingerprint("http://127.0.0.1:1")


async def test_blocking_calls_work_where_no_loop_runs(tmp_path: Path) -> None:
    results: list[tuple[dict[str, object], bytes]] = []
    async with door(tmp_path) as at:
        thread = threading.Thread(target=lambda: results.append(remote(at).call_blocking("device")))
        thread.start()
        await asyncio.get_running_loop().run_in_executor(None, thread.join)
    assert results == [({"done": True}, b"")]
