"""`quality`: what each type of weights gives for its size, beside what it was made of.

Every type is made of the fetched file, so a source of few bits sets a floor under all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Final

from builder.bench import engines, figures, peers, quantization, texts
from builder.bench.figures import Promise
from builder.bench.texts import Passages
from builder.models import intents
from builder.quantizers import Order, ggufs, quantize
from builder.settings import Settings
from builder.stage import disk, report, scratch
from builder.stage.run import run
from builder.variants import DEFAULT
from entrypoint.common import gguf, machine
from entrypoint.common.errors import CommandFailed
from entrypoint.common.language import _

ROUNDS: Final = 3
PREFILL, DECODE = 512, 64  # tokens
CHUNKS: Final = "200"  # of the calibrating text, where the vocabulary cuts it into more
LOSS: Final = 1.03  # how many times the source's perplexity a default type may have
PACE: Final = 0.95  # how many times Q4_0's speed it must have at least


@dataclass(frozen=True)
class Recipe:
    """A way to make weights: llama-quantize's type and options; `calibrated` by a text first.

    A row of the embeddings must be cut into `block` numbers without a rest.
    """

    name: str
    type: str
    options: tuple[str, ...] = ()
    calibrated: bool = True
    block: int = 32


PURE: Final = "--pure"
SOURCE: Final = _("what was fetched")
# The first is what `quantize` makes by default; all others are compared to its speed.
RECIPES: Final = (
    Recipe("Q4_0", "Q4_0", (PURE,), calibrated=False),
    Recipe("Q4_0, imatrix", "Q4_0", (PURE,)),
    Recipe(
        "Q4_0, imatrix, embeddings Q6_K",
        "Q4_0",
        (PURE, "--token-embedding-type", "q6_K", "--output-tensor-type", "q6_K"),
        block=256,
    ),
    Recipe(
        "Q4_0, imatrix, embeddings Q8_0",
        "Q4_0",
        (PURE, "--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"),
    ),
    Recipe("IQ4_NL, imatrix", "IQ4_NL", (PURE,)),
    Recipe("Q4_K, imatrix", "Q4_K_S", (PURE,)),
    Recipe("Q4_K_M, imatrix", "Q4_K_M"),
)


@dataclass(frozen=True)
class Weighed:
    """What one file gave: size in bytes, perplexities, and tokens a second, ours and Q4_0's."""

    size: int
    chinese: float
    english: float
    runs: figures.Runs
    beside: figures.Runs

    def pace(self, figure: str) -> float:
        """Return its speed in terms of Q4_0's, measured in turn with it."""
        return figures.ratio(self.runs[figure], self.beside[figure])

    def loss(self, source: Weighed) -> float:
        """Return its perplexity in terms of the source's, both languages alike."""
        return geometric_mean((self.chinese / source.chinese, self.english / source.english))


@dataclass(frozen=True)
class Scale:
    """All that a file is measured with, made ready beforehand; `first` is Q4_0's file."""

    native: Path
    quantizer: Path
    texts: Passages
    threads: int
    folder: Path

    @property
    def importance(self) -> Path:
        """Where llama-imatrix tells which weights matter most."""
        return self.folder / "importance.gguf"

    @property
    def first(self) -> Path:
        """The file that all speeds are compared to."""
        return self.folder / "first.gguf"


def run_all(settings: Settings, name: str = "") -> None:
    """Print size, perplexity and speed of a fetched model (default: the catalogue's) by type.

    Raises UnknownModel, StageMissing if it has not been fetched, DiskFull, CommandFailed also if no
    type is good enough, and what making the peers and fetching the texts raise.
    """
    known = intents.load()
    intent = known.find(name or known.default)
    raw = settings.dist_dir / "models" / "raw" / intent.name
    quantize.fetched(raw, intent)
    facts = _machine()
    place = settings.cache_dir / "bench" / ".weights"
    with disk.guard(place), scratch.folder(place) as folder:
        source = ggufs.source(settings, Order(intent, "", raw, folder, folder))
        with report.step(_("Peers")):
            scale = Scale(
                peers.native(settings, facts["cpu"]["model"]),
                ggufs.program(settings, DEFAULT),
                texts.prepare(settings, folder),
                facts["threads"]["count"],
                folder,
            )
        weighed = dict(_weigh_all(scale, source))
    print(page(facts, intent.display_name, weighed))
    require(promises(weighed))


def _machine() -> dict[str, Any]:
    """Return what stands above the table; the native llama.cpp is compiled for this very CPU."""
    return {
        "cpu": {"model": machine.cpu().model, "kernels": _("this CPU")},
        "threads": {"count": machine.threads()},
        "memory": {"total": machine.memory().total},
    }


def fitting(width: int) -> list[Recipe]:
    """Return the recipes for a model whose embeddings have `width` numbers a row."""
    return [recipe for recipe in RECIPES if width % recipe.block == 0]


def _weigh_all(scale: Scale, source: Path) -> Iterator[tuple[str, Weighed]]:
    """Yield what each file gave by its name, the source first; two of them lie on the disk."""
    width = gguf.read(source).get("embedding_length")
    with report.step(_("Calibrating")):
        files = ("-m", source, "-f", scale.texts.calibration, "-o", scale.importance)
        _native(scale, "llama-imatrix", (*files, "-c", quantization.CHUNK, "--chunks", CHUNKS))
        _make(scale, RECIPES[0], source, scale.first)
    with report.step(SOURCE):
        yield SOURCE, _weigh(scale, source)
    for recipe in fitting(width):
        with report.step(recipe.name):
            _make(scale, recipe, source, scale.folder / "weights.gguf")
            yield recipe.name, _weigh(scale, scale.folder / "weights.gguf")


def _make(scale: Scale, recipe: Recipe, source: Path, target: Path) -> None:
    words: list[str] = ["--allow-requantize", *recipe.options]
    if recipe.calibrated:
        words += ["--imatrix", str(scale.importance)]
    ggufs.rewrite(scale.quantizer, words, source, target, recipe.type)


def _weigh(scale: Scale, weights: Path) -> Weighed:
    """Measure one file; its speed and that of Q4_0 take turns."""
    log = scale.folder / "perplexity.log"
    chinese, english = (
        quantization.perplexity(scale.native, weights, text, scale.threads, log)
        for text in (scale.texts.chinese, scale.texts.english)
    )
    runs = engines.rounds(
        {"own": lambda: _speeds(scale, weights), "first": lambda: _speeds(scale, scale.first)},
        ROUNDS,
    )
    return Weighed(weights.stat().st_size, chinese, english, runs["own"], runs["first"])


def _speeds(scale: Scale, weights: Path) -> engines.Figures:
    words = ["-m", str(weights), "-p", str(PREFILL), "-n", str(DECODE), "-r", "1", "-o", "jsonl"]
    lines = _native(scale, "llama-bench", words).splitlines()
    prefill, decode = (json.loads(line)["avg_ts"] for line in lines)
    return {"prefill": prefill, "decode": decode}


def _native(scale: Scale, name: str, words: Sequence[str | Path]) -> str:
    return run([scale.native / name, *words, "-t", str(scale.threads)])


def promises(weighed: Mapping[str, Weighed]) -> list[Promise]:
    """Return what the best type that is fast enough loses; the source stands first."""
    source, *made = weighed.values()
    fast = [each for each in made if each.pace("decode") >= PACE and each.pace("prefill") >= PACE]
    title = _("perplexity of the best at {pace} of Q4_0's speed or more : the source's")
    return [
        Promise(title.format(pace=PACE), min(each.loss(source) for each in fast), high=LOSS),
    ]


def require(promises: Sequence[Promise]) -> None:
    """Raise CommandFailed if a promise is not held."""
    if not all(each.held for each in promises):
        raise CommandFailed(
            _("No type of weights is as fast as Q4_0 and loses so little."),
            next=_("Choose what counts more: ./llmdeploy quantize MODEL --type NAME"),
        )


def page(facts: Mapping[str, Any], name: str, weighed: Mapping[str, Weighed]) -> str:
    """Return everything as Markdown: the machine, the table, the promise."""
    source = weighed[SOURCE]
    lines = [
        (
            title,
            f"{each.size / 1e6:.0f}",
            f"{each.chinese:.2f}",
            f"{each.english:.2f}",
            f"{each.loss(source):.3f}",
            f"{each.pace('prefill'):.2f}",
            f"{each.pace('decode'):.2f}",
        )
        for title, each in weighed.items()
    ]
    heads = [
        name, "MB", _("perplexity, Chinese"), _("perplexity, English"),
        _("perplexity : source"), _("prefill : Q4_0"), _("decode : Q4_0"),
    ]  # fmt: skip
    return "\n\n".join(
        (
            engines.machine(facts, ROUNDS),
            figures.markdown(heads, lines),
            figures.verdicts(promises(weighed)),
        )
    )
