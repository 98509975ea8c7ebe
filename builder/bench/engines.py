"""`bench`: our speed, memory and quality beside the peers', measured in one run, as Markdown.

The engines take turns, every round starts them anew, and ratios are taken round by round: other
work on the machine then weighs on both sides alike.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from builder import image, up
from builder.bench import figures, peers, quantization
from builder.bench.figures import Promise, Row
from builder.settings import ROOT, Settings
from builder.stage import report
from builder.stage.run import run, watch
from entrypoint.common import catalog
from entrypoint.common.language import _

ROUNDS = 5
SCRIPTS = ROOT / "bench"
TEXT = SCRIPTS / "text.txt"
# What each engine is given to do; the scripts in bench/ read it from their command line.
PLAN: dict[str, Any] = {
    "text": str(TEXT),
    "question": "请用一句话介绍同济大学。",
    "second": "它在哪座城市？",
    "verbose": "Answer as a very long English essay of at least ten paragraphs.",
    "story": "Write a long story about a lighthouse keeper and the sea.",
    "prefill": 512,
    "decode": 128,
    "repeats": 3,
}
SPOKEN = json.dumps(PLAN)
QUESTIONS: Final = 10  # of the tutorial, which the battery asks
LIMIT = ("--max-tokens", "8")  # an answer whose first token is timed need not be long

NATIVE, OPENVINO = "llama.cpp", "OpenVINO GenAI"  # the peers in the table's head

Figures = Mapping[str, float]
Command = list[str | Path]


@dataclass(frozen=True)
class Scene:
    """All that is measured with, made ready beforehand.

    `weights` is what both builds of llama.cpp open, `converted` the same for OpenVINO; `prompt` is
    the number of tokens that PLAN's question makes.
    """

    weights: Path
    native: Path
    openvino: Path
    converted: Path
    threads: int
    prompt: int


def run_all(settings: Settings) -> None:
    """Print figures, what the quantization costs, and each promise, held or not.

    Raises CommandFailed if a promise is not held, StageMissing or ImageMissing if there is nothing
    to measure yet, and what the stages of the peers raise.
    """
    scheduler = replace(settings, engine="openvino")
    for each in (settings, scheduler):
        image.require(each)
    program = up.on_host(settings)
    facts = json.loads(run([*program.argv, "doctor", "--json"], env=program.env))
    scene, chat = _prepare(settings, program, facts)
    engines: dict[str, Callable[[], Figures]] = {
        "llmdeploy": partial(ours, program),
        NATIVE: partial(_native, scene),
        OPENVINO: partial(_openvino, scene),
        "battery": partial(_battery, program, alone=1, together=QUESTIONS),
        "scheduler": partial(_battery, up.on_host(scheduler), together=QUESTIONS),
        "docker": partial(_containers, settings),
    }
    runs = rounds(engines, ROUNDS)
    with report.step(_("What the quantization costs")):
        cost = quantization.compare(settings, program, scene.native, TEXT, scene.threads)
    bounds = promises(runs, chat)
    print(page(facts, runs, cost, bounds))
    figures.require(bounds)


def rounds(
    engines: Mapping[str, Callable[[], Figures]], count: int
) -> dict[str, dict[str, list[float]]]:
    """Let each engine measure itself `count` times, in turn; return its figures by round."""
    runs: dict[str, dict[str, list[float]]] = {name: {} for name in engines}
    for number in range(1, count + 1):
        with report.step(_("Round {number} of {all}").format(number=number, all=count)):
            for name, measure in engines.items():
                for figure, value in measure().items():
                    runs[name].setdefault(figure, []).append(value)
    return runs


def _prepare(
    settings: Settings, program: up.Program, facts: Mapping[str, Any]
) -> tuple[Scene, Figures]:
    """Make the peers, and let each engine run once, so that all files are in memory."""
    model = catalog.load(settings.ready_dir).find(None)
    weights = settings.ready_dir / model.name / model.files[0].path
    with report.step(_("Peers")):
        native = peers.native(settings, facts["cpu"]["model"])
        python = peers.openvino(settings)
        convert: Command = [python, SCRIPTS / "peer_openvino.py", SPOKEN]
        converted = peers.converted(settings, weights, convert)
    with report.step(_("Warming up")):
        chat = json.loads(run(_script(program, "ours.py"), env=program.env))
        threads = facts["threads"]["count"]
        scene = Scene(weights, native, python, converted, threads, chat["prompt"])
        _native(scene)
        _openvino(scene)
        _containers(settings)
    return scene, chat


def ours(program: up.Program) -> Figures:
    """Return what the program does with its engine: a first token, speeds, memory in MiB."""
    question = PLAN["question"] + "\n"
    chat = watch([*program.argv, "chat", *LIMIT], env=program.env, typed=question)
    measures = json.loads(run(_script(program, "ours.py"), env=program.env))
    return {"first": chat.first, "memory": measures["memory"], **_speeds(measures)}


def _native(scene: Scene) -> Figures:
    begin: Command = [
        scene.native / "llama-bench", "-m", scene.weights, "-t", str(scene.threads),
        "-o", "jsonl",
    ]  # fmt: skip
    first = watch([*begin, "-p", "0", "-n", "0", "-pg", f"{scene.prompt},1", "-r", "1",
                   "--no-warmup"])  # fmt: skip
    long = watch(
        [*begin, "-p", str(PLAN["prefill"]), "-n", str(PLAN["decode"]), "-r", str(PLAN["repeats"])]
    )
    prefill, decode = (json.loads(line)["samples_ts"] for line in long.output.splitlines())
    speeds = {"prefill": prefill, "decode": decode}
    return {"first": first.first, "memory": long.memory, **_speeds(speeds)}


def _openvino(scene: Scene) -> Figures:
    process = watch(
        [scene.openvino, SCRIPTS / "peer_openvino.py", SPOKEN, scene.converted, str(scene.threads)]
    )
    speeds = json.loads(process.output.splitlines()[-1])
    return {"first": process.first, "memory": process.memory, **_speeds(speeds)}


def _battery(program: up.Program, **parallel: int) -> Figures:
    """Return the seconds for each token of the battery, for so many answers at once."""
    return {way: _seconds_a_token(program, count) for way, count in parallel.items()}


def _seconds_a_token(program: up.Program, parallel: int) -> float:
    """Let the battery ask its questions; return its time, loading left out, over all tokens."""
    with tempfile.TemporaryDirectory() as place:
        # Told to be long, so that nearly all answers have as many tokens as they may.
        options = ["--system", PLAN["verbose"], "--max-tokens", str(PLAN["decode"])]
        run(
            [*program.argv, "battery", "--output", place, "--parallel", str(parallel), *options],
            env=program.env,
        )
        lines = Path(place, "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return pace(list(map(json.loads, lines)))


def pace(answers: Sequence[Mapping[str, Any]]) -> float:
    """Return the seconds from the first question to the last answer, for each of their tokens."""
    ends = [datetime.fromisoformat(answer["ended"]).timestamp() for answer in answers]
    turns = [answer["turns"][0] for answer in answers]
    begins = [end - float(turn["seconds"]) for end, turn in zip(ends, turns, strict=True)]
    tokens = sum(int(turn["usage"]["completion_tokens"]) for turn in turns)
    return (max(ends) - min(begins)) / tokens


def _containers(settings: Settings) -> Figures:
    chat = up.command(settings.image_name, "en", terminal=False)
    answer = watch([*chat, *LIMIT], typed=PLAN["question"] + "\n")
    trivial = watch(["docker", "run", "--rm", *image.HARDENED, settings.image_name, "version"])
    return {"answer": answer.first, "trivial": trivial.first}


def _script(program: up.Program, name: str) -> Command:
    return [program.python, SCRIPTS / name, SPOKEN]


def _speeds(rates: Mapping[str, list[float]]) -> Figures:
    return {figure: median(rates[figure]) for figure in ("prefill", "decode")}


def promises(runs: Mapping[str, figures.Runs], chat: Figures) -> list[Promise]:
    """Return what must hold, of all that was measured.

    `chat` has the tokens of a chat's second question, "new", and those "computed" for it.
    """
    ours, native, docker = runs["llmdeploy"], runs[NATIVE], runs["docker"]
    battery = runs["battery"]
    return [
        Promise(
            _("decode, ours : native llama.cpp"),
            figures.ratio(ours["decode"], native["decode"]),
            low=0.95,
        ),
        Promise(
            _("prefill, ours : native llama.cpp"),
            figures.ratio(ours["prefill"], native["prefill"]),
            low=0.95,
        ),
        Promise(
            _("the battery's questions, time at once : one after the other"),
            figures.ratio(battery["together"], battery["alone"]),
            high=0.7,
        ),
        Promise(
            _("the same at once by the engine openvino : one after the other by llama.cpp"),
            figures.ratio(runs["scheduler"]["together"], battery["alone"]),
            high=0.45,
        ),
        Promise(
            _("docker run to first token, seconds above a trivial container"),
            figures.excess(docker["answer"], docker["trivial"]),
            high=1.3,
        ),
        Promise(
            _("tokens computed for a second question of {new} tokens").format(new=chat["new"]),
            chat["computed"],
            # The last token of an answer is chosen, but not yet in the cache.
            high=chat["new"] + 1,
        ),
    ]


def page(
    facts: Mapping[str, Any],
    runs: Mapping[str, figures.Runs],
    cost: quantization.QuantizationCost,
    bounds: Sequence[Promise],
) -> str:
    """Return everything as Markdown: the machine, the tables, the promises."""
    docker = runs["docker"]
    rows = (
        Row("first", _("process start to first token, s"), "{:.2f}"),
        Row("prefill", _("prefill of {n} tokens, tok/s").format(n=PLAN["prefill"]), "{:.0f}"),
        Row("decode", _("decode of {n} tokens, tok/s").format(n=PLAN["decode"]), "{:.1f}"),
        Row("memory", _("peak memory, MiB"), "{:.0f}"),
    )
    containers = [
        (_("a question to its first token"), docker["answer"]),
        (_("a trivial one (`version`) to its first byte"), docker["trivial"]),
    ]
    return "\n\n".join(
        (
            machine(facts, ROUNDS),
            figures.table(
                rows, runs["llmdeploy"], {name: runs[name] for name in (NATIVE, OPENVINO)}
            ),
            figures.markdown(
                [_("`docker run`, hardened"), _("s")],
                [(title, f"{median(times):.2f}") for title, times in containers],
            ),
            _cost(cost),
            figures.verdicts(bounds),
        )
    )


def machine(facts: Mapping[str, Any], rounds: int) -> str:
    """Say in a sentence where and how often was measured; `facts` are what `doctor` tells."""
    return _(
        "{date}, {cpu}, {threads} threads, {memory:.0f} GiB, kernels for {kernels}; "
        "medians of {rounds} rounds in turn."
    ).format(
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        cpu=facts["cpu"]["model"],
        threads=facts["threads"]["count"],
        memory=facts["memory"]["total"] / 2**30,
        kernels=facts["cpu"]["kernels"],
        rounds=rounds,
    )


def _cost(cost: quantization.QuantizationCost) -> str:
    """Return the table of both files, how many answers differ, and the first that does."""
    ours, published = cost.ours, cost.published
    lines = [
        (title, form.format(mine / other), form.format(mine), form.format(other))
        for title, form, mine, other in (
            (_("size, MB"), "{:.2f}", ours.size / 1e6, published.size / 1e6),
            (_("perplexity, fixed text"), "{:.2f}", ours.perplexity, published.perplexity),
        )
    ]
    heads = ["", _("ours : published"), "Q4_0", _("published (Q4_K_M)")]
    difference = _("{count} of {all} answers differ (temperature 0).").format(
        count=len(cost.differing), all=len(cost.questions)
    )
    return "\n\n".join((figures.markdown(heads, lines), difference, *_sample(cost)))


def _sample(cost: quantization.QuantizationCost) -> Sequence[str]:
    if not cost.differing:
        return ()
    number = cost.differing[0]
    return (
        _("For example: {question}").format(question=cost.questions[number]),
        *(
            f"* {name}: {' '.join(weights.answers[number].split())}"
            for name, weights in (("Q4_0", cost.ours), ("Q4_K_M", cost.published))
        ),
    )
