"""ECS through its real SDK: what is asked for, what is made, and what is left when it fails."""

from __future__ import annotations

import base64
import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import ecs
from builder.launch.platforms.ecs import Ecs
from builder.settings import ROOT, Settings
from entrypoint.common.errors import ConfigFailure, NotEnoughMemory, NotReady, Refused
from tests.clouds import loopback
from tests.clouds.loopback import Actions, Cloud, Parameters, Refusal
from tests.deployments import ECS

IMAGE = "registry.example.com/team/llmdeploy@sha256:" + "0123456789abcdef" * 4
OTHER = "registry.example.com/team/llmdeploy@sha256:" + "f" * 64
VERSION = "2014-05-26"
TYPES = {
    "ecs.g8i.large": (2, 8, "X86"),
    "ecs.c7.large": (2, 4, "X86"),
    "ecs.g8y.large": (2, 8, "ARM"),
}


def tagged(cloud: Cloud, kind: str, parameters: Parameters) -> list[dict[str, Any]]:
    return [thing for thing in cloud.of(kind) if parameters["Tag"][0] in thing["tags"]]


def once(perform: Callable[[Cloud, Parameters], Parameters]) -> Any:
    """Answer a ClientToken that is known as the first time; refuse it with another request."""

    def guarded(cloud: Cloud, parameters: Parameters) -> Parameters:
        token = parameters.get("ClientToken")
        if not token:
            return perform(cloud, parameters)
        if token not in cloud.tokens:
            cloud.tokens[token] = {"asked": parameters, "answer": perform(cloud, parameters)}
        if cloud.tokens[token]["asked"] != parameters:
            raise Refusal("IdempotentParameterMismatch")
        answer: Parameters = cloud.tokens[token]["answer"]
        return answer

    return guarded


def instance_types(_cloud: Cloud, parameters: Parameters) -> Parameters:
    found = [
        {"InstanceTypeId": name, "CpuCoreCount": cores, "MemorySize": size, "CpuArchitecture": cpu}
        for name in parameters["InstanceTypes"]
        if name in TYPES
        for cores, size, cpu in [TYPES[name]]
    ]
    return {"InstanceTypes": {"InstanceType": found}}


def groups(cloud: Cloud, parameters: Parameters) -> Parameters:
    found = [
        {"SecurityGroupId": each["id"], "SecurityGroupName": each["name"]}
        for each in tagged(cloud, "sg", parameters)
    ]
    return {"SecurityGroups": {"SecurityGroup": found}}


def create_group(cloud: Cloud, parameters: Parameters) -> Parameters:
    identity = cloud.make(
        "sg", name=parameters["SecurityGroupName"], tags=parameters["Tag"], rules=[]
    )
    return {"SecurityGroupId": identity}


def authorize(cloud: Cloud, parameters: Parameters) -> Parameters:
    rules = cloud.made[parameters["SecurityGroupId"]]["rules"]
    rules += [rule for rule in parameters["Permissions"] if rule not in rules]
    return {}


def revoke(cloud: Cloud, parameters: Parameters) -> Parameters:
    for rule in parameters["Permissions"]:
        cloud.made[parameters["SecurityGroupId"]]["rules"].remove(rule)
    return {}


def rules(cloud: Cloud, parameters: Parameters) -> Parameters:
    found = [
        {**rule, "IpProtocol": rule["IpProtocol"].upper()}
        for rule in cloud.made[parameters["SecurityGroupId"]]["rules"]
    ]
    return {"Permissions": {"Permission": found}}


def delete_group(cloud: Cloud, parameters: Parameters) -> Parameters:
    if cloud.of("i"):
        raise Refusal("DependencyViolation")
    del cloud.made[parameters["SecurityGroupId"]]
    return {}


def run_instances(cloud: Cloud, parameters: Parameters) -> Parameters:
    if parameters.get("DryRun", "").lower() == "true":
        raise Refusal("DryRunOperation")
    made = [
        cloud.make("i", tags=parameters["Tag"], request=parameters, address="127.0.0.1")
        for _ in range(int(parameters["Amount"]))
    ]
    return {"InstanceIdSets": {"InstanceIdSet": made}}


def instances(cloud: Cloud, parameters: Parameters) -> Parameters:
    found = [
        {
            "InstanceId": each["id"],
            "Status": "Running",
            "InstanceType": each["request"]["InstanceType"],
            "Tags": {
                "Tag": [{"TagKey": tag["Key"], "TagValue": tag["Value"]} for tag in each["tags"]]
            },
            "PublicIpAddress": {"IpAddress": []},
            "VpcAttributes": {"PrivateIpAddress": {"IpAddress": [each["address"]]}},
        }
        for each in tagged(cloud, "i", parameters)
    ]
    return {"Instances": {"Instance": found}}


def delete_instances(cloud: Cloud, parameters: Parameters) -> Parameters:
    for identity in parameters["InstanceId"]:
        del cloud.made[identity]
    return {}


ACTIONS = {
    "DescribeInstanceTypes": instance_types,
    "DescribeSecurityGroups": groups,
    "CreateSecurityGroup": once(create_group),
    "AuthorizeSecurityGroup": authorize,
    "RevokeSecurityGroup": revoke,
    "DescribeSecurityGroupAttribute": rules,
    "DeleteSecurityGroup": delete_group,
    "RunInstances": once(run_instances),
    "DescribeInstances": instances,
    "DeleteInstances": delete_instances,
}


@pytest.fixture
def cloud(serve: Callable[[Actions], Cloud]) -> Cloud:
    return serve({(VERSION, name): action for name, action in ACTIONS.items()})


@pytest.fixture
def here(cloud: Cloud) -> Deployment:
    """Return a deployment whose machines would be this one."""
    return Deployment(
        name="chat",
        model="qwen2.5-coder-0.5b",
        memory=3072,
        replicas=2,
        port=cloud.port,
        patience=2,
        tables=(replace(ECS, endpoint=cloud.url),),
    )


def launch(here: Deployment, image: str = IMAGE) -> None:
    ecs.apply(Settings(), here, image)


def test_machines_are_made_once_and_deleted(
    here: Deployment, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(here)
    assert capsys.readouterr().out.splitlines() == [cloud.url] * 2
    [first, second] = cloud.of("i")
    assert first["request"]["SecurityGroupId"] == cloud.of("sg")[0]["id"]
    assert first["request"]["RamRoleName"] == "puller"
    assert first["request"]["HttpTokens"] == "required"
    data = base64.b64decode(first["request"]["UserData"]).decode()
    assert IMAGE in data
    assert cloud.of("sg")[0]["rules"] == [
        {
            "IpProtocol": "tcp",
            "PortRange": f"{here.port}/{here.port}",
            "SourceCidrIp": "10.0.0.0/8",
        }
    ]
    launch(here)
    assert cloud.of("i") == [first, second], "a second launch changed machines"

    ecs.status(Settings(), here)
    assert first["id"] in capsys.readouterr().out
    ecs.teardown(Settings(), here)
    assert cloud.made == {}
    ecs.teardown(Settings(), here)


def test_another_image_replaces_the_machines(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    before = {each["id"] for each in cloud.of("i")}
    launch(here, OTHER)
    after = {each["id"] for each in cloud.of("i")}
    assert len(after) == 2
    assert not before & after


def test_fewer_and_more_replicas_keep_the_machines(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    launch(replace(here, replicas=3))
    assert len(cloud.of("i")) == 3
    launch(replace(here, replicas=1))
    assert len(cloud.of("i")) == 1
    assert cloud.asked.count("RunInstances") == 4, "two launches asked, each with a dry run"


def test_another_network_may_ask_instead(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    launch(here.having(replace(here.table(Ecs), cidr="192.168.0.0/16")))
    [rule] = cloud.of("sg")[0]["rules"]
    assert rule["SourceCidrIp"] == "192.168.0.0/16"


@pytest.mark.parametrize("fault", ["throttled", "broken", "silent", "late"])
@pytest.mark.parametrize("action", ["CreateSecurityGroup", "DescribeInstances"])
def test_faults_that_pass(here: Deployment, cloud: Cloud, action: str, fault: str) -> None:
    cloud.faults = {action: [fault]}
    launch(here)
    assert len(cloud.of("i")) == 2
    assert len(cloud.of("sg")) == 1


@pytest.mark.parametrize("fault", ["throttled", "broken", "silent", "late"])
def test_a_lost_answer_makes_no_machine_twice(here: Deployment, cloud: Cloud, fault: str) -> None:
    cloud.faults = {"RunInstances": ["DryRunOperation", fault]}
    launch(here)
    assert len(cloud.of("i")) == 2


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        ({"CreateSecurityGroup": ["QuotaExceed.SecurityGroup"]}, "QuotaExceed.SecurityGroup"),
        ({"AuthorizeSecurityGroup": ["InvalidSourceCidrIp.Malformed"]}, "Malformed"),
        ({"RunInstances": ["Forbidden.RAM"]}, "Forbidden.RAM"),
        ({"RunInstances": ["DryRunOperation", "QuotaExceed.ElasticQuota"]}, "ElasticQuota"),
        ({"RunInstances": ["DryRunOperation", *["late"] * 5]}, "ServiceUnavailable"),
        ({"RunInstances": ["DryRunOperation", *["silent"] * 5]}, "NoAnswer"),
    ],
)
def test_a_launch_that_fails_leaves_nothing(
    here: Deployment, cloud: Cloud, faults: dict[str, list[str]], code: str
) -> None:
    cloud.faults = faults
    with pytest.raises(Refused, match=code):
        launch(here)
    assert cloud.made == {}


def test_machines_that_never_get_ready_are_deleted(here: Deployment, cloud: Cloud) -> None:
    cloud.ready = False
    with pytest.raises(NotReady):
        launch(replace(here, patience=1))
    assert cloud.made == {}


def test_an_update_that_fails_keeps_what_ran(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    before = copy.deepcopy(cloud.made)
    cloud.ready = False
    with pytest.raises(NotReady):
        launch(
            replace(here.having(replace(here.table(Ecs), cidr="192.168.0.0/16")), patience=1), OTHER
        )
    assert cloud.made == before


def test_a_type_that_is_too_small_or_unknown(here: Deployment, cloud: Cloud) -> None:
    small = here.having(replace(here.table(Ecs), instance_type="ecs.c7.large"))
    with pytest.raises(NotEnoughMemory, match=r"4097 MiB, and ecs\.c7\.large has 4096"):
        launch(replace(small, memory=3073))
    with pytest.raises(ConfigFailure, match="4 CPUs"):
        launch(replace(here, cpus=4))
    with pytest.raises(ConfigFailure, match="no instance type"):
        launch(here.having(replace(here.table(Ecs), instance_type="ecs.g8i.tiny")))
    assert cloud.made == {}


def test_a_type_that_the_image_is_not_for(here: Deployment, cloud: Cloud) -> None:
    with pytest.raises(ConfigFailure, match=r"ecs\.g8y\.large has Arm processors"):
        launch(here.having(replace(here.table(Ecs), instance_type="ecs.g8y.large")))
    assert cloud.made == {}


def test_a_type_without_amx_is_told(
    here: Deployment, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(
        replace(here.having(replace(here.table(Ecs), instance_type="ecs.c7.large")), memory=1024)
    )
    assert "not known to have AMX" in capsys.readouterr().err
    ecs.teardown(Settings(), here)
    launch(here)
    assert "AMX" not in capsys.readouterr().err
    assert cloud.of("i")


def test_a_wrong_key_is_refused(here: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loopback, "SECRET", "another")
    with pytest.raises(Refused, match="SignatureDoesNotMatch"):
        launch(here)


def test_no_credentials(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "builder", "status", "ecs", "--file", "deploy.example.toml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "LANG": "C.UTF-8",
            "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        },
    )
    assert done.returncode == Refused.code, done.stderr
    assert done.stderr.startswith("llmdeploy: There are no credentials")
    assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in done.stderr


@pytest.mark.usefixtures("_ctrl_c")
def test_a_launch_that_is_interrupted_leaves_nothing(here: Deployment, cloud: Cloud) -> None:
    cloud.ready = False
    with pytest.raises(KeyboardInterrupt):
        launch(here)
    assert "RunInstances" in cloud.asked
    assert cloud.made == {}
