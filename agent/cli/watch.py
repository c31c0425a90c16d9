"""``doorward owner watch``: the inbox at a terminal.

It asks the device once in `LOCAL_S` seconds on the box and once in `REMOTE_S` elsewhere: one operation that
reads memory and writes nothing. Measured on a 2-core x86-64 machine, once a second: 0.001 of a core in core,
and through HTTPS 0.002 in net and 0.004 here. Keys are opened once, and held in memory until it ends.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from agent.cli import giving, inbox, words
from agent.cli.client import nonce
from agent.cli.giving import Limits
from agent.cli.inbox import Allow, Block, Event, Inbox, NotNow, Quit, Stop
from agent.cli.named import short
from agent.cli.options import daily_keys, door_options, json_option, opened
from agent.consent import acts, envelope, times
from agent.consent.acts import BlockState, Dismissal
from agent.consent.envelope import PayloadType
from agent.consent.token import Revocation
from agent.errors import DoorwardError, Refused, Unreachable
from agent.operations import Operation
from hal import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.cli.client import Client
    from agent.cli.inbox import Command
    from agent.cli.key_file import DailyKeys
    from agent.consent.charter import Charter

LOCAL_S: Final = 1.0
REMOTE_S: Final = 2.0
SESSIONS: Final = 5
RENEW_NS: Final = 600 * times.SECOND_NS
"""A remote reader's handle lives for fifteen minutes: sign another one before."""

_ARROWS: Final = {b"\x1b[A": inbox.UP, b"\x1b[B": inbox.DOWN, b"\x1bOA": inbox.UP, b"\x1bOB": inbox.DOWN}
_ALONE: Final = b"\x1b"


class Device:
    """The device, as long as the inbox is open: reconnects by itself, and signs what the owner does."""

    def __init__(self, options: dict[str, Any], keys: DailyKeys) -> None:
        self._options = options
        self._keys = keys
        self._stack = ExitStack()
        self._client: Client | None = None
        self._opened_ns = 0
        self._shared: dict[str, list[str]] = {}

    def close(self) -> None:
        """Leave."""
        self._client = None
        self._stack.close()

    def _need(self) -> Client:
        if self._options.get("device") and clock.boot_ns() - self._opened_ns > RENEW_NS:
            self.close()
        if self._client is None:
            self._client = self._stack.enter_context(opened(self._options, self._keys))
            self._opened_ns = clock.boot_ns()
        return self._client

    def poll(self, box: Inbox) -> list[Event]:
        """What happened since the last time; trouble stands in the inbox, and the next time tries anew.

        Raises:
            DoorwardError: Something that trying again does not mend.
        """
        try:
            client = self._need()
            result, _ = client.door.call(Operation.REQUESTS)
            requests, watching = _list(result.get("requests")), _list(result.get("watching"))
            if any(str(each["camera"]) not in self._shared for each in requests):
                self._shared = _shared(client.charter()[0])
        except Unreachable as error:
            self.close()
            events = [] if box.trouble else [Event("unreachable", {"why": str(error)})]
            box.trouble = f"{error}; trying again"
            return events
        events = [Event("reachable", {})] if box.trouble else []
        box.trouble = ""
        return events + box.update(requests, watching, self._shared)

    def carry_out(self, command: Command) -> str:
        """Sign and hand over what the owner decided; what came of it, in a line.

        Raises:
            DoorwardError: What the device says against it.
        """
        try:
            return self._carry_out(command)
        except Unreachable:
            self.close()
            raise

    def _carry_out(self, command: Command) -> str:
        client = self._need()
        if isinstance(command, Allow):
            return self._allow(client, command)
        household = client.need_memory(client.find()).household
        if isinstance(command, NotNow):
            dismissal = Dismissal("", household, command.ask.id, nonce())
            self._act(client, PayloadType.DISMISSAL, dismissal.payload())
            return "Not now. They hear nothing of it."
        if isinstance(command, Block):
            block = acts.Block("", household, command.agency, BlockState.BLOCKED, nonce())
            self._act(client, PayloadType.BLOCK, block.payload())
            return f"Blocked: {command.name} sees nothing and is not heard."
        token = str(command.watching.said["token"]) if isinstance(command, Stop) else None
        revocation = Revocation("", household, token, None, nonce())
        self._act(client, PayloadType.REVOCATION, revocation.payload())
        what = "it is over" if token else "everything is taken back, and nobody watches"
        return f"STOPPED: the device has acknowledged it; {what}."

    def _allow(self, client: Client, command: Allow) -> str:
        ask, seconds = command.ask, command.minutes * 60
        current, _ = client.charter()
        if current.granting > 1:
            raise Refused(
                f"{current.granting} of you must sign together",
                reason="too-few",
                hint=f"doorward consent grant --request {short(ask.id)} --save FILE",
            )
        limits = Limits(seconds, seconds, SESSIONS, 1, ask.height, ask.fps)
        granted = giving.of_request(ask.said, ask.areas, seconds, limits, current)
        granted = giving.addressed(client, granted)
        self._act(client, PayloadType.TOKEN, granted.payload())
        until = words.local_time(granted.scope.not_after_ns)
        return f"Allowed until {until}: {', '.join(ask.areas)}."

    def _act(self, client: Client, kind: PayloadType, payload: bytes) -> None:
        client.act(self._keys, [envelope.sign(kind, payload, [self._keys.signing])])


def _list(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _shared(current: Charter) -> dict[str, list[str]]:
    return {camera.name: [area.name for area in camera.areas] for camera in current.cameras}


@click.command("watch")
@click.option("--line", "by_line", is_flag=True, help="Lines instead of a screen; so too without a terminal.")
@click.option(
    "--interval",
    type=click.FloatRange(1, 3600),
    help="Seconds between looks at the device. [default: 1 on the box, 2 with --device]",
)
@door_options
@json_option
def watch(**options: Any) -> None:  # noqa: ANN401 - click hands options over by name
    """Your inbox: who asks to see your camera, who is watching, and one key to allow or stop it.

    What lets somebody see asks once more and says what they will see. What takes away happens at once.
    With --json it prints what happens, one JSON object a line, and takes no keys.
    """
    device = Device(options, daily_keys(options))
    wait_s = options["interval"] or (REMOTE_S if options.get("device") else LOCAL_S)
    has_screen = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    try:
        if options["as_json"]:
            _stream(device, wait_s)
        elif options["by_line"] or not has_screen:
            _lines(device, wait_s)
        else:
            with _screen():
                _keys(device, wait_s)
    except KeyboardInterrupt:
        pass
    finally:
        device.close()


def _stream(device: Device, wait_s: float) -> None:
    """Events for scripts, until somebody ends it or stops reading."""
    box = Inbox()
    while True:
        for event in device.poll(box):
            words.print_json(inbox.event_json(event, times.written(clock.wall_ns())))
        sys.stdout.flush()
        select.select([], [], [], wait_s)


def _lines(device: Device, wait_s: float) -> None:
    """An inbox for dumb terminals and pipes."""
    box = Inbox()
    click.echo(f"Doorward inbox. {inbox.LINE_HELP}")
    waiting = b""
    while True:
        _say_events(device.poll(box), box)
        sys.stdout.flush()
        readable, _, _ = select.select([sys.stdin], [], [], wait_s)
        if not readable:
            continue
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:
            return
        *lines, waiting = (waiting + data).split(b"\n")
        for line in lines:
            command = inbox.typed(box, line.decode("utf-8", errors="replace"))
            if isinstance(command, Quit):
                return
            click.echo(command if isinstance(command, str) else _tried(device, command))


def _say_events(events: list[Event], box: Inbox) -> None:
    for event in events:
        if event.name == "unreachable":
            click.echo(f"!! {box.trouble}")
        elif event.name == "reachable":
            click.echo("The device answers again.")
        elif event.name != "asked":
            click.echo(inbox.event_line(event))
    if any(event.name == "asked" for event in events):
        click.echo("\n".join(inbox.by_lines(box)))


def _tried(device: Device, command: Command) -> str:
    try:
        return device.carry_out(command)
    except DoorwardError as error:
        return f"{error}; {error.hint}" if error.hint else str(error)


def _keys(device: Device, wait_s: float) -> None:
    """The inbox on the whole screen."""
    box = Inbox()
    shown: list[str] = []
    while True:
        events = device.poll(box)
        if any(event.name == "asked" for event in events):
            sys.stdout.write("\a")
        deadline_ns = clock.boot_ns() + round(wait_s * times.SECOND_NS)
        while True:
            shown = _draw(box, shown)
            left_s = (deadline_ns - clock.boot_ns()) / times.SECOND_NS
            readable, _, _ = select.select([sys.stdin], [], [], max(0.0, left_s))
            if not readable:
                break
            commands = [box.key(key) for key in _pressed(os.read(sys.stdin.fileno(), 64))]
            done = [command for command in commands if command is not None]
            if any(isinstance(command, Quit) for command in done):
                return
            for command in done:
                box.notice = _tried(device, command)
            if done:
                break


def _pressed(data: bytes) -> list[str]:
    """The keys in what a terminal sent."""
    if data in _ARROWS:
        return [_ARROWS[data]]
    if data[:1] == _ALONE:
        return [inbox.ESCAPE]
    return list(data.decode("utf-8", errors="ignore")) or ["q"]


def _draw(box: Inbox, shown: list[str]) -> list[str]:
    """Draw what has changed; what stands there now."""
    width, height = shutil.get_terminal_size()
    lines = box.lines(width - 1, height - 1)
    if lines == shown:
        return shown
    text = "\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines) + "\x1b[J"
    sys.stdout.write(text)
    sys.stdout.flush()
    return lines


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, keys one by one; as it was at the end, whatever happens."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        yield
    finally:
        sys.stdout.write("\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
