"""What a new charter changes, in sentences: nothing is left out, and each says who gains or loses."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from agent.cli import sentences
from agent.cli.differences import difference
from agent.cli.six_words import six_words
from agent.cli.words import fingerprint
from agent.consent.charter import (
    Agency,
    Answers,
    CameraEntry,
    Charter,
    DailyKey,
    DailyLimits,
    Device,
    Ice,
    NamedArea,
    Owner,
    Post,
    Rollback,
    Witness,
)
from agent.consent.rules import Caps, Effect, Mode, PurposeKind, Rule, When
from agent.consent.windows import Day, Weekly, Window
from tests.support.household import PATH, POLICE, STREET, Home

WITNESS = Witness("witness.example/w1", bytes(range(32)), "https://witness.example")
CHARTER = replace(
    Home().charter(post={"host": "post.example", "port": 8883}),
    witnesses=(WITNESS,),
)
NEW_KEY = b"\x07" * 32
CAPS = Caps(seconds=300, height=480, fps=5, viewers=1)
RULE = Rule(Effect.DENY, When(alarm=False), Caps())

SAYS: dict[type, dict[str, tuple[Any, str]]] = {
    Charter: {
        "owners": (CHARTER.owners[:1], "- Ben (root key"),
        "granting": (2, "- Letting something out takes 2 of 2 owners (was 1 of 2)."),
        "governing": (1, "+ Changing the charter takes 1 of 2 owners (was 2 of 2)."),
        "daily_limits": (
            DailyLimits(60, standing=False),
            "- Daily keys alone grant at most 1 min (was 1 h).",
        ),
        "devices": ((*CHARTER.devices, Device("shed", NEW_KEY)), "+ Device shed (key"),
        "agencies": ((), "- Control Room may no longer ask"),
        "cameras": ((), "- Camera front is removed"),
        "rules": ((RULE,), "- New rule: No agency sees anything while the alarm is off."),
        "post": (None, "- The post at post.example, port 8883 is no longer used."),
        "ice": (
            Ice.ALL,
            "+ Pictures reach agencies directly as well: they learn the home's network address.",
        ),
        "rollback": (Rollback.WARN, "+ After each start the device shares at once and only warns"),
        "accept_plausible_time": (True, "+ Standing consents count under network time"),
        "indicator_required": (False, "~ The charter no longer demands a working indicator"),
        "alarm_max_seconds": (7200, "+ A raised alarm counts for 2 h"),
        "witnesses": ((), "- Witness witness.example/w1 no longer counts."),
    },
    Owner: {
        "name": ("Anna", "~ Owner Ann is called Anna."),
        "root": (NEW_KEY, "+ Ann becomes an owner (root key"),
        "recovery": (NEW_KEY, "~ Ann's recovery key changes"),
        "daily": ((), "- Ann loses phone 0 (daily key"),
    },
    DailyKey: {
        "label": ("tablet", "is called tablet (was phone 0)."),
        "signing": (NEW_KEY, "+ Ann gains phone 0 (daily key"),
        "archive": (NEW_KEY, "+ Ann gains phone 0 (daily key"),
    },
    DailyLimits: {
        "max_seconds": (7200, "+ Daily keys alone grant at most 2 h (was 1 h)."),
        "standing": (True, "+ Daily keys alone grant standing consents too."),
    },
    Device: {
        "name": ("attic", "~ Device box is called attic."),
        "signing": (NEW_KEY, "- Device box (key"),
    },
    Agency: {
        "name": ("Police", "~ Control Room is called Police."),
        "signing": (NEW_KEY, "+ Control Room may ask (key"),
        "seal": (NEW_KEY, "~ What is told to Control Room is sealed to another key"),
        "answers": (Answers.DENIED, "~ Without consent Control Room hears 'denied' (was 'pending')."),
        "max_seconds": (60, "- Control Room may look at most 1 min at a time (was 1 h)."),
    },
    CameraEntry: {
        "name": ("back", "+ Camera back is added."),
        "device": ("sha256:" + "0" * 64, "~ Camera front belongs to the device with key 0000"),
        "never": ((STREET,), "- Of camera front, this is never recorded or shown: 0,0 5000,0"),
        "areas": ((), "- Of camera front, area street can no longer be shared."),
    },
    NamedArea: {
        "name": ("road", "+ Of camera front, area road may be shared: 0,0 5000,0"),
        "polygon": (PATH, "~ Of camera front, area street is 5000,0 10000,0 10000,10000 (was 0,0"),
    },
    Witness: {
        "name": ("witness.example/w2", "is witness.example/w2 at https://witness.example."),
        "key": (NEW_KEY, "+ Witness witness.example/w1 at https://witness.example (key"),
        "url": ("https://other.example", "is witness.example/w1 at https://other.example."),
    },
    Post: {
        "host": ("other.example", "+ Messages go through the post at other.example, port 8883"),
        "port": (1, "+ Messages go through the post at post.example, port 1"),
    },
}


def changed(kind: type, name: str, value: Any) -> Charter:
    """The charter with one field of the first thing of that kind changed."""

    def first(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return (replace(items[0], **{name: value}), *items[1:])

    owner, camera = CHARTER.owners[0], CHARTER.cameras[0]
    where: dict[type, dict[str, Any]] = {
        Charter: {name: value},
        Owner: {"owners": first(CHARTER.owners) if kind is Owner else ()},
        DailyKey: {"owners": (replace(owner, daily=first(owner.daily) if kind is DailyKey else ()),)},
        DailyLimits: {"daily_limits": kind is DailyLimits and replace(CHARTER.daily_limits, **{name: value})},
        Device: {"devices": first(CHARTER.devices) if kind is Device else ()},
        Agency: {"agencies": first(CHARTER.agencies) if kind is Agency else ()},
        CameraEntry: {"cameras": first(CHARTER.cameras) if kind is CameraEntry else ()},
        NamedArea: {"cameras": (replace(camera, areas=first(camera.areas) if kind is NamedArea else ()),)},
        Witness: {"witnesses": first(CHARTER.witnesses) if kind is Witness else ()},
        Post: {"post": kind is Post and CHARTER.post and replace(CHARTER.post, **{name: value})},
    }
    return replace(CHARTER, **where[kind])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, names in SAYS.items() for name in names],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_every_change_has_its_sentence(kind: type, name: str) -> None:
    value, said = SAYS[kind][name]
    lines = difference(CHARTER, changed(kind, name, value))
    assert any(said in line for line in lines), lines
    assert all(line.lstrip()[:2] in ("+ ", "- ", "~ ") for line in lines)


def test_no_field_of_a_charter_is_without_a_sentence() -> None:
    follow = {"id", "household", "version", "previous"}  # of themselves
    for kind, names in SAYS.items():
        fields = {field.name for field in dataclasses.fields(kind)}
        assert fields - follow == set(names), kind


def test_equal_charters_differ_in_nothing_and_neither_do_reordered_ones() -> None:
    assert difference(CHARTER, CHARTER) == []
    turned = replace(
        CHARTER, owners=CHARTER.owners[::-1], agencies=CHARTER.agencies[::-1], rules=CHARTER.rules[::-1]
    )
    assert difference(CHARTER, turned) == []


def test_new_owner_and_what_they_can_do_are_named_with_keys() -> None:
    lines = difference(replace(CHARTER, owners=CHARTER.owners[:1]), CHARTER)
    assert lines[0].startswith("+ Ben becomes an owner (root key 42d8 c5e0 e66b c12a)")
    assert "  + Ben's phone 0 (daily key" in lines[1]


def test_one_of_two_equal_rules_removed_is_told() -> None:
    twice = replace(CHARTER, rules=(RULE, RULE))
    once = replace(CHARTER, rules=(RULE,))
    assert difference(twice, once) == ["+ No longer a rule: No agency sees anything while the alarm is off."]


HOURS = Weekly(
    "Europe/Madrid", (Window((Day.MON, Day.TUE, Day.WED), 22 * 60, 6 * 60), Window((Day.SUN,), 0, 0))
)


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule(Effect.DENY, When(), Caps()), "No agency sees anything."),
        (
            Rule(Effect.DENY, When(agencies=(POLICE.key_id,), modes=(Mode.FOOTAGE,)), Caps()),
            "Control Room sees nothing of what is recorded.",
        ),
        (
            Rule(Effect.CAP, When(purposes=(PurposeKind.DRILL,)), CAPS),
            (
                "Every agency sees at most 5 min at a time, 480 lines, 5 pictures a second, 1 viewer at "
                "once for a drill."
            ),
        ),
        (
            Rule(
                Effect.REQUIRE_ALARM, When(hours=HOURS), Caps(), When(agencies=(POLICE.key_id,), alarm=True)
            ),
            (
                "Every agency sees something only while your alarm is on at mon-wed 22:00-06:00, "
                "sun 00:00-00:00 (Europe/Madrid), unless it is Control Room and the alarm is on."
            ),
        ),
        (
            Rule(Effect.DENY, When(agencies=("sha256:" + "0" * 64,)), Caps()),
            "An agency with key 0000 0000 0000 0000 0000 0000 0000 0000 sees nothing.",
        ),
    ],
)
def test_rule_is_one_sentence_with_its_hours_and_exceptions(rule: Rule, sentence: str) -> None:
    assert sentences.rule(rule, CHARTER) == sentence


def test_charter_in_sentences_names_every_key_that_decides_and_every_rule() -> None:
    text = "\n".join(sentences.charter(replace(CHARTER, rules=(RULE,), alarm_max_seconds=3600)))
    for key_id in (*CHARTER.owner_keys(), *(agency.key_id for agency in CHARTER.agencies)):
        assert fingerprint(key_id) in text
    assert "No agency sees anything while the alarm is off." in text
    assert "A raised alarm counts for 1 h at most." in text
    assert "After each start sharing waits" in text


def test_six_words_are_proquints_of_the_first_96_bits() -> None:
    # The examples of the proposal: 127.0.0.1 is lusab-babad, 63.84.220.193 is gutih-tugad.
    assert six_words("sha256:7f0000013f54dcc1" + "00" * 24) == "lusab babad gutih tugad babab babab"
    assert six_words("sha256:" + "ff" * 32) == " ".join(["zuzuz"] * 6)
