"""PAI-EAS through its real SDK: created, updated, deleted, and undone when it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from builder.launch.deployment import Deployment
from builder.launch.platforms import eas
from builder.launch.platforms.eas import Eas
from builder.settings import Settings
from entrypoint.common.errors import NotReady, Refused
from tests.clouds.loopback import Actions, Cloud, Parameters, Refusal

IMAGE, OTHER = ("registry.example.com/team/llmdeploy@sha256:" + digit * 64 for digit in "12")
SERVICES = "/api/v2/services"


def create(cloud: Cloud, parameters: Parameters) -> Parameters:
    assert (parameters["method"], parameters["path"]) == ("POST", SERVICES)
    config = parameters["body"]
    if find(cloud, config["metadata"]["name"]):
        raise Refusal("ServiceAlreadyExists", 409)
    cloud.make("eas", config=config)
    return {"ServiceName": config["metadata"]["name"]}


def describe(cloud: Cloud, parameters: Parameters) -> Parameters:
    name = addressed(parameters)
    found = find(cloud, name)
    if found is None:
        raise Refusal("ServiceNotFound", 404)
    broken = found["config"]["containers"][0]["image"] == "broken"
    return {
        "ServiceName": name,
        # The cloud adds what it decided itself.
        "ServiceConfig": json.dumps({**found["config"], "unit": "added"}),
        "Status": "Failed" if broken else "Running" if cloud.ready else "Creating",
        "Message": "the image does not start" if broken else "",
        "RunningInstance": found["config"]["metadata"]["instance"],
        "TotalInstance": found["config"]["metadata"]["instance"],
        "IntranetEndpoint": f"http://eas.example.com/api/predict/{name}",
    }


def update(cloud: Cloud, parameters: Parameters) -> Parameters:
    found = find(cloud, addressed(parameters))
    assert found
    found["config"] = parameters["body"]
    return {}


def delete(cloud: Cloud, parameters: Parameters) -> Parameters:
    found = find(cloud, addressed(parameters))
    if found is None:
        raise Refusal("ServiceNotFound", 404)
    del cloud.made[found["id"]]
    return {}


def find(cloud: Cloud, name: str) -> Parameters | None:
    same = (each for each in cloud.of("eas") if each["config"]["metadata"]["name"] == name)
    return next(same, None)


def addressed(parameters: Parameters) -> str:
    prefix, region, name = parameters["path"].rsplit("/", 2)
    assert (prefix, region) == (SERVICES, "cn-shanghai")
    return str(name)


ACTIONS = {
    "CreateService": create,
    "DescribeService": describe,
    "UpdateService": update,
    "DeleteService": delete,
}


@pytest.fixture
def cloud(serve: Callable[[Actions], Cloud]) -> Cloud:
    return serve({("2021-07-01", name): action for name, action in ACTIONS.items()})


@pytest.fixture
def here(cloud: Cloud) -> Deployment:
    return Deployment(
        name="my-chat",
        memory=3072,
        replicas=2,
        patience=1,
        tables=(Eas(instance_type="ecs.g8i.xlarge", endpoint=cloud.url),),
    )


def launch(here: Deployment, image: str = IMAGE) -> None:
    eas.apply(Settings(), here, image)


def test_a_service_from_its_launch_to_its_end(
    here: Deployment, cloud: Cloud, capsys: pytest.CaptureFixture[str]
) -> None:
    launch(here)
    assert capsys.readouterr().out == "http://eas.example.com/api/predict/my_chat/v1\n"
    [made] = cloud.of("eas")
    assert made["config"] == json.loads(eas.render(here, IMAGE)[eas.FILE])
    launch(here)
    assert "UpdateService" not in cloud.asked, "a second launch changed the service"
    launch(here, OTHER)
    [after] = cloud.of("eas")
    assert after["id"] == made["id"]
    assert after["config"]["containers"][0]["image"] == OTHER
    eas.status(Settings(), here)
    assert "Running  2/2" in capsys.readouterr().out
    eas.teardown(Settings(), here)
    assert cloud.made == {}
    eas.teardown(Settings(), here)
    eas.status(Settings(), here)


@pytest.mark.parametrize("fault", ["throttled", "broken", "silent", "late"])
@pytest.mark.parametrize("action", ["CreateService", "DescribeService"])
def test_faults_that_pass_make_nothing_twice(
    here: Deployment, cloud: Cloud, action: str, fault: str
) -> None:
    cloud.faults = {action: [fault]}
    launch(here)
    assert len(cloud.of("eas")) == 1


@pytest.mark.parametrize(
    ("faults", "code"),
    [
        (["QuotaExceeded"], "QuotaExceeded"),
        (["broken"] * 5, "InternalError"),
    ],
)
def test_a_launch_that_fails_leaves_nothing(
    here: Deployment, cloud: Cloud, faults: list[str], code: str
) -> None:
    cloud.faults = {"CreateService": list(faults)}
    with pytest.raises(Refused, match=code):
        launch(here)
    assert cloud.made == {}


def test_a_service_that_never_runs_or_fails_is_deleted(here: Deployment, cloud: Cloud) -> None:
    with pytest.raises(NotReady, match="my_chat failed") as caught:
        launch(here, "broken")
    assert "the image does not start" in caught.value.why
    assert cloud.made == {}
    cloud.ready = False
    with pytest.raises(NotReady, match="not ready within 1 seconds"):
        launch(here)
    assert cloud.made == {}


def test_an_update_that_fails_is_taken_back(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    with pytest.raises(NotReady):
        launch(here, "broken")
    assert cloud.of("eas")[0]["config"]["containers"][0]["image"] == IMAGE


def test_a_change_of_the_replicas_is_an_update(here: Deployment, cloud: Cloud) -> None:
    launch(here)
    launch(replace(here, replicas=3))
    assert cloud.of("eas")[0]["config"]["metadata"]["instance"] == 3


@pytest.mark.usefixtures("_ctrl_c")
def test_a_launch_that_is_interrupted_leaves_nothing(here: Deployment, cloud: Cloud) -> None:
    cloud.ready = False
    with pytest.raises(KeyboardInterrupt):
        launch(here)
    assert "CreateService" in cloud.asked
    assert cloud.made == {}
