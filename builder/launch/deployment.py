"""deploy.toml: what is launched, told once for every platform. deploy.example.toml explains it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path
from typing import Final

from builder.settings import ROOT
from entrypoint.common import address, tomlfile
from entrypoint.common.errors import ConfigFailure
from entrypoint.common.language import _

FILE: Final = ROOT / "deploy.toml"
NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,25}[a-z0-9]")  # the narrowest of the platforms' rules
STAND_IN: Final = re.compile("NAMESPACE|EXAMPLE")  # in the values of deploy.example.toml
WORD: Final = re.compile(r"\*|[\w.:/-]+")  # a model's further name
ORIGIN: Final = re.compile(r"https?://[\w.:\[\]-]+", re.ASCII)
HAZARD: Final = re.compile(r"[\x00-\x1f\x7f\\$]")
PORTS: Final = range(1, 65536)
DISKS: Final = range(20, 501)
SERVICES: Final = ("ClusterIP", "NodePort", "LoadBalancer")


@dataclass(frozen=True)
class Compose:
    """Docker Compose on this machine; `bind` is the address that the port is opened on."""

    bind: str = "127.0.0.1"


@dataclass(frozen=True)
class Swarm:
    """Docker's own cluster; `constraints` as Docker writes them, such as node.labels.cpu==amx.

    Not `published`, the service is for a proxy in its network alone, which finds all replicas
    under the name "serve".
    """

    constraints: tuple[str, ...] = ()
    published: bool = True


@dataclass(frozen=True)
class K8s:
    """A Kubernetes cluster. `secret` has the API keys as its entry `keys`.

    `service` is the type of the Service; `allow` are CIDRs outside of the namespace that may ask.
    With `queue`, the autoscaler looks at the requests that wait at each replica, not at the CPUs.
    """

    secret: str = ""
    namespace: str = "default"
    service: str = "ClusterIP"
    pull_secret: str = ""
    allow: tuple[str, ...] = ()
    max_replicas: int = 4
    cpu_percent: int = 70
    queue: int = 0


@dataclass(frozen=True)
class Ecs:
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


@dataclass(frozen=True)
class Eas:
    """PAI-EAS, on public resources (`instance_type`) or on a dedicated group (`resource`)."""

    instance_type: str = ""
    resource: str = ""
    workspace: str = ""
    vpc: str = ""
    vswitch: str = ""
    security_group: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class Dsw:
    """PAI-DSW, an instance to work in."""

    instance_type: str
    workspace: str
    vpc: str = ""
    vswitch: str = ""
    security_group: str = ""
    endpoint: str = ""


@dataclass(frozen=True)
class Deployment:
    """One deployment. `cpus`, `memory` in MiB and `parallel` answers are those of each replica.

    `engine` chooses among the images that are built here; `image` names another local one, or one
    by digest in a registry. `registry` is a host and a namespace.
    `keys` names a file of API keys, relative to deploy.toml. `alias` are further names of the
    model, `system` begins conversations, pages of `origin` may ask. `patience` is in seconds.
    """

    name: str
    engine: str = ""
    image: str = ""
    registry: str = ""
    model: str = ""
    replicas: int = 1
    cpus: float = 2
    memory: int = 2048
    parallel: int = 4
    port: int = 8000
    keys: str = ""
    alias: tuple[str, ...] = ()
    system: str = ""
    origin: tuple[str, ...] = ()
    patience: int = 300
    region: str = "cn-shanghai"
    compose: Compose = Compose()
    swarm: Swarm = Swarm()
    k8s: K8s = K8s()
    ecs: Ecs | None = None
    eas: Eas | None = None
    dsw: Dsw | None = None


def load(path: Path = FILE, target: str = "") -> Deployment:
    """Read a description; raise ConfigFailure where it is missing, malformed or cannot be meant.

    Of the platforms' tables, the values of `target`'s are looked at only.
    """
    if not path.exists():
        raise ConfigFailure(
            _("{path} does not exist.").format(path=path),
            next=_("Copy deploy.example.toml to deploy.toml and edit it."),
        )
    found = tomlfile.record(Deployment, tomlfile.read(path), path.name)
    _check(found, path.name, target)
    return replace(found, keys=str(path.parent / found.keys)) if found.keys else found


def own() -> Deployment:
    """Return what deploy.toml describes, or the defaults where nobody has written one."""
    return load() if FILE.exists() else Deployment("llmdeploy")


def stand_ins(deployment: Deployment, target: str) -> list[str]:
    """Return the keys that still have what the example says, as far as `target` reads them."""
    section = getattr(deployment, target)
    values = {f"{target}.{each.name}": getattr(section, each.name) for each in fields(section)}
    if target != "compose":  # which pulls nothing
        values["registry"] = deployment.registry
    return [key for key, value in values.items() if STAND_IN.search(str(value))]


def _check(found: Deployment, where: str, target: str) -> None:
    sensible = {
        "name": NAME.fullmatch(found.name),
        "replicas": found.replicas > 0,
        "cpus": found.cpus > 0,
        "memory": found.memory > 0,
        "parallel": found.parallel > 0,
        "port": found.port in PORTS,
        "alias": all(WORD.fullmatch(name) for name in found.alias),
        "system": not HAZARD.search(found.system),
        "origin": all(ORIGIN.fullmatch(site) for site in found.origin),
        "patience": found.patience > 0,
        **(_sensible_k8s(found.k8s) if target == "k8s" else {}),
        **(_sensible_ecs(found.ecs) if target == "ecs" and found.ecs else {}),
        **_sensible_endpoint(target, getattr(found, target, None)),
    }
    reasons = {
        "system": _("Platforms read line breaks, backslashes and $ in their own ways."),
        "origin": _("An origin is http:// or https:// and a host, without a path."),
        "name": _("A name has 2 to 27 lower-case letters, digits and hyphens, a letter first."),
        "ecs.ram_role": _("A machine reads the secret, and logs in to the registry, by its role."),
        f"{target}.endpoint": _("An endpoint is a host, or http:// or https:// and a host."),
    }
    for key, fits in sensible.items():
        if not fits:
            raise ConfigFailure(
                _("{key} in {where} cannot be {value}.").format(
                    key=repr(key), where=where, value=repr(attrgetter(key)(found))
                ),
                reasons.get(key, ""),
            )


def _sensible_k8s(k8s: K8s) -> dict[str, bool]:
    return {
        "k8s.service": k8s.service in SERVICES,
        "k8s.allow": all(map(_is_network, k8s.allow)),
        "k8s.cpu_percent": k8s.cpu_percent > 0,
        "k8s.queue": k8s.queue >= 0,
    }


def _sensible_endpoint(target: str, section: object) -> dict[str, bool]:
    """Look at the address of a private cloud, which its SDK would stumble over much later."""
    endpoint = getattr(section, "endpoint", "")
    whole = endpoint if "://" in endpoint else f"https://{endpoint}"
    return {f"{target}.endpoint": address.parse(whole) is not None} if endpoint else {}


def _sensible_ecs(ecs: Ecs) -> dict[str, bool]:
    return {
        "ecs.cidr": _is_network(ecs.cidr),
        "ecs.disk": ecs.disk in DISKS,
        "ecs.bandwidth": ecs.bandwidth >= 0,
        "ecs.ram_role": bool(ecs.ram_role) or not (ecs.secret or ecs.registry_instance),
    }


def _is_network(cidr: str) -> bool:
    try:
        ipaddress.ip_network(cidr)
    except ValueError:
        return False
    return True
