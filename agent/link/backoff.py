"""How long to wait before the next attempt: exponential with full jitter.

Full jitter, because a post that comes back must not be met by every device at the same instant
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from agent.errors import ConfigError

_MAX_DOUBLINGS: Final = 20


@dataclass(slots=True)
class Backoff:
    """The next delay is uniform in [0, min(cap_s, first_s * 2^failures)]."""

    first_s: float = 1.0
    cap_s: float = 60.0
    failures: int = 0
    _random: random.Random = field(default_factory=random.SystemRandom)

    def __post_init__(self) -> None:
        """Refuse settings that would hammer the other side.

        Raises:
            ConfigError: Not 0 < first_s <= cap_s.
        """
        if not 0 < self.first_s <= self.cap_s:
            raise ConfigError(f"backoff: got {self.first_s} s to {self.cap_s} s, expected 0 < first <= cap")

    def failed(self) -> float:
        """Count a failure; the seconds to wait before trying again."""
        bound = min(self.cap_s, self.first_s * 2 ** min(self.failures, _MAX_DOUBLINGS))
        self.failures += 1
        return self._random.uniform(0, bound)

    def stood(self, seconds: float) -> None:
        """A connection stood for ``seconds``: one that outlasted the longest delay clears the count.

        A shorter one does not: somebody who is let in and thrown out at once must slow down too.
        """
        if seconds > self.cap_s:
            self.failures = 0
