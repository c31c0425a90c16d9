"""The device's own TLS on the home network (design, "LAN TLS"), version 0.

At first start a throw-away authority is made, allowed to sign for ``doorward-xxxx.local`` alone (xxxx: the
first four digits of the device's link name), signs one certificate, and its private key is dropped without
ever being written. So an owner who installs the authority in a browser trusts it for that one name and
nothing else, and nobody, this device included, can make it sign again.

RFC 5280 4.2.1.10: a constraint on DNS names says nothing about IP addresses, so the authority excludes all
of those as well. That is why the certificate has no IP address in it: clients that use one (or 127.0.0.1)
pin the fingerprint; browsers there ask before they go on.

Certificate and key stand in one file, written at once, so that a power cut leaves both or neither. The
fingerprint goes into the description that core signs.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

BUILD_DATE: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
"""Not before this: a device without a battery clock does not know the date, but it was not made earlier."""

LIFETIME: Final = dt.timedelta(days=825)
"""The longest that Apple's systems accept, also from an authority that the user installed."""

FILE_NAME: Final = "lan-tls.pem"


@dataclass(frozen=True, slots=True)
class LanTls:
    """What the server needs, and what owners are told.

    ``fingerprint`` is ``sha256:`` and 64 hex digits over the certificate's DER bytes.
    """

    name: str
    fingerprint: str
    authority_pem: bytes
    context: ssl.SSLContext


def lan_name(device: str) -> str:
    """The host name of ``device`` (its link name) on the home network."""
    return f"doorward-{device[:4]}.local"


def lan_tls(directory: Path, device: str) -> LanTls:
    """The identity kept in ``directory``, made at first call, or anew when the device has another name.

    Raises:
        StorageError: The file cannot be read or written.
        IntegrityError: It holds something else than we wrote.
    """
    path = directory / FILE_NAME
    name = lan_name(device)
    try:
        pem = path.read_bytes()
    except FileNotFoundError:
        pem = _create(path, name)
    except OSError as error:
        raise StorageError(f"tls identity {path}: {error.strerror}") from error
    leaf, authority = _certificates(path, pem)
    if not _is_for(leaf, name):
        leaf, authority = _certificates(path, _create(path, name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(path)
    except OSError as error:
        raise _damaged(path) from error
    digest = hashlib.sha256(leaf.public_bytes(serialization.Encoding.DER)).hexdigest()
    return LanTls(name, f"sha256:{digest}", authority.public_bytes(serialization.Encoding.PEM), context)


def make_authority(name: str) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """An authority that can sign for ``name`` alone; who calls this drops the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
    everywhere = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]
    constraints = x509.NameConstraints(
        permitted_subtrees=[x509.DNSName(name)],
        # Mail and URI names need no line: nothing that checks a server's name looks at them.
        excluded_subtrees=[x509.IPAddress(network) for network in everywhere],
    )
    builder = (
        _builder(subject, subject, key, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(constraints, critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()), key


def issue(
    authority: x509.Certificate, authority_key: EllipticCurvePrivateKey, name: str
) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """A server certificate for ``name``; clients refuse it if the authority may not sign for that."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, authority.subject, key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(authority_key, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, issuer_key: EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BUILD_DATE)
        .not_valid_after(BUILD_DATE + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _create(path: Path, name: str) -> bytes:
    authority, authority_key = make_authority(name)
    leaf, key = issue(authority, authority_key, name)
    del authority_key
    pem = (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + leaf.public_bytes(serialization.Encoding.PEM)
        + authority.public_bytes(serialization.Encoding.PEM)
    )
    try:
        _replace(path, pem)
    except OSError as error:
        raise StorageError(f"tls identity {path}: {error.strerror}") from error
    return pem


def _replace(path: Path, data: bytes) -> None:
    """Write, make durable, rename, make the rename durable; readable by us alone from the first byte."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _certificates(path: Path, pem: bytes) -> tuple[x509.Certificate, x509.Certificate]:
    try:
        leaf, authority = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _damaged(path) from error
    return leaf, authority


def _is_for(leaf: x509.Certificate, name: str) -> bool:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return names.get_values_for_type(x509.DNSName) == [name]


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"tls identity {path}: not what was written there",
        hint="remove the file: a new identity is made, and the device announces it",
    )
