"""Witnesses in the charter: each key once, each address safe, each consequence said."""

from __future__ import annotations

from typing import Any

import pytest

from agent.consent import charter as charters
from agent.consent.fields import encode_bytes
from agent.errors import DocumentError
from tests.support.household import ANN, POLICE, Home, ed, id_of, public

HOME = Home()
WITNESS = {"name": "w.example/1", "key": encode_bytes(public(ed("witness"))), "url": "https://w.example/v1"}


def charter(*witnesses: dict[str, Any]) -> charters.Charter:
    return HOME.charter(witnesses=list(witnesses))


def test_charter_names_witnesses_and_writes_them_as_it_read_them() -> None:
    found = charter(WITNESS)
    assert charters.to_json(found)["witnesses"] == [WITNESS]
    assert charters.parse(charters.payload_of(found)) == found
    witness = found.witness(id_of(ed("witness")))
    assert witness is not None
    assert (witness.name, witness.url) == ("w.example/1", "https://w.example/v1")
    assert found.witness(POLICE.key_id) is None


def test_charter_without_witnesses_is_written_as_it_always_was() -> None:
    assert HOME.charter().witnesses == ()
    assert "witnesses" not in charters.to_json(HOME.charter())
    assert charter().witnesses == ()


def test_witness_decides_nothing() -> None:
    found = charter(WITNESS)
    key = id_of(ed("witness"))
    assert key not in found.owner_keys() | found.root_keys() | found.archive_keys()


@pytest.mark.parametrize(
    "url",
    [
        "https://w.example",
        "https://w.example:8443/a/b",
        "https://[2001:db8::1]:443",
        "http://127.0.0.1:8447",
        "http://[::1]:1/x",
    ],
)
def test_address_that_nobody_can_read_or_that_stays_here_is_taken(url: str) -> None:
    assert charter({**WITNESS, "url": url}).witnesses[0].url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "w.example",
        "http://w.example",
        "http://localhost:8447",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@evil.example",
        "https://user@w.example",
        "https://w.example/",
        "https://w.example/a?b",
        "https://w.example/a#b",
        "https://w.example/a b",
        "https://w.example\n",
        "https://w.ex\u0430mple",
        "file:///etc/passwd",
        "ftp://w.example",
        "HTTPS://w.example",
        "https://w.example/" + "a" * 500,
    ],
)
def test_any_other_address_is_refused(url: str) -> None:
    with pytest.raises(DocumentError, match="url"):
        charter({**WITNESS, "url": url})


@pytest.mark.parametrize("name", ["", "two words", "a+b", "x" * 101, "a\nb"])
def test_name_that_no_note_can_carry_is_refused(name: str) -> None:
    with pytest.raises(DocumentError, match="name"):
        charter({**WITNESS, "name": name})


@pytest.mark.parametrize("key", [ed("Control Room signing"), ANN.root, ANN.daily(), ed("box device")])
def test_witness_with_a_key_of_somebody_else_is_refused(key: Any) -> None:
    with pytest.raises(DocumentError, match="stands twice"):
        charter({**WITNESS, "key": encode_bytes(public(key))})


def test_witness_twice_too_many_or_malformed_is_refused() -> None:
    other = {**WITNESS, "name": "w.example/2"}
    with pytest.raises(DocumentError, match="stands twice"):
        charter(WITNESS, other)
    second = {**WITNESS, "key": encode_bytes(public(ed("second")))}
    with pytest.raises(DocumentError, match="name stands twice"):
        charter(WITNESS, second)
    with pytest.raises(DocumentError, match="usable"):
        charter({**WITNESS, "key": encode_bytes(bytes(32))})
    with pytest.raises(DocumentError, match="unknown field"):
        charter({**WITNESS, "seal": ""})
    many = [
        {**WITNESS, "name": str(number), "key": encode_bytes(public(ed(f"w {number}")))}
        for number in range(9)
    ]
    with pytest.raises(DocumentError, match="at most 8"):
        charter(*many)
    for missing in WITNESS:
        with pytest.raises(DocumentError):
            charter({name: value for name, value in WITNESS.items() if name != missing})
