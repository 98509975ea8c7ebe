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

from builder.launch import alibaba
from builder.launch.alibaba import call, find, pai
from builder.launch.alibaba.pai import PaiResource
from builder.launch.deployment import Deployment, Table
from builder.settings import Settings
from entrypoint.common import table
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILE: Final = "instance.json"
ENDED: Final = ("Stopped", pai.FAILED)


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
    request = _request(deployment, deployment.table(Dsw), image)
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
            call(instance.create, request)
        instance.wait_until(instance.runs)
        undo.pop_all()
    after = instance.look()
    print(after.instance_url if after else "")


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print the state of the instance, its specification and its address."""
    instance = DswInstance(deployment, deployment.table(Dsw)).look()
    row = (
        (instance.status, instance.ecs_spec, instance.instance_url) if instance else ("-", "-", "-")
    )
    print(table.columns([(_("state"), _("type"), _("address")), tuple(map(str, row))]))


def teardown(_settings: Settings, deployment: Deployment) -> None:
    """Stop and delete the instance; nothing there is no error."""
    DswInstance(deployment, deployment.table(Dsw)).remove()


@dataclass(frozen=True)
class DswInstance(PaiResource):
    """Where one instance of a region is looked for."""

    dsw: Dsw

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
        instances = call(self.client.list_instances, request).body.instances or []
        return next((each for each in instances if each.instance_name == self.name), None)

    def state(self) -> tuple[str, str] | None:
        """Return its status and DSW's reason for that, None if there is none."""
        instance = self.look()
        return (instance.status, str(instance.reason_message or "")) if instance else None

    def create(self, request: dict[str, Any]) -> None:
        """Create the instance, unless an earlier attempt did whose answer was lost."""
        from alibabacloud_pai_dsw20220101.models import CreateInstanceRequest

        if self.look() is None:
            self.client.create_instance(CreateInstanceRequest().from_map(request))

    def remove(self) -> None:
        """Stop and delete the instance, and return when it is gone."""
        from alibabacloud_pai_dsw20220101.models import StopInstanceRequest

        instance = self.look()
        if instance is None:
            return
        if instance.status not in ENDED:
            call(self.client.stop_instance, instance.instance_id, StopInstanceRequest())
            self.wait_until(self._has_ended)
        find(self.client.delete_instance, instance.instance_id)
        self.wait_until_gone()

    def _has_ended(self) -> bool:
        state = self.state()
        return state is None or state[0] in ENDED


def _request(deployment: Deployment, dsw: Dsw, image: str) -> dict[str, Any]:
    network = {
        "VpcId": dsw.vpc,
        "VSwitchId": dsw.vswitch,
        "SecurityGroupId": dsw.security_group,
    }
    return {
        "InstanceName": pai.identifier(deployment),
        "ImageUrl": image,
        "EcsSpec": dsw.instance_type,
        "WorkspaceId": dsw.workspace,
        "Accessibility": "PRIVATE",
        **({"UserVpc": network} if dsw.vpc else {}),
    }
