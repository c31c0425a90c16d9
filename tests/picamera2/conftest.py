from __future__ import annotations

from tests.hal.rig import REAL_PICAMERA2

# Without the real picamera2 nothing in this folder is a test: `make test-picamera2` runs them.
collect_ignore_glob = [] if REAL_PICAMERA2 else ["test_*.py"]
