"""PAI-DSW through its real SDK: made once, deleted, and undone when it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import dsw
from builder.launch.platforms.dsw import Dsw
from builder.settings import Settings
from entrypoint.common.errors import ConfigFailure, NotReady, Refused
from tests.clouds.loopback import Actions, Cloud, Parameters, Refusal

IMAGE, OTHER = ("registry.example.com/team/llmdeploy@sha256:" + digit * 64 for digit in "12")
INSTANCES = "/api/v2/instances"


def create(cloud: Cloud, parameters: Parameters) -> Parameters:
    assert (parameters["method"], parameters["path"]) == ("POST", INSTANCES)
    return {"InstanceId": cloud.make("dsw", stopped=False, request=parameters["body"])}


def listed(cloud: Cloud, parameters: Parameters) -> Parameters:
    assert parameters["path"] == INSTANCES
    return {
        "Instances": [
            {
                "InstanceId": each["id"],
                "InstanceName": each["request"]["InstanceName"],
                "ImageUrl": each["request"]["ImageUrl"],
                "EcsSpec": each["request"]["EcsSpec"],
                "InstanceUrl": "https://dsw.example.com/1",
                "Status": state(cloud, each),
                "ReasonMessage": "no such image",
            }
            for each in cloud.of("dsw")
            # A search, as it seems: other names that begin alike are found too.
            if each["request"]["InstanceName"].startswith(parameters["InstanceName"])
        ]
    }


def state(cloud: Cloud, instance: Parameters) -> str:
    if instance["stopped"]:
        return "Stopped"
    if instance["request"]["ImageUrl"] == "broken":
        return "Failed"
    return "Running" if cloud.ready else "Creating"


def stop(cloud: Cloud, parameters: Parameters) -> Parameters:
    cloud.made[parameters["path"].split("/")[4]]["stopped"] = True
    return {}


def delete(cloud: Cloud, parameters: Parameters) -> Parameters:
    identity = parameters["path"].split("/")[4]
    if state(cloud, cloud.made[identity]) not in dsw.ENDED:
        raise Refusal("InvalidStatus")
    del cloud.made[identity]
    return {}


ACTIONS = {
    "CreateInstance": create,
    "ListInstances": listed,
    "StopInstance": stop,
    "DeleteInstance": delete,
}


@pytest.fixture
def cloud(serve: Callable[[Actions], Cloud]) -> Cloud:
    return serve({("2022-01-01", name): action for name, action in ACTIONS.items()})


@pytest.fixture
def here(cloud: Cloud) -> Deployment:
    return Deployment(
        name="my-lab",
        patience=1,
        tables=(Dsw(instance_type="ecs.g8i.2xlarge", workspace="12", endpoint=cloud.url),),
    )


def launch(here: Deployment, image: str = IMAGE) -> None:
    dsw.apply(Settings(), here, image)


def test_an_instance_from_its_launch_to_its_end(
    here: Deployment, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    other = {"InstanceName": "my_lab_2", "ImageUrl": IMAGE, "EcsSpec": "x"}
    namesake = cloud.make("dsw", stopped=False, request=other)
    launch(here)
    launch(here)
    assert capsys.readouterr().out == "https://dsw.example.com/1\n" * 2
    assert cloud.asked.count("CreateInstance") == 1, "a second launch made another"
    with pytest.raises(ConfigFailure, match="already exists, with the image") as caught:
        launch(here, OTHER)
    assert "teardown dsw" in caught.value.next
    dsw.status(Settings(), here)
    assert "Running  ecs.g8i.2xlarge" in capsys.readouterr().out
    dsw.teardown(Settings(), here)
    assert list(cloud.made) == [namesake]
    dsw.teardown(Settings(), here)
    dsw.status(Settings(), here)


@pytest.mark.parametrize("fault", ["throttled", "broken", "silent", "late"])
def test_faults_that_pass_make_nothing_twice(here: Deployment, cloud: Cloud, fault: str) -> None:
    cloud.faults = {"CreateInstance": [fault], "ListInstances": ["throttled"]}
    launch(here)
    assert len(cloud.of("dsw")) == 1


def test_a_launch_that_fails_leaves_nothing(here: Deployment, cloud: Cloud) -> None:
    cloud.faults = {"CreateInstance": ["QuotaExceeded.Instance"]}
    with pytest.raises(Refused, match="QuotaExceeded"):
        launch(here)
    with pytest.raises(NotReady, match="my_lab failed") as caught:
        launch(here, "broken")
    assert "no such image" in caught.value.why
    cloud.ready = False
    with pytest.raises(NotReady, match="not ready within 1 seconds"):
        launch(here)
    assert cloud.made == {}


@pytest.mark.usefixtures("_ctrl_c")
def test_a_launch_that_is_interrupted_leaves_nothing(here: Deployment, cloud: Cloud) -> None:
    cloud.ready = False
    with pytest.raises(KeyboardInterrupt):
        launch(here)
    assert "CreateInstance" in cloud.asked
    assert cloud.made == {}
