"""Kubernetes, ACK included: one Kustomize folder, which `kubectl apply -k` takes as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from builder.image.base import USER
from builder.image.layers import PREFIX
from builder.launch import history, service
from builder.launch.deployment import UNSET, Deployment, Table, is_network
from builder.settings import Settings
from builder.stage import report
from builder.stage.run import run
from entrypoint.common.errors import CommandFailed, ConfigFailure, NotReady, Refused
from entrypoint.common.language import _

KEYS: Final = "/etc/llmdeploy"  # where the Secret is mounted; its entry is called "keys"
KINDS: Final = "deployments,services,horizontalpodautoscalers,poddisruptionbudgets,networkpolicies"
KLOG: Final = re.compile(r"[EWIF]\d{4} ")  # how lines of kubectl's own log begin
QUEUE: Final = "llmdeploy_queue"  # what the service itself calls the number of requests that wait
SERVICES: Final = ("ClusterIP", "NodePort", "LoadBalancer")
WEIGHTS: Final = "/weights"  # where the image of the weights is mounted, if there is one
PINNED: Final = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}")
LEAVE: Final = 5  # seconds until every node knows that a pod gets no more requests


@dataclass(frozen=True)
class K8s(Table):
    """A Kubernetes cluster. `secret` has the API keys as its entry `keys`.

    `service` is the type of the Service; `allow` are CIDRs outside of the namespace that may ask.
    With `queue`, the autoscaler looks at the requests that wait at each replica, not at the CPUs.
    `weights` is another image, by its digest, whose folder /models takes the place of the image's.
    """

    secret: str = ""
    namespace: str = "default"
    service: str = "ClusterIP"
    pull_secret: str = ""
    allow: tuple[str, ...] = ()
    max_replicas: int = 4
    cpu_percent: int = 70
    queue: int = 0
    weights: str = ""

    def misfits(self) -> Iterator[tuple[str, str]]:
        """Name each key whose value cannot be meant."""
        fits = {
            "service": self.service in SERVICES,
            "allow": all(map(is_network, self.allow)),
            "cpu_percent": self.cpu_percent > 0,
            "queue": self.queue >= 0,
            "weights": not self.weights or PINNED.fullmatch(self.weights) is not None,
        }
        yield from ((key, "") for key, is_sensible in fits.items() if not is_sensible)

    def draft(self, deployment: Deployment) -> Deployment:
        """Return the deployment with a visible name for a secret that it does not name yet."""
        if self.secret:
            return deployment
        report.say(_("[k8s] names no secret with API keys; it is shown as a placeholder."))
        return deployment.having(replace(self, secret=UNSET))


TABLE: Final = K8s


def render(deployment: Deployment, image: str) -> dict[str, str]:
    """Return the folder's files. The Secret with the API keys is named, never contained."""
    if not deployment.table(K8s).secret:
        raise ConfigFailure(
            _("k8s opens the service to others, and [k8s] names no secret with API keys."),
            next=_("Make one: kubectl create secret generic NAME --from-file=keys=deploy.keys"),
        )
    parts = {
        "deployment.yaml": _deployment(deployment, image),
        "service.yaml": _service(deployment),
        "autoscaler.yaml": _autoscaler(deployment),
        "disruption.yaml": _disruption(deployment),
        "network.yaml": _network(deployment),
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": deployment.table(K8s).namespace,
        "resources": list(parts),
    }
    return {
        name: service.document("k8s", part)
        for name, part in {"kustomization.yaml": kustomization, **parts}.items()
    }


def apply(settings: Settings, deployment: Deployment, image: str) -> None:
    """Apply the folder and wait until every replica is ready; else put back what was before.

    The cluster is the one that kubectl is set up for. Raises NotReady, Refused, ConfigFailure.
    """
    files = render(deployment, image)
    history.change(history.folder(settings, deployment, "k8s"), files, Cluster(deployment))
    print(f"http://{deployment.name}.{deployment.table(K8s).namespace}.svc:{deployment.port}")


def status(_settings: Settings, deployment: Deployment) -> None:
    """Print what kubectl knows of the deployment."""
    print(_kubectl(deployment, "get", f"{KINDS},pods", _selector(deployment)), end="")


def teardown(settings: Settings, deployment: Deployment) -> None:
    """Remove all that `apply` made; the Secret is not ours and stays."""
    history.remove(history.folder(settings, deployment, "k8s"), Cluster(deployment))


@dataclass(frozen=True)
class Cluster:
    """A deployment as kubectl manages it."""

    deployment: Deployment

    def check(self) -> None:
        """Raise Refused if the cluster does not answer, CommandFailed without kubectl."""
        _kubectl(self.deployment, "get", "deployments", _selector(self.deployment))

    def up(self, folder: Path) -> None:
        """Create or change what differs."""
        _kubectl(self.deployment, "apply", "-k", str(folder))

    def wait(self) -> None:
        """Return when the rollout is complete, which means ready; raise NotReady."""
        patience = f"--timeout={self.deployment.patience}s"
        try:
            _kubectl(
                self.deployment, "rollout", "status", f"deployment/{self.deployment.name}", patience
            )
        except Refused as refused:
            raise NotReady(
                _("{name} was not ready within {seconds} seconds.").format(
                    name=self.deployment.name, seconds=self.deployment.patience
                ),
                refused.why,
                _("All changes have been undone. If it only needed more time, increase patience."),
            ) from None

    def down(self, _folder: Path) -> None:
        """Delete every part by its label, from whatever machine it was applied."""
        _kubectl(self.deployment, "delete", KINDS, _selector(self.deployment))


def _kubectl(deployment: Deployment, *words: str) -> str:
    """Run kubectl; raise Refused with its words if the cluster says no."""
    try:
        return run(["kubectl", f"--namespace={deployment.table(K8s).namespace}", *words])
    except CommandFailed as failure:
        if not failure.why:
            raise  # kubectl is not there
        raise Refused(
            _("The cluster refused the request."),
            "\n".join(line for line in failure.why.splitlines() if not KLOG.match(line)),
            _("Check what kubectl is set up for: kubectl config current-context"),
        ) from None


def _selector(deployment: Deployment) -> str:
    return f"--selector=app.kubernetes.io/instance={deployment.name}"


def _meta(deployment: Deployment) -> dict[str, Any]:
    return {"name": deployment.name, "labels": _labels(deployment)}


def _labels(deployment: Deployment) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "llmdeploy",
        "app.kubernetes.io/instance": deployment.name,
    }


def _deployment(deployment: Deployment, image: str) -> dict[str, Any]:
    labels = _labels(deployment)
    pull_secret = deployment.table(K8s).pull_secret
    pull = [{"name": pull_secret}] if pull_secret else []
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(deployment),
        "spec": {
            # No number of replicas: it is the autoscaler's, which starts from its minimum.
            "selector": {"matchLabels": labels},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "containers": [_container(deployment, image)],
                    **({"imagePullSecrets": pull} if pull else {}),
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "fsGroup": USER,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "terminationGracePeriodSeconds": LEAVE + service.GRACE,
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": labels},
                        }
                    ],
                    "volumes": _volumes(deployment.table(K8s)),
                },
            },
        },
    }


def _volumes(settings: K8s) -> list[dict[str, Any]]:
    weights = {"reference": settings.weights, "pullPolicy": "IfNotPresent"}
    return [
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "keys", "secret": {"secretName": settings.secret, "defaultMode": 0o440}},
        *([{"name": "weights", "image": weights}] if settings.weights else []),
    ]


def _container(deployment: Deployment, image: str) -> dict[str, Any]:
    memory = f"{deployment.memory}Mi"
    weights = [{"name": "weights", "mountPath": WEIGHTS, "readOnly": True}]
    has_weights = bool(deployment.table(K8s).weights)
    place = [{"name": "LLMDEPLOY_MODELS", "value": f"{WEIGHTS}/models"}]
    leave = [f"/{PREFIX}/bin/python3", "-c", f"import time; time.sleep({LEAVE})"]
    return {
        "name": "llmdeploy",
        "image": image,
        "args": service.words(deployment, keys=f"{KEYS}/keys"),
        **({"env": place} if has_weights else {}),
        "ports": [{"name": "http", "containerPort": deployment.port}],
        "resources": {
            "requests": {"cpu": str(deployment.cpus), "memory": memory},
            "limits": {"cpu": str(deployment.cpus), "memory": memory},
        },
        "startupProbe": {
            **_probe("/ready"),
            "periodSeconds": 2,
            "failureThreshold": -(-deployment.patience // 2),
        },
        "readinessProbe": {**_probe("/ready"), "periodSeconds": 5, "timeoutSeconds": 5},
        "livenessProbe": {**_probe("/health"), "periodSeconds": 15, "timeoutSeconds": 10},
        "lifecycle": {"preStop": {"exec": {"command": leave}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            {"name": "keys", "mountPath": KEYS, "readOnly": True},
            *(weights if has_weights else []),
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}}


def _service(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _meta(deployment),
        "spec": {
            "type": deployment.table(K8s).service,
            "selector": _labels(deployment),
            "ports": [{"name": "http", "port": deployment.port, "targetPort": "http"}],
        },
    }


def _autoscaler(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _meta(deployment),
        "spec": {
            "scaleTargetRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": deployment.name,
            },
            "minReplicas": deployment.replicas,
            "maxReplicas": max(deployment.table(K8s).max_replicas, deployment.replicas),
            "metrics": [_measure(deployment.table(K8s))],
        },
    }


def _measure(settings: K8s) -> dict[str, Any]:
    """Return what the autoscaler looks at, and what it aims at."""
    if settings.queue:
        target = {"type": "AverageValue", "averageValue": str(settings.queue)}
        return {"type": "Pods", "pods": {"metric": {"name": QUEUE}, "target": target}}
    use = {"type": "Utilization", "averageUtilization": settings.cpu_percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": use}}


def _disruption(deployment: Deployment) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _meta(deployment),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _labels(deployment)}},
    }


def _network(deployment: Deployment) -> dict[str, Any]:
    """Return who may ask: pods of this namespace and the given addresses. Nothing goes out."""
    peers: list[dict[str, Any]] = [
        {"podSelector": {}},
        *({"ipBlock": {"cidr": cidr}} for cidr in deployment.table(K8s).allow),
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _meta(deployment),
        "spec": {
            "podSelector": {"matchLabels": _labels(deployment)},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"port": "http", "protocol": "TCP"}]}],
            "egress": [],
        },
    }
