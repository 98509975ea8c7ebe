"""PAI-EAS: the service on Alibaba Cloud's platform for inference, described by one JSON file.

EAS asks callers for a token of its own at its gateway, so the container asks for no key. Read in
public sources and not tried on a real account: see docs/launch.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from builder.image.layers import PREFIX
from builder.launch import alibaba, service
from builder.launch.alibaba import call, find, pai
from builder.launch.alibaba.pai import PaiResource
from builder.launch.deployment import Deployment, Table
from builder.settings import Settings
from builder.stage import report
from entrypoint.common import table
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILE: Final = "service.json"
RESERVED: Final = (8080, 9090)  # ports that EAS has for itself
KEEPALIVE: Final = 600_000  # milliseconds of one request, our own default; theirs cuts long answers


@dataclass(frozen=True)
class Eas(Table):
    """PAI-EAS, on public resources (`instance_type`) or on a dedicated group (`resource`)."""

    instance_type: str = ""
    resource: str = ""
    workspace: str = ""
    vpc: str = ""
    vswitch: str = ""
    security_group: str = ""
    endpoint: str = ""

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant, with the reason or ""."""
        yield from alibaba.misfits(self.endpoint)


TABLE: Final = Eas


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return service.json, as `eascmd create` and the console take it too."""
    return {FILE: json.dumps(_service(deployment, _table(deployment), image), indent=2) + "\n"}


def apply(_settings: Settings, deployment: Deployment, image: str) -> None:
    """Create or update the service and wait until it runs; else undo it.

    Raises NotReady, Refused, ConfigFailure.
    """
    description = _service(deployment, _table(deployment), image)
    place = EasService(deployment, _table(deployment))
    before = place.describe()
    with ExitStack() as undo:
        if before is None:
            undo.callback(place.remove)
            call(place.create, description)
        elif contains(json.loads(before.service_config), description):
            report.say(_("nothing changed"))
        else:
            undo.callback(place.update, json.loads(before.service_config))
            place.update(description)
        place.wait(replaces=before is not None)
        undo.pop_all()
    current = place.describe()
    print(f"{current.intranet_endpoint or current.internet_endpoint}/v1" if current else "")


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print the state of the service, its replicas and its address."""
    current = EasService(deployment, _table(deployment)).describe()
    row = (
        (
            current.status,
            f"{current.running_instance}/{current.total_instance}",
            current.intranet_endpoint,
        )
        if current
        else ("-", "-", "-")
    )
    print(table.columns([(_("state"), _("replicas"), _("address")), tuple(map(str, row))]))


def teardown(_settings: Settings, deployment: Deployment) -> None:
    """Delete the service; nothing there is no error."""
    EasService(deployment, _table(deployment)).remove()


@dataclass(frozen=True)
class EasService(PaiResource):
    """Where one service of a region is looked for."""

    eas: Eas

    @cached_property
    def client(self) -> Any:
        """The SDK's client."""
        from alibabacloud_eas20210701.client import Client

        return Client(alibaba.configuration(self.deployment, self.eas.endpoint))

    def describe(self) -> Any | None:
        """Return what EAS says of the service, None if there is none."""
        answer = find(self.client.describe_service, self.deployment.region, self.name)
        return answer.body if answer else None

    def state(self) -> tuple[str, str] | None:
        """Return its status and EAS's reason for that, None if there is none."""
        current = self.describe()
        return (current.status, str(current.message or "")) if current else None

    def create(self, description: dict[str, Any]) -> None:
        """Create the service, unless an earlier attempt did whose answer was lost."""
        from alibabacloud_eas20210701.models import CreateServiceRequest

        if self.describe() is None:
            request = CreateServiceRequest(
                body=json.dumps(description), workspace_id=self.eas.workspace or None
            )
            self.client.create_service(request)

    def update(self, description: dict[str, Any]) -> None:
        """Give the service another description; EAS replaces one replica after the other."""
        from alibabacloud_eas20210701.models import UpdateServiceRequest

        request = UpdateServiceRequest(body=json.dumps(description))
        call(self.client.update_service, self.deployment.region, self.name, request)

    def wait(self, *, replaces: bool) -> None:
        """Return when all replicas run, which means that /ready answers; raise NotReady."""
        self.wait_until(lambda: self.runs() and (replaces or self._is_complete()))

    def remove(self) -> None:
        """Delete the service and return when it is gone."""
        if find(self.client.delete_service, self.deployment.region, self.name):
            self.wait_until_gone()

    def _is_complete(self) -> bool:
        current = self.describe()
        return bool(current and current.running_instance == self.deployment.replicas)


def contains(whole: Any, part: Any) -> bool:
    """Tell whether a description has all that another one says; EAS adds defaults to ours."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            name in whole and contains(whole[name], value) for name, value in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list) and len(whole) == len(part) and all(map(contains, whole, part))
        )
    return bool(whole == part)


def _table(deployment: Deployment) -> Eas:
    eas = deployment.table(Eas)
    if bool(eas.instance_type) == bool(eas.resource):
        raise ConfigFailure(
            _("[eas] needs either instance_type or resource."),
            next=_("deploy.example.toml shows what belongs in it."),
        )
    if deployment.port in RESERVED:
        raise ConfigFailure(
            _("EAS reserves the port {port}.").format(port=deployment.port),
            next=_("Set another port in deploy.toml, for example 8000."),
        )
    return eas


def _service(deployment: Deployment, eas: Eas, image: str) -> dict[str, Any]:
    on_own = {"resource": eas.resource, "cpu": deployment.cpus, "memory": deployment.memory}
    network = {
        "vpc_id": eas.vpc,
        "vswitch_id": eas.vswitch,
        "security_group_id": eas.security_group,
    }
    cloud = {
        **({"computing": {"instance_type": eas.instance_type}} if eas.instance_type else {}),
        **({"networking": network} if eas.vpc else {}),
    }
    return {
        "metadata": {
            "name": pai.identifier(deployment),
            "instance": deployment.replicas,
            **({"workspace_id": eas.workspace} if eas.workspace else {}),
            **(on_own if eas.resource else {}),
            "rpc": {"keepalive": KEEPALIVE},
            "rolling_strategy": {"max_surge": 1, "max_unavailable": 0},
        },
        **({"cloud": cloud} if cloud else {}),
        "runtime": {"termination_grace_period": service.GRACE},
        "containers": [
            {
                "image": image,
                "port": deployment.port,
                # The image has no shell, which `script` would want.
                "command": [f"/{PREFIX}/bin/llmdeploy"],
                "args": service.words(deployment),
                "startup_check": {
                    **_probe(deployment, "/ready"),
                    "period_seconds": 2,
                    "failure_threshold": -(-deployment.patience // 2),
                },
                "health_check": {**_probe(deployment, "/ready"), "period_seconds": 10},
                "liveness_check": {**_probe(deployment, "/health"), "period_seconds": 15},
            }
        ],
    }


def _probe(deployment: Deployment, path: str) -> dict[str, Any]:
    return {
        "http_get": {"path": path, "port": deployment.port},
        "timeout_seconds": 5,
        "success_threshold": 1,
        "failure_threshold": 3,
    }
