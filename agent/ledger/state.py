"""All consent state, as the fold of the ledger. There is no second store.

Entries in order are the only way the state changes: `State.apply` folds in what stands in the ledger at
start, `State.after` says, before anything is written, what the state would be after more. Both run the same
rules and verify every document again, signature and all: an entry that was not made by `agent.core` from a
valid document raises `IntegrityError` at start, so whoever edits the file cannot grant themselves anything;
and one that would do so is never written.

Pure: no I/O, no clock. Mappings are replaced, never changed in place, but for ``seen``, which is only looked
up: the ledger is written from another thread than the one that reads the state.
"""

from __future__ import annotations

from collections import ChainMap
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from agent.consent import acts, charter, handshake, token
from agent.consent.acts import AlarmState, BlockState
from agent.consent.decision import Standing, Usage
from agent.consent.fields import Fields, encode_bytes
from agent.consent.reasons import DenialReason
from agent.consent.times import SECOND_NS, TimeQuality
from agent.errors import DocumentError, IntegrityError, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import cosignature
from agent.ledger.entry import Entry, EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping, Sequence

    from agent.consent.charter import Charter
    from agent.consent.handshake import Request
    from agent.consent.token import Token

LAPSED_KEPT_NS: Final = 24 * 3600 * SECOND_NS


@dataclass(frozen=True, slots=True)
class HeldToken:
    """An accepted token, its envelope, and the entry it stands in."""

    token: Token
    envelope: bytes
    entry: int


@dataclass(frozen=True, slots=True)
class HeldRequest:
    """A request that was recorded, the entry it stands in, and what became of it so far."""

    request: Request
    entry: int
    granted: bool = False
    dismissed: bool = False  # an owner said "not now"


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session whose end is not recorded yet; it is charged in full until it is."""

    start: int
    session: str
    token: str | None
    seconds: int
    agency: str | None


@dataclass(slots=True)
class State:
    """The household's state after ``size`` entries. Read freely; at start only `apply` changes it."""

    size: int = 0
    charter: Charter | None = None
    charter_envelope: bytes = b""
    tokens: dict[str, HeldToken] = field(default_factory=dict)
    requests: dict[str, HeldRequest] = field(default_factory=dict)
    sessions: dict[int, OpenSession] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)
    seen: MutableMapping[bytes, str] = field(default_factory=dict)  # nonce -> id of the document that used it
    confirmed_since_boot: bool = False
    witnessed: dict[str, int] = field(default_factory=dict)  # witness -> the size it last confirmed here
    floor_ns: int = 0  # no time before this is ever true again
    plausible_floor_ns: int = 0  # nor, if NTP alone says so, before this; never below the other

    def apply(self, index: int, entry: Entry) -> None:
        """Fold in the entry at ``index``.

        Raises:
            IntegrityError: It does not follow, or its documents are not what they must be.
        """
        if index != self.size:
            raise IntegrityError(f"ledger: entry {index} does not follow (expected {self.size})")
        try:
            _fold(self, entry)
        except DocumentError as error:
            raise IntegrityError(
                f"ledger: entry {index} ({entry.kind}): {error}",
                hint="the ledger was changed outside doorward; run 'doorward ledger verify'",
            ) from error

    def after(self, entries: Sequence[Entry]) -> State:
        """The state after these entries as well. This one stays as it is, whatever they hold.

        Raises:
            DocumentError: One does not follow from the state; it must not be written.
        """
        following = replace(self, seen=ChainMap({}, self.seen))
        for entry in entries:
            _fold(following, entry)
        return following

    def settle(self, before: State) -> None:
        """Give ``before``'s memory of nonces to this one, which came of it by `after` and is true now."""
        if isinstance(self.seen, ChainMap):
            new = self.seen.maps[0]
            self.seen = before.seen
            self.seen.update(new)

    def need_charter(self) -> Charter:
        """The charter in force.

        Raises:
            DocumentError: There is none: the device is not paired.
        """
        if self.charter is None:
            raise DocumentError("no charter: the device is not paired")
        return self.charter

    def live_tokens(self) -> list[Token]:
        """Accepted tokens, newest first."""
        return [held.token for held in sorted(self.tokens.values(), key=lambda held: -held.entry)]


def body_document(document: bytes, **more: object) -> dict[str, object]:
    """The body of an entry that holds a document verbatim."""
    return {"document": encode_bytes(document), **more}


def _document(entry: Entry) -> bytes:
    return Fields(entry.body, str(entry.kind)).data("document", max_bytes=128 * 1024)


def _fold(state: State, entry: Entry) -> None:
    _RULES.get(entry.kind, _nothing)(state, state.size, entry)
    state.size += 1
    earliest_ns = entry.time.earliest_ns
    if earliest_ns is None:
        return
    if entry.time.quality is TimeQuality.AUTHENTICATED:
        # It also mends what NTP, which anybody in the network can be, may have said too late.
        state.floor_ns = state.plausible_floor_ns = max(state.floor_ns, earliest_ns)
    elif entry.time.quality is TimeQuality.PLAUSIBLE:
        state.plausible_floor_ns = max(state.plausible_floor_ns, earliest_ns)


def _nothing(_state: State, _index: int, _entry: Entry) -> None:
    """Entries that record something and change no state."""


def _boot(state: State, _index: int, _entry: Entry) -> None:
    state.confirmed_since_boot = False


def _confirmed(state: State, index: int, entry: Entry) -> None:
    if "note" in entry.body:
        _confirmed_by_witness(state, index, entry)
    state.confirmed_since_boot = True


def _confirmed_by_witness(state: State, index: int, entry: Entry) -> None:
    """A witness's word stands in the entry as it gave it. That the root is ours is for the tree to say."""
    fields = Fields(entry.body, "confirmed")
    by, size = fields.key_id("by"), fields.integer("size", 1, index)
    note = fields.multiline("note", max_chars=checkpoints.MAX_CHARS)
    charter = state.need_charter()
    witness = charter.witness(by)
    if witness is None:
        raise DocumentError("confirmed by a witness that is not in the charter")
    origin = note.split("\n", 1)[0]
    if origin not in {checkpoints.origin_of(device.key_id) for device in charter.devices}:
        raise DocumentError("confirmed by a witness of another ledger")
    try:
        said = cosignature.verify(note, origin, witness.name, witness.key)
    except ProofError as error:
        raise DocumentError(f"confirmed by a witness that did not ({error})") from error
    if said.checkpoint.size != size:
        raise DocumentError("confirmed by a witness at another size")
    state.witnessed = {**state.witnessed, by: size}


def _paired(state: State, _index: int, entry: Entry) -> None:
    if state.charter is not None:
        raise DocumentError("paired a second time")
    state.charter_envelope = _document(entry)
    state.charter = charter.verify_genesis(state.charter_envelope)


def _charter(state: State, _index: int, entry: Entry) -> None:
    data = _document(entry)
    state.charter = charter.verify_next(data, state.need_charter())
    state.charter_envelope = data
    # What a removed owner signed no longer reaches the threshold: such tokens go with them.
    kept = {}
    for name, held in state.tokens.items():
        try:
            token.verify(held.envelope, state.charter)
        except DocumentError:
            continue
        kept[name] = held
    state.tokens = kept


def _token(state: State, index: int, entry: Entry) -> None:
    data = _document(entry)
    granted = token.verify(data, state.need_charter())
    state.tokens = {**state.tokens, granted.id: HeldToken(granted, data, index)}
    _remember(state, granted.nonce, granted.id)


def _revocation(state: State, _index: int, entry: Entry) -> None:
    revocation = token.verify_revocation(_document(entry), state.need_charter())
    standing = state.standing
    epoch = standing.epoch
    if revocation.token is not None:
        state.standing = replace(standing, revoked=standing.revoked | {revocation.token})
        return
    epoch += 1
    if revocation.agency is not None:
        floors = {**standing.agency_floors, revocation.agency: epoch}
        state.standing = replace(standing, epoch=epoch, agency_floors=floors)
    else:
        state.standing = replace(standing, epoch=epoch, floor=epoch)


def _shutter(state: State, _index: int, entry: Entry) -> None:
    shutter = acts.verify_shutter(_document(entry), state.need_charter())
    _remember(state, shutter.nonce, shutter.id)
    state.standing = replace(state.standing, shutter=shutter.state)


def _alarm(state: State, _index: int, entry: Entry) -> None:
    """Counted from the earliest moment it can have been raised, so never longer than the charter says."""
    current = state.need_charter()
    alarm = acts.verify_alarm(_document(entry), current)
    _remember(state, alarm.nonce, alarm.id)
    until_ns = 0
    if alarm.state is AlarmState.RAISED and entry.time.earliest_ns is not None:
        until_ns = entry.time.earliest_ns + current.alarm_max_seconds * SECOND_NS
    state.standing = replace(state.standing, alarm_until_ns=until_ns)


def _blocked(state: State, _index: int, entry: Entry) -> None:
    block = acts.verify_block(_document(entry), state.need_charter())
    _remember(state, block.nonce, block.id)
    others = state.standing.blocked - {block.agency}
    blocked = others | {block.agency} if block.state is BlockState.BLOCKED else others
    state.standing = replace(state.standing, blocked=blocked)


def _request(state: State, index: int, entry: Entry) -> None:
    fields = Fields(entry.body, "request")
    agency = state.need_charter().agency(fields.key_id("agency"))
    if agency is None:
        raise DocumentError("request of an agency that is not in the charter")
    request = handshake.verify_request(fields.data("document", max_bytes=128 * 1024), agency)
    # A request that has lapsed can never be granted again; only its nonce is kept. It stays for a day, for
    # its agency to be told.
    kept = {
        name: held
        for name, held in state.requests.items()
        if held.request.expires_at_ns + LAPSED_KEPT_NS > state.plausible_floor_ns
    }
    state.requests = {**kept, request.id: HeldRequest(request, index)}
    _remember(state, request.nonce, request.id)


def _dismissed(state: State, _index: int, entry: Entry) -> None:
    dismissal = acts.verify_dismissal(_document(entry), state.need_charter())
    _remember(state, dismissal.nonce, dismissal.id)
    held = state.requests.get(dismissal.request)
    if held is None:
        raise DocumentError("dismissal of a request that is not held")
    state.requests = {**state.requests, dismissal.request: replace(held, dismissed=True)}


def _decision(state: State, _index: int, entry: Entry) -> None:
    """Of decisions on requests the state keeps who was granted; one that lapsed is gone for good."""
    name, reason = entry.body.get("request"), entry.body.get("reason")
    held = state.requests.get(name) if isinstance(name, str) else None
    if held is None:
        return
    if reason == "granted":
        state.requests = {**state.requests, held.request.id: replace(held, granted=True)}
    elif reason == DenialReason.LAPSED:
        state.requests = {other: each for other, each in state.requests.items() if other != name}


def _session_start(state: State, index: int, entry: Entry) -> None:
    fields = Fields(entry.body, "session-start")
    used = fields.key_id("token") if fields.has("token") else None
    seconds = fields.integer("seconds", 0, 2**31)
    session = fields.text("session", max_chars=40)
    agency = fields.key_id("agency") if fields.has("agency") else None
    if fields.has("nonce"):
        nonce = fields.fixed("nonce", token.NONCE_BYTES)
        _remember(state, nonce, fields.key_id("offer_id"))
    if used is not None:
        if used not in state.tokens:
            raise DocumentError("session under a token that was never accepted")
        _charge(state, used, sessions=1, seconds=seconds)
    state.sessions = {**state.sessions, index: OpenSession(index, session, used, seconds, agency)}


def _session_end(state: State, _index: int, entry: Entry) -> None:
    fields = Fields(entry.body, "session-end")
    start = fields.integer("start", 0, 2**53 - 1)
    session = state.sessions.get(start)
    if session is None:
        raise DocumentError("end of a session that is not open")
    state.sessions = {name: held for name, held in state.sessions.items() if name != start}
    used = fields.integer("seconds", 0, session.seconds)
    if session.token is not None:
        _charge(state, session.token, sessions=0, seconds=used - session.seconds)


def _charge(state: State, name: str, *, sessions: int, seconds: int) -> None:
    usage = state.standing.usage.get(name, Usage())
    charged = Usage(usage.sessions + sessions, usage.seconds + seconds)
    state.standing = replace(state.standing, usage={**state.standing.usage, name: charged})


def _remember(state: State, nonce: bytes, document: str) -> None:
    if nonce in state.seen:
        raise DocumentError("its nonce has been used before")
    state.seen[nonce] = document


_RULES: dict[EntryKind, Callable[[State, int, Entry], None]] = {
    EntryKind.BOOT: _boot,
    EntryKind.CONFIRMED: _confirmed,
    EntryKind.PAIRED: _paired,
    EntryKind.CHARTER: _charter,
    EntryKind.TOKEN: _token,
    EntryKind.REVOCATION: _revocation,
    EntryKind.SHUTTER: _shutter,
    EntryKind.ALARM: _alarm,
    EntryKind.BLOCKED: _blocked,
    EntryKind.REQUEST: _request,
    EntryKind.DECISION: _decision,
    EntryKind.DISMISSED: _dismissed,
    EntryKind.SESSION_START: _session_start,
    EntryKind.SESSION_END: _session_end,
}
