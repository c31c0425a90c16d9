"""Six words for a hash, for people who compare by voice.

Each word is a proquint (D. Wilkerson, "A Proposal for Proquints", arXiv:0901.4016): 16 bits as consonant,
vowel, consonant, vowel, consonant. So six words carry 96 bits; six of a list of 256 would carry 48, and
somebody who writes charters until two sound alike can search through those. And there is no list to ship.
"""

from __future__ import annotations

from typing import Final

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
WORDS: Final = 6


def six_words(document_id: str) -> str:
    """The words for the first 96 bits of a document's id (``sha256:…``)."""
    digest = bytes.fromhex(document_id.removeprefix("sha256:"))
    return " ".join(_word(digest[2 * at] << 8 | digest[2 * at + 1]) for at in range(WORDS))


def _word(bits: int) -> str:
    return (
        _CONSONANTS[bits >> 12]
        + _VOWELS[bits >> 10 & 3]
        + _CONSONANTS[bits >> 6 & 15]
        + _VOWELS[bits >> 4 & 3]
        + _CONSONANTS[bits & 15]
    )
