"""Entries: what is written is read back, and nothing else is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.consent.times import TimeQuality
from agent.errors import DocumentError
from agent.ledger.entry import MAX_BYTES, RESTRAINING, Entry, EntryKind, Stamp
from tests.ledger.entries import entry

SALT = bytes(range(16))
NS = st.integers(0, 10**19 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def stamps(draw: st.DrawFn) -> Stamp:
    bounds = sorted([draw(NS), draw(NS)])
    quality = draw(st.sampled_from(TimeQuality))
    known = quality is not TimeQuality.UNTRUSTED or draw(st.booleans())
    earliest, latest = bounds if known else (None, None)
    boot = draw(st.text("0123456789abcdef", min_size=32, max_size=32))
    return Stamp(draw(NS), boot, earliest, latest, quality)


ENTRIES = st.builds(
    Entry,
    st.sampled_from(EntryKind),
    stamps(),
    st.binary(min_size=16, max_size=16),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), VALUES, max_size=4),
)


@given(ENTRIES)
def test_entry_written_is_read_back_equal_and_in_the_same_bytes(made: Entry) -> None:
    assert Entry.parse(made.encode()) == made
    assert Entry.parse(made.encode()).encode() == made.encode()


def test_entry_bytes_are_the_ones_the_format_promises() -> None:
    stamp = Stamp(2**60, "0f" * 16, 1_764_000_000_123_456_789, 2**60 * 2, TimeQuality.PLAUSIBLE)
    assert (
        Entry(EntryKind.TOKEN_REFUSED, stamp, SALT, {"é": [1]}).encode()
        == (
            '{"body":{"é":[1]},"kind":"token-refused","salt":"000102030405060708090a0b0c0d0e0f",'
            '"time":{"boot":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f","earliest_ns":"1764000000123456789",'
            '"latest_ns":"2305843009213693952","quality":"plausible","t_boot_ns":"1152921504606846976"},"v":0}'
        ).encode()
    )


def changed(**fields: Any) -> bytes:
    value = json.loads(entry(1).encode())
    for name, new in fields.items():
        target = value["time"] if name in value["time"] else value
        target[name] = new
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        changed(v=1),
        changed(v=False),
        changed(kind="a later kind"),
        changed(kind=None),
        changed(salt="00" * 15),
        changed(salt="0G" * 16),
        changed(salt="AB" * 16),
        changed(body=[]),
        changed(body=None),
        changed(body={"x": 0.5}),
        changed(body={"x": 2**53}),
        changed(unknown=1),
        changed(time=None),
        changed(boot="00" * 17),
        changed(t_boot_ns=5),
        changed(t_boot_ns="05"),
        changed(t_boot_ns="-5"),
        changed(t_boot_ns="5\n"),
        changed(t_boot_ns="\u0665"),
        changed(t_boot_ns="1" + "0" * 19),
        changed(earliest_ns="1"),
        changed(latest_ns="1"),
        changed(earliest_ns="2", latest_ns="1"),
        changed(quality="authenticated"),
        changed(quality="sure"),
        entry(1).encode()[:-1],
        entry(1).encode() + b"{}",
        entry(1).encode().replace(b'"v":0', b'"v":0,"v":0'),
        entry(1).encode() + b" " * MAX_BYTES,
    ],
)
def test_entry_of_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Entry.parse(data)


@pytest.mark.parametrize(
    "body",
    [
        {"x": 0.5},
        {"x": 2**53},
        {"x": b"bytes"},
        {"x": (1, 2)},
        {"x": "\ud800"},
        {1: "x"},
        {"x": "x" * MAX_BYTES},
        {"x": [[[[[[[[[[[[[[[]]]]]]]]]]]]]]]},
    ],
)
def test_entry_that_could_not_be_read_again_is_never_written(body: dict[str, object]) -> None:
    with pytest.raises(DocumentError):
        replace(entry(1), body=body).encode()


def test_entry_holds_two_documents_of_the_greatest_size() -> None:
    envelope = "A" * (64 * 1024 * 4 // 3 + 4)
    replace(entry(1), body={"a": envelope, "b": envelope}).encode()


def test_restraining_kinds_are_those_that_let_nobody_see_more() -> None:
    assert {str(kind) for kind in RESTRAINING} == {
        "boot",
        "revocation",
        "shutter",
        "session-end",
        "ended-because",
        "blocked",
    }
