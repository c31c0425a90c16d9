"""`make demo` is the main promise: the whole story, with real processes, over either link."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.processes import end

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_S = 90
LINKS = ("post", "https")


@pytest.fixture(scope="module")
def stories() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both at once, since a story is half waiting; each may take what two take alone."""
    started = {
        link: subprocess.Popen(
            [sys.executable, "-m", "tests.demo", "--json", "--link", link],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for link in LINKS
    }
    yield started
    for process in started.values():
        end(process)


@pytest.mark.parametrize("link", LINKS)
def test_the_whole_story_comes_true(link: str, stories: dict[str, subprocess.Popen[str]]) -> None:
    out, error = stories[link].communicate(timeout=2 * LONGEST_S)
    steps: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert [step for step in steps if not step["ok"]] == [], error
    assert steps[-1]["got"] == "demo: ok"
    assert stories[link].returncode == 0
    assert len(steps) == 13
    assert steps[-1]["ms"] < 2 * LONGEST_S * 1000
    start = steps[0]["got"]
    assert ("Mosquitto" in start.partition("(")[0]) is (link == "post")
