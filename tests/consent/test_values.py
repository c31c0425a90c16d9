"""JSON, times, fields and rules: the values documents are made of, at their edges."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.consent import envelope, strict_json, times
from agent.consent.envelope import PayloadType
from agent.consent.fields import Fields, decode_bytes, encode_bytes
from agent.consent.rules import Effect, Mode, PurposeKind, Rule, When
from agent.consent.times import SECOND_NS
from agent.errors import DocumentError
from tests.support.household import NOON, Home, ed

UTC_SECONDS = st.integers(
    int(dt.datetime(1, 1, 1, tzinfo=dt.UTC).timestamp()),
    int(dt.datetime(9999, 12, 31, tzinfo=dt.UTC).timestamp()),
)


@given(UTC_SECONDS)
def test_moment_written_is_read_back(seconds: int) -> None:
    assert times.parse(times.written(seconds * SECOND_NS), "at") == seconds * SECOND_NS


def test_moment_is_cut_to_the_second_never_rounded_up() -> None:
    assert times.written(NOON + SECOND_NS - 1) == times.written(NOON) == "2026-01-31T12:00:00Z"
    assert times.written(-1) == "1969-12-31T23:59:59Z"


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-01-31", "2026-01-31T12:00:00", "2026-01-31t12:00:00Z", "2026-01-31T12:00:00z",
        "2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00.5Z", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z", "2026-01-31T24:00:00Z", "2016-12-31T23:59:60Z", "2026-01-31T12:00:00Z\n",
        " 2026-01-31T12:00:00Z", "\u0662026-01-31T12:00:00Z", "+026-01-31T12:00:00Z",
    ],
)  # fmt: skip
def test_moment_written_otherwise_or_not_existing_is_refused(text: str) -> None:
    with pytest.raises(DocumentError, match="at "):
        times.parse(text, "at")


@pytest.mark.parametrize(
    "text",
    [
        b"1.0", b"1e2", b"1e999", b"NaN", b"-Infinity", b"9007199254740992", b"-9007199254740992", b"1" * 99,
        b'"\\ud800"', b'{"\\ud800":1}', b'{"a":1,"a":1}', b"\xef\xbb\xbf1", b"\xff", b"[" * 17 + b"]" * 17,
        b"[1,]", b"01", b"'a'", b"1 2", b"", b"nul", b'"\n"', b'"' + b"x" * 70_000 + b'"',
    ],
)  # fmt: skip
def test_loose_json_is_refused_in_one_line(text: bytes) -> None:
    with pytest.raises(DocumentError) as found:
        strict_json.loads(text)
    assert str(found.value).isprintable()


def test_json_at_its_bounds_is_read() -> None:
    assert strict_json.loads(b"[" * 16 + b"]" * 16) is not None
    assert strict_json.loads(b"[9007199254740991,-9007199254740991]") == [2**53 - 1, 1 - 2**53]
    assert strict_json.loads(b'["\\"[{\\\\", "]"]') == ['"[{\\', "]"]


TEXTS = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
)


@given(VALUES)
def test_json_written_is_read_back(value: Any) -> None:
    assert strict_json.loads(strict_json.dumps(value)) == value


@pytest.mark.parametrize("text", ["A", "AAA", "AB==", "AA==\n", " AA==", "A-==", "AA=", "AA===", "\u00e9A=="])
def test_base64_in_any_but_its_canonical_form_is_refused(text: str) -> None:
    with pytest.raises(DocumentError):
        decode_bytes(text, "data")
    assert decode_bytes(encode_bytes(b"\x00"), "data") == b"\x00"


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a/b", "..", "a" * 41, "a\n", "\u00e4"])
def test_name_that_could_be_a_path_or_a_line_is_refused(name: str) -> None:
    with pytest.raises(DocumentError):
        Fields({"name": name}, "x").name("name")
    with pytest.raises(DocumentError):
        Home().charter(cameras=[{**Home().to_json()["cameras"][0], "name": name}])


def test_empty_text_is_read_only_where_it_may_be_empty() -> None:
    assert Fields({"a": ""}, "x").text("a", empty=True) == ""
    with pytest.raises(DocumentError):
        Fields({"a": ""}, "x").text("a")


@pytest.mark.parametrize("size", [0, 1, 31, 33])
def test_key_of_another_length_is_refused(size: int) -> None:
    for read in (Fields.key, Fields.seal_key):
        with pytest.raises(DocumentError):
            read(Fields({"key": encode_bytes(bytes(size))}, "x"), "key")


def test_envelope_too_large_to_be_read_is_not_made() -> None:
    with pytest.raises(DocumentError, match="too large"):
        envelope.sign(PayloadType.ACT, b"x" * 60_000, [ed("a")])


RULES: list[dict[str, Any]] = [
    {"effect": "deny"},
    {"effect": "deny", "when": {"alarm": True}},
    {"effect": "require-alarm", "when": {"modes": ["live", "footage"]}},
    {"effect": "cap", "seconds": 5},
    {
        "effect": "cap",
        "when": {"purposes": ["drill"], "agencies": ["sha256:" + "a" * 64]},
        "height": 6,
        "fps": 7,
    },
    {"effect": "cap", "viewers": 1},
]


@pytest.mark.parametrize("rule", RULES)
def test_rule_written_is_read_back(rule: dict[str, Any]) -> None:
    assert Rule.parse(rule, "rule").to_json() == rule


@pytest.mark.parametrize("word", [["drill"], {"a": 1}, None, "dril", "DRILL", 1])
def test_word_outside_the_vocabulary_is_refused_whatever_it_is(word: object) -> None:
    for name in ("purposes", "modes"):
        with pytest.raises(DocumentError, match="expected one of"):
            Rule.parse({"effect": "deny", "when": {name: [word]}}, "rule")


def test_empty_when_binds_always() -> None:
    rule = Rule.parse({"effect": "deny", "when": {"agencies": [], "purposes": None}}, "rule")
    assert (rule.effect, rule.when) == (Effect.DENY, When())
    assert [str(mode) for mode in Mode] == ["live", "footage"]
    assert PurposeKind("drill") is PurposeKind.DRILL
