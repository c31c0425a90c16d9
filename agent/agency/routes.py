"""How a device is reached: its own HTTPS on the same network, or the post it shares with the agency.

A route as kept in the store is strict JSON: ``{"url", "fingerprint"}`` or ``{"host", "port", "ca",
"certificate", "key"}``. The link carries sealed messages only; a wrong route can lose them, not open them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.consent import strict_json
from agent.consent.acts import verify_descriptor
from agent.consent.envelope import short
from agent.consent.fields import Fields
from agent.errors import ConfigError, DocumentError, IntegrityError, MalformedInput
from agent.link.http import HttpTransport
from agent.link.https import Peer
from agent.link.mqtt import MqttAgencyTransport, MqttSettings
from agent.link.remote import RemoteDoor, certificate_fingerprint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.agency.introductions import KnownDevice
    from agent.link.transport import Transport

_PIN = "#sha256="
_MAX_PATH = 4096


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """The device's own address, and the SHA-256 of its certificate (None for plain HTTP on loopback)."""

    url: str
    fingerprint: str | None

    @property
    def shown(self) -> str:
        """For people."""
        return self.url

    def to_text(self) -> str:
        """As the store keeps it."""
        return strict_json.dumps({"url": self.url, "fingerprint": self.fingerprint}).decode()

    def transport(self, agency: str, device: str) -> Transport:
        """A link to ``device`` for ``agency``, both by key id."""
        return HttpTransport(self.url, short(agency), short(device), fingerprint=self.fingerprint)


@dataclass(frozen=True, slots=True)
class PostRoute:
    """The post (MQTT broker), and the files that let us in."""

    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path

    @property
    def shown(self) -> str:
        """For people."""
        return f"post {self.host}:{self.port}"

    def to_text(self) -> str:
        """As the store keeps it."""
        return strict_json.dumps(
            {
                "host": self.host,
                "port": self.port,
                "ca": str(self.ca),
                "certificate": str(self.certificate),
                "key": str(self.key),
            }
        ).decode()

    def transport(self, agency: str, device: str) -> Transport:  # noqa: ARG002 - one link for all devices
        """A link to every device of this post for ``agency``, by key id."""
        settings = MqttSettings(self.host, self.port, self.ca, self.certificate, self.key)
        return MqttAgencyTransport(settings, short(agency))


Route = HttpRoute | PostRoute


def read_route(text: str) -> Route:
    """Read what `to_text` wrote.

    Raises:
        IntegrityError: It is no route.
    """
    try:
        fields = Fields(strict_json.loads(text.encode()), "route")
        route: Route
        if fields.has("url"):
            pin = fields.key_id("fingerprint") if fields.has("fingerprint") else None
            route = HttpRoute(fields.text("url"), pin)
        else:
            route = PostRoute(
                fields.text("host"),
                fields.integer("port", 1, 65_535),
                *(Path(fields.text(name, max_chars=_MAX_PATH)) for name in ("ca", "certificate", "key")),
            )
        fields.done()
    except DocumentError as error:
        raise IntegrityError(f"agency store: {error}") from error
    return route


def post_route(where: str, ca: Path | None, certificate: Path | None, key: Path | None) -> PostRoute:
    """The post at ``HOST:PORT`` with the three files.

    Raises:
        ConfigError: No address, or a file is missing.
    """
    host, separator, port = where.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit():
        raise ConfigError(f"post: got {where[:80]!r}, expected HOST:PORT")
    if ca is None or certificate is None or key is None:
        raise ConfigError(
            "post: needs --ca, --cert and --key",
            hint="the post's operator signs a certificate whose common name is our link name: "
            "doorward agency card",
        )
    MqttSettings(host, int(port), ca, certificate, key).tls_context()
    return PostRoute(host, int(port), ca.absolute(), certificate.absolute(), key.absolute())


async def http_route(address: str, devices: Sequence[KnownDevice]) -> tuple[KnownDevice, HttpRoute]:
    """The device at ``https://HOST:PORT``, ``…#sha256=HEX`` or ``http://127.0.0.1:PORT``, and its route.

    Unless the address says all there is to know, the device is asked to describe itself: it has to be one of
    ``devices``, by its signature, and the certificate it showed the one it signs for.

    Raises:
        ConfigError: No address.
        Unreachable: Nobody answers there.
        IntegrityError: Somebody answers that is none of ``devices``.
    """
    url, pinned, digits = address.partition(_PIN)
    pin = f"sha256:{digits.lower()}" if pinned else None
    if len(devices) == 1 and (pin is not None or url.startswith("http://")):
        Peer(url, pin)
        return devices[0], HttpRoute(url, pin)
    if pin is None and url.startswith("https://"):
        pin = await certificate_fingerprint(url)
    _, blob = await RemoteDoor(url, fingerprint=pin).call("device")
    try:
        descriptor = verify_descriptor(blob)
    except MalformedInput as error:
        raise IntegrityError(f"device at {url}: {error}") from error
    device = next((each for each in devices if each.key_id == descriptor.device), None)
    if device is None:
        raise IntegrityError(
            f"device at {url}: another one than we were introduced to (it says {short(descriptor.device)})",
            hint="compare the address, and the fingerprint that the device itself shows",
        )
    if pin is not None and descriptor.tls_fingerprint != pin:
        raise IntegrityError(
            f"device at {url}: shows another certificate than it signs for "
            f"(got {pin}, expected {descriptor.tls_fingerprint})",
            hint="somebody may be in between",
        )
    return device, HttpRoute(url, pin)
