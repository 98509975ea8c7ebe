"""Docker's health check: whether every engine and every server in this container still answers."""

from __future__ import annotations

import http.client
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from entrypoint.engines.connection import Connection

SECONDS = 5  # in which a server has to answer; Docker waits 10


def main() -> int:
    """Return 0 if all answer, be it that they are still loading; 1 if one does not."""
    for name, connection in _connections():
        try:
            with closing(connection):
                connection.request("GET", "/health")
                print(f"{name}: {connection.getresponse().read().decode()}")
        except (OSError, http.client.HTTPException) as error:
            print(f"{name}: {error}")
            return 1
    return 0


def _connections() -> Iterator[tuple[Path, http.client.HTTPConnection]]:
    """Yield what is to be asked, each with the file that tells where it listens."""
    scratch = Path(tempfile.gettempdir())
    for path in scratch.glob("llmdeploy-*/engine.sock"):
        yield path, Connection(path, SECONDS)
    for path in scratch.glob("llmdeploy-*/serve.port"):
        port = int(path.read_text(encoding="ascii"))
        yield path, http.client.HTTPConnection("localhost", port, timeout=SECONDS)


if __name__ == "__main__":
    sys.exit(main())
