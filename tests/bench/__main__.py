"""`make bench`: the figures that the design sets out to reach, one JSON object a line.

Each bench runs in a process of its own. The exit code says whether all of them ran; a target that is missed
stands in its line as ``"ok": false``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.bench import decide, first_frame, ledger, revoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.bench.record import Record

BENCHES: Final[dict[str, Callable[[], Iterator[Record]]]] = {
    "decide": decide.run,
    "ledger": ledger.run,
    "revoke": revoke.run,
    "first-frame": first_frame.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one bench or all; the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="?", help="the one to run [default: all]")
    parser.add_argument("--list", action="store_true", help="name them")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(BENCHES))
        return 0
    if options.only is None:
        command = [sys.executable, "-m", "tests.bench"]
        codes = [subprocess.run([*command, name], check=False).returncode for name in BENCHES]
        return 1 if any(codes) else 0
    if options.only not in BENCHES:
        print(f"bench: no such bench (got {options.only}, expected {', '.join(BENCHES)})", file=sys.stderr)
        return 2
    for record in BENCHES[options.only]():
        print(record.line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
