"""A short run of `make soak-consent`, and the proof that it would notice."""

from __future__ import annotations

import pytest

from tests.soak.consent import CLASSES, main


def test_short_run_accepts_nothing_that_must_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-n", "1000", "--seed", "1", "--quiet"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(": ok")
    assert all(f"{name} 250 tried 0 wrong" in last for name in CLASSES)


@pytest.mark.parametrize("name", list(CLASSES))
def test_without_its_check_each_class_is_accepted_and_the_run_fails(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-n", "800", "--seed", "1", "--quiet", "--only", name, "--switch-off", name]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(": FAILED")
