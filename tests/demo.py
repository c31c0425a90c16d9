"""`make demo`: the whole story with real processes, one line a step, in under 90 seconds.

A device (supervisor, core, net) plays a real clip as its camera; an owner and an agency with one operator use
the ``doorward`` command as people would; messages go through a real Mosquitto when it is installed, else over
the device's own HTTPS door. Each step says what was expected and what happened. The last line is ``demo: ok``
or ``demo: FAILED at <step>: <why>``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from agent.archive.segment import open_segment
from agent.consent.envelope import short
from agent.errors import DoorwardError
from tests.support import comparing, replaying
from tests.support.broker import Broker, find_mosquitto

if TYPE_CHECKING:
    from collections.abc import Callable

CLIP: Final = Path(__file__).parent / "footage" / "walkway.mp4"
AREA: Final = [[0, 0], [5500, 0], [5500, 10_000], [0, 10_000]]
"""The left 55 per cent of the picture."""

GRANTED_S: Final = 60
WATCHED_S: Final = 6.0
AGENCY: Final = "Demo real-time center"
REFERENCE: Final = "2026-1184"
LONGEST_S: Final = 60


class StepFailed(Exception):
    """What was expected did not happen."""


def need(holds: object, why: str) -> None:
    """Fail the step unless ``holds``."""
    if not holds:
        raise StepFailed(why)


@dataclass
class Demo:
    """Everything one run knows."""

    directory: Path
    stack: ExitStack
    port: int
    use_post: bool
    broker: Broker | None = None
    device: str = ""
    code: str = ""
    request: str = ""
    token: str = ""
    watcher: subprocess.Popen[str] | None = None
    watched: dict[str, Any] = field(default_factory=dict)
    begun: dict[str, Any] = field(default_factory=dict)
    revoked: dict[str, Any] = field(default_factory=dict)

    @property
    def saved(self) -> Path:
        """What the agency saved."""
        return self.directory / "agency.mp4"

    # Commands

    def doorward(self, *arguments: object, fails: int = 0) -> str:
        """Run the command as a person would; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "agent.cli.main", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        need(
            done.returncode == fails,
            f"doorward {' '.join(map(str, arguments[:3]))}: exit code {done.returncode}, "
            f"expected {fails}: {said[-300:]}",
        )
        return done.stdout if not fails else done.stdout + done.stderr

    def owner(self, *arguments: object, fails: int = 0) -> str:
        """A command that the owner signs with the daily key."""
        keys = ("--key-file", self.directory / "owner.json")
        secret = ("--passphrase-file", self.directory / "passphrase")
        return self.doorward(*arguments, *self.home, *keys, *secret, fails=fails)

    def root(self, *arguments: object) -> str:
        """A command that needs the recovery code as well."""
        return self.owner(*arguments, "--recovery-code-file", self.directory / "recovery-code")

    def agency(self, *arguments: object, fails: int = 0) -> str:
        """A command of the agency."""
        return self.doorward("agency", "--dir", self.directory / "agency", *arguments, fails=fails)

    @property
    def home(self) -> tuple[object, ...]:
        """Where the device's state is."""
        return ("--home", self.directory / "device")

    def status(self) -> dict[str, Any]:
        """The device's status."""
        found: dict[str, Any] = json.loads(self.doorward("status", *self.home, "--json"))
        return found

    def entries(self) -> list[dict[str, Any]]:
        """The device's ledger."""
        shown = self.doorward("ledger", "show", *self.home, "--last", 10_000, "--json")
        return [json.loads(line) for line in shown.splitlines()]

    def wait_for(self, what: str, holds: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + seconds
        while not holds():
            need(time.monotonic() < deadline, f"{what}: not within {seconds:g} s")
            time.sleep(0.1)


# The steps. Each returns what happened, in words.


def start(demo: Demo) -> str:
    """A fresh device starts; it has no owner, so it records nothing."""
    config = {
        "cameras": {"front": {"uri": f"file:{CLIP}", "lores": "640x480"}},
        "archive": {"budget": "200MB"},
        "http": {"listen": "127.0.0.1", "port": demo.port},
        "ice_addresses": ["127.0.0.1"],
    }
    if demo.use_post:
        (demo.directory / "post").mkdir()
        demo.broker = demo.stack.enter_context(Broker(demo.directory / "post"))
        files = ("ca", "certificate", "key")
        config["post"] = {name: str(demo.directory / f"device-{name}.pem") for name in files}
    path = demo.directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    log = demo.stack.enter_context((demo.directory / "device.log").open("w"))
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "run", "--config", str(path), *map(str, demo.home)],
        stdout=log,
        stderr=log,
    )
    demo.stack.callback(end, process)
    demo.wait_for("the device", (demo.directory / "device/run/core.sock").exists)
    demo.wait_for("net", lambda: demo.status()["net"])
    status = demo.status()
    need(not status["paired"], "the fresh device is paired")
    need(not any(camera["recording"] for camera in status["cameras"]), "it records without an owner")
    demo.device = status["device"]
    carrier = "a real Mosquitto" if demo.broker else "the device's own HTTPS door (no mosquitto here)"
    return f"device {short(demo.device)[:8]} is up and records nothing; messages go over {carrier}"


def end(process: subprocess.Popen[Any]) -> None:
    """Ask a process to stop, then make it."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pair(demo: Demo) -> str:
    """The owner makes keys and pairs with the code that the device shows."""
    (demo.directory / "passphrase").write_text("only for the demo\n")
    demo.doorward(
        *("owner", "init", "--name", "Owner", "--key-file", demo.directory / "owner.json"),
        *("--passphrase-file", demo.directory / "passphrase"),
        *("--recovery-code-out", demo.directory / "recovery-code"),
    )
    shown = demo.doorward("pair", "--new-code", *demo.home)
    code = shown.split()[2]
    keys = ("--key-file", demo.directory / "owner.json")
    recovery = ("--recovery-code-file", demo.directory / "recovery-code")
    demo.doorward("pair", "--code", "AAAA-AAAA", *demo.home, *keys, *recovery, fails=1)
    demo.doorward("pair", "--code", code, *demo.home, *keys, *recovery)
    demo.wait_for("recording", lambda: demo.status()["cameras"][0]["recording"])
    return "a wrong code was refused, the right one paired; the clip is being recorded, sealed"


def adopt(demo: Demo) -> str:
    """The agency comes in by its card; a named area, and how to reach it, in the charter as text."""
    demo.agency("init", "--name", AGENCY)
    demo.agency("badge", "--operator", "Operator", "--number", "4417")
    card = demo.directory / "card.json"
    key = json.loads(demo.agency("card", "--out", card, "--json"))["agency"]
    demo.root("charter", "add-agency", card, "--key", key)
    corners = " ".join(f"{x},{y}" for x, y in AREA)
    post = "none"
    if demo.broker:
        post = f"127.0.0.1:{demo.broker.port}"
        enrol(demo, demo.broker, "device", short(demo.device))
        enrol(demo, demo.broker, "us", short(key))
    text = demo.owner("charter", "edit", "--stdout")
    for was, now in (
        ("areas: none", f"areas: {{path: '{corners}'}}"),
        ("ice: relay", "ice: all"),
        ("post: none", f"post: {post}"),
    ):
        need(was in text, f"the charter's text has no line '{was}'")
        text = text.replace(was, now)
    edited = demo.directory / "charter.yaml"
    edited.write_text(text)
    demo.root("charter", "edit", "--file", edited, "--yes")
    need(demo.status()["charter_version"] == 3, "the charter in force is not version 3")
    introduction = demo.directory / "introduction.json"
    demo.root("charter", "introduce", "--agency", AGENCY, "--out", introduction)
    demo.agency("import", introduction, *route(demo))
    return "version 3 is in force with the agency and the area 'path'; the agency has its introduction"


def enrol(demo: Demo, broker: Broker, who: str, name: str) -> None:
    """The post signs a certificate for a device or an agency."""
    settings = broker.settings(name)
    for kind, source in (("ca", settings.ca), ("certificate", settings.certificate), ("key", settings.key)):
        shutil.copy(source, demo.directory / f"{who}-{kind}.pem")


def route(demo: Demo) -> tuple[object, ...]:
    """How the agency reaches the device."""
    if demo.broker is None:
        return ("--via", f"https://127.0.0.1:{demo.port}")
    files = {"--ca": "ca", "--cert": "certificate", "--key": "key"}
    options = [part for name, kind in files.items() for part in (name, demo.directory / f"us-{kind}.pem")]
    return ("--post", f"127.0.0.1:{demo.broker.port}", *options)


def ask(demo: Demo) -> str:
    """The agency asks; nobody has consented, so it hears 'pending' and nothing flows."""
    asked = demo.agency(
        *("ask", "live", "--device", "doorward", "--camera", "front", "--reference", REFERENCE),
        *("--for", "5m", "--no-wait", "--json"),
    )
    answer = json.loads(asked.splitlines()[-1])
    need(answer["status"] == "pending", f"the agency heard {answer['status']!r}")
    demo.request = answer["request"]
    refused = demo.agency("watch", "--request", demo.request, "--for", "2s", fails=1)
    status = demo.status()
    need(not status["watching"] and status["encoders"] == 0, "somebody watches, or something is encoded")
    requests = json.loads(demo.doorward("consent", "requests", *demo.home, "--json"))
    need(requests[0]["decision"] == "no-token", f"the owner sees {requests[0]['decision']!r}")
    need("session-start" not in [entry["kind"] for entry in demo.entries()], "a session was recorded")
    return f"pending; watching was refused ({refused.strip().splitlines()[0][-60:]}); 0 encoders, 0 sessions"


def grant(demo: Demo) -> str:
    """The owner allows 60 s of the area, 640 wide."""
    granted = json.loads(
        demo.owner(
            *("consent", "grant", "--request", demo.request, "--for", f"{GRANTED_S}s", "--area", "path"),
            *("--max-height", "480", "--json"),
        )
    )
    demo.token = granted["token"]
    entry = granted["entries"][-1]
    return f"consent {demo.token[7:15]} for {GRANTED_S} s of 'path' at 640x480, ledger entry {entry}"


def watch(demo: Demo) -> str:
    """The agency watches over real WebRTC and saves what it gets."""
    arguments = [
        *("--dir", demo.directory / "agency", "watch", "--request", demo.request),
        *("--save", demo.saved, "--ice-address", "127.0.0.1", "--json"),
    ]
    demo.watcher = subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", "agency", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    demo.stack.callback(end, demo.watcher)
    line = demo.watcher.stdout.readline() if demo.watcher.stdout else ""
    if not line:
        raise StepFailed(f"the agency could not watch: {demo.watcher.communicate()[1][-300:]}")
    demo.begun = json.loads(line)
    need(demo.begun["event"] == "watching", f"the agency got {demo.begun}")
    demo.wait_for("the session", lambda: demo.status()["watching"])
    time.sleep(WATCHED_S)
    status = demo.status()
    need(status["encoders"] == 1 and len(status["watching"]) == 1, "one viewer and one encoder expected")
    left = status["watching"][0]["seconds_left"]
    light = (demo.directory / "device/run/indicator").read_text().strip()
    need(light == "agency-viewing", f"the indicator says {light!r}")
    return f"session {demo.begun['session']} runs, {left} s left, the device's light says {light}"


def revoke(demo: Demo) -> str:
    """The owner takes it back: the picture stops."""
    demo.revoked = json.loads(demo.owner("consent", "revoke", demo.token, "--json"))
    need(demo.watcher is not None, "nobody watches")
    if demo.watcher is None:
        raise StepFailed("nobody watches")
    out, error = demo.watcher.communicate(timeout=LONGEST_S)
    need(demo.watcher.returncode == 0, f"the agency's command failed: {error[-300:]}")
    demo.watched = json.loads(out.splitlines()[-1])
    need(demo.watched["reason"] == "ended_by_owner", f"it ended as {demo.watched['reason']!r}")
    learned_ns = demo.revoked["learned_boot_us"] * 1000
    late_ms = (demo.watched["last_rtp_boot_ns"] - learned_ns) / 1e6
    frame_ms = 1000 / 10
    need(late_ms <= 2 * frame_ms, f"the last RTP packet came {late_ms:.1f} ms after the device knew")
    return (
        f"{demo.watched['frames']} pictures were seen; the last RTP packet reached the agency "
        f"{late_ms:+.1f} ms from the moment the device knew (bound: {2 * frame_ms:.0f} ms)"
    )


def compare(demo: Demo) -> str:
    """The saved video shows the area and nothing else."""
    found = comparing.compare(demo.saved, CLIP, AREA)
    need(found.frames >= 20, f"only {found.frames} pictures were saved")
    need(found.inside >= 0.9, f"inside the area it does not look like the clip ({found.inside:.3f})")
    need(found.outside_range <= 12, f"outside the area there is something ({found.outside_range})")
    need(abs(found.outside) <= 0.1, f"outside the area it resembles the clip ({found.outside:.3f})")
    need(found.caption > 0.01, "there is no caption")
    return (
        f"{found.frames} pictures of {found.width}x{found.height}: correlation with the clip inside "
        f"{found.inside:.3f}, outside {found.outside:.3f} (flat within {found.outside_range} of 255), "
        f"caption there"
    )


def replay(demo: Demo) -> str:
    """The old token and the old request, used again, are refused."""
    refused = demo.agency("watch", "--request", demo.request, "--for", "2s", fails=1)
    starts = [entry for entry in demo.entries() if entry["kind"] == "session-start"]
    need(len(starts) == 1, f"{len(starts)} sessions stand in the ledger")
    heard = replaying.replay(demo.directory, demo.device, demo.port, demo.entries())
    need(heard.token_refused, "the device took the revoked token a second time")
    need(not heard.granted, "the old request was granted again")
    after = demo.entries()
    need(
        [entry for entry in after if entry["kind"] == "session-start"] == starts
        and not demo.status()["watching"],
        "something was shown",
    )
    again = refused.strip().splitlines()[0].removeprefix("doorward: error: ")
    return (
        f"watching again: {again}; token handed over again: {heard.token_words}; "
        f"request sent again: no new decision"
    )


def steal(demo: Demo) -> str:
    """The archive without an owner's key opens for nobody, the device included."""
    segments = sorted((demo.directory / "device/state/archive/front").rglob("*.seg"))
    need(segments, "no closed segment yet")
    device_seal = X25519PrivateKey.from_private_bytes(
        (demo.directory / "device/state/keys/seal").read_bytes()
    )
    key = (demo.directory / "device/state/keys/signing").read_bytes()
    need(key, "no device key")
    for path in segments:
        data = path.read_bytes()
        need(not any(mark in data for mark in (b"moof", b"mdat", b"avcC")), f"{path.name} is not sealed")
        for private in (X25519PrivateKey.generate(), device_seal):
            try:
                open_segment(data, archive_keys=[private], device_key=bytes(32), allow_unsigned=True)
            except DoorwardError:
                continue
            raise StepFailed(f"{path.name} opened without an owner's key")
    return f"{len(segments)} segments tried with a stranger's key and with the device's own: none opens"


def export(demo: Demo) -> str:
    """The owner exports, and the clip plays."""
    out = demo.directory / "export.mp4"
    report = json.loads(
        demo.owner("archive", "export", "--from", "-10m", "--to", "now", "--out", out, "--json")
    )
    found = comparing.compare(out, CLIP, None)
    need(found.frames == report["frames"], f"{found.frames} pictures play, {report['frames']} were exported")
    need(found.inside >= 0.95, f"it does not look like the clip ({found.inside:.3f})")
    need(report["provenance"] == ["signed"], f"provenance {report['provenance']}")
    return f"{found.frames} pictures play, correlation with the clip {found.inside:.3f}, signed by the device"


def verify(demo: Demo) -> str:
    """The ledger verifies, receipts match on both sides, one flipped byte is found."""
    keys = ("--key-file", demo.directory / "owner.json")
    demo.doorward("ledger", "verify", *demo.home, *keys)
    entry = demo.begun["entry"]
    ours, theirs = demo.directory / "ours.json", demo.directory / "theirs.json"
    demo.doorward("ledger", "receipt", entry, *demo.home, "--out", ours)
    demo.agency("receipt", demo.begun["session"], "--out", theirs)
    both = [json.loads(path.read_bytes())["entry"] for path in (ours, theirs)]
    need(both[0] == both[1], "owner and agency hold different entries for the session")
    demo.agency("receipts", "--verify")
    need(demo.watched["end_verified"], "the agency has no receipt of the end")
    whole = demo.directory / "ledger.json"
    demo.doorward("ledger", "export", *demo.home, "--out", whole)
    demo.doorward("ledger", "verify", whole, *keys)
    flip(whole, demo.directory / "flipped.json")
    said = demo.doorward("ledger", "verify", demo.directory / "flipped.json", *keys, fails=4)
    found = said.strip().splitlines()[0].removeprefix("doorward: error: ")
    return f"whole; session entry {entry} is the same on both sides; one flipped bit: {found[:90]}"


def flip(path: Path, to: Path) -> None:
    """Change one bit in the middle of one entry."""
    value = json.loads(path.read_bytes())
    at = len(value["entries"]) // 2
    data = bytearray(base64.b64decode(value["entries"][at]))
    data[len(data) // 2] ^= 1
    value["entries"][at] = base64.b64encode(bytes(data)).decode()
    to.write_text(json.dumps(value))


STEPS: Final[tuple[tuple[str, Callable[[Demo], str]], ...]] = (
    ("start", start),
    ("pair", pair),
    ("charter", adopt),
    ("ask", ask),
    ("grant", grant),
    ("watch", watch),
    ("revoke", revoke),
    ("compare", compare),
    ("replay", replay),
    ("archive", steal),
    ("export", export),
    ("ledger", verify),
)


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> int:
    """Tell the story; the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object per step")
    parser.add_argument("--keep", action="store_true", help="leave the files of the run behind")
    parser.add_argument(
        "--link", choices=("post", "https"), help="what carries messages [default: post if mosquitto is here]"
    )
    options = parser.parse_args()
    use_post = options.link == "post" or (options.link is None and find_mosquitto() is not None)
    directory = Path(tempfile.mkdtemp(prefix="doorward-demo-"))
    with ExitStack() as stack:
        if options.keep:
            print(f"files of this run: {directory}", file=sys.stderr)
        else:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
        demo = Demo(directory, stack.enter_context(ExitStack()), free_port(), use_post)
        return tell(demo, as_json=options.json)


def tell(demo: Demo, *, as_json: bool) -> int:
    """Every step in order, until one fails; the exit code."""
    began = time.monotonic()
    for name, step in STEPS:
        at = time.monotonic()
        try:
            got, holds = step(demo), True
        except (StepFailed, OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
            got, holds = f"{error}", False
        say_step(name, step, got, holds=holds, seconds=time.monotonic() - at, as_json=as_json)
        if not holds:
            show_log(demo.directory / "device.log")
            say_end(f"demo: FAILED at {name}: {got}", as_json=as_json, seconds=time.monotonic() - began)
            return 1
    say_end("demo: ok", as_json=as_json, seconds=time.monotonic() - began)
    return 0


def say_step(
    name: str, step: Callable[[Demo], str], got: str, *, holds: bool, seconds: float, as_json: bool
) -> None:
    """One step: what was expected, what happened."""
    expected = (step.__doc__ or "").strip()
    if as_json:
        value = {"step": name, "expected": expected, "got": got, "ok": holds, "ms": round(seconds * 1000)}
        print(json.dumps(value), flush=True)
        return
    mark = "ok  " if holds else "FAIL"
    print(f"{mark} {name:8} {expected}\n              {got}  [{seconds:.1f} s]", flush=True)


def say_end(text: str, *, as_json: bool, seconds: float) -> None:
    """The last line."""
    if as_json:
        print(
            json.dumps({"step": "demo", "ok": text == "demo: ok", "got": text, "ms": round(seconds * 1000)})
        )
        return
    print(f"(the whole story took {seconds:.0f} s)")
    print(text)


def show_log(path: Path) -> None:
    """The device's last words, when a step failed."""
    if path.exists():
        print("--- the device's log, its end ---", file=sys.stderr)
        print("\n".join(path.read_text().splitlines()[-25:]), file=sys.stderr)


if __name__ == "__main__":
    os.environ.pop("DOORWARD_HOME", None)
    sys.exit(main())
