"""The operations behind both doors: core's own socket for people on the box, the HTTPS API for the rest.

Each operation has a name and says what it takes to be heard. Acts are authorised by the signed document they
carry, never by who connects; reads by the local peer's user id, or remotely by a short-lived handle that core
gives for a signed read. Both doors end in the same `Operations.perform`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from agent.errors import (
    DoorwardError,
    IntegrityError,
    MalformedInput,
    Refused,
    StorageError,
    TransientError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Needs(StrEnum):
    """What it takes to be heard."""

    NOTHING = "nothing"  # anybody may ask
    READER = "reader"  # a local peer, or a handle
    BOX = "box"  # a local peer only
    DOCUMENT = "document"  # the signed document in the blob is the authority


class Operation(StrEnum):
    """Names as they stand on the wire."""

    DEVICE = "device"  # -> descriptor in the blob; {paired, pairing}
    CHALLENGE = "challenge"  # -> {challenge}
    NEW_CODE = "new-code"  # -> {code, seconds}
    PAIR = "pair"  # sealed pairing -> acknowledgement
    ACT = "act"  # act -> acknowledgement
    SESSION = "session"  # act without documents -> {handle}; acknowledgement: a remote reader's way in
    STATUS = "status"  # -> everything a person wants to know at a glance
    CHARTER = "charter"  # -> charter envelope; {version, id}
    REQUESTS = "requests"  # -> {requests: […]}
    CONSENTS = "consents"  # -> {tokens: […], epoch}
    CONSENT = "consent"  # {id} -> token envelope
    EXPLAIN = "explain"  # {request} -> {decision, steps}
    ENTRIES = "entries"  # {start, count} -> {entries: […], size}
    CHECKPOINT = "checkpoint"  # -> {checkpoint, origin, cosigned?}
    RECEIPT = "receipt"  # {index} -> receipt
    CONSISTENCY = "consistency"  # {old} -> {proof, checkpoint}
    ARCHIVE = "archive"  # {camera?, begin?, end?} -> {segments: […]}
    READ = "read"  # signed read -> {handle, segments: […]}; ledgered
    SEGMENT = "segment"  # {handle, sequence, offset} -> bytes


NEEDS: Final[Mapping[Operation, Needs]] = {
    Operation.DEVICE: Needs.NOTHING,
    Operation.CHALLENGE: Needs.NOTHING,
    Operation.NEW_CODE: Needs.BOX,
    Operation.PAIR: Needs.DOCUMENT,
    Operation.ACT: Needs.DOCUMENT,
    Operation.SESSION: Needs.DOCUMENT,
    Operation.READ: Needs.DOCUMENT,
    Operation.STATUS: Needs.READER,
    Operation.CHARTER: Needs.READER,
    Operation.REQUESTS: Needs.READER,
    Operation.CONSENTS: Needs.READER,
    Operation.CONSENT: Needs.READER,
    Operation.EXPLAIN: Needs.READER,
    Operation.ENTRIES: Needs.READER,
    Operation.CHECKPOINT: Needs.READER,
    Operation.RECEIPT: Needs.READER,
    Operation.CONSISTENCY: Needs.READER,
    Operation.ARCHIVE: Needs.READER,
    Operation.SEGMENT: Needs.NOTHING,  # the handle in the arguments is the authority
}


class Door(StrEnum):
    """Which way somebody came in."""

    LOCAL = "local"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class Call:
    """One operation asked for. ``handle`` is what a remote reader shows."""

    operation: Operation
    door: Door
    args: dict[str, object] = field(default_factory=dict)
    blob: bytes = b""
    handle: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What an operation gives back: strict-JSON values and bytes."""

    result: dict[str, object] = field(default_factory=dict)
    blob: bytes = b""


class Operations(Protocol):
    """What stands behind both doors."""

    async def perform(self, call: Call) -> Reply:
        """Do it.

        Raises:
            DoorwardError: It was refused or could not be done; the message is fit for whoever asked.
        """


_KINDS: Final[Mapping[str, type[DoorwardError]]] = {
    "malformed": MalformedInput,
    "refused": Refused,
    "integrity": IntegrityError,
    "storage": StorageError,
    "transient": TransientError,
    "failed": DoorwardError,
}


def error_to_json(error: DoorwardError) -> dict[str, object]:
    """An error as it crosses a door: its kind, its line, its hint. Reasons stay inside."""
    kind = next(name for name, each in _KINDS.items() if isinstance(error, each))
    return {"kind": kind, "message": str(error), "hint": error.hint}


def error_from_json(value: object) -> DoorwardError:
    """The error on the other side of a door."""
    if not isinstance(value, dict):
        return DoorwardError("the device answered with an error that says nothing")
    hint = value.get("hint")
    message = str(value.get("message"))
    kind = _KINDS.get(str(value.get("kind")), DoorwardError)
    said = hint if isinstance(hint, str) else None
    if kind is Refused:
        return Refused(message, reason="", hint=said)
    return kind(message, hint=said)
