"""Real processes: a device nobody attends, its witness, and a card that is copied and put back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.ledger.checkpoint import origin_of
from agent.witness.store import origin_hash
from tests.support.processes import Agency, Device, Owner, done, doorward, end, free_port, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class Serving:
    """``doorward witness serve`` on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        done(doorward("witness", "init", "--dir", directory, "--name", "witness.example/w1"))
        self.process: subprocess.Popen[Any] | None = None

    def show(self) -> dict[str, Any]:
        found: dict[str, Any] = done(doorward("witness", "show", "--dir", self.directory, "--json")).json
        return found

    def start(self) -> None:
        with (self.directory / "log").open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "agent.cli.main", "witness", "serve"),
                    *("--dir", str(self.directory), "--port", str(self.port)),
                ],
                cwd=ROOT,
                stderr=log,
            )
        wait_for("the witness", lambda: f"port {self.port}" in (self.directory / "log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            assert end(self.process) == 0
            self.process = None

    def newest(self, device: str) -> str:
        """The newest checkpoint of a device, as anybody may fetch it."""
        url = f"{self.url}/{origin_hash(origin_of(device))}/checkpoint"
        with urllib.request.urlopen(url, timeout=10) as response:  # noqa: S310 - its own, on loopback
            return str(response.read().decode())


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path / "witness")
    serving.start()
    yield serving
    serving.stop()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    with Device(tmp_path) as device:
        yield device


@pytest.fixture
def owner(tmp_path: Path, device: Device) -> Owner:
    owner = Owner(tmp_path / "owner", device)
    done(owner.pair())
    return owner


@pytest.fixture
def agency(tmp_path: Path, owner: Owner, device: Device, serving: Serving) -> Agency:
    """In the charter beside a witness that has vouched for the device."""
    agency = Agency(tmp_path / "agency", owner)
    agency.join()
    key = serving.show()["verifier_key"]
    said = done(owner.root("charter", "add-witness", "witness.example/w1", key, serving.url)).out
    # The witness does not know the device yet: the device says so, and asks again by itself.
    device.wait_for("trouble", lambda: witness_of(device)["trouble"])
    assert "does not know this ledger" in witness_of(device)["trouble"]
    done(doorward("witness", "add-log", "--dir", serving.directory, said.splitlines()[-1].strip()))
    device.wait_for("the witness's word", lambda: witness_of(device)["cosigned_at"])
    assert witness_of(device)["trouble"] is None
    return agency


def restart(device: Device) -> None:
    device.stop()
    device.start()


def test_nobody_attends_and_the_witness_alone_brings_sharing_back(
    tmp_path: Path, device: Device, agency: Agency
) -> None:
    request, _ = agency.allowed()
    restart(device)
    device.wait_for("a confirmed ledger", lambda: device.status()["ledger"]["confirmed_since_boot"])
    assert device.status()["time"]["quality"] == "authenticated"
    by_owners = [entry for entry in device.entries("confirmed") if "note" not in entry["body"]]
    with agency.watch(request) as watching:
        assert watching.begun["session"]
    assert [entry for entry in device.entries("confirmed") if "note" not in entry["body"]] == by_owners
    done(device.run("ledger", "verify", "--key-file", tmp_path / "nobody"))


def test_copied_card_put_back_shows_nothing_records_on_and_is_proven(
    tmp_path: Path, device: Device, owner: Owner, agency: Agency, serving: Serving
) -> None:
    request, token = agency.allowed()
    name = device.status()["device"]
    device.stop()
    card = tmp_path / "card"
    shutil.copytree(device.home / "state", card)
    device.start()
    # Life goes on: the consent is taken back, and more.
    done(owner.run("consent", "revoke", token))
    for _ in range(2):
        done(owner.run("shutter", "close"))
        done(owner.run("shutter", "open"))
    restart(device)
    device.wait_for("the witness's word", lambda: witness_of(device)["cosigned_at"])
    kept = tmp_path / "kept.txt"
    kept.write_text(serving.newest(name))
    done(device.run("ledger", "verify", "--checkpoint", kept, "--key-file", tmp_path / "nobody"))

    device.stop()
    shutil.rmtree(device.home / "state")
    card.rename(device.home / "state")
    device.start()
    device.wait_for("rollback", lambda: device.status()["rollback"])
    assert "sharing    STOPPED: witness witness.example/w1 has vouched for" in device.run("status").out
    device.wait_for("recording", lambda: device.camera()["recording"])
    assert agency.run("watch", "--request", request, "--ice-address", "127.0.0.1").code != 0
    assert device.entries("session-start") == []
    # Whoever kept the witness's checkpoint can show it.
    found = device.run("ledger", "verify", "--checkpoint", kept, "--key-file", tmp_path / "nobody")
    assert found.code == 4
    assert str(kept) in found.error


def witness_of(device: Device) -> dict[str, Any]:
    found: list[dict[str, Any]] = device.status()["witnesses"]
    return found[0]


def test_witness_that_stays_away_disturbs_nothing(device: Device, owner: Owner, serving: Serving) -> None:
    key = serving.show()["verifier_key"]
    serving.stop()
    done(owner.root("charter", "add-witness", "witness.example/w1", key, serving.url))
    device.wait_for("trouble", lambda: witness_of(device)["trouble"])
    assert witness_of(device)["trouble"] == "cannot be reached"
    device.wait_for("recording", lambda: device.camera()["recording"])
    done(owner.run("shutter", "close"))
    done(owner.run("shutter", "open"))
    said = device.run("status").out
    assert "witness.example/w1: has not vouched since the start" in said
    assert "problem: cannot be reached" in said


def test_witness_commands_say_what_is_wrong(tmp_path: Path, serving: Serving) -> None:
    directory = serving.directory
    assert doorward("witness", "init", "--dir", directory, "--name", "again").code == 1
    assert "no witness" in doorward("witness", "show", "--dir", tmp_path / "none").error
    assert doorward("witness", "serve", "--dir", directory, "--port", serving.port).code == 2
    assert doorward("witness", "serve", "--dir", directory, "--listen", "0.0.0.0", "--port", 0).code == 2  # noqa: S104 - refused
    missing = ("--tls", tmp_path / "no.pem", tmp_path / "no.key")
    assert doorward("witness", "serve", "--dir", directory, *missing).code == 2
    for wrong in ("", "AAAA", "doorward/x+00000000+AAAA", serving.show()["verifier_key"]):
        assert doorward("witness", "add-log", "--dir", directory, wrong).code == 2
    assert "no ledgers yet" in doorward("witness", "show", "--dir", directory).out


def test_witness_over_tls_is_reached_only_where_its_certificate_is_trusted(
    tmp_path: Path, serving: Serving
) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=witness", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    port = free_port()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "agent.cli.main", "witness", "serve", "--dir", str(serving.directory)),
            *("--port", str(port), "--tls", str(certificate), str(key)),
        ],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    ask = (
        "import asyncio; from agent.link.witness_post import post; "
        f"print(asyncio.run(post('https://127.0.0.1:{port}/add-checkpoint', b'')).status)"
    )

    def asked(**environment: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", ask],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        assert process.stderr is not None
        assert f"port {port}" in process.stderr.readline()
        assert asked() == "0"
        assert asked(SSL_CERT_FILE=str(certificate)) == "400"
    finally:
        end(process)
