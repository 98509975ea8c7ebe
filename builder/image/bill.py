"""The bill of materials: all that an image is made of, as CycloneDX spells it.

Each part has a package URL, by which scanners look it up in databases of vulnerabilities.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from packageurl import PackageURL

from builder.debian import deb as opened
from builder.debian import lock
from builder.debian.store import Deb
from builder.environment import debianpython
from builder.image import materials
from builder.models import intents
from builder.models.intents import Dir, HuggingFace, ModelScope, Source, Url, Wheel
from builder.settings import ROOT
from builder.stage import receipt, recipe
from builder.variants import VARIANTS
from entrypoint import __version__
from entrypoint.common import tomlfile
from entrypoint.common.catalog import Catalog, Model

PLACE: Final = "usr/share/sbom/llmdeploy.cdx.json"  # in the image; scanners look for the suffix
# What an engine's wheel is compiled of, by the wheel's name.
UPSTREAM: Final = {
    each.package: ROOT / "env" / each.engine / "upstream.toml"
    for each in VARIANTS.values()
    if each.compiled
}
LOCKED: Final = {"ID": "debian", "VERSION_CODENAME": lock.intent().suite}

Component = dict[str, Any]


@dataclass(frozen=True)
class Upstream:
    """The tree that an engine's wheel is compiled of, and the archive that carries it.

    `version` and `commit` are "" where the archive does not say.
    """

    carrier: str
    repository: str
    version: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Bill:
    """What an image is made of: Debian packages, the receipt of an environment, models, program."""

    debs: Sequence[Deb]
    environment: Mapping[str, Any]
    chosen: Catalog

    @property
    def inputs(self) -> dict[str, str]:
        """The hashes of all that decides the text."""
        debs = [[deb.name, deb.version, deb.sha256, deb.locked] for deb in self.debs]
        models = [_model(model) for model in self.chosen.models]
        facts = [debs, self.environment["packages"], models]
        return recipe.code("image/bill.py") | {
            "upstream.toml": receipt.digest([receipt.sha256(path) for path in UPSTREAM.values()]),
            "materials": receipt.digest(facts),
        }

    @property
    def unlocked(self) -> str:
        """The names and versions of the Debian packages that are not the locked ones."""
        packages = self.environment["packages"]
        strangers = [f"{each.name}={each.version}" for each in self.debs if not each.locked] + [
            f"{each['name']}={each['version']}"
            for each in packages
            if each["kind"] == "deb" and not each["locked"]
        ]
        return " ".join(strangers)

    def text(self) -> str:
        """Return the bill as JSON."""
        parts = [
            *map(_deb, self.debs),
            *(part for package in self.environment["packages"] for part in _package(package)),
            *map(_vendored, materials.vendored()),
            *map(_model, self.chosen.models),
            _component("application", PackageURL("generic", None, "llmdeploy", __version__)),
        ]
        about = {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "components": [*{part["bom-ref"]: part for part in parts}.values()],
        }
        return json.dumps(about, indent=1, ensure_ascii=False) + "\n"


def upstream(wheel: str) -> Upstream:
    """Return what the engine is compiled of whose wheel has this name."""
    path = UPSTREAM[wheel]
    return tomlfile.record(Upstream, tomlfile.read(path), path.name)


def _component(kind: str, purl: PackageURL, *hashes: str, **more: Any) -> Component:
    return {
        "type": kind,
        "bom-ref": purl.to_string(),
        "name": purl.name,
        **({"version": purl.version} if purl.version else {}),
        **({"hashes": [{"alg": "SHA-256", "content": each} for each in hashes]} if hashes else {}),
        "purl": purl.to_string(),
        **more,
    }


def _deb(deb: Deb) -> Component:
    about = opened.fields(deb.file)
    source = about.get("Source", deb.name).partition(" ")[0]
    release = LOCKED if deb.locked else platform.freedesktop_os_release()
    return _of_debian(release, deb.name, deb.version, about["Architecture"], source, deb.sha256)


def _of_debian(
    release: Mapping[str, str],
    name: str,
    version: str,
    architecture: str,
    source: str,
    *sha256: str,
) -> Component:
    qualifiers = {"arch": architecture, "distro": release.get("VERSION_CODENAME", "")}
    if source != name:
        qualifiers["upstream"] = source
    return _component(
        "library", PackageURL("deb", release["ID"], name, version, qualifiers), *sha256
    )


def _package(package: Mapping[str, Any]) -> Iterator[Component]:
    """Yield a package of the environment and, if it is the engine, what that is compiled of."""
    name, version, build = package["name"], package["version"], package.get("build", "")
    if name in UPSTREAM:
        yield from _engine(package)
    elif package["kind"] == "wheel":
        yield _component("library", PackageURL("pypi", None, name, version), package["sha256"])
    elif package["kind"] == "deb":
        named = (package[key] for key in ("name", "version", "architecture", "source", "sha256"))
        yield _of_debian(LOCKED, *named)  # what stands in for the locked one is of its suite
    elif build.startswith(debianpython.BUILD):
        yield _component("library", PackageURL("generic", None, name, version), package["sha256"])
    else:
        purl = PackageURL("conda", None, name, version, {"build": build})
        yield _component("library", purl, package["sha256"])


def _engine(package: Mapping[str, Any]) -> Iterator[Component]:
    tree = upstream(package["name"])
    owner, name = tree.repository.split("/")
    carrier, _same, carried = tree.carrier.partition("==")
    yield _component(
        "application", PackageURL("generic", None, package["name"], package["version"]),
        package["sha256"],
    )  # fmt: skip
    yield _component(
        "library",
        PackageURL("github", owner, name, tree.commit or None),
        **({"version": tree.version} if tree.version else {}),
        licenses=[{"expression": "MIT"}],
        **({"pedigree": {"commits": [{"uid": tree.commit}]}} if tree.commit else {}),
        externalReferences=[_reference(PackageURL("pypi", None, carrier, carried).to_string())],
    )
    if version := package.get("compiler", "").rpartition(" ")[2]:  # its library lies in the wheel
        yield _component("library", PackageURL("generic", None, "libgomp", version))


def _vendored(package: materials.VendoredPackage) -> Component:
    purl = PackageURL("npm", None, package.name, package.version)
    return _component("library", purl, package.sha256, licenses=[{"expression": package.license}])


def _model(model: Model) -> Component:
    known = intents.load().intents.get(model.name)
    places = [place for source in known.sources for place in _places(source)] if known else []
    return _component(
        "machine-learning-model",
        PackageURL("generic", None, model.name, model.revision or None),
        *(file.sha256 for file in model.files if file.sha256),
        licenses=[_license(model.license)] if model.license else [],
        properties=[
            {"name": "llmdeploy:quantization", "value": model.quantization},
            # Of a folder, without the path, which is a person's own.
            {"name": "llmdeploy:source", "value": model.source.partition(":/")[0]},
        ],
        externalReferences=list(map(_reference, places)),
    )


def _license(text: str) -> dict[str, Any]:
    """Return a licence by its identifier, or by what somebody called it."""
    return {"license": {"name": text}} if " " in text else {"expression": text}


def _places(source: Source) -> Iterator[str]:
    """Yield where a source lies for everybody."""
    match source:
        case HuggingFace(repository, revision):
            owner, _slash, name = repository.partition("/")
            yield PackageURL("huggingface", owner, name, revision).to_string()
        case ModelScope(repository, revision):
            yield f"https://modelscope.cn/models/{repository}?revision={quote(revision)}"
        case Wheel(packages):
            for package in packages:
                name, _same, version = package.split()[0].partition("==")
                yield PackageURL("pypi", None, name, version).to_string()
        case Url(address):
            yield address
        case Dir():
            pass


def _reference(place: str) -> dict[str, str]:
    return {"type": "distribution", "url": place}
