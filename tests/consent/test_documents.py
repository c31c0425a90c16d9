"""Every document, field by field: what is wrong is refused in one line, and nothing unexpected is raised.

What is changed here is signed anew by the right keys unless the test is about signatures: a valid signature
must not carry anything malformed in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.consent import charter, envelope
from agent.consent.envelope import PayloadType
from agent.errors import DocumentError, SignatureError
from tests.consent.documents import CHARTER, KINDS, MADE, Kind, expected
from tests.support.household import ed, sign

if TYPE_CHECKING:
    from collections.abc import Iterator

WRONG: dict[str, list[Any]] = {
    "str": [1, True, [], {}, ["x"], "", "x" * 70_000, "a\nb", "\x1b[2J", "\u202e", None],
    "int": ["1", True, [], {}, -1, 2**53, 1.5, None],
    "bool": [0, 1, "true", [], {}, None],
    "list": ["x", 1, True, {}, [[]], [{}], [None], ["\n"], [1] * 300, [[1, 2, 3]], None],
    "dict": ["x", 1, True, [], {}, {"": 1}, None],
}
MULTILINE = {"sdp", "checkpoint"}
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def paths(value: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every field within ``value``: its path, the object or list that holds it, its name or place there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, inner in items:
        if isinstance(value, dict):
            path = f"{prefix}.{name}" if prefix else str(name)
        else:
            path = f"{prefix}[{name}]"
        yield path, value, name
        if isinstance(inner, dict | list):
            yield from paths(inner, path)


def copies(kind: Kind) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    """For each field a fresh copy of the document, with the place of the field in it."""
    for number, (path, _, _) in enumerate(paths(kind.value)):
        value = kind.value
        _, holder, name = list(paths(value))[number]
        yield path, value, holder, name


def one_line(error: DocumentError) -> None:
    assert str(error).isprintable()
    assert len(str(error)) < 400


def assert_refused(kind: Kind, data: bytes, what: object) -> None:
    try:
        kind.read(data)
    except DocumentError as error:
        one_line(error)
        return
    pytest.fail(f"{kind.name} was accepted: {what}")


def test_every_kind_of_document_stands_in_the_table() -> None:
    assert {kind.type for kind in KINDS} == set(PayloadType)


@each_kind
def test_valid_document_is_read(kind: Kind) -> None:
    kind.read(kind.signed)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.name in MADE], ids=lambda kind: kind.name)
def test_document_written_is_read_back_equal(kind: Kind) -> None:
    assert kind.read(kind.signed) == expected(kind)
    assert kind.read(kind.signed).payload() == kind.payload


def test_charter_written_is_read_back_equal() -> None:
    assert charter.parse(charter.payload_of(CHARTER)) == CHARTER
    following = charter.parse(next(kind.payload for kind in KINDS if kind.name == "next charter"))
    assert charter.parse(charter.payload_of(following)).owners == following.owners
    assert json.loads(charter.payload_of(following)) == charter.to_json(following)


@each_kind
def test_missing_field_is_refused_unless_it_may_be_missing(kind: Kind) -> None:
    for path, value, holder, name in copies(kind):
        if isinstance(holder, list) or path in kind.optional:
            continue
        del holder[name]
        assert_refused(kind, kind.resigned(value), f"without {path}")


@each_kind
def test_wrong_type_or_value_is_refused(kind: Kind) -> None:
    for path, _, holder, name in copies(kind):
        original = holder[name]
        for wrong in WRONG[type(original).__name__]:
            if (wrong is None and path in kind.optional) or wrong == original:
                continue
            if (wrong == {} and path.endswith(".when")) or (wrong == "a\nb" and name in MULTILINE):
                continue  # a rule that always holds; text of several lines
            value = kind.value
            where, key = {at: (where, key) for at, where, key in paths(value)}[path]
            where[key] = wrong
            assert_refused(kind, _resigned(kind, value), f"{path} = {str(wrong)[:40]!r}")


def _resigned(kind: Kind, value: Any) -> bytes:
    payload = json.dumps(value).encode()
    if len(payload) < 45_000:
        return sign(kind.type, payload, *kind.signers)
    # No honest signer makes an envelope so large.
    small = json.loads(kind.signed)
    return json.dumps(small | {"payload": "A" * 90_000}).encode()


@each_kind
def test_unknown_field_is_refused_wherever_it_stands(kind: Kind) -> None:
    places = ["", *(path for path, holder, name in paths(kind.value) if isinstance(holder[name], dict))]
    for place in places:
        value = kind.value
        target = value
        if place:
            where, key = next((w, k) for at, w, k in paths(value) if at == place)
            target = where[key]
        target["extra\n\x1b[2J"] = 1
        assert_refused(kind, kind.resigned(value), f"unknown field in {place or 'the document'}")


@each_kind
def test_duplicate_key_is_refused(kind: Kind) -> None:
    for name in kind.value:
        text = kind.payload.decode()
        at = text.index(f'"{name}":')
        twice = text[:at] + f'"{name}":null,' + text[at:]
        assert_refused(kind, sign(kind.type, twice.encode(), *kind.signers), f"{name} twice")


@each_kind
def test_truncated_or_padded_payload_is_refused(kind: Kind) -> None:
    for payload in (
        b"",
        kind.payload[:-1],
        kind.payload[:100],
        kind.payload + b"}",
        kind.payload * 2,
        b"[]",
        b"1",
    ):
        assert_refused(kind, sign(kind.type, payload, *kind.signers), payload[:20])


@each_kind
def test_truncated_envelope_is_refused(kind: Kind) -> None:
    for cut in range(0, len(kind.signed), 97):
        assert_refused(kind, kind.signed[:cut], cut)


@each_kind
def test_signature_of_a_stranger_is_refused(kind: Kind) -> None:
    resigned = sign(kind.type, kind.payload, ed("stranger"))
    with pytest.raises(SignatureError):
        kind.read(resigned)


@each_kind
def test_same_content_in_other_bytes_is_refused_under_the_old_signature(kind: Kind) -> None:
    turned = dict(reversed(kind.value.items()))
    data = json.loads(kind.signed)
    data["payload"] = json.loads(sign(kind.type, json.dumps(turned).encode(), ed("stranger")))["payload"]
    with pytest.raises(SignatureError):
        kind.read(json.dumps(data).encode())


@each_kind
def test_document_under_another_payload_type_is_refused(kind: Kind) -> None:
    for other in PayloadType:
        if other is not kind.type:
            assert_refused(kind, sign(other, kind.payload, *kind.signers), other)


@each_kind
def test_empty_signature_list_is_refused(kind: Kind) -> None:
    with pytest.raises(SignatureError):
        kind.read(json.dumps(json.loads(kind.signed) | {"signatures": []}).encode())


@each_kind
@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_document_error(kind: Kind, data: bytes) -> None:
    assert_refused(kind, data, data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@each_kind
@given(value=_JSON, place=st.integers(0, 10**6))
def test_any_json_signed_by_the_right_keys_raises_nothing_but_document_errors(
    kind: Kind, value: Any, place: int
) -> None:
    document = kind.value
    everywhere = list(paths(document))
    _, holder, name = everywhere[place % len(everywhere)]
    holder[name] = value
    try:
        kind.read(kind.resigned(document))
    except DocumentError as error:
        one_line(error)


@each_kind
@given(at=st.integers(0, 10**6), new=st.binary(min_size=0, max_size=3), removed=st.integers(0, 3))
def test_changed_envelope_is_refused_or_means_the_same(kind: Kind, at: int, new: bytes, removed: int) -> None:
    signed = kind.signed
    at %= len(signed)
    changed = signed[:at] + new + signed[at + removed :]
    try:
        found = kind.read(changed)
    except DocumentError as error:
        one_line(error)
        return
    # An envelope may be written in other ways, and more may stand beside its fields. The payload may not.
    assert found == kind.read(signed)
    assert envelope.unverified_payload(changed)[1] == kind.payload
