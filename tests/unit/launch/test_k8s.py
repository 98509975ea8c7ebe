"""What a Kubernetes cluster gets, checked against Kubernetes' own schemas."""

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from builder.launch.deployment import Deployment
from builder.launch.platforms import k8s
from builder.launch.platforms.k8s import K8s
from entrypoint.common.errors import ConfigFailure
from entrypoint.serve import metrics

VERSIONS = ("1.25", "1.31", "1.37")


@pytest.fixture
def described(deployment: Deployment) -> Deployment:
    return replace(
        deployment,
        replicas=2,
        tables=(
            K8s(
                secret="chat-keys",  # noqa: S106 - a name
                namespace="models",
                pull_secret="acr",  # noqa: S106
                allow=("10.0.0.0/8",),
            ),
        ),
    )


@pytest.fixture
def parts(described: Deployment) -> dict[str, Any]:
    return {
        name: yaml.safe_load(text)
        for name, text in k8s.render(described, "example.com/a@sha256:1").items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_part_fits_the_schema(parts: dict[str, Any], version: str) -> None:
    for name in parts.pop("kustomization.yaml")["resources"]:
        kubernetes_validate.validate(parts[name], version, strict=True)


def test_the_schema_would_notice(parts: dict[str, Any]) -> None:
    parts["deployment.yaml"]["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(parts["deployment.yaml"], VERSIONS[-1], strict=True)


def test_the_pod_obeys_the_restricted_standard(parts: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    pod = parts["deployment.yaml"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert {next(iter(set(each) - {"name"})) for each in pod["volumes"]} == {"emptyDir", "secret"}


def test_keys_are_a_reference_and_required(described: Deployment) -> None:
    with pytest.raises(ConfigFailure, match="names no secret") as caught:
        k8s.render(replace(described, tables=()), "a@sha256:1")
    assert "kubectl create secret" in caught.value.next


@pytest.mark.parametrize("version", VERSIONS)
def test_the_autoscaler_may_look_at_the_queue(described: Deployment, version: str) -> None:
    asked = described.having(replace(described.table(K8s), queue=3))
    scaler = yaml.safe_load(k8s.render(asked, "a@sha256:1")["autoscaler.yaml"])
    kubernetes_validate.validate(scaler, version, strict=True)
    [measure] = scaler["spec"]["metrics"]
    assert measure["pods"]["target"] == {"type": "AverageValue", "averageValue": "3"}
    page = metrics.page().decode()
    assert f"# TYPE {measure['pods']['metric']['name']} gauge" in page


@pytest.mark.parametrize("version", ["1.31", "1.37"])  # the first that know such volumes
def test_the_weights_may_come_from_an_image_of_their_own(
    described: Deployment, version: str
) -> None:
    weights = f"example.com/models@sha256:{'1' * 64}"
    own = described.having(replace(described.table(K8s), weights=weights))
    text = k8s.render(own, f"example.com/a@sha256:{'2' * 64}")["deployment.yaml"]
    deployed = yaml.safe_load(text)
    kubernetes_validate.validate(deployed, version, strict=True)
    pod = deployed["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "weights"]
    assert volume["image"] == {"reference": weights, "pullPolicy": "IfNotPresent"}
    [container] = pod["containers"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "weights"]
    assert mount["readOnly"]
    assert container["env"] == [
        {"name": "LLMDEPLOY_MODELS", "value": f"{mount['mountPath']}/models"}
    ]


@pytest.mark.parametrize("weights", ["example.com/models:latest", "models@sha256:12", "a b"])
def test_weights_that_are_not_pinned_are_refused(weights: str) -> None:
    assert [name for name, _why in K8s(secret="s", weights=weights).misfits()] == ["weights"]  # noqa: S106


def test_the_autoscaler_never_has_less_room_than_asked_for(described: Deployment) -> None:
    many = k8s.render(replace(described, replicas=9), "a@sha256:1")
    limits = yaml.safe_load(many["autoscaler.yaml"])["spec"]
    assert (limits["minReplicas"], limits["maxReplicas"]) == (9, 9)
