"""The sockets and the signals: uvicorn, with bounds on what it takes from strangers."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from entrypoint.common import machine
from entrypoint.common.errors import AddressInUse
from entrypoint.common.files import writing
from entrypoint.common.language import _
from entrypoint.serve import journal
from entrypoint.serve.app import build
from entrypoint.serve.front import Front
from entrypoint.serve.keys import Keys
from entrypoint.serve.limits import HEAD, PATIENCE, STALL, Limits
from entrypoint.serve.service import Service

BACKLOG = 1024


class Bounded(HttpToolsProtocol):
    """uvicorn's HTTP; but a head must be short and come soon, and answers must be read."""

    def connection_made(self, transport: Any) -> None:
        """Start the clock."""
        super().connection_made(transport)
        self._pending, self._unparsed = True, 0
        self._clock = self.loop.call_later(PATIENCE, transport.close)
        # The kernel drops a peer that takes nothing for so long, even when we have closed.
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALL * 1000)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what has come of a head that has no end yet; after too much, hang up."""
        super().data_received(data)
        self._unparsed = self._unparsed + len(data) if self._pending else 0
        if self._unparsed > HEAD and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def on_message_begin(self) -> None:
        """Start the clock again for the next request of a connection."""
        super().on_message_begin()
        self._pending = True
        self._clock.cancel()
        self._clock = self.loop.call_later(PATIENCE, self.transport.close)

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._pending = False
        self._clock.cancel()
        super().on_headers_complete()


class Server(uvicorn.Server):
    """uvicorn's server, which starts and ends the services with itself."""

    def __init__(
        self, services: Sequence[Service], keys: Keys, limits: Limits, front: Front
    ) -> None:
        config = uvicorn.Config(
            build(services, keys, limits, front),
            http=Bounded,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=limits.drain + 1,
        )
        super().__init__(config)
        self._services, self._drain = services, limits.drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to load the models, and listen meanwhile."""
        for service in self._services:
            service.start(self._leave)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more requests, let those that run end, and free the models."""
        journal.write("leaving", seconds=self._drain)
        clock = asyncio.get_running_loop().call_later(self._drain, self._stop)
        await super().shutdown(sockets)
        clock.cancel()
        await asyncio.gather(*(service.close() for service in self._services))

    def _stop(self) -> None:
        for service in self._services:
            service.stop()

    def _leave(self) -> None:
        self.should_exit = True


def serve(
    services: Sequence[Service], keys: Keys, limits: Limits, front: Front, *, host: str, port: int
) -> None:
    """Serve until a signal; raise AddressInUse, or what a model could not be loaded for."""
    listener = listen(host, port)
    _allow_many_files()
    logging.basicConfig(handlers=[journal.Handler()], level=logging.WARNING)
    server = Server(services, keys, limits, front)
    # uvicorn raises the signal anew when it has ended in order, which then means success.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0 if server.should_exit else 143))
    place = listener.getsockname()
    journal.write("listening", host=place[0], port=place[1])
    scratch = machine.require_scratch()
    with writing(scratch), TemporaryDirectory(prefix="llmdeploy-", dir=scratch) as home:
        Path(home, "serve.port").write_text(f"{place[1]}", encoding="ascii")  # for the health check
        server.run(sockets=[listener])
    for service in services:
        if service.failure:
            raise service.failure


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; raise AddressInUse if there can be none."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise AddressInUse(
            _("Cannot serve on {host}, port {port}.").format(host=host, port=port),
            error.strerror or str(error),
            _("Choose another with --port or --host, or end what listens there."),
        ) from None


def _allow_many_files() -> None:
    """Raise the number of connections to what the system lets us have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
