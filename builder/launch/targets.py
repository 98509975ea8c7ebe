"""`launch`, `status`, `teardown`: what is the same for every platform."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from builder.launch import description, platforms, push
from builder.launch.deployment import UNSET, Deployment
from builder.settings import Settings
from builder.stage import report
from entrypoint.common import catalog
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, StageMissing, UsageFailure
from entrypoint.common.language import _

MEBIBYTE: Final = 1 << 20


def show(settings: Settings, deployment: Deployment, name: str) -> None:
    """Print what `apply` would hand to the platform, and tell what is missing for that.

    What is missing is shown as a placeholder. Raises ConfigFailure for what cannot be meant.
    """
    platform = platforms.find(name)
    try:
        image = image_of(settings, deployment, name)
    except (StageMissing, ConfigFailure) as missing:
        report.say(_("{what} Its name is shown as a placeholder.").format(what=missing.what))
        image = f"{deployment.registry or 'REGISTRY'}/{UNSET}@sha256:{UNSET}"
    draft = deployment.table(platform.TABLE).draft(deployment)
    for text in platform.render(draft, image).values():
        sys.stdout.write(text)
    if names := description.stand_ins(deployment, name):
        report.say(
            _("Before --apply, set in deploy.toml what the example leaves open: {names}.").format(
                names=", ".join(names)
            )
        )


def write(settings: Settings, deployment: Deployment, name: str, folder: Path) -> None:
    """Write the platform's files into `folder`; raise UsageFailure over others of that name."""
    files = _render(settings, deployment, name)
    for file, text in files.items():
        path = folder / file
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UsageFailure(
                _("{path} already exists with different content.").format(path=path),
                next=_("Name another folder, or delete it."),
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
        print(folder / file)


def apply(settings: Settings, deployment: Deployment, name: str) -> None:
    """Launch or update the service. Raises what the platform's module raises."""
    platform = platforms.find(name)
    if names := description.stand_ins(deployment, name):
        raise ConfigFailure(
            _("deploy.toml still has what the example leaves open: {names}.").format(
                names=", ".join(names)
            ),
            next=_("Set them to what is yours."),
        )
    platform.apply(settings, deployment, image_of(settings, deployment, name))


def _render(settings: Settings, deployment: Deployment, name: str) -> dict[str, str]:
    return platforms.find(name).render(deployment, image_of(settings, deployment, name))


def image_of(settings: Settings, deployment: Deployment, name: str) -> str:
    """Return the image to launch, after a look at whether a replica has room for its model."""
    if (settings.ready_dir / "catalog.json").exists():
        model = catalog.load(settings.ready_dir).find(deployment.model or None)
        memory = model.memory + (deployment.parallel - 1) * model.memory_each
        if memory > deployment.memory * MEBIBYTE:
            raise NotEnoughMemory(
                _("{model} needs {needed} MiB, and deploy.toml gives a replica {given}.").format(
                    model=model.name, needed=-(-memory // MEBIBYTE), given=deployment.memory
                ),
                next=_("Set in deploy.toml a larger memory, a smaller model or less parallel."),
            )
    if platforms.find(name).TABLE.pulls:
        return push.reference(settings, deployment)
    return push.local_name(settings, deployment)
