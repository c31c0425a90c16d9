"""H.264 in Annex B, only as far as a camera's seam needs it: NAL units, parameter sets and the codec's name.

Source: ITU-T H.264 (08/2021) 7.3.1, 7.4.1 and Annex B; codec names RFC 6381.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NAL_IDR: Final = 5
NAL_SPS: Final = 7
NAL_PPS: Final = 8

_START_CODE: Final = b"\x00\x00\x01"
_TYPE_MASK: Final = 0x1F


def nal_units(data: bytes) -> Iterator[bytes]:
    """Yield the NAL units of ``data`` without start codes and trailing zeros; none without a start code."""
    start = data.find(_START_CODE)
    while start >= 0:
        start += len(_START_CODE)
        end = data.find(_START_CODE, start)
        unit = (data[start:end] if end >= 0 else data[start:]).rstrip(b"\x00")
        if unit:
            yield unit
        start = end


def nal_type(unit: bytes) -> int:
    """The type of one NAL unit, 0 to 31."""
    return unit[0] & _TYPE_MASK


def is_idr(data: bytes) -> bool:
    """Whether the access unit holds a slice of an IDR picture."""
    return any(nal_type(unit) == NAL_IDR for unit in nal_units(data))


def parameter_sets(data: bytes) -> bytes:
    """The SPS and PPS units in ``data``, as Annex B in their order; empty if it does not hold both."""
    units = [unit for unit in nal_units(data) if nal_type(unit) in {NAL_SPS, NAL_PPS}]
    if {nal_type(unit) for unit in units} != {NAL_SPS, NAL_PPS}:
        return b""
    return b"".join(b"\x00" + _START_CODE + unit for unit in units)


def codec_name(data: bytes) -> str | None:
    """The RFC 6381 name of the first SPS in ``data``, for example ``avc1.42c01f``; None if there is none."""
    for unit in nal_units(data):
        # profile_idc, the constraint flags and level_idc are the three bytes after the NAL header.
        if nal_type(unit) == NAL_SPS and len(unit) > 3:  # noqa: PLR2004 - header and the three bytes
            return f"avc1.{unit[1:4].hex()}"
    return None
