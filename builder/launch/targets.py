"""`launch`, `status`, `teardown`: what is the same for every platform."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from builder.launch import PLATFORMS, push
from builder.launch import deployment as deployment_
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage import report
from builder.stage.edge import one_of
from entrypoint.common import catalog
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, StageMissing, UsageFailure
from entrypoint.common.language import _

LOCAL: Final = ("compose",)  # runs an image of this machine; the others have to pull it
UNSET: Final = "NOT-SET-YET"  # a placeholder that nobody takes for a name
MEBIBYTE: Final = 1 << 20


class Target(Protocol):
    """What each platform's module has."""

    def render(self, deployment: Deployment, image: str) -> dict[str, str]:
        """Return the files that describe the deployment to the platform, by name. Pure."""

    def apply(self, settings: Settings, deployment: Deployment, image: str) -> None:
        """Make it so, wait until it is ready and print its address; undo it if that fails."""

    def status(self, settings: Settings, deployment: Deployment) -> None:
        """Print what is there."""

    def teardown(self, settings: Settings, deployment: Deployment) -> None:
        """Remove what `apply` made; nothing to remove is no error."""


def find(name: str) -> Target:
    """Return the module of a platform; raise UsageFailure with a suggestion if there is none."""
    one_of("TARGET", name, tuple(PLATFORMS))
    return cast("Target", import_module(PLATFORMS[name]))


def show(settings: Settings, deployment: Deployment, name: str) -> None:
    """Print what `apply` would hand to the platform, and tell what is missing for that.

    What is missing is shown as a placeholder. Raises ConfigFailure for what cannot be meant.
    """
    platform = find(name)
    try:
        image = image_of(settings, deployment, name)
    except (StageMissing, ConfigFailure) as missing:
        report.say(_("{what} Its name is shown as a placeholder.").format(what=missing.what))
        image = f"{deployment.registry or 'REGISTRY'}/{UNSET}@sha256:{UNSET}"
    draft = _draft(deployment, name)
    for text in platform.render(draft, image).values():
        sys.stdout.write(text)
    if names := deployment_.stand_ins(deployment, name):
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
    platform = find(name)
    if names := deployment_.stand_ins(deployment, name):
        raise ConfigFailure(
            _("deploy.toml still has what the example leaves open: {names}.").format(
                names=", ".join(names)
            ),
            next=_("Set them to what is yours."),
        )
    platform.apply(settings, deployment, image_of(settings, deployment, name))


def _draft(deployment: Deployment, name: str) -> Deployment:
    """Return a description to show, with visible names for API keys that it does not name yet."""
    if name == "swarm" and not deployment.keys:
        report.say(_("deploy.toml names no API keys; they are shown as a placeholder."))
        return replace(deployment, keys=UNSET)
    if name == "k8s" and not deployment.k8s.secret:
        report.say(_("[k8s] names no secret with API keys; it is shown as a placeholder."))
        return replace(deployment, k8s=replace(deployment.k8s, secret=UNSET))
    return deployment


def _render(settings: Settings, deployment: Deployment, name: str) -> dict[str, str]:
    return find(name).render(deployment, image_of(settings, deployment, name))


def image_of(settings: Settings, deployment: Deployment, name: str) -> str:
    """Return the image to launch, after a look at whether a replica has room for its model."""
    if (settings.ready_dir / "catalog.json").exists():
        model = catalog.load(settings.ready_dir).find(deployment.model or None)
        needed = model.memory + (deployment.parallel - 1) * model.memory_each
        if needed > deployment.memory * MEBIBYTE:
            raise NotEnoughMemory(
                _("{model} needs {needed} MiB, and deploy.toml gives a replica {given}.").format(
                    model=model.name, needed=-(-needed // MEBIBYTE), given=deployment.memory
                ),
                next=_("Set in deploy.toml a larger memory, a smaller model or less parallel."),
            )
    if name in LOCAL:
        return push.local_name(settings, deployment)
    return push.reference(settings, deployment)
