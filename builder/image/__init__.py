"""The image: docker/Dockerfile stacks the layers, BuildKit sends and stores only changed ones."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.image import base, bill, daemon, dockerfile, layers, materials
from builder.image.bill import Bill
from builder.settings import Settings
from builder.stage import receipt, report, scratch
from builder.stage.run import run
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog
from entrypoint.common.errors import ImageMissing, StageMissing
from entrypoint.common.language import _

if TYPE_CHECKING:
    from docker.models.images import Image

    from docker import DockerClient

HARDENED = (
    "--network", "none", "--read-only", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--tmpfs", "/tmp",  # noqa: S108 - the container's own
)  # fmt: skip
INPUTS = "io.llmdeploy.inputs"  # the label that tells what an image was made of


def build(settings: Settings, models: Sequence[str] | None = None) -> None:
    """Build the image from the environment, the models (default: all ready ones) and the program.

    Raises StageMissing if one of these is not there, UnknownModel, and what the engine raises.
    """
    environment = finished(settings.packed_receipt, f"build-env {settings.variant.environment}")
    catalogue = _choose(settings, models)
    with report.step(_("Image {name}").format(name=settings.image_name)):
        client = daemon.connect()
        # Another build in this folder waits: its layers are not this one's.
        with scratch.kept(settings.image_dir) as folder:
            _build(settings, client, folder, environment, catalogue)


def _build(
    settings: Settings,
    client: DockerClient,
    folder: Path,
    environment: Mapping[str, Any],
    catalogue: Catalog,
) -> None:
    """Build the image in `folder` unless it is current; leave there the layers that it has."""
    tarball = environment["outputs"][settings.packed.name]["sha256"]
    debs = [] if settings.base else base.packages(settings, environment["packages"])
    about = Bill(debs, environment, catalogue)
    stack = list(layers.plan(settings, debs, tarball, catalogue, about))
    recipe = dockerfile.render(
        dockerfile.FILE.read_text(encoding="utf-8"),
        settings.base,
        [layer.name for layer in stack if layer.name.startswith("model-")],
    )
    inputs = {layer.name: receipt.digest(dict(layer.inputs)) for layer in stack}
    inputs["Dockerfile"] = receipt.digest(recipe)
    is_labelled = _labels(client, settings.image_name).get(INPUTS) == receipt.digest(inputs)
    # Another checkout may have made the image; this one's folder tells about it too.
    if is_labelled and receipt.current(folder / "receipt.json", inputs):
        report.say(_("nothing changed"))
    else:
        for layer in stack:
            layers.write(folder, layer)
        (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
        shutil.copy(folder / "roots/code" / bill.PLACE, folder / "sbom.json")
        labels = materials.labels(catalogue, about.unlocked, settings.base) | {
            INPUTS: receipt.digest(inputs)
        }
        _stack(settings, folder, labels)
        _record(client.images.get(settings.image_name), folder, inputs)
    layers.keep(folder, [layer.name for layer in stack])


def _record(image: Image, folder: Path, inputs: Mapping[str, str]) -> None:
    receipt.write(
        folder / "receipt.json",
        inputs,
        [folder / "Dockerfile", folder / "sbom.json"],
        image=image.id,
        layers=image.attrs["RootFS"]["Layers"],
        size=image.attrs["Size"],
    )


def require(settings: Settings) -> None:
    """Raise ImageMissing if the image has not been built."""
    if not _labels(daemon.connect(), settings.image_name):
        raise ImageMissing(
            _("There is no image {name}.").format(name=settings.image_name),
            next=_("Build it with: ./llmdeploy {task}").format(task=settings.task("build-image")),
        )


def models(settings: Settings) -> Sequence[str]:
    """Return the names of the models that the image has, none if there is no image."""
    return _labels(daemon.connect(), settings.image_name).get(materials.MODELS, "").split(",")


def with_model(settings: Settings, name: str) -> Sequence[str]:
    """Return the models of the image if `name` is one of them, else that one alone."""
    baked = models(settings)
    return baked if name in baked else [name]


def _labels(client: DockerClient, name: str) -> dict[str, str]:
    """Return the labels of an image, none if there is no such image."""
    from docker.errors import ImageNotFound

    try:
        return dict(client.images.get(name).labels)
    except ImageNotFound:
        return {}


def finished(path: Path, task: str) -> dict[str, Any]:
    """Return the receipt of an earlier stage whose outputs still stand."""
    data = receipt.read(path)
    if data is None or not receipt.current(path, data["inputs"]):
        raise StageMissing(
            _("The image needs what {task} makes, and it is not there.").format(task=task),
            next=_("Run first: ./llmdeploy {task}").format(task=task),
        )
    return data


def _choose(settings: Settings, names: Sequence[str] | None) -> Catalog:
    """Return the part of the catalogue that the image gets, all of whose files are there."""
    if not (settings.ready_dir / "catalog.json").exists():
        finished(settings.ready_dir / "receipt.json", settings.task("quantize MODEL"))
    everything = catalog.load(settings.ready_dir)
    models = everything.models if names is None else tuple(map(everything.find, names))
    for model in models:
        record = settings.ready_dir / model.name / "receipt.json"
        finished(record, settings.task(f"quantize {model.name}"))
    model_names = [model.name for model in models]
    default = everything.default if everything.default in model_names else model_names[0]
    return replace(everything, default=default, models=models)


def _stack(settings: Settings, folder: Path, about: Mapping[str, str]) -> None:
    """Build the image, see that it starts, and only then give it its name."""
    client = daemon.building_client()
    identity = folder / "image-id"
    report.say(_("handing the layers to the container engine"))
    options = [f"--label={key}={value}" for key, value in about.items()]
    run(
        [
            client.path, "build", "--progress=plain", f"--file={folder / 'Dockerfile'}",
            f"--iidfile={identity}", *options, folder / "layers",
        ],
        env=client.env,
        log=folder / "build.log",
    )  # fmt: skip
    image = identity.read_text()
    run([client.path, "run", "--rm", *HARDENED, image, "version"])
    run([client.path, "tag", image, settings.image_name])
