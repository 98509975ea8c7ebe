"""`push`: the image goes to a registry, and from then on has a name that never changes: a digest.

The engine asks the registry for each layer first, so weights that are there are not sent again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from builder.image import daemon
from builder.launch import attachments, signature
from builder.launch.deployment import Deployment
from builder.settings import Settings
from builder.stage import receipt, report
from entrypoint import __version__
from entrypoint.common.errors import ConfigFailure, ImageMissing, Refused, StageMissing
from entrypoint.common.language import _

DIGEST: Final = "@sha256:"
REPOSITORY: Final = re.compile(r"[A-Za-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")


@dataclass(frozen=True)
class Sent:
    """What a push did: the manifest's digest, layers and bytes before compression that went out."""

    digest: str
    layers: int
    size: int
    known: int


def push(settings: Settings, deployment: Deployment, key: Path | None = None) -> None:
    """Push the image with its bill of materials and provenance; print its reference by digest.

    With a `key` all that is signed. Raises UsageFailure for a key that cannot sign, ConfigFailure
    without a registry, ImageMissing, Refused with the registry's words.
    """
    private = signature.private_key(key) if key else None
    repository = _repository(settings, deployment)
    client = daemon.connect()
    image = local(client, local_name(settings, deployment))
    name = tag(image)
    image.tag(repository, name)
    with report.step(_("Pushing {name}").format(name=f"{repository}:{name}")):
        delivery = account(client.images.push(repository, name, stream=True, decode=True))
        report.say(
            _("sent {layers} layers, {size:.1f} MB; {known} were there already").format(
                layers=delivery.layers, size=delivery.size / 1e6, known=delivery.known
            )
        )
        attachments.attach(settings, repository, delivery.digest, image, private)
    reference = f"{repository}@{delivery.digest}"
    path = _receipt(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    receipt.write(path, {"repository": repository}, [], image=image.id, reference=reference)
    print(reference)


def reference(settings: Settings, deployment: Deployment) -> str:
    """Return the image by digest, as every machine can pull it.

    Raises StageMissing if it has not been pushed, or was built anew since.
    """
    if DIGEST in deployment.image:
        return deployment.image
    repository = _repository(settings, deployment)
    record = receipt.read(_receipt(settings))
    built = receipt.read(settings.image_dir / "receipt.json")
    if record is None or record["inputs"] != {"repository": repository}:
        what = _("The image has not been pushed to {name}.").format(name=repository)
    elif built and not deployment.image and built["image"] != record["image"]:
        what = _("The image was built anew since it was pushed.")
    else:
        return str(record["reference"])
    raise StageMissing(what, next=_("Run first: ./llmdeploy push"))


def local_name(settings: Settings, deployment: Deployment) -> str:
    """Return the name that the image has on this machine."""
    return deployment.image or settings.image_name


def bare_name(settings: Settings, deployment: Deployment) -> str:
    """Return the image's name without a registry and a tag."""
    return re.split("[:@]", local_name(settings, deployment).rpartition("/")[2])[0]


def account(events: Iterable[Mapping[str, Any]]) -> Sent:
    """Sum up what the engine tells while it pushes; raise Refused with what the registry said."""
    sizes: dict[str, int] = {}
    known: set[str] = set()
    digest = error = ""
    for event in events:
        error = event.get("error", error)
        layer, state = event.get("id", ""), event.get("status", "")
        if state == "Pushing":
            sizes[layer] = max(sizes.get(layer, 0), event["progressDetail"].get("current", 0))
        elif state == "Layer already exists" or state.startswith("Mounted from"):
            known.add(layer)
        digest = event.get("aux", {}).get("Digest", digest)
    if error:
        raise Refused(
            _("The registry did not take the image."),
            error,
            _("Log in with: docker login HOST; then check the name of the registry."),
        )
    return Sent(digest, len(sizes), sum(sizes.values()), len(known))


def tag(image: Any) -> str:
    """Return the tag that is this image's own: a registry may take a tag only once."""
    return f"{__version__}-{image.id.removeprefix('sha256:')[:12]}"


def local(client: Any, name: str) -> Any:
    """Return an image of this machine by its name; raise ImageMissing if there is none."""
    from docker.errors import ImageNotFound

    try:
        return client.images.get(name)
    except ImageNotFound:
        raise ImageMissing(
            _("There is no image {name}.").format(name=name),
            next=_("Build it with: ./llmdeploy {task}").format(task="build-image"),
        ) from None


def _repository(settings: Settings, deployment: Deployment) -> str:
    if not deployment.registry:
        raise ConfigFailure(
            _("deploy.toml names no registry."),
            _("Other machines pull the image from there."),
            _("Add for example: registry = {example}").format(
                example='"registry.cn-shanghai.aliyuncs.com/NAMESPACE"'
            ),
        )
    repository = f"{deployment.registry}/{bare_name(settings, deployment)}"
    if not REPOSITORY.fullmatch(repository):
        raise ConfigFailure(
            _("{name} cannot be the name of a repository.").format(name=repository),
            _("After the host it has lower-case letters and digits only, with . _ - between them."),
            _("Correct registry in deploy.toml: a host and your namespace there."),
        )
    return repository


def _receipt(settings: Settings) -> Path:
    return settings.dist_dir / "push" / f"{settings.engine}.json"
