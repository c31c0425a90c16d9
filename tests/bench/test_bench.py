"""Each bench runs and says all that it should; no time is asserted, for this machine may be busy."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from tests.bench import decide, first_frame, ledger, revoke
from tests.bench.__main__ import BENCHES, main
from tests.bench.record import Record, percentile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEYS = {
    *("bench", "value", "unit", "target", "ok", "peer", "peer_value", "ratio", "n", "spread", "machine"),
}

SMALL: dict[str, Callable[[], Iterable[Record]]] = {
    "decide": lambda: decide.run(sizes=(1, 3), runs=1, decisions=2),
    "ledger": lambda: ledger.run(sizes=(10,), runs=1, appends=2),
    "revoke": lambda: revoke.run(trials=1),
    "first-frame": lambda: first_frame.run(trials=1),
}


def test_list_names_every_bench(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(BENCHES) == list(SMALL)


def test_unknown_bench_is_refused_with_the_names_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nonsense"]) == 2
    heard = capsys.readouterr()
    assert heard.out == ""
    assert all(name in heard.err for name in ("nonsense", *BENCHES))


@pytest.mark.parametrize("name", SMALL)
async def test_bench_runs_and_its_lines_say_all(name: str) -> None:
    # Some make an event loop of their own.
    lines = await asyncio.to_thread(lambda: [record.line() for record in SMALL[name]()])
    assert lines
    for line in lines:
        found = json.loads(line)
        assert found.keys() == KEYS
        assert found["bench"].split("/")[0] == name
        assert found["spread"][0] <= found["spread"][1]


def test_missed_target_is_not_ok() -> None:
    assert not Record(bench="x", value=2.1, unit="ms", n=1, spread=(2.1, 2.1), target=2.0).ok
    assert Record(bench="x", value=2.0, unit="ms", n=1, spread=(2.0, 2.0), target=2.0).ok


def test_target_by_ratio_is_held_against_the_peer_and_printed_in_the_unit_of_the_value() -> None:
    record = Record(
        bench="x",
        value=3.0,
        unit="ms",
        n=1,
        spread=(3.0, 3.0),
        target=2.0,
        by_ratio=True,
        peer="a peer",
        peer_value=1.0,
    )
    assert not record.ok
    assert json.loads(record.line())["target"] == 2.0


def test_percentile_is_a_measured_value() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 50) == 50.0
    assert percentile(values, 99) == 99.0
    assert percentile(values[:1], 99) == 1.0
