"""What our weights lose against the published file that they were made from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder import up
from builder.settings import Settings
from builder.stage import receipt, scratch
from builder.stage.run import run
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog, Model, ModelFile
from entrypoint.common.errors import CommandFailed, StageMissing
from entrypoint.common.language import _

# One after the other: at once they would come in any order, and could differ by rounding alone.
# The likeliest tokens, as the weights alone would have them.
ANSWER = (
    *("--temperature", "0", "--repeat-penalty", "1"),
    *("--max-tokens", "128", "--parallel", "1"),
)
CHUNK = "512"  # tokens; the second half of each chunk is scored
CHUNKS = "32"  # at most


@dataclass(frozen=True)
class Weights:
    """How good one file is: perplexity over the fixed text (less is better), and its answers."""

    size: int  # bytes
    perplexity: float
    answers: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationCost:
    """Ours beside the published file, and the questions that both were asked."""

    ours: Weights
    published: Weights
    questions: tuple[str, ...]

    @property
    def differing(self) -> list[int]:
        """The numbers, from 0, of the questions that are answered differently."""
        pairs = zip(self.ours.answers, self.published.answers, strict=True)
        return [number for number, (mine, other) in enumerate(pairs) if mine != other]


def compare(
    settings: Settings, program: up.Program, native: Path, text: Path, threads: int
) -> QuantizationCost:
    """Measure the default model's weights and the file that they were quantized from.

    Raises StageMissing if that file is gone, CommandFailed if a measurement fails.
    """
    model = catalog.load(settings.ready_dir).find(None)
    ours = settings.ready_dir / model.name / model.files[0].path
    fetched = published(settings, model)
    with scratch.folder(settings.cache_dir / "bench" / ".quality") as folder:
        other = _alone(folder / "models", model, fetched)
        weights_of: list[Weights] = []
        for models, weights in ((settings.ready_dir, ours), (other, fetched)):
            work = folder / f"answers-{len(weights_of)}"
            lines = _answers(program, models, work)
            surprise = perplexity(native, weights, text, threads, work / "perplexity.log")
            answers = tuple(line["turns"][0]["answer"] for line in lines)
            weights_of.append(Weights(weights.stat().st_size, surprise, answers))
    mine, theirs = weights_of
    return QuantizationCost(mine, theirs, tuple(line["turns"][0]["question"] for line in lines))


def estimate(output: str) -> float:
    """Return the perplexity that llama-perplexity tells at its end; raise CommandFailed if none."""
    line = re.search(r"Final estimate: PPL = ([0-9.]+)", output)
    if line is None:
        raise CommandFailed(_("llama-perplexity gave no estimate."), output[-1000:])
    return float(line[1])


def published(settings: Settings, model: Model) -> Path:
    """Return the file that a model was made of; raise StageMissing if it is gone."""
    folder = settings.dist_dir / "models" / "raw" / model.name
    files = list(folder.glob("*.gguf"))
    if len(files) != 1:
        raise StageMissing(
            _("The published file of {name} is not there.").format(name=model.name),
            next=_("Fetch it with: ./llmdeploy fetch {name}").format(name=model.name),
        )
    return files[0]


def _alone(folder: Path, model: Model, weights: Path) -> Path:
    """Make a models folder in which `model` has other weights."""
    (folder / model.name).mkdir(parents=True)
    (folder / model.name / weights.name).symlink_to(weights.resolve())
    file = ModelFile(weights.name, weights.stat().st_size, receipt.sha256(weights))
    catalog.dump(Catalog(model.name, (replace(model, files=(file,)),)), folder)
    return folder


def _answers(program: up.Program, models: Path, output: Path) -> Sequence[dict[str, Any]]:
    argv = [*program.argv, "battery", *ANSWER, "--output", output]
    run(argv, env={**program.env, "LLMDEPLOY_MODELS": str(models)})
    lines = (output / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def perplexity(native: Path, weights: Path, text: Path, threads: int, log: Path) -> float:
    """Return how surprised a model is by a text; `log` is where llama-perplexity tells it.

    Raises CommandFailed.
    """
    words = ("-m", weights, "-f", text, "-c", CHUNK, "--chunks", CHUNKS, "-t", str(threads))
    run((native / "llama-perplexity", *words), log=log)
    return estimate(log.read_text(encoding="utf-8"))
