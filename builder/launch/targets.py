"""`launch`, `status`, `teardown`: what is the same for every platform."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from builder.launch import push
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage.edge import one_of
from entrypoint.common import catalog
from entrypoint.common.errors import NotEnoughMemory, UsageFailure
from entrypoint.common.language import _

MODULES: Final[Mapping[str, str]] = {
    "compose": "builder.launch.compose",
    "swarm": "builder.launch.swarm",
    "k8s": "builder.launch.k8s",
    "ecs": "builder.launch.alibaba.ecs",
    "eas": "builder.launch.alibaba.eas",
    "dsw": "builder.launch.alibaba.dsw",
}
LOCAL: Final = ("compose",)  # runs an image of this machine; the others have to pull it
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
    one_of("TARGET", name, tuple(MODULES))
    return cast("Target", import_module(MODULES[name]))


def show(settings: Settings, deployment: Deployment, name: str) -> None:
    """Print what `apply` would hand to the platform. Raises ConfigFailure, StageMissing."""
    for text in _render(settings, deployment, name).values():
        sys.stdout.write(text)


def write(settings: Settings, deployment: Deployment, name: str, folder: Path) -> None:
    """Write the platform's files into `folder`; raise UsageFailure over others of that name."""
    files = _render(settings, deployment, name)
    for file, text in files.items():
        path = folder / file
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise UsageFailure(
                _("{path} is there already and has other content.").format(path=path),
                next=_("Name another folder, or delete it."),
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
        print(folder / file)


def apply(settings: Settings, deployment: Deployment, name: str) -> None:
    """Launch or update the service. Raises what the platform's module raises."""
    find(name).apply(settings, deployment, _image(settings, deployment, name))


def _render(settings: Settings, deployment: Deployment, name: str) -> dict[str, str]:
    return find(name).render(deployment, _image(settings, deployment, name))


def _image(settings: Settings, deployment: Deployment, name: str) -> str:
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
