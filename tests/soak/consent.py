"""`make soak-consent N=1000000 SEED=1`: four classes of documents and acts that must never be accepted.

1. ``changed``: a valid document with some of its bytes changed;
2. ``signers``: a valid structure signed by the wrong people: strangers, other roles, too few owners, one
   owner under several keys, one signature several times;
3. ``wider``: validly signed, but for more than token, rules or charter allow;
4. ``replayed``: what was valid once, used again, out of order, too late, or after a rollback.

What should be accepted is decided by a model of its own (`tests.soak.model`), never by the code under test.
The last line has the counts; exit code 1 if anything was accepted that should not be, or a valid control
document was refused. The run is resumable: progress stands in ``var/soak-consent-<seed>.json``.
``--switch-off CLASS`` disables that class's check in the agent, and the run must then fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

import click

from agent.challenges import Challenges
from agent.consent import decision, envelope
from agent.consent.charter import Charter
from agent.consent.rules import Caps
from tests.soak import changed, replayed, signers, wider

if TYPE_CHECKING:
    from collections.abc import Iterator

CLASSES: Final = {"changed": changed, "signers": signers, "wider": wider, "replayed": replayed}
BATCH: Final = 250
"""Attempts of one class between two looks at the clock and two notes of progress."""


@dataclass
class Count:
    """What one class has seen."""

    tried: int = 0
    accepted: int = 0
    controls: int = 0  # valid ones among them, accepted as they should be
    found: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        return {
            "tried": self.tried,
            "accepted": self.accepted,
            "controls": self.controls,
            "found": self.found,
        }


@contextmanager
def switched_off(name: str | None) -> Iterator[None]:
    """Disable the one check that stands against a class, to show that the harness would notice."""
    with ExitStack() as stack:
        match name:
            case None:
                pass
            case "changed":
                stack.enter_context(mock.patch.object(envelope, "is_valid_signature", return_value=True))
            case "signers":
                # Thresholds that count signatures instead of owners.
                stack.enter_context(mock.patch.object(Charter, "owners_of", lambda _, signers: signers))
            case "wider":
                stack.enter_context(mock.patch.object(decision, "_caps", return_value=Caps()))
            case "replayed":
                stack.enter_context(mock.patch.object(Challenges, "redeem", _any_challenge))
            case _:
                raise SystemExit(f"no class {name}")
        yield


def _any_challenge(self: Challenges, _challenge: bytes) -> int:
    return self._boot_ns()


async def run(total: int, seed: int, counts: dict[str, Count], *, resume: Path | None, quiet: bool) -> None:
    """Try until every class has had its quarter."""
    share = total // len(counts)
    with (
        tempfile.TemporaryDirectory() as directory,
        click.progressbar(range(total), label="soak-consent", file=sys.stderr, hidden=quiet) as bar,
    ):
        bar.update(sum(count.tried for count in counts.values()))
        while any(count.tried < share for count in counts.values()):
            for name, count in counts.items():
                batch = min(BATCH, share - count.tried)
                if batch <= 0:
                    continue
                # A batch has its own seed: a resumed run tries what an unbroken one would have tried.
                rng = random.Random(f"{seed} {name} {count.tried}")
                async for outcome in CLASSES[name].attempts(rng, batch, Path(directory)):
                    count.tried += 1
                    count.controls += outcome.control
                    if outcome.wrong:
                        count.accepted += 1
                        count.found = [*count.found, outcome.wrong][-5:]
                bar.update(batch)
            if resume is not None:
                note(resume, counts)


def note(path: Path, counts: dict[str, Count]) -> None:
    """Keep the progress, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({name: count.to_json() for name, count in counts.items()}))
    beside.rename(path)


def resumed(path: Path) -> dict[str, Count]:
    """The progress of an earlier run with this seed, or none."""
    if not path.exists():
        return {name: Count() for name in CLASSES}
    value = json.loads(path.read_text())
    return {name: Count(**value[name]) for name in CLASSES}


def main(arguments: list[str] | None = None) -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="make soak-consent", description=__doc__)
    parser.add_argument("-n", type=int, default=1_000_000, help="attempts in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--switch-off", choices=tuple(CLASSES), help="disable a check; the run must fail")
    parser.add_argument("--only", choices=tuple(CLASSES), help="this class alone")
    parser.add_argument("--fresh", action="store_true", help="forget an earlier run with this seed")
    parser.add_argument("--quiet", action="store_true", help="no progress bar, nothing kept")
    options = parser.parse_args(arguments)
    path = Path("var") / f"soak-consent-{options.seed}.json"
    keep = not options.quiet and options.switch_off is None and options.only is None
    if options.fresh and keep:
        path.unlink(missing_ok=True)
    counts = resumed(path) if keep else {name: Count() for name in CLASSES}
    if options.only:
        counts = {options.only: Count()}
    with switched_off(options.switch_off):
        asyncio.run(run(options.n, options.seed, counts, resume=path if keep else None, quiet=options.quiet))
    for name, count in counts.items():
        for wrong in count.found:
            print(f"{name}: {wrong}")
    accepted = sum(count.accepted for count in counts.values())
    parts = ", ".join(
        f"{name} {count.tried} tried {count.accepted} wrong {count.controls} controls"
        for name, count in counts.items()
    )
    print(f"soak-consent: seed {options.seed}: {parts}: {'FAILED' if accepted else 'ok'}")
    return 1 if accepted else 0


if __name__ == "__main__":
    sys.exit(main())
