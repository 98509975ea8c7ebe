"""`quantize`: fetched models become what an engine opens, INT4, listed in catalog.json."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.models import facts, fetch, intents
from builder.models.intents import Intent, Models
from builder.quantizers import Order, quantizer
from builder.settings import Settings
from builder.stage import disk, receipt, report, scratch
from entrypoint.common import catalog
from entrypoint.common.catalog import NO_ADVICE, Catalog, Model, ModelFile, SamplingAdvice
from entrypoint.common.errors import DamagedModel, StageMissing
from entrypoint.common.facts import Facts
from entrypoint.common.language import _


def quantize(
    settings: Settings, names: Sequence[str] | None = None, *, type: str | None = None
) -> None:
    """Make the models `names` (default: the default one) ready for the engine of the settings.

    `type` is the engine's name of a weight type (default: the one in models.toml). The catalogue
    lists all models that are ready. Raises UsageFailure, UnknownModel, StageMissing, DamagedModel,
    ConfigFailure, DiskFull, and what making the engine raises.
    """
    known = intents.load()
    for name in names or [known.default]:
        intent = known.find(name)
        weight_type = quantizer(settings.engine).known_type(type or intent.quantization)
        with report.step(_("Weights of {name}: {type}").format(name=name, type=weight_type)):
            _quantize(settings, intent, weight_type)
    _list(settings, known)


def inputs(settings: Settings, intent: Intent, type: str) -> dict[str, str]:
    """Return the hashes of all that decides about the bytes of a ready model."""
    return {
        "files": receipt.digest(fetch.inputs(intent)),
        "type": type,
        **quantizer(settings.engine).inputs(settings, intent),
    }


def _quantize(settings: Settings, intent: Intent, type: str) -> None:
    raw = settings.dist_dir / "models" / "raw" / intent.name
    ready = settings.ready_dir / intent.name
    recipe = inputs(settings, intent, type)
    if receipt.current(ready / "receipt.json", recipe):
        report.say(_("nothing changed"))
        return
    origin = fetched(raw, intent)
    with disk.guard(ready), scratch.folder(ready.with_name(f".{ready.name}.partial")) as work:
        output = work / "made"
        output.mkdir()
        order = Order(intent, type, raw, output, work)
        quantizer(settings.engine).make(settings, order)
        files = sorted(path for path in output.rglob("*") if path.is_file())
        properties = asdict(facts.read(intent, raw))
        receipt.write(
            output / "receipt.json", recipe, files, source=origin["source"], facts=properties
        )
        shutil.rmtree(ready, ignore_errors=True)
        output.rename(ready)


def fetched(raw: Path, intent: Intent) -> Mapping[str, Any]:
    """Return the receipt of a fetched model whose files are still what was fetched."""
    known, locked = receipt.read(raw / "receipt.json"), fetch.inputs(intent)
    if known is None or known["inputs"] != locked:
        raise StageMissing(
            _("{name} has not been fetched.").format(name=intent.name),
            next=_("Fetch it with: ./llmdeploy fetch {name}").format(name=intent.name),
        )
    if not receipt.current(raw / "receipt.json", locked):
        raise DamagedModel(
            _("The files in {path} are not those that were fetched.").format(path=raw),
            next=_("Fetch them again: ./llmdeploy fetch {name}").format(name=intent.name),
        )
    return known


def _list(settings: Settings, known: Models) -> None:
    """Write the catalogue of all models that are ready."""
    entries = []
    for path in sorted(settings.ready_dir.glob("*/receipt.json")):
        intent, record = known.intents.get(path.parent.name), receipt.read(path)
        if intent is None or record is None:
            continue
        if receipt.current(path, inputs(settings, intent, record["inputs"]["type"])):
            entries.append(_entry(settings, path.parent, intent, record))
        else:
            report.say(
                _("{name} is out of date and left out; renew it: ./llmdeploy {task}").format(
                    name=intent.name, task=settings.task(f"quantize {intent.name}")
                )
            )
    names = [entry.name for entry in entries]
    default = known.default if known.default in names else names[0]
    catalog.dump(Catalog(default, tuple(entries)), settings.ready_dir)


def _entry(settings: Settings, folder: Path, intent: Intent, record: Mapping[str, Any]) -> Model:
    """Return what the catalogue says of a ready model, whose receipt is `record`."""
    need = quantizer(settings.engine).measure(folder, intent)
    source, revision = _origin(intent, record["source"])
    own = _told(record.get("facts", {}))
    return Model(
        name=intent.name,
        display_name=intent.display_name or own.display_name or intent.name,
        engine=settings.engine,
        quantization=need.quantization or record["inputs"]["type"],
        context=need.context,
        memory=need.memory,
        memory_each=need.memory_each,
        languages=intent.languages or own.languages,
        license=intent.license or own.license,
        source=source,
        revision=revision,
        chat_template=intent.chat_template,
        stop=intent.stop,
        task=intent.task,
        think=intent.think or own.think,
        sampling=_sampling(intent.sampling, own.sampling),
        files=tuple(
            ModelFile(path, entry["size"], entry["sha256"])
            for path, entry in sorted(record["outputs"].items())
        ),
    )


def _told(values: Mapping[str, Any]) -> Facts:
    """Return the facts that a receipt has kept; earlier ones have none."""
    if not values:
        return Facts()
    properties = {**values, "languages": tuple(values["languages"])}
    return Facts(**{**properties, "sampling": SamplingAdvice(**values["sampling"])})


def _sampling(advice: SamplingAdvice, own: SamplingAdvice) -> SamplingAdvice:
    """Return what the model's own files say; where they say nothing, what models.toml advises."""
    return advice if own == NO_ADVICE else own


def _origin(intent: Intent, kind: str) -> tuple[str, str]:
    """Return from where the model came, and its revision there, if that kind of source has one."""
    for source in intent.sources:
        if intents.kind(source) != kind:
            continue
        match source:
            case intents.ModelScope(repository, revision) | intents.HuggingFace(
                repository, revision
            ):
                return f"{kind}:{repository}", revision
            case intents.Wheel(packages):
                return f"{kind}:{','.join(package.split()[0] for package in packages)}", ""
            case intents.Url(place) | intents.Dir(place):
                return f"{kind}:{place}", ""
    return kind, ""
