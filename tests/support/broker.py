"""A real mosquitto on a free loopback port: TLS, client certificates, and the very files of config/mosquitto.

Used by tests and by the demo::

    with Broker(directory) as broker:
        link = MqttDeviceLink(broker.settings(device), device, …)

``enforcing=False`` takes away the limits that the example sets (sizes, retained messages), for tests of what
we do ourselves when a post enforces nothing.
"""

from __future__ import annotations

import datetime as dt
import getpass
import ipaddress
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from agent.link.mqtt import MqttSettings

if TYPE_CHECKING:
    from types import TracebackType

CONFIG: Final = Path(__file__).parents[2] / "config" / "mosquitto"
_NOT_BEFORE: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_NOT_AFTER: Final = dt.datetime(2046, 1, 1, tzinfo=dt.UTC)
_START_S: Final = 10.0


def find_mosquitto() -> str | None:
    """Its path, also where Debian puts it out of a plain user's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Identity:
    """Files of one certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """A throw-away certificate authority."""

    def __init__(self, directory: Path, name: str = "post") -> None:
        self._directory = directory
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = directory / f"{name}-ca.pem"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def issue(self, name: str, *, server: bool = False) -> Identity:
        """A certificate with ``name`` as its common name; of a client, or of a server on loopback."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if server:
            loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
            names = x509.SubjectAlternativeName([loopback, x509.DNSName("localhost")])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        identity = Identity(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        identity.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        identity.key.touch(mode=0o600)
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return identity


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


class Broker:
    """A mosquitto of our own; started with ``with``, ended by its process id."""

    def __init__(self, directory: Path, *, enforcing: bool = True) -> None:
        binary = find_mosquitto()
        if binary is None:
            raise RuntimeError("mosquitto is not installed; get it with: sudo apt-get install -y mosquitto")
        self._binary = binary
        self._directory = directory
        self._enforcing = enforcing
        self._authority = Authority(directory)
        self._server = self._authority.issue("post", server=True)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]

    def settings(self, name: str) -> MqttSettings:
        """How the holder of a new certificate for ``name`` reaches this post; retries quickly."""
        identity = self._authority.issue(name)
        return MqttSettings(
            host="127.0.0.1",
            port=self.port,
            ca=self._authority.certificate,
            certificate=identity.certificate,
            key=identity.key,
            first_retry_s=0.05,
            longest_retry_s=0.2,
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        log = self._directory / "mosquitto.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._binary, "-c", str(self._write_config())], stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"mosquitto does not start:\n{log.read_text()[-2000:]}") from None
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """Let it go in order: it keeps what waits for clients that are away."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None

    def kill(self) -> None:
        """Let it die at once, as in a power cut."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _write_config(self) -> Path:
        """The example with our port and files in place of its own."""
        ours = {
            "listener": f"{self.port} 127.0.0.1",
            "cafile": self._authority.certificate,
            "certfile": self._server.certificate,
            "keyfile": self._server.key,
            "acl_file": self._directory / "acl",
            "persistence_location": f"{self._directory}/",
        }
        limits = {"message_size_limit", "max_packet_size", "retain_available"}
        lines = [f"user {getpass.getuser()}", "log_dest stdout", "log_type all"]
        missing = set(ours)
        for line in (CONFIG / "mosquitto.conf.example").read_text().splitlines():
            option = line.split(" ")[0]
            if option in ours:
                missing.discard(option)
                lines.append(f"{option} {ours[option]}")
            elif self._enforcing or option not in limits:
                lines.append(line)
        if missing:
            raise RuntimeError(f"mosquitto.conf.example: no longer sets {sorted(missing)}")
        shutil.copyfile(CONFIG / "acl.example", self._directory / "acl")
        config = self._directory / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        return config
