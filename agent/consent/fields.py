"""Reading the fields of a document: every field once, by name, with its bound; none left over.

A document's parser makes one `Fields`, takes what it needs and calls `done`, which refuses unknown fields.
All errors are `DocumentError` with the path of the field: ``token.scope.seconds (got -1, expected 1..9)``.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from agent.consent import times
from agent.errors import DocumentError
from hal.camera import COORDINATE_MAX

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

    from hal.camera import Polygon

    E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")

KEY_BYTES: Final = 32
_SHOWN: Final = 60
"""How much of what was found a message repeats, in characters."""

MAX_LIST: Final = 256
MAX_CORNERS: Final = 64
MIN_CORNERS: Final = 3
_KEY_ID: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}\Z")
_MISSING: Final = object()
_SIGN_BIT: Final = 0x80
_X25519_SMALL_ORDER: Final = frozenset(
    bytes.fromhex(u)
    for u in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
"""u coordinates of small order (RFC 7748 section 6.1 refuses what they lead to): nothing seals to them."""


def show(value: object) -> str:
    """A value as messages repeat it: one line, cut short, no control characters."""
    return repr(value)[:_SHOWN]


def encode_bytes(data: bytes) -> str:
    """Bytes as they stand in documents: standard base64 with padding (RFC 4648 section 4)."""
    return base64.b64encode(data).decode("ascii")


def decode_bytes(text: str, where: str) -> bytes:
    """Read what `encode_bytes` wrote; only the canonical form.

    Raises:
        DocumentError: Not base64, or not the one way of writing these bytes.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DocumentError(f"{where}: not base64") from error
    if encode_bytes(data) != text:
        raise DocumentError(f"{where}: not canonical base64")
    return data


class Fields:
    """The fields of one JSON object, taken one by one."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DocumentError(f"{where}: not an object")
        self._left = dict(value)
        self._where = where

    def _fail(self, name: str, got: object, expected: str) -> NoReturn:
        shown = "nothing" if got is _MISSING else show(got)
        raise DocumentError(f"{self._where}.{name} (got {shown}, expected {expected})")

    def _take(self, name: str) -> object:
        return self._left.pop(name, _MISSING)

    def path(self, name: str) -> str:
        """The field's path, for messages."""
        return f"{self._where}.{name}"

    def has(self, name: str) -> bool:
        """Whether the field stands there and is not null; a null one is taken away."""
        if self._left.get(name, _MISSING) is None:
            del self._left[name]
        return name in self._left

    def text(self, name: str, *, max_chars: int = 200, empty: bool = False) -> str:
        """Printable text of one line."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > max_chars or not (value or empty):
            self._fail(name, value, f"text of at most {max_chars} characters")
        if not value.isprintable():
            self._fail(name, value, "one line of printable text")
        return value

    def multiline(self, name: str, *, max_chars: int) -> str:
        """Text that may hold line ends, such as SDP, and no other control characters."""
        value = self._take(name)
        if not isinstance(value, str) or not 0 < len(value) <= max_chars:
            self._fail(name, value, f"text of at most {max_chars} characters")
        if not all(character.isprintable() or character in "\r\n" for character in value):
            self._fail(name, value, "lines of printable text")
        return value

    def name(self, name: str) -> str:
        """A short name: a-z, 0-9, ``-`` and ``_``."""
        value = self._take(name)
        if not isinstance(value, str) or not _NAME.match(value):
            self._fail(name, value, "a short name of a-z, 0-9, - and _")
        return value

    def integer(self, name: str, low: int, high: int) -> int:
        """An integer within low..high."""
        value = self._take(name)
        if type(value) is not int or not low <= value <= high:
            self._fail(name, value, f"{low}..{high}")
        return value

    def boolean(self, name: str) -> bool:
        """True or false."""
        value = self._take(name)
        if not isinstance(value, bool):
            self._fail(name, value, "true or false")
        return value

    def key_id(self, name: str) -> str:
        """The id of a key or document, ``sha256:`` and 64 hex digits."""
        value = self._take(name)
        if not isinstance(value, str) or not _KEY_ID.match(value):
            self._fail(name, value, "sha256: and 64 hex digits")
        return value

    def key(self, name: str) -> bytes:
        """A raw 32-byte public key."""
        return self.fixed(name, KEY_BYTES)

    def seal_key(self, name: str) -> bytes:
        """A raw X25519 public key that something can be sealed to."""
        key = self.key(name)
        if key[:-1] + bytes([key[-1] & ~_SIGN_BIT]) in _X25519_SMALL_ORDER:
            self._fail(name, encode_bytes(key), "a usable X25519 key")
        return key

    def fixed(self, name: str, size: int) -> bytes:
        """Exactly ``size`` bytes in canonical base64."""
        data = self.data(name, max_bytes=size)
        if len(data) != size:
            self._fail(name, f"{len(data)} bytes", f"{size} bytes")
        return data

    def data(self, name: str, *, max_bytes: int) -> bytes:
        """Bytes in canonical base64, at least one."""
        value = self._take(name)
        if not isinstance(value, str) or not 0 < len(value) <= (max_bytes + 2) // 3 * 4:
            self._fail(name, value, f"base64 of at most {max_bytes} bytes")
        return decode_bytes(value, self.path(name))

    def time(self, name: str) -> int:
        """A moment, as UTC nanoseconds since 1970 (written RFC 3339 in whole seconds with Z)."""
        value = self._take(name)
        if not isinstance(value, str):
            self._fail(name, value, "a time like 2026-01-31T12:00:00Z")
        return times.parse(value, self.path(name))

    def choice(self, name: str, kind: type[E]) -> E:
        """One word of a closed vocabulary."""
        value = self._take(name)
        if not isinstance(value, str) or value not in set(kind):
            self._fail(name, value, f"one of {', '.join(kind)}")
        return kind(value)

    def items(self, name: str, parse: Callable[[object, str], T], *, most: int = MAX_LIST) -> tuple[T, ...]:
        """A list, each item read by ``parse(value, path)``."""
        value = self._take(name)
        if not isinstance(value, list) or len(value) > most:
            self._fail(name, value, f"a list of at most {most}")
        return tuple(parse(item, f"{self.path(name)}[{number}]") for number, item in enumerate(value))

    def record(self, name: str, parse: Callable[[object, str], T]) -> T:
        """A nested object read by ``parse(value, path)``."""
        return parse(self._take(name), self.path(name))

    def constant(self, name: str, expected: str) -> None:
        """A field with one allowed value."""
        value = self._take(name)
        if value != expected:
            self._fail(name, value, repr(expected))

    def done(self) -> None:
        """Refuse what was not taken.

        Raises:
            DocumentError: A field nobody knows; it could mean a limit that we would ignore.
        """
        if self._left:
            raise DocumentError(f"{self._where}: unknown field {show(min(self._left))}")


def choice_item(kind: type[E]) -> Callable[[object, str], E]:
    """How to read an item of a list of words of a closed vocabulary."""

    def item(value: object, where: str) -> E:
        if not isinstance(value, str) or value not in set(kind):
            raise DocumentError(f"{where} (got {show(value)}, expected one of {', '.join(kind)})")
        return kind(value)

    return item


def name_item(value: object, where: str) -> str:
    """An item of a list of short names."""
    if not isinstance(value, str) or not _NAME.match(value):
        raise DocumentError(f"{where} (got {show(value)}, expected a short name of a-z, 0-9, - and _)")
    return value


def key_id_item(value: object, where: str) -> str:
    """An item of a list of key or document ids."""
    if not isinstance(value, str) or not _KEY_ID.match(value):
        raise DocumentError(f"{where} (got {show(value)}, expected sha256: and 64 hex digits)")
    return value


def data_item(value: object, where: str) -> bytes:
    """An item of a list of byte strings."""
    if not isinstance(value, str) or not value:
        raise DocumentError(f"{where}: not base64")
    return decode_bytes(value, where)


def polygon_item(value: object, where: str) -> Polygon:
    """A polygon: 3 to 64 corners [x, y], integers 0..10000."""
    if not isinstance(value, list) or not MIN_CORNERS <= len(value) <= MAX_CORNERS:
        raise DocumentError(f"{where}: not a polygon (expected {MIN_CORNERS} to {MAX_CORNERS} corners)")
    corners = []
    for corner in value:
        if not isinstance(corner, list) or len(corner) != 2 or any(type(at) is not int for at in corner):  # noqa: PLR2004 - x and y
            raise DocumentError(f"{where}: not a corner (got {show(corner)}, expected [x, y])")
        x, y = corner
        if not (0 <= x <= COORDINATE_MAX and 0 <= y <= COORDINATE_MAX):
            raise DocumentError(f"{where}: corner outside the picture (got {corner}, expected 0..10000)")
        corners.append((x, y))
    return tuple(corners)
