"""The layers of the image: what goes into each, written as a tar whose bytes repeat.

A layer is first laid out in dist/image/ENGINE/roots/NAME as it will lie in the image, then written
to dist/image/ENGINE/layers/NAME.tar. One whose inputs did not change is left alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder.debian.store import Deb
from builder.environment.relocation import relocate
from builder.image import base, bill
from builder.image.bill import Bill
from builder.settings import ROOT, Settings
from builder.stage import archive, receipt, recipe, report, scratch
from builder.stage.run import run
from builder.variants import Variant
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog, Model
from entrypoint.common.language import _

PREFIX = "opt/llmdeploy"

# Of the program what is renewed less often than its code, whose layer so stays small.
SETTLED = (
    "entrypoint/serve/page/**/*",
    "entrypoint/answers/*.toml",
    "entrypoint/compare/report.*",
    "entrypoint/tutorial.ipynb",
)

# Of the packed environment, what only serves a person at a shell.
UNNEEDED = ("bin/activate*", "bin/deactivate*", "bin/conda-unpack", "bin/conda_unpack_progress.py")

SCRIPT = f"""#!/{PREFIX}/bin/python3
import sys

from entrypoint.__main__ import main

sys.exit(main())
"""


@dataclass(frozen=True)
class Layer:
    """One layer: `inputs` decide its content, `fill` writes that below a folder, as from /."""

    name: str
    inputs: Mapping[str, str]
    fill: Callable[[Path], object]


def plan(
    settings: Settings, debs: Sequence[Deb], environment: str, catalogue: Catalog, about: Bill
) -> Iterator[Layer]:
    """Yield the layers from bottom to top.

    `debs` are the base's packages, none on a base from elsewhere; `environment` is the packed
    environment's SHA-256; `about` is the bill of all that.
    """
    tarball = settings.packed
    laying = recipe.code("stage/archive.py", "image/layers.py")
    if debs:
        inputs = {deb.name: deb.sha256 for deb in debs}
        unpacking = recipe.code("debian/deb.py", "image/base.py")
        yield Layer("base", laying | unpacking | inputs, lambda root: base.unpack(debs, root))
    relocating = recipe.code("environment/relocation.py", "inside/relocate.py")
    yield Layer(
        "env",
        laying | relocating | {"env": environment},
        lambda root: _environment(tarball, root),
    )
    for model in catalogue.models:
        yield _model(settings, model, laying)
    python = settings.image_dir / "roots/env" / PREFIX / "bin/python3"
    yield Layer(
        "data",
        laying | {"data": _digest(_settled()), "env": environment},
        lambda root: _data(_packages(root, python)),
    )
    program = {
        "program": _digest([ROOT / "pyproject.toml", *_sources()]),
        "catalog": receipt.digest(dataclasses.asdict(catalogue)),
        "env": environment,
    }

    def fill(root: Path) -> None:
        _program(root, python, catalogue, settings.variant)
        place = root / bill.PLACE
        place.parent.mkdir(parents=True)
        place.write_text(about.text(), encoding="utf-8")

    yield Layer("code", laying | program | about.inputs, fill)


def write(folder: Path, layer: Layer) -> None:
    """Lay out a layer and write its tar below `folder`, unless both are there and current."""
    root, tar = folder / "roots" / layer.name, folder / "layers" / f"{layer.name}.tar"
    record = folder / "layers" / f"{layer.name}.json"
    if root.is_dir() and receipt.current(record, layer.inputs):
        return
    report.say(_("writing the layer {name}").format(name=layer.name))
    shutil.rmtree(root, ignore_errors=True)
    record.unlink(missing_ok=True)
    tar.parent.mkdir(parents=True, exist_ok=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    with scratch.folder(folder / "scratch") as work:
        content = work / layer.name
        content.mkdir()
        layer.fill(content)
        archive.write_tar(content, tar)
        content.rename(root)
    receipt.write(record, layer.inputs, [tar])


def keep(folder: Path, names: Collection[str]) -> None:
    """Remove the layers below `folder` that have none of these names.

    A model that the image has no more would lie there as long as the checkout, once more.
    """
    for path in sorted(folder.glob("layers/*")):  # a record goes before its tar
        if path.stem not in names:
            path.unlink()
    for path in folder.glob("roots/*"):
        if path.name not in names:
            shutil.rmtree(path)


def _environment(tarball: Path, root: Path) -> None:
    prefix = root / PREFIX
    archive.extract(tarball, prefix)
    relocate(prefix, Path("/", PREFIX))
    for pattern in UNNEEDED:
        for path in prefix.glob(pattern):
            path.unlink()


def _model(settings: Settings, model: Model, laying: Mapping[str, str]) -> Layer:
    def fill(root: Path) -> None:
        for file in model.files:
            target = root / "models" / model.name / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(settings.ready_dir / model.name / file.path, target)

    hashes = {file.path: file.sha256 for file in model.files}
    return Layer(f"model-{model.name}", {**laying, **hashes}, fill)


def _data(packages: Path) -> None:
    for path in _settled():
        target = packages / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def leave_one(engines: Path, name: str) -> None:
    """Remove the packages of all engines but one: an image has its own only."""
    for package in engines.glob("*/"):
        if package.name != name:
            shutil.rmtree(package)


def _program(root: Path, python: Path, catalogue: Catalog, variant: Variant) -> None:
    """Install the wheel as bytecode, its command, and the list of this image's models."""
    packages = _packages(root, python)
    with tempfile.TemporaryDirectory() as work:
        run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", work],
            cwd=ROOT,
            env={"SOURCE_DATE_EPOCH": str(archive.EPOCH)},
        )
        [wheel] = Path(work).glob("*.whl")
        elsewhere = {str(path.relative_to(ROOT)) for path in _settled()}
        with zipfile.ZipFile(wheel) as content:  # all that installing a pure wheel means
            for name in content.namelist():
                if name not in elsewhere and not name.endswith("/RECORD"):
                    content.extract(name, packages)
    leave_one(packages / "entrypoint/engines", variant.engine)
    # The image is read-only, so bytecode is made here; it stands for its source, without docstrings
    # and columns, as each change of the program sends this layer again.
    compiler = ["-X", "no_debug_ranges", "-m", "compileall", "-q", "-b", "-o", "2"]
    options = ["--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    repeat = {"PYTHONHASHSEED": "0"}  # the order of frozen sets is written into bytecode
    run([python, *compiler, *options, packages], env=repeat)
    for source in packages.rglob("*.py"):
        source.unlink()
    command = root / PREFIX / "bin/llmdeploy"
    command.parent.mkdir()
    command.write_text(SCRIPT)
    command.chmod(0o755)
    (root / "models").mkdir()
    catalog.dump(catalogue, root / "models")
    if variant.kernel:
        _register_kernel(root, variant.kernel)


def _packages(root: Path, python: Path) -> Path:
    """Return where the environment's Python looks for packages, below `root`."""
    version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]).strip()
    return root / PREFIX / f"lib/python{version}/site-packages"


def _register_kernel(root: Path, name: str) -> None:
    """Let every Jupyter in the image offer the environment's Python by this name."""
    spec = root / f"usr/local/share/jupyter/kernels/{name}/kernel.json"
    spec.parent.mkdir(parents=True)
    launch = [f"/{PREFIX}/bin/python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": launch, "display_name": name, "language": "python"}
    spec.write_text(json.dumps(about, indent=1) + "\n")


def _settled() -> Iterator[Path]:
    """Yield the files of the program that lie in the layer below its code."""
    for pattern in SETTLED:
        yield from filter(Path.is_file, ROOT.glob(pattern))


def _sources() -> Iterator[Path]:
    """Yield the files that the layer of the code is made of."""
    rewritten = set(_settled())
    for path in (ROOT / "entrypoint").rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and path not in rewritten:
            yield path


def _digest(paths: Iterable[Path]) -> str:
    return receipt.digest({str(path.relative_to(ROOT)): receipt.sha256(path) for path in paths})
