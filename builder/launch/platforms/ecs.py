"""ECS: virtual machines of Alibaba Cloud that run the service, made with RunInstances.

All that a deployment has carries its name as a tag, so that a second launch finds it again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from uuid import uuid4

from builder.launch import alibaba, ready
from builder.launch.alibaba import call, userdata
from builder.launch.deployment import Deployment, Table, is_network
from builder.settings import Settings
from builder.stage import receipt, report
from entrypoint.common import table
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, Refused
from entrypoint.common.language import _

TAG: Final = "llmdeploy"
REVISION: Final = "llmdeploy-revision"  # tells which description a machine was made from
SYSTEM: Final = 1024  # MiB that the machine's own system and container engine take
ARM: Final = "ARM"  # the architecture of Yitian and Ampere, as the cloud calls it
WOULD: Final = "DryRunOperation"  # the "error" that says that a real request would work
# Documented for g8i; for the others an inference from their processors. The program decides anew
# on each machine.
MATRIX: Final = ("g8i", "g9i", "c8i", "c9i", "r8i", "r9i")
DISKS: Final = range(20, 501)  # GiB of a system disk


@dataclass(frozen=True)
class Ecs(Table):
    """Virtual machines of Alibaba Cloud; `cidr` is who may ask, `disk` in GiB, `bandwidth` Mbit/s.

    `ram_role` lets a machine log in to the ACR instance `registry_instance` and read the API keys
    from the KMS secret `secret`. `endpoint` is that of a private cloud.
    """

    instance_type: str
    image_id: str
    vpc: str
    vswitch: str
    cidr: str
    ram_role: str = ""
    registry_instance: str = ""
    secret: str = ""
    disk: int = 40
    bandwidth: int = 0
    endpoint: str = ""

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant, with the reason or ""."""
        if not is_network(self.cidr):
            yield "cidr", ""
        if self.disk not in DISKS:
            yield "disk", ""
        if self.bandwidth < 0:
            yield "bandwidth", ""
        if (self.secret or self.registry_instance) and not self.ram_role:
            yield (
                "ram_role",
                _("A machine reads the secret, and logs in to the registry, by its role."),
            )
        yield from alibaba.misfits(self.endpoint)


TABLE: Final = Ecs


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return the user data, and the RunInstances request without it."""
    ecs = deployment.table(Ecs)
    data = _user_data(deployment, ecs, image)
    request = _request(deployment, ecs, data)
    del request["UserData"]
    return {"user-data.yaml": data, "run-instances.json": json.dumps(request, indent=2) + "\n"}


def apply(_settings: Settings, deployment: Deployment, image: str) -> None:
    """Make the machines that are missing, wait until all are ready, then remove outdated ones.

    Raises NotReady, Refused, NotEnoughMemory, ConfigFailure; what this call made is removed then.
    """
    ecs = deployment.table(Ecs)
    request = _request(deployment, ecs, _user_data(deployment, ecs, image))
    region = Region(deployment, ecs)
    region.check_type()
    with ExitStack() as undo:
        group = region.security_group(undo)
        region.let_in(group, undo)
        request["SecurityGroupId"] = group
        machines = region.machines()
        current = [each for each in machines if _tags(each).get(REVISION) == _revision(request)]
        missing = deployment.replicas - len(current)
        if missing > 0:
            known = sorted(each.instance_id for each in machines)
            new = region.run({**request, "Amount": missing}, known, undo)
        else:
            new = []
        staying = [each.instance_id for each in current[: deployment.replicas]]
        addresses = region.wait([*staying, *new])
        undo.pop_all()
    region.delete([each.instance_id for each in machines if each.instance_id not in staying])
    region.keep_out(group)
    for address in addresses:
        print(f"http://{address}:{deployment.port}")


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print every machine, its state, its address and its type."""
    region = Region(deployment, deployment.table(Ecs))
    rows = [
        (each.instance_id, each.status, _address(each) or "-", each.instance_type)
        for each in region.machines()
    ]
    print(table.columns([(_("machine"), _("state"), _("address"), _("type")), *rows]))


def teardown(_settings: Settings, deployment: Deployment) -> None:
    """Delete the machines and their security group; nothing there is no error."""
    region = Region(deployment, deployment.table(Ecs))
    region.delete([each.instance_id for each in region.machines()])
    region.delete_security_group()


@dataclass(frozen=True)
class Region:
    """The part of a region that belongs to one deployment."""

    deployment: Deployment
    ecs: Ecs

    @cached_property
    def client(self) -> Any:
        """The SDK's client."""
        from alibabacloud_ecs20140526.client import Client

        return Client(alibaba.configuration(self.deployment, self.ecs.endpoint))

    def check_type(self) -> None:
        """Raise NotEnoughMemory or ConfigFailure if a replica does not fit the instance type."""
        answer = self._ask("DescribeInstanceTypes", InstanceTypes=[self.ecs.instance_type])
        types = answer.instance_types.instance_type
        if not types:
            raise ConfigFailure(
                _("Alibaba Cloud has no instance type {name} in {region}.").format(
                    name=self.ecs.instance_type, region=self.deployment.region
                )
            )
        if types[0].cpu_architecture == ARM:
            raise ConfigFailure(
                _("{name} has Arm processors, and the image is for x86-64.").format(
                    name=self.ecs.instance_type
                ),
                _("A machine would be made, and nothing could start on it."),
                _("Name an instance_type with x86-64 processors in deploy.toml."),
            )
        memory, room = self.deployment.memory + SYSTEM, int(types[0].memory_size * 1024)
        if memory > room:
            raise NotEnoughMemory(
                _("A replica and its system need {needed} MiB, and {name} has {room}.").format(
                    needed=memory, name=self.ecs.instance_type, room=room
                ),
                next=_("Name a larger instance_type in deploy.toml."),
            )
        if self.deployment.cpus > types[0].cpu_core_count:
            raise ConfigFailure(
                _("deploy.toml gives a replica {cpus} CPUs, and {name} has {count}.").format(
                    cpus=self.deployment.cpus,
                    name=self.ecs.instance_type,
                    count=types[0].cpu_core_count,
                )
            )
        if not _has_amx(self.ecs.instance_type):
            report.say(
                _("{name} is not known to have AMX: long questions take longer").format(
                    name=self.ecs.instance_type
                )
            )

    def security_group(self, undo: ExitStack) -> str:
        """Return the id of the deployment's security group, made if missing."""
        groups = self._groups()
        if groups:
            return str(groups[0].security_group_id)
        group = self._ask(
            "CreateSecurityGroup",
            SecurityGroupName=self._name,
            VpcId=self.ecs.vpc,
            Tag=[self._tag],
            ClientToken=uuid4().hex,
        )
        undo.callback(self.delete_security_group)
        return str(group.security_group_id)

    def let_in(self, group: str, undo: ExitStack) -> None:
        """Open the port to `cidr`."""
        if self._rule not in self._rules(group):
            self._ask("AuthorizeSecurityGroup", SecurityGroupId=group, Permissions=[self._rule])
            undo.callback(self._revoke, group, [self._rule])

    def keep_out(self, group: str) -> None:
        """Close what an earlier launch opened and this one does not."""
        self._revoke(group, [rule for rule in self._rules(group) if rule != self._rule])

    def run(self, request: dict[str, Any], known: Sequence[str], undo: ExitStack) -> list[str]:
        """Make machines, after the cloud has said that it would; return their ids."""
        try:
            self._ask("RunInstances", **request, DryRun=True)
        except Refused as refused:
            if not _says(refused, WOULD):
                raise
        undo.callback(self._delete_others, known)
        # With this token the cloud answers a repeated request with the machines of the first one.
        answer = self._ask("RunInstances", **request, ClientToken=uuid4().hex)
        return list(answer.instance_id_sets.instance_id_set)

    def wait(self, identities: Sequence[str]) -> list[str]:
        """Return the addresses of machines once each of them is ready; raise NotReady."""
        addresses: list[str] = []

        def met() -> bool:
            machines = [each for each in self.machines() if each.instance_id in identities]
            addresses[:] = [address for each in machines if (address := _address(each))]
            return len(addresses) == len(identities) and all(
                ready.answers(f"http://{address}:{self.deployment.port}/ready")()
                for address in addresses
            )

        ready.wait(
            self.deployment.name,
            met,
            self.deployment.patience,
            lambda: _("Addresses so far: {names}.").format(names=", ".join(addresses) or "-"),
        )
        return list(addresses)

    def machines(self) -> list[Any]:
        """Return what the cloud says of every machine of the deployment."""
        answer = self._ask("DescribeInstances", PageSize=100, Tag=[self._tag])
        return sorted(answer.instances.instance, key=lambda each: str(each.instance_id))

    def delete(self, identities: Sequence[str]) -> None:
        """Delete machines, running or not."""
        if identities:
            self._ask("DeleteInstances", InstanceId=list(identities), Force=True)

    def delete_security_group(self) -> None:
        """Delete the group; the cloud allows it once the last machine in it is gone."""
        for group in self._groups():
            ready.wait(
                str(group.security_group_name),
                lambda: not self.machines(),
                self.deployment.patience,
                lambda: _("Its machines are still being deleted."),
            )
            self._ask("DeleteSecurityGroup", SecurityGroupId=group.security_group_id)

    def _delete_others(self, known: Sequence[str]) -> None:
        """Delete what is there beside `known`, whether or not the cloud told us that it is."""
        self.delete([each.instance_id for each in self.machines() if each.instance_id not in known])

    @property
    def _name(self) -> str:
        return f"llmdeploy-{self.deployment.name}"

    @property
    def _tag(self) -> dict[str, str]:
        return {"Key": TAG, "Value": self.deployment.name}

    def _groups(self) -> list[Any]:
        answer = self._ask("DescribeSecurityGroups", VpcId=self.ecs.vpc, Tag=[self._tag])
        return list(answer.security_groups.security_group)

    @property
    def _rule(self) -> dict[str, str]:
        return {
            "IpProtocol": "tcp",
            "PortRange": f"{self.deployment.port}/{self.deployment.port}",
            "SourceCidrIp": self.ecs.cidr,
        }

    def _revoke(self, group: str, rules: Sequence[dict[str, str]]) -> None:
        if rules:
            self._ask("RevokeSecurityGroup", SecurityGroupId=group, Permissions=list(rules))

    def _rules(self, group: str) -> list[dict[str, str]]:
        answer = self._ask(
            "DescribeSecurityGroupAttribute", SecurityGroupId=group, Direction="ingress"
        )
        return [
            {
                "IpProtocol": str(each.ip_protocol).lower(),
                "PortRange": each.port_range,
                "SourceCidrIp": each.source_cidr_ip,
            }
            for each in answer.permissions.permission
        ]

    def _ask(self, action: str, **parameters: Any) -> Any:
        """Call an action with its parameters as the documentation spells them."""
        from alibabacloud_ecs20140526 import models

        request = getattr(models, f"{action}Request")().from_map(
            {"RegionId": self.deployment.region, **parameters}
        )
        operation = "".join(f"_{each.lower()}" if each.isupper() else each for each in action)
        return call(getattr(self.client, operation.lstrip("_")), request).body


def _user_data(deployment: Deployment, ecs: Ecs, image: str) -> str:
    return userdata.render(
        deployment,
        image,
        role=ecs.ram_role,
        secret=ecs.secret,
        registry_instance=ecs.registry_instance,
    )


def _request(deployment: Deployment, ecs: Ecs, data: str) -> dict[str, Any]:
    """Return the RunInstances request; its tag tells which description it came from."""
    request = {
        "RegionId": deployment.region,
        "ImageId": ecs.image_id,
        "InstanceType": ecs.instance_type,
        "VSwitchId": ecs.vswitch,
        "InstanceName": f"llmdeploy-{deployment.name}",
        "Amount": deployment.replicas,
        "SystemDisk": {"Category": "cloud_essd", "Size": str(ecs.disk)},
        "InternetMaxBandwidthOut": ecs.bandwidth,
        "HttpTokens": "required",
        "SecurityEnhancementStrategy": "Active",
        "UserData": base64.b64encode(data.encode()).decode(),
        **({"RamRoleName": ecs.ram_role} if ecs.ram_role else {}),
    }
    tags = {TAG: deployment.name, REVISION: _digest(request)}
    return {**request, "Tag": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _digest(request: dict[str, Any]) -> str:
    return receipt.digest({key: value for key, value in request.items() if key != "Amount"})[:16]


def _revision(request: dict[str, Any]) -> str:
    return str(next(tag["Value"] for tag in request["Tag"] if tag["Key"] == REVISION))


def _tags(machine: Any) -> dict[str, str]:
    return {tag.tag_key: tag.tag_value for tag in machine.tags.tag} if machine.tags else {}


def _address(machine: Any) -> str:
    """Return the public address of a machine, else its private one, "" while it has none."""
    public = machine.public_ip_address.ip_address if machine.public_ip_address else []
    vpc = machine.vpc_attributes
    private = vpc.private_ip_address.ip_address if vpc and vpc.private_ip_address else []
    return str(next(iter([*(public or []), *(private or [])]), ""))


def _has_amx(instance_type: str) -> bool:
    return instance_type.split(".")[1:2] in ([family] for family in MATRIX)


def _says(refused: Refused, word: str) -> bool:
    return isinstance(refused.__cause__, Exception) and alibaba.code(refused.__cause__) == word
