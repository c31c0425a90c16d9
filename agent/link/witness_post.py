"""Carries core's requests to witnesses: one bounded POST each.

Over HTTPS that the system's authorities vouch for; plain HTTP reaches this machine alone, since the charter
names no other.

What comes back is core's to judge. Nothing is followed, kept or tried again here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import aiohttp

TIMEOUT_S: Final = 20.0
MAX_ANSWER_BYTES: Final = 16 * 1024
_CONNECT_S: Final = 10.0
_TYPE: Final = {"Content-Type": "text/plain; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP status and the body; status 0 is nobody, and ``why`` says what stood in the way."""

    status: int
    body: bytes = b""
    why: str = ""


async def post(url: str, body: bytes) -> Answered:
    """Hand ``body`` to the witness at ``url``; never raises for what the other side does."""
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=_CONNECT_S)
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            ) as session,
            session.post(url, data=body, headers=_TYPE, allow_redirects=False) as response,
        ):
            content = bytearray()
            async for piece in response.content.iter_any():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    return Answered(0, why=f"its answer is over {MAX_ANSWER_BYTES} bytes")
            return Answered(response.status, bytes(content))
    except TimeoutError:
        return Answered(0, why=f"no answer in {TIMEOUT_S:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Answered(0, why=" ".join(str(error).split())[:200] or type(error).__name__)
