"""One entry of the ledger: what happened, when, and the documents it happened by.

An entry is written once, as strict JSON of at most `MAX_BYTES`, and its bytes are the leaf of the tree for
ever; nobody writes it anew. Documents stand in its body verbatim, as base64 of the whole envelope. The salt
keeps a leaf's hash from being guessed by somebody who was told only the hash.

::

    {"body": {...}, "kind": "boot", "salt": "<32 hex digits>", "v": 0,
     "time": {"boot": "<32 hex digits>", "t_boot_ns": "123", "earliest_ns": "..." | null, "latest_ns": ...,
              "quality": "authenticated" | "plausible" | "untrusted"}}

Nanoseconds are decimal text: as numbers they would leave the range that JSON readers agree on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agent.consent import strict_json
from agent.consent.fields import Fields
from agent.consent.times import TimeQuality
from agent.errors import DocumentError

MAX_BYTES: Final = 256 * 1024
SALT_BYTES: Final = 16
VERSION: Final = 0
_HEX_32: Final = re.compile(r"[0-9a-f]{32}\Z")
_NANOSECONDS: Final = re.compile(r"(?:0|[1-9][0-9]{0,18})\Z", re.ASCII)


class EntryKind(StrEnum):
    """What happened. The one list: a kind that does not stand here is not read."""

    BOOT = "boot"
    CONFIRMED = "confirmed"
    PAIRED = "paired"
    CHARTER = "charter"
    TOKEN = "token"
    TOKEN_REFUSED = "token-refused"
    REVOCATION = "revocation"
    SHUTTER = "shutter"
    REQUEST = "request"
    DECISION = "decision"
    SESSION_START = "session-start"
    SESSION_END = "session-end"
    ENDED_BECAUSE = "ended-because"
    OWNER_VIEWING = "owner-viewing"
    OWNER_READ = "owner-read"
    ARCHIVE = "archive"
    GAP = "gap"
    CLOCK = "clock"
    BLOCKED = "blocked"
    ALARM = "alarm"
    DISMISSED = "dismissed"


RESTRAINING: Final = frozenset(
    {
        EntryKind.BOOT,
        EntryKind.REVOCATION,
        EntryKind.SHUTTER,
        EntryKind.SESSION_END,
        EntryKind.ENDED_BECAUSE,
        EntryKind.BLOCKED,
    }
)
"""Kinds that may use the space kept back on a full disk: they take permission away, or close a record that
stands open. Boot is among them because everything else of that boot comes after it."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """When: nanoseconds of CLOCK_BOOTTIME under a boot id, and what was known of UTC at that moment.

    ``boot`` is the kernel's boot id as 32 hex digits. The true time lies within ``earliest_ns`` and
    ``latest_ns`` (UTC nanoseconds since 1970); both are None when nothing was known, which only an untrusted
    stamp may say.
    """

    t_boot_ns: int
    boot: str
    earliest_ns: int | None
    latest_ns: int | None
    quality: TimeQuality

    def _encode(self) -> dict[str, object]:
        return {
            "t_boot_ns": str(self.t_boot_ns),
            "boot": self.boot,
            "earliest_ns": None if self.earliest_ns is None else str(self.earliest_ns),
            "latest_ns": None if self.latest_ns is None else str(self.latest_ns),
            "quality": str(self.quality),
        }


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``body`` holds strict-JSON values only; what stands in it depends on ``kind``."""

    kind: EntryKind
    time: Stamp
    salt: bytes
    body: dict[str, object]

    def encode(self) -> bytes:
        """The bytes that become the leaf. What this returns, `parse` reads back as an equal entry.

        Raises:
            DocumentError: The entry is too large or holds what strict JSON cannot.
        """
        try:
            data = strict_json.dumps(
                {
                    "v": VERSION,
                    "kind": str(self.kind),
                    "time": self.time._encode(),  # noqa: SLF001 - one format, written in one place
                    "salt": self.salt.hex(),
                    "body": self.body,
                }
            )
        except (TypeError, ValueError) as error:
            raise DocumentError(f"ledger entry: {self.kind} body is not strict JSON ({error})") from error
        # An entry that could be written but not read again would close the ledger for good.
        if Entry.parse(data) != self:
            raise DocumentError(f"ledger entry: {self.kind} body does not survive being written")
        return data

    @classmethod
    def parse(cls, data: bytes) -> Entry:
        """Read the bytes of one leaf.

        Raises:
            DocumentError: Anything but one entry of this version.
        """
        fields = Fields(strict_json.loads(data, limit=MAX_BYTES), "entry")
        fields.integer("v", VERSION, VERSION)
        entry = cls(
            fields.choice("kind", EntryKind),
            fields.record("time", _parse_stamp),
            bytes.fromhex(_hex_32(fields, "salt")),
            fields.record("body", _parse_body),
        )
        fields.done()
        return entry


def _parse_stamp(value: object, where: str) -> Stamp:
    fields = Fields(value, where)
    t_boot_ns = _nanoseconds(fields, "t_boot_ns")
    boot = _hex_32(fields, "boot")
    earliest_ns = _nanoseconds(fields, "earliest_ns") if fields.has("earliest_ns") else None
    latest_ns = _nanoseconds(fields, "latest_ns") if fields.has("latest_ns") else None
    quality = fields.choice("quality", TimeQuality)
    fields.done()
    if earliest_ns is None or latest_ns is None:
        if earliest_ns is not latest_ns or quality is not TimeQuality.UNTRUSTED:
            raise DocumentError(f"{where}: half an interval, or none at quality {quality}")
    elif earliest_ns > latest_ns:
        raise DocumentError(f"{where}: interval ends before it begins")
    return Stamp(t_boot_ns, boot, earliest_ns, latest_ns, quality)


def _parse_body(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DocumentError(f"{where}: not an object")
    return value


def _hex_32(fields: Fields, name: str) -> str:
    text = fields.text(name, max_chars=32)
    if not _HEX_32.match(text):
        raise DocumentError(f"{fields.path(name)} (got {text!r}, expected 32 hex digits)")
    return text


def _nanoseconds(fields: Fields, name: str) -> int:
    text = fields.text(name, max_chars=19)
    if not _NANOSECONDS.match(text):
        raise DocumentError(f"{fields.path(name)} (got {text!r}, expected nanoseconds as decimal text)")
    return int(text)
