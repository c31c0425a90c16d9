"""How long one decision takes as tokens gather: `agent.consent.decision.decide` alone.

Two households. ``ended``: all tokens but one have ended. ``spent``: all but one are used up, so each is
walked through nearly every check; worse, an agency's tokens cannot do. The one that grants is looked at last.
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Final

from agent.consent.decision import Conditions, Grant, Standing, Usage, decide
from agent.consent.times import Interval, TimeQuality
from tests.bench.record import Record, percentile
from tests.support.household import ANN, HOUR_NS, NOON, Home, verified_request, verified_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SIZES: Final = (1, 100, 1_000, 10_000)
WITH_TARGET: Final = 1_000
TARGET_MS: Final = 1.0


def run(*, sizes: Sequence[int] = SIZES, runs: int = 5, decisions: int = 200) -> Iterator[Record]:
    """The p99 of ``decisions`` in each of ``runs``; of these the median.

    From 10,000 tokens on a tenth as many are made, for time's sake: there the p99 is the slowest of a run.
    """
    for kind in ("ended", "spent"):
        for size in sizes:
            decision = _decision(kind, size)
            count = decisions if size < 10_000 else decisions // 10
            p99s, peers = [], []
            for _ in range(runs):
                p99s.append(percentile(_timed(decision, count), 99))
                peers.append(median(_timed(_signature_check(), 50)))
            yield Record(
                bench=f"decide/{kind}/{size}",
                value=median(p99s),
                unit="ms p99",
                n=runs * count,
                spread=(min(p99s), max(p99s)),
                target=TARGET_MS if size == WITH_TARGET else None,
                peer="one Ed25519 check",
                peer_value=median(peers),
            )


def _decision(kind: str, size: int) -> Callable[[], None]:
    home = Home()
    charter = home.charter()
    request = verified_request(home, charter)
    granting = verified_token(home, charter, ANN.root)
    scope = granting.scope
    if kind == "ended":
        scope = replace(scope, not_before_ns=NOON - 2 * HOUR_NS, not_after_ns=NOON - HOUR_NS)
    others = [replace(granting, id=f"sha256:{number:064x}", scope=scope) for number in range(size - 1)]
    used = {token.id: Usage(scope.sessions, 60) for token in others} if kind == "spent" else {}
    state = Standing(usage=used)
    conditions = Conditions(
        device=home.keys.device,
        ledger_durable=True,
        confirmed_since_boot=True,
        cameras=frozenset({"front"}),
        redactions=frozenset(),
        most_viewers=4,
    )
    now = Interval(NOON, NOON, TimeQuality.AUTHENTICATED)
    tokens = [*others, granting]

    def once() -> None:
        got = decide(request, charter=charter, tokens=tokens, state=state, conditions=conditions, now=now)
        if not isinstance(got, Grant):
            raise TypeError(f"decide: what was to be granted was refused ({got.reason})")

    return once


def _signature_check() -> Callable[[], None]:
    key = ANN.daily()
    data = bytes(1_000)
    signature, verifier = key.sign(data), key.public_key()
    return lambda: verifier.verify(signature, data)


def _timed(call: Callable[[], None], count: int) -> list[float]:
    """Milliseconds of each call."""
    found = []
    for _ in range(count):
        began = time.perf_counter_ns()
        call()
        found.append((time.perf_counter_ns() - began) / 1e6)
    return found
