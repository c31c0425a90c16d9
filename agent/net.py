"""net: the process with aiortc, MQTT and HTTP and their TLS keys, and no camera, other key or archive.

The composition root of its side. What it knows of the household is what core's ``settings`` message says. If
core goes, every viewer goes with it, and this process ends: whoever supervises it starts another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, Final

from agent import arguments, seam
from agent.console.api import application
from agent.console.outbox import Outbox
from agent.console.tls import LanTls, lan_tls
from agent.errors import DoorwardError, MalformedInput, Unreachable, WireError
from agent.link.mqtt import MqttDeviceLink
from agent.link.post_settings import MqttSettings
from agent.link.witness_post import post
from agent.operations import error_from_json
from agent.seam import Message, MessageKind
from agent.serving import serving
from agent.streaming.sessions import Sessions

if TYPE_CHECKING:
    from agent.config import Config

log = logging.getLogger(__name__)
CORE_S: Final = 20.0
"""How long to wait for core at start."""

REPLY_S: Final = 60.0


class Net:
    """All parts of net, wired to core."""

    def __init__(
        self,
        config: Config,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tls: LanTls,
        device: str,
    ) -> None:
        self._config = config
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._device = device
        self._agencies: frozenset[str] = frozenset()
        self._number = 0
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._outbox = Outbox()
        self._sessions = Sessions(
            send=self._send, ice_addresses=config.ice_addresses, max_viewers=config.max_viewers
        )
        self._post_settings: tuple[str, int] | None = None
        self._post: MqttDeviceLink | None = None
        self._post_task: asyncio.Task[None] | None = None

    async def run(self, settings: Message) -> None:
        """Serve until core goes; ``settings`` is what core said first.

        Raises:
            ConfigError: The HTTPS door's port is not to be had.
        """
        app = application(
            operations=self._operate,
            submit=self._submit,
            agencies=lambda: self._agencies,
            outbox=self._outbox,
        )
        async with (
            serving(app, host=self._config.listen, port=self._config.port, tls=self._tls.context) as address,
            asyncio.TaskGroup() as group,
        ):
            log.info("HTTPS door on %s port %d", *address)
            sessions = group.create_task(self._sessions.run())
            try:
                self._settings(settings, group)
                await self._serve_core(group)
            finally:
                self._sessions.close_all()
                sessions.cancel()
                if self._post_task:
                    self._post_task.cancel()
                for future in self._replies.values():
                    if not future.done():
                        future.cancel()

    def _send(self, message: Message) -> None:
        self._writer.write(seam.encode(message))

    async def _serve_core(self, group: asyncio.TaskGroup) -> None:
        while (message := await seam.read(self._reader)) is not None:
            match message.kind:
                case MessageKind.OPEN | MessageKind.CLOSE | MessageKind.UNIT:
                    self._sessions.handle(message)
                case MessageKind.REPLY:
                    self._resolve(message.integer("id"), message)
                case MessageKind.LINK_OUT:
                    self._link_out(message, group)
                case MessageKind.SETTINGS:
                    self._settings(message, group)
                case MessageKind.WITNESS_OUT:
                    group.create_task(self._to_witness(message))
                case _:
                    raise WireError(f"core sent {message.kind}, which net does not know")

    # To core and back

    async def _ask(self, message: Message) -> Message:
        """Send a message with an id of its own and wait for what answers it."""
        self._number += 1
        number = self._number
        future = self._replies[number] = asyncio.get_running_loop().create_future()
        self._send(Message(message.kind, {**message.fields, "id": number}, message.blob))
        try:
            return await asyncio.wait_for(future, REPLY_S)
        except TimeoutError as error:
            raise Unreachable("core does not answer") from error
        finally:
            del self._replies[number]

    def _resolve(self, number: int, message: Message) -> None:
        future = self._replies.get(number)
        if future is not None and not future.done():
            future.set_result(message)

    async def _operate(
        self, name: str, args: dict[str, object], blob: bytes
    ) -> tuple[dict[str, object], bytes]:
        """An operation of the HTTPS door, forwarded."""
        rest = {key: value for key, value in args.items() if key != "handle"}
        fields: dict[str, object] = {"name": name, "args": rest, "handle": args.get("handle")}
        reply = await self._ask(Message(MessageKind.OPERATION, fields, blob))
        error = reply.fields.get("error")
        if error is not None:
            raise error_from_json(error)
        result = reply.fields.get("result")
        if not isinstance(result, dict):
            raise MalformedInput("core's reply says nothing")
        return result, reply.blob

    async def _submit(self, agency: str, sealed: bytes) -> bytes | None:
        """A sealed message of an agency, forwarded; the sealed reply, or None for silence."""
        reply = await self._ask(Message(MessageKind.LINK_IN, {"agency": agency}, sealed))
        return reply.blob or None

    def _link_out(self, message: Message, group: asyncio.TaskGroup) -> None:
        answered = message.fields.get("re")
        if isinstance(answered, int):
            self._resolve(answered, message)
            return
        agency = message.text("agency")
        self._outbox.put(agency, message.blob)
        if self._post is not None:
            group.create_task(self._publish(self._post, agency, message.blob))

    async def _publish(self, post: MqttDeviceLink, agency: str, sealed: bytes) -> None:
        try:
            await post.publish(agency, sealed)
        except DoorwardError as error:
            log.warning("post: %s", error)

    async def _to_witness(self, message: Message) -> None:
        number = message.integer("number")
        answered = await post(message.text("url"), message.blob)
        fields: dict[str, object] = {"number": number, "status": answered.status, "why": answered.why}
        self._send(Message(MessageKind.WITNESS_IN, fields, answered.body))

    # What core says of the household

    def _settings(self, message: Message, group: asyncio.TaskGroup) -> None:
        agencies = message.fields.get("agencies")
        if not isinstance(agencies, list):
            raise WireError("settings message: field agencies (expected a list)")
        self._agencies = frozenset(str(each) for each in agencies)
        self._outbox.keep(self._agencies)
        post = message.fields.get("post")
        self._set_post(_post_address(post) if post is not None else None, group)
        if self._post is not None:
            self._post.set_agencies(self._agencies)

    def _set_post(self, address: tuple[str, int] | None, group: asyncio.TaskGroup) -> None:
        """Follow the charter to its post; a broker that is away is tried for ever inside the link."""
        if address == self._post_settings:
            return
        self._post_settings = address
        if self._post_task is not None:
            self._post_task.cancel()
            self._post, self._post_task = None, None
        files = self._config.post
        if address is None:
            return
        if files is None:
            log.warning("the charter names a post, but the configuration has no files for it (post: …)")
            return
        try:
            settings = MqttSettings(*address, files.ca, files.certificate, files.key)
            settings.tls_context()
        except DoorwardError as error:
            log.warning("post: %s", error)
            return
        self._post = MqttDeviceLink(settings, self._device, agencies=self._agencies, submit=self._submit)
        self._post_task = group.create_task(self._post.run())


def _post_address(value: object) -> tuple[str, int]:
    if isinstance(value, dict):
        host, port = value.get("host"), value.get("port")
        if isinstance(host, str) and isinstance(port, int):
            return host, port
    raise WireError("settings message: field post (expected host and port)")


async def _connect(config: Config) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = asyncio.get_running_loop().time() + CORE_S
    while True:
        try:
            return await asyncio.open_unix_connection(config.seam)
        except OSError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise Unreachable(f"core is not there (no socket {config.seam})") from error
        await asyncio.sleep(0.1)


async def serve(config: Config) -> None:
    """Run net until core goes or SIGTERM.

    Raises:
        DoorwardError: It cannot start, or core speaks another language.
    """
    config.net_state.mkdir(mode=0o700, parents=True, exist_ok=True)
    reader, writer = await _connect(config)
    try:
        settings = await seam.read(reader)
        if settings is None or settings.kind is not MessageKind.SETTINGS:
            raise Unreachable("core has another net already")
        device = settings.text("device")
        tls = lan_tls(config.net_state, device)
        hello: dict[str, object] = {"pid": os.getpid(), "tls_fingerprint": tls.fingerprint}
        writer.write(seam.encode(Message(MessageKind.HELLO, hello)))
        net = Net(config, reader, writer, tls, device)
        await _until_told(net, settings)
    finally:
        writer.close()


async def _until_told(net: Net, settings: Message) -> None:
    async with asyncio.TaskGroup() as group:
        running = group.create_task(net.run(settings))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
    log.info("net has stopped")


def main() -> None:
    """Entry point of the net process."""
    sys.exit(arguments.run("net", serve))


if __name__ == "__main__":
    main()
