"""What was launched last, kept in dist/launch/TARGET/NAME: a failed update finds its way back."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage import report
from entrypoint.common.language import _


class Platform(Protocol):
    """What a platform does with the files in a folder."""

    def check(self) -> None:
        """Raise what keeps it from beginning; change nothing."""

    def up(self, folder: Path) -> None:
        """Make it so; where nothing changed, do nothing."""

    def wait(self) -> None:
        """Return when the service is ready; raise NotReady."""

    def down(self, folder: Path) -> None:
        """Remove all that `up` made; nothing there is no error."""


def folder(settings: Settings, deployment: Deployment, target: str) -> Path:
    """Return where a deployment's files are kept."""
    return settings.dist_dir / "launch" / target / deployment.name


def change(place: Path, files: Mapping[str, str], platform: Platform) -> None:
    """Launch what the files say and wait for it; if that fails, put back what was before.

    Where it cannot even begin, nothing is undone. Raises what the platform raises.
    """
    platform.check()
    before = {path.name: path.read_text(encoding="utf-8") for path in place.glob("*")}
    try:
        _up(place, files, platform)
        platform.wait()
    except BaseException:
        report.say(_("undoing it"))
        if before:
            _up(place, before, platform)
        else:
            remove(place, platform)
        raise


def remove(place: Path, platform: Platform) -> None:
    """Remove what was launched; nothing there is no error."""
    platform.down(place)
    shutil.rmtree(place, ignore_errors=True)


def _up(place: Path, files: Mapping[str, str], platform: Platform) -> None:
    place.mkdir(parents=True, exist_ok=True)
    place.chmod(0o700)  # there may be keys among the files
    for name, text in files.items():
        # In place, because a running container has this very file mounted. Its user is not the
        # owner; the folder is what keeps other people of this machine out.
        (place / name).write_text(text, encoding="utf-8")
        (place / name).chmod(0o644)
    platform.up(place)
