"""`export`: a folder that brings the service to a machine that reaches nothing and has Docker only.

load.sh in there checks, loads and starts; it needs no more than POSIX's shell.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from builder import delivery
from builder import image as images
from builder.image import daemon, licenses, saved
from builder.launch import push, service, signature, targets
from builder.launch.deployment import Deployment
from builder.launch.platforms import compose
from builder.settings import Settings
from builder.stage import disk, receipt, report, scratch
from entrypoint.common.errors import StageMissing, UsageFailure
from entrypoint.common.language import _

PLACE: Final = Path(__file__).parent
RECORD: Final = "image.json"  # the image's name and layers, for the next export
SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = f"{SUMS}.sig"
# How `docker run` calls what compose.yaml says of a container. The image brings its health check.
FLAGS: Final = {
    "ports": "publish",
    "restart": "restart",
    "read_only": "read-only",
    "tmpfs": "tmpfs",
    "cap_drop": "cap-drop",
    "security_opt": "security-opt",
    "pids_limit": "pids-limit",
    "cpus": "cpus",
    "mem_limit": "memory",
    "memswap_limit": "memory-swap",
}


def export(
    settings: Settings,
    deployment: Deployment,
    target: Path,
    *,
    since: Path | None = None,
    key: Path | None = None,
    mirror: bool = False,
) -> None:
    """Write the folder `target` and print it; with `since`, an earlier one, only what is new.

    With a private `key` the list of hashes is signed. As a `mirror` it also has what a machine
    without a network needs to build the image. The folder is whole or not there. Raises
    UsageFailure where something is there already, `since` is no such folder or `key` none to sign
    with, ImageMissing, StageMissing, LockDrift, ConfigFailure, NotEnoughMemory, DiskFull, and
    DownloadFailure if a mirror cannot be made complete.
    """
    private = signature.private_key(key) if key else None
    target = target.absolute()
    if target.exists():
        raise UsageFailure(
            _("{path} already exists.").format(path=target),
            next=_("Name a folder that does not exist yet."),
        )
    base, known = _earlier(since) if since else ("", [])
    image = push.local(daemon.connect(), targets.image_of(settings, deployment, "compose"))
    _require_receipt(settings, image.id)
    bare = push.bare_name(settings, deployment)
    name = f"{bare}:{push.tag(image)}"
    service_files = compose.render(deployment, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    disk.require(target.parent, image.attrs["Size"] * (1 if since else 2))
    with (
        report.step(_("Exporting {name}").format(name=name)),
        scratch.folder(target.with_name(f".{target.name}.partial")) as work,
        disk.guard(target),
    ):
        folder = work / target.name
        folder.mkdir()
        saved.write(image, [name, f"{bare}:latest"], folder / "image.tar.zst", known)
        texts = {
            **service_files,
            **_guide(deployment, name, service_files[compose.FILE], base),
            RECORD: json.dumps({"name": name, "layers": image.attrs["RootFS"]["Layers"]}, indent=1),
            "LICENSES.txt": licenses.collect(settings.image_dir / "roots"),
        }
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        shutil.copy(settings.image_dir / "sbom.json", folder)
        sums = _sums(folder)
        (folder / SUMS).write_text(sums, encoding="utf-8")
        if private:
            (folder / SIGNATURE).write_text(f"{signature.over(sums.encode(), private)}\n")
        if mirror:
            delivery.publish(settings, images.models(settings), folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        folder.rename(target)
        report.say(_("{size:.1f} MB").format(size=size / 1e6))
    print(target)


def _earlier(folder: Path) -> tuple[str, list[str]]:
    """Return name and layers of the image in an earlier export."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return str(record["name"]), list(record["layers"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageFailure(
            _("{path} is not a folder that export has written.").format(path=folder),
            _("It has no readable {file}.").format(file=RECORD),
            _("Name the folder that the other machine has loaded."),
        ) from None


def _require_receipt(settings: Settings, image: str) -> None:
    """Raise StageMissing unless this checkout knows what the image is made of."""
    task = settings.task("build-image")
    if images.finished(settings.image_dir / "receipt.json", task)["image"] != image:
        raise StageMissing(
            _("The image was not built here last, so nothing tells what it is made of."),
            next=_("Run first: ./llmdeploy {task}").format(task=task),
        )


def _guide(deployment: Deployment, name: str, description: str, base: str) -> dict[str, str]:
    """Return load.sh and the page, filled in with what is particular to this deployment."""
    [(__, container)] = yaml.safe_load(description)["services"].items()
    values = {
        "NAME": deployment.name,
        "IMAGE": name,
        "BASE": base,
        "KEYS": "keys" if deployment.keys else "",
        "PATIENCE": str(deployment.patience),
        "URL": compose.url(deployment),
        "NETWORK": shlex.join(f"--opt={key}={value}" for key, value in compose.CLOSED.items()),
        "OPTIONS": shlex.join(_options(container)),
        "WORDS": shlex.join(container["command"]),
        "PROBE": shlex.join(service.probe(deployment)),
    }
    return {path.name: _fill(path, values) for path in sorted(PLACE.glob("[!_]*.*"))}


def _options(container: Mapping[str, Any]) -> Sequence[str]:
    """Return the options of `docker run` for a container of compose.yaml."""
    logging = container["logging"]
    return [
        *(f"--{flag}={value}" for key, flag in FLAGS.items() for value in _each(container[key])),
        f"--stop-timeout={service.GRACE}",
        f"--log-driver={logging['driver']}",
        *(f"--log-opt={key}={value}" for key, value in logging["options"].items()),
    ]


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fill(path: Path, values: Mapping[str, str]) -> str:
    text = path.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _sums(folder: Path) -> str:
    """Return the hashes of a folder's files as `sha256sum --check` reads them."""
    return "".join(f"{receipt.sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
