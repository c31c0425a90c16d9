"""Where the post is and how the session with it stands."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_PORT: Final = 65535


def one_line(error: BaseException) -> str:
    """What an error of another library says, fit for one line of ours."""
    return " ".join(str(error).split())[:200] or type(error).__name__


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Where the post is and how we show who we are. Times in seconds.

    ``ca`` is the file with the authority that signed the post's certificate, ``certificate`` and ``key`` are
    ours, as the post signed it (its common name is our link name).
    """

    host: str
    port: int
    ca: Path
    certificate: Path
    key: Path
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse an address nobody could connect to.

        Raises:
            ConfigError: ``host`` or ``port`` is none.
        """
        try:
            encoded = self.host.encode("idna")
        except UnicodeError as error:
            raise ConfigError(f"post: host {self.host[:80]!r} is no host name") from error
        if not encoded or not 0 < self.port <= _MAX_PORT:
            raise ConfigError(f"post: got {self.host[:80]!r} port {self.port}, expected a host and a port")

    def tls_context(self) -> ssl.SSLContext:
        """Verify the post, show our certificate.

        Raises:
            ConfigError: One of the files is missing, unreadable or no certificate or key.
        """
        for path in (self.ca, self.certificate, self.key):
            if not path.is_file():
                raise ConfigError(
                    f"post: no file {path}", hint="enrol this device with its post: doorward link enroll"
                )
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:
            raise ConfigError(f"post: certificates: {one_line(error)}") from error
        return context


@dataclass(frozen=True, slots=True)
class LinkState:
    """How a session with the post stands; times in seconds before or after this was asked for."""

    connected: bool
    since_s: float
    next_attempt_s: float | None
    failures: int
    error: str | None
    waiting: int
    received: int = 0
    sent: int = 0
    dropped_retained: int = 0
    dropped_oversized: int = 0
    dropped_repeated: int = 0
    dropped_foreign: int = 0
