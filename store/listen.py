"""Opens listeners: one way for every server of the project, with one way of saying why it cannot.

TLS is 1.2 or newer. Changed certificate, key and client CA files are used from the next connection on; a change that cannot be
read is logged and the files before it stay in force.
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import grpc
import grpc.aio

from store.errors import StoreError
from store.tls import Tls

BACKLOG: Final = 512

_log = logging.getLogger(__name__)

Made = TypeVar("Made")


class PortUnavailable(StoreError):
    """A listener cannot be opened; nothing was started."""


class TlsUnusable(StoreError):
    """Certificate, key or client CA cannot be used; nothing was started."""


def listen(host: str, port: int, *, keys: tuple[str, str]) -> socket.socket:
    """A listening socket; `keys` are what host and port are called in the configuration."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=BACKLOG
        )
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise _unavailable(host, port, keys, reason) from error


def bind_grpc(server: grpc.aio.Server, host: str, port: int, *, keys: tuple[str, str], tls: Tls | None = None) -> int:
    """Have `server` listen; the port it was given."""
    if port:  # gRPC's own failure is a line on stderr and no reason
        listen(host, port, keys=keys).close()
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, grpc_credentials(tls))
    except RuntimeError as error:
        raise _unavailable(host, port, keys, "the address is taken") from error


def _unavailable(host: str, port: int, keys: tuple[str, str], reason: str) -> PortUnavailable:
    return PortUnavailable(
        f"cannot listen on `{keys[0]}` {host}, `{keys[1]}` {port}: {reason}; free it or choose another"
    )


def server_context(tls: Tls) -> ssl.SSLContext:
    """For asyncio servers; follows the files."""
    files = _Followed(tls, _context)

    def choose(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = files.current()

    first = files.current()
    # Called at every handshake, with or without a server name; connections take certificate and authorities from what it sets.
    first.sni_callback = choose
    return first


def grpc_credentials(tls: Tls) -> grpc.ServerCredentials:
    """For gRPC servers; follows the files."""
    files = _Followed(tls, _grpc_configuration)
    return grpc.dynamic_ssl_server_credentials(files.current(), files.current, tls.client_ca_file is not None)


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A resumed session would skip the look at the client's certificate.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
    if tls.client_ca_file is not None:
        context.load_verify_locations(tls.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _grpc_configuration(tls: Tls) -> Any:
    _context(tls)  # gRPC takes anything, and then fails at every handshake
    pair = (tls.key_file.read_bytes(), tls.cert_file.read_bytes())
    authorities = tls.client_ca_file.read_bytes() if tls.client_ca_file else None
    return grpc.ssl_server_certificate_configuration([pair], authorities)


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase")


class _Followed(Generic[Made]):
    """What is made of the files of `tls`, made again when they change."""

    def __init__(self, tls: Tls, make: Callable[[Tls], Made]) -> None:
        self._tls = tls
        self._make = make
        self._files = tuple(path for path in (tls.cert_file, tls.key_file, tls.client_ca_file) if path is not None)
        self._seen = self._state()
        try:
            self._made = make(tls)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise TlsUnusable(self._problem(error)) from None

    def current(self) -> Made:
        """The latest that could be made."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._made = self._make(self._tls)
                _log.info("certificates read again")
            except (OSError, ValueError) as error:
                _log.warning("the certificates that were in force stay so: %s", self._problem(error))
        return self._made

    def _state(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(_state(path) for path in self._files)

    def _problem(self, error: Exception) -> str:
        for path in self._files:
            try:
                path.read_bytes()
            except OSError as unreadable:
                return f"{path} cannot be read: {unreadable.strerror}"
        what = f"certificate {self._tls.cert_file} with key {self._tls.key_file}"
        if self._tls.client_ca_file is not None:
            what += f" and client CA {self._tls.client_ca_file}"
        return f"{what} cannot be used: {error}"


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
