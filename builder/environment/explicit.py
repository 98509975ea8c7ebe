"""The locked conda packages as conda, micromamba and pixi read them: the format `@EXPLICIT`.

It names a host, which no lock of ours does, so it is printed for the channel of the settings and
not kept. Its MD5 tells damage; the hashes that nobody can forge are those of the lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from builder.environment import conda

HEADER: Final = "# platform: linux-64\n@EXPLICIT\n"


def explicit(lock: Path, channel: str) -> str:
    """Return the packages of a lock as addresses below `channel`, each with its MD5."""
    return HEADER + "".join(
        f"{record.url}{f'#{record.md5.hex()}' if record.md5 else ''}\n"
        for record in conda.load(lock, channel)
    )
