"""`quantize`: fetched models become GGUF files of one weight type, listed in catalog.json."""

from __future__ import annotations

import difflib
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from builder import convert, disk, fetch, gguf, memory, models, receipt, report, scratch, wheelhouse
from builder.models import Intent, Models
from builder.run import run
from builder.settings import Settings
from entrypoint import catalog
from entrypoint.catalog import Catalog, Model, ModelFile
from entrypoint.errors import (
    CommandFailed,
    ConfigFailure,
    DamagedModel,
    DiskFull,
    StageMissing,
    UsageFailure,
)
from entrypoint.language import _

ENGINE: Final = "llamacpp"
WEIGHTS: Final = "model.gguf"
BUFFER: Final = 256  # MiB that llama-quantize may take for the rows of one tensor

# Types that every tensor of a model gets: ggml's number for each, and its bits for one weight.
PURE: Final = {
    "F32": (0, 32.0),
    "F16": (1, 16.0),
    "BF16": (30, 16.0),
    "Q4_0": (2, 4.5),
    "Q4_1": (3, 5.0),
    "Q5_0": (6, 5.5),
    "Q5_1": (7, 6.0),
    "Q8_0": (8, 8.5),
    "Q6_K": (14, 6.6),
    "IQ4_NL": (20, 4.5),
}
# llama.cpp's mixtures of types: the number that the metadata has for each, and its average bits.
MIXED: Final = {
    "Q2_K": (10, 3.4),
    "Q3_K_S": (11, 3.6),
    "Q3_K_M": (12, 4.1),
    "Q3_K_L": (13, 4.4),
    "Q4_K_S": (14, 4.7),
    "Q4_K_M": (15, 5.0),
    "Q5_K_S": (16, 5.6),
    "Q5_K_M": (17, 5.8),
}
TYPES: Final = PURE | MIXED


def quantize(
    settings: Settings, names: Sequence[str] | None = None, *, type: str | None = None
) -> None:
    """Make the models `names` (default: the default one) ready in dist/models/ready/.

    `type` is llama.cpp's name of a weight type (default: the one in models.toml). The catalogue
    lists all models that are ready. Raises UsageFailure, UnknownModel, StageMissing, DamagedModel,
    ConfigFailure, DiskFull, and what making the engine raises.
    """
    known = models.load()
    for name in names or [known.default]:
        intent = known.find(name)
        wanted = _known_type(type or intent.quantization)
        with report.step(_("Weights of {name}: {type}").format(name=name, type=wanted)):
            _quantize(settings, intent, wanted)
    _list(settings, known)


def _known_type(name: str) -> str:
    if name.upper() in TYPES:
        return name.upper()
    near = difflib.get_close_matches(name.upper(), TYPES, n=1)
    raise UsageFailure(
        _("There is no weight type called {name}.").format(name=name),
        _("Types: {names}.").format(names=", ".join(TYPES)),
        _("Did you mean {name}?").format(name=near[0]) if near else "",
    )


def _inputs(intent: Intent, type: str) -> dict[str, str]:
    """Return what decides about the bytes of a ready model."""
    inputs = {
        "files": receipt.digest(fetch.inputs(intent.name)),
        "type": type,
        "engine": receipt.digest(wheelhouse.recipe()),
    }
    if intent.format == "checkpoint":
        inputs["converter"] = receipt.sha256(convert.LOCK)
    return inputs


def _quantize(settings: Settings, intent: Intent, type: str) -> None:
    raw = settings.dist_dir / "models" / "raw" / intent.name
    ready = settings.ready_dir / intent.name
    if receipt.current(ready / "receipt.json", _inputs(intent, type)):
        report.say(_("nothing changed"))
        return
    fetched = _fetched(raw, intent.name)
    with disk.guard(ready), scratch.folder(ready.with_name(f".{ready.name}.partial")) as work:
        made = work / "made"
        made.mkdir()
        source = _gguf(settings, intent, raw, work)
        header = gguf.read(source)
        _require_template(intent, header)
        if _has_type(header, type):
            report.say(_("already has that type"))
            _link(source, made / WEIGHTS)
        else:
            _convert(settings, source, header, made / WEIGHTS, type)
        receipt.write(
            made / "receipt.json",
            _inputs(intent, type),
            [made / WEIGHTS],
            source=fetched["source"],
        )
        shutil.rmtree(ready, ignore_errors=True)
        made.rename(ready)


def _fetched(raw: Path, name: str) -> Mapping[str, Any]:
    """Return the receipt of a fetched model whose files are still what was fetched."""
    found, wanted = receipt.read(raw / "receipt.json"), fetch.inputs(name)
    if found is None or found["inputs"] != wanted:
        raise StageMissing(
            _("{name} has not been fetched.").format(name=name),
            next=_("Fetch it with: ./llmdeploy fetch {name}").format(name=name),
        )
    if not receipt.current(raw / "receipt.json", wanted):
        raise DamagedModel(
            _("The files in {path} are not those that were fetched.").format(path=raw),
            next=_("Fetch them again: ./llmdeploy fetch {name}").format(name=name),
        )
    return found


def _gguf(settings: Settings, intent: Intent, raw: Path, work: Path) -> Path:
    """Return the model as one GGUF file of whatever type, made in `work` if it is a checkpoint."""
    if intent.format == "gguf":
        first, *more = models.locked()[intent.name]
        if more:
            raise ConfigFailure(
                _("{name} has several files where one GGUF file belongs.").format(name=intent.name),
                next=_("Name one in models.toml, and fetch again: files = [...]"),
            )
        return raw / first.path
    convert.to_gguf(settings, raw, work / "converted.gguf")
    return work / "converted.gguf"


def _require_template(intent: Intent, header: gguf.Header) -> None:
    if not intent.chat_template and "tokenizer.chat_template" not in header.metadata:
        raise ConfigFailure(
            _("{name} does not say how a conversation is written.").format(name=intent.name),
            _("Neither its files nor models.toml have a chat template."),
            _("Set chat_template in models.toml: a Jinja template, or chatml."),
        )


def _has_type(header: gguf.Header, type: str) -> bool:
    """Tell whether nothing is left to do. Vectors stay floats in every type."""
    if type in MIXED:
        return header.metadata.get("general.file_type") == MIXED[type][0]
    number, _bits = PURE[type]
    return all(tensor.type == number for tensor in header.tensors if len(tensor.shape) > 1)


def _link(source: Path, target: Path) -> None:
    """Give `target` the content of `source`, without a second copy where the disk can do that."""
    try:
        os.link(source, target)
    except OSError:
        disk.require(target.parent, source.stat().st_size)
        shutil.copyfile(source, target)


def _convert(
    settings: Settings, source: Path, header: gguf.Header, target: Path, type: str
) -> None:
    """Write `source` as `target` with weights of `type`, some rows in memory at a time."""
    weights = sum(tensor.elements for tensor in header.tensors)
    disk.require(target.parent, int(weights * TYPES[type][1] / 8))
    report.say(_("quantizing {name}").format(name=source.name))
    pure = ["--pure"] if type in PURE else []
    limits = ["--max-buffer-size", str(BUFFER)]
    threads = str(len(os.sched_getaffinity(0)))
    program = _program(settings)
    try:
        run([program, "--allow-requantize", *pure, *limits, source, target, type, threads])
    except CommandFailed as failure:
        raise _named(failure, source, target) from None


def _named(failure: CommandFailed, source: Path, target: Path) -> Exception:
    """Return what llama-quantize's last words mean."""
    if "iostream error" in failure.why:
        return DiskFull(
            _("The disk became full while writing {path}.").format(path=target),
            next=_("Free some space and run the same task again."),
        )
    if any(sign in failure.why for sign in ("corrupted", "invalid data", "failed to read")):
        return DamagedModel(
            _("{path} is damaged.").format(path=source),
            failure.why.splitlines()[-2],
            _("Delete it, fetch it again and quantize it: ./llmdeploy fetch MODEL"),
        )
    return failure


def _program(settings: Settings) -> Path:
    """Return llama-quantize, unpacked from the engine's wheel."""
    wheel = wheelhouse.engine_wheel(settings)
    place = wheel.with_suffix("")
    with scratch.folder(place.with_name(".unpacked")) as work:
        if not place.is_dir():
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work / "all")
            for path in (work / "all" / "llmdeploy_llamacpp").iterdir():
                path.chmod(0o755)  # zipfile forgets that
            (work / "all").rename(place)
    return place / "llmdeploy_llamacpp" / "llama-quantize"


def _list(settings: Settings, known: Models) -> None:
    """Write the catalogue of all models that are ready."""
    entries = []
    for path in sorted(settings.ready_dir.glob("*/receipt.json")):
        intent, made = known.intents.get(path.parent.name), receipt.read(path)
        if intent is None or made is None:
            continue
        if receipt.current(path, _inputs(intent, made["inputs"]["type"])):
            entries.append(_entry(path.parent, intent, made))
        else:
            report.say(
                _("{name} is out of date and left out; renew it: ./llmdeploy quantize {name}")
                .format(name=intent.name)
            )  # fmt: skip
    names = [entry.name for entry in entries]
    default = known.default if known.default in names else names[0]
    catalog.dump(Catalog(default, tuple(entries)), settings.ready_dir)


def _entry(folder: Path, intent: Intent, made: Mapping[str, Any]) -> Model:
    """Return what the catalogue says of a ready model, of whose receipt `made` is the content."""
    weights = folder / WEIGHTS
    size, header = weights.stat().st_size, gguf.read(weights)
    context = min(intent.context, header.get("context_length", intent.context))
    source, revision = _origin(intent, made["source"])
    return Model(
        name=intent.name,
        display_name=intent.display_name,
        engine=ENGINE,
        quantization=made["inputs"]["type"],
        context=context,
        memory=memory.needed(header, size, context),
        languages=intent.languages,
        license=intent.license,
        source=source,
        revision=revision,
        chat_template=intent.chat_template,
        stop=intent.stop,
        files=(ModelFile(WEIGHTS, size, made["outputs"][WEIGHTS]["sha256"]),),
    )


def _origin(intent: Intent, kind: str) -> tuple[str, str]:
    """Return from where the model came, and its revision there, if that kind of source has one."""
    for source in intent.sources:
        if models.kind(source) != kind:
            continue
        match source:
            case models.ModelScope(repository, revision) | models.HuggingFace(repository, revision):
                return f"{kind}:{repository}", revision
            case models.Wheel(packages):
                return f"{kind}:{','.join(package.split()[0] for package in packages)}", ""
            case models.Url(place) | models.Dir(place):
                return f"{kind}:{place}", ""
    return kind, ""
