"""Watching: offer, verify the answer, receive until it ends, get the device's receipt of the end.

Nothing is applied, shown or saved before `Conversation.receive` has verified the answer.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.agency.client import FIRST_WORD_S
from agent.agency.conversation import Answered, Decided, Over
from agent.agency.words import granted, hint, not_shown, words
from agent.consent.reasons import AgencyReason
from agent.errors import Refused, StorageError, Unreachable
from agent.streaming.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.agency.client import Line
    from agent.agency.conversation import Conversation
    from agent.agency.identity import Operator
    from agent.agency.introductions import KnownDevice
    from agent.agency.store import RequestRow
    from agent.consent.handshake import Answer, Ended
    from agent.streaming.ice import Ice
    from agent.streaming.receiver import Received

ANSWER_S: Final = 30.0
"""An offer lives no longer."""

END_S: Final = 5.0
"""How long to wait for the device's receipt once the pictures have ended."""

GRACE_S: Final = 5.0
"""So long after a permit's end we leave by ourselves, whatever the device does."""

LEFT: Final = "left"
LOST: Final = "lost"
HUNG_UP: Final = "device"


@dataclass(frozen=True, slots=True)
class Watching:
    """Pictures may come from now on: which session, for how many seconds at most, and its receipt's entry."""

    offer: str
    session: str
    seconds: int
    entry: int


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen and how it ended.

    ``reason`` is an `AgencyReason` word of the device, or ``left`` when we went. Without a word of the device
    it is ``device`` when it hung up and ``lost`` when the connection broke. ``ended`` is None as long as the
    device's receipt of the end has not come.
    """

    request: str
    watching: Watching
    reason: str
    received: Received
    ended: Ended | None
    end_entry: int | None
    file: Path | None

    def to_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "request": self.request,
            "offer": self.watching.offer,
            "session": self.watching.session,
            "reason": self.reason,
            "words": reason_words(self.reason),
            "permit_seconds": self.watching.seconds,
            **self.received.to_json(),
            "device_frames": self.ended.frames if self.ended else None,
            "device_bytes": self.ended.sent_bytes if self.ended else None,
            "device_reason": str(self.ended.status) if self.ended else None,
            "start_entry": self.watching.entry,
            "end_entry": self.end_entry,
            "end_verified": self.ended is not None,
            "file": str(self.file) if self.file else None,
        }


def reason_words(reason: str) -> str:
    """The end of a session in words."""
    if reason == LEFT:
        return "you left"
    if reason == LOST:
        return "connection lost"
    if reason == HUNG_UP:
        return "ended by the device, which has not said why yet"
    return words(AgencyReason(reason))


async def watch(
    line: Line,
    conversation: Conversation,
    operator: Operator,
    device: KnownDevice,
    row: RequestRow,
    *,
    ice: Ice,
    save: Path | None,
    seconds: int | None,
    stop: asyncio.Event,
    told: Callable[[Watching], None],
) -> Watched:
    """Offer, verify the answer, receive until it ends, get the receipt of the end.

    ``row`` is the request, granted; ``save`` an MP4 file to make, which must not exist. Leaves when ``stop``
    is set or after ``seconds`` (None: when the device ends it). ``told`` hears that the answer was verified,
    before the first picture.

    Raises:
        Refused: The device says no; ``reason`` is the `AgencyReason`.
        Unreachable: No answer within the offer's life.
        IntegrityError: An answer that the device signed and that does not hold. Nothing was shown.
        StorageError: The file could not be written.
    """
    if save is not None:
        _reserve(save)
    receiver = Receiver(ice)
    try:
        watching, answer = await _agree(line, conversation, operator, device, row, receiver)
        if save is not None:
            receiver.save(save)
        await receiver.accept((answer.sdp or "").encode())
        told(watching)
        limit_s = watching.seconds + GRACE_S
        why = await _until_end(
            line, device, watching, receiver, stop, min(limit_s, seconds) if seconds else limit_s
        )
    finally:
        await receiver.close()
        file = _kept(save)
    if why not in {LEFT, LOST, HUNG_UP}:
        raise StorageError(why)
    over = await line.wait(device, Over, lambda each: each.offer == watching.offer, END_S)
    return Watched(
        request=row.id,
        watching=watching,
        reason=str(over.ended.status) if over is not None and why != LEFT else why,
        received=receiver.received,
        ended=over.ended if over else None,
        end_entry=over.entry if over else None,
        file=file,
    )


async def _agree(
    line: Line,
    conversation: Conversation,
    operator: Operator,
    device: KnownDevice,
    row: RequestRow,
    receiver: Receiver,
) -> tuple[Watching, Answer]:
    sdp = (await receiver.offer()).decode()
    outgoing = conversation.offer(operator, device, row, sdp)
    await line.send(device, outgoing.sealed)
    answered = await line.wait(device, Answered, lambda each: each.offer == outgoing.id, ANSWER_S)
    if answered is None:
        raise Unreachable(
            f"device {device.name}: no answer to the offer in {ANSWER_S:g} s",
            hint="it may be off line; the grant stays: try again",
        )
    answer = answered.answer
    if answer.status is not AgencyReason.GRANTED or answered.entry is None:
        said, todo = not_shown(answer.status)
        raise Refused(said, reason=str(answer.status), hint=todo)
    return (
        Watching(outgoing.id, answer.session or "", answer.permit_seconds or 0, answered.entry),
        answer,
    )


async def _until_end(
    line: Line,
    device: KnownDevice,
    watching: Watching,
    receiver: Receiver,
    stop: asyncio.Event,
    seconds: float,
) -> str:
    """Wait for the end: `LEFT`, `LOST`, `HUNG_UP`, or what went wrong with the file."""
    async with asyncio.TaskGroup() as group:
        closed = group.create_task(receiver.closed())
        tasks = {
            closed,
            group.create_task(stop.wait()),
            group.create_task(line.stirred(device, Over, lambda each: each.offer == watching.offer)),
        }
        done, waiting = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
    if closed in done:
        return closed.result()
    return LEFT if stop.is_set() or not done else HUNG_UP


def _reserve(path: Path) -> None:
    """Make the file, readable by us alone: what comes into it is somebody's home."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError as error:
        raise Refused(
            f"file {path}: exists already", reason="exists", hint="name another: --save FILE"
        ) from error
    except OSError as error:
        raise StorageError(f"file {path}: {error.strerror}") from error


def _kept(path: Path | None) -> Path | None:
    """The file if there are pictures in it; an empty one is taken away."""
    if path is None or path.stat().st_size:
        return path
    path.unlink()
    return None


async def granted_request(
    line: Line, conversation: Conversation, device: KnownDevice, row: RequestRow, now_ns: int
) -> RequestRow:
    """``row`` as soon as it is granted; waits for a word of the device that may be on its way.

    Raises:
        Refused: It is not granted.
    """
    if row.token is None:
        await line.wait(
            device,
            Decided,
            lambda each: each.request == row.id and each.status is AgencyReason.GRANTED,
            FIRST_WORD_S,
        )
        row = conversation.again(row)
    status = row.status_at(now_ns)
    if row.token is None:
        raise Refused(words(status), reason=str(status), hint=hint(status))
    ends_ns = conversation.token_of(row.token).scope.not_after_ns
    if now_ns >= ends_ns:
        raise Refused(
            granted(ends_ns, 0, now_ns),
            reason=str(AgencyReason.ENDED_EXPIRED),
            hint="ask again: doorward agency ask live …",
        )
    return row
