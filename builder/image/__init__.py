"""The image: docker/Dockerfile stacks the layers, BuildKit sends and stores only changed ones."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from builder.image import base, daemon, layers
from builder.settings import ROOT, Settings
from builder.stage import receipt, report
from builder.stage.run import run
from entrypoint import __version__
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog
from entrypoint.common.errors import CommandFailed, ImageMissing, StageMissing
from entrypoint.common.language import _

if TYPE_CHECKING:
    from docker import DockerClient

HARDENED = (
    "--network", "none", "--read-only", "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges", "--tmpfs", "/tmp",  # noqa: S108 - the container's own
)  # fmt: skip
# What all images carry: llmdeploy and OpenSSL; llama.cpp, libffi; Python and its wheels; its other
# libraries; the C library, the compiler's, and Debian's own few files. Texts lie beside each.
LICENSES = (
    *("Apache-2.0", "MIT", "PSF-2.0", "BSD-2-Clause", "BSD-3-Clause"),
    *("0BSD", "X11", "Zlib", "blessing", "bzip2-1.0.6"),
    *(
        "LGPL-2.1-or-later",
        "LGPL-3.0-or-later",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "GPL-2.0-or-later",
    ),
)
INPUTS = "io.llmdeploy.inputs"  # the label that tells what an image was made of
MODELS = "io.llmdeploy.models"  # the label that names its models


def build(settings: Settings, models: Sequence[str] | None = None) -> None:
    """Build the image from the environment, the models (default: all ready ones) and the program.

    Raises StageMissing if one of these is not there, UnknownModel, and what the engine raises.
    """
    environment = _finished(settings.packed_receipt, f"build-env {settings.variant.environment}")
    chosen = _choose(settings, models)
    with report.step(_("Image {name}").format(name=settings.image_name)):
        client = daemon.connect()
        tarball = environment["outputs"][settings.packed.name]["sha256"]
        stack = list(layers.plan(settings, tarball, chosen))
        recipe = dockerfile(
            (ROOT / "docker/Dockerfile").read_text(encoding="utf-8"),
            settings.base,
            [layer.name for layer in stack if layer.name.startswith("model-")],
        )
        inputs = {layer.name: receipt.digest(dict(layer.inputs)) for layer in stack}
        inputs["Dockerfile"] = receipt.digest(recipe)
        folder = settings.image_dir
        made = _labels(client, settings.image_name).get(INPUTS) == receipt.digest(inputs)
        # Another checkout may have made the image; this one's folder tells about it too.
        if made and receipt.current(folder / "receipt.json", inputs):
            report.say(_("nothing changed"))
            return
        for layer in stack:
            layers.write(folder, layer)
        (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
        (folder / "sbom.json").write_text(
            json.dumps(_parts(settings, environment, chosen), indent=1) + "\n", encoding="utf-8"
        )
        _stack(settings, folder, {**labels(chosen), INPUTS: receipt.digest(inputs)})
        image = client.images.get(settings.image_name)
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


def with_model(settings: Settings, name: str) -> Sequence[str]:
    """Return the models of the image if `name` is one of them, else that one alone."""
    baked = _labels(daemon.connect(), settings.image_name).get(MODELS, "").split(",")
    return baked if name in baked else [name]


def size(settings: Settings) -> None:
    """Print the size of each layer, in the image and as a registry would store it.

    Raises ImageMissing if there is no image, StageMissing if another checkout made it.
    """
    require(settings)
    folder = settings.image_dir
    _finished(folder / "receipt.json", settings.task("build-image"))
    recipe = (folder / "Dockerfile").read_text(encoding="utf-8")
    names = [line.split()[1] for line in recipe.splitlines() if line.startswith("ADD ")]
    with ThreadPoolExecutor() as pool:  # zlib lets other threads run
        sizes = pool.map(measure, (folder / "layers" / name for name in names))
    Console().print(table(dict(zip(names, sizes, strict=True)), settings.variant.bounds))


def table(sizes: Mapping[str, tuple[int, int]], bounds: tuple[int, int]) -> Table:
    """Return what `size` prints of the layers' two sizes in bytes and their `bounds` in MB."""
    rest = [size for name, size in sizes.items() if not name.startswith("model-")]
    shown = Table(box=None, pad_edge=False)  # it knows that Chinese takes two cells
    shown.add_column(_("layer"), no_wrap=True)
    for title in (_("MB unpacked"), _("MB compressed")):
        shown.add_column(title, justify="right", no_wrap=True)
    for name, size in sizes.items():
        shown.add_row(Path(name).stem, *(f"{each / 1e6:.1f}" for each in size))
    totals = map(sum, zip(*rest, strict=True))
    shown.add_row(_("all but the weights"), *(f"{each / 1e6:.1f}" for each in totals))
    shown.add_row(_("promised at most"), *map(str, bounds))
    return shown


def measure(tar: Path, level: int = 6) -> tuple[int, int]:
    """Return the bytes of a layer's files, and of the layer compressed as a registry does it.

    With a lower level than a registry's, what is compressed is more, and sooner known.
    """
    with tarfile.open(tar) as content:
        unpacked = sum(member.size for member in content)
    sink = _Counter()
    with (
        tar.open("rb") as source,
        gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=level) as out,
    ):
        shutil.copyfileobj(source, out, 1 << 20)
    return unpacked, sink.count


def dockerfile(template: str, base_image: str, models: Sequence[str]) -> str:
    """Return docker/Dockerfile with an ADD for each model layer, on `base_image` if it is named."""
    text = template.replace("ADD model.tar /\n", "".join(f"ADD {name}.tar /\n" for name in models))
    if base_image:
        return text.replace(
            "FROM scratch AS base\nADD base.tar /\n", f"FROM {base_image} AS base\n"
        )
    return text


def labels(chosen: Catalog) -> dict[str, str]:
    """Return what the image says about itself, in the words of the OCI image specification."""
    licenses = {*LICENSES, *(model.license for model in chosen.models)}
    known = {
        "title": "llmdeploy",
        "description": "An INT4 language model that chats on a CPU, offline",
        "version": __version__,
        "licenses": " AND ".join(sorted(licenses)),
        "revision": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "source": public(_git("config", "--get", "remote.origin.url")),
    }
    return {
        **{f"org.opencontainers.image.{key}": value for key, value in known.items() if value},
        MODELS: ",".join(model.name for model in chosen.models),
    }


def public(remote: str) -> str:
    """Return a repository's address without user and password; "" if it is not on the web."""
    parts = urlsplit(remote)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class _Counter(io.RawIOBase):
    """A file that only counts what is written to it."""

    count = 0

    def write(self, data: Any, /) -> int:
        self.count += len(data)
        return len(data)


def _labels(client: DockerClient, name: str) -> dict[str, str]:
    """Return the labels of an image, none if there is no such image."""
    from docker.errors import ImageNotFound

    try:
        return dict(client.images.get(name).labels)
    except ImageNotFound:
        return {}


def _finished(path: Path, task: str) -> dict[str, Any]:
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
        _finished(settings.ready_dir / "receipt.json", settings.task("quantize MODEL"))
    everything = catalog.load(settings.ready_dir)
    models = everything.models if names is None else tuple(map(everything.find, names))
    for model in models:
        record = settings.ready_dir / model.name / "receipt.json"
        _finished(record, settings.task(f"quantize {model.name}"))
    kept = [model.name for model in models]
    default = everything.default if everything.default in kept else kept[0]
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


def _parts(settings: Settings, environment: Mapping[str, Any], chosen: Catalog) -> dict[str, Any]:
    """Return a bill of materials as CycloneDX 1.5 spells it."""
    debs = [] if settings.base else [base.describe(deb) for deb in base.packages(settings)]
    found = [
        *(
            {**deb, "type": "library", "purl": f"pkg:deb/{deb['name']}@{deb['version']}"}
            for deb in debs
        ),
        *(
            {
                "type": "library",
                "name": package["name"],
                "version": package["version"],
                "hashes": _hashes(package.get("sha256")),
            }
            for package in environment["packages"]
        ),
        *(
            {
                "type": "machine-learning-model",
                "name": model.name,
                "version": model.revision,
                "licenses": [{"license": {"id": model.license}}],
                "hashes": _hashes(*(file.sha256 for file in model.files)),
            }
            for model in chosen.models
        ),
        {"type": "application", "name": "llmdeploy", "version": __version__},
    ]
    return {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "components": found}


def _hashes(*known: str | None) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": each} for each in known if each]


def _git(*words: str) -> str:
    """Return what git says, "" outside a checkout."""
    try:
        return run(["git", "-C", ROOT, *words]).strip()
    except CommandFailed:
        return ""
