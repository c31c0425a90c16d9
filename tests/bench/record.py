"""What one bench found, as the JSON object it prints."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Record:
    """One figure. Without a target it shows growth alone, and is ok."""

    bench: str
    value: float
    unit: str
    n: int  # measurements
    spread: tuple[float, float]  # the least and the greatest of what `value` is the median of
    target: float | None = None  # the value, or where `by_ratio` the ratio, is to be at most this
    by_ratio: bool = False
    peer: str | None = None
    peer_value: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many of the peer's this value is."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        if self.target is None:
            return True
        held = self.ratio if self.by_ratio else self.value
        return held is not None and held <= self.target

    def line(self) -> str:
        """The JSON object."""
        target = self.target
        if self.by_ratio and target is not None and self.peer_value is not None:
            target *= self.peer_value  # in the unit of the value, as everything on this line
        return json.dumps(
            {
                "bench": self.bench,
                "value": _short(self.value),
                "unit": self.unit,
                "target": _short(target),
                "ok": self.ok,
                "peer": self.peer,
                "peer_value": _short(self.peer_value),
                "ratio": _short(self.ratio),
                "n": self.n,
                "spread": [_short(end) for end in self.spread],
                "machine": machine(),
            }
        )


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def percentile(values: Sequence[float], percent: float) -> float:
    """The least measured value that at least ``percent`` of them do not exceed."""
    ordered = sorted(values)
    at = -int(-len(ordered) * percent // 100)  # rounded up
    return ordered[max(0, at - 1)]


def machine() -> str:
    """Processor, cores, Python, and how busy it is at this moment; no name of any host."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            model = line.split(":", 1)[1].strip()
            break
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f}"
