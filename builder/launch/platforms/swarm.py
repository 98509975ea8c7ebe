"""Swarm, the cluster that Docker itself has: replicas, rolling updates that roll back, secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder.image import daemon
from builder.image.base import USER
from builder.launch import history, ready, service
from builder.launch.deployment import UNSET, Deployment, Table
from builder.settings import Settings
from builder.stage import receipt, report
from builder.stage.run import run
from entrypoint.common import table
from entrypoint.common.errors import NotReady, Refused
from entrypoint.common.language import _

FILE: Final = "stack.yaml"
STACK: Final = "com.docker.stack.namespace"  # the label of all that a stack has
MONITOR: Final = 10  # seconds in which a failing replica stops an update


@dataclass(frozen=True)
class Swarm(Table):
    """Docker's own cluster; `constraints` as Docker writes them, such as node.labels.cpu==amx.

    Not `published`, the service is for a proxy in its network alone, which finds all replicas
    under the name "serve".
    """

    constraints: tuple[str, ...] = ()
    published: bool = True

    def draft(self, deployment: Deployment) -> Deployment:
        """Return the deployment with a visible name for API keys that it does not name yet."""
        if deployment.keys:
            return deployment
        report.say(_("deploy.toml names no API keys; they are shown as a placeholder."))
        return replace(deployment, keys=UNSET)


TABLE: Final = Swarm


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return stack.yaml; the API keys are read from a file `keys` beside it.

    A secret cannot be changed, so its name ends in the variable KEYS, which follows its content.
    """
    service.require_keys(deployment, "swarm")
    swarm = deployment.table(Swarm)
    port = {"target": deployment.port, "published": deployment.port, "mode": "ingress"}
    container: dict[str, Any] = {
        "image": image,
        "command": service.words(deployment, keys=service.KEYS),
        **({"ports": [port]} if swarm.published else {}),
        "networks": ["closed"],
        "secrets": [{"source": "keys", "target": "keys", "uid": str(USER), "mode": 0o400}],
        "read_only": True,
        "volumes": [{"type": "tmpfs", "target": "/tmp"}],  # noqa: S108 - the container's own
        "cap_drop": ["ALL"],
        "stop_grace_period": f"{service.GRACE}s",
        "healthcheck": service.healthcheck(deployment, interval=5, timeout=5),
        "logging": service.LOGGING,
        "deploy": {
            # One virtual address where Docker balances, else the addresses of all replicas.
            "endpoint_mode": "vip" if swarm.published else "dnsrr",
            "replicas": deployment.replicas,
            "placement": {"constraints": list(swarm.constraints)},
            "resources": {
                "limits": {
                    "cpus": str(deployment.cpus),
                    "memory": f"{deployment.memory}M",
                    "pids": service.PROCESSES,
                },
                "reservations": {"memory": f"{deployment.memory}M"},
            },
            "restart_policy": {"condition": "any", "delay": "1s"},
            "update_config": {**_gently(), "failure_action": "rollback"},
            "rollback_config": _gently(),
        },
    }
    stack = {
        "version": "3.9",
        "services": {"serve": container},
        "networks": {"closed": {"internal": True, "attachable": not swarm.published}},
        "secrets": {"keys": {"name": f"{deployment.name}_keys_${{KEYS}}", "file": "./keys"}},
    }
    return {FILE: service.document("swarm", stack)}


def apply(settings: Settings, deployment: Deployment, image: str) -> None:
    """Start or update the stack and wait until every replica is ready; else undo it.

    Raises NotReady, Refused where the engine is no manager of a swarm, ConfigFailure.
    """
    files = {**render(deployment, image), "keys": service.read_keys(deployment)}
    history.change(history.folder(settings, deployment, "swarm"), files, Stack(deployment))
    print(url(deployment))


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print every replica that should run: where, in what state, with which image."""
    stack = Stack(deployment)
    stack.check()
    nodes = {node.id: node.attrs["Description"]["Hostname"] for node in stack.manager.nodes.list()}
    print(
        table.columns(
            [
                (_("replica"), _("node"), _("state"), _("image")),
                *(
                    (
                        str(task["Slot"]),
                        nodes.get(task.get("NodeID"), "-"),
                        task["Status"]["State"],
                        task["Spec"]["ContainerSpec"]["Image"],
                    )
                    for task in stack.tasks()
                ),
            ]
        )
    )


def teardown(settings: Settings, deployment: Deployment) -> None:
    """Remove the stack with its network and secrets; running requests are finished first."""
    stack = Stack(deployment)
    stack.check()
    history.remove(history.folder(settings, deployment, "swarm"), stack)


def url(deployment: Deployment) -> str:
    """Return the service's address: any node's, or the name in the stack's own network."""
    host = "127.0.0.1" if deployment.table(Swarm).published else "serve"
    return f"http://{host}:{deployment.port}"


@dataclass(frozen=True)
class Stack:
    """A deployment as Docker's command line and API manage it."""

    deployment: Deployment

    @property
    def manager(self) -> Any:
        """The engine's client."""
        return daemon.connect()

    def check(self) -> None:
        """Raise Refused if the engine cannot manage a swarm."""
        if not self.manager.info()["Swarm"].get("ControlAvailable"):
            raise Refused(
                _("The container engine is not a manager of a swarm."),
                next=_("Make it one with: docker swarm init; or set DOCKER_HOST to one."),
            )

    def up(self, folder: Path) -> None:
        """Create the stack, or let the swarm replace one replica after the other."""
        run(
            [
                daemon.clients()[0], "stack", "deploy", "--with-registry-auth", "--prune",
                "--resolve-image=never", f"--compose-file={folder / FILE}", self.deployment.name,
            ],
            env={"KEYS": receipt.sha256(folder / "keys")[:12]},
        )  # fmt: skip

    def wait(self) -> None:
        """Return when all replicas are as described and ready; raise NotReady."""
        ready.wait(self.deployment.name, self._settled, self.deployment.patience, self._reasons)

    def down(self, _folder: Path) -> None:
        """Remove the stack; the name is free again when its network is gone."""
        run([daemon.clients()[0], "stack", "rm", self.deployment.name])
        label = {"label": f"{STACK}={self.deployment.name}"}
        manager = self.manager
        ready.wait(
            self.deployment.name,
            lambda: not manager.networks.list(filters=label),
            service.GRACE + self.deployment.patience,
            self._reasons,
        )

    def tasks(self) -> list[dict[str, Any]]:
        """Return what the swarm knows of every replica that should run."""
        running = {"desired-state": "running"}
        return sorted(
            (task for each in self._services() for task in each.tasks(filters=running)),
            key=lambda task: int(task["Slot"]),
        )

    def _services(self) -> list[Any]:
        label = {"label": f"{STACK}={self.deployment.name}"}
        return list(self.manager.services.list(filters=label))

    def _settled(self) -> bool:
        """Tell whether the replicas run as described: a swarm says so once they are healthy."""
        [current] = self._services()
        update = current.attrs.get("UpdateStatus", {}).get("State", "completed")
        if update.startswith("rollback") or update == "paused":
            raise NotReady(
                _("New replicas of {name} failed; the swarm went back to the old ones.").format(
                    name=self.deployment.name
                ),
                current.attrs["UpdateStatus"].get("Message", ""),
                _("See why with: docker service ps --no-trunc {name}").format(name=current.name),
            )
        template = current.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]
        running = [
            task
            for task in self.tasks()
            if task["Status"]["State"] == "running" and task["Spec"]["ContainerSpec"] == template
        ]
        return bool(update == "completed") and len(running) == self.deployment.replicas

    def _reasons(self) -> str:
        return "\n  ".join(
            f"{task['Slot']}: {task['Status']['State']} {task['Status'].get('Err', '')}".strip()
            for task in self.tasks()
        )


def _gently() -> dict[str, Any]:
    """Return how replicas are replaced: the new one is ready before the old one is stopped."""
    return {"parallelism": 1, "order": "start-first", "monitor": f"{MONITOR}s"}
