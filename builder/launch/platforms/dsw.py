"""PAI-DSW: an interactive instance of Alibaba Cloud with the image's environment in it.

Meant for the image of the engine `itrex`. Read in public sources and not tried on a real account:
see docs/launch.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from builder.launch import alibaba, ready
from builder.launch.alibaba import call, find
from builder.launch.deployment import Deployment, Table
from builder.settings import Settings
from entrypoint.common import table
from entrypoint.common.errors import ConfigFailure, NotReady
from entrypoint.common.language import _

FILE: Final = "instance.json"
FAILED: Final = "Failed"
ENDED: Final = ("Stopped", FAILED)


@dataclass(frozen=True)
class Dsw(Table):
    """PAI-DSW, an instance to work in."""

    instance_type: str
    workspace: str
    vpc: str = ""
    vswitch: str = ""
    security_group: str = ""
    endpoint: str = ""

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant, with the reason or ""."""
        yield from alibaba.misfits(self.endpoint)


TABLE: Final = Dsw


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return the CreateInstance request."""
    request = _request(deployment, deployment.table(Dsw), image)
    return {FILE: json.dumps(request, indent=2) + "\n"}


def apply(_settings: Settings, deployment: Deployment, image: str) -> None:
    """Create the instance unless it is there, and wait until it runs; print its address.

    Raises NotReady, Refused, ConfigFailure if one with another image has this name.
    """
    wanted = _request(deployment, deployment.table(Dsw), image)
    instance = DswInstance(deployment, deployment.table(Dsw))
    before = instance.look()
    if before and before.image_url != image:
        raise ConfigFailure(
            _("{name} already exists, with the image {image}.").format(
                name=instance.name, image=before.image_url
            ),
            _("Everything outside /mnt/workspace would be lost."),
            _("Save it, then run: ./llmdeploy teardown dsw"),
        )
    with ExitStack() as undo:
        if before is None:
            undo.callback(instance.remove)
            call(instance.create, wanted)
        instance.wait()
        undo.pop_all()
    found = instance.look()
    print(found.instance_url if found else "")


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print the state of the instance, its specification and its address."""
    found = DswInstance(deployment, deployment.table(Dsw)).look()
    row = (found.status, found.ecs_spec, found.instance_url) if found else ("-", "-", "-")
    print(table.columns([(_("state"), _("type"), _("address")), tuple(map(str, row))]))


def teardown(_settings: Settings, deployment: Deployment) -> None:
    """Stop and delete the instance; nothing there is no error."""
    DswInstance(deployment, deployment.table(Dsw)).remove()


@dataclass(frozen=True)
class DswInstance:
    """Where one instance of a region is looked for."""

    deployment: Deployment
    dsw: Dsw

    @property
    def name(self) -> str:
        """The instance's name, which may have no hyphens."""
        return _name(self.deployment)

    @cached_property
    def client(self) -> Any:
        """The SDK's client."""
        from alibabacloud_pai_dsw20220101.client import Client

        return Client(alibaba.configuration(self.deployment, self.dsw.endpoint))

    def look(self) -> Any | None:
        """Return the instance of this name, None if there is none: names need not be unique."""
        from alibabacloud_pai_dsw20220101.models import ListInstancesRequest

        request = ListInstancesRequest(
            instance_name=self.name, workspace_id=self.dsw.workspace, page_size=100
        )
        found = call(self.client.list_instances, request).body.instances or []
        return next((each for each in found if each.instance_name == self.name), None)

    def create(self, wanted: dict[str, Any]) -> None:
        """Create the instance, unless an earlier attempt did whose answer was lost."""
        from alibabacloud_pai_dsw20220101.models import CreateInstanceRequest

        if self.look() is None:
            self.client.create_instance(CreateInstanceRequest().from_map(wanted))

    def wait(self) -> None:
        """Return when the instance runs; raise NotReady."""

        def met() -> bool:
            found = self.look()
            if found and found.status == FAILED:
                raise NotReady(
                    _("{name} failed.").format(name=self.name),
                    str(found.reason_message or ""),
                    _("All changes have been undone."),
                )
            return bool(found and found.status == "Running")

        ready.wait(self.name, met, self.deployment.patience, self._why)

    def remove(self) -> None:
        """Stop and delete the instance, and return when it is gone."""
        from alibabacloud_pai_dsw20220101.models import StopInstanceRequest

        found = self.look()
        if found is None:
            return
        if found.status not in ENDED:
            call(self.client.stop_instance, found.instance_id, StopInstanceRequest())
            ready.wait(self.name, self._ended, self.deployment.patience, self._why)
        find(self.client.delete_instance, found.instance_id)
        ready.wait(self.name, lambda: self.look() is None, self.deployment.patience, self._why)

    def _ended(self) -> bool:
        found = self.look()
        return found is None or found.status in ENDED

    def _why(self) -> str:
        found = self.look()
        return f"{found.status}: {found.reason_message}" if found else ""


def _name(deployment: Deployment) -> str:
    return deployment.name.replace("-", "_")


def _request(deployment: Deployment, dsw: Dsw, image: str) -> dict[str, Any]:
    network = {
        "VpcId": dsw.vpc,
        "VSwitchId": dsw.vswitch,
        "SecurityGroupId": dsw.security_group,
    }
    return {
        "InstanceName": _name(deployment),
        "ImageUrl": image,
        "EcsSpec": dsw.instance_type,
        "WorkspaceId": dsw.workspace,
        "Accessibility": "PRIVATE",
        **({"UserVpc": network} if dsw.vpc else {}),
    }
