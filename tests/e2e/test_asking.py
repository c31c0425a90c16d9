"""Asking a real device, from the operator's question to what the owner does about it at their inbox."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
import yaml

from agent.agency.store import FILE
from tests.support.processes import LONGEST_S, Agency, Device, Owner, done, end

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AREA = "left"


class Home:
    def __init__(self, directory: Path) -> None:
        self.device = Device(directory)
        self.owner = Owner(directory / "owner", self.device)
        self.agency = Agency(directory / "agency", self.owner, area=AREA)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("asking"))
    with home.device as device:
        done(home.owner.pair())
        home.agency.join()
        device.wait_for("pictures", lambda: device.camera()["delivering"])
        yield home


class Terminal:
    """The owner's inbox in a terminal of its own."""

    def __init__(self, home: Home, *more: str, term: str = "xterm") -> None:
        self._master, slave = pty.openpty()
        owner = home.owner
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agent.cli.main", "owner", "watch", "--home", str(home.device.home)),
                *("--key-file", str(owner.key_file), "--passphrase-file", str(owner.passphrase), *more),
            ],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": term, "COLUMNS": "120", "LINES": "40"},
        )
        os.close(slave)
        self.seen = ""

    def until(self, text: str, *, since: int = 0) -> None:
        """Read until this stands on the terminal."""
        deadline = time.monotonic() + LONGEST_S
        while text not in self.seen[since:]:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} did not come:\n{self.seen[-3000:]}"
            if select.select([self._master], [], [], left)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self._master, 65_536).decode(errors="replace")

    def press(self, keys: str) -> int:
        """Type; where the terminal stood before."""
        at = len(self.seen)
        os.write(self._master, keys.encode())
        return at

    def wait(self) -> int:
        return self._process.wait(LONGEST_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)
        os.close(self._master)


def fetched(home: Home) -> dict[str, str]:
    """The newest decision of the device on each request that the agency holds, by its own clock or not."""
    done(home.agency.run("requests", "--fetch"))
    with contextlib.closing(sqlite3.connect(home.agency.directory / FILE)) as store:
        return dict(store.execute("SELECT id, status FROM requests").fetchall())


def standing(home: Home, request: str) -> dict[str, Any]:
    rows = done(home.owner.run("consent", "requests", "--json")).json
    found: dict[str, Any] = next((row for row in rows if row["id"] == request), {})
    return found


def test_asked_allowed_at_the_inbox_watched_and_stopped_with_one_key(home: Home) -> None:
    with Terminal(home) as terminal:
        terminal.until("Nobody asks.")
        request = home.agency.ask()
        terminal.until("Operator, badge 17")
        terminal.until(f"they will see: {AREA}, at most 480 lines")
        assert home.device.status()["pending"] == 1
        assert "1 waiting for you" in home.device.run("status").out
        at = terminal.press("1")
        terminal.until("for 5 min?", since=at)
        at = terminal.press("y")
        terminal.until("Allowed until", since=at)
        with home.agency.watch(request) as watching:
            terminal.until("WATCHING NOW", since=at)
            at = terminal.press("s")
            terminal.until("STOPPED: the device has acknowledged it", since=at)
            code, report = watching.wait()
        assert code == 0
        assert report["reason"] == "ended_by_owner"
        terminal.press("q")
        assert terminal.wait() == 0
    assert home.device.status()["pending"] == 0


def test_not_now_lapses_and_the_agency_hears_that_nobody_answered(home: Home) -> None:
    quiet = home.agency.ask("--lifetime", "8s")
    put_off = home.agency.ask("--lifetime", "8s")
    with Terminal(home, term="dumb") as terminal:
        terminal.until("[2]")
        assert "SOON" in terminal.seen
        number = 1 if standing_is_first(home, put_off) else 2
        at = terminal.press(f"no {number}\n")
        terminal.until("Not now. They hear nothing of it.", since=at)
        assert standing(home, put_off)["standing"] == "dismissed"
        assert {fetched(home)[each] for each in (quiet, put_off)} == {"pending"}
        home.device.wait_for("the ends", lambda: lapsed(home) >= {quiet, put_off})
        terminal.press("quit\n")
        assert terminal.wait() == 0
    assert {fetched(home)[each] for each in (quiet, put_off)} == {"no_answer"}
    assert not standing(home, put_off)


def standing_is_first(home: Home, request: str) -> bool:
    rows = done(home.owner.run("consent", "requests", "--json")).json
    first: str = next(row["id"] for row in rows if row["standing"] == "waiting")
    return first == request


def lapsed(home: Home) -> set[str]:
    decisions = [entry["body"] for entry in home.device.entries("decision")]
    return {each["request"] for each in decisions if each["reason"] == "lapsed"}


def test_standing_consent_is_prepared_explained_foreseen_and_used_without_a_request(home: Home) -> None:
    given = home.owner.root(
        *("consent", "give", "--agency", home.agency.key_id, "--purpose", "standing"),
        *("--reference", "GATE", "--camera", "front", "--area", AREA, "--for", "30d"),
        *("--window", "daily 00:00-24:00", "--zone", "Europe/Madrid", "--yes", "--json"),
    )
    token = done(given).json["token"]
    calendar = done(home.owner.run("consent", "calendar", token)).out
    assert "#" * 40 in calendar
    assert "times of Europe/Madrid" in calendar
    spans = done(home.owner.run("consent", "calendar", token, "--days", 2, "--json")).json
    assert any(span["allowed"] for span in spans)
    asked = home.agency.ask("--reference", "GATE", "--purpose", "standing")
    assert fetched(home)[asked] == "granted"
    explained = done(home.owner.run("consent", "explain", asked)).out
    assert "The household:" in explained
    assert "the hour is in the token's windows" in explained
    assert "So: granted." in explained
    done(home.owner.run("consent", "revoke", token))
    assert "(revoked)" not in calendar
    after = done(home.owner.run("consent", "calendar", token)).out
    assert "Not allowed: you have revoked the consent." in after


def test_daily_key_alone_gives_no_standing_consent(home: Home, tmp_path: Path) -> None:
    nothing = tmp_path / "no recovery code"
    nothing.write_text("\n")
    said = home.owner.run(
        *("consent", "give", "--agency", home.agency.key_id, "--purpose", "standing", "--yes"),
        *("--reference", "GATE", "--camera", "front", "--area", AREA, "--for", "30m"),
        *("--recovery-code-file", nothing),
    )
    assert said.code == 2
    assert "This needs your recovery code: a standing token needs root keys" in said.err


def test_examples_run_against_the_charter_in_force(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "examples.yaml"

    def write(expect: str) -> None:
        usual = {"agency": home.agency.key_id, "camera": "front"}
        by_day = {**usual, "name": "by day", "at": "mon 12:00", "expect": "allow"}
        at_night = {**usual, "name": "at night", "at": "sat 23:30", "expect": expect}
        file.write_text(yaml.safe_dump({"zone": "Europe/Madrid", "examples": [by_day, at_night]}))

    write("allow")
    assert done(home.owner.run("consent", "test", file)).out.count("ok") == 2
    write("deny")
    said = home.owner.run("consent", "test", file)
    assert said.code == 1
    assert "FAIL  at night: expected deny, and it would be allowed" in said.out
    assert said.error == "1 of 2 examples do not go as they say"
    draft = tmp_path / "draft"
    text = done(home.owner.run("charter", "edit", "--stdout")).out
    quiet = "rules:\n  - effect: deny\n    when: {hours: [daily 22:00-06:00], zone: Europe/Madrid}\n"
    assert "rules: none" in text
    draft.write_text(text.replace("rules: none", quiet))
    assert done(home.owner.run("consent", "test", file, "--charter", draft)).out.count("ok") == 2
    draft.write_text(text.replace("rules: none", "rules: whatever"))
    said = home.owner.run("consent", "test", file, "--charter", draft)
    assert said.code == 2
    assert "draft" in said.error


def test_events_are_json_lines_through_either_door(home: Home) -> None:
    for door in (("--home", str(home.device.home)), ("--device", home.device.url)):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agent.cli.main", "owner", "watch", "--json", *door),
                *("--key-file", str(home.owner.key_file)),
                *("--passphrase-file", str(home.owner.passphrase), "--interval", "1"),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            asked = home.agency.ask()
            assert process.stdout is not None
            names = []
            for line in process.stdout:
                event = json.loads(line)
                names.append(event["event"])
                if event.get("id") == asked:
                    break
            assert set(names) == {"asked"}
            done(home.owner.run("consent", "dismiss", asked))
            gone = json.loads(process.stdout.readline())
            assert (gone["event"], gone["id"], gone["standing"]) == ("gone", asked, "dismissed")
        finally:
            end(process)
