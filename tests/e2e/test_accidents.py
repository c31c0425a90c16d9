"""What goes wrong with real processes: killed, cut off, crowded out. Recording goes on, nothing is shown."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

from agent.consent import times
from hal.clock import wall_ns
from tests.support.broker import Broker
from tests.support.processes import CLIP, CLIP_FPS, Device, device_name, done, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.conftest import Home

GOP = CLIP_FPS
"""The clip has one key frame a second."""


def records(device: Device, camera: str = "front") -> int:
    count: int = device.camera(camera)["records"]
    return count


@contextlib.contextmanager
def recording_meanwhile(device: Device) -> Iterator[None]:
    """Two more seconds of ``front`` are on the disk at the end of the block, and there was no gap."""
    before, known = records(device), gaps(device, "front")
    yield
    device.wait_for("two more records", lambda: records(device) >= before + 2)
    assert gaps(device, "front") == known


def gaps(device: Device, camera: str) -> list[dict[str, Any]]:
    """The gaps of one camera that stand in the ledger."""
    return [each["body"] for each in device.entries("gap") if each["body"]["camera"] == camera]


def exported(home: Home, out: Path, since: str) -> dict[str, Any]:
    said = home.owner.run(
        *("archive", "export", "--camera", "front", "--from", since, "--out", out, "--json")
    )
    found: dict[str, Any] = done(said).json
    return found


# A camera disappears


def test_missing_camera_is_named_with_a_hint_and_counted_until_it_comes(home: Home, device: Device) -> None:
    device.wait_for("an attempt", lambda: device.camera("side")["attempts"])
    side = device.camera("side")
    assert not side["recording"]
    assert not side["delivering"]
    assert side["problem"].endswith("side.mp4: no such file")
    assert side["hint"]
    assert "problem: " in device.run("status").out
    with recording_meanwhile(device):
        home.plug_in()
        device.wait_for("the side camera", lambda: device.camera("side")["recording"])
    assert device.camera("side")["problem"] is None


def test_camera_that_disappears_comes_back_and_the_ledger_holds_its_gap(home: Home, device: Device) -> None:
    device.wait_for("the side camera", lambda: records(device, "side") >= 1)
    known = gaps(device, "side")
    front = records(device)
    home.unplug()
    device.wait_for("the problem", lambda: device.camera("side")["problem"])
    side = device.camera("side")
    assert not side["delivering"]
    assert not side["recording"]
    assert side["gap"] == "camera"
    assert side["attempts"] >= 1
    home.plug_in()
    device.wait_for("the side camera", lambda: device.camera("side")["recording"])
    device.wait_for("the gap in the ledger", lambda: len(gaps(device, "side")) > len(known))
    gap = gaps(device, "side")[-1]
    assert gap["reason"] == "camera"
    assert gap["end_boot_us"] > gap["start_boot_us"]
    assert records(device) > front


# net dies


def test_net_killed_ends_sessions_and_recording_goes_on_without_a_gap(home: Home, device: Device) -> None:
    request, token = home.agency.allowed()
    with home.agency.watch(request) as watching:
        assert len(device.status()["watching"]) == 1
        with recording_meanwhile(device), device.unsupervised():
            device.kill("net")
            device.wait_for("the end of the session", lambda: not device.status()["watching"])
            status = device.status()
            assert not status["net"]
            assert status["encoders"] == 0
            assert (device.home / "run/indicator").read_text().strip() == "dark"
            device.wait_for("the end in the ledger", lambda: ends(device, watching.begun["entry"]))
            assert ends(device, watching.begun["entry"]) == ["net-lost"]
            assert "its process is down" in device.run("status").out
            # What takes away works without net, and so does everything else at the local door.
            done(home.owner.run("consent", "revoke", token))
            done(home.owner.run("shutter", "close"))
            done(home.owner.run("shutter", "open"))
            assert not device.answers_https()
        device.wait_for("net again", lambda: device.status()["net"] and device.answers_https())
    refused = home.agency.run("watch", "--request", request, "--for", "1s")
    assert refused.code == 1
    assert refused.error
    assert len(device.entries("session-start")) == 1


def ends(device: Device, start: int) -> list[str]:
    """Why the session ended that began with this entry."""
    found = device.entries("ended-because")
    return [each["body"]["reason"] for each in found if each["body"]["start"] == start]


def test_occupied_port_is_named_and_neither_recording_nor_the_local_door_minds(device: Device) -> None:
    with recording_meanwhile(device), device.unsupervised():
        device.kill("net")
        occupied = socket.create_server(("127.0.0.1", device.port))
    with occupied:
        device.wait_for("words", lambda: f"port {device.port} on 127.0.0.1 is occupied" in device.said())
        assert "hint: see who has it with: ss -ltnp" in device.said()
        assert device.camera()["recording"]
    device.wait_for("net again", device.answers_https)


# The post is away


def test_post_away_at_start_and_later_is_tried_again_while_the_https_door_works(
    home: Home, device: Device, tmp_path: Path
) -> None:
    broker = Broker(tmp_path)
    settings = broker.settings(device_name(device))
    for kind, path in device.post_files.items():
        shutil.copy(getattr(settings, kind), path)
    ours = broker.settings(home.agency.link_name)
    by_post = (
        *("--post", f"127.0.0.1:{broker.port}", "--ca", ours.ca),
        *("--cert", ours.certificate, "--key", ours.key),
    )
    with recording_meanwhile(device):
        done(home.owner.root("charter", "set", "--post", f"127.0.0.1:{broker.port}"))
        wait_for("an attempt", lambda: f"post 127.0.0.1:{broker.port}: " in device.said())
        home.agency.ask()
        with broker:
            home.agency.ask(*by_post)
            broker.kill()
            home.agency.ask()
            broker.start()
            home.agency.ask(*by_post)
        done(home.owner.root("charter", "set", "--post", "none"))


# The disk is full


def test_full_disk_evicts_and_goes_on_and_still_takes_a_revocation(home: Home, device: Device) -> None:
    _, token = home.agency.allowed()
    filler = device.state / "somebody-elses-file"
    device.wait_for("two whole segments", lambda: device.camera()["segments"] >= 2)
    oldest = device.camera()["oldest_ms"]
    free = shutil.disk_usage(device.state).free
    try:
        # A little less than what the archive leaves to others: the oldest must go, the newest need not.
        fill(filler, free - 200_000_000 + 300_000)
        with recording_meanwhile(device):
            device.wait_for("an eviction", lambda: device.camera()["oldest_ms"] != oldest)
        # Not a byte left: nothing more can be evicted, and the owner's word still counts.
        fill(filler, None)
        assert shutil.disk_usage(device.state).free == 0
        done(home.owner.run("consent", "revoke", token))
        device.wait_for("words", lambda: device.camera()["archive_problem"])
        assert "TROUBLE" in device.run("status").out or device.status()["ledger"]["durable"]
    finally:
        filler.unlink()
    device.wait_for("the gap in the ledger", lambda: gaps(device, "front"))
    assert gaps(device, "front")[-1]["reason"] == "storage"
    with recording_meanwhile(device):
        assert device.camera()["archive_problem"] is None


def fill(path: Path, size: int | None) -> None:
    """Write so many bytes, or as many as there is room for."""
    with path.open("ab") as file, contextlib.suppress(OSError):
        while size is None or file.tell() < size:
            left = 1 << 20 if size is None else min(1 << 20, size - file.tell())
            file.write(bytes(left))
            file.flush()
    if size is None:
        with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1)):
                pass


# core dies


def test_core_killed_loses_nothing_acknowledged_and_shows_nothing_before_an_owner_acts(
    home: Home, device: Device, tmp_path: Path
) -> None:
    request, _ = home.agency.allowed()
    with home.agency.watch(request) as watching:
        start = watching.begun["entry"]
        entries = device.entries()
        acknowledged = exported_after_kill(home, device, tmp_path)
        assert acknowledged
        assert device.entries()[: len(entries)] == entries
        (end,) = [each for each in device.entries("session-end") if each["body"]["start"] == start]
        assert ends(device, start) == ["interrupted"]
        begun = next(each for each in entries if each["index"] == start)
        assert end["body"]["seconds"] == begun["body"]["seconds"]
    status = device.status()
    assert not status["ledger"]["confirmed_since_boot"]
    assert not status["watching"]
    assert "nobody has confirmed the ledger" in device.run("status").out
    sessions = len(device.entries("session-start"))
    assert home.agency.run("watch", "--request", request, "--for", "1s").code == 1
    assert len(device.entries("session-start")) == sessions
    done(home.owner.run("shutter", "open"))
    assert device.status()["ledger"]["confirmed_since_boot"]
    request, token = home.agency.allowed()
    with home.agency.watch(request) as watching:
        done(home.owner.run("consent", "revoke", token))
        code, report = watching.wait()
    assert (code, report["reason"]) == (0, "ended_by_owner")


def exported_after_kill(home: Home, device: Device, directory: Path) -> int:
    """Kill core; every record that it had acknowledged meanwhile is in an export afterwards. Their number."""
    before, since = records(device), times.written(wall_ns() - 3 * times.SECOND_NS)
    device.wait_for("three records", lambda: records(device) >= before + 3)
    acknowledged = records(device) - before
    boots = len(device.entries("boot"))
    device.kill("core")
    device.wait_for("core again", lambda: device.run("status").code == 0)
    device.wait_for("recording", lambda: device.camera()["recording"])
    device.wait_for("net again", device.answers_https)
    assert len(device.entries("boot")) == boots + 1
    report = exported(home, directory / "after.mp4", since)
    assert report["frames"] >= acknowledged * GOP
    return acknowledged


# The ledger on the disk is not what was written


def test_damaged_ledger_stops_sharing_and_recording_goes_on(home: Home, tmp_path: Path) -> None:
    copy = copied(home.device, tmp_path, "charter-copy.dsse")
    flip(copy.home / "state/ledger/entries")
    before = (copy.home / "state/ledger/entries").read_bytes()
    with copy:
        copy.wait_for("recording", lambda: records(copy) >= 1)
        assert "damaged" in copy.status()["ledger"]["trouble"]
        assert "sharing is stopped" in copy.run("status").out
        for act in (("consent", "revoke", "--all"), ("shutter", "close")):
            keys = ("--key-file", home.owner.key_file, "--passphrase-file", home.owner.passphrase)
            said = copy.run(*act, *keys)
            assert said.code in {1, 4}, said
            assert "ledger" in said.error
    assert (copy.home / "state/ledger/entries").read_bytes() == before


def test_damaged_ledger_and_nothing_to_record_by_ends_the_device_with_exit_code_4(
    home: Home, tmp_path: Path
) -> None:
    started = []
    for change in (flip, truncate, remove):
        copy = copied(home.device, tmp_path / change.__name__)
        entries = copy.home / "state/ledger/entries"
        change(entries)
        process = subprocess.Popen(copy.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append((process, entries, entries.read_bytes()))
    for process, entries, before in started:
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 4, out
        assert [line for line in out.splitlines() if line.startswith("doorward: error: ledger: ")], out
        assert entries.read_bytes() == before


def copied(device: Device, directory: Path, *more: str) -> Device:
    """A device that does not run yet, with the keys and the ledger of one that does."""
    copy = Device(directory, cameras={"front": f"file:{CLIP}"})
    state = copy.home / "state"
    for name in ("keys", "ledger"):
        shutil.copytree(device.state / name, state / name)
    for name in ("schema", *more):
        shutil.copy(device.state / name, state / name)
    return copy


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def remove(path: Path) -> None:
    path.write_bytes(b"")
