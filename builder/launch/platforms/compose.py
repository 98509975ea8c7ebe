"""Docker Compose: the service on this machine, without a way out of it."""

from __future__ import annotations

import ipaddress
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from builder.image import daemon
from builder.launch import history, ready, service
from builder.launch.deployment import Deployment, Table
from builder.settings import Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common import table
from entrypoint.common.errors import CommandFailed, ConfigFailure
from entrypoint.common.language import _

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FILE: Final = "compose.yaml"
PROJECT: Final = "com.docker.compose.project"  # the label of all that Compose makes
# Without it the bridge hides containers behind this machine's address: nothing answers them then.
CLOSED: Final = {"com.docker.network.bridge.enable_ip_masquerade": "false"}


@dataclass(frozen=True)
class Compose(Table):
    """Docker Compose on this machine; `bind` is the address that the port is opened on."""

    pulls: ClassVar[bool] = False

    bind: str = "127.0.0.1"


TABLE: Final = Compose


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return compose.yaml; the API keys are read from a file `keys` beside it."""
    address = _address(deployment)
    if not address.is_loopback:
        service.require_keys(deployment, "compose")
    if deployment.replicas > 1:
        raise ConfigFailure(
            _("compose runs one replica, and deploy.toml asks for {count}.").format(
                count=deployment.replicas
            ),
            next=_("Launch it with: ./llmdeploy launch swarm"),
        )
    secret = {"secrets": ["keys"]} if deployment.keys else {}
    container = {
        "image": image,
        "command": service.words(deployment, keys=service.KEYS if deployment.keys else ""),
        "ports": [f"{_host(address)}:{deployment.port}:{deployment.port}"],
        "networks": ["closed"],
        **secret,
        "restart": "unless-stopped",
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "pids_limit": service.PROCESSES,
        "cpus": deployment.cpus,
        "mem_limit": f"{deployment.memory}m",
        "memswap_limit": f"{deployment.memory}m",
        "stop_grace_period": f"{service.GRACE}s",
        "healthcheck": service.healthcheck(deployment, interval=15, timeout=10),
        "logging": service.LOGGING,
    }
    project: dict[str, Any] = {
        "services": {deployment.name: container},
        "networks": {"closed": {"driver_opts": CLOSED}},
    }
    if deployment.keys:
        project["secrets"] = {"keys": {"file": "./keys"}}
    return {FILE: service.document("compose", project)}


def apply(settings: Settings, deployment: Deployment, image: str) -> None:
    """Start or update the service and wait until it is ready; else put back what was before.

    Raises NotReady, CommandFailed, ConfigFailure.
    """
    files = render(deployment, image)
    if deployment.keys:
        files["keys"] = service.read_keys(deployment)
    history.change(history.folder(settings, deployment, "compose"), files, Project(deployment))
    print(url(deployment))


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print the containers of the service, their state and their image."""
    rows = [(each.name, _state(each, deployment), _image(each)) for each in _containers(deployment)]
    print(table.columns([(_("container"), _("state"), _("image")), *rows]))


def teardown(settings: Settings, deployment: Deployment) -> None:
    """Stop the service and remove all that `apply` made; running requests are finished first."""
    history.remove(history.folder(settings, deployment, "compose"), Project(deployment))


@dataclass(frozen=True)
class Project:
    """A deployment as Compose's command line manages it."""

    deployment: Deployment

    def check(self) -> None:
        """Raise CommandFailed if Compose is not there."""
        _tool()

    def up(self, folder: Path) -> None:
        """Start what is missing, replace what changed."""
        self._compose(folder, "up", "--detach", "--remove-orphans")

    def wait(self) -> None:
        """Return when the service is ready; raise NotReady with its last words."""
        ready.wait(
            self.deployment.name,
            ready.answers(url(self.deployment) + "/ready"),
            self.deployment.patience,
            lambda: _last_words(self.deployment),
        )

    def down(self, folder: Path) -> None:
        """Stop and remove the container and its network."""
        if not folder.is_dir():
            report.say(_("nothing is launched"))
            return
        self._compose(folder, "down", "--remove-orphans")

    def _compose(self, folder: Path, *words: str) -> None:
        names = ("--project-name", self.deployment.name, "--file", folder / FILE)
        run([*_tool(), *names, *words], cwd=folder)


def url(deployment: Deployment) -> str:
    """Return the address of the service as this machine reaches it."""
    address = _address(deployment)
    host = "127.0.0.1" if address.is_unspecified else _host(address)
    return f"http://{host}:{deployment.port}"


def _host(address: Address) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if isinstance(address, ipaddress.IPv6Address) else str(address)


def _address(deployment: Deployment) -> Address:
    bind = deployment.table(Compose).bind
    try:
        return ipaddress.ip_address(bind)
    except ValueError:
        raise ConfigFailure(
            _("{bind} in [compose] is not an address.").format(bind=repr(bind)),
            next=_("Name an address such as 127.0.0.1 or 0.0.0.0."),
        ) from None


def _tool() -> Sequence[str | Path]:
    """Return the command line of Compose: the docker command's plugin, or the older program."""
    for path in daemon.clients():
        try:
            run([path, "compose", "version"])
        except CommandFailed:
            continue
        return [path, "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise CommandFailed(
        _("Docker Compose is not installed."),
        next=_("Install the package docker-compose-plugin, docker-compose-v2 or docker-compose."),
    )


def _containers(deployment: Deployment) -> list[Any]:
    label = f"{PROJECT}={deployment.name}"
    return list(daemon.connect().containers.list(all=True, filters={"label": label}))


def _state(container: Any, deployment: Deployment) -> str:
    """Return Docker's word; it looks every 15 seconds only, and is ahead of itself by asking."""
    state = str(container.attrs["State"].get("Health", {}).get("Status", container.status))
    if state == "starting" and ready.answers(url(deployment) + "/ready")():
        return "healthy"
    return state


def _image(container: Any) -> str:
    return str(container.attrs["Config"]["Image"])


def _last_words(deployment: Deployment) -> str:
    logs = (each.logs(tail=10).decode(errors="replace") for each in _containers(deployment))
    return os.linesep.join(log.strip() for log in logs)
