"""Listening on one host and port, with a bound on connections and clear words when it cannot."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from agent.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

MAX_CONNECTIONS: Final = 256
_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 2.0
_KEEPALIVE_S: Final = 30.0


class _TurnAway(asyncio.Protocol):
    """A connection beyond the bound: closed before it costs anything."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


@asynccontextmanager
async def serving(
    app: web.Application, *, host: str, port: int, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[str, int]]:
    """Serve ``app`` while the block runs; yields the address in use (port 0 lets the system choose).

    Without ``tls`` on loopback only. On the way out long polls end at once, other requests get two seconds.

    Raises:
        ConfigError: The port is occupied or not ours to open, the address not this machine's, or plain HTTP
            off loopback.
    """
    if tls is None and not _is_loopback(host):
        raise ConfigError(f"plain http on {host} (expected a loopback address, or tls)")
    runner = web.AppRunner(
        app,
        access_log=None,  # It would keep who asked when; the ledger records what matters.
        handle_signals=False,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=_KEEPALIVE_S,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await runner.setup()
    try:
        handlers = runner.server
        if handlers is None:
            raise RuntimeError("aiohttp set up no server")

        def protocol() -> asyncio.Protocol:
            return handlers() if len(handlers.connections) < MAX_CONNECTIONS else _TurnAway()

        server = await _listen(protocol, host, port, tls)
        try:
            address = server.sockets[0].getsockname()
            yield address[0], address[1]
        finally:
            server.close()
    finally:
        await runner.cleanup()


async def _listen(
    protocol: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None
) -> asyncio.Server:
    handshake_s = None if tls is None else _HANDSHAKE_S
    try:
        return await asyncio.get_running_loop().create_server(
            protocol, host, port, ssl=tls, backlog=64, ssl_handshake_timeout=handshake_s
        )
    except OSError as error:
        raise _refusal(error, host, port) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _refusal(error: OSError, host: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return ConfigError(
            f"port {port} on {host} is occupied",
            hint=f"see who has it with: ss -ltnp 'sport = :{port}'; or set another port",
        )
    if error.errno == errno.EACCES:
        return ConfigError(f"not allowed to open port {port} on {host}", hint="set a port from 1024 upwards")
    return ConfigError(f"cannot listen on {host} port {port}: {error.strerror or error}")
