"""The platforms: each is the module of its name in here, found by looking."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Protocol, cast

from builder.launch.deployment import Deployment, Table
from builder.settings import Settings
from builder.stage.edge import one_of


class Target(Protocol):
    """What each platform's module has."""

    TABLE: type[Table]  # what it is told in deploy.toml

    def render(self, deployment: Deployment, image: str) -> dict[str, str]:
        """Return the files that describe the deployment to the platform, by name. Pure."""

    def apply(self, settings: Settings, deployment: Deployment, image: str) -> None:
        """Make it so, wait until it is ready and print its address; undo it if that fails."""

    def status(self, settings: Settings, deployment: Deployment) -> None:
        """Print what is there."""

    def teardown(self, settings: Settings, deployment: Deployment) -> None:
        """Remove what `apply` made; nothing to remove is no error."""


def names() -> tuple[str, ...]:
    """Return the platforms' names, without importing one."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def find(name: str) -> Target:
    """Return the module of a platform; raise UsageFailure with a suggestion if there is none."""
    one_of("TARGET", name, names())
    return cast("Target", import_module(f"{__name__}.{name}"))
