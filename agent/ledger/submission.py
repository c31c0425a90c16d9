"""What a ledger hands to a witness: the size that the witness vouched for last, a proof, a checkpoint.

::

    old 20852014
    PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
    (at most 63 such lines)

    doorward/…
    20852163
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    — doorward/… Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1g…

Source: c2sp.org/tlog-witness, ``add-checkpoint``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent.consent.fields import decode_bytes, encode_bytes
from agent.consent.strict_json import MAX_INTEGER
from agent.errors import DocumentError, ProofError
from agent.ledger.checkpoint import MAX_CHARS
from agent.ledger.merkle import HASH_BYTES

MAX_PROOF: Final = 63
MAX_BYTES: Final = MAX_CHARS + 4096
"""63 proof lines take less than 3 kB."""

_OLD: Final = re.compile(r"old (0|[1-9][0-9]{0,15})\Z", re.ASCII)
_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,15})\n\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Submission:
    """``note`` is a checkpoint that ``proof`` shows to continue the first ``old`` entries."""

    old: int
    proof: tuple[bytes, ...]
    note: str

    def encode(self) -> bytes:
        """The body of the request."""
        lines = [f"old {self.old}", *(encode_bytes(each) for each in self.proof), "", self.note]
        return "\n".join(lines).encode("utf-8")


def parse(body: bytes) -> Submission:
    """Read the body of a request; nothing in it is verified.

    Raises:
        ProofError: Not such a body.
    """
    if len(body) > MAX_BYTES:
        raise ProofError(f"submission: too large (got {len(body)} bytes, expected at most {MAX_BYTES})")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProofError("submission: not UTF-8") from error
    head, separator, note = text.partition("\n\n")
    first, *lines = head.split("\n")
    match = _OLD.match(first)
    if match is None or not separator or int(match[1]) > MAX_INTEGER:
        raise ProofError(f"submission: first line (got {first[:40]!r}, expected old and a size)")
    if len(lines) > MAX_PROOF:
        raise ProofError(f"submission: proof (got {len(lines)} hashes, expected at most {MAX_PROOF})")
    return Submission(int(match[1]), tuple(_hash(line) for line in lines), note)


def _hash(line: str) -> bytes:
    try:
        data = decode_bytes(line, "submission: proof")
    except DocumentError as error:
        raise ProofError(str(error)) from error
    if len(data) != HASH_BYTES:
        raise ProofError(f"submission: hash length (got {len(data)} bytes, expected {HASH_BYTES})")
    return data


def parse_size(body: bytes) -> int:
    """The size that a witness holds, as it answers when it expected another one (``text/x.tlog.size``).

    Raises:
        ProofError: Not a size.
    """
    match = _SIZE.match(body[:32].decode("ascii", "replace")) if len(body) <= 32 else None  # noqa: PLR2004 - a number
    if match is None or int(match[1]) > MAX_INTEGER:
        raise ProofError(f"witness: size it holds (got {body[:32]!r}, expected a number and a line end)")
    return int(match[1])
