"""A device of real processes, and the ``doorward`` command beside it.

`Device` starts supervisor, core and net in a directory of its own, on loopback, and ends them by their ids.
With ``disk_bytes`` its state lies on a small disk that nobody else sees and that goes with its processes.
`doorward` runs the command's own `main` in this process: it says and returns what a shell would get.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from agent.cli import main as command
from agent.consent.envelope import short

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

CLIP: Final = Path(__file__).parents[1] / "footage" / "walkway.mp4"
CLIP_FPS: Final = 10
SCENE: Final = "synthetic:?size=160x128&fps=10"
LONGEST_S: Final = 30.0


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of an error; fails where it is not one line with at most one hint."""
        lines = [line for line in self.err.splitlines() if not line.startswith("exporting")]
        assert lines, f"exit code {self.code}, and not a word"
        assert lines[0].startswith("doorward: error: "), self.err
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), self.err
        return lines[0].removeprefix("doorward: error: ")


class _Typed(io.StringIO):
    """Standard input from a file, not from a person."""

    def isatty(self) -> bool:
        return False


def doorward(*arguments: object, stdin: str = "") -> Said:
    """Run the command."""
    out, err = io.StringIO(), io.StringIO()
    argv, source = sys.argv, sys.stdin
    sys.argv, sys.stdin = ["doorward", *map(str, arguments)], _Typed(stdin)
    code: object = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            command.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv, sys.stdin = argv, source
    return Said(int(str(code or 0)), out.getvalue(), err.getvalue())


def spawn(*arguments: object) -> subprocess.Popen[str]:
    """Run the command as a process of its own, for what goes on while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli.main", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def done(said: Said) -> Said:
    """It worked."""
    assert said.code == 0, f"exit code {said.code}: {said.err or said.out}"
    return said


def wait_for(what: str, holds: Callable[[], object], seconds: float = LONGEST_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


def free_port() -> int:
    """A TCP port that is free on loopback now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def end(process: subprocess.Popen[Any]) -> int:
    """Ask a process to stop, make it if it does not; its exit code."""
    process.send_signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return process.wait()


class Device:
    """One device, from `start` (or ``with``) to `stop`. ``cameras`` are URIs by name."""

    def __init__(
        self,
        directory: Path,
        *,
        cameras: dict[str, str] | None = None,
        budget: str = "200MB",
        disk_bytes: int | None = None,
    ) -> None:
        self.directory = directory
        self.home = directory / "device"
        self.log = directory / "device.log"
        self.port = free_port()
        self.post_files = {kind: directory / f"device-{kind}.pem" for kind in ("ca", "certificate", "key")}
        self._disk_bytes = disk_bytes
        self._config = {
            "cameras": {
                name: {"uri": uri, "lores": "640x480" if uri.startswith("file:") else "160x128"}
                for name, uri in (cameras or {"front": SCENE}).items()
            },
            "archive": {"budget": budget},
            "http": {"listen": "127.0.0.1", "port": self.port},
            "post": {kind: str(path) for kind, path in self.post_files.items()},
            "ice_addresses": ["127.0.0.1"],
        }
        self._process: subprocess.Popen[str] | None = None

    # Its processes

    @property
    def command(self) -> list[str]:
        """What starts it."""
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(self._config))
        return [
            sys.executable,
            "-m",
            "agent.cli.main",
            "run",
            "--config",
            str(path),
            "--home",
            str(self.home),
        ]

    def start(self) -> None:
        """Start it and wait until core answers and net is there."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                self._on_disk(self.command), stdout=log, stderr=log, text=True, stdin=subprocess.DEVNULL
            )
        self.wait_for("core", (self.home / "run/core.sock").exists)
        self.wait_for("net", lambda: self.status()["net"])
        if not self.status()["paired"]:
            # It makes a pairing code, which voids any other: wait for it, or a test's own is void at times.
            self.wait_for("the greeting", lambda: "Pairing code: " in self.said())

    def _on_disk(self, started: list[str]) -> list[str]:
        """The same on a small disk of its own, in a mount namespace: needs no rights, leaves nothing."""
        if self._disk_bytes is None:
            return started
        state = self.home / "state"
        state.mkdir(parents=True)
        mount = f'mount -t tmpfs -o size={self._disk_bytes},mode=700 tmpfs "$0" && exec "$@"'
        return ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, str(state), *started]

    def stop(self) -> int:
        """End it; the supervisor's exit code."""
        process, self._process = self._process, None
        assert process is not None, "not started"
        code = end(process)
        (self.home / "run/core.sock").unlink(missing_ok=True)
        return code

    @property
    def supervisor(self) -> int:
        """The supervisor's process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    def pid(self, module: str) -> int:
        """The process id of ``core`` or ``net``; 0 while there is none."""
        children = Path(f"/proc/{self.supervisor}/task/{self.supervisor}/children").read_text()
        for child in children.split():
            with contextlib.suppress(OSError):
                if f"agent.{module}".encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return int(child)
        return 0

    def kill(self, module: str) -> None:
        """``kill -9`` of ``core`` or ``net``; returns when it is dead."""
        number = self.pid(module)
        assert number, f"{module} does not run"
        os.kill(number, signal.SIGKILL)
        self.wait_for(f"the end of {module}", lambda: _is_dead(number))

    @contextlib.contextmanager
    def unsupervised(self) -> Iterator[None]:
        """Nobody starts again what ends inside the block: the supervisor stands still."""
        os.kill(self.supervisor, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.supervisor, signal.SIGCONT)

    def wait_for(self, what: str, holds: Callable[[], object], seconds: float = LONGEST_S) -> None:
        """Wait until something holds; if the device ends meanwhile, say its last words."""

        def still() -> object:
            code = self._process.poll() if self._process else None
            assert code is None, f"{what}: the device ended with {code}:\n{self.said()[-2000:]}"
            return holds()

        wait_for(what, still, seconds)

    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.stop()

    # What lies on its disk

    @property
    def state(self) -> Path:
        """Its state directory, as its processes see it."""
        return Path(f"/proc/{self.supervisor}/root{self.home}/state")

    def fingerprint(self) -> str:
        """A hash over everything that must not change when something is refused: ledger, keys, schema."""
        digest = hashlib.sha256()
        for path in sorted(
            [self.state / "schema", *(self.state / "keys").iterdir(), self.state / "ledger/entries"]
        ):
            digest.update(str(path.name).encode() + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()

    # What it says

    def run(self, *arguments: object, stdin: str = "") -> Said:
        """A command at this device's local door."""
        return doorward(*arguments, "--home", self.home, stdin=stdin)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = done(self.run("status", "--json")).json
        return found

    def camera(self, name: str = "front") -> dict[str, Any]:
        """One camera of the status."""
        return next(each for each in self.status()["cameras"] if each["name"] == name)

    def entries(self, *kinds: str) -> list[dict[str, Any]]:
        """The ledger, or the entries of these kinds."""
        shown = done(self.run("ledger", "show", "--last", 10_000, "--json")).out
        found = [json.loads(line) for line in shown.splitlines()]
        return [each for each in found if not kinds or each["kind"] in kinds]

    def new_code(self) -> str:
        """A fresh pairing code."""
        return done(self.run("pair", "--new-code")).out.split()[2]

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def answers_https(self) -> bool:
        """Whether its HTTPS door answers."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with (
                socket.create_connection(("127.0.0.1", self.port), 5) as plain,
                context.wrap_socket(plain) as secured,
            ):
                secured.sendall(b"GET /v0/device HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                return b" 200 " in secured.recv(1024)
        except OSError:
            return False


def _is_dead(number: int) -> bool:
    """Gone, or a zombie that its parent has not looked at."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


class Owner:
    """Somebody with a key file, a passphrase and a recovery code, at one device."""

    def __init__(self, directory: Path, device: Device, name: str = "Owner") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.device = device
        self.key_file = directory / "owner.json"
        self.passphrase = directory / "passphrase"
        self.recovery_code = directory / "recovery-code"
        self.passphrase.write_text("only for tests\n")
        done(
            doorward(
                *("owner", "init", "--name", name, "--key-file", self.key_file),
                *("--passphrase-file", self.passphrase, "--recovery-code-out", self.recovery_code),
            )
        )

    def run(self, *arguments: object) -> Said:
        """A command signed with the daily key."""
        keys = ("--key-file", self.key_file, "--passphrase-file", self.passphrase)
        return self.device.run(*arguments, *keys)

    def root(self, *arguments: object) -> Said:
        """A command that needs the recovery code as well."""
        return self.run(*arguments, "--recovery-code-file", self.recovery_code)

    def pair(self, code: str | None = None) -> Said:
        keys = ("--key-file", self.key_file, "--recovery-code-file", self.recovery_code)
        return self.device.run("pair", "--code", code or self.device.new_code(), *keys)


class Agency:
    """An agency with one operator, introduced to one household."""

    def __init__(self, directory: Path, owner: Owner, *, area: str = "left") -> None:
        self.directory = directory
        self.owner = owner
        done(self.run("init", "--name", "Agency of the tests"))
        done(self.run("badge", "--operator", "Operator", "--number", 17))
        found = done(self.run("card", "--out", directory / "card.json", "--json")).json
        self.key_id: str = found["agency"]
        self.link_name: str = found["link_name"]
        self._card = directory / "card.json"
        self._area = area

    def join(self) -> None:
        """The owner puts it into the charter, with an area of the camera; it takes the introduction."""
        owner, introduction = self.owner, self.directory / "introduction.json"
        digits = self.key_id.removeprefix("sha256:")
        done(owner.root("charter", "add-agency", self._card, "--key", digits))
        corners = "0,0 5500,0 5500,10000 0,10000"
        done(owner.root("charter", "add-area", "front", self._area, corners))
        done(owner.root("charter", "set", "--ice", "all"))
        done(owner.root("charter", "introduce", "--agency", self.key_id, "--out", introduction))
        done(self.run("import", introduction, "--via", owner.device.url))

    def run(self, *arguments: object) -> Said:
        return doorward("agency", "--dir", self.directory, *arguments)

    def ask(self, *more: object) -> str:
        """Ask to look; the request's id."""
        asked = done(
            self.run(
                *("ask", "live", "--device", "doorward", "--camera", "front", "--reference", "2026-7"),
                *("--for", "5m", "--no-wait", "--json", *more),
            )
        )
        request: str = json.loads(asked.out.splitlines()[-1])["request"]
        return request

    def allowed(self, *more: object) -> tuple[str, str]:
        """Ask, and be allowed to: the request's id and the token's."""
        request = self.ask()
        granted = self.owner.run(
            *("consent", "grant", "--request", request, "--for", "5m", "--area", self._area, "--json", *more)
        )
        token: str = done(granted).json["token"]
        return request, token

    def watch(self, request: str) -> Watching:
        """Watch in a process of its own; returns once a session runs."""
        return Watching(
            spawn(
                *("agency", "--dir", self.directory, "watch", "--request", request),
                *("--ice-address", "127.0.0.1", "--json"),
            )
        )


class Watching:
    """An agency's command that watches."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise AssertionError(f"it could not watch: {process.communicate()[1]}")  # it has ended
        self.begun: dict[str, Any] = json.loads(line)

    def wait(self) -> tuple[int, dict[str, Any]]:
        """Its exit code and its report, once it has ended by itself."""
        out, _ = self._process.communicate(timeout=LONGEST_S)
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
        return self._process.returncode, report

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # At once: asked to stop it would wait for the device's last word, and the device may be gone.
        self._process.kill()
        self._process.communicate()


def device_name(device: Device) -> str:
    """A device's name on links."""
    return short(device.status()["device"])
