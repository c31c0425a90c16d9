"""Time sources. The only module that reads a clock; everything else is handed times.

Two bases: ``boot`` is CLOCK_BOOTTIME in nanoseconds (counts from the machine's boot, through suspend, never
jumps); ``wall`` is CLOCK_REALTIME in nanoseconds since 1970 (may be anything on a board without a battery).
"""

from __future__ import annotations

import ctypes
import time
from pathlib import Path
from typing import Final

_STA_UNSYNC: Final = 0x0040
_TIME_ERROR: Final = 5


def boot_ns() -> int:
    """Nanoseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wall_ns() -> int:
    """Nanoseconds of CLOCK_REALTIME since 1970-01-01 UTC, whoever set it."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME)


class _Timex(ctypes.Structure):
    """``struct timex`` of adjtimex(2), up to the fields we read, padded to more than the kernel writes."""

    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    ]


def ntp_error_ns() -> int | None:
    """The kernel's bound on the wall clock's error in nanoseconds, or None while it counts as unsynchronised.

    Source: adjtimex(2); ``maxerror`` is in microseconds and grows between updates of the time daemon.
    """
    timex = _Timex()
    libc = ctypes.CDLL(None, use_errno=True)
    state = libc.adjtimex(ctypes.byref(timex))
    if state in (-1, _TIME_ERROR) or timex.status & _STA_UNSYNC:
        return None
    return int(timex.maxerror) * 1000


def boot_id() -> str:
    """The kernel's id of this boot, 32 hex digits. Source: random(4), ``/proc/sys/kernel/random/boot_id``."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip().replace("-", "")
