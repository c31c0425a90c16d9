"""The one JSON reader for anything that is signed or comes from outside.

Strict means: UTF-8 without a byte order mark, no duplicate keys, integers only and within ±(2^53 - 1), no
NaN or Infinity, no lone surrogates, at most `MAX_DEPTH` levels and ``limit`` bytes. Everything else is a
`DocumentError` with one line that says what was found. RFC 8259 allows more; we need none of it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, NoReturn

from agent.errors import DocumentError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 16
MAX_INTEGER: Final = 2**53 - 1


def _refuse_constant(text: str) -> NoReturn:
    raise DocumentError(f"json: not a number we accept (got {text}, expected an integer)")


def _integers_within(largest: int) -> Callable[[str], int]:
    def integer(text: str) -> int:
        # Length first: Python refuses to convert very long digit strings, and it is slow below that bound.
        if len(text) > len(str(largest)) + 1 or abs(int(text)) > largest:
            raise DocumentError(f"json: integer out of range (got {text[:20]}, expected within ±{largest})")
        return int(text)

    return integer


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise DocumentError(f"json: key {key[:40]!r} stands twice")
        result[key] = value
    return result


def _check(value: object) -> None:
    if isinstance(value, float):
        raise DocumentError(f"json: not a number we accept (got {value}, expected an integer)")
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key)
            _check(item)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DocumentError("json: text with half a surrogate pair") from error


def _bounded_depth(text: str) -> None:
    """Refuse deep nesting before the recursive parser sees it."""
    depth = 0
    in_text = False
    escaped = False
    for character in text:
        if in_text:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_text = False
        elif character == '"':
            in_text = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise DocumentError(f"json: nested too deeply (expected at most {MAX_DEPTH} levels)")
        elif character in "]}":
            depth -= 1


def parse(data: bytes, *, limit: int = MAX_BYTES, largest: int = MAX_INTEGER) -> object:
    """Parse the syntax alone: everything `loads` refuses is refused, but numbers with fractions are kept.

    Raises:
        DocumentError: Not JSON, or one of the looser things that other readers let pass.
    """
    if len(data) > limit:
        raise DocumentError(f"json: too large (got {len(data)} bytes, expected at most {limit})")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DocumentError(f"json: not UTF-8 at byte {error.start}") from error
    _bounded_depth(text)
    try:
        value: object = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_int=_integers_within(largest),
        )
    except json.JSONDecodeError as error:
        raise DocumentError(f"json: {error.msg.lower()} at character {error.pos}") from error
    return value


def loads(data: bytes, *, limit: int = MAX_BYTES, largest: int = MAX_INTEGER) -> object:
    """Parse strict JSON as every document of ours is written.

    ``largest`` is wider than `MAX_INTEGER` only between our own processes, whose nanoseconds outgrow what
    JavaScript can count after 104 days.

    Raises:
        DocumentError: Anything but strict JSON of at most ``limit`` bytes.
    """
    value = parse(data, limit=limit, largest=largest)
    _check(value)
    return value


def dumps(value: object) -> bytes:
    """Write compact JSON with sorted keys, UTF-8. What we write, `loads` reads."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("utf-8")
