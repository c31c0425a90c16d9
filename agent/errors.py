"""Every error Doorward raises on purpose, sorted by who is at fault.

::

    DoorwardError
    ├── MalformedInput            somebody handed us bytes that are not what they should be
    │   ├── DocumentError             a signed document, its JSON or its fields
    │   │   └── SignatureError            the signatures do not reach what the document needs
    │   ├── SealedMessageError        an HPKE message that does not open here
    │   ├── SegmentError              archive bytes: header, record, footer
    │   │   ├── SegmentTruncated          the end is missing (a power cut, a cut file)
    │   │   └── SegmentSpliced            records out of place: reordered, swapped, stale
    │   ├── ProofError                a Merkle proof, a checkpoint or a receipt
    │   ├── WireError                 a frame between our own processes
    │   └── ConfigError               the configuration file or an argument
    ├── Refused                   understood and declined; ``reason`` says why (owner and ledger only)
    ├── IntegrityError            what we stored is not what we wrote; sharing stays off
    ├── StorageError              the disk did not do what was asked
    │   └── LedgerError               an entry could not be made durable: fail closed
    ├── CameraError               (hal.camera, no child: hal knows nothing of us)
    └── TransientError            try again later
        └── Unreachable               nobody answers at the other end

``str()`` is one line, lower case, no full stop: "subject: what (got X, expected Y)". ``hint`` says what to
do next and is shown to people on a line of its own. Mistakes of ours stay ``RuntimeError`` and crash.
"""

from __future__ import annotations


class DoorwardError(Exception):
    """Root of all errors raised on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class MalformedInput(DoorwardError):
    """Bytes from outside are not what they should be; nothing was changed."""

    exit_code = 2


class DocumentError(MalformedInput):
    """A signed document, its JSON or one of its fields is wrong."""


class SignatureError(DocumentError):
    """The valid signatures on a document do not reach what it needs."""


class SealedMessageError(MalformedInput):
    """A sealed message does not open with the keys it should open with."""


class SegmentError(MalformedInput):
    """Archive bytes are damaged or not ours."""


class SegmentTruncated(SegmentError):
    """A segment ends before its last record."""


class SegmentSpliced(SegmentError):
    """A record stands where it was not written."""


class ProofError(MalformedInput):
    """A Merkle proof, checkpoint or receipt does not prove what it should."""


class WireError(MalformedInput):
    """A frame between our own processes is broken."""


class ConfigError(MalformedInput):
    """The configuration or an argument is wrong."""


class Refused(DoorwardError):
    """Understood and declined.

    ``reason`` is for owners and the ledger; what an agency may learn is mapped from it elsewhere.
    """

    def __init__(self, message: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class IntegrityError(DoorwardError):
    """Stored bytes are not what was written."""

    exit_code = 4


class StorageError(DoorwardError):
    """The disk did not do what was asked."""


class LedgerError(StorageError):
    """A ledger entry could not be made durable."""


class TransientError(DoorwardError):
    """Worth trying again later."""

    exit_code = 3


class Unreachable(TransientError):
    """Nobody answers at the other end."""
