"""Entries of a ledger, a line each for people: who, what, which camera, for how long.

Says what an entry says. Whether it may be believed is `doorward ledger verify`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.cli import words
from agent.consent import envelope, strict_json
from agent.consent.fields import decode_bytes
from agent.errors import DocumentError
from agent.ledger.entry import EntryKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.consent.charter import Charter
    from agent.ledger.entry import Entry

SHORT: Final = 16


@dataclass(frozen=True, slots=True)
class _Said:
    """What an entry says: its body, and the document that it came by, if any."""

    body: Mapping[str, object]
    document: Mapping[str, object]
    charter: Charter | None

    def agency(self, key_id: object) -> str:
        found = self.charter.agency(str(key_id)) if self.charter else None
        return found.name if found else f"an agency no longer in your charter ({_short(key_id)})"

    def camera(self) -> str:
        return str(self.body.get("camera"))

    def why(self) -> str:
        return words.reason(self.body.get("reason"))


def sentence(entry: Entry, charter: Charter | None) -> str:
    """One line for people; names of agencies are those of ``charter``."""
    say = _SENTENCES.get(entry.kind)
    if say is None:
        return str(entry.kind).replace("-", " ")
    return say(_Said(entry.body, _document(entry.body.get("document")), charter))


def _document(value: object) -> Mapping[str, object]:
    """The payload of a document in base64; empty if it is none."""
    if not isinstance(value, str):
        return {}
    try:
        _, payload = envelope.unverified_payload(decode_bytes(value, "document"))
        found = strict_json.loads(payload, limit=envelope.MAX_BYTES)
    except DocumentError:
        return {}
    return found if isinstance(found, dict) else {}


def _short(key_id: object) -> str:
    return str(key_id).removeprefix("sha256:")[:SHORT]


def _under(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def _listed(value: object) -> str:
    return ", ".join(str(each) for each in value) if isinstance(value, list) else ""


def _confirmed(said: _Said) -> str:
    return "a witness vouched for the ledger" if "note" in said.body else "an owner confirmed the ledger"


def _blocked(said: _Said) -> str:
    return f"{said.agency(said.document.get('agency'))} {said.document.get('state')}"


def _request(said: _Said) -> str:
    document = said.document
    badge = _document(document.get("badge"))
    reference = _under(document.get("purpose"), "reference")
    return (
        f"{said.agency(document.get('agency'))}, {badge.get('name')} ({badge.get('number')}) asked: "
        f"camera {document.get('camera')}, {reference}"
    )


def _decision(said: _Said) -> str:
    return f"request {_short(said.body.get('request'))}: {said.why()}"


def _token(said: _Said) -> str:
    scope = said.document.get("scope")
    areas, cameras = _listed(_under(scope, "areas")), _listed(_under(scope, "cameras"))
    until = words.written_time(_under(scope, "not_after"))
    return f"consent: {said.agency(said.document.get('to'))} may see {areas} of {cameras} until {until}"


def _revocation(said: _Said) -> str:
    if "token" in said.document:
        return f"consent {_short(said.document['token'])} taken back"
    if "agency" in said.document:
        return f"everything given to {said.agency(said.document['agency'])} taken back"
    return "everything given to anybody taken back"


def _session_start(said: _Said) -> str:
    who = said.agency(said.body.get("agency"))
    return f"session {said.body.get('session')} began: {who} sees {said.camera()}"


def _session_end(said: _Said) -> str:
    count = said.body.get("bytes")
    amount = words.size(count) if isinstance(count, int) else "unknown size"
    return f"session of entry {said.body.get('start')} ended ({said.body.get('frames')} pictures, {amount})"


def _archive(said: _Said) -> str:
    segments = said.body.get("segments")
    number = len(segments) if isinstance(segments, list) else 0
    return f"recording of {said.camera()}: {words.count(number, 'segment', 'segments')} committed to"


_SENTENCES: Final[Mapping[EntryKind, Callable[[_Said], str]]] = {
    EntryKind.BOOT: lambda said: f"the device started (doorward {said.body.get('software')})",
    EntryKind.CONFIRMED: _confirmed,
    EntryKind.PAIRED: lambda _: "paired: charter version 1",
    EntryKind.CHARTER: lambda said: f"charter version {said.document.get('version')}",
    EntryKind.TOKEN: _token,
    EntryKind.TOKEN_REFUSED: lambda said: f"a consent was not taken: {said.body.get('why')}",
    EntryKind.REVOCATION: _revocation,
    EntryKind.SHUTTER: lambda said: f"shutter {said.document.get('state')}",
    EntryKind.ALARM: lambda said: f"alarm {said.document.get('state')}",
    EntryKind.BLOCKED: lambda said: (
        f"{said.agency(said.document.get('agency'))} {said.document.get('state')}"
    ),
    EntryKind.DISMISSED: lambda said: (
        f"request {_short(said.document.get('request'))}: an owner said not now"
    ),
    EntryKind.REQUEST: _request,
    EntryKind.DECISION: _decision,
    EntryKind.SESSION_START: _session_start,
    EntryKind.ENDED_BECAUSE: lambda said: f"session of entry {said.body.get('start')} ended: {said.why()}",
    EntryKind.SESSION_END: _session_end,
    EntryKind.GAP: lambda said: f"gap in the recording of {said.camera()}: {said.why()}",
    EntryKind.ARCHIVE: _archive,
    EntryKind.OWNER_READ: lambda said: (
        f"an owner read footage of {said.document.get('camera')}, "
        f"{words.written_time(said.document.get('begin'))} to {words.written_time(said.document.get('end'))}"
    ),
}
