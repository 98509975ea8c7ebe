"""`bench --itrex`: the tutorial's stack beside llama.cpp, on the same model, and its slow start."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

from builder import image, up
from builder.bench import engines, figures, quantization
from builder.bench.engines import Figures
from builder.bench.figures import Promise
from builder.image import daemon, materials
from builder.models import checkpoint, convert
from builder.settings import Settings
from builder.stage import report, scratch
from builder.stage.run import run, watch
from entrypoint.common import catalog, machine
from entrypoint.common.language import _

ROUNDS: Final = 3
# Who is measured: the program on both engines, the tutorial's own code in two ways.
ITREX, LLAMACPP, SAVED, QUANTIZING = "itrex", "llamacpp", "saved", "quantizing"


def run_all(settings: Settings) -> None:
    """Print the figures and each promise; raise CommandFailed if one is not held.

    Raises StageMissing or ImageMissing if there is nothing to measure yet.
    """
    stack = replace(settings, engine="itrex")
    sizes = {ITREX: {"image": _image(stack)}, LLAMACPP: {"image": _image(settings)}}
    slow, fast = up.on_host(stack), up.on_host(settings)
    facts = json.loads(run([*fast.argv, "doctor", "--json"], env=fast.env))
    model = catalog.load(settings.ready_dir).find(None)
    saved = stack.ready_dir / catalog.load(stack.ready_dir).find(model.name).name
    with scratch.folder(settings.dist_dir / ".bench") as work:
        plain = work / model.name
        plain.mkdir()
        with report.step(_("A checkpoint of {name}").format(name=model.name)):
            python = convert.environment(settings) / "bin" / "python"
            checkpoint.of_gguf(quantization.published(settings, model), plain, python)
        ways: dict[str, Callable[[], Figures]] = {
            ITREX: partial(engines.ours, slow),
            LLAMACPP: partial(engines.ours, fast),
            SAVED: partial(_tutorial, slow.python, saved),
            QUANTIZING: partial(_tutorial, slow.python, plain),
        }
        measures = engines.rounds(ways, ROUNDS)
    bounds = promises(measures)
    medians = {
        name: {figure: median(values) for figure, values in runs.items()} | sizes.get(name, {})
        for name, runs in measures.items()
    }
    print("\n\n".join((engines.machine(facts, ROUNDS), table(medians), figures.verdicts(bounds))))
    figures.require(bounds)


def promises(runs: Mapping[str, figures.Runs]) -> list[Promise]:
    """Return what must hold: that it was worth quantizing beforehand."""
    saved, quantizing = runs[SAVED], runs[QUANTIZING]
    return [
        Promise(
            _("start of the tutorial's code, from the saved folder : quantizing"),
            figures.ratio(saved["first"], quantizing["first"]),
            high=0.8,
        ),
        Promise(
            _("memory of the tutorial's code, from the saved folder : quantizing"),
            figures.ratio(saved["memory"], quantizing["memory"]),
            high=0.6,
        ),
    ]


def table(measures: Mapping[str, Figures]) -> str:
    """Return the medians as a Markdown table, with a dash for what was not measured."""
    columns = {
        ITREX: _("llmdeploy on ITREX"),
        LLAMACPP: _("llmdeploy on llama.cpp"),
        SAVED: _("the tutorial's code, saved folder"),
        QUANTIZING: _("the tutorial's code, quantizing"),
    }
    rows = (
        ("first", _("process start to first token, s"), "{:.1f}"),
        ("decode", _("decode of {n} tokens, tok/s").format(n=engines.PLAN["decode"]), "{:.1f}"),
        ("prefill", _("prefill of {n} tokens, tok/s").format(n=engines.PLAN["prefill"]), "{:.0f}"),
        ("memory", _("peak memory, MiB"), "{:.0f}"),
        ("image", _("image without weights, MB"), "{:.0f}"),
    )
    lines = [
        (title, *(form.format(measures[name][figure]) if figure in measures[name] else "-"
                  for name in columns))
        for figure, title, form in rows
    ]  # fmt: skip
    return figures.markdown(["", *columns.values()], lines)


def _tutorial(python: Path, folder: Path) -> Figures:
    """Run the tutorial's code to its first token."""
    env = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(machine.threads())}
    process = watch([python, engines.SCRIPTS / "tutorial.py", engines.SPOKEN, folder], env=env)
    return {"first": process.first, "memory": process.memory}


def _image(settings: Settings) -> float:
    """Return the megabytes of the image besides its models."""
    image.require(settings)
    built_image = daemon.connect().images.get(settings.image_name)
    catalogue = catalog.load(settings.ready_dir)
    names = built_image.labels[materials.MODELS].split(",")
    weights = sum(file.size for name in names for file in catalogue.find(name).files)
    return float(built_image.attrs["Size"] - weights) / 1e6
