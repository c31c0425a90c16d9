"""core's side of both doors: what each operation does. Knows the parts, decides nothing."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

from agent.consent import envelope, strict_json, times
from agent.consent.acts import Descriptor
from agent.consent.decision import Grant
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes
from agent.errors import Refused
from agent.operations import NEEDS, Call, Door, Needs, Operation, Reply
from agent.owners import challenge_json
from agent.pairing import LIFETIME_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from agent.archive.names import StoredSegment
    from agent.archive.reading import ArchiveReader
    from agent.challenges import Challenges
    from agent.consent.acts import Read
    from agent.consent.charter import Charter
    from agent.consent.decision import Standing
    from agent.device_keys import DeviceKeys
    from agent.gate import Gate
    from agent.ledger.keeper import Keeper
    from agent.ledger.state import HeldRequest, HeldToken
    from agent.owners import Owners
    from agent.pairing import PairingCodes
    from agent.reads import Handles
    from agent.sharing import Sharing

CHUNK_BYTES: Final = 1024 * 1024
MOST_ENTRIES: Final = 200
MOST_SEGMENTS: Final = 5000
"""What fits a frame of the seam, and 14 hours of one camera."""

LIST_BYTES: Final = 384 * 1024
"""Of a list of requests or consents, likewise: agencies choose how many requests there are, and how long."""


class CoreOperations:
    """Performs operations (`agent.operations.Operations`)."""

    def __init__(
        self,
        keeper: Keeper,
        gate: Gate,
        owners: Owners,
        sharing: Sharing,
        keys: DeviceKeys,
        challenges: Challenges,
        codes: PairingCodes,
        handles: Handles,
        archives: Mapping[str, ArchiveReader],
        *,
        status: Callable[[], dict[str, object]],
        tls_fingerprint: Callable[[], str | None],
        origin: str,
        cosigned: Callable[[], str | None],
    ) -> None:
        self._keeper = keeper
        self._gate = gate
        self._owners = owners
        self._sharing = sharing
        self._keys = keys
        self._challenges = challenges
        self._codes = codes
        self._handles = handles
        self._archives = archives
        self._status = status
        self._tls_fingerprint = tls_fingerprint
        self._origin = origin
        self._cosigned = cosigned
        self._perform: Mapping[Operation, Callable[[Fields, Call], Awaitable[Reply]]] = {
            Operation.DEVICE: self._device,
            Operation.CHALLENGE: self._challenge,
            Operation.NEW_CODE: self._new_code,
            Operation.PAIR: self._pair,
            Operation.ACT: self._act,
            Operation.SESSION: self._session,
            Operation.STATUS: self._say_status,
            Operation.CHARTER: self._charter,
            Operation.REQUESTS: self._requests,
            Operation.CONSENTS: self._consents,
            Operation.CONSENT: self._consent,
            Operation.EXPLAIN: self._explain,
            Operation.ENTRIES: self._entries,
            Operation.CHECKPOINT: self._checkpoint,
            Operation.RECEIPT: self._receipt,
            Operation.CONSISTENCY: self._consistency,
            Operation.ARCHIVE: self._archive,
            Operation.READ: self._read,
            Operation.SEGMENT: self._segment,
        }

    async def perform(self, call: Call) -> Reply:
        """Do it; see `agent.operations.Operations`."""
        needs = NEEDS[call.operation]
        if call.door is Door.REMOTE:
            if needs is Needs.BOX:
                raise Refused(
                    f"{call.operation}: only at the box itself",
                    reason="not-local",
                    hint="run the command on the device",
                )
            if needs is Needs.READER:
                self._handles.get(call.handle)
        fields = Fields(call.args, str(call.operation))
        return await self._perform[call.operation](fields, call)

    # The device

    async def _device(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        charter = self._keeper.state.charter
        descriptor = Descriptor(
            device=self._keys.device,
            signing=self._keys.signing_public,
            seal=self._keys.seal_public,
            tls_fingerprint=self._tls_fingerprint(),
            household=charter.household if charter else None,
            charter_version=charter.version if charter else None,
        )
        signed = envelope.sign(PayloadType.DESCRIPTOR, descriptor.payload(), [self._keys.signing])
        return Reply({"paired": charter is not None, "cameras": sorted(self._archives)}, signed)

    async def _challenge(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        return Reply(challenge_json(self._challenges.issue()))

    async def _new_code(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        if self._keeper.state.charter is not None:
            raise Refused("this device belongs to a household already", reason="paired")
        return Reply({"code": self._codes.new(), "seconds": LIFETIME_S})

    async def _pair(self, fields: Fields, call: Call) -> Reply:
        fields.done()
        return Reply({}, await self._owners.pair(call.blob))

    async def _act(self, fields: Fields, call: Call) -> Reply:
        fields.done()
        acknowledgement = await self._owners.act(call.blob)
        await self._sharing.owners_acted()
        return Reply({}, acknowledgement)

    async def _session(self, fields: Fields, call: Call) -> Reply:
        """An owner's act that brings nothing: who signed it may read for a while."""
        fields.done()
        acknowledgement = await self._owners.act(call.blob)
        await self._sharing.owners_acted()
        return Reply({"handle": self._handles.give("", frozenset())}, acknowledgement)

    async def _say_status(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        return Reply(self._status())

    # Consent

    async def _charter(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        charter = self._keeper.state.charter
        if charter is None:
            raise Refused("this device is not paired", reason="unpaired", hint="doorward pair --code CODE")
        return Reply({"version": charter.version, "id": charter.id}, self._keeper.state.charter_envelope)

    async def _requests(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        state = self._keeper.state
        newest = sorted(state.requests.values(), key=lambda held: -held.entry)
        found = (self._request_json(held, state.charter) for held in newest)
        return Reply({"requests": _fitting(found), "watching": self._watching()})

    def _request_json(self, held: HeldRequest, charter: Charter | None) -> dict[str, object]:
        request = held.request
        agency = charter.agency(request.agency) if charter else None
        standing = self._sharing.waiting.standing(held)
        return {
            "id": request.id,
            "entry": held.entry,
            "agency": request.agency,
            "agency_name": agency.name if agency else "",
            "operator": request.badge.name,
            "badge": request.badge.number,
            "camera": request.camera,
            "mode": str(request.mode),
            "purpose": request.purpose.to_json(),
            "areas": list(request.areas),
            "seconds": request.seconds,
            "max_height": request.max_height,
            "max_fps": request.max_fps,
            "footage": request.footage.to_json() if request.footage else None,
            "issued_at": times.written(request.issued_at_ns),
            "expires_at": times.written(request.expires_at_ns),
            "lapses_in_s": standing.lapses_in_s,
            "standing": standing.word,
            "decision": standing.decision,
        }

    def _watching(self) -> list[object]:
        """Who sees something at this moment, and under which consent."""
        charter = self._keeper.state.charter
        found: list[object] = []
        for session in self._gate.sessions():
            agency = charter.agency(session.request.agency) if charter else None
            found.append(
                {
                    "session": session.permit.session,
                    "token": session.token,
                    "agency": session.request.agency,
                    "agency_name": agency.name if agency else "",
                    "operator": session.request.badge.name,
                    "badge": session.request.badge.number,
                    "camera": session.permit.camera,
                    "reference": session.request.purpose.reference,
                    "seconds_left": self._gate.seconds_left(session),
                }
            )
        return found

    async def _consents(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        state = self._keeper.state
        standing = state.standing
        newest = sorted(state.tokens.values(), key=lambda held: -held.entry)
        tokens = (self._consent_json(held, standing) for held in newest)
        alarm_ns = standing.alarm_until_ns
        return Reply(
            {
                "tokens": _fitting(tokens),
                "epoch": standing.epoch,
                "shutter": str(standing.shutter),
                "blocked": sorted(standing.blocked),
                "alarm_until": times.written(alarm_ns) if alarm_ns else None,
                "redactions": sorted(str(each) for each in self._gate.redactions()),
            }
        )

    def _consent_json(self, held: HeldToken, standing: Standing) -> dict[str, object]:
        token = held.token
        usage = standing.usage.get(token.id)
        floor = max(standing.floor, standing.agency_floors.get(token.agency, 0))
        return {
            "id": token.id,
            "entry": held.entry,
            "agency": token.agency,
            "purpose": token.purpose.to_json(),
            "scope": token.scope.to_json(),
            "revoked": token.id in standing.revoked or token.epoch < floor,
            "sessions_used": usage.sessions if usage else 0,
            "seconds_used": usage.seconds if usage else 0,
            "watching": sum(1 for each in self._gate.sessions() if each.token == token.id),
        }

    async def _consent(self, fields: Fields, _call: Call) -> Reply:
        name = fields.key_id("id")
        fields.done()
        held = self._keeper.state.tokens.get(name)
        if held is None:
            raise Refused(f"no consent {name[:19]}…", reason="unknown", hint="doorward consent list")
        return Reply({"entry": held.entry}, held.envelope)

    async def _explain(self, fields: Fields, _call: Call) -> Reply:
        name = fields.key_id("request")
        fields.done()
        held = self._keeper.state.requests.get(name)
        if held is None:
            raise Refused(f"no request {name[:19]}…", reason="unknown", hint="doorward consent requests")
        decision, steps = self._gate.explain(held.request)
        return Reply(
            {
                "decision": "granted" if isinstance(decision, Grant) else str(decision.reason),
                "steps": [
                    {
                        "rule": step.rule,
                        "holds": step.holds,
                        "reason": str(step.reason) if step.reason else None,
                        "subject": step.subject,
                    }
                    for step in steps
                ],
            }
        )

    # Ledger

    async def _entries(self, fields: Fields, _call: Call) -> Reply:
        start = fields.integer("start", 0, 2**53 - 1)
        count = fields.integer("count", 1, MOST_ENTRIES)
        fields.done()
        log = self._keeper.log
        found: list[object] = []
        total = 0
        for index in range(start, min(start + count, log.size)):
            raw = log.raw(index)
            total += len(raw)
            if total > CHUNK_BYTES // 4 and found:
                break
            found.append({"index": index, "entry": encode_bytes(raw)})
        return Reply({"entries": found, "size": log.size})

    async def _checkpoint(self, fields: Fields, _call: Call) -> Reply:
        fields.done()
        note = self._keeper.log.checkpoint()
        return Reply({"checkpoint": note, "origin": self._origin, "cosigned": self._cosigned()})

    async def _receipt(self, fields: Fields, _call: Call) -> Reply:
        index = fields.integer("index", 0, 2**53 - 1)
        fields.done()
        self._within(index + 1)
        return Reply({"origin": self._origin}, self._keeper.log.receipt(index).to_json())

    async def _consistency(self, fields: Fields, _call: Call) -> Reply:
        old = fields.integer("old", 1, 2**53 - 1)
        fields.done()
        self._within(old)
        checkpoint, proof = self._keeper.log.checkpoint_after(old)
        return Reply(
            {
                "proof": [encode_bytes(each) for each in proof],
                "checkpoint": checkpoint,
                "origin": self._origin,
            }
        )

    def _within(self, size: int) -> None:
        held = self._keeper.log.size
        if size > held:
            raise Refused(f"the ledger has {held} entries (asked for number {size - 1})", reason="unknown")

    # Archive

    async def _archive(self, fields: Fields, _call: Call) -> Reply:
        camera, begin_ns, end_ns = _interval(fields)
        fields.done()
        segments = self._reader(camera).list(begin_ns, end_ns)
        listed = [_segment_json(each) for each in segments[:MOST_SEGMENTS]]
        return Reply({"camera": camera, "segments": listed, "more": len(segments) > MOST_SEGMENTS})

    async def _read(self, fields: Fields, call: Call) -> Reply:
        fields.done()
        read = await self._owners.read(call.blob, may=self._wanted)
        segments = self._wanted(read)
        handle = self._handles.give(read.camera, frozenset(each.sequence for each in segments))
        return Reply({"handle": handle, "segments": [_segment_json(each) for each in segments]})

    def _wanted(self, read: Read) -> Sequence[StoredSegment]:
        """What a read is about, if there is such a camera and it is not too much."""
        segments = self._reader(read.camera).list(read.from_ns, read.to_ns)
        if len(segments) > MOST_SEGMENTS:
            raise Refused(
                f"read: too much at once (got {len(segments)} segments, expected at most {MOST_SEGMENTS})",
                reason="too-much",
                hint="ask for less than half a day at a time",
            )
        return segments

    async def _segment(self, fields: Fields, call: Call) -> Reply:
        # At the local door it stands among the arguments; the remote door has a place of its own for it.
        named = fields.text("handle", max_chars=64) if fields.has("handle") else call.handle
        handle = self._handles.get(named)
        sequence = fields.integer("sequence", 0, 2**53 - 1)
        offset = fields.integer("offset", 0, 2**53 - 1)
        fields.done()
        if sequence not in handle.sequences:
            raise Refused(f"segment {sequence}: not part of this read", reason="unknown")
        reader = self._reader(handle.camera)
        size, data = await asyncio.to_thread(_read_part, reader, sequence, offset)
        return Reply({"size": size}, data)

    def _reader(self, camera: str) -> ArchiveReader:
        reader = self._archives.get(camera)
        if reader is None:
            known = ", ".join(sorted(self._archives))
            raise Refused(f"no camera {camera} (there is {known})", reason="unknown")
        return reader


def _fitting(newest: Iterable[dict[str, object]]) -> list[object]:
    """As many of the newest as one reply holds, oldest first."""
    found: list[object] = []
    left = LIST_BYTES
    for each in newest:
        left -= len(strict_json.dumps(each)) + 1
        if left < 0:
            break
        found.append(each)
    return found[::-1]


def _interval(fields: Fields) -> tuple[str, int | None, int | None]:
    camera = fields.name("camera")
    begin_ns = fields.time("begin") if fields.has("begin") else None
    end_ns = fields.time("end") if fields.has("end") else None
    return camera, begin_ns, end_ns


def _segment_json(segment: StoredSegment) -> dict[str, object]:
    start = segment.start_utc_ns
    return {
        "sequence": segment.sequence,
        "start_ms": start // 1_000_000 if start is not None else None,
        "duration_ms": segment.duration_ns // 1_000_000,
        "bytes": segment.bytes,
    }


def _read_part(reader: ArchiveReader, sequence: int, offset: int) -> tuple[int, bytes]:
    descriptor = reader.open_for_reading(sequence)
    try:
        return os.fstat(descriptor).st_size, os.pread(descriptor, CHUNK_BYTES, offset)
    finally:
        os.close(descriptor)
