"""The agency's end of the local link against the device's real API."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.console.tls import lan_tls
from agent.errors import ConfigError, IntegrityError, MalformedInput, TransientError, Unreachable
from agent.link.http import HttpTransport
from agent.link.https import Peer
from agent.link.transport import MAX_SEALED_BYTES
from tests.support.doors import AGENCY, DEVICE, STRANGER, Door, door

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.link.transport import Transport


@asynccontextmanager
async def link(at: Door, agency: str = AGENCY) -> AsyncIterator[HttpTransport]:
    async with HttpTransport(
        at.url, agency, DEVICE, fingerprint=at.tls.fingerprint, first_retry_s=0.05
    ) as transport:
        yield transport


async def first(messages: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(10):
        return await anext(messages)


async def test_immediate_reply_and_later_news_come_out_of_one_iterator(tmp_path: Path) -> None:
    async with door(tmp_path) as at, link(at) as transport:
        port: Transport = transport
        messages = port.messages(DEVICE)
        at.core.reply = b"reply"
        await port.send(DEVICE, b"request")
        assert await first(messages) == b"reply"
        for news in (b"one", b"two", b"three"):
            at.outbox.put(AGENCY, news)
        assert [await first(messages) for _ in range(3)] == [b"one", b"two", b"three"]
        at.core.reply = None
        await port.send(DEVICE, b"silence")
        at.outbox.put(AGENCY, b"four")
        assert await first(messages) == b"four"
    assert at.core.submitted == [(AGENCY, b"request"), (AGENCY, b"silence")]


async def test_largest_message_passes_and_one_byte_more_is_refused_before_it_leaves(tmp_path: Path) -> None:
    largest = bytes(MAX_SEALED_BYTES)
    async with door(tmp_path) as at, link(at) as transport:
        at.core.reply = largest
        await transport.send(DEVICE, largest)
        assert await first(transport.messages(DEVICE)) == largest
        with pytest.raises(MalformedInput, match="sealed message: size"):
            await transport.send(DEVICE, largest + b"x")
        with pytest.raises(MalformedInput, match="not at https"):
            await transport.send("d1" * 16, b"x")
        with pytest.raises(MalformedInput, match="not at https"):
            transport.messages("d1" * 16)
    assert len(at.core.submitted) == 1


async def test_an_agency_that_is_not_in_the_charter_meets_silence(tmp_path: Path) -> None:
    async with door(tmp_path) as at, link(at, STRANGER) as transport:
        at.core.reply = b"not for you"
        await transport.send(DEVICE, b"hello?")
    assert at.core.submitted == []
    assert [sealed async for sealed in transport.messages(DEVICE)] == []


async def test_a_device_with_another_certificate_is_never_spoken_to(tmp_path: Path) -> None:
    other = lan_tls(tmp_path / "other", DEVICE)
    async with (
        door(tmp_path) as at,
        HttpTransport(at.url, AGENCY, DEVICE, fingerprint=other.fingerprint) as transport,
    ):
        with pytest.raises(IntegrityError, match="another certificate than the pinned one"):
            await transport.send(DEVICE, b"secret")
        with pytest.raises(IntegrityError, match="another certificate than the pinned one"):
            await first(transport.messages(DEVICE))
    assert at.core.submitted == []


async def test_device_away_is_unreachable_and_polling_returns_with_it(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        port = at.port
    fingerprint = at.tls.fingerprint
    async with HttpTransport(
        at.url, AGENCY, DEVICE, fingerprint=fingerprint, first_retry_s=0.05
    ) as transport:
        with pytest.raises(Unreachable, match="device at https://127"):
            await transport.send(DEVICE, b"x")
        async with door(tmp_path, port=port) as again:
            assert again.tls.fingerprint == fingerprint
            again.outbox.put(AGENCY, b"back")
            assert await first(transport.messages(DEVICE)) == b"back"
            assert transport.error is None


async def test_leaving_at_any_moment_leaves_no_connection_open(tmp_path: Path) -> None:
    async def brief(at: Door, stay_s: float) -> None:
        async with link(at):
            await asyncio.sleep(stay_s)

    def program(at: Door, stay_s: float) -> None:
        asyncio.run(brief(at, stay_s))

    loop = asyncio.get_running_loop()
    async with door(tmp_path) as at:
        for step in range(120):  # Between the first socket and the open poll there are some milliseconds.
            await loop.run_in_executor(None, program, at, step / 20_000)
    gc.collect()  # An open connection would be found here, and fail this test as a warning.


async def test_core_away_is_a_transient_error_and_malformed_is_silence(tmp_path: Path) -> None:
    async with door(tmp_path) as at, link(at) as transport:
        at.core.error = TransientError("core: away")
        with pytest.raises(TransientError, match="core: away"):
            await transport.send(DEVICE, b"x")
        at.core.error = MalformedInput("sealed message: does not open")
        await transport.send(DEVICE, b"x")


@pytest.mark.parametrize(
    ("url", "fingerprint", "message"),
    [
        ("http://192.0.2.1:80", None, "plain http off this machine"),
        ("http://localhost:80", None, "plain http off this machine"),
        ("http://127.0.0.1:80", "sha256:" + 64 * "0", "a pin needs https"),
        ("https://192.0.2.1", None, "either a fingerprint or an authority file"),
        ("https://192.0.2.1", "sha256:" + 64 * "A", "64 lower-case hex digits"),
        ("https://192.0.2.1", 64 * "0", "64 lower-case hex digits"),
        ("https://192.0.2.1/path", "sha256:" + 64 * "0", "expected https://host:port"),
        ("https://user@192.0.2.1", "sha256:" + 64 * "0", "expected https://host:port"),
        ("https://192.0.2.1?x", "sha256:" + 64 * "0", "expected https://host:port"),
        ("https://192.0.2.1:99999", "sha256:" + 64 * "0", "address"),
        ("https://[::1", "sha256:" + 64 * "0", "address"),
        ("ftp://192.0.2.1", "sha256:" + 64 * "0", "expected https://host:port"),
        ("", "sha256:" + 64 * "0", "expected https://host:port"),
    ],
)
def test_an_unprotected_or_broken_address_is_refused(url: str, fingerprint: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Peer(url, fingerprint)


async def serve_once(body: bytes, head: str) -> asyncio.Server:
    """A plain HTTP server on loopback that answers everything with the same bytes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"messages": 1}',
        b'{"messages": [1]}',
        b'{"messages": [{"n": true, "sealed": "AA=="}]}',
        b'{"messages": [{"n": 1, "sealed": "A"}]}',
        b'{"messages": [{"n": 1, "sealed": "\xc3\xa9"}]}',
        b'{"messages": [{"n": 1, "sealed": ""}]}',
        b'{"messages": [], "messages": []}',
    ],
)
async def test_a_poll_answer_that_makes_no_sense_is_told_and_tried_again(body: bytes) -> None:
    server = await serve_once(body, "200 OK\r\nContent-Type: application/json")
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with (
        server,
        HttpTransport(url, AGENCY, DEVICE, first_retry_s=0.01) as transport,
        asyncio.timeout(10),
    ):
        while transport.error is None:
            await asyncio.sleep(0.005)
    assert "\n" not in transport.error


@pytest.mark.parametrize("head", ["302 Found\r\nLocation: http://192.0.2.1/", "200 OK\r\nBroken", "99999 x"])
async def test_redirects_and_broken_answers_are_errors_of_ours(head: str) -> None:
    server = await serve_once(b"x", head)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, HttpTransport(url, AGENCY, DEVICE) as transport:
        with pytest.raises((MalformedInput, Unreachable), match="device at http://127"):
            await transport.send(DEVICE, b"x")
