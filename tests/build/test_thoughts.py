"""With a model whose template thinks, thoughts are nowhere that an answer is shown or kept."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from builder.settings import ROOT
from entrypoint.common import catalog
from entrypoint.common.catalog import Catalog

Run = Callable[..., "CompletedProcess[str]"]
NAME = "smollm2-135m"
THINKING = (  # as DeepSeek-R1 has it: the prompt opens the thought
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n<think>\n"
    "{% if enable_thinking is false %}\n</think>\n\n{% endif %}"
)
QUESTIONS = """
[[questions]]
id = "two"
text = "Two and two?"
points = [{ says = "It is four.", must = "4|four" }]
"""


@pytest.fixture
def thinker(models_dir: Path, tmp_path: Path) -> Path:
    """Return a folder with the small model, which thinks for eight tokens there."""
    small = catalog.load(models_dir).find(NAME)
    folder = tmp_path / "models"
    (folder / NAME).mkdir(parents=True)
    for file in small.files:
        os.link(models_dir / NAME / file.path, folder / NAME / file.path)
    thinking = replace(small, chat_template=THINKING, think="8")
    catalog.dump(Catalog(NAME, (thinking,)), folder)
    return folder


def test_no_mark_of_a_thought_is_in_answers_reports_verdicts_and_talks(
    run: Run, unpacked: Path, thinker: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    questions = kept / "questions.toml"
    questions.write_text(QUESTIONS)
    told = []
    for name, think in (("thinking", "8"), ("not", "off")):
        asked = ("battery", "--questions", questions, "--max-tokens", "12", "--think", think)
        told.append(run(*asked, "--output", kept / name, models=thinker))
    judged = ("compare", kept / "thinking", kept / "not", "--questions", questions)
    told.append(run(*judged, "--judge", NAME, "--output", kept / "report", models=thinker))
    talk = f"Two and two?\n/save {kept / 'saved.json'}\n/bye\n"
    told.append(
        subprocess.run(
            [
                *(unpacked / "bin/python3", "-m", "entrypoint", "chat"),
                *("--max-tokens", "12", "--session", kept / "session.json"),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "LLMDEPLOY_MODELS": str(thinker)},
            input=talk,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    )
    assert [done.returncode for done in told] == [0] * 4, told

    texts = {path: path.read_text() for path in kept.rglob("*") if path.is_file()}
    assert {path.name for path in texts} >= {
        *("answers.jsonl", "transcript.md", "report.html", "report.md", "report.json"),
        *("saved.json", "session.json"),
    }
    assert [path for path, text in texts.items() if "think>" in text] == []
    assert not [done for done in told if "think>" in done.stdout + done.stderr]
    (line,) = texts[kept / "thinking/answers.jsonl"].splitlines()
    (turn,) = json.loads(line)["turns"]
    assert turn["thought"]
    assert turn["thought"] not in texts[kept / "thinking/transcript.md"]
    (line,) = texts[kept / "not/answers.jsonl"].splitlines()
    assert json.loads(line)["turns"][0]["thought"] == ""
