"""The device's own certificate: what its authority can and cannot do, and what survives."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
import stat
from typing import TYPE_CHECKING

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from agent.console.tls import BUILD_DATE, FILE_NAME, issue, lan_name, lan_tls, make_authority
from agent.errors import ConfigError, IntegrityError, StorageError
from agent.serving import serving
from tests.support.doors import AGENCY, DEVICE, door

if TYPE_CHECKING:
    from pathlib import Path

NAME = "doorward-d0d0.local"


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """A TLS handshake in memory; raises what the client says about the server's certificate."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].version() == "TLSv1.3"


def trusting(authority_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def test_a_browser_that_trusts_the_authority_accepts_the_name(tmp_path: Path) -> None:
    tls = lan_tls(tmp_path, DEVICE)
    assert tls.name == lan_name(DEVICE) == NAME
    handshake(tls.context, trusting(tls.authority_pem), NAME)
    for other in ("doorward-d0d1.local", "127.0.0.1", "example.com"):
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(tls.context, trusting(tls.authority_pem), other)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        (x509.DNSName("example.com"), "example.com"),
        (x509.DNSName("local"), "local"),
        (x509.DNSName("xdoorward-d0d0.local"), "xdoorward-d0d0.local"),
        (x509.IPAddress(ipaddress.ip_address("192.0.2.1")), "192.0.2.1"),
        (x509.IPAddress(ipaddress.ip_address("2001:db8::1")), "2001:db8::1"),
    ],
)
def test_a_stolen_authority_key_could_sign_for_no_other_name(
    tmp_path: Path, name: x509.GeneralName, asked: str
) -> None:
    authority, key = make_authority(NAME)
    template, leaf_key = issue(authority, key, NAME)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    for extension in template.extensions:
        if not isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(extension.value, extension.critical)
    forged = builder.add_extension(x509.SubjectAlternativeName([name]), critical=True).sign(
        key, hashes.SHA256()
    )
    path = tmp_path / "forged.pem"
    path.write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + forged.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    with pytest.raises(ssl.SSLCertVerificationError, match="subtree violation"):
        handshake(server, trusting(authority.public_bytes(serialization.Encoding.PEM)), asked)


def test_constraints_are_critical_and_dates_do_not_need_a_clock(tmp_path: Path) -> None:
    tls = lan_tls(tmp_path, DEVICE)
    authority = x509.load_pem_x509_certificate(tls.authority_pem)
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName(NAME)]
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert authority.not_valid_before_utc == BUILD_DATE


def test_the_identity_survives_a_restart_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = lan_tls(state, DEVICE)
    again = lan_tls(state, DEVICE)
    assert (first.fingerprint, first.authority_pem) == (again.fingerprint, again.authority_pem)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", first.fingerprint)
    assert [path.name for path in state.iterdir()] == [FILE_NAME]
    assert stat.S_IMODE((state / FILE_NAME).stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_the_private_key_of_the_authority_is_nowhere(tmp_path: Path) -> None:
    tls = lan_tls(tmp_path, DEVICE)
    pem = (tmp_path / FILE_NAME).read_bytes()
    assert pem.count(b"PRIVATE KEY-----\n") == 2  # One key: its begin and its end.
    key = serialization.load_pem_private_key(pem, password=None)
    authority = x509.load_pem_x509_certificate(tls.authority_pem)
    assert key.public_key() != authority.public_key()


def test_a_device_with_a_new_name_gets_a_new_identity(tmp_path: Path) -> None:
    first = lan_tls(tmp_path, DEVICE)
    second = lan_tls(tmp_path, AGENCY)
    assert second.name == lan_name(AGENCY)
    assert second.fingerprint != first.fingerprint
    assert lan_tls(tmp_path, AGENCY).fingerprint == second.fingerprint


def test_a_damaged_or_unreadable_file_is_told_and_never_replaced(tmp_path: Path) -> None:
    lan_tls(tmp_path, DEVICE)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    key_gone = whole[whole.index(b"-----BEGIN CERTIFICATE") :]
    for damaged in (b"", whole[: len(whole) // 2], whole.replace(b"A", b"B"), key_gone, b"\x00" * 100):
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="not what was written there") as caught:
            lan_tls(tmp_path, DEVICE)
        assert caught.value.hint is not None
        assert path.read_bytes() == damaged
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError, match="tls identity"):
        lan_tls(tmp_path, DEVICE)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="tls identity"):
        lan_tls(tmp_path / "file" / "below", DEVICE)


async def test_an_occupied_port_is_named_with_what_to_do(tmp_path: Path) -> None:
    async with door(tmp_path) as at:
        with pytest.raises(ConfigError, match=f"port {at.port} on 127.0.0.1 is occupied") as caught:
            async with door(tmp_path, port=at.port):
                pytest.fail("listened twice")
        assert str(at.port) in str(caught.value.hint)
        async with aiohttp.ClientSession() as session:
            trust = aiohttp.Fingerprint(bytes.fromhex(at.tls.fingerprint.removeprefix("sha256:")))
            async with session.get(f"{at.url}/v0/device", ssl=trust) as response:
                assert response.status == 200


async def test_an_address_of_another_machine_and_plain_http_off_loopback_are_refused(tmp_path: Path) -> None:
    tls = lan_tls(tmp_path, DEVICE)
    app = aiohttp.web.Application()
    with pytest.raises(ConfigError, match="cannot listen on 192"):
        async with serving(app, host="192.0.2.1", port=0, tls=tls.context):
            pytest.fail("listened")
    for host in ("0.0.0.0", "::", "localhost", "192.0.2.1"):  # noqa: S104 - refused
        with pytest.raises(ConfigError, match="plain http on"):
            async with serving(app, host=host, port=0, tls=None):
                pytest.fail("listened")


async def test_connections_beyond_the_bound_are_turned_away_and_the_door_recovers(tmp_path: Path) -> None:
    app = aiohttp.web.Application()
    async with serving(app, host="127.0.0.1", port=0, tls=None) as (host, port):
        held = [await asyncio.open_connection(host, port) for _ in range(256)]
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await first_bytes(host, port)
        for _, writer in held:
            writer.transport.abort()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await first_bytes(host, port) == b"HTTP/1.1 404"
                except (ConnectionError, asyncio.IncompleteReadError):
                    continue
                break


async def first_bytes(host: str, port: int) -> bytes:
    """The beginning of what the server answers to a plain request."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return await reader.readexactly(12)
        finally:
            writer.transport.abort()
