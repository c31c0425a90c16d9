"""What one attempt of a soak came to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """``wrong`` says what went wrong; ``control`` marks a valid document that was taken, as it should be."""

    wrong: str | None = None
    control: bool = False


REFUSED = Outcome()
CONTROL = Outcome(control=True)
