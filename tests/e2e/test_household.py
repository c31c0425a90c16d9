"""A household of two with a real device: what takes both, passed between them as files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli.collecting import Collection
from agent.consent import times
from agent.consent.envelope import PayloadType, short, unverified_payload
from tests.support.processes import Agency, Device, Owner, Said, done, doorward

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AREA = "left"
REFERENCE = "2026-7"


class Member(Owner):
    """Somebody with keys and a card."""

    def __init__(self, directory: Path, device: Device, name: str) -> None:
        super().__init__(directory, device, name)
        self.name = name
        self.directory = directory
        self.card = directory / "card.json"
        shown = self._mine("owner", "card", "--out", self.card, "--recovery-code-file", self.recovery_code)
        self.digits = done(shown).out.split("digits:")[1].strip()

    def _mine(self, *arguments: object) -> Said:
        keys = ("--key-file", self.key_file, "--passphrase-file", self.passphrase)
        return doorward(*arguments, *keys)

    def sign(self, file: Path, *, away: bool = False) -> Said:
        """Read and sign a document that another owner passed on, at the device or away from it."""
        home = self.directory / "nowhere" if away else self.device.home
        code = ("--recovery-code-file", self.recovery_code) if _takes_root(file) else ()
        return self._mine("sign", file, "--yes", "--home", home, *code)


def _takes_root(file: Path) -> bool:
    """Whether 'doorward sign' will ask for the recovery code."""
    kind, _ = unverified_payload(Collection.load(file).document)
    return kind in {PayloadType.CHARTER, PayloadType.INTRODUCTION}


class House:
    """Ann founded it and let an agency ask; Ben came in by his card; everything takes both since."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.device = Device(directory)
        self.ann = Member(directory / "ann", self.device, "Ann")
        self.ben = Member(directory / "ben", self.device, "Ben")
        self.agency = Agency(directory / "agency", self.ann, area=AREA)
        self._files = 0

    def file(self) -> Path:
        """A file to pass round."""
        self._files += 1
        return self.directory / f"round-{self._files}.json"

    def found(self) -> None:
        done(self.ann.pair())
        self.agency.join()
        done(self.ann.root("charter", "set", "--alarm-max", "1h"))
        self.card = self.file()
        both = ("--granting", 2, "--governing", 2, "--save", self.card)
        self.adding = done(
            self.ann.root("charter", "add-owner", self.ben.card, "--key", self.ben.digits, *both)
        )
        self.too_early = self.ann.run("hand-over", self.card)
        self.signing = done(self.ben.sign(self.card, away=True))
        done(self.ann.run("hand-over", self.card))
        self.joining = done(self.ben.run("owner", "join"))
        self.introduce()

    def introduce(self) -> None:
        """The agency learns whose signatures count now."""
        file, out = self.file(), self.directory / f"introduction-{self._files}.json"
        introduce = ("charter", "introduce", "--agency", self.agency.key_id, "--out", out, "--save", file)
        done(self.ann.root(*introduce))
        done(self.ben.sign(file))
        done(self.ann.run("hand-over", file, "--out", out))
        done(self.agency.run("import", out, "--via", self.device.url))

    def both(self, *command: object, root: bool = False) -> Said:
        """Ann begins, Ben signs, Ben hands over."""
        file = self.file()
        begin = self.ann.root if root else self.ann.run
        done(begin(*command, "--save", file))
        done(self.ben.sign(file))
        return done(self.ben.run("hand-over", file))

    def give(self, *more: object) -> tuple[object, ...]:
        """The command that allows in advance what the agency asks for."""
        return (
            *("consent", "give", "--agency", self.agency.key_id, "--purpose", "incident"),
            *("--reference", REFERENCE, "--camera", "front", "--area", AREA, "--for", "30m", "--yes", *more),
        )

    def hears(self) -> str:
        """What the agency hears when it asks now."""
        asked = self.agency.run(
            *("ask", "live", "--device", "doorward", "--camera", "front", "--reference", REFERENCE),
            *("--for", "5m", "--no-wait", "--json"),
        )
        events: list[dict[str, Any]] = [json.loads(line) for line in done(asked).out.splitlines()]
        return str(events[-1]["status"])

    def consents(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = done(self.device.run("consent", "list", "--json")).json["tokens"]
        return found


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("household"))
    with house.device as device:
        house.found()
        device.wait_for("pictures", lambda: device.camera()["delivering"])
        yield house


def test_second_owner_comes_in_by_card_once_both_have_signed(house: House) -> None:
    assert "+ Ben becomes an owner" in house.adding.out
    assert "- Letting something out takes 2 of 2 owners (was 1 of 1)." in house.adding.out
    assert (
        "by the charter in force: 1 of 1 owners; by the new one: 1 of 2 owners; missing: Ben"
        in house.adding.out
    )
    assert house.too_early.code == 1
    assert "missing: Ben" in house.too_early.error
    # Ben saw the same away from the device, with the same six words.
    assert "No device of this household was asked" in house.signing.err
    words = house.adding.out.split("other owners: ")[1].splitlines()[0]
    assert words in house.signing.out
    assert len(words.split()) == 6
    assert "seen nothing of it before" in house.joining.err
    status = house.device.status()
    assert status["owners"] == ["Ann", "Ben"]
    assert done(house.device.run("charter", "words")).out == done(house.ben.run("charter", "words")).out


@pytest.mark.parametrize(
    ("command", "root"),
    [
        (("shutter", "open"), False),
        (("alarm", "raise"), False),
        (("consent", "unblock", "Agency of the tests"), False),
        (("charter", "set", "--granting", 1), True),
        (("charter", "introduce", "--agency", "Agency of the tests", "--out", "never.json"), True),
    ],
    ids=lambda value: "-".join(map(str, value[:2])) if isinstance(value, tuple) else "",
)
def test_one_owner_alone_is_told_who_is_missing(
    house: House, command: tuple[object, ...], root: bool
) -> None:
    before = house.device.status()["ledger"]["size"]
    said = (house.ann.root if root else house.ann.run)(*command)
    assert said.code == 1
    assert said.error == "others must sign: 1 of 2 owners; missing: Ben"
    assert house.device.status()["ledger"]["size"] == before


def test_consent_takes_two_owners(house: House) -> None:
    request = house.agency.ask()
    grant = ("consent", "grant", "--request", request, "--for", "5m", "--area", AREA)
    alone = house.ann.run(*grant)
    assert (alone.code, alone.error) == (1, "others must sign: 1 of 2 owners; missing: Ben")
    assert not house.consents()
    file = house.file()
    saved = done(house.ann.run(*grant, "--save", file))
    assert f"{file}: 1 of 2 owners; missing: Ben" in saved.out
    shown = done(house.ben.sign(file)).out
    assert "Consent for Agency of the tests (key " in shown
    assert f"{file}: 2 of 2 owners" in shown
    assert not house.consents()  # signed is not handed over
    done(house.ben.run("hand-over", file))
    (held,) = house.consents()
    assert not held["revoked"]
    with house.agency.watch(request) as watching:
        assert watching.begun["session"]
    again = house.ben.run("hand-over", file)
    assert (again.code, again.error) == (2, "token: it was handed over before")
    # Taking away needs one of them alone.
    done(house.ben.run("consent", "revoke", "--all"))


def test_charter_takes_two_recovery_codes_and_no_stranger(house: House, tmp_path: Path) -> None:
    file = house.file()
    done(house.ann.root("charter", "set", "--daily-max", "2h", "--save", file))
    before = file.read_bytes()
    stranger = Member(tmp_path / "carol", house.device, "Carol").sign(file)
    assert stranger.code == 1
    assert "no owner of this household" in stranger.error
    assert file.read_bytes() == before
    assert "1 of 2 owners; missing: Ben" in done(house.ann.sign(file)).out
    assert "2 of 2 owners" in done(house.ben.sign(file)).out
    version = house.device.status()["charter_version"]
    assert "+ Daily keys alone grant at most 2 h" in done(house.ann.run("hand-over", file)).out
    assert house.device.status()["charter_version"] == version + 1
    stale = house.ann.run("hand-over", file)
    assert stale.code == 1
    assert "does not follow the one in force" in stale.error


def test_edited_text_is_adopted_by_both_and_a_slip_is_named_by_line(house: House, tmp_path: Path) -> None:
    text = done(house.device.run("charter", "edit", "--stdout")).out
    edited = tmp_path / "charter.yaml"
    rule = "rules:\n  - effect: deny\n    when: {hours: [daily 1:00-2:00], zone: Europe/Madrid}"
    edited.write_text(text.replace("rules: none", rule.replace("deny", "forbid")))
    line = edited.read_text().splitlines().index("  - effect: forbid") + 1
    wrong = house.ann.root("charter", "edit", "--file", edited, "--yes")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.error.startswith(f"{edited}: line {line}: rules[0].effect (got 'forbid'")
    edited.write_text(text.replace("rules: none", rule))
    said = house.both("charter", "edit", "--file", edited, "--yes", root=True)
    assert "- New rule: No agency sees anything at daily 01:00-02:00 (Europe/Madrid)." in said.out
    old = house.ann.root("charter", "edit", "--file", edited, "--yes")
    assert old.code == 2
    assert "made from another charter than the one in force" in old.error


def test_blocked_agency_hears_pending_until_both_unblock_it(house: House) -> None:
    house.both(*house.give())
    assert house.hears() == "granted"
    done(house.ben.run("consent", "block", "Agency of the tests"))
    assert house.hears() == "pending"
    assert "Unblocks Agency of the tests" in house.both("consent", "unblock", "Agency of the tests").out
    assert house.hears() == "granted"
    done(house.ann.run("consent", "revoke", "--agency", "Agency of the tests"))


def test_alarm_is_raised_by_both_and_cleared_by_one(house: House) -> None:
    house.both(*house.give("--alarm"))
    assert house.hears() == "pending"
    house.both("alarm", "raise")
    assert house.hears() == "granted"
    done(house.ben.run("alarm", "clear"))
    assert house.hears() == "pending"
    done(house.ann.run("consent", "revoke", "--all"))


def test_removed_owners_signature_takes_their_consents_along(house: House, tmp_path: Path) -> None:
    carol = Member(tmp_path / "carol", house.device, "Carol")
    house.both("charter", "add-owner", carol.card, "--key", carol.digits, root=True)
    house.introduce()
    file = house.file()
    done(house.ann.run(*house.give(), "--save", file))
    done(carol.sign(file, away=True))
    done(house.ann.run("hand-over", file))
    assert house.hears() == "granted"
    said = house.both("charter", "remove-owner", "Carol", root=True)
    assert "- Carol (root key" in said.out
    assert all(each["revoked"] for each in house.consents())
    assert house.hears() == "pending"
    gone = carol.run("owner", "join")
    assert gone.code == 1
    assert "the device does not take your key" in gone.error
    # Nothing of the device stays with somebody it does not know.
    assert carol.key_file.with_name("owner.json.seen").read_text() == "{}"
    house.introduce()


def test_recovery_code_alone_makes_a_new_key_and_opens_old_footage(house: House, tmp_path: Path) -> None:
    device = house.device
    device.wait_for("a closed segment", lambda: device.camera()["segments"])
    elsewhere = ("--device", device.url)
    new = tmp_path / "new/owner.json"
    keys = ("--key-file", new, "--passphrase-file", house.ann.passphrase)
    code = ("--recovery-code-file", house.ann.recovery_code)
    compared = ("--device-key", short(device.status()["device"]))
    unknown = doorward("owner", "recover", *keys, *code, *elsewhere)
    assert unknown.code == 1
    assert not new.exists()
    said = done(doorward("owner", "recover", "--label", "laptop", *keys, *code, *elsewhere, *compared))
    assert "WARNING: this client had seen nothing of it before" in said.err
    card = new.with_name("owner.json.card")

    not_yet = doorward("shutter", "close", *keys, *elsewhere)
    assert not_yet.code == 2
    file = house.file()
    done(doorward("charter", "add-key", card, *keys, *code, *elsewhere, "--save", file))
    done(house.ben.sign(file))
    said = done(house.ben.run("hand-over", file))
    assert "+ Ann gains laptop (daily key" in said.out
    done(doorward("shutter", "close", *keys, *elsewhere))

    begin_ns = device.run("archive", "list", "--json").json["segments"][0]["start_ms"] * 1_000_000
    span = ("--from", times.written(begin_ns), "--to", times.written(begin_ns + 3 * times.SECOND_NS))
    out = tmp_path / "old.mp4"
    export = ("archive", "export", *span, "--out", out)
    closed = doorward(*export, *keys, *elsewhere)
    assert (closed.code, out.exists()) == (2, False)
    assert "none of them yours" in closed.error
    opened = done(doorward(*export, *keys, *code, *elsewhere, "--json")).json
    assert opened["frames"] > 0
    assert opened["provenance"] == ["signed"]
    house.both("shutter", "open")
    house.both("charter", "remove-key", "Ann", "laptop", root=True)
