"""An owner's card: somebody's public keys, for the owners of a household to put into its charter.

It is signed by the root key *and* by the daily key that it names, so nobody can carry in somebody else's key
beside their own. Whose card it is, owners know by comparing the root key's digits with the person. Devices
never read cards.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.consent import envelope, strict_json
from agent.consent.charter import DailyKey, Owner
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, encode_bytes
from agent.errors import SignatureError


@dataclass(frozen=True, slots=True)
class OwnerCard:
    """One owner's word on their root key, recovery archive key and one daily key."""

    name: str
    root: bytes
    recovery: bytes
    daily: DailyKey

    @property
    def owner(self) -> Owner:
        """The owner for a charter, with this daily key."""
        return Owner(self.name, self.root, self.recovery, (self.daily,))

    def payload(self) -> bytes:
        """The bytes that root key and daily key sign."""
        return strict_json.dumps(
            {
                "from": envelope.key_id(self.root),
                "to": "owners",
                "name": self.name,
                "label": self.daily.label,
                "root": encode_bytes(self.root),
                "recovery": encode_bytes(self.recovery),
                "signing": encode_bytes(self.daily.signing),
                "archive": encode_bytes(self.daily.archive),
            }
        )


def verify_owner_card(data: bytes) -> OwnerCard:
    """A card that both of the signing keys it names have signed.

    Raises:
        DocumentError: Malformed.
        SignatureError: One of them has not signed, or both are one.
    """
    _, payload = envelope.unverified_payload(data)
    fields = Fields(strict_json.loads(payload), "owner card")
    card = OwnerCard(
        fields.text("name", max_chars=60),
        fields.key("root"),
        fields.seal_key("recovery"),
        DailyKey(fields.text("label", max_chars=60), fields.key("signing"), fields.seal_key("archive")),
    )
    keys = {envelope.key_id(key): key for key in (card.root, card.daily.signing)}
    fields.constant("from", envelope.key_id(card.root))
    fields.constant("to", "owners")
    fields.done()
    verified = envelope.verify(data, PayloadType.OWNER_CARD, keys)
    if len(verified.signers) < 2:  # noqa: PLR2004 - root and daily
        raise SignatureError("owner card: not signed by both the root key and the daily key it names")
    return card
