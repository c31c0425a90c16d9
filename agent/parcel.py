"""What travels over a link: signed documents, padded, sealed, behind a label in clear.

::

    "doorward/v0" LF kind LF topic LF  sealed bytes

``kind`` is a `SealKind`, ``topic`` what HPKE binds (the id of the message answered, or ``link`` for a message
that answers none). Inside: 4-byte length, strict JSON ``{"documents": [base64 envelopes]}``, zeros up to a
multiple of `PAD_BYTES`, so that sizes tell whoever carries it little. Nothing in here is believed before the
documents' own signatures are checked.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent import sealing
from agent.consent import strict_json
from agent.consent.fields import Fields, data_item, encode_bytes
from agent.errors import DocumentError, SealedMessageError
from agent.sealing import SealKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

MAX_BYTES: Final = 256 * 1024
PAD_BYTES: Final = 4096
MOST_DOCUMENTS: Final = 4
LINK_TOPIC: Final = "link"
_LENGTH: Final = struct.Struct(">I")
_LABEL: Final = re.compile(rb"doorward/v0\n([a-z-]{1,20})\n([a-z0-9:]{1,80})\n")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A sealed message with the label that says how to open it. The label is believed only as a hint."""

    kind: SealKind
    topic: str
    sealed: bytes

    def encode(self) -> bytes:
        """As it travels."""
        return b"doorward/v0\n%b\n%b\n%b" % (self.kind.encode(), self.topic.encode(), self.sealed)

    @classmethod
    def parse(cls, data: bytes) -> Parcel:
        """Read the label.

        Raises:
            SealedMessageError: No parcel of ours, or too large.
        """
        if len(data) > MAX_BYTES:
            raise SealedMessageError(f"parcel: too large (got {len(data)} bytes, expected {MAX_BYTES})")
        match = _LABEL.match(data)
        if not match:
            raise SealedMessageError("parcel: no label (expected doorward/v0)")
        kind = match[1].decode()
        if kind not in {str(each) for each in SealKind}:
            raise SealedMessageError(f"parcel: unknown kind {kind!r}")
        return cls(SealKind(kind), match[2].decode(), data[match.end() :])

    def open(self, *, sender: str, recipient: str, private: X25519PrivateKey) -> tuple[bytes, ...]:
        """The envelopes inside, none of them verified.

        Raises:
            SealedMessageError: It does not open with this key, or holds no list of documents.
        """
        padded = sealing.open_(
            self.kind,
            sender=sender,
            recipient=recipient,
            topic=self.topic,
            private=private,
            sealed=self.sealed,
        )
        return _unpad(padded)


def seal_documents(
    kind: SealKind,
    documents: Sequence[bytes],
    *,
    sender: str,
    recipient: str,
    topic: str,
    public: bytes,
) -> bytes:
    """Seal ``documents`` to the raw X25519 key ``public``; the bytes as they travel.

    Raises:
        SealedMessageError: The key is unusable.
    """
    sealed = sealing.seal(
        kind,
        sender=sender,
        recipient=recipient,
        topic=topic,
        public=public,
        plaintext=_pad(documents),
    )
    return Parcel(kind, topic, sealed).encode()


def _pad(documents: Sequence[bytes]) -> bytes:
    body = strict_json.dumps({"documents": [encode_bytes(document) for document in documents]})
    framed = _LENGTH.pack(len(body)) + body
    return framed + bytes(-len(framed) % PAD_BYTES)


def _unpad(padded: bytes) -> tuple[bytes, ...]:
    if len(padded) < _LENGTH.size:
        raise SealedMessageError("parcel: empty")
    (length,) = _LENGTH.unpack_from(padded)
    body = padded[_LENGTH.size : _LENGTH.size + length]
    if len(body) != length or any(padded[_LENGTH.size + length :]):
        raise SealedMessageError("parcel: wrong padding")
    try:
        fields = Fields(strict_json.loads(body, limit=MAX_BYTES), "parcel")
        documents = fields.items("documents", data_item, most=MOST_DOCUMENTS)
        fields.done()
    except DocumentError as error:
        raise SealedMessageError(f"parcel: no list of documents ({error})") from error
    return documents
