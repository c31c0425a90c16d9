"""core: the process that holds camera, keys, archive, ledger and gate, and has no network.

The composition root of its side: the only module that knows all the parts. It reads nothing but the
configuration, wires the parts and runs them until told to stop.
"""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import signal
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from agent import __version__, arguments
from agent.challenges import Challenges
from agent.config import STATE_SCHEMA, Config
from agent.consent import times
from agent.consent.envelope import short
from agent.consent.reasons import DenialReason
from agent.consent.times import TimeQuality
from agent.core_operations import CoreOperations
from agent.device_keys import DeviceKeys, load_or_make, write_whole
from agent.door import LocalDoor, answer
from agent.errors import (
    DoorwardError,
    IntegrityError,
    LedgerError,
    StorageError,
    TransientError,
    WireError,
)
from agent.gate import EndedSession, Gate, Surroundings
from agent.ledger.checkpoint import origin_of
from agent.ledger.entry import EntryKind, Stamp
from agent.ledger.keeper import Keeper
from agent.ledger.log import Log
from agent.net_link import NetLink
from agent.operations import Door, error_to_json
from agent.owners import Owners
from agent.pairing import PairingCodes
from agent.reads import Handles
from agent.recording import Recording
from agent.screens import Screens
from agent.seam import Message, MessageKind, Unit
from agent.sharing import Sharing
from agent.trusted_time import TrustedTime
from agent.witnessing import Witnessing
from agent.zones import Zones
from hal import clock
from hal.indicator import SimulatedIndicator

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

log = logging.getLogger(__name__)
SCHEMA_FILE: Final = "schema"
CHARTER_COPY: Final = "charter-copy.dsse"
MOST_AT_ONCE: Final = 128
"""What net has core work on at once. An honest net stays below; another one must not fill core's memory."""

MOST_BLOB_BYTES: Final = 256 * 1024
"""What net hands over at once: as much as its own door takes."""

_FINGERPRINT: Final = re.compile(r"sha256:[0-9a-f]{64}")
RESTART_S: Final = 1.0
FINISH_S: Final = 2.0
"""How long stopping waits for what messages set off, ends of sessions above all."""


class Core:
    """All parts of core, wired."""

    def __init__(self, config: Config, keys: DeviceKeys, stack: ExitStack, group: asyncio.TaskGroup) -> None:
        """Wire everything; ``stack`` closes the ledger.

        Raises:
            DoorwardError: State or archive cannot be used.
        """
        self._config = config
        self._keys = keys
        self._group = group
        self._work: set[asyncio.Task[None]] = set()
        self._at_once = 0
        self._tls_fingerprint: str | None = None
        self._boot_id = clock.boot_id()
        self._time = TrustedTime(_by_ntp, floors=self._floors)
        self._zones = Zones()
        self._keeper = self._open_keeper(stack)
        self._recording = Recording(config, keys, self._keeper, self._time)
        self._gate = Gate(
            self._keeper,
            self._time,
            device=keys.device,
            boot_ns=clock.boot_ns,
            surroundings=self._surroundings,
            on_end=self._ended,
        )
        self._write_boot()
        self._net = NetLink(
            config.seam,
            on_message=self._from_net,
            on_connected=self._send_settings,
            on_lost=lambda: self._gate.end_all(DenialReason.NET_LOST),
        )
        self._screens = Screens(
            self._recording.stations,
            SimulatedIndicator(config.run / "indicator"),
            live=self._gate.live,
            wall_text=self._recording.wall_text,
            send=self._send_unit,
            failed=lambda number: self._gate.end(number, DenialReason.MEDIA_FAILED),
        )
        self._sharing = Sharing(
            self._keeper,
            self._gate,
            self._time,
            keys,
            self._net,
            self._screens,
            boot_ns=clock.boot_ns,
            spawn=self._spawn,
        )
        self._witnessing = Witnessing(
            self._keeper,
            self._gate,
            self._time,
            origin=origin_of(keys.device),
            device_key=keys.signing_public,
            boot_id=self._boot_id,
            boot_ns=clock.boot_ns,
            send=self._send_if_there,
            confirmed=self._sharing.owners_acted,
        )
        challenges = Challenges(clock.boot_ns)
        codes = PairingCodes(clock.boot_ns)
        owners = Owners(
            self._keeper,
            self._gate,
            self._time,
            keys,
            challenges,
            codes,
            boot_ns=clock.boot_ns,
            changed=self._changed,
        )
        self._operations = CoreOperations(
            self._keeper,
            self._gate,
            owners,
            self._sharing,
            keys,
            challenges,
            codes,
            Handles(clock.boot_ns),
            self._recording.readers,
            status=self._status,
            tls_fingerprint=lambda: self._tls_fingerprint,
            origin=origin_of(keys.device),
            cosigned=self._witnessing.newest,
        )
        self._door = LocalDoor(config.door, self._operations)

    def start(self) -> None:
        """Begin everything; recording at once if the device is paired."""
        self._recording.charter_changed()
        for door in (self._net.run, self._door.run):
            self._group.create_task(door())
        for part in (self._gate.run, self._recording.run, self._witnessing.run, self._sharing.run):
            self._group.create_task(kept_going(part, lambda: self._gate.end_all(DenialReason.NET_LOST)))

    async def stop(self) -> None:
        """End sessions, close segments, commit to them. What waits for net waits a second at most."""
        self._gate.end_all(DenialReason.NET_LOST)
        if self._work:
            await asyncio.wait(self._work, timeout=FINISH_S)
        await asyncio.to_thread(self._recording.stop)
        await self._recording.commit()

    def _open_keeper(self, stack: ExitStack) -> Keeper:
        """The ledger and what it says; if it is damaged, recording must go on without it.

        Raises:
            IntegrityError, StorageError: It cannot be used, and there is no copy of the charter to record by.
        """
        try:
            ledger = Log.open(
                self._config.state / "ledger",
                origin=origin_of(self._keys.device),
                private=self._keys.signing,
            )
            return Keeper(stack.enter_context(ledger), self._stamp)
        except (IntegrityError, StorageError) as error:
            copy = self._config.state / CHARTER_COPY
            if not copy.exists():
                raise
            log.error("%s; sharing is off, recording goes on", error)  # noqa: TRY400 - said in one line
            return Keeper.without_ledger(str(error), copy.read_bytes(), self._stamp)

    def _write_boot(self) -> None:
        """The boot's entry, and the ends of sessions that a crash left open; without them nobody may look."""
        try:
            self._keeper.record(EntryKind.BOOT, {"software": __version__})
            self._gate.close_off()
        except LedgerError as error:
            log.error("%s; sharing is off, recording goes on", error)  # noqa: TRY400 - said in one line

    # Wiring that is more than a name

    def _stamp(self) -> Stamp:
        boot_ns = clock.boot_ns()
        now = self._time.now(boot_ns)
        if now is None:
            return Stamp(boot_ns, self._boot_id, None, None, TimeQuality.UNTRUSTED)
        return Stamp(boot_ns, self._boot_id, now.earliest_ns, now.latest_ns, now.quality)

    def _floors(self) -> tuple[int, int]:
        state = self._keeper.state
        return state.floor_ns, state.plausible_floor_ns

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            self._recording.delivering(),
            frozenset(),
            self._config.max_viewers,
            self._zones.of(self._keeper.state),
        )

    def _ended(self, ended: EndedSession) -> None:
        self._sharing.ended(ended)

    def _send_unit(self, unit: Unit) -> None:
        self._net.send(unit.to_message())

    def _send_if_there(self, message: Message) -> bool:
        self._net.send(message)
        return self._net.connected

    def _changed(self) -> None:
        self._keep_charter_copy()
        self._witnessing.charter_changed()
        self._recording.charter_changed()
        self._send_settings()

    def _keep_charter_copy(self) -> None:
        """Whom footage is sealed to, should the ledger be damaged one day. Nothing else reads it."""
        copy = self._config.state / CHARTER_COPY
        envelope = self._keeper.state.charter_envelope
        try:
            if not copy.exists() or copy.read_bytes() != envelope:
                write_whole(copy, envelope)
        except OSError as error:
            log.warning("charter copy: %s", error.strerror)

    def _send_settings(self) -> None:
        """What net may know: whose letters it carries, and where to."""
        charter = self._keeper.state.charter
        post = charter.post if charter else None
        fields: dict[str, object] = {
            "device": short(self._keys.device),
            "agencies": [short(each.key_id) for each in charter.agencies] if charter else [],
            "post": {"host": post.host, "port": post.port} if post else None,
        }
        self._net.send(Message(MessageKind.SETTINGS, fields))

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._group.create_task(_guarded(work))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _from_net(self, message: Message) -> None:
        """One message of net. What takes time runs beside, or the seam could not be read meanwhile."""
        match message.kind:
            case MessageKind.HELLO:
                self._tls_fingerprint = _tls_fingerprint(message)
            case MessageKind.LINK_IN | MessageKind.OPERATION:
                self._take(message)
            case MessageKind.WITNESS_IN:
                self._witnessing.answered(message)
            case MessageKind.IDR:
                self._screens.request_idr(message.integer("permit"))
            case MessageKind.BITRATE:
                self._screens.set_bitrate(message.integer("permit"), message.integer("bits_per_s"))
            case MessageKind.CLOSED:
                # net may notice a permit's own end before our tick does: then that is why it ended.
                self._gate.reconsider()
                self._gate.end(message.integer("permit"), DenialReason.VIEWER_GONE)
            case _:
                log.warning("net sent %s, which it should not", message.kind)

    def _take(self, message: Message) -> None:
        """Work on a message beside the others, or turn it away at once."""
        if self._at_once >= MOST_AT_ONCE or len(message.blob) > MOST_BLOB_BYTES:
            self._net.send(_turned_away(message))
            return
        self._at_once += 1
        self._spawn(self._asked(message))

    async def _asked(self, message: Message) -> None:
        try:
            if message.kind is MessageKind.LINK_IN:
                await self._link_in(message)
            else:
                await self._operation(message)
        finally:
            self._at_once -= 1

    async def _link_in(self, message: Message) -> None:
        agency, number = message.text("agency"), message.integer("id")
        reply = await self._sharing.message(agency, message.blob)
        fields: dict[str, object] = {"agency": agency, "re": number, "silent": reply is None}
        self._net.send(Message(MessageKind.LINK_OUT, fields, reply or b""))

    async def _operation(self, message: Message) -> None:
        self._net.send(await answer(self._operations, message, Door.REMOTE))

    def _status(self) -> dict[str, object]:
        state = self._keeper.state
        charter = state.charter
        now = self._time.now(clock.boot_ns())
        return {
            "version": __version__,
            "device": self._keys.device,
            "paired": charter is not None,
            "household": charter.household if charter else None,
            "charter_version": charter.version if charter else None,
            "owners": [owner.name for owner in charter.owners] if charter else [],
            "agencies": [agency.name for agency in charter.agencies] if charter else [],
            "shutter": str(state.standing.shutter),
            "time": {
                "quality": str(now.quality) if now else str(TimeQuality.UNTRUSTED),
                "utc": times.written((now.earliest_ns + now.latest_ns) // 2) if now else None,
                "bound_ms": (now.latest_ns - now.earliest_ns) // 2_000_000 if now else None,
            },
            "ledger": {
                "size": state.size,
                "durable": self._keeper.durable,
                "trouble": self._keeper.trouble,
                "confirmed_since_boot": state.confirmed_since_boot,
            },
            "rollback": self._witnessing.rollback,
            "witnesses": self._witnessing.status(),
            "net": self._net.connected,
            **self._sharing.waiting.glance(),
            "strangers": self._sharing.strangers,
            "encoders": self._screens.encoders,
            "watching": [
                {
                    "session": session.permit.session,
                    "agency": session.request.agency,
                    "operator": session.request.badge.name,
                    "camera": session.permit.camera,
                    "seconds_left": max(0, session.permit.ends_boot_ns - clock.boot_ns()) // times.SECOND_NS,
                }
                for session in self._gate.sessions()
            ],
            "cameras": self._recording.status(),
        }


def _tls_fingerprint(message: Message) -> str:
    """What core signs of it, and people's own computers hold against it; net says what it likes."""
    text = message.text("tls_fingerprint")
    if not _FINGERPRINT.fullmatch(text):
        raise WireError(f"hello message: field tls_fingerprint (got {text[:80]!r}, expected a fingerprint)")
    return text


def _turned_away(message: Message) -> Message:
    if message.kind is MessageKind.LINK_IN:
        fields: dict[str, object] = {"agency": message.text("agency"), "re": message.integer("id")}
        return Message(MessageKind.LINK_OUT, {**fields, "silent": True})
    error = TransientError("the device has too much to do at once", hint="try again in a moment")
    return Message(MessageKind.REPLY, {"id": message.fields.get("id"), "error": error_to_json(error)})


async def kept_going(
    part: Callable[[], Coroutine[None, None, None]], end_sharing: Callable[[], None]
) -> None:
    """Run a part for ever. A mistake of ours in it ends what is shared, never what is recorded."""
    while True:
        try:
            await part()
        except Exception:
            log.exception("a part of core failed and is started again; nobody sees anything meanwhile")
        end_sharing()
        await asyncio.sleep(RESTART_S)


async def _guarded(work: Coroutine[None, None, None]) -> None:
    """Run what one outside message set off; whatever goes wrong with it, recording goes on."""
    try:
        await work
    except DoorwardError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("a message could not be handled")


def _by_ntp() -> tuple[int, int] | None:
    bound_ns = clock.ntp_error_ns()
    return None if bound_ns is None else (clock.wall_ns(), bound_ns)


def _check_schema(state: Path) -> None:
    """Refuse a state directory of another version, never guess.

    Raises:
        IntegrityError: It was written by another version.
        StorageError: It cannot be read or written.
    """
    path = state / SCHEMA_FILE
    try:
        found = path.read_text(encoding="ascii", errors="replace").strip() if path.exists() else ""
        if not found:
            # Empty is what a power cut made of it: then too nothing else had been written in another form.
            write_whole(path, f"{STATE_SCHEMA}\n".encode("ascii"))
            found = str(STATE_SCHEMA)
    except OSError as error:
        raise StorageError(f"state {state}: {SCHEMA_FILE}: {error.strerror}") from error
    if found != str(STATE_SCHEMA):
        raise IntegrityError(
            f"state {state}: of another version (got schema {found[:20]!r}, expected {STATE_SCHEMA})",
            hint="use the version of doorward that wrote it, or another state directory",
        )


async def serve(config: Config) -> None:
    """Run core until SIGTERM or SIGINT.

    Raises:
        DoorwardError: It cannot start: state, keys or ledger are not usable.
    """
    for directory in (config.state, config.run):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_schema(config.state)
    keys = load_or_make(config.state / "keys")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            core = Core(config, keys, stack, group)
            core.start()
            log.info("core is up (device %s)", short(keys.device))
            await stop.wait()
            await core.stop()
            arguments.end_all_tasks()
    log.info("core has stopped")


def main() -> None:
    """Entry point of the core process."""
    # No core dump ever holds a key. One byte and not none: none would not bind a program that takes dumps.
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    sys.exit(arguments.run("core", serve))


if __name__ == "__main__":
    main()
