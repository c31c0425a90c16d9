"""A receipt: proof, in anybody's hands, that one entry stands in a device's ledger.

It holds the entry's bytes, its inclusion proof and a signed checkpoint, and needs nothing else but the
device's public key and the name of its ledger. It says that the entry is in the ledger of that size, not what
came after: that it still stands there later is for a consistency proof to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.consent import strict_json
from agent.consent.fields import Fields, data_item, encode_bytes
from agent.consent.strict_json import MAX_INTEGER
from agent.errors import DocumentError, ProofError
from agent.ledger import checkpoint as checkpoints
from agent.ledger import entry as entries
from agent.ledger import merkle
from agent.ledger.entry import Entry

MAX_BYTES: Final = 512 * 1024
MAX_PROOF: Final = 64
VERSION: Final = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """An entry's bytes, where it stands, the audit path from there, and the checkpoint it leads to."""

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: str

    def to_json(self) -> bytes:
        """Strict JSON that `parse` reads back."""
        return strict_json.dumps(
            {
                "v": VERSION,
                "entry": encode_bytes(self.entry),
                "index": self.index,
                "proof": [encode_bytes(each) for each in self.proof],
                "checkpoint": self.checkpoint,
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> Receipt:
        """Read a receipt; nothing in it is believed before `verify`.

        Raises:
            ProofError: Not a receipt of this version.
        """
        try:
            fields = Fields(strict_json.loads(data, limit=MAX_BYTES), "receipt")
            fields.integer("v", VERSION, VERSION)
            receipt = cls(
                fields.data("entry", max_bytes=entries.MAX_BYTES),
                fields.integer("index", 0, MAX_INTEGER),
                fields.items("proof", data_item, most=MAX_PROOF),
                fields.multiline("checkpoint", max_chars=checkpoints.MAX_CHARS),
            )
            fields.done()
        except DocumentError as error:
            raise ProofError(str(error)) from error
        return receipt

    def verify(self, public: bytes, origin: str) -> Entry:
        """Return the entry if the device with this raw public key has it in its ledger called ``origin``.

        Raises:
            ProofError: It is not proven.
        """
        # 1. The device signed this size and root. 2. The entry's bytes stand at the index under that root.
        # 3. Only then is the entry read.
        signed = checkpoints.verify(self.checkpoint, origin, origin, public)
        leaf = merkle.leaf_hash(self.entry)
        merkle.verify_inclusion(leaf, self.index, signed.size, self.proof, signed.root)
        try:
            return Entry.parse(self.entry)
        except DocumentError as error:
            raise ProofError(f"receipt: {error}") from error
