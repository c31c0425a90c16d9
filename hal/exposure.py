"""When a picture was taken, according to a driver that may not know."""

from __future__ import annotations

import time
from typing import Final

from hal.clock import boot_ns

_OLDEST_NS: Final = 1_000_000_000


def exposed_ns(stamp_ns: int | None) -> int:
    """A driver's time stamp as nanoseconds of CLOCK_BOOTTIME; now, where it cannot be believed.

    libcamera stamps with CLOCK_BOOTTIME, Video4Linux with CLOCK_MONOTONIC, which stands still while the
    machine sleeps; some drivers stamp with nothing or with a clock of their own. A stamp is believed in the
    first of the two clocks in which it lies within the last second.
    """
    now_ns = boot_ns()
    if stamp_ns is not None:
        for believed_ns in (stamp_ns, stamp_ns + now_ns - time.monotonic_ns()):
            if now_ns - _OLDEST_NS < believed_ns <= now_ns:
                return believed_ns
    return now_ns
