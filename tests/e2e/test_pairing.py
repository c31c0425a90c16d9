"""A fresh device: whose it becomes is settled once, by a code, in front of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.pairing import TRIES
from tests.support.processes import Device, Owner, done

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WRONG = "AAAA-AAAA"


class Fresh:
    """A device nobody has paired, and two people who would like to."""

    def __init__(self, directory: Path) -> None:
        self.device = Device(directory)
        self.owner = Owner(directory / "owner", self.device)
        self.other = Owner(directory / "other", self.device, "Other")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    fresh = Fresh(tmp_path_factory.mktemp("fresh"))
    with fresh.device:
        yield fresh


def test_unpaired_device_records_nothing_and_refuses_owners_in_one_line(fresh: Fresh) -> None:
    before = fresh.device.fingerprint()
    owner = fresh.owner
    for said in (
        owner.run("consent", "revoke", "--all"),
        owner.run("shutter", "close"),
        owner.run("archive", "export", "--from", "-1m", "--out", owner.key_file.with_name("out.mp4")),
        owner.root("charter", "set", "--ice", "all"),
        fresh.device.run("charter", "show"),
    ):
        assert said.code == 1, said
        assert said.error
        assert "pair" in said.err
    status = fresh.device.status()
    assert not status["paired"]
    assert not any(camera["recording"] or camera["segments"] for camera in status["cameras"])
    assert not list((fresh.device.state / "archive/front/segments").rglob("*"))
    assert "hint: doorward pair --code CODE" in fresh.device.run("status").out
    assert fresh.device.fingerprint() == before


def test_code_of_another_length_or_another_owners_recovery_code_costs_no_try(fresh: Fresh) -> None:
    code = fresh.device.new_code()
    for _ in range(TRIES):
        assert fresh.owner.pair("ABC").code == 2
        keys = ("--key-file", fresh.owner.key_file, "--recovery-code-file", fresh.other.recovery_code)
        said = fresh.device.run("pair", "--code", code, *keys)
        assert said.code == 2
        assert said.error == "recovery code: of another owner than the key file"
    said = fresh.owner.pair(WRONG)
    assert said.error == f"wrong pairing code ({TRIES - 1} tries left)"


def test_five_wrong_codes_void_the_right_one(fresh: Fresh) -> None:
    before = fresh.device.fingerprint()
    code = fresh.device.new_code()
    for left in reversed(range(TRIES)):
        said = fresh.other.pair(WRONG)
        assert said.code == 1
        assert said.error == f"wrong pairing code ({left} tries left)"
    said = fresh.owner.pair(code)
    assert said.code == 1
    assert said.error == "no pairing code is open"
    assert "hint: make one on the box: doorward pair --new-code" in said.err
    assert fresh.device.fingerprint() == before


def test_new_code_voids_the_one_before(fresh: Fresh) -> None:
    first = fresh.device.new_code()
    fresh.device.new_code()
    assert fresh.owner.pair(first).code == 1


def test_device_once_paired_is_nobody_elses(fresh: Fresh) -> None:
    """The last of these: the device has an owner afterwards."""
    code = fresh.device.new_code()
    done(fresh.owner.pair(code))
    before = fresh.device.fingerprint()
    for said in (fresh.other.pair(code), fresh.owner.pair(code), fresh.device.run("pair", "--new-code")):
        assert said.code == 1
        assert said.error == "this device belongs to a household already"
    assert fresh.other.run("shutter", "close").error == "this client does not know this device"
    assert fresh.device.status()["owners"] == ["Owner"]
    assert fresh.device.fingerprint() == before
    fresh.device.wait_for("recording", lambda: fresh.device.camera()["records"])
