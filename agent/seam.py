"""Frames between our own processes: core and net on the seam, core and the CLI at the local door.

On the wire: 4-byte big-endian length of the rest, 4-byte length of the header, the header (strict JSON
``{"kind": …, …fields}``), then raw bytes, ``blob``. A Unix stream socket carries them: an encoded picture can
exceed a datagram. Everything is bounded; a broken frame ends the connection, since nothing after it can be
trusted to start where it should.

The kinds and who sends them:

===================  ==============  ==============================================================
kind                 from            fields; blob
===================  ==============  ==============================================================
``operation``        CLI, net        id, name, args; blob as the operation says
``reply``            core            id, result | error; blob
``hello``            net             pid
``settings``         core            what net may know: device, agencies, post, ICE policy
``link-in``          net             id, agency; sealed message
``link-out``         core            agency, re (id of the link-in, or null); sealed message
``open``             core            permit, ends_boot_ns, ice; SDP offer
``answer``           net             permit; SDP answer
``answer-failed``    net             permit, why
``unit``             core            permits, key, pts_90k, t_boot_ns; one access unit, Annex B
``close``            core            permit
``closed``           net             permit, why, frames, bytes, last_boot_ns: acknowledges close, or reports
                                     that the viewer went by itself; no packet leaves after it is sent
``idr``              net             permit: a viewer lost the picture
``bitrate``          net             permit, bits_per_s: what receivers say they can take
``witness-out``      core            number, url; the body of an add-checkpoint request
``witness-in``       net             number, status (0: nobody answered), why; the answer's body
===================  ==============  ==============================================================
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from agent.consent import strict_json
from agent.consent.fields import show
from agent.errors import DocumentError, WireError

if TYPE_CHECKING:
    import asyncio
    import socket

MAX_HEADER_BYTES: Final = 512 * 1024
MAX_FRAME_BYTES: Final = 8 * 1024 * 1024
MAX_INTEGER: Final = 2**63 - 1
_LENGTHS: Final = struct.Struct(">II")


class MessageKind(StrEnum):
    """What a frame says; see the table above."""

    OPERATION = "operation"
    REPLY = "reply"
    HELLO = "hello"
    SETTINGS = "settings"
    LINK_IN = "link-in"
    LINK_OUT = "link-out"
    OPEN = "open"
    ANSWER = "answer"
    ANSWER_FAILED = "answer-failed"
    UNIT = "unit"
    CLOSE = "close"
    CLOSED = "closed"
    IDR = "idr"
    BITRATE = "bitrate"
    WITNESS_OUT = "witness-out"
    WITNESS_IN = "witness-in"


@dataclass(frozen=True, slots=True)
class Message:
    """One frame: a kind, its fields (strict JSON values) and raw bytes."""

    kind: MessageKind
    fields: dict[str, object] = field(default_factory=dict)
    blob: bytes = b""

    def text(self, name: str) -> str:
        """The text field ``name``.

        Raises:
            WireError: It is missing or no text.
        """
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise WireError(f"{self.kind} message: field {name} (got {show(value)}, expected text)")
        return value

    def integer(self, name: str) -> int:
        """The integer field ``name``.

        Raises:
            WireError: It is missing or no integer.
        """
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise WireError(f"{self.kind} message: field {name} (got {show(value)}, expected an integer)")
        return value


@dataclass(frozen=True, slots=True)
class Unit:
    """One encoded access unit of a shared view and the permits it may go to, checked on both sides."""

    permits: tuple[int, ...]
    key: bool
    pts_90k: int
    t_boot_ns: int
    annexb: bytes

    def to_message(self) -> Message:
        """As it crosses the seam."""
        fields: dict[str, object] = {
            "permits": list(self.permits),
            "key": self.key,
            "pts_90k": self.pts_90k,
            "t_boot_ns": self.t_boot_ns,
        }
        return Message(MessageKind.UNIT, fields, self.annexb)

    def to(self, permits: tuple[int, ...]) -> Unit:
        """The same unit for these permits."""
        return replace(self, permits=permits)

    @classmethod
    def from_message(cls, message: Message) -> Unit:
        """Read what `to_message` wrote.

        Raises:
            WireError: A field is missing or of the wrong type.
        """
        permits = message.fields.get("permits")
        key = message.fields.get("key")
        if not isinstance(permits, list) or not all(type(number) is int for number in permits):
            raise WireError("unit message: field permits (expected a list of integers)")
        if not isinstance(key, bool):
            raise WireError("unit message: field key (expected true or false)")
        return cls(
            tuple(permits), key, message.integer("pts_90k"), message.integer("t_boot_ns"), message.blob
        )


def encode(message: Message) -> bytes:
    """The bytes of one frame.

    Raises:
        WireError: Larger than `MAX_FRAME_BYTES`.
    """
    header = strict_json.dumps({"kind": str(message.kind), **message.fields})
    length = 4 + len(header) + len(message.blob)
    if length > MAX_FRAME_BYTES or len(header) > MAX_HEADER_BYTES:
        raise WireError(f"{message.kind} message: too large (got {length} bytes)")
    return _LENGTHS.pack(length, len(header)) + header + message.blob


def _decode(header: bytes, blob: bytes) -> Message:
    try:
        fields = strict_json.loads(header, limit=MAX_HEADER_BYTES, largest=MAX_INTEGER)
    except DocumentError as error:
        raise WireError(f"frame: {error}") from error
    if not isinstance(fields, dict):
        raise WireError("frame: header is no object")
    name = fields.pop("kind", None)
    try:
        kind = MessageKind(str(name))
    except ValueError as error:
        raise WireError(f"frame: unknown kind {show(name)}") from error
    return Message(kind, fields, blob)


def _check_lengths(lengths: bytes) -> tuple[int, int]:
    total, header = _LENGTHS.unpack(lengths)
    if header > MAX_HEADER_BYTES or total > MAX_FRAME_BYTES or header + 4 > total:
        raise WireError(f"frame: impossible lengths (got {total} and {header})")
    return total, header


async def read(reader: asyncio.StreamReader) -> Message | None:
    """The next frame, or None when the other side has closed between two frames.

    Raises:
        WireError: A broken frame, or the connection ended inside one.
    """
    lengths = await reader.read(_LENGTHS.size)
    if not lengths:
        return None
    try:
        if len(lengths) < _LENGTHS.size:
            lengths += await reader.readexactly(_LENGTHS.size - len(lengths))
        total, header_length = _check_lengths(lengths)
        rest = await reader.readexactly(total - 4)
    except EOFError as error:
        raise WireError("frame: the connection ended inside it") from error
    return _decode(rest[:header_length], rest[header_length:])


def read_blocking(connection: socket.socket) -> Message | None:
    """As `read`, for a plain blocking socket (the CLI)."""
    lengths = _receive(connection, _LENGTHS.size, may_end=True)
    if not lengths:
        return None
    total, header_length = _check_lengths(lengths)
    rest = _receive(connection, total - 4, may_end=False)
    return _decode(rest[:header_length], rest[header_length:])


def _receive(connection: socket.socket, count: int, *, may_end: bool) -> bytes:
    data = bytearray()
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            if may_end and not data:
                return b""
            raise WireError("frame: the connection ended inside it")
        data += piece
    return bytes(data)
