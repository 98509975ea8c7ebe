"""Docker's health check: whether every engine in this container still answers."""

from __future__ import annotations

import http.client
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from entrypoint.engines.llamacpp import Connection


def main() -> int:
    """Return 0 if all engines answer, be it that they are still loading; 1 if one does not."""
    for address in Path(tempfile.gettempdir()).glob("llmdeploy-*/engine.sock"):
        try:
            with closing(Connection(address)) as connection:
                connection.request("GET", "/health")
                print(f"{address}: {connection.getresponse().read().decode()}")
        except (OSError, http.client.HTTPException) as error:
            print(f"{address}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
