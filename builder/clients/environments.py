"""Where the clients run: environments of their own in the cache, locked, made once."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from builder.environment import lock, wheelhouse
from builder.settings import Settings
from builder.stage import receipt, report, scratch
from builder.stage.run import run
from entrypoint.common.language import _

NEWEST: Final = lock.ENV / "clients.lock"
OLDER: Final = lock.ENV / "clients" / "older.lock"  # for who does not take the newest openai
NPM: Final = lock.ENV / "clients" / lock.NPM
SOURCES: Final = lock.ENV / "clients" / lock.SOURCES


def python(settings: Settings, packages: Path) -> Path:
    """Return the Python of an environment with the `packages` of a lock.

    Raises HashMismatch, DownloadFailure or CommandFailed.
    """
    locks = [packages, SOURCES] if packages == NEWEST else [packages]
    inputs = {**{path.name: receipt.sha256(path) for path in locks}, "python": sys.version}
    place = settings.cache_dir / "clients" / f"{packages.stem}-{receipt.digest(inputs)[:16]}"
    with scratch.folder(place.with_name(f".{place.name}")):
        if not receipt.current(place / "receipt.json", inputs):
            report.say(_("installing {name}, once").format(name=packages.name))
            built = wheelhouse.of_sources(settings, "clients") if SOURCES in locks else ()
            wheelhouse.venv(place, packages, built)
            receipt.write(place / "receipt.json", inputs, [])
    return place / "bin" / "python"


def node(settings: Settings) -> Path:
    """Return a folder below which node finds the packages of npm's lock.

    Raises CommandFailed.
    """
    inputs = {NPM.name: receipt.sha256(NPM)}
    place = settings.cache_dir / "clients" / f"npm-{receipt.digest(inputs)[:16]}"
    with scratch.folder(place.with_name(f".{place.name}")) as folder:
        if not receipt.current(place / "receipt.json", inputs):
            report.say(_("installing {name}, once").format(name=NPM.name))
            content = folder / "npm"
            content.mkdir()
            for path in (NPM, NPM.with_name("package.json")):
                shutil.copy(path, content)
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=content)
            receipt.write(content / "receipt.json", inputs, [])
            shutil.rmtree(place, ignore_errors=True)
            os.replace(content, place)
    return place
