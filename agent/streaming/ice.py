"""Which ways a peer connection may take: servers, addresses, policy. Nothing is ever left to a default.

aiortc without a configuration asks a public STUN server of somebody else's; here every connection gets an
explicit one, be it empty. With the relay policy only a TURN server's address is offered, and the home's own
addresses appear nowhere. Of a list of servers aiortc uses the first ``stun:`` and the first ``turn:``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from aiortc import RTCConfiguration, RTCIceServer, RTCIceTransportPolicy
from aiortc.rtcicetransport import parse_stun_turn_uri

from agent.errors import WireError

_MAX_SERVERS: Final = 8


class IcePolicy(StrEnum):
    """Whether the machine's own addresses may be used."""

    RELAY = "relay"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class IceServer:
    """A STUN or TURN server (RFC 7064, RFC 7065) and, for TURN, the credentials of this one session."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None


@dataclass(frozen=True, slots=True)
class Ice:
    """How one peer connection may reach the other side.

    ``addresses`` narrows the host addresses to exactly these, for example ``("127.0.0.1",)`` on a machine
    with nothing but loopback; None means all of the machine's (never loopback). The relay policy uses none.
    """

    policy: IcePolicy
    servers: tuple[IceServer, ...] = ()
    addresses: tuple[str, ...] | None = None

    def configuration(self) -> RTCConfiguration:
        """As aiortc takes it."""
        return RTCConfiguration(
            iceServers=[
                RTCIceServer(list(server.urls), server.username, server.credential) for server in self.servers
            ],
            iceTransportPolicy=RTCIceTransportPolicy(str(self.policy)),
        )


def read_ice(value: object, *, addresses: tuple[str, ...] | None = None) -> Ice:
    """The ``ice`` field of an ``open`` message.

    ``{"policy": "relay" | "all", "servers": [{"urls": [text], "username": text, "credential": text}]}``;
    username and credential may be missing or null.

    Raises:
        WireError: Anything else, or the relay policy without a TURN server.
    """
    if not isinstance(value, dict) or not set(value) <= {"policy", "servers"}:
        raise WireError("open message: field ice (expected policy and servers)")
    try:
        policy = IcePolicy(str(value.get("policy")))
    except ValueError as error:
        raise WireError(
            f"open message: ice policy (got {value.get('policy')!r}, expected relay or all)"
        ) from error
    servers = value.get("servers", [])
    if not isinstance(servers, list) or len(servers) > _MAX_SERVERS:
        raise WireError(f"open message: ice servers (expected a list of at most {_MAX_SERVERS})")
    ice = Ice(policy, tuple(_read_server(server) for server in servers), addresses)
    if policy is IcePolicy.RELAY and not any(
        url.startswith("turn") for server in ice.servers for url in server.urls
    ):
        raise WireError("open message: ice policy relay needs a turn server (got none)")
    return ice


def _read_server(value: object) -> IceServer:
    if not isinstance(value, dict) or not set(value) <= {"urls", "username", "credential"}:
        raise WireError("open message: ice server (expected urls, username and credential)")
    urls, username, credential = value.get("urls"), value.get("username"), value.get("credential")
    if not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls):
        raise WireError("open message: ice server urls (expected a list of texts)")
    for text in (username, credential):
        if text is not None and not isinstance(text, str):
            raise WireError("open message: ice server credentials (expected texts)")
    for url in urls:
        try:
            parse_stun_turn_uri(url)
        except ValueError as error:
            raise WireError(f"open message: ice server url (got {url[:80]!r}): {error}") from error
    return IceServer(tuple(urls), username, credential)
