"""What the products of PAI have in common: how their things are named, and how they come and go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from builder.launch import ready
from builder.launch.deployment import Deployment
from entrypoint.common.errors import NotReady
from entrypoint.common.language import _

FAILED: Final = "Failed"  # a status


def identifier(deployment: Deployment) -> str:
    """Return the deployment's name as PAI takes it, which is without hyphens."""
    return deployment.name.replace("-", "_")


@dataclass(frozen=True)
class PaiResource(ABC):
    """A service or an instance with a deployment's name."""

    deployment: Deployment

    @property
    def name(self) -> str:
        """Its name, which may have no hyphens."""
        return identifier(self.deployment)

    @abstractmethod
    def state(self) -> tuple[str, str] | None:
        """Return its status and PAI's reason for that, None if it is not there."""

    def runs(self) -> bool:
        """Tell whether it runs; raise NotReady with PAI's reason if it failed."""
        status, reason = self.state() or ("", "")
        if status == FAILED:
            raise NotReady(
                _("{name} failed.").format(name=self.name),
                reason,
                _("All changes have been undone."),
            )
        return status == "Running"

    def wait_until(self, met: Callable[[], bool]) -> None:
        """Return when `met` holds; raise NotReady after the deployment's patience."""
        ready.wait(self.name, met, self.deployment.patience, self._why)

    def wait_until_gone(self) -> None:
        """Return when it is not there any more; raise NotReady."""
        self.wait_until(lambda: self.state() is None)

    def _why(self) -> str:
        return ": ".join(self.state() or ())
